"""Photos of the last walk with what the journal knows of each: in pages, so that any number takes little memory."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from typing import NamedTuple

from phota_async.journal.database import Entry, Journal
from phota_async.journal.items import COLUMNS, Item, Key
from phota_async.journal.runs import Run, last_run

_PAGE = 1000
_ITEM = ", ".join(f"i.{column}" for column in COLUMNS.split(", "))


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


class Left(NamedTuple):
    """What is paid for and waits to be fetched, and is no photo of a run."""

    row: Row
    key: Key
    options_text: str


def left_over(run: Run) -> Entry[list[Left]]:
    """Ask for what is paid for, waits to be fetched, and is no photo of ``run``.

    The photo was not found any more, has changed since, or was enhanced with other options.
    """
    return lambda connection: [
        Left(
            Row(item[1], name or os.path.basename(item[1]), 0, 0, sha256, None, Item(*item), []),  # noqa: PTH119  (bytes)
            Key(sha256, options),
            text,
        )
        for sha256, options, name, text, *item in connection.execute(
            f"SELECT i.sha256, i.options, p.name, o.text, {_ITEM} FROM items i JOIN options o ON o.id = i.options"
            " LEFT JOIN photos p ON p.source = i.source WHERE i.state = 'answered' AND NOT (i.options = ? AND EXISTS"
            " (SELECT 1 FROM photos q WHERE q.sha256 = i.sha256 AND q.batch NOT NULL))",
            [run.options],
        )
    ]


def folders_of_unfinished(connection: sqlite3.Connection) -> set[bytes]:
    """Return the folders, relative, in which a dead run may have left a file without its name."""
    # Where an image was being put in place anew, its name is that of one that was written.
    died = last_run(connection).ended is None
    rows = connection.execute("SELECT name FROM files WHERE ? OR NOT written", [died])
    return {b"", *(name.rpartition(b"/")[0] for (name,) in rows)}
