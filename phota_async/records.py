"""What is known of a folder run from outside it: prices, one photo's record, where a folder stands."""

from __future__ import annotations

import math
import os
from array import array
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias, overload

from attrs import Attribute, field, frozen

from phota_async.models import EnhanceResult

State: TypeAlias = Literal["enhanced", "answered", "failed", "unknown", "not_attempted"]
"""Of one photo: ``answered`` is paid for, with links that wait to be fetched; ``unknown`` may have been charged."""

LINK_HOURS = 24
"""How long a signed link lives (release notes v0.2.0)."""


def _amount(_: object, attribute: Attribute[Any], value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise ValueError(f"{attribute.name} must be a number of US dollars, 0 or more, not {value!r}")


@frozen
class Price:
    """What an output image costs, in US dollars. The defaults are documented (release notes v0.6.0).

    Attributes:
        image: One output image.
        with_subject: The same, when a known subject was recognised.
    """

    image: float = field(default=0.12, validator=_amount)
    with_subject: float = field(default=0.15, validator=_amount)


def charged_for(result: EnhanceResult) -> tuple[int, bool]:
    """Return how many images an answer costs, and whether a known subject was recognised."""
    return len(result.images) or len(result.download_urls), any(result.known_subjects.values())


def cost_usd(result: EnhanceResult, price: Price) -> float:
    """Return what an answer costs."""
    images, subject = charged_for(result)
    return round(images * (price.with_subject if subject else price.image), 6)


def price_only(_: object, attribute: Attribute[Price], value: object) -> None:
    """Validate a field: a bare number of dollars is no price, and would be found out when the bill is made.

    Raises:
        ValueError: It is none.
    """
    if not isinstance(value, Price):
        raise ValueError(f"{attribute.name} must be a Price, not {value!r}")


@frozen(kw_only=True)
class PhotoRecord:
    """What a folder's journal knows of one photo.

    Attributes:
        source: Where the photo is, absolute.
        name: Its path below the folder that was enhanced, or its bare name.
        state: What became of it.
        outputs: The files of its images that were written.
        request_id: The service's ``X-Request-Id``, or None.
        cost_usd: What its answer cost.
        reason: Why it is not enhanced, in one line, or None.
        at: When its state was written, in seconds since 1970, or None.
    """

    source: Path
    name: str
    state: State
    outputs: tuple[Path, ...] = ()
    request_id: str | None = None
    cost_usd: float = 0.0
    reason: str | None = None
    at: float | None = None


@frozen(kw_only=True)
class FolderStatus:
    """Where an output folder stands, by its journal: the photos of its last run, and all that was ever paid.

    Attributes:
        enhanced: Photos whose images are in place.
        answered: Photos that are paid for and wait to be fetched; running again fetches them, for nothing.
        failed: Photos that failed and were not charged.
        unknown: Photos that may have been charged, or were and are lost.
        not_attempted: Photos whose turn has not come.
        spent_usd: What the answered images cost, in all runs together.
        running: Whether a run is writing to the folder now.
        begun: When the last run began, in seconds since 1970, or None.
        ended: When it ended, or None while it runs or if it was killed.
        message: What stopped the last run and what to do about it, or None.
        stand_in: Whether a server on this machine stood in for the service, so that nothing was really charged.
    """

    enhanced: int = 0
    answered: int = 0
    failed: int = 0
    unknown: int = 0
    not_attempted: int = 0
    spent_usd: float = 0.0
    running: bool = False
    begun: float | None = None
    ended: float | None = None
    message: str | None = None
    stand_in: bool = False


EventKind: TypeAlias = Literal[
    "walked", "sent", "enhanced", "skipped", "failed", "unknown", "not_attempted", "stopped", "ended"
]
StopCause: TypeAlias = Literal["account", "disk", "budget", "caller"]


@frozen(kw_only=True)
class FolderFailure:
    """One photo that is not enhanced, and why.

    Attributes:
        source: Where the photo is.
        state: ``failed`` (not charged, or paid and still to be fetched) or ``unknown`` (may have been charged).
        reason: Why, in one line, with what to do where something can be done.
        kind: The name of the error's class.
        error: The error, or None when it was met by an earlier run.
        request_id: The service's ``X-Request-Id``, or None.
        download_urls: Signed links that are paid for and could not be written to the journal; empty otherwise.
    """

    source: Path
    state: Literal["failed", "unknown"]
    reason: str
    kind: str
    error: Exception | None = field(default=None, repr=False)
    request_id: str | None = None
    download_urls: tuple[str, ...] = field(default=(), repr=lambda urls: f"<{len(urls)} signed>")


@frozen(kw_only=True)
class FolderProgress:
    """Where a folder run stands at one moment.

    Attributes:
        total: Photos of the run.
        enhanced: Those whose images were put in place by this run.
        skipped: Those with nothing left to do.
        failed: Those that failed.
        unknown: Those that may have been charged, or were and are lost.
        in_flight: Requests under way.
        width: How many may be under way just now.
        spent_usd: What this run's answers cost.
        elapsed: Seconds since it began.
    """

    total: int = 0
    enhanced: int = 0
    skipped: int = 0
    failed: int = 0
    unknown: int = 0
    in_flight: int = 0
    width: int = 0
    spent_usd: float = 0.0
    elapsed: float = 0.0

    @property
    def settled(self) -> int:
        """Photos that this run is done with."""
        return self.enhanced + self.skipped + self.failed + self.unknown


@frozen(kw_only=True)
class FolderEvent:
    """What ``on_event`` is called with, on the event loop.

    Attributes:
        kind: ``walked`` once the number of photos is known, ``sent`` when a request begins (again after a retry),
            ``enhanced``, ``skipped``, ``failed``, ``unknown`` or ``not_attempted`` once for each photo, ``stopped``
            when nothing new starts any more, ``ended`` at the end.
        progress: Where the run stands.
        source: The photo, or None for what is not about one.
        outputs: The files of its images.
        reason: Why it failed or was skipped, or what stopped the run; or None.
        error: The error behind it, or None; also None when an earlier run met it.
        error_kind: The name of the error's class, or None.
        request_id: The service's ``X-Request-Id``, or None.
        cost_usd: What its answer cost in this run.
        download_urls: Signed links that are paid for and could not be written to the journal; empty otherwise.
    """

    kind: EventKind
    progress: FolderProgress
    source: Path | None = None
    outputs: tuple[Path, ...] = ()
    reason: str | None = None
    error: Exception | None = None
    error_kind: str | None = None
    request_id: str | None = None
    cost_usd: float = 0.0
    download_urls: tuple[str, ...] = field(default=(), repr=lambda urls: f"<{len(urls)} signed>")


class Paths(Sequence[Path]):
    """Many paths in little memory: a sequence that makes each `Path` when it is asked for."""

    def __init__(self, paths: Iterable[str | Path] = ()) -> None:
        self._bytes = bytearray()
        self._ends = array("Q")
        for path in paths:
            self.append(path)

    def append(self, path: str | Path) -> None:
        """Add one at the end."""
        self._bytes += os.fsencode(path)
        self._ends.append(len(self._bytes))

    @overload
    def __getitem__(self, index: int) -> Path: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Path, ...]: ...
    def __getitem__(self, index: int | slice) -> Path | tuple[Path, ...]:
        places = range(len(self._ends))[index]
        return self._path(places) if isinstance(places, int) else tuple(map(self._path, places))

    def _path(self, place: int) -> Path:
        begin = self._ends[place - 1] if place else 0
        return Path(os.fsdecode(bytes(self._bytes[begin : self._ends[place]])))

    def __len__(self) -> int:
        return len(self._ends)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Paths):
            return self._bytes == other._bytes and self._ends == other._ends
        return tuple(self) == other

    def __hash__(self) -> int:
        return hash(bytes(self._bytes))

    def __repr__(self) -> str:
        return f"<{len(self)} paths>"


@frozen(kw_only=True)
class FolderReport:
    """What a folder run came to. Each photo is counted once.

    Attributes:
        enhanced: Photos whose images were put in place by this run, those paid for by an earlier one included.
        skipped: Photos with nothing left to do: done by an earlier run, bought under another name, or with a file that
            stands where theirs would go.
        failed: Photos that failed: not charged, or paid for and still to be fetched, which the next run does for
            nothing.
        unknown: Photos that may have been charged, or were and are lost. Only ``retry_unknown`` buys them again.
        not_attempted: Photos whose turn never came, because something stopped the run.
        outputs: The files that this run put in place.
        failures: Why each photo that failed, or is unknown, is not enhanced.
        spent_usd: What the answers of this run cost at the price given.
        elapsed: Seconds that the run took.
        stopped_by: What stopped it: ``account`` (401, 402, 403), ``disk``, ``budget``, ``caller``; None if nothing did.
        message: What stopped it and what to do about it, or None.
    """

    enhanced: int = 0
    skipped: int = 0
    failed: int = 0
    unknown: int = 0
    not_attempted: int = 0
    outputs: Sequence[Path] = field(default=(), repr=lambda paths: f"<{len(paths)} paths>")
    failures: tuple[FolderFailure, ...] = field(default=(), repr=lambda failures: f"<{len(failures)} failures>")
    spent_usd: float = 0.0
    elapsed: float = 0.0
    stopped_by: StopCause | None = None
    message: str | None = None

    @property
    def ok(self) -> bool:
        """Whether every photo is enhanced."""
        return not (self.failed or self.unknown or self.not_attempted or self.stopped_by)
