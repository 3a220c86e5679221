"""Items: what a photo's bytes and the options of a request make together, and what became of each."""

from __future__ import annotations

import json
import sqlite3
import time
from typing import NamedTuple

from attrs import field, frozen

from phota_async.journal.database import Entry
from phota_async.records import LINK_HOURS

DEAD_RUN = "the run ended before the answer came"
"""Why an item is unknown that a run left as `sent`."""

NO_LINKS = "paid for, but its image was not written, and the answer held no link to fetch it by"
"""Why an item is unknown whose answer held images where links were asked for, until they are written."""

COLUMNS = "state, source, links, request_id, cost_usd, kind, reason, at, run"


class Key(NamedTuple):
    """What an item goes by: the SHA-256 of the photo's bytes, and the number of its options."""

    sha256: bytes
    options: int


class Item(NamedTuple):
    """What the journal knows of an item. States are drawn in `phota_async.journal`."""

    state: str
    source: bytes
    links: str | None
    request_id: str | None
    cost_usd: float
    kind: str | None
    reason: str | None
    at: float
    run: int | None

    @property
    def download_urls(self) -> tuple[str, ...]:
        """The signed links of an answer."""
        return tuple(json.loads(self.links)) if self.links else ()

    @property
    def links_seemed_dead(self) -> bool:
        """Whether a server did not know its links, although they should live yet."""
        return bool(self.links) and self.kind == "DownloadError" and not self.links_are_old

    @property
    def links_are_old(self) -> bool:
        """Whether its links have had their time."""
        return time.time() - self.at > LINK_HOURS * 3600


def number_of(options: str) -> Entry[int]:
    """Ask for the number that these options go by; new ones get one."""

    def entry(connection: sqlite3.Connection) -> int:
        connection.execute("INSERT INTO options (text) VALUES (?) ON CONFLICT DO NOTHING", [options])
        return int(connection.execute("SELECT id FROM options WHERE text = ?", [options]).fetchone()[0])

    return entry


def item(key: Key) -> Entry[Item | None]:
    """Ask for an item."""

    def entry(connection: sqlite3.Connection) -> Item | None:
        row = connection.execute(f"SELECT {COLUMNS} FROM items WHERE (sha256, options) = (?, ?)", key).fetchone()
        return row and Item(*row)

    return entry


def sent(key: Key, source: bytes) -> Entry[None]:
    """Write that a request for the item begins."""

    def entry(connection: sqlite3.Connection) -> None:
        connection.execute(
            "INSERT INTO items (sha256, options, state, source, cost_usd, at) VALUES (?, ?, 'sent', ?, 0, ?)"
            " ON CONFLICT DO UPDATE SET prior = iif(state = 'sent', prior, state), state = 'sent',"
            " source = excluded.source, at = excluded.at",
            [*key, source, time.time()],
        )

    return entry


def withdrawn(key: Key) -> Entry[None]:
    """Write that the request that began was not charged: the item is again what it was.

    Where that it began could not be written, the item still is what it was.
    """

    def entry(connection: sqlite3.Connection) -> None:
        is_sent = "(sha256, options) = (?, ?) AND state = 'sent'"
        connection.execute(f"DELETE FROM items WHERE {is_sent} AND prior IS NULL", key)
        connection.execute(f"UPDATE items SET state = prior, prior = NULL WHERE {is_sent}", key)

    return entry


@frozen(kw_only=True)
class Answer:
    """What was paid for.

    Attributes:
        links: Signed links.
        request_id: The service's ``X-Request-Id``, or None.
        cost_usd: What it cost.
        run: The run that bought it.
    """

    links: tuple[str, ...] = field(repr=False)
    request_id: str | None
    cost_usd: float
    run: int


def answered(key: Key, source: bytes, answer: Answer) -> Entry[Item]:
    """Write that the item was paid for, and return it. What it cost before stays counted.

    Without a link there is nothing to fetch: until its images are written it is lost.
    """
    state, kind, reason = ("answered", None, None) if answer.links else ("unknown", "DownloadError", NO_LINKS)

    def entry(connection: sqlite3.Connection) -> Item:
        connection.execute(
            "INSERT INTO items (sha256, options, state, source, links, request_id, cost_usd, kind, reason, at, run)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET prior = NULL, state = excluded.state,"
            " source = excluded.source, links = excluded.links, request_id = excluded.request_id,"
            " cost_usd = cost_usd + excluded.cost_usd, kind = excluded.kind, reason = excluded.reason,"
            " at = excluded.at, run = excluded.run",
            [
                *(*key, state, source, json.dumps(answer.links) if answer.links else None, answer.request_id),
                *(answer.cost_usd, kind, reason, time.time(), answer.run),
            ],
        )
        # What was put in place before is of an earlier purchase.
        connection.execute("UPDATE files SET written = 0 WHERE (sha256, options) = (?, ?)", key)
        written = item(key)(connection)
        assert written is not None  # noqa: S101  (it was written just now)
        return written

    return entry


def any_answered(connection: sqlite3.Connection) -> bool:
    """Tell whether something is paid for and not fetched."""
    return connection.execute("SELECT 1 FROM items WHERE state = 'answered' LIMIT 1").fetchone() is not None


def failed(key: Key, source: bytes, reason: str, kind: str, request_id: str | None) -> Entry[None]:
    """Write that the item failed and was not charged. One that was done, or is not known of, stays that."""

    def entry(connection: sqlite3.Connection) -> None:
        connection.execute("UPDATE items SET state = prior WHERE (sha256, options) = (?, ?) AND prior IS NOT NULL", key)
        connection.execute("DELETE FROM items WHERE (sha256, options) = (?, ?) AND state = 'sent'", key)
        connection.execute(
            "INSERT INTO items (sha256, options, state, source, cost_usd, kind, reason, request_id, at)"
            " VALUES (?, ?, 'failed', ?, 0, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET prior = NULL, kind = excluded.kind,"
            " reason = excluded.reason, request_id = excluded.request_id WHERE state = 'failed'",
            [*key, source, kind, reason, _bindable(request_id), time.time()],
        )

    return entry


def unknown(key: Key, reason: str, kind: str, request_id: str | None) -> Entry[None]:
    """Write that the item's request may have been charged."""
    # Links of an earlier purchase are not what this request is about.
    more = ", request_id = ?, links = NULL, at = ?"
    return _doubtful(key, reason, kind, more, [_bindable(request_id), time.time()])


def lost(key: Key, reason: str) -> Entry[None]:
    """Write that the item was paid for and that its links have expired; they, their time and the price stay."""
    return _doubtful(key, reason, "DownloadError", "", [])


def _bindable(text: str | None) -> str | None:
    # JSON can spell halves of characters, which a database does not take.
    return text and text.encode(errors="replace").decode()


def _doubtful(key: Key, reason: str, kind: str, more: str, values: list[str | float | None]) -> Entry[None]:
    def entry(connection: sqlite3.Connection) -> None:
        connection.execute(
            f"UPDATE items SET state = 'unknown', prior = NULL, reason = ?, kind = ?{more}"
            " WHERE (sha256, options) = (?, ?)",
            [reason, kind, *values, *key],
        )

    return entry


def left_by_dead_runs() -> Entry[None]:
    """Write that what was `sent` by a run that has ended is not known of."""

    def entry(connection: sqlite3.Connection) -> None:
        connection.execute(
            "UPDATE items SET state = 'unknown', prior = NULL, kind = 'OutcomeUnknownError', reason = ?, links = NULL"
            " WHERE state = 'sent'",
            [DEAD_RUN],
        )

    return entry
