"""What to do with a photo, by what the journal knows of it; and what is said about it. Plain values in and out."""

from __future__ import annotations

from enum import Enum, auto

from attrs import frozen

from phota_async.journal import Item
from phota_async.records import StopCause


class Action(Enum):
    """What a photo is due."""

    SEND = auto()
    FETCH = auto()
    SKIP = auto()
    LEAVE_FAILED = auto()
    LEAVE_UNKNOWN = auto()


@frozen(kw_only=True)
class Again:
    """What is done again.

    Attributes:
        failed: Whether what failed is tried again.
        unknown: Whether what may have been charged is bought again.
        since: With overwrite, the run from which on what was bought stays; else None.
    """

    failed: bool = False
    unknown: bool = False
    since: int | None = None


def action(item: Item | None, again: Again, *, in_place: bool) -> Action:
    """Return what is due.

    Args:
        item: What the journal knows.
        again: What is done again.
        in_place: Whether all its images are where they were put.
    """
    if item is None:
        return Action.SEND
    if item.state == "done":
        if again.since is not None and (item.run or 0) < again.since:
            return Action.SEND
        return Action.SKIP if in_place else Action.FETCH
    if item.state == "failed":
        return Action.SEND if again.failed else Action.LEAVE_FAILED
    if item.state == "unknown" and not (again.unknown or item.links_seemed_dead):
        return Action.LEAVE_UNKNOWN
    # Links that were once found dead are tried once more: it costs nothing.
    return Action.FETCH if item.links else Action.SEND


OCCUPIED = "{name} stands where its image would go, and this folder's journal does not know it (overwrite replaces it)"
BOUGHT_BEFORE = "the same photo was bought as {name}"
LINKS_EXPIRED = "paid for, but its links expired before it was fetched"
REMOVED = "paid for, but its image was removed from the output folder and its links have expired"
RESCUED = "{reason}; what came intact is kept: {paths}"
NOT_FETCHED = "paid for, but not fetched yet (the next run fetches it for nothing): {reason}"
NOT_WRITTEN = "paid for, but it could not be written (the next run fetches it for nothing): {reason}"
NOT_KEPT = "paid for, but its image could not be written, and the answer held no link to fetch it by: {reason}"
NOT_RECORDED = "paid for, but the journal could not be written; its links are in download_urls: {reason}"

_AGAIN = "run the same command again: what is done is not bought again"
_ADVICE: dict[StopCause, str] = {
    "account": f"Nothing more was sent. When the account is in order, {_AGAIN}",
    "disk": f"Nothing more was sent. Make room, make the folder writable, or put its journal back, and {_AGAIN}",
    "budget": f"Nothing more was sent. To go on, {_AGAIN}",
    "caller": f"Nothing more was sent, what was in flight has landed. To go on, {_AGAIN}",
}


def stop_message(cause: StopCause, why: str) -> str:
    """Return what is said when a run stops: why, and what to do."""
    return f"stopped: {why}. {_ADVICE[cause]}"
