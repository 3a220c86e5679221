"""Names of enhanced files: inside the folder, unique on every file system, the same for the same sources."""

import os
import unicodedata
from pathlib import Path, PurePath

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from phota_async.naming import Names, numbered

FUZZ = settings(derandomize=True, deadline=None, max_examples=200)
CHARACTERS = st.characters(exclude_categories=["Cs"], exclude_characters="/\x00") | st.sampled_from(
    "aA.éE\u0301ßsS-12 "
)
NAME = st.text(CHARACTERS, min_size=1, max_size=8).filter(lambda name: name not in {".", ".."})
FILE = st.tuples(NAME, st.sampled_from(["", ".jpg", ".JPG", ".jpeg", ".tar.gz"])).map("".join)
SOURCES = st.lists(
    st.tuples(st.lists(NAME, max_size=2), FILE).map(lambda parts: PurePath(*parts[0], parts[1])), max_size=12
)


def folded(path: PurePath) -> str:
    return unicodedata.normalize("NFC", path.as_posix()).casefold()


def stems(*sources: str) -> list[str]:
    names = Names()
    return [names.stem_for(PurePath(source)).as_posix() for source in sources]


@FUZZ
@given(SOURCES)
@example([PurePath("...jpg")])
@example([PurePath("sub/...jpg")])
@example([PurePath("sub/..jpg")])
@example([PurePath("..jpg")])
def test_names_are_unique_inside_the_folder_and_the_same_each_time(sources: list[PurePath]) -> None:
    first, again = Names(), Names()
    given = [first.stem_for(source) for source in sources]
    assert given == [again.stem_for(source) for source in sources]
    assert len({folded(stem) for stem in given}) == len(given)
    for source, stem in zip(sources, given, strict=True):
        assert not stem.is_absolute()
        assert not {"..", "."} & set(stem.parts)
        assert stem.parent == source.parent
        files = numbered(Path("out") / stem, ".png", 2)
        assert all(file.parent == Path("out") / source.parent for file in files)


@FUZZ
@given(st.lists(FILE, max_size=8), st.integers(1, 4))
def test_files_of_one_run_never_share_a_name(sources: list[str], count: int) -> None:
    names, files = Names(), list[str]()
    for source in sources:
        files += [folded(file) for file in numbered(Path(names.stem_for(PurePath(source))), ".png", count)]
    assert len(set(files)) == len(sources) * count


@pytest.mark.parametrize(
    ("sources", "expected"),
    [
        (["a.jpg"], ["a"]),
        (["a.jpg", "a.png"], ["a", "a-2"]),
        (["a.jpg", "a.png", "a.webp"], ["a", "a-2", "a-3"]),
        (["a.jpg", "A.jpg"], ["a", "A-2"]),
        (["a-2.jpg", "a.jpg", "a.png"], ["a-2", "a", "a-3"]),
        (["stra\u00dfe.jpg", "STRASSE.jpg"], ["stra\u00dfe", "STRASSE-2"]),
        (["\u00e9.jpg", "e\u0301.jpg"], ["\u00e9", "e\u0301-2"]),
        (["x/a.jpg", "y/a.jpg"], ["x/a", "y/a"]),
        (["x/a.jpg", "X/A.png"], ["x/a", "X/A-2"]),
        (["a.tar.gz"], ["a.tar"]),
        ([".hidden"], [".hidden"]),
        (["no extension"], ["no extension"]),
        (["a.", "b..jpg"], ["a.", "b."]),
    ],
)
def test_two_that_would_share_a_name_get_distinct_ones(sources: list[str], expected: list[str]) -> None:
    assert stems(*sources) == expected


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
    assert stems(source) == [expected]


@pytest.mark.parametrize("letter", ["a", "é", "漢", "🌄", "e\u0301"])
@pytest.mark.parametrize("length", [100, 240, 255, 4000])
def test_a_name_never_gets_longer_than_file_systems_allow(letter: str, length: int) -> None:
    names, source = Names(), PurePath("sub") / (letter * length + ".jpg")
    for _ in range(12):
        for file in numbered(Path(names.stem_for(source)), ".webp", 4):
            assert len(os.fsencode(file.name)) <= 255
    assert len({folded(names.stem_for(source)) for _ in range(12)}) == 12


def test_a_name_that_is_not_unicode_stays_what_it_is(tmp_path: Path) -> None:
    source = PurePath(os.fsdecode(b"caf\xe9.jpg"))
    stem = Names().stem_for(source)
    (file,) = numbered(tmp_path / stem, ".png", 1)
    assert os.fsencode(file.name) == b"caf\xe9.png"
    long = Names().stem_for(PurePath(os.fsdecode(b"\xe9" * 255)))
    assert 0 < len(os.fsencode(long.name)) <= 239


def test_images_of_one_source_are_numbered() -> None:
    stem = Path("out/a.b")
    assert numbered(stem, ".png", 1) == [Path("out/a.b.png")]
    assert numbered(stem, ".png", 3) == [Path("out/a.b-1.png"), Path("out/a.b-2.png"), Path("out/a.b-3.png")]
