"""Photos in the journal: what a walk writes and what it leaves alone, and what is told of each photo."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePath

import pytest

from phota_async.images.walk import Found
from phota_async.journal import Claim, Item, Journal, Key, Row, items, names, photos, runs, walks
from phota_async.journal.items import Answer
from phota_async.journal.photos import Left
from phota_async.journal.runs import Run

A, B, C, D = (f"/photos/{name}.jpg".encode() for name in "abcd")
ANSWER = Answer(links=("https://host/x?signature",), request_id="id", cost_usd=0.12, run=1)
HASHES = {source: source[-5:-4] * 32 for source in (A, B, C, D)}


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal.open(tmp_path) as opened:
        yield opened


def begun(journal: Journal, *, overwrite: bool = False, options: str = "options") -> Run:
    (number,) = journal.write([items.number_of(options)])
    (run,) = journal.write([runs.begun(number, overwrite=overwrite, stand_in=False)])
    assert isinstance(run, Run)
    return run


def found(*sources: bytes) -> list[Found]:
    """Return what a walk finds, of strings that nobody else holds."""
    return [Found(os.fsdecode(source), os.fsdecode(source.rpartition(b"/")[2]), 5, 7) for source in sources]


def many(count: int) -> list[Found]:
    return found(*(b"/photos/%05d.jpg" % number for number in range(count)))


def changes(journal: Journal) -> int:
    """Return how many rows were written since the journal was opened."""
    return journal.ask(lambda connection: connection.total_changes)


def bought(journal: Journal, source: bytes, run: Run, *files: str) -> Item:
    """Write that a photo was bought, and with ``files`` that these are its images."""
    key = Key(HASHES[source], run.options)
    journal.write([walks.identified(source, 5, 7, key.sha256), items.answered(key, source, ANSWER)])
    if files:
        placed(journal, source, key, *files)
    item = journal.ask(items.item(key))
    assert item is not None
    return item


def placed(journal: Journal, source: bytes, key: Key, *files: str) -> None:
    claim = Claim(source=source, name=PurePath("x"), key=key, extension=".png", count=len(files), overwrite=False)
    journal.write([names.place(claim, list(map(PurePath, files)))])


def rows(journal: Journal, run: Run, *, answered: bool = False) -> list[Row]:
    return [row for page in photos.pages(journal, run, answered=answered) for row in page]


# ---- walks


def test_a_walk_that_finds_what_the_last_one_found_writes_nothing(journal: Journal) -> None:
    sources = [b"/photos/%05d/a.jpg" % number for number in range(2500)]
    assert walks.found(journal, found(*sources)) == 2500
    before = changes(journal)
    shared = "a.jpg"  # the same text, whoever holds it
    for again in (found(*sources), [one._replace(name=shared) for one in found(*sources)]):
        assert walks.found(journal, again) == 2500
        assert changes(journal) == before


def test_from_the_first_difference_on_a_walk_is_written(journal: Journal) -> None:
    walks.found(journal, many(2500))
    before = changes(journal)
    other = many(2500)
    other[1500] = other[1500]._replace(size=6)
    assert walks.found(journal, other) == 2500
    # The photos of two batches are let go and found again; the batches themselves are few.
    assert 2 * 1500 <= changes(journal) - before < 2 * 1500 + 10
    assert [row.source for row in rows(journal, begun(journal)) if row.size == 6] == [b"/photos/01500.jpg"]


@pytest.mark.parametrize(("first", "then"), [(2001, 2000), (3000, 1000), (1, 0), (2500, 2001)])
def test_photos_that_are_gone_at_the_end_of_a_walk_are_forgotten(journal: Journal, first: int, then: int) -> None:
    assert walks.found(journal, many(first)) == first
    for _ in range(2):
        assert walks.found(journal, many(then)) == then
    assert walks.found(journal, many(first)) == first


def test_a_walk_is_written_as_it_goes(journal: Journal) -> None:
    run = begun(journal)

    def walk() -> Iterator[Found]:
        for number, one in enumerate(many(2500)):
            if number == 2400:
                assert len(rows(journal, run)) == 2000
            yield one

    assert walks.found(journal, walk()) == 2500


# ---- what is told of each


def test_a_photo_is_told_with_its_own_images_in_order(journal: Journal) -> None:
    run = begun(journal)
    walks.found(journal, [*found(A, B, C), Found(os.fsdecode(D), "#1/d.jpg", 5, 7)])
    item = bought(journal, A, run, "z.png", "a.png")
    # The same bytes as A; and the image of what C was before it was edited.
    journal.write([walks.identified(C, 5, 7, HASHES[A]), walks.troubled(C, "no name")])
    placed(journal, C, Key(HASHES[C], run.options), "c.png")
    other = bought(journal, D, run, "#1/d.png")
    assert rows(journal, run) == [
        Row(A, b"a.jpg", 5, 7, HASHES[A], None, item, [b"z.png", b"a.png"]),
        Row(B, b"b.jpg", 5, 7, None, None, None, []),
        Row(C, b"c.jpg", 5, 7, HASHES[A], "no name", item, []),
        Row(D, b"#1/d.jpg", 5, 7, HASHES[D], None, other, [b"#1/d.png"]),
    ]


def test_photos_that_wait_to_be_fetched_are_told_alone(journal: Journal) -> None:
    run = begun(journal)
    walks.found(journal, found(A, B, C))
    bought(journal, A, run, "a.png")
    waits = bought(journal, B, run)
    assert rows(journal, run, answered=True) == [Row(B, b"b.jpg", 5, 7, HASHES[B], None, waits, [])]
    assert len(rows(journal, run)) == 3


def test_what_is_done_is_told_with_its_images_and_all_else_without(journal: Journal) -> None:
    run = begun(journal)
    walks.found(journal, found(A, B, C, D))
    bought(journal, A, run, "z.png", "a.png")
    bought(journal, B, run)
    # Done although no run is known that bought it.
    key = Key(HASHES[C], run.options)
    journal.write([walks.identified(C, 5, 7, key.sha256), items.sent(key, C)])
    placed(journal, C, key, "c.png")
    assert journal.ask(photos.bought_after(b"", run)) == {A: [b"z.png", b"a.png"], B: [], C: [b"c.png"], D: []}
    assert journal.ask(photos.bought_after(B, run)) == {C: [b"c.png"], D: []}
    assert journal.ask(photos.bought_after(D, run)) == {}
    overwriting = begun(journal, overwrite=True)
    assert journal.ask(photos.bought_after(b"", overwriting)) == {A: [], B: [], C: [], D: []}
    other = begun(journal, options="other")
    assert journal.ask(photos.bought_after(b"", other)) == {A: [], B: [], C: [], D: []}


def test_what_is_paid_for_and_no_photo_of_the_run_is_left_over(journal: Journal) -> None:
    run = begun(journal, options="before")
    walks.found(journal, found(A, B))
    gone, never = bought(journal, A, run), bought(journal, C, run)
    bought(journal, B, run)
    bought(journal, D, run, "d.png")
    walks.found(journal, [Found(os.fsdecode(B), "sub/b.jpg", 5, 7)])
    expected = [
        Left(Row(A, b"a.jpg", 0, 0, HASHES[A], None, gone, []), Key(HASHES[A], run.options), "before"),
        Left(Row(C, b"c.jpg", 0, 0, HASHES[C], None, never, []), Key(HASHES[C], run.options), "before"),
    ]
    assert journal.ask(photos.left_over(run)) == expected
    # With other options nothing that waits is a photo of the run.
    sources = [left.row.source for left in journal.ask(photos.left_over(begun(journal, options="other")))]
    assert sorted(sources) == [A, B, C]


def test_the_name_of_what_is_left_over_is_that_below_its_folder(journal: Journal) -> None:
    run = begun(journal)
    walks.found(journal, [Found(os.fsdecode(A), "sub/a.jpg", 5, 7)])
    bought(journal, A, run)
    walks.found(journal, [])
    (left,) = journal.ask(photos.left_over(run))
    assert left.row.name == b"sub/a.jpg"
