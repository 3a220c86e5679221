"""Names of images for any sources: one source each, inside the folder, the same from run to run, and traced back."""

from __future__ import annotations

import os
import sys
import tempfile
import unicodedata
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePath

import pytest
from attrs import frozen
from examples import examples
from hypothesis import given
from hypothesis import strategies as st

from phota_async.images.walk import Found
from phota_async.journal import Claim, Entry, Journal, Key, Occupied, Reserved, items, names, runs, views, walks
from phota_async.journal.items import Answer
from phota_async.journal.runs import Run
from phota_async.naming import numbered, plainer, stems

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere there are no such names")

LETTERS = (
    st.characters(exclude_categories=["Cs"], exclude_characters="/\x00")
    | st.sampled_from("aAbB.-12 \\:éÉE\u0301ßsSẞİ\u0131I\u0345\u03b9\u0399\u1fc3\u017fK\u212a")
    | st.sampled_from([os.fsdecode(b"\xe9"), os.fsdecode(b"\xff")])
)
PARTS = st.text(LETTERS, min_size=1, max_size=4) | st.sampled_from(
    [
        "..",
        ".",
        "...",
        "..a",
        "a.",
        "a ",
        " ",
        "-",
        "a-2",
        "a-1",
        "CON",
        "nul",
        "n" * 250,
        "漢" * 83,
        "é" * 80,
        "🌄" * 62,
    ]
)
ACCENTED = st.sampled_from(["é", "ße\u0301", "É.a"])
SUFFIXES = st.sampled_from(["", "", ".jpg", ".JPG", ".png", ".", ".tar.gz"])
ROOTS = st.sampled_from(["", "", "", "/", "//", "../", "C:\\"])

# Ways to write one name that a file system may take for the same.
WRITTEN: st.SearchStrategy[Callable[[str], str]] = st.sampled_from(
    [str, str.upper, str.swapcase, partial(unicodedata.normalize, "NFC"), partial(unicodedata.normalize, "NFD")]
)


def written(write: Callable[[str], str], name: str) -> PurePath:
    return PurePath(write(name))


@frozen
class Photo:
    """A photo, the images of which need names."""

    number: int
    name: PurePath
    count: int
    extension: str
    paid: bool

    @property
    def source(self) -> bytes:
        return b"/photos/%d.jpg" % self.number  # another one for each, also where the names are the same

    def claim(self, run: Run) -> Claim:
        return Claim(
            source=self.source,
            name=self.name,
            key=Key(b"%032d" % self.number, run.options),
            extension=self.extension,
            count=self.count,
            overwrite=False,
        )


@st.composite
def photo_lists(draw: st.DrawFn) -> list[Photo]:
    pool = draw(st.lists(PARTS | ACCENTED, min_size=1, max_size=3))  # few, so that names meet
    part = st.sampled_from(pool)
    name = st.builds(
        "{}{}{}{}".format, ROOTS, st.lists(part.map("{}/".format), max_size=2).map("".join), part, SUFFIXES
    )
    given_names = draw(st.lists(st.builds(written, WRITTEN, name), min_size=1, max_size=8))
    count, extension = st.integers(1, 3), st.sampled_from([".png", ".jpg"])
    return [
        Photo(number, name, draw(count), draw(extension), draw(st.booleans()))
        for number, name in enumerate(given_names)
    ]


def taken_for(name: PurePath) -> str:
    """Return what a file system may make of a name: Unicode's canonical caseless matching (section 3.13, D145)."""
    return unicodedata.normalize("NFD", unicodedata.normalize("NFD", name.as_posix()).casefold())


@contextmanager
def opened(folder: Path) -> Generator[tuple[Journal, Run]]:
    with Journal.open(folder) as journal:
        (options,) = journal.write([items.number_of("options")])
        (run,) = journal.write([runs.begun(options, overwrite=False, stand_in=False)])
        yield journal, run


def asked(journal: Journal, run: Run, photos: list[Photo]) -> dict[Photo, list[PurePath]]:
    """Ask for the names of all photos; those that get none, because something stands there, are left out."""
    entries: list[Entry[Reserved | Occupied]] = [
        names.reserve(journal.folder, photo.claim(run), paid=photo.paid) for photo in photos
    ]
    answers: list[Reserved | Occupied] = journal.write(entries)
    for photo, answer in zip(photos, answers, strict=True):
        if isinstance(answer, Occupied):
            assert not photo.paid
            assert (journal.folder / answer.name).exists()
    return {photo: answer.names for photo, answer in zip(photos, answers, strict=True) if isinstance(answer, Reserved)}


def natural(photo: Photo) -> PurePath:
    """Return the first name that its image would get."""
    return numbered(next(stems(photo.name)), photo.extension, 1)[0]


def put(folder: Path, name: PurePath) -> None:
    """Make a file there, which must not be there yet."""
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    with (folder / name).open("xb"):
        pass


def bought(journal: Journal, run: Run, had: dict[Photo, list[PurePath]]) -> None:
    """Write down a run that finds, buys and places all photos."""
    walks.found(journal, [Found(os.fsdecode(photo.source), str(photo.name), 5, 7) for photo in had])
    answer = Answer(links=("https://host/",), request_id=None, cost_usd=0.12, run=run.number)
    entries: list[Entry[object]] = []
    for photo, given_names in had.items():
        claim = photo.claim(run)
        entries += [
            walks.identified(photo.source, 5, 7, claim.key.sha256),
            items.answered(claim.key, photo.source, answer),
            names.place(claim, given_names),
        ]
    journal.write(entries)


@examples(40)
@given(photo_lists(), st.data())
def test_names_for_any_sources(photos: list[Photo], data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with opened(folder) as (journal, run):
            for stood in data.draw(st.sets(st.sampled_from([natural(photo) for photo in photos]), max_size=2)):
                put(folder, stood)
            had = asked(journal, run, photos)
            every = [one for given_names in had.values() for one in given_names]
            assert len(set(map(taken_for, every))) == len(every) == sum(photo.count for photo in had)
            for photo, given_names in had.items():
                assert all(one.suffix == photo.extension for one in given_names)
                assert not any(one.is_absolute() or {"..", "."} & set(one.parts) for one in given_names)
            for one in every:
                put(folder, one)  # the disk takes it, it is nobody's, and its place is inside the folder
                assert (folder / one).resolve().is_relative_to(folder.resolve())
            bought(journal, run, had)
        with opened(folder) as (journal, run):
            walks.found(journal, [Found(os.fsdecode(photo.source), str(photo.name), 5, 7) for photo in had])
            assert asked(journal, run, data.draw(st.permutations(list(had)))) == had
        traced = {path: os.fsencode(record.source) for record in views.records(folder) for path in record.outputs}
        assert traced == {folder / one: photo.source for photo, given_names in had.items() for one in given_names}


@examples(200)
@given(st.lists(PARTS, max_size=2), PARTS, st.sampled_from([".png", ".jpg"]))
def test_a_plainer_name_is_one_that_every_disk_takes(folders: list[str], stem: str, extension: str) -> None:
    name = PurePath(*folders, f"{stem}{extension}")
    plain = plainer(name)
    assert plain.parent == name.parent
    assert plain.name.isascii()
    assert plain.name.isprintable()
    assert not set(plain.name) & set('<>:"/\\|?*')
    assert len(plain.name) <= 64
    assert plain.suffix == name.suffix
    assert plain.stem == plain.stem.rstrip(" .") != ""
    assert plainer(plain) == plain
