"""What is told of a folder run: plain values."""

from __future__ import annotations

import os
import sys
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phota_async import FolderFailure, FolderProgress, FolderReport
from phota_async.records import Paths

NAMES = st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=6))


@given(NAMES, st.integers(-8, 8), st.integers(-8, 8))
@settings(derandomize=True, deadline=None, max_examples=150)
def test_many_paths_are_a_sequence_like_any_other(names: list[str], start: int, stop: int) -> None:
    expected = tuple(map(Path, names))
    paths = Paths(map(str, expected))
    assert len(paths) == len(expected)
    assert tuple(paths) == expected
    assert tuple(reversed(paths)) == expected[::-1]
    assert paths[start:stop] == expected[start:stop]
    assert paths[::2] == expected[::2]
    assert paths == expected
    assert paths == Paths(expected)
    assert hash(paths) == hash(Paths(expected))
    assert all(path in paths for path in expected)
    if expected:
        assert (paths[0], paths[-1]) == (expected[0], expected[-1])
    with pytest.raises(IndexError):
        paths[len(expected)]


def test_paths_that_differ_are_not_the_same() -> None:
    one = Paths(["a", "b"])
    for other in (Paths(["a"]), Paths(["ab"]), Paths(["b", "a"]), ("a", "b"), [Path("a"), Path("b")], None):
        assert one != other
    one.append(Path("c"))
    assert one == Paths(["a", "b", "c"])
    assert repr(one) == "<3 paths>"


@pytest.mark.skipif(sys.platform == "win32", reason="names are text there")
def test_a_path_that_is_no_text_stays_what_it_is() -> None:
    name = os.fsdecode(b"caf\xe9/\n.jpg")
    assert list(Paths([name])) == [Path(name)]


def test_a_hundred_thousand_paths_take_little_memory() -> None:
    tracemalloc.start()
    try:
        paths = Paths(f"/photos/{number:06}.png" for number in range(100_000))
        assert tracemalloc.get_traced_memory()[0] < 5 * 2**20
    finally:
        tracemalloc.stop()
    assert len(paths) == 100_000


@pytest.mark.parametrize(
    ("report", "ok"),
    [
        (FolderReport(), True),
        (FolderReport(enhanced=3, skipped=2), True),
        (FolderReport(enhanced=3, failed=1), False),
        (FolderReport(unknown=1), False),
        (FolderReport(not_attempted=1, stopped_by="budget"), False),
        (FolderReport(enhanced=1, stopped_by="caller"), False),
    ],
)
def test_a_run_is_good_when_every_photo_is(report: FolderReport, ok: bool) -> None:  # noqa: FBT001
    assert report.ok is ok


def test_what_is_settled_is_what_the_run_is_done_with() -> None:
    assert FolderProgress(total=20, enhanced=1, skipped=2, failed=3, unknown=4, in_flight=5).settled == 10


def test_neither_links_nor_bulk_are_shown() -> None:
    failure = FolderFailure(
        source=Path("a.jpg"), state="unknown", reason="why", kind="OSError", download_urls=("https://host/x?secret",)
    )
    report = FolderReport(failures=(failure,), outputs=Paths(["/out/a.png"]))
    assert "secret" not in repr(failure)
    assert "<1 signed>" in repr(failure)
    assert "outputs=<1 paths>, failures=<1 failures>" in repr(report)
