"""Photos as a run finds them, and what the journal knows of each: in pages, so that any number takes little memory."""

from __future__ import annotations

import hashlib
import itertools
import marshal
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from phota_async.errors import JournalError
from phota_async.images.walk import Found
from phota_async.journal.database import Entry, Journal, is_running
from phota_async.journal.items import COLUMNS, DEAD_RUN, Item, Key
from phota_async.records import FolderStatus, PhotoRecord, State

_AT_ONCE = 1000
_PAGE = 1000
_ITEM = ", ".join(f"i.{column}" for column in COLUMNS.split(", "))
_OTHER_SERVICE = (
    "what is in the output folder was made by {}, and this run uses {}; choose another output folder"
    " (overwrite enhances everything anew)"
)
_STATES: dict[str | None, State] = {
    None: "not_attempted",
    "done": "enhanced",
    "answered": "answered",
    "failed": "failed",
    "unknown": "unknown",
    "sent": "unknown",
}


class Row(NamedTuple):
    """A photo of a run, what its item is (if its bytes are known), and the images that it has."""

    source: bytes
    name: bytes
    size: int
    modified_ns: int
    sha256: bytes | None
    reason: str | None
    item: Item | None
    files: list[bytes]


class Run(NamedTuple):
    """A run as the journal keeps it. `since` is set with overwrite: what that run and later ones bought is done."""

    number: int = 0
    options: int = 0
    since: int | None = None
    begun: float | None = None
    ended: float | None = None
    complete: int = 0
    message: str | None = None
    stand_in: int = 0


def begun(options: int, *, overwrite: bool, stand_in: bool) -> Entry[Run]:
    """Write that a run begins. An overwriting run that was broken off is gone on with, not begun anew.

    Args:
        options: The number of its options.
        overwrite: Whether what is done is enhanced anew.
        stand_in: Whether a server on this machine stands in for the service.

    Raises by the entry:
        JournalError: The other one of the two made what is in the folder.
    """

    def entry(connection: sqlite3.Connection) -> Run:
        last = last_run(connection)
        number = last.number + 1
        other = last.number > 0 and bool(last.stand_in) != stand_in
        if other and not overwrite:
            raise JournalError(_OTHER_SERVICE.format(*("the service", "a local stand-in")[:: 1 if stand_in else -1]))
        goes_on = last.since is not None and last.options == options and not last.complete and not other
        since = (last.since if goes_on else number) if overwrite else None
        run = Run(number, options, since, time.time(), stand_in=stand_in)
        connection.execute("INSERT INTO runs VALUES (?, ?, ?, ?, ?, ?, ?, ?)", run)
        return run

    return entry


def ended(run: Run, *, complete: bool, message: str | None) -> Entry[None]:
    """Write that it has ended, and whether every photo had its turn."""

    def entry(connection: sqlite3.Connection) -> None:
        connection.execute(
            "UPDATE runs SET ended = ?, complete = ?, message = ? WHERE id = ?",
            [time.time(), complete, message, run.number],
        )

    return entry


def last_run(connection: sqlite3.Connection) -> Run:
    """Return the last run; one of number 0 if there was none."""
    row = connection.execute("SELECT * FROM runs ORDER BY id DESC LIMIT 1").fetchone()
    return Run(*row) if row else Run()


def found(journal: Journal, photos: Iterable[Found]) -> int:
    """Write what a walk finds, and return how many photos there are. A photo that has changed is to be hashed anew.

    A photo of the walk has the number of its batch, others have none. As long as a walk finds what the last one found,
    which the digests of its batches tell, nothing is written: a large folder that has not changed costs little.
    """
    known, count = journal.write([_digests])[0], 0
    remaining, same = iter(photos), True
    while batch := list(itertools.islice(remaining, _AT_ONCE)):
        digest = hashlib.sha256(marshal.dumps([*map(tuple, batch)], 2)).digest()
        if same and known.get(count) != digest:
            same = False
            journal.write([_forgotten(count)])
        if not same:
            journal.write([_batch(count, digest, batch)])
        count += 1
    if same and len(known) > count:
        journal.write([_forgotten(count)])
    return journal.ask(lambda connection: _count(connection, "SELECT count(*) FROM photos WHERE batch NOT NULL"))


def _digests(connection: sqlite3.Connection) -> dict[int, bytes | None]:
    """Return what the last walk found, and forget what was wrong with it: it is looked at again."""
    connection.execute("UPDATE photos SET reason = NULL WHERE reason NOT NULL")
    return dict(connection.execute("SELECT number, digest FROM batches"))


def _forgotten(first: int) -> Entry[None]:
    """Write that no photo has been found from some batch on."""

    def entry(connection: sqlite3.Connection) -> None:
        connection.execute("UPDATE photos SET batch = NULL WHERE batch >= ?", [first])
        connection.execute("DELETE FROM batches WHERE number >= ?", [first])

    return entry


def _batch(number: int, digest: bytes, batch: Iterable[Found]) -> Entry[None]:
    """Write one batch. A photo that is found twice stays in the batch where it was found first."""

    def entry(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO batches VALUES (?, ?)", [number, digest])
        connection.executemany(
            "INSERT INTO photos (source, name, size, modified_ns, batch) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE"
            " SET sha256 = iif(size = excluded.size AND modified_ns = excluded.modified_ns, sha256, NULL),"
            " name = excluded.name, size = excluded.size, modified_ns = excluded.modified_ns,"
            " batch = coalesce(batch, excluded.batch)",
            ((os.fsencode(path), os.fsencode(name), *stamp, number) for path, name, *stamp in batch),
        )

    return entry


def identified(source: bytes, size: int, modified_ns: int, sha256: bytes) -> Entry[None]:
    """Write what a photo's bytes are."""

    def entry(connection: sqlite3.Connection) -> None:
        # One that has changed since the walk is no longer what its batch's digest tells.
        connection.execute(
            "UPDATE batches SET digest = NULL WHERE number ="
            " (SELECT batch FROM photos WHERE source = ? AND (size, modified_ns) != (?, ?))",
            [source, size, modified_ns],
        )
        connection.execute(
            "UPDATE photos SET size = ?, modified_ns = ?, sha256 = ?, reason = NULL WHERE source = ?",
            [size, modified_ns, sha256, source],
        )

    return entry


def unusable(source: bytes, reason: str) -> Entry[None]:
    """Write why a photo could not be used; its bytes are looked at again by the next run."""

    def entry(connection: sqlite3.Connection) -> None:
        connection.execute("UPDATE photos SET sha256 = NULL, reason = ? WHERE source = ?", [reason, source])

    return entry


def is_there(source: bytes) -> Entry[bool]:
    """Ask whether the last walk has found a photo there."""
    return lambda connection: bool(
        _count(connection, "SELECT count(*) FROM photos WHERE source = ? AND batch NOT NULL", source)
    )


def files_of(source: bytes, key: Key) -> Entry[list[bytes]]:
    """Ask for the images of a source that were put in place, in order."""
    return lambda connection: [
        name
        for (name,) in connection.execute(
            "SELECT name FROM files WHERE (source, options, sha256) = (?, ?, ?) AND written ORDER BY number",
            (source, key.options, key.sha256),
        )
    ]


def holders(key: Key) -> Entry[list[bytes]]:
    """Ask for the sources that have images of an item."""
    return lambda connection: [
        source
        for (source,) in connection.execute(
            "SELECT DISTINCT source FROM files WHERE (sha256, options) = (?, ?) AND written", key
        )
    ]


def pages(journal: Journal, run: Run, *, answered: bool = False) -> Iterator[list[Row]]:
    """Give the photos of a run in the order of their paths; ``answered``: only those that wait to be fetched."""
    after = b""
    while page := journal.ask(page_after(after, run, answered=answered)):
        yield page
        after = page[-1].source


def page_after(after: bytes, run: Run, *, answered: bool = False) -> Entry[list[Row]]:
    """Ask for the page of `pages` that begins after a path."""
    return lambda connection: _page(connection, run, after, answered=answered)


def bought_after(after: bytes, run: Run) -> Entry[dict[bytes, list[bytes]]]:
    """Ask for the photos of the same page, each with its images if it is done, and without any if it is not.

    It takes a fraction of the time of a page.
    """

    def entry(connection: sqlite3.Connection) -> dict[bytes, list[bytes]]:
        photos: dict[bytes, list[bytes]] = {}
        for source, name in connection.execute(
            "SELECT p.source, f.name FROM"
            " (SELECT source, sha256 FROM photos WHERE source > ? AND batch NOT NULL ORDER BY source LIMIT ?) p"
            " LEFT JOIN items i ON (i.sha256, i.options, i.state) = (p.sha256, ?, 'done') AND coalesce(i.run, 0) >= ?"
            " LEFT JOIN files f ON (f.source, f.options, f.sha256) = (p.source, i.options, i.sha256) AND f.written"
            " ORDER BY p.source, f.number",
            (after, _PAGE, run.options, run.since or 0),
        ):
            files = photos.setdefault(source, [])
            if name is not None:
                files.append(name)
        return photos

    return entry


def _page(connection: sqlite3.Connection, run: Run, after: bytes, *, answered: bool) -> list[Row]:
    photos = connection.execute(
        f"SELECT p.source, p.name, p.size, p.modified_ns, p.sha256, p.reason, {_ITEM} FROM photos p LEFT JOIN items i"
        " ON i.sha256 = p.sha256 AND i.options = ? WHERE p.source > ? AND p.batch NOT NULL"
        " AND (NOT ? OR i.state = 'answered') ORDER BY p.source LIMIT ?",
        (run.options, after, answered, _PAGE),
    ).fetchall()
    if not photos:
        return []
    files: dict[tuple[bytes, bytes], list[bytes]] = {}
    for source, sha256, name in connection.execute(
        "SELECT source, sha256, name FROM files WHERE source BETWEEN ? AND ? AND options = ? AND written"
        " ORDER BY source, options, sha256, number",
        (photos[0][0], photos[-1][0], run.options),
    ):
        files.setdefault((source, sha256), []).append(name)
    return [
        Row(
            one[0],
            one[1],
            one[2],
            one[3],
            one[4],
            one[5],
            Item(*one[6:]) if one[6] else None,
            files.get((one[0], one[4]), []),
        )
        for one in photos
    ]


def folders_of_unfinished(connection: sqlite3.Connection) -> set[bytes]:
    """Return the folders, relative, in which a dead run may have left a file without its name."""
    # Where an image was being put in place anew, its name is that of one that was written.
    died = last_run(connection).ended is None
    rows = connection.execute("SELECT name FROM files WHERE ? OR NOT written", [died])
    return {b"", *(name.rpartition(b"/")[0] for (name,) in rows)}


def status(folder: Path) -> FolderStatus:
    """Return where an output folder stands."""
    with Journal.reading(folder) as journal:
        return journal.ask(lambda connection: _status(connection, running=is_running(folder)))


def _status(connection: sqlite3.Connection, *, running: bool) -> FolderStatus:
    run = last_run(connection)
    counts: dict[State, int] = {}
    for state, reason, count in connection.execute(
        "SELECT i.state, p.reason IS NOT NULL, count(*) FROM photos p LEFT JOIN items i"
        " ON i.sha256 = p.sha256 AND i.options = ? WHERE p.batch NOT NULL GROUP BY 1, 2",
        (run.options,),
    ):
        known = _known(state, unusable=bool(reason), running=running)
        counts[known] = counts.get(known, 0) + count
    spent = connection.execute("SELECT coalesce(sum(cost_usd), 0) FROM items").fetchone()[0]
    return FolderStatus(
        **counts,
        spent_usd=round(spent, 6),
        running=running,
        begun=run.begun,
        ended=run.ended,
        message=run.message,
        stand_in=bool(run.stand_in),
    )


def _known(state: str | None, *, unusable: bool, running: bool) -> State:
    if unusable and state is None:
        return "failed"
    if state == "sent" and running:
        return "not_attempted"
    return _STATES[state]


def records(folder: Path) -> Iterator[PhotoRecord]:
    """Give what the journal of an output folder knows of each photo of its last run."""
    with Journal.reading(folder) as journal:
        running = is_running(folder)
        run = journal.ask(last_run)
        for page in pages(journal, run):
            for row in page:
                if row.item and not row.files and row.sha256:  # bought under another name
                    key = Key(row.sha256, run.options)
                    row = row._replace(files=journal.ask(files_of(row.item.source, key)))  # noqa: PLW2901
                yield _record(folder, row, running=running)


def _record(folder: Path, row: Row, *, running: bool) -> PhotoRecord:
    item = row.item
    state = _known(item.state if item else None, unusable=row.reason is not None, running=running)
    reason = item.reason if item else row.reason
    if state == "unknown" and item and item.state == "sent":
        reason = DEAD_RUN
    return PhotoRecord(
        source=Path(os.fsdecode(row.source)),
        name=os.fsdecode(row.name),
        state=state,
        outputs=tuple(folder / os.fsdecode(name) for name in row.files),
        request_id=item.request_id if item else None,
        cost_usd=item.cost_usd if item else 0.0,
        reason=reason,
        at=item.at if item else None,
    )


def _count(connection: sqlite3.Connection, statement: str, *values: object) -> int:
    return int(connection.execute(statement, values).fetchone()[0])
