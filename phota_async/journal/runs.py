"""Runs: when each began and ended, and with what."""

from __future__ import annotations

import sqlite3
import time
from typing import NamedTuple

from phota_async.errors import JournalError
from phota_async.journal.database import Entry

_OTHER_SERVICE = (
    "what is in the output folder was made by {}, and this run uses {}; choose another output folder"
    " (overwrite enhances everything anew)"
)


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
        since = (number if other else _since(connection, options) or number) if overwrite else None
        run = Run(number, options, since, time.time(), stand_in=stand_in)
        connection.execute("INSERT INTO runs VALUES (?, ?, ?, ?, ?, ?, ?, ?)", run)
        return run

    return entry


def _since(connection: sqlite3.Connection, options: int) -> int | None:
    """Return since when an overwriting run of these options has not come to its end, or None."""
    row = connection.execute(
        "SELECT since, complete FROM runs WHERE since NOT NULL AND options = ? ORDER BY id DESC LIMIT 1", [options]
    ).fetchone()
    return row[0] if row and not row[1] else None


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
