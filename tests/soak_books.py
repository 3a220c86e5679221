"""What the client believes of each call of a soak, and what the sandbox's book says of it: they must agree.

A call is told by its photo, which no other has. A request whose body was never read has no photo; it is told by its
key, which several calls share.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from typing import Any
from urllib.parse import urlsplit

from attrs import Factory, define, frozen

from phota_async import DeadlineExceededError, DownloadError, EnhanceResult, PhotaError

BROKEN_OFF = ("too long", "the client was closed")  # the words of an attempt that ended by no doing of the service


@define(eq=False)
class Belief:
    """What the client side knows of one call.

    Attributes:
        key: What its requests carry.
        number: What its photo shows, and so must each of its images.
        digest: Of its photo.
        asked: How many images it asks for.
        repeats: Whether it may repeat what may have been paid for.
        begun: Its POSTs, as they went into aiohttp.
        fetched: The same of its downloads.
        unseen: How many of `begun` ended by the client's clock or the caller's will, so that the sandbox may have seen
            nothing of them.
        unfetched: The same of `fetched`.
        ending: "images" or "links", the name of its error's class, "cancelled", "left" with its batch, or "not
            attempted".
        attempts: How many attempts the client says it made, where it says so.
        request_id: Of the answer that it came from.
        maybe_charged: Whether the client said, by its error or in its log, that it may have been charged.
        paid_twice: Whether it said in its log that an earlier attempt may have been charged too.
        links: The last parts of its links.
        in_pause: Whether to cancel it when it pauses.
        in_flight: Seconds after which to cancel it once it has begun a request, or None.
    """

    key: str
    number: int
    digest: str
    asked: int
    repeats: bool = False
    begun: int = 0
    fetched: int = 0
    unseen: int = 0
    unfetched: int = 0
    ending: str = "left"
    attempts: int | None = None
    request_id: str | None = None
    maybe_charged: bool = False
    paid_twice: bool = False
    links: list[str] = Factory(list[str])
    in_pause: bool = False
    in_flight: float | None = None

    @classmethod
    def of(cls, key: str, number: int, photo: bytes, asked: int, *, repeats: bool = False) -> Belief:
        return cls(key, number, hashlib.sha256(photo).hexdigest(), asked, repeats)

    @property
    def has_landed(self) -> bool:
        return self.ending in {"images", "links"}

    @property
    def was_interrupted(self) -> bool:
        """Whether it ended while a request of it may have been in flight, by no doing of the service."""
        return self.ending in {"cancelled", "left", "DeadlineExceededError"}

    def landed(self, result: EnhanceResult) -> None:
        self.ending = "images" if result.images else "links"
        self.attempts, self.request_id = result.attempts, result.request_id
        self.links = [urlsplit(link).path.rpartition("/")[2] for link in result.download_urls]

    def failed(self, error: Exception, *, attempted: bool = True) -> None:
        if not attempted:
            self.ending, self.attempts = "not attempted", 0
            return
        self.ending = type(error).__name__
        if isinstance(error, PhotaError):
            self.attempts, self.maybe_charged = error.attempts, error.maybe_charged
        self.unseen += isinstance(error, DeadlineExceededError) or _was_broken_off(error)

    def met(self, error: PhotaError) -> None:
        """Note an attempt that failed, and is about to be made again or was a download's last."""
        if _was_broken_off(error):
            self.unseen += not isinstance(error, DownloadError)
            self.unfetched += isinstance(error, DownloadError)

    def cancelled(self) -> None:
        self.ending, self.unseen = "cancelled", self.unseen + 1


def _was_broken_off(error: Exception) -> bool:
    return any(words in str(error) for words in BROKEN_OFF)


CURRENT: ContextVar[Belief] = ContextVar("the call that the running task makes")


@frozen
class Row:
    """One POST as the sandbox saw it; `delivered` says that a good answer to it was sent whole."""

    key: str
    photo: str | None
    request_id: str
    charged: int
    delivered: bool
    fault: bool = False


@define
class Books:
    """The accounts: totals of all that was compared, and what did not agree."""

    totals: Counter[str] = Factory(Counter[str])
    endings: Counter[str] = Factory(Counter[str])
    wrong: list[str] = Factory(list[str])

    def compare(self, calls: Sequence[Belief], told: dict[str, Any]) -> None:
        """Compare the calls of one client with the sandbox's book of the same time."""
        rows = [Row(**row) for row in told["requests"]]
        if not told["quiet"]:
            self.wrong.append("the sandbox did not come to rest")
        if told["leaks"]:
            self.wrong.append(f"{told['leaks']} downloads carried the key")
        if told["charged"] != sum(row.charged for row in rows):
            self.wrong.append(f"the sandbox charged {told['charged']} images, its requests say otherwise")
        self._count(rows, told["downloads"])
        self.wrong += [*_strays(calls, rows, told["downloads"]), *_requests(calls, rows)]
        by_photo = _by_photo(rows)
        downloads = Counter[str](told["downloads"])
        for call in calls:
            own = by_photo[call.digest]
            self._settle(call, sum(row.charged for row in own))
            self.wrong += [f"{what}: {call} {own}" for what in _flaws(call, own, downloads)]

    def _count(self, rows: Sequence[Row], downloads: Sequence[str]) -> None:
        self.totals["requests seen"] += len(rows)
        self.totals["faults met"] += sum(row.fault for row in rows)
        self.totals["images charged"] += sum(row.charged for row in rows)
        self.totals["downloads seen"] += len(downloads)

    def _settle(self, call: Belief, sold: int) -> None:
        """Book what was sold to a call under what it became for the caller; together they are all charges."""
        totals = self.totals
        self.endings[call.ending] += 1
        totals["calls"] += 1
        totals["requests begun"] += call.begun
        totals["downloads begun"] += call.fetched
        if call.has_landed:
            totals["images delivered"] += call.asked
            totals["charged again, by leave (retry_unknown)"] += sold - call.asked
        elif call.was_interrupted:
            totals["charged to calls that were broken off"] += sold
        else:
            totals["charged to errors that said so"] += sold


def _by_photo(rows: Sequence[Row]) -> defaultdict[str | None, list[Row]]:
    found: defaultdict[str | None, list[Row]] = defaultdict(list)
    for row in rows:
        found[row.photo].append(row)
    return found


def _strays(calls: Sequence[Belief], rows: Sequence[Row], downloads: Sequence[str]) -> Iterator[str]:
    keys = {call.digest: call.key for call in calls}
    known = {*keys.values()}
    links = {link for call in calls for link in call.links}
    for row in rows:
        if row.key not in known or (row.photo is not None and keys.get(row.photo) != row.key):
            yield f"a request that no call has made: {row}"
    yield from (f"a download that no call has made: {name}" for name in downloads if name not in links)


def _requests(calls: Sequence[Belief], rows: Sequence[Row]) -> Iterator[str]:
    """Compare the requests of each key, those included whose photo was never read."""
    seen = Counter(row.key for row in rows)
    begun, unseen = Counter[str](), Counter[str]()
    for call in calls:
        begun[call.key] += call.begun
        unseen[call.key] += min(call.unseen, call.begun)
    for key, count in begun.items():
        if not count - unseen[key] <= seen[key] <= count:
            yield f"{key}: {count} requests begun, {unseen[key]} of them broken off, and {seen[key]} seen"


def _flaws(call: Belief, rows: Sequence[Row], downloads: Counter[str]) -> Iterator[str]:
    sold = sum(row.charged for row in rows)
    if call.attempts not in {None, call.begun}:
        yield "the client says another number of attempts"
    if len(rows) > call.begun:
        yield "more requests than were begun"
    if sum(row.charged > 0 for row in rows) > (call.begun if call.repeats else 1):
        yield "bought twice unasked"
    if call.has_landed:
        yield from _of_landed(call, rows, sold)
    elif sold and not (call.maybe_charged or call.ending == "left"):
        yield "charged, and the client says that it was not"
    elif not call.unseen and call.ending != "left" and any(row.delivered for row in rows):
        yield "a good answer was sent whole, and the call failed"
    fetched = sum(downloads[link] for link in call.links)
    if not call.fetched - call.unfetched <= fetched <= call.fetched:
        yield f"{call.fetched} downloads begun, and {fetched} seen"


def _of_landed(call: Belief, rows: Sequence[Row], sold: int) -> Iterator[str]:
    own = [row for row in rows if row.request_id == call.request_id]
    if [(row.charged, row.delivered) for row in own] != [(call.asked, True)]:
        yield "what came is not the answer to this call's request"
    if sold > call.asked and not (call.repeats and call.paid_twice):
        yield "an earlier attempt was charged as well, and nothing was said"
