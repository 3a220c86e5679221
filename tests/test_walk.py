"""Photos found in folders: which count, which are looked into, and how deep."""

from __future__ import annotations

import os
import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from folder_runs import make, nested, put
from hypothesis import given, settings
from hypothesis import strategies as st

from phota_async import ImageError
from phota_async.images.paths import look
from phota_async.images.walk import UNREADABLE, Filter, Found, photos_in, walk


def names(*sources: Path, **options: object) -> list[str]:
    return sorted(found.name for found in walk(sources, **options))  # type: ignore[arg-type]


# ---- what is found


def test_photos_are_found_with_their_place_and_stamp(tmp_path: Path) -> None:
    make(tmp_path, "a.jpg", "sub/b.png")
    for found in walk([tmp_path]):
        status = Path(found.path).stat()
        assert found.path == str(tmp_path / found.name)
        assert (found.size, found.modified_ns) == (status.st_size, status.st_mtime_ns)
    assert names(tmp_path) == ["a.jpg", "sub/b.png"]


def test_a_file_counts_by_its_first_bytes_or_by_its_extension(tmp_path: Path) -> None:
    make(tmp_path, "no extension", "wrong.txt", "a.JPEG")
    for name in ("text.jpg", "empty.HEIC"):
        (tmp_path / name).write_bytes(b"")
    for name in ("notes.txt", "README", "data.json"):
        (tmp_path / name).write_bytes(b"no photo at all")
    assert names(tmp_path) == ["a.JPEG", "empty.HEIC", "no extension", "text.jpg", "wrong.txt"]


def test_hidden_names_are_left_out_but_not_a_hidden_source(tmp_path: Path) -> None:
    source = make(tmp_path / ".hidden", "a.jpg", ".b.jpg", ".sub/c.jpg", "sub/.d.jpg")
    assert names(source) == ["a.jpg"]
    assert names(source / ".b.jpg") == [".b.jpg"]


def test_a_source_that_is_a_file_counts_whatever_it_is(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_bytes(b"no photo")
    assert list(walk([tmp_path / "notes.txt"], Filter.of(exclude=["*"]))) == [
        Found(str(tmp_path / "notes.txt"), "notes.txt", 8, (tmp_path / "notes.txt").stat().st_mtime_ns)
    ]


def test_several_sources_come_in_their_order(tmp_path: Path) -> None:
    one, other = make(tmp_path / "one", "a.jpg"), make(tmp_path / "other", "b.jpg")
    assert [found.name for found in walk([other, one / "a.jpg", one])] == ["b.jpg", "a.jpg", "a.jpg"]
    assert list(walk([])) == []


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("missing", "cannot read missing: No such file or directory$"),
        ("a.jpg/sub", "cannot read a.jpg/sub: Not a directory$"),
        ("nul\0", "cannot read nul.*: .*embedded null"),
        ("n" * 300, f"cannot read {'n' * 119}…: File name too long$"),
    ],
    ids=["missing", "below a file", "nul", "too long"],
)
def test_a_source_that_is_missing_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, told: str
) -> None:
    make(tmp_path, "a.jpg")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ImageError, match=f"^{told}"):
        list(walk([name]))


def test_a_source_that_is_missing_can_be_kept_as_a_photo_that_fails(tmp_path: Path) -> None:
    make(tmp_path, "b.jpg")
    gone, there = walk([tmp_path / "sub" / "a.jpg", tmp_path], keeps_missing=True)
    assert gone == Found(str(tmp_path / "sub" / "a.jpg"), "a.jpg", UNREADABLE, 0)
    assert there.name == "b.jpg"


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege")
def test_links_to_files_are_followed_and_links_to_folders_are_not(tmp_path: Path) -> None:
    elsewhere = make(tmp_path / "elsewhere", "a.jpg", "b.txt")
    source = make(tmp_path / "photos", "own.jpg")
    for name, aim in {
        "a.jpg": elsewhere / "a.jpg",
        "photo.txt": elsewhere / "b.txt",
        "folder": elsewhere,
        "broken.jpg": elsewhere / "nothing",
        "broken.txt": elsewhere / "nothing",
        "up": source,
    }.items():
        (source / name).symlink_to(aim)
    found = {one.name: one for one in walk([source])}
    assert sorted(found) == ["a.jpg", "broken.jpg", "own.jpg", "photo.txt"]
    assert found["broken.jpg"] == Found(str(source / "broken.jpg"), "broken.jpg", UNREADABLE, 0)
    assert found["a.jpg"].size == (elsewhere / "a.jpg").stat().st_size
    assert names(source / "folder") == ["a.jpg", "b.txt"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")
def test_a_named_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    os.mkfifo(tmp_path / "pipe.jpg")
    assert names(tmp_path) == ["pipe.jpg"]


@pytest.mark.skipif(sys.platform != "linux", reason="names are text there")
def test_a_name_that_is_no_text_is_found(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.jpg")
    put(tmp_path / name, 1)
    assert names(tmp_path) == [name]


# ---- folders that cannot be read


def _removing(folder: Path) -> Iterator[Found]:
    """Walk, and remove a folder that is still to be looked into."""
    for found in walk([folder]):
        gone = folder / "gone"
        if gone.exists():
            for path in gone.iterdir():
                path.unlink()
            gone.rmdir()
        yield found


def test_a_folder_that_cannot_be_read_counts_as_a_photo_that_fails(tmp_path: Path) -> None:
    make(tmp_path, "a.jpg", "gone/b.jpg")
    assert sorted(_removing(tmp_path))[1] == Found(str(tmp_path / "gone"), "gone", UNREADABLE, 0)


@pytest.mark.skipif(sys.platform == "win32", reason="permissions are others there")
def test_a_folder_that_may_not_be_read_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = make(tmp_path, "a.jpg", "closed/b.jpg") / "closed"
    monkeypatch.chdir(tmp_path)
    with _closed(closed):
        found = sorted(walk(["."]))
    assert [(one.path, one.size == UNREADABLE) for one in found] == [("./a.jpg", False), ("./closed", True)]
    for looking in (lambda: look(Path("closed")), lambda: next(walk(["closed"]))):
        with pytest.raises(ImageError, match=r"^cannot read closed: Permission denied$"), _closed(closed):
            looking()


@contextmanager
def _closed(folder: Path) -> Generator[None]:
    """Have a folder that may not be read, from inside the one above it. Permissions do not bind root."""
    own = os.geteuid()
    folder.parent.chmod(0o755)
    folder.chmod(0)
    try:
        if own == 0:
            os.seteuid(65534)
        yield
    finally:
        os.seteuid(own)
        folder.chmod(0o755)


def test_a_source_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    source = make(tmp_path / "photos", "a.jpg")

    def sources() -> Iterator[Path]:
        yield source

    walking = walk(sources(), passes_over=_raising)
    (source / "sub").mkdir()
    with pytest.raises(ImageError, match=r"cannot read .*photos: Permission denied"):
        list(walking)


def _raising(_: str) -> bool:
    raise PermissionError(13, "Permission denied")


def test_deeper_than_calls_may_be_nested(tmp_path: Path) -> None:
    depth = sys.getrecursionlimit() + 200
    with nested(tmp_path, "d", depth):
        found = list(walk([tmp_path]))
    assert [(one.name.count("/"), one.name[-5:]) for one in found] == [(depth, "a.jpg")]


def test_deeper_than_a_path_may_be_long(tmp_path: Path) -> None:
    make(tmp_path, "a.jpg", "sub/b.jpg")
    with nested(tmp_path, "d" * 250, 20):
        found = list(walk([tmp_path]))
    (deep,) = (one.name for one in found if one.size == UNREADABLE)
    assert deep.startswith("d" * 250 + "/")
    assert sorted(one.name for one in found if one.size != UNREADABLE) == ["a.jpg", "sub/b.jpg"]


# ---- patterns


@pytest.mark.parametrize(
    ("include", "exclude", "expected"),
    [
        ([], [], ["a.jpg", "b.png", "old/c.jpg", "old/new/d.jpg"]),
        (["*.JPG"], [], ["a.jpg", "old/c.jpg", "old/new/d.jpg"]),
        (["old/*"], [], ["old/c.jpg", "old/new/d.jpg"]),
        (["c.*", "?.png"], [], ["b.png", "old/c.jpg"]),
        ([], ["old"], ["a.jpg", "b.png"]),
        ([], ["old/"], ["a.jpg", "b.png"]),
        ([], ["oldX"], ["a.jpg", "b.png", "old/c.jpg", "old/new/d.jpg"]),
        ([], ["OLD/new"], ["a.jpg", "b.png", "old/c.jpg"]),
        ([], ["new"], ["a.jpg", "b.png", "old/c.jpg"]),
        ([], ["old/*"], ["a.jpg", "b.png"]),
        (["*.jpg"], ["[ab].*"], ["old/c.jpg", "old/new/d.jpg"]),
        ([""], [], []),
        ([], ["*"], []),
    ],
)
def test_patterns(tmp_path: Path, include: list[str], exclude: list[str], expected: list[str]) -> None:
    make(tmp_path, "a.jpg", "b.png", "old/c.jpg", "old/new/d.jpg")
    assert names(tmp_path, wanted=Filter.of(iter(include), exclude)) == expected


@pytest.mark.parametrize("options", [{"include": "*.jpg"}, {"exclude": "*.jpg"}])
def test_a_single_string_is_no_list_of_patterns(options: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"must be lists of patterns, not '\*\.jpg'"):
        Filter.of(**options)


@given(st.text(max_size=8), st.text(max_size=8))
@settings(derandomize=True, deadline=None, max_examples=100)
def test_any_text_is_a_pattern(pattern: str, name: str) -> None:
    assert Filter.of([pattern, "*"]).wants(name, name)
    assert not Filter.of(exclude=[pattern, "*"]).enters(name, name)
    assert Filter().wants(name, name)


def test_a_folder_that_is_passed_over_is_not_looked_into(tmp_path: Path) -> None:
    make(tmp_path, "a.jpg", "old/c.jpg", "new/d.jpg", "new/old/e.jpg")
    asked = list[str]()

    def passes_over(folder: str) -> bool:
        asked.append(folder)
        return folder.endswith("old")

    assert names(tmp_path, passes_over=passes_over) == ["a.jpg", "new/d.jpg"]
    assert sorted(asked) == [str(tmp_path / name) for name in ("new", "new/old", "old")]


# ---- memory


def test_nothing_is_collected(tmp_path: Path) -> None:
    make(tmp_path, "a.jpg", "sub/b.jpg")
    walking = walk([tmp_path])
    assert next(walking).name == "a.jpg"
    put(tmp_path / "sub" / "c.jpg")
    assert sorted(found.name for found in walking) == ["sub/b.jpg", "sub/c.jpg"]


async def test_photos_of_a_directory_are_sorted(tmp_path: Path) -> None:
    make(tmp_path, "b.jpg", "a/c.jpg", "a.jpg")
    assert await photos_in(tmp_path) == [tmp_path / name for name in ("a/c.jpg", "a.jpg", "b.jpg")]
    with pytest.raises(ImageError, match="cannot read"):
        await photos_in(tmp_path / "missing")
