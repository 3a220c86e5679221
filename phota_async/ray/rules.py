"""What to do with a photo, by what the store knows of it; and what is said about it. Plain values in and out."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from enum import Enum, auto

from attrs import frozen

from phota_async.models import EnhanceOptions
from phota_async.ray.records import Claim, Record
from phota_async.ray.store import TO_WRITE
from phota_async.records import LINK_HOURS

LOST = "paid for, and its images are missing from the store or damaged; retry_unknown buys it again"
EXPIRED = f"paid for more than {LINK_HOURS} hours ago, so its links have expired; retry_unknown buys it again"
NOT_RECORDED = "paid for, and not written to the store ({reason}): keep what this row holds"
NOT_SETTLED = "{error}; and that is not written to the store ({reason})"
SILENT = "no answer was recorded within {patience:g} s of waiting; its worker may have been killed"
NOT_SENT = "not sent: the store or the call failed while it was being claimed"
DOUBT = "an earlier request may have been charged"
NO_BYTES = "the row holds no bytes of a photo, but a value of type {kind}"

# How long another worker's answer is waited for by default: as long as its worker may need to write it down.
_LIMIT = 600.0
"""Seconds after which the service gives up (release notes v0.1.1)."""

_MARGIN = 60.0
"""Seconds between the claim and the request, and between the answer and its writing."""


class Action(Enum):
    """What a photo is due."""

    BUY = auto()
    WAIT = auto()
    LEAVE = auto()


@frozen
class View:
    """What the store knows of a photo.

    Attributes:
        claims: Its claims, the newest last. One that was given up, and not settled since, is unknown.
        records: Its records, the newest last.
    """

    claims: tuple[Claim, ...] = ()
    records: tuple[Record, ...] = ()

    @property
    def number(self) -> int:
        """The newest request's; 0 if there was none."""
        return max((*(claim.number for claim in self.claims), *self.recorded), default=0)

    @property
    def recorded(self) -> set[int]:
        """The numbers of the requests that are paid for."""
        return {record.number for record in self.records}

    @property
    def latest(self) -> Claim | None:
        """The newest claim, if no newer request is paid for, nor itself."""
        newest = self.claims[-1] if self.claims else None
        return newest if newest is not None and newest.number > max(self.recorded, default=0) else None

    @property
    def doubts(self) -> int:
        """How many requests were charged, or may have been, whose images cannot be had from the store.

        To be asked only when no record is whole. An older claim that still is as sent was overtaken.
        """
        in_doubt = {
            claim.number
            for claim in self.claims
            if claim.state == "unknown" or (claim.state == "sent" and claim.number < self.number)
        }
        return len(in_doubt | self.recorded)

    @property
    def cost_usd(self) -> float:
        """What all that is paid for cost."""
        return round(sum((record.cost_usd for record in self.records), 0.0), 6)


def action(view: View, retry_unknown: int) -> Action:
    """Return what is due to a photo whose images cannot be had from the store.

    Args:
        view: What the store knows of it.
        retry_unknown: How often it is bought again, at most, though it may have been charged.
    """
    if view.latest is not None and view.latest.state == "sent":
        return Action.WAIT
    return Action.BUY if view.doubts <= retry_unknown else Action.LEAVE


def why_left(view: View) -> str:
    """Say why a photo in doubt is left."""
    latest = view.latest
    if latest is not None:
        return latest.reason if latest.state == "unknown" else f"{DOUBT}; the last one: {latest.reason}"
    record = view.records[-1]
    return LOST if record.images or not record.links else EXPIRED


def keys(options: EnhanceOptions, *, stand_in: bool) -> Callable[[str], str]:
    """Return what tells by its SHA-256 what a photo goes by, which is also its folder in the store.

    That is its bytes, and what is asked for; the latter is worked out once. What a server made in the service's stead
    is never taken for the service's.
    """
    digest = hashlib.sha256(options.identity().encode()).hexdigest()[:16]
    above = "stand-in/" if stand_in else ""
    return lambda sha256: f"{above}{sha256[:2]}/{sha256}-{digest}"


def links_expired(record: Record, now: float) -> bool:
    """Tell whether a record's links have had their time."""
    return now - record.at > LINK_HOURS * 3600


def patience(attempt: float | None) -> float:
    """Return how long another worker's answer is waited for, where one request may take ``attempt`` seconds."""
    return (attempt or _LIMIT) + TO_WRITE + _MARGIN


def times(retry_unknown: object) -> int:
    """Return how often a photo may be bought again, as it was asked for.

    Raises:
        ValueError: It is neither a bool nor a number of times.
    """
    if not isinstance(retry_unknown, int) or retry_unknown < 0:
        raise ValueError(f"retry_unknown must be True, False or a number of times, not {retry_unknown!r}")
    return int(retry_unknown)
