"""What a walk finds, written down; a walk that finds what the last one found writes nothing."""

from __future__ import annotations

import hashlib
import itertools
import marshal
import os
import sqlite3
from collections.abc import Iterable

from phota_async.images.walk import Found
from phota_async.journal.database import Entry, Journal

_AT_ONCE = 1000


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
    if len(known) > count:
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


def troubled(source: bytes, reason: str) -> Entry[None]:
    """Write what kept a photo from being sent, which is no fault of its own."""

    def entry(connection: sqlite3.Connection) -> None:
        connection.execute("UPDATE photos SET reason = ? WHERE source = ?", [reason, source])

    return entry


def is_there(source: bytes) -> Entry[bool]:
    """Ask whether the last walk has found a photo there."""
    return lambda connection: bool(
        _count(connection, "SELECT count(*) FROM photos WHERE source = ? AND batch NOT NULL", source)
    )


def _count(connection: sqlite3.Connection, statement: str, *values: object) -> int:
    return int(connection.execute(statement, values).fetchone()[0])
