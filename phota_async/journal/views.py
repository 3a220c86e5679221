"""What is told of an output folder from outside, also while a run writes to it."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from phota_async.journal.database import Journal, is_running
from phota_async.journal.items import DEAD_RUN, Key
from phota_async.journal.photos import Row, files_of, pages
from phota_async.journal.runs import last_run
from phota_async.records import FolderStatus, PhotoRecord, State

_STATES: dict[str | None, State] = {
    None: "not_attempted",
    "done": "enhanced",
    "answered": "answered",
    "failed": "failed",
    "unknown": "unknown",
    "sent": "unknown",
}


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
