"""The journal's file on the disk: logs that another one left beside it, and a disk that is full."""

from __future__ import annotations

import errno
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from phota_async.images.walk import Found
from phota_async.journal import LOCK_NAME, NAME, Journal, Key, items, walks
from phota_async.journal.items import Answer

A = b"/photos/a.jpg"


def answer(size: int = 1) -> Answer:
    return Answer(links=("https://host/" + "x" * size,), request_id="id", cost_usd=0.12, run=1)


def left_by_a_killed_writer(folder: Path, end: str) -> bytes:
    """Return the log of a journal whose writer was killed within a transaction or just after one."""
    with Journal.open(folder) as journal:
        walks.found(journal, [Found(f"/photos/{number}.jpg", "x.jpg", 5, 7) for number in range(900)])
        journal.write([items.answered(Key(b"k", 1), A, answer())])
        log = (folder / f"{NAME}-wal").read_bytes()
    if end == "-wal":
        return log
    with closing(sqlite3.connect(folder / NAME, isolation_level=None)) as connection:
        connection.execute("PRAGMA cache_size = 1")  # what does not fit is written early, and the log before it
        connection.execute("BEGIN")
        connection.execute("UPDATE photos SET size = 6")
        log = (folder / f"{NAME}{end}").read_bytes()
        connection.execute("ROLLBACK")
    return log


@pytest.mark.parametrize("end", ["-wal", "-journal"])
def test_a_log_that_was_left_when_its_journal_was_moved_away_is_not_worked_into_the_next(
    tmp_path: Path, end: str
) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    new.mkdir()
    (new / f"{NAME}{end}").write_bytes(left_by_a_killed_writer(old, end))
    with Journal.open(new) as journal:
        assert not journal.ask(items.any_answered)
        assert journal.ask(lambda connection: connection.execute("SELECT * FROM photos").fetchall()) == []
    assert sorted(path.name for path in new.iterdir()) == [NAME, LOCK_NAME]


def test_the_note_of_a_journal_that_was_moved_away_is_not_that_of_the_next(tmp_path: Path) -> None:
    (tmp_path / f"{NAME}-open").touch()
    with Journal.open(tmp_path):
        assert not (tmp_path / f"{NAME}-open").exists()


def test_what_the_last_room_took_stays_written(tmp_path: Path) -> None:
    keys = [Key(b"%d" % number, 1) for number in range(1000)]
    written: list[Key] = []

    def fill(journal: Journal) -> None:
        for key in keys:
            journal.write([items.answered(key, A, answer(3000))])
            written.append(key)

    with Journal.open(tmp_path) as journal:
        # It may grow no more; what is kept free for answers is used up, and cannot be made anew.
        journal.ask(lambda connection: connection.execute("PRAGMA max_page_count = 1").fetchall())
        with pytest.raises(OSError, match="the journal cannot be used") as caught:
            fill(journal)
        assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(tmp_path / NAME))
    # Nearly as many as there were pages to spare, and more than when they could not be made anew.
    assert len(written) >= 40
    with Journal.reading(tmp_path) as journal:
        assert [key for key in keys if journal.ask(items.item(key))] == written


def test_the_log_of_a_long_run_stays_small(tmp_path: Path) -> None:
    with Journal.open(tmp_path) as journal:
        for number in range(150):
            journal.write([items.answered(Key(b"%d" % number, 1), A, answer(20_000))])
        assert (tmp_path / f"{NAME}-wal").stat().st_size < 2**20


def test_a_journal_at_rest_is_one_that_can_be_read_where_nothing_can_be_written(tmp_path: Path) -> None:
    with Journal.open(tmp_path) as journal:
        journal.mark_open()
        assert (tmp_path / f"{NAME}-open").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == [NAME, LOCK_NAME]
    # Its header says that no log goes with it, for which a file would have to be made (sqlite.org/fileformat2, 1.3.3).
    assert (tmp_path / NAME).read_bytes()[18:20] == b"\x01\x01"


def test_a_note_that_cannot_be_taken_away_keeps_no_journal_from_closing(tmp_path: Path) -> None:
    with Journal.open(tmp_path) as journal:
        journal.write([items.answered(Key(b"k", 1), A, answer())])
        (tmp_path / f"{NAME}-open").mkdir()  # what stands there is no file
    (tmp_path / f"{NAME}-open").rmdir()
    with Journal.reading(tmp_path) as journal:
        assert journal.ask(items.any_answered)


def test_a_journal_that_was_replaced_takes_no_more_and_is_named(tmp_path: Path) -> None:
    with Journal.open(tmp_path) as journal:
        shutil.copy(tmp_path / NAME, tmp_path / "copy")
        (tmp_path / "copy").replace(tmp_path / NAME)
        with pytest.raises(FileNotFoundError) as caught:
            journal.write([items.sent(Key(b"k", 1), A)])
    assert caught.value.args == (errno.ENOENT, "the journal was replaced while a run wrote to it")
    assert caught.value.filename == str(tmp_path / NAME)
