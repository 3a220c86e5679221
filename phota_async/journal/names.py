"""Names of images: given to one source each, kept from run to run, and never those of files that stand there."""

from __future__ import annotations

import os
import sqlite3
import stat
import time
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePath

from attrs import frozen

from phota_async.journal.database import Entry
from phota_async.journal.items import Key
from phota_async.naming import folded, numbered, stems


@frozen(kw_only=True)
class Claim:
    """Who asks for names.

    Attributes:
        source: The photo's path.
        name: Its path below the folder that was asked for.
        key: What its bytes and options make.
        extension: That of the images, with its dot.
        count: How many images are asked for.
        overwrite: Whether files that stand there may be replaced.
    """

    source: bytes
    name: PurePath
    key: Key
    extension: str
    count: int
    overwrite: bool


@frozen
class Reserved:
    """The names that a claim has got, relative to the output folder."""

    names: list[PurePath]


@frozen
class Occupied:
    """A file that the journal does not know stands where an image would go."""

    name: PurePath


def reserve(folder: Path, claim: Claim, *, paid: bool = False) -> Entry[Reserved | Occupied]:
    """Ask for names, and keep others from getting them; what is ``paid`` for gets others where something stands."""

    def entry(connection: sqlite3.Connection) -> Reserved | Occupied:
        kept = _kept(connection, claim)
        if kept and (paid or len(kept) == claim.count):
            return Reserved(kept)
        for stem in stems(claim.name):
            names = numbered(stem, claim.extension, claim.count)
            if _given_away(connection, claim, names):
                continue
            there = [name for name in names if _in_the_way(folder / name, claim)]
            if there and paid:
                continue
            if there:
                return Occupied(there[0])
            _give(connection, claim, names, written=False)
            return Reserved(names)
        raise AssertionError  # pragma: no cover  (numbers do not end)

    return entry


def place(claim: Claim, names: Sequence[PurePath], *, done: bool = True) -> Entry[None]:
    """Write that these are the files of a source, in order, and with ``done`` that its item is done."""

    def entry(connection: sqlite3.Connection) -> None:
        connection.execute(
            "DELETE FROM files WHERE (source, options, sha256) = (?, ?, ?)",
            (claim.source, claim.key.options, claim.key.sha256),
        )
        _give(connection, claim, names, written=True)
        if not done:
            return
        connection.execute(
            "UPDATE items SET state = 'done', prior = NULL, kind = NULL, reason = NULL, at = ?, source = ?"
            " WHERE (sha256, options) = (?, ?) AND state != 'done'",
            [time.time(), claim.source, *claim.key],
        )

    return entry


def free_name(folder: Path, claim: Claim, taken: PurePath) -> Entry[PurePath]:
    """Ask for another name than ``taken``, where something has turned up."""

    def entry(connection: sqlite3.Connection) -> PurePath:
        candidates = stems(taken)
        next(candidates)
        name = next(
            name
            for stem in candidates
            if not _given_away(connection, claim, [name := stem.with_name(stem.name + taken.suffix)])
            and not os.path.lexists(folder / name)
        )
        _give(connection, claim, [name], written=False)
        return name

    return entry


def _in_the_way(path: Path, claim: Claim) -> bool:
    try:
        mode = path.lstat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:  # nor could an image be put there
        return True
    # No file ever replaces a folder.
    return not claim.overwrite or stat.S_ISDIR(mode)


def _kept(connection: sqlite3.Connection, claim: Claim) -> list[PurePath]:
    rows = connection.execute(
        "SELECT name FROM files WHERE (source, options, sha256) = (?, ?, ?) ORDER BY number",
        (claim.source, claim.key.options, claim.key.sha256),
    )
    return [PurePath(os.fsdecode(name)) for (name,) in rows]


def _given_away(connection: sqlite3.Connection, claim: Claim, names: Iterable[PurePath]) -> bool:
    """Tell whether one of ``names`` is another's. With overwrite, what the same source had before is not."""
    owners = (
        connection.execute("SELECT source FROM files WHERE folded = ?", [folded(name)]).fetchone() for name in names
    )
    return any(owner and not (claim.overwrite and owner[0] == claim.source) for owner in owners)


def _give(connection: sqlite3.Connection, claim: Claim, names: Sequence[PurePath], *, written: bool) -> None:
    connection.executemany(
        "INSERT OR REPLACE INTO files (folded, name, source, sha256, options, number, written)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        [
            (folded(name), os.fsencode(name.as_posix()), claim.source, *claim.key, number, written)
            for number, name in enumerate(names)
        ],
    )
