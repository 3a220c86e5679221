"""Names of enhanced files: inside the folder, unique on every file system, the same for the same sources."""

import itertools
import os
import unicodedata
from pathlib import Path, PurePath

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from phota_async.naming import folded, numbered, stems

FUZZ = settings(derandomize=True, deadline=None, max_examples=200)
CHARACTERS = st.characters(exclude_categories=["Cs"], exclude_characters="/\x00") | st.sampled_from(
    "aA.éE\u0301ßsS-12 "
)
NAME = st.text(CHARACTERS, min_size=1, max_size=8).filter(lambda name: name not in {".", ".."})
FILE = st.tuples(NAME, st.sampled_from(["", ".jpg", ".JPG", ".jpeg", ".tar.gz"])).map("".join)
SOURCE = st.tuples(st.lists(NAME, max_size=2), FILE).map(lambda parts: PurePath(*parts[0], parts[1]))


def first(source: str | PurePath, count: int = 1) -> list[PurePath]:
    return list(itertools.islice(stems(PurePath(source)), count))


@FUZZ
@given(SOURCE)
@example(PurePath("...jpg"))
@example(PurePath("sub/...jpg"))
@example(PurePath("sub/..jpg"))
@example(PurePath("..jpg"))
def test_stems_are_distinct_inside_the_folder_and_the_same_each_time(source: PurePath) -> None:
    given = first(source, 12)
    assert given == first(source, 12)
    assert len({folded(stem) for stem in given}) == len(given)
    for stem in given:
        assert not stem.is_absolute()
        assert not {"..", "."} & set(stem.parts)
        assert stem.parent == source.parent
        files = numbered(Path("out") / stem, ".png", 2)
        assert all(file.parent == Path("out") / source.parent for file in files)


@FUZZ
@given(FILE, st.integers(1, 4))
def test_files_of_one_source_never_share_a_name(source: str, count: int) -> None:
    files = [folded(file) for stem in first(source, 1) for file in numbered(stem, ".png", count)]
    assert len(set(files)) == count


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("a.jpg", ["a", "a-2", "a-3"]),
        ("x/a.jpg", ["x/a", "x/a-2"]),
        ("a-2.jpg", ["a-2", "a-2-2"]),
        ("a.tar.gz", ["a.tar"]),
        (".hidden", [".hidden"]),
        ("no extension", ["no extension", "no extension-2"]),
        ("a.", ["a."]),
        ("b..jpg", ["b."]),
        ("...jpg", ["photo", "photo-2"]),
        ("", ["photo"]),
        ("/", ["photo"]),
        ("..", ["photo"]),
    ],
)
def test_the_stem_is_that_of_the_source_and_then_numbered(source: str, expected: list[str]) -> None:
    assert [stem.as_posix() for stem in first(source, len(expected))] == expected


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("a.png", "A.png"),
        ("x/a.png", "X/A.PNG"),
        ("stra\u00dfe.png", "STRASSE.png"),
        ("\u00e9.png", "e\u0301.png"),
        ("\u0345\u0301", "\u0301\u0345"),
    ],
)
def test_two_names_that_a_file_system_may_take_for_the_same_are_folded_alike(one: str, other: str) -> None:
    assert folded(PurePath(one)) == folded(PurePath(other))


@FUZZ
@given(NAME)
def test_folding_twice_changes_nothing(name: str) -> None:
    once = folded(PurePath(name))
    assert folded(PurePath(once)) == once
    for form in ("NFC", "NFD"):
        assert folded(PurePath(unicodedata.normalize(form, name))) == once


def test_what_is_no_text_is_folded_to_text_and_stays_distinct() -> None:
    names = [PurePath(os.fsdecode(name)) for name in (b"caf\xe9", b"caf\xe8", "café".encode(), b"cafe")]
    texts = {folded(name) for name in names}
    assert len(texts) == 4
    for text in texts:
        text.encode()


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("../a.jpg", "a"),
        ("../../etc/passwd", "etc/passwd"),
        ("/etc/passwd.jpg", "etc/passwd"),
        ("//host/a.jpg", "host/a"),
        ("x/../../a.jpg", "x/a"),
        ("./a.jpg", "a"),
    ],
)
def test_no_name_leads_out_of_the_folder(source: str, expected: str) -> None:
    assert first(source)[0].as_posix() == expected


@pytest.mark.parametrize("letter", ["a", "é", "漢", "🌄", "e\u0301"])
@pytest.mark.parametrize("length", [100, 240, 255, 4000])
def test_a_name_never_gets_longer_than_file_systems_allow(letter: str, length: int) -> None:
    given = first(PurePath("sub") / (letter * length + ".jpg"), 12)
    for stem in given:
        for file in numbered(stem, ".webp", 4):
            assert len(os.fsencode(file.name)) <= 255
    assert len(set(map(folded, given))) == 12


def test_a_name_that_is_not_unicode_stays_what_it_is(tmp_path: Path) -> None:
    source = PurePath(os.fsdecode(b"caf\xe9.jpg"))
    (stem,) = first(source)
    (file,) = numbered(tmp_path / stem, ".png", 1)
    assert os.fsencode(file.name) == b"caf\xe9.png"
    (long,) = first(PurePath(os.fsdecode(b"\xe9" * 255)))
    assert 0 < len(os.fsencode(long.name)) <= 239


def test_images_of_one_source_are_numbered() -> None:
    stem = Path("out/a.b")
    assert numbered(stem, ".png", 1) == [Path("out/a.b.png")]
    assert numbered(stem, ".png", 3) == [Path("out/a.b-1.png"), Path("out/a.b-2.png"), Path("out/a.b-3.png")]
