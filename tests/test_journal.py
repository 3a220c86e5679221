"""The journal: opened by one, never guessed at, and what it says of items in every state."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path, PurePath

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phota_async import JournalError
from phota_async.images.walk import UNREADABLE, Found
from phota_async.journal import LOCK_NAME, NAME, Item, Journal, Key, Row, items, names, photos, runs, views, walks
from phota_async.journal.database import is_running
from phota_async.journal.items import DEAD_RUN, NO_LINKS, Answer
from phota_async.journal.names import Claim
from phota_async.journal.runs import Run
from phota_async.records import PhotoRecord

KEY = Key(b"k" * 32, 1)
A = b"/photos/a.jpg"
ANSWER = Answer(links=("https://host/x?signature",), request_id="id", cost_usd=0.12, run=1)


def claim(source: bytes = A, *, key: Key = KEY, overwrite: bool = False, count: int = 1) -> Claim:
    name = PurePath(os.fsdecode(source)).name
    return Claim(source=source, name=PurePath(name), key=key, extension=".png", count=count, overwrite=overwrite)


def begin(journal: Journal, *sources: bytes, stand_in: bool = False, overwrite: bool = False) -> Run:
    """Begin a run that finds these photos."""
    run = _begun(journal, stand_in=stand_in, overwrite=overwrite)
    found = [Found(os.fsdecode(source), PurePath(os.fsdecode(source)).name, 5, 7) for source in sources]
    assert walks.found(journal, found) == len(found)
    return run


def _begun(journal: Journal, *, stand_in: bool = False, overwrite: bool = False, options: int = 1) -> Run:
    run = journal.write([runs.begun(options, overwrite=overwrite, stand_in=stand_in)])[0]
    assert isinstance(run, Run)
    return run


def known(journal: Journal) -> Item | None:
    return journal.ask(items.item(KEY))


def state(journal: Journal) -> str | None:
    found = known(journal)
    return found.state if found else None


def rows(journal: Journal, run: Run) -> list[Row]:
    return [row for page in photos.pages(journal, run) for row in page]


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal.open(tmp_path) as opened:
        yield opened


# ---- opening


def test_a_journal_is_made_opened_again_and_a_single_file_at_rest(tmp_path: Path) -> None:
    with Journal.open(tmp_path) as journal:
        journal.write([items.sent(KEY, A)])
    assert sorted(path.name for path in tmp_path.iterdir()) == [NAME, LOCK_NAME]
    with Journal.open(tmp_path) as journal:
        assert state(journal) == "sent"


def test_what_is_written_is_kept_when_the_process_dies(tmp_path: Path) -> None:
    program = (
        "import os, sys; from pathlib import Path; from phota_async.journal import Journal, Key, items;"
        "journal = Journal.open(Path(sys.argv[1])); journal.write([items.sent(Key(b'k' * 32, 1), b'/photos/a.jpg')]);"
        "os._exit(9)"
    )
    run = subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False, timeout=50)  # noqa: S603
    assert run.returncode == 9
    assert not is_running(tmp_path)
    with Journal.reading(tmp_path) as journal:
        assert state(journal) == "sent"
    with Journal.open(tmp_path) as journal:
        assert state(journal) == "sent"


def test_only_one_at_a_time_writes(tmp_path: Path) -> None:
    assert not is_running(tmp_path)
    with Journal.open(tmp_path):
        assert is_running(tmp_path)
        with pytest.raises(JournalError, match="another run is writing to"):
            Journal.open(tmp_path)
        assert is_running(tmp_path)
    assert not is_running(tmp_path)
    Journal.open(tmp_path).close()


def test_whoever_asks_whether_a_run_is_there_keeps_none_from_beginning(tmp_path: Path) -> None:
    Journal.open(tmp_path).close()
    done = threading.Event()

    def ask() -> None:
        while not done.is_set():
            is_running(tmp_path)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        for _ in range(20):
            Journal.open(tmp_path).close()
    finally:
        done.set()
        asking.join()


def test_closing_twice_is_harmless(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path)
    assert not journal.is_closed
    journal.close()
    journal.close()
    assert journal.is_closed
    with pytest.raises(sqlite3.ProgrammingError):
        journal.ask(items.any_answered)


def test_a_journal_is_read_beside_its_writer(tmp_path: Path) -> None:
    with Journal.open(tmp_path) as journal:
        journal.write([items.sent(KEY, A)])
        with Journal.reading(tmp_path) as reader:
            assert state(reader) == "sent"
            journal.write([items.answered(KEY, A, ANSWER)])
            assert state(reader) == "answered"
            with pytest.raises(OSError, match="journal cannot be used") as caught:
                reader.write([items.sent(KEY, A)])
        assert (caught.value.errno, caught.value.filename) == (errno.EROFS, str(tmp_path / NAME))
    # The reader was there when the writer left: the next one tidies up.
    Journal.open(tmp_path).close()
    assert sorted(path.name for path in tmp_path.iterdir()) == [NAME, LOCK_NAME]


def test_a_writer_that_leaves_while_somebody_reads_leaves_what_is_needed(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path)
    journal.write([items.sent(KEY, A)])
    with Journal.reading(tmp_path) as reader:
        reader.ask(lambda connection: connection.execute("BEGIN").fetchall())
        assert state(reader) == "sent"
        journal.close()
        assert state(reader) == "sent"
    with Journal.reading(tmp_path) as reader:
        assert state(reader) == "sent"


def test_there_is_nothing_to_read_where_nothing_was_enhanced(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="nothing was enhanced into it"):
        Journal.reading(tmp_path)
    with pytest.raises(JournalError, match="nothing was enhanced into it"):
        views.status(tmp_path)
    with pytest.raises(JournalError, match="nothing was enhanced into it"):
        next(views.records(tmp_path))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("there", [False, True])
def test_a_scratch_copy_changes_nothing(tmp_path: Path, *, there: bool) -> None:
    if there:
        with Journal.open(tmp_path) as journal:
            journal.write([items.answered(KEY, A, ANSWER)])
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with Journal.scratch(tmp_path) as scratch:
        assert state(scratch) == ("answered" if there else None)
        scratch.write([items.sent(KEY, A)])
        assert state(scratch) == "sent"
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_scratch_copy_of_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with Journal.scratch(tmp_path / "nothing") as scratch:
        assert state(scratch) is None
    assert not (tmp_path / "nothing").exists()


@pytest.mark.parametrize("folder", ["file", "nothing"])
def test_a_folder_that_is_none_is_the_systems_error(tmp_path: Path, folder: str) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OSError, match="journal cannot be used"):
        Journal.open(tmp_path / folder)


# ---- damage


def _filled(folder: Path, photos_of_it: int = 500) -> Path:
    with Journal.open(folder) as journal:
        begin(journal, *(b"/photos/%d.jpg" % number for number in range(photos_of_it)))
        journal.write([items.answered(KEY, A, ANSWER)])
    return folder / NAME


@pytest.mark.parametrize("size", [1, 16, 99, 100, 511, 512, 4095, 4096, 4097, 8192, 20_000])
def test_a_journal_that_was_cut_is_told(tmp_path: Path, size: int) -> None:
    path = _filled(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole[:size])
    for use in (Journal.open, Journal.reading, Journal.scratch):
        with pytest.raises(JournalError, match=r"cannot be read .*The images are untouched"):
            use(tmp_path)
    assert path.read_bytes() == whole[:size]
    assert not is_running(tmp_path)


@pytest.mark.parametrize("content", [b"", b"no database at all" * 100, bytes(8192)])
def test_what_is_no_database_is_told(tmp_path: Path, content: bytes) -> None:
    (tmp_path / NAME).write_bytes(content)
    for use in (Journal.open, Journal.reading, Journal.scratch):
        with pytest.raises(JournalError, match="cannot be read"):
            use(tmp_path)
    assert (tmp_path / NAME).read_bytes() == content


def test_another_programs_database_is_told_and_left_as_it_is(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / NAME)
    connection.execute("CREATE TABLE theirs (x)")
    connection.commit()
    connection.close()
    before = (tmp_path / NAME).read_bytes()
    for use in (Journal.open, Journal.reading, Journal.scratch):
        with pytest.raises(JournalError) as caught:
            use(tmp_path)
        expected = f"the journal {tmp_path / NAME} cannot be read (it is not a journal of phota_async). The images are"
        assert str(caught.value).startswith(expected)
    assert (tmp_path / NAME).read_bytes() == before


def test_a_newer_version_is_told_and_left_as_it_is(tmp_path: Path) -> None:
    path = _filled(tmp_path, 1)
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 2")
    connection.close()
    before = path.read_bytes()
    for use in (Journal.open, Journal.reading, Journal.scratch):
        with pytest.raises(JournalError) as caught:
            use(tmp_path)
        expected = f"the journal {path} was written by a newer phota_async; upgrade, or choose another folder"
        assert str(caught.value) == expected
    assert path.read_bytes() == before


@given(st.lists(st.tuples(st.integers(0, 60_000), st.binary(min_size=1, max_size=40)), min_size=1, max_size=5))
@settings(derandomize=True, deadline=None, max_examples=60)
def test_whatever_is_wrong_in_the_file_is_told_in_our_words(damage: list[tuple[int, bytes]]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = _filled(folder, 200)
        content = bytearray(path.read_bytes())
        for place, wrong in damage:
            begin = place % len(content)
            content[begin : begin + len(wrong)] = wrong[: len(content) - begin]
        path.write_bytes(content)
        try:
            views.status(folder)
            list(views.records(folder))
            with Journal.open(folder) as journal:
                journal.write([items.left_by_dead_runs(), items.sent(KEY, A)])
        except (JournalError, OSError):
            pass


def test_a_schema_that_is_no_text_is_damage(tmp_path: Path) -> None:
    path = _filled(tmp_path, 1)
    path.write_bytes(path.read_bytes().replace(b"CREATE TABLE runs", b"CREATE TABLE \x80\xff\xfe("))
    for use in (Journal.open, Journal.reading, Journal.scratch):
        with pytest.raises(JournalError, match="cannot be read"):
            use(tmp_path)


def test_what_only_a_check_finds_is_damage(tmp_path: Path) -> None:
    path = _filled(tmp_path, 1)
    content = bytearray(path.read_bytes())
    content[39] ^= 1  # how many pages are free (https://sqlite.org/fileformat2.html, 1.3)
    path.write_bytes(content)
    for use in (Journal.open, Journal.reading, Journal.scratch):
        with pytest.raises(JournalError, match=r"(?s)cannot be read .*freelist") as caught:
            use(tmp_path)
        assert str(caught.value).startswith(f"the journal {path} cannot be read (")


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege")
@pytest.mark.parametrize("end", ["", "-lock", "-open", "-wal", "-shm", "-journal"])
def test_a_journal_is_not_written_through_a_link(tmp_path: Path, end: str) -> None:
    aim = tmp_path / "aim"
    aim.write_bytes(b"")
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / f"{NAME}{end}").symlink_to(aim)
    with pytest.raises(JournalError) as caught:
        Journal.open(folder)
    expected = f"{folder / NAME}{end} is a link, and nothing is written through one; remove it and run again"
    assert str(caught.value) == expected
    assert aim.read_bytes() == b""


def test_text_that_is_none_is_damage(tmp_path: Path) -> None:
    path = _filled(tmp_path, 1)
    connection = sqlite3.connect(path)
    connection.execute("UPDATE items SET reason = CAST(x'ff' AS TEXT)")
    connection.commit()
    connection.close()
    with Journal.open(tmp_path) as journal, pytest.raises(JournalError) as caught:
        known(journal)
    message = str(caught.value)
    assert message.startswith(f"the journal {path} cannot be read (")
    assert "'reason'" in message  # as SQLite tells it
    assert message.endswith(
        "). The images are untouched. To go on, move it away and run again: a photo whose image is there already is"
        " skipped; what was paid for and not fetched is not known any more"
    )


def test_a_log_of_a_journal_that_was_moved_away_is_not_worked_into_the_next(tmp_path: Path) -> None:
    for end in ("-wal", "-shm", "-journal", "-new", "-new-journal"):
        (tmp_path / f"{NAME}{end}").write_bytes(b"stale")
    with Journal.open(tmp_path) as journal:
        assert state(journal) is None
    assert sorted(path.name for path in tmp_path.iterdir()) == [NAME, LOCK_NAME]


def test_a_bug_stays_what_it_is(journal: Journal) -> None:
    for wrong in ("INSERT INTO options VALUES (1, 'a'), (1, 'b')",):
        with pytest.raises(sqlite3.IntegrityError):
            journal.write([lambda connection, text=wrong: connection.execute(text)])  # type: ignore[misc]
    assert state(journal) is None


# ---- gone meanwhile


def test_a_journal_that_was_removed_takes_no_more(tmp_path: Path, journal: Journal) -> None:
    (tmp_path / NAME).unlink()
    with pytest.raises(FileNotFoundError):
        journal.write([items.sent(KEY, A)])
    assert not (tmp_path / NAME).exists()


def test_a_folder_that_was_removed_takes_no_more_and_comes_not_back(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    with Journal.open(folder) as journal:
        shutil.rmtree(folder)
        with pytest.raises(FileNotFoundError):
            journal.write([items.sent(KEY, A)])
    assert not folder.exists()


def test_of_entries_that_fail_together_none_is_written(journal: Journal) -> None:
    def broken(_: sqlite3.Connection) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        journal.write([items.sent(KEY, A), broken])
    assert state(journal) is None


FULL = """
import resource, signal, sys
from pathlib import Path
from phota_async.journal import Journal, Key, items
from phota_async.journal.items import Answer

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
written = 0
with Journal.open(Path(sys.argv[1])) as journal:
    journal.write([items.sent(Key(b"0", 1), b"/a")])
    log = Path(sys.argv[1], ".phota-async.sqlite3-wal")
    most = max(log.stat().st_size, Path(sys.argv[1], ".phota-async.sqlite3").stat().st_size)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))
    try:
        for number in range(100_000):
            answer = Answer(links=("https://host/" + "x" * 300,), request_id="id", cost_usd=0.12, run=1)
            journal.write([items.answered(Key(b"%d" % number, 1), b"/a", answer)])
            written += 1
    except OSError as error:
        print(error.errno, written)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
with Journal.reading(Path(sys.argv[1])) as journal:
    print(journal.ask(lambda connection: connection.execute("SELECT count(*) FROM items").fetchone()[0]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no limit for the size of a file")
def test_a_full_disk_still_takes_the_answers_of_what_is_in_flight(tmp_path: Path) -> None:
    run = subprocess.run(  # noqa: S603
        [sys.executable, "-c", FULL, str(tmp_path)], capture_output=True, text=True, check=True, timeout=50
    )
    number, written, count = map(int, run.stdout.split())
    assert number in {errno.ENOSPC, errno.EIO, errno.EFBIG}
    assert written >= 40
    assert count == written


# ---- items


def test_an_item_from_request_to_image(journal: Journal) -> None:
    assert known(journal) is None
    journal.write([items.sent(KEY, A)])
    assert state(journal) == "sent"
    (item,) = journal.write([items.answered(KEY, A, ANSWER)])
    assert item == known(journal)
    assert (item.state, item.cost_usd, item.run, item.download_urls) == ("answered", 0.12, 1, ANSWER.links)
    assert journal.ask(items.any_answered)
    journal.write([names.place(claim(), [PurePath("a.png")])])
    done = known(journal)
    assert done is not None
    assert (done.state, done.download_urls, done.reason) == ("done", ANSWER.links, None)
    assert not journal.ask(items.any_answered)
    assert "signature" not in repr(ANSWER)


def test_an_answer_without_links_is_lost_until_its_images_are_written(journal: Journal) -> None:
    answer = Answer(links=(), request_id="id", cost_usd=0.12, run=1)
    (item,) = journal.write([items.answered(KEY, A, answer)])
    assert (item.state, item.reason, item.kind, item.download_urls) == ("unknown", NO_LINKS, "DownloadError", ())
    assert not item.links_seemed_dead
    journal.write([names.place(claim(), [PurePath("a.png")])])
    assert known(journal) == item._replace(state="done", reason=None, kind=None, at=known(journal).at)  # type: ignore[union-attr]


def _prior(journal: Journal, prior: str) -> None:
    """Bring the item to a state that a run finds."""
    journal.write([items.sent(KEY, A)])
    if prior == "failed":
        journal.write([items.failed(KEY, A, "before", "APIError", "id")])
    elif prior == "unknown":
        journal.write([items.unknown(KEY, "before", "GatewayError", "id")])
    elif prior in {"done", "answered", "lost"}:
        journal.write([items.answered(KEY, A, ANSWER)])
        if prior == "done":
            journal.write([names.place(claim(), [PurePath("a.png")])])
        elif prior == "lost":
            journal.write([items.lost(KEY, "before")])
    else:
        journal.write([items.withdrawn(KEY)])


PRIORS = ["none", "failed", "unknown", "done", "answered", "lost"]


@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("requests", [1, 3])
def test_a_request_that_is_withdrawn_leaves_no_trace(journal: Journal, prior: str, requests: int) -> None:
    _prior(journal, prior)
    before = known(journal)
    for _ in range(requests):
        journal.write([items.sent(KEY, b"/photos/b.jpg")])
        assert state(journal) == "sent"
        journal.write([items.withdrawn(KEY)])
    after = known(journal)
    if before is None:
        assert after is None
    else:
        assert after == before._replace(at=after.at, source=b"/photos/b.jpg") if after else False


@pytest.mark.parametrize(
    ("prior", "expected"),
    [("none", "failed"), ("failed", "failed"), ("unknown", "unknown"), ("done", "done"), ("lost", "unknown")],
)
@pytest.mark.parametrize("withdrawn", [False, True])
def test_a_failure_never_hides_what_was_paid_or_is_in_doubt(
    journal: Journal, prior: str, expected: str, *, withdrawn: bool
) -> None:
    _prior(journal, prior)
    journal.write([items.sent(KEY, A), *([items.withdrawn(KEY)] if withdrawn else [])])
    journal.write([items.failed(KEY, A, "now", "InvalidRequestError", "new")])
    found = known(journal)
    assert found is not None
    assert found.state == expected
    if expected == "failed":
        assert (found.reason, found.kind, found.request_id) == ("now", "InvalidRequestError", "new")
    else:
        assert found.reason != "now"


@pytest.mark.parametrize("prior", PRIORS)
def test_what_a_dead_run_sent_is_in_doubt(journal: Journal, prior: str) -> None:
    _prior(journal, prior)
    journal.write([items.left_by_dead_runs()])
    assert state(journal) == {"none": None, "lost": "unknown"}.get(prior, prior)
    journal.write([items.sent(KEY, A)])
    journal.write([items.left_by_dead_runs()])
    found = known(journal)
    assert found is not None
    assert (found.state, found.kind, found.reason) == ("unknown", "OutcomeUnknownError", DEAD_RUN)
    journal.write([items.sent(KEY, A), items.withdrawn(KEY)])
    assert state(journal) == "unknown"


def test_doubt_and_loss_are_told_with_their_facts(journal: Journal) -> None:
    journal.write([items.sent(KEY, A), items.unknown(KEY, "why", "GatewayError", "id-1")])
    found = known(journal)
    assert found is not None
    assert (found.state, found.reason, found.kind, found.request_id) == ("unknown", "why", "GatewayError", "id-1")
    journal.write([items.sent(KEY, A), items.answered(KEY, A, ANSWER), items.lost(KEY, "gone")])
    found = known(journal)
    assert found is not None
    assert (found.state, found.reason, found.kind, found.request_id) == ("unknown", "gone", "DownloadError", "id")
    assert (found.download_urls, found.cost_usd) == (ANSWER.links, 0.12)


def test_half_a_character_in_a_request_id_is_told_as_a_question_mark(journal: Journal) -> None:
    for entry in (
        items.failed(KEY, A, "why", "APIError", "id-\ud83d"),
        items.unknown(KEY, "why", "GatewayError", "id-\ud83d"),
    ):
        journal.write([entry])
        found = known(journal)
        assert found is not None
        assert found.request_id == "id-?"


def test_what_was_paid_before_stays_counted(journal: Journal) -> None:
    for _ in range(3):
        journal.write([items.sent(KEY, A), items.answered(KEY, A, ANSWER)])
    found = known(journal)
    assert found is not None
    assert found.cost_usd == pytest.approx(0.36)


def test_options_have_a_number_that_stays(journal: Journal) -> None:
    one, other, again = journal.write([items.number_of("a"), items.number_of("b"), items.number_of("a")])
    assert one == again != other


# ---- photos and runs


def test_photos_are_found_once_and_forgotten_when_they_are_gone(journal: Journal) -> None:
    run = begin(journal, A, b"/photos/b.jpg")
    assert [row.source for row in rows(journal, run)] == [A, b"/photos/b.jpg"]
    for sources in ([A], [], [A, b"/photos/c.jpg"]):
        run = begin(journal, *sources)
        assert [row.source for row in rows(journal, run)] == sources
        assert [journal.ask(walks.is_there(source)) for source in (A, b"/photos/c.jpg")] == [
            A in sources,
            b"/photos/c.jpg" in sources,
        ]


def test_a_photo_that_is_found_twice_counts_once(journal: Journal) -> None:
    run = _begun(journal)
    twice = [Found("/photos/a.jpg", "a.jpg", 5, 7)] * 2
    assert walks.found(journal, twice) == 1
    assert walks.found(journal, twice) == 1
    assert len(rows(journal, run)) == 1


@pytest.mark.parametrize("count", [999, 1000, 1001, 2500])
def test_many_photos_come_in_pages_in_the_order_of_their_paths(journal: Journal, count: int) -> None:
    sources = [b"/photos/%04d.jpg" % number for number in range(count)]
    run = begin(journal, *reversed(sources))
    assert [row.source for row in rows(journal, run)] == sources
    assert max(len(page) for page in photos.pages(journal, run)) <= 1000
    last = sources[: count - 2]
    assert [row.source for row in rows(journal, begin(journal, *reversed(last)))] == last


CHANGES = [Found("/photos/a.jpg", "a.jpg", 6, 7), Found("/photos/a.jpg", "a.jpg", 5, 8)]


@pytest.mark.parametrize("change", CHANGES)
def test_a_photo_that_has_changed_is_hashed_anew(journal: Journal, change: Found) -> None:
    run = begin(journal, A)
    journal.write([walks.identified(A, 5, 7, b"hash")])
    for _ in range(2):
        begin(journal, A)
        (row,) = rows(journal, run)
        assert (row.sha256, row.size, row.modified_ns) == (b"hash", 5, 7)
    walks.found(journal, [change])
    (row,) = rows(journal, run)
    assert (row.sha256, row.size, row.modified_ns) == (None, change.size, change.modified_ns)


def test_a_photo_that_changed_after_the_walk_is_found_anew(journal: Journal) -> None:
    run = begin(journal, A, b"/photos/b.jpg")
    journal.write([walks.identified(A, 6, 9, b"edited")])
    begin(journal, A, b"/photos/b.jpg")
    assert [(row.sha256, row.size, row.modified_ns) for row in rows(journal, run)] == [(None, 5, 7)] * 2


def test_why_a_photo_is_unusable_is_forgotten_by_the_next_walk(journal: Journal) -> None:
    run = begin(journal, A)
    journal.write([walks.identified(A, 5, 7, b"hash"), walks.unusable(A, "no photo")])
    (row,) = rows(journal, run)
    assert (row.reason, row.sha256) == ("no photo", None)
    begin(journal, A)
    assert rows(journal, run)[0].reason is None


def test_what_cannot_be_looked_at_is_found_all_the_same(journal: Journal) -> None:
    run = _begun(journal)
    walks.found(journal, [Found("/photos/broken.jpg", "broken.jpg", UNREADABLE, 0)])
    assert rows(journal, run)[0].size == UNREADABLE


@pytest.mark.parametrize("ended", [None, True, False])
def test_an_overwriting_run_that_was_broken_off_goes_on(journal: Journal, *, ended: bool | None) -> None:
    run = _begun(journal, overwrite=True)
    assert (run.number, run.since) == (1, 1)
    if ended is not None:
        journal.write([runs.ended(run, complete=ended, message=None)])
    assert _begun(journal, overwrite=True).since == (2 if ended else 1)
    assert _begun(journal, overwrite=True, options=2).since == 3
    assert _begun(journal).since is None
    assert _begun(journal, overwrite=True).since == (2 if ended else 1)


@pytest.mark.parametrize("log", [None, b"", b"garbage"])
def test_a_log_that_is_gone_is_told(tmp_path: Path, log: bytes | None) -> None:
    output, left = tmp_path / "out", tmp_path / "left"
    output.mkdir()
    left.mkdir()
    with Journal.open(output) as journal:
        journal.mark_open()
        # What a kill at this moment leaves, but for the log.
        for name in (NAME, f"{NAME}-open"):
            shutil.copy(output / name, left / name)
    if log is not None:
        (left / f"{NAME}-wal").write_bytes(log)
    for look in (Journal.open, Journal.reading, Journal.scratch):
        with pytest.raises(JournalError, match="run again with retry_unknown to go on without it") as caught:
            look(left)
        assert str(caught.value).startswith(f"the log {left / NAME}-wal of a run that was killed is gone or damaged")
    with Journal.open(left, without_log=True) as journal:
        assert not journal.ask(items.any_answered)
    with Journal.open(left):
        assert not (left / f"{NAME}-open").exists()


def test_looking_into_what_a_killed_run_left_does_not_make_it_lost(tmp_path: Path) -> None:
    output, left = tmp_path / "out", tmp_path / "left"
    output.mkdir()
    left.mkdir()
    with Journal.open(output) as journal:
        journal.mark_open()
        journal.write([items.sent(KEY, b"/a.jpg")])
        for name in (NAME, f"{NAME}-open", f"{NAME}-wal"):
            shutil.copy(output / name, left / name)
    with Journal.reading(left) as journal:
        assert journal.ask(items.item(KEY)) is not None
    with Journal.open(left) as journal:
        assert journal.ask(items.item(KEY)) is not None


def test_a_stand_in_and_the_service_do_not_share_a_folder(journal: Journal) -> None:
    assert _begun(journal, stand_in=True).stand_in
    with pytest.raises(JournalError, match="made by a local stand-in, and this run uses the service; choose another"):
        _begun(journal)
    assert _begun(journal, overwrite=True).since == 2
    with pytest.raises(JournalError, match="made by the service, and this run uses a local stand-in"):
        _begun(journal, stand_in=True)
    assert _begun(journal, overwrite=True).since == 2
    # What the other one made is not done, although both overwrote and neither came to its end.
    assert _begun(journal, stand_in=True, overwrite=True).since == 4


# ---- looking into it


def test_where_a_folder_stands(tmp_path: Path, journal: Journal) -> None:
    keys = {name: Key(name.encode() * 8, 1) for name in ("done", "answered", "failed", "unknown", "sent")}
    others = ("new", "hashed", "unusable", "copy", "twin")
    sources = {name: f"/photos/{name}.jpg".encode() for name in (*keys, *others)}
    begin(journal, *sources.values(), stand_in=True)
    hashes = {name: key.sha256 for name, key in keys.items()}
    hashes |= {"copy": hashes["done"], "twin": hashes["done"], "hashed": b"hash"}
    journal.write([walks.identified(sources[name], 5, 7, sha256) for name, sha256 in hashes.items()])
    journal.write([items.sent(key, sources[name]) for name, key in keys.items()])
    journal.write(
        [
            items.answered(keys["done"], sources["done"], ANSWER),
            names.place(claim(sources["done"], key=keys["done"]), [PurePath("x/done.png")]),
            names.place(claim(sources["twin"], key=keys["done"]), [PurePath("twin.png")]),
            items.answered(keys["answered"], sources["answered"], ANSWER),
            items.failed(keys["failed"], sources["failed"], "refused", "APIError", "id"),
            items.unknown(keys["unknown"], "dropped", "OutcomeUnknownError", None),
            walks.unusable(sources["unusable"], "no photo"),
        ]
    )
    found = views.status(tmp_path)
    assert (found.enhanced, found.answered, found.failed, found.unknown, found.not_attempted) == (3, 1, 2, 1, 3)
    assert (found.spent_usd, found.running, found.ended, found.stand_in) == (0.24, True, None, True)
    by_name = {record.source.stem: record for record in views.records(tmp_path)}
    assert by_name["sent"].state == "not_attempted"
    done = journal.ask(items.item(keys["done"]))
    assert done is not None
    journal.close()
    found = views.status(tmp_path)
    assert (found.unknown, found.not_attempted, found.running) == (2, 2, False)
    by_name = {record.source.stem: record for record in views.records(tmp_path)}
    assert by_name["done"] == PhotoRecord(
        source=Path("/photos/done.jpg"),
        name="done.jpg",
        state="enhanced",
        outputs=(tmp_path / "x" / "done.png",),
        request_id="id",
        cost_usd=0.12,
        at=done.at,
    )
    assert by_name["copy"].outputs == by_name["done"].outputs
    assert by_name["twin"].outputs == (tmp_path / "twin.png",)
    assert {name: (record.state, record.reason) for name, record in by_name.items()} == {
        "done": ("enhanced", None),
        "copy": ("enhanced", None),
        "twin": ("enhanced", None),
        "answered": ("answered", None),
        "failed": ("failed", "refused"),
        "unknown": ("unknown", "dropped"),
        "sent": ("unknown", DEAD_RUN),
        "new": ("not_attempted", None),
        "hashed": ("not_attempted", None),
        "unusable": ("failed", "no photo"),
    }
    assert (by_name["new"].at, by_name["new"].cost_usd) == (None, 0.0)


def test_when_the_last_run_began_and_how_it_ended(tmp_path: Path, journal: Journal) -> None:
    before = time.time()
    begin(journal, A)
    run = begin(journal, A)
    found = views.status(tmp_path)
    assert (found.begun, found.ended, found.message) == (run.begun, None, None)
    journal.write([runs.ended(run, complete=False, message="stopped: why")])
    found = views.status(tmp_path)
    assert found.begun is not None
    assert found.ended is not None
    assert before <= found.begun <= found.ended <= time.time()
    assert found.message == "stopped: why"


def test_a_journal_in_which_nothing_was_run(tmp_path: Path) -> None:
    Journal.open(tmp_path).close()
    found = views.status(tmp_path)
    assert (found.begun, found.ended, found.message, found.enhanced) == (None, None, None, 0)
    assert list(views.records(tmp_path)) == []


def test_other_options_are_other_items(tmp_path: Path, journal: Journal) -> None:
    begin(journal, A)
    journal.write([walks.identified(A, 5, 7, KEY.sha256), items.answered(KEY, A, ANSWER)])
    assert views.status(tmp_path).answered == 1
    _begun(journal, options=2)
    assert (views.status(tmp_path).answered, views.status(tmp_path).not_attempted) == (0, 1)
    assert views.status(tmp_path).spent_usd == 0.12


def test_folders_in_which_a_dead_run_may_have_left_something(journal: Journal) -> None:
    folders = photos.folders_of_unfinished
    one = claim()
    journal.write([names.place(one, [PurePath("sub/a.png")])])
    assert journal.ask(folders) == {b"", b"sub"}
    run = begin(journal)
    assert journal.ask(folders) == {b"", b"sub"}
    journal.write([runs.ended(run, complete=True, message=None)])
    assert journal.ask(folders) == {b""}
    journal.write([names.reserve(Path("/nowhere"), claim(b"/x/deep.jpg"))])
    assert journal.ask(folders) == {b""}
    deep = Claim(
        source=b"/deep.jpg", name=PurePath("one/two/deep.jpg"), key=KEY, extension=".png", count=2, overwrite=False
    )
    journal.write([names.reserve(Path("/nowhere"), deep)])
    assert journal.ask(folders) == {b"", b"one/two"}
