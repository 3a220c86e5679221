"""Names that the journal gives: what stands in their way, whose they are. For any sources: test_naming_properties."""

from __future__ import annotations

import os
from pathlib import Path, PurePath

from phota_async.journal import Claim, Journal, Key, Occupied, Reserved, names, photos, runs

KEY = Key(b"k" * 32, 1)


def claim(  # noqa: PLR0913  (what a claim is made of)
    name: str | PurePath,
    source: bytes | None = None,
    *,
    key: Key = KEY,
    count: int = 1,
    overwrite: bool = False,
    extension: str = ".png",
) -> Claim:
    path = PurePath(name)
    return Claim(
        source=os.fsencode(path) if source is None else source,
        name=path,
        key=key,
        extension=extension,
        count=count,
        overwrite=overwrite,
    )


def reserved(journal: Journal, asked: Claim, *, paid: bool = False) -> list[str]:
    (answer,) = journal.write([names.reserve(journal.folder, asked, paid=paid)])
    assert isinstance(answer, Reserved)
    return [name.as_posix() for name in answer.names]


def test_names_that_stand_there_are_occupied_and_none_is_given(tmp_path: Path) -> None:
    (tmp_path / "a-2.png").write_bytes(b"")
    with Journal.open(tmp_path) as journal:
        assert journal.write([names.reserve(tmp_path, claim("a.jpg", count=3))]) == [Occupied(PurePath("a-2.png"))]
        assert reserved(journal, claim("a.jpg")) == ["a.png"]
        (tmp_path / "a.png").write_bytes(b"")
        # A name that is kept stays, whatever has turned up there: what is paid for goes beside it in the end.
        assert reserved(journal, claim("a.jpg")) == ["a.png"]


def test_what_is_paid_for_gets_names_where_nothing_stands(tmp_path: Path) -> None:
    for name in ("a.png", "a-2.png"):
        (tmp_path / name).write_bytes(b"")
    with Journal.open(tmp_path) as journal:
        assert reserved(journal, claim("a.jpg"), paid=True) == ["a-3.png"]
        assert reserved(journal, claim("a.jpg", count=2), paid=True) == ["a-3.png"]


def test_overwriting_takes_what_stands_there_but_no_folder_and_no_other_sources(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    (tmp_path / "b.png").mkdir()
    (tmp_path / "link.png").symlink_to(tmp_path / "b.png")
    with Journal.open(tmp_path) as journal:
        assert reserved(journal, claim("a.jpg", overwrite=True)) == ["a.png"]
        assert reserved(journal, claim("a.jpg", key=Key(b"other", 1), overwrite=True)) == ["a.png"]
        assert reserved(journal, claim("a.webp", overwrite=True)) == ["a-2.png"]
        assert reserved(journal, claim("link.jpg", overwrite=True)) == ["link.png"]
        assert journal.write([names.reserve(tmp_path, claim("b.jpg", overwrite=True))]) == [Occupied(PurePath("b.png"))]


def test_another_key_of_the_same_source_gets_another_name(tmp_path: Path) -> None:
    with Journal.open(tmp_path) as journal:
        for key, expected in (
            (KEY, "a.png"),
            (Key(b"edited", 1), "a-2.png"),
            (Key(KEY.sha256, 2), "a-3.png"),
            (KEY, "a.png"),
        ):
            assert reserved(journal, claim("a.jpg", key=key)) == [expected]


def test_another_number_of_images_than_was_kept(tmp_path: Path) -> None:
    with Journal.open(tmp_path) as journal:
        assert reserved(journal, claim("a.jpg", count=2)) == ["a-1.png", "a-2.png"]
        assert reserved(journal, claim("a.jpg", count=1)) == ["a.png"]


def test_a_free_name_is_one_that_is_neither_given_nor_taken(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a-3.png").write_bytes(b"")
    with Journal.open(tmp_path) as journal:
        one = claim("sub/a.jpg")
        reserved(journal, one)
        reserved(journal, claim("sub/a-2.jpg"))
        (name,) = journal.write([names.free_name(tmp_path, one, PurePath("sub/a.png"))])
        assert name == PurePath("sub/a-4.png")
        (name,) = journal.write([names.free_name(tmp_path, one, name)])
        assert name == PurePath("sub/a-4-2.png")


def test_a_free_name_is_that_of_a_file_yet_to_be_written(tmp_path: Path) -> None:
    one = claim("sub/a.jpg")
    with Journal.open(tmp_path) as journal:
        (run,) = journal.write([runs.begun(1, overwrite=False, stand_in=False)])
        journal.write([names.place(one, [PurePath("sub/a.png")]), runs.ended(run, complete=True, message=None)])
        assert journal.ask(photos.folders_of_unfinished) == {b""}
        journal.write([names.free_name(tmp_path, one, PurePath("sub/a.png"))])
        assert journal.ask(photos.files_of(one.source, KEY)) == [b"sub/a.png"]
        assert journal.ask(photos.folders_of_unfinished) == {b"", b"sub"}


def test_what_is_placed_is_what_a_source_has(tmp_path: Path) -> None:
    one = claim("a.jpg", count=2)
    with Journal.open(tmp_path) as journal:
        reserved(journal, one)
        assert journal.ask(photos.files_of(one.source, KEY)) == []
        assert journal.ask(photos.holders(KEY)) == []
        for placed in (["a-2.png", "a-1.png"], ["b.png"]):
            journal.write([names.place(one, list(map(PurePath, placed)))])
            assert journal.ask(photos.files_of(one.source, KEY)) == [name.encode() for name in placed]
            assert journal.ask(photos.holders(KEY)) == [one.source]
        # What it does not have any more is free again.
        assert reserved(journal, claim("a-1.jpg")) == ["a-1.png"]


def test_a_name_that_is_no_text_is_kept_as_it_is(tmp_path: Path) -> None:
    with Journal.open(tmp_path) as journal:
        for _ in range(2):
            (name,) = reserved(journal, claim(os.fsdecode(b"f\xff/caf\xe9.jpg")))
            assert os.fsencode(name) == b"f\xff/caf\xe9.png"
        (other,) = reserved(journal, claim(os.fsdecode(b"f\xff/caf\xe9.jpg"), b"other"))
        assert os.fsencode(other) == b"f\xff/caf\xe9-2.png"


def test_a_place_that_cannot_be_looked_at_is_taken_for_occupied(tmp_path: Path) -> None:
    with Journal.scratch(tmp_path) as journal:
        (answer,) = journal.write([names.reserve(Path("/" + "n" * 300), claim("a.jpg"))])
    assert isinstance(answer, Occupied)
