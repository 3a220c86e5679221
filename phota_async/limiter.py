"""Who may have a call in flight, and when: slots up to a width that adapts (`width` has the rule), and a queue.

Calls wait in the order in which they came, and a ``Retry-After`` holds back every new start. Three things keep clients
that share a service from standing in each other's way, and the photos of a batch from running out of attempts:

- The width grows at a random moment within a round trip after the successes that widen it. Clients whose calls go in
  step would all ask for more at the same instant, and who has nothing in flight would never find what others gave up.
- A refusal with nothing else in flight holds back the calls of batches for a while: up to a third of the time since the
  first such refusal, and of what the quickest success took. Otherwise each refused photo, in its pause, lets the next
  one in, and all are soon out of attempts. Somebody waits for a single call: it is tried, and told how it went.
- What may well be refused, a slot that the width grew by or one after a hold, goes to a call that makes its first
  attempt, if one waits; the call of a batch that comes back is passed a few times at most. A slot that another call
  gave back is much safer.
"""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress

from attrs import define, frozen

from phota_async.errors import ClientClosedError, OverloadedError
from phota_async.width import Width

_SHORTEST_HOLD, _LONGEST_HOLD = 0.1, 15.0
"""Seconds that who has nothing in flight lets pass before it asks again, at most, as long as no success says better."""

_PROBES = 3
"""How often such a one asks, at least, in the time of the quickest success, or in the time that it has waited."""

_PASSES = 8
"""How often a call that comes back is passed by those that make their first attempt, at most."""

_CLOSED = "the client was closed while this call waited"


@frozen(eq=False)
class Slot:
    """The right to have one call in flight, since ``begun`` on the loop's clock."""

    begun: float


@define(eq=False)
class _Place:
    """A call in the queue: whether it is part of a batch, comes back from a pause, and how often it was passed."""

    patient: bool
    again: bool
    passed: int = 0

    @property
    def bounded(self) -> bool:
        """Whether ``max_queue`` applies. Those of a batch are bounded by its workers and take nobody's place."""
        return not (self.patient or self.again)

    @property
    def passable(self) -> bool:
        """Whether a first attempt may go before it."""
        return self.patient and self.again and self.passed < _PASSES


class Limiter:
    """The width of one client on one event loop. All methods belong to that loop's thread.

    Attributes:
        in_flight: How many are.
        quickest: Seconds that the quickest success took, or None before the first.
    """

    def __init__(self, max_concurrency: int, max_queue: int | None = None) -> None:
        """Begin at full width.

        Args:
            max_concurrency: The greatest width.
            max_queue: How many calls may wait for a slot, and be under way beyond ``max_concurrency``; None for any
                number.
        """
        self.in_flight = 0
        self.quickest: float | None = None
        self._loop = asyncio.get_running_loop()
        self._width = Width(max_concurrency)
        self._max_queue = max_queue
        self._pausing = 0  # calls of their own, of no batch
        self._queue: dict[asyncio.Future[None], _Place] = {}  # in order, and a waiter that gives up leaves at once
        self._successes = 0  # that the width has not grown by yet
        self._growth: asyncio.TimerHandle | None = None
        self._starved: tuple[float, float] | None = None  # when it was refused with nothing else in flight: first, last
        self._held_until = self._batches_held_until = float("-inf")
        self._alarm: asyncio.TimerHandle | None = None
        self._closed = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def width(self) -> float:
        """How many calls may be in flight now, between 1 and ``max_concurrency``; a fraction counts for nothing."""
        return self._width.value

    @property
    def waiting(self) -> int:
        """How many calls wait for a slot."""
        return len(self._queue)

    @property
    def is_stranded(self) -> bool:
        """Whether its event loop was closed under it, so that what it holds means nothing any more."""
        return self._loop.is_closed()

    async def acquire(self, *, patient: bool = False, again: bool = False) -> Slot:
        """Wait for a slot.

        Args:
            patient: Whether the call is part of a batch: ``max_queue`` does not apply, and it may be held back.
            again: Whether it comes back from a retry pause: ``max_queue`` does not apply, it was admitted before.

        Raises:
            OverloadedError: ``max_queue`` calls already wait, or too many are under way.
            ClientClosedError: The client was closed meanwhile.
        """
        slot = self.acquire_nowait(patient=patient, again=again)
        if slot is None:
            await self._wait(_Place(patient, again))
            slot = Slot(self._loop.time())
        return slot

    def acquire_nowait(self, *, patient: bool = False, again: bool = False) -> Slot | None:
        """Take a slot if there is one, and nobody waits who is to have it.

        Args:
            patient: Whether the call is part of a batch.
            again: Whether it comes back from a retry pause.

        Raises:
            OverloadedError: Too many calls are under way.
            ClientClosedError: The client was closed.
        """
        self._check_open()
        now = self._loop.time()
        held = patient and now < self._batches_held_until
        if held or not self._has_room(now) or self._next(now, probing=False) is not None:
            return None
        if self._max_queue is not None and not (patient or again):
            self._check_crowd(self._max_queue)
        self._take()
        return Slot(self._loop.time())

    def release(self) -> None:
        """Give a slot back."""
        self.in_flight -= 1
        if not self.in_flight:
            self._idle.set()
        self._admit()

    def succeeded(self, slot: Slot) -> None:
        """Tell that the call of ``slot`` brought an answer."""
        now = self._loop.time()
        took = now - slot.begun
        self.quickest = took if self.quickest is None else min(took, self.quickest)
        self._starved = None
        if now < self._batches_held_until:  # it was set when there was none, or none as quick
            self._batches_held_until = min(self._batches_held_until, now + self.quickest / _PROBES)
            self._set_alarm(now)
        if self.width < self._width.greatest:
            self._successes += 1
            if self._growth is None:
                self._growth = self._loop.call_later(random.random() * self.quickest, self._grow)  # noqa: S311

    def refused(self, slot: Slot) -> None:
        """Tell that the service had no room (429 or 503) for the call of ``slot``, which is not given back yet."""
        others = self.in_flight - 1
        in_use = bool(self._queue) or self.in_flight >= int(self.width)
        self._width.narrow(others, slot.begun, self._loop.time(), in_use=in_use)
        if not others:
            self._back_off()

    def hold(self, seconds: float) -> None:
        """Let nothing new start for that long."""
        self._held_until = max(self._held_until, self._loop.time() + seconds)

    async def pause(self, seconds: float, *, patient: bool = False) -> None:
        """Wait between two attempts.

        Raises:
            ClientClosedError: The client was closed meanwhile.
        """
        self._pausing += not patient
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._closed.wait()
        finally:
            self._pausing -= not patient
        self._check_open()

    async def drain(self) -> None:
        """Send those who wait away, and return when all that is in flight has landed."""
        self._closed.set()
        for waiter in self._queue:
            if not waiter.done():
                waiter.set_exception(ClientClosedError(_CLOSED))
        if self._alarm is not None:
            self._alarm.cancel()
        await self._idle.wait()
        if self._growth is not None:
            self._growth.cancel()

    # ---- inside

    def _check_open(self) -> None:
        if self._closed.is_set():
            raise ClientClosedError(_CLOSED)

    def _back_off(self) -> None:
        now = self._loop.time()
        longest = _LONGEST_HOLD if self.quickest is None else self.quickest / _PROBES
        since, last = self._starved or (now, now)
        if now - last > 2 * longest:  # it asked in between, if it wanted anything: that was another time
            since = now
        self._starved = since, now
        seconds = min(max((now - since) / _PROBES, _SHORTEST_HOLD), longest)
        hold = random.uniform(0.5, 1) * seconds  # noqa: S311
        self._batches_held_until = max(self._batches_held_until, now + hold)

    def _grow(self) -> None:
        self._growth = None
        for _ in range(self._successes):
            self._width.widen()
        self._successes = 0
        self._admit(probing=True)

    def _take(self) -> None:
        self.in_flight += 1
        self._idle.clear()

    def _has_room(self, now: float) -> bool:
        return self.in_flight < int(self.width) and now >= self._held_until

    async def _wait(self, place: _Place) -> None:
        if place.bounded and self._max_queue is not None:
            self._check_queue(self._max_queue)
            self._check_crowd(self._max_queue)
        waiter = self._loop.create_future()
        self._queue[waiter] = place
        self._admit()
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self.release()  # granted and cancelled in the same turn
            raise
        finally:
            self._queue.pop(waiter, None)
            del waiter  # an error of its own leads here

    def _check_queue(self, most: int) -> None:
        callers = sum(place.bounded for place in self._queue.values())
        if callers >= most:
            held = self._loop.time() < self._held_until
            what = "the end of the pause that the service asked for" if held else f"one of {int(self.width)} slots"
            raise OverloadedError(f"{callers} calls already wait for {what} (max_queue={most})")

    def _check_crowd(self, most: int) -> None:
        # While the service fails, slots are free, and calls would pile up in their pauses, each with its photo.
        waiting = self._pausing + sum(not place.patient for place in self._queue.values())
        if self.in_flight + waiting >= self._width.greatest + most:
            raise OverloadedError(
                f"{self.in_flight} calls are in flight, and {waiting} wait for a slot or for their next attempt "
                f"(max_concurrency={self._width.greatest}, max_queue={most})"
            )

    def _admit(self, *, probing: bool = False) -> None:
        # One reading of the clock: what is held by it has an alarm.
        now = self._loop.time()
        while self._has_room(now) and (waiter := self._next(now, probing=probing)) is not None:
            del self._queue[waiter]
            if not waiter.done():
                self._take()
                waiter.set_result(None)
        self._set_alarm(now)

    def _next(self, now: float, *, probing: bool) -> asyncio.Future[None] | None:
        """Return who is next in the queue."""
        held = now < self._batches_held_until
        passed: list[tuple[asyncio.Future[None], _Place]] = []
        for waiter, place in self._queue.items():
            if held and place.patient:
                continue
            if probing and place.passable:
                passed.append((waiter, place))
            elif passed and place.again:  # it passes nobody, and nobody passes it
                break
            else:
                for _, one in passed:
                    one.passed += 1
                return waiter
        return passed[0][0] if passed else None

    def _set_alarm(self, now: float) -> None:
        """See to it that those who are held back, and by nothing else, come to their turn."""
        ends = self._held_until, self._batches_held_until
        if self._queue and (when := min((end for end in ends if now < end), default=None)) is not None:
            if self._alarm is not None:
                if self._alarm.when() <= when:
                    return
                self._alarm.cancel()
            self._alarm = self._loop.call_at(when, self._on_alarm)

    def _on_alarm(self) -> None:
        self._alarm = None
        self._admit(probing=True)
