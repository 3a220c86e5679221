"""How many calls may be in flight: a width that narrows when the service is short of room and widens again.

Additive increase, multiplicative decrease (RFC 5681 has the idea): a refusal cuts the width to `CUT` of itself, at
most once for each round trip, because all that was in flight at the cut tells the same story; each width's worth of
successes adds one. Two things bring room back sooner, as TCP's slow start and CUBIC (RFC 9438) do. What was in flight
beside a refused call the service did bear, so up to that number each success adds one: the room that a probe found
full is full again at once. And each further width's worth without a refusal adds one more than the one before: room
that comes back, or was never short, is found in few round trips. A ``Retry-After`` holds back every new start. Calls
wait in the order in which they came.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from attrs import frozen

from phota_async.errors import ClientClosedError, OverloadedError

CUT = 0.7
"""What a refusal leaves of the width."""

_CLOSED = "the client was closed while this call waited"


@frozen(eq=False)
class Slot:
    """The right to have one call in flight, since ``begun`` on the loop's clock."""

    begun: float


class Limiter:
    """The width of one client on one event loop. All methods belong to that loop's thread.

    Attributes:
        width: How many calls may be in flight now, between 1 and ``max_concurrency``; a fraction counts for nothing.
        in_flight: How many are.
        quickest: Seconds that the quickest success took, or None before the first.
    """

    def __init__(self, max_concurrency: int, max_queue: int | None = None) -> None:
        """Begin at full width.

        Args:
            max_concurrency: The greatest width.
            max_queue: How many calls may wait for a slot; None for any number.
        """
        self.width = float(max_concurrency)
        self.in_flight = 0
        self.quickest: float | None = None
        self._loop = asyncio.get_running_loop()
        self._greatest = max_concurrency
        self._max_queue = max_queue
        self._queue: dict[asyncio.Future[None], bool] = {}  # in order, and a waiter that gives up leaves at once
        self._last_cut = float("-inf")
        self._borne = 0  # how many calls were in flight beside the one that was refused last
        self._unrefused = 0.0  # widths' worths of successes beyond that, since then
        self._held_until = float("-inf")
        self._alarm: asyncio.TimerHandle | None = None
        self._closed = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def waiting(self) -> int:
        """How many calls wait for a slot."""
        return len(self._queue)

    async def acquire(self, *, bounded: bool = True) -> Slot:
        """Wait for a slot.

        Args:
            bounded: Whether ``max_queue`` applies; a call that comes back from a retry pause was already admitted.

        Raises:
            OverloadedError: ``max_queue`` calls already wait.
            ClientClosedError: The client was closed meanwhile.
        """
        slot = self.acquire_nowait()
        if slot is None:
            await self._wait(bounded=bounded)
            slot = Slot(self._loop.time())
        return slot

    def acquire_nowait(self) -> Slot | None:
        """Take a slot if there is one and nobody waits for it.

        Raises:
            ClientClosedError: The client was closed.
        """
        self._check_open()
        if self._queue or not self._has_room():
            return None
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
        took = self._loop.time() - slot.begun
        self.quickest = took if self.quickest is None else min(took, self.quickest)
        self.width = min(self._widened(), float(self._greatest))
        self._admit()

    def refused(self, slot: Slot) -> None:
        """Tell that the service had no room (429 or 503) for the call of ``slot``, which is not given back yet."""
        if slot.begun >= self._last_cut:
            self.width = max(self.width * CUT, 1.0)
            self._last_cut = self._loop.time()
        # Of a burst that is refused the last one tells how much was borne.
        self._borne = self.in_flight - 1
        self._unrefused = 0.0

    def hold(self, seconds: float) -> None:
        """Let nothing new start for that long."""
        self._held_until = max(self._held_until, self._loop.time() + seconds)

    async def pause(self, seconds: float) -> None:
        """Wait between two attempts.

        Raises:
            ClientClosedError: The client was closed meanwhile.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._closed.wait()
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

    # ---- inside

    def _check_open(self) -> None:
        if self._closed.is_set():
            raise ClientClosedError(_CLOSED)

    def _widened(self) -> float:
        if self.width < self._borne:
            return min(self.width + 1, float(self._borne))
        step = 1 + int(self._unrefused)
        self._unrefused += 1 / self.width
        return self.width + step / self.width

    def _take(self) -> None:
        self.in_flight += 1
        self._idle.clear()

    def _has_room(self) -> bool:
        return self.in_flight < int(self.width) and self._loop.time() >= self._held_until

    async def _wait(self, *, bounded: bool) -> None:
        # Those of a batch wait too, but they are bounded by its workers and take nobody's place.
        if bounded and self._max_queue is not None and (callers := sum(self._queue.values())) >= self._max_queue:
            raise OverloadedError(
                f"{callers} calls already wait for one of {int(self.width)} slots (max_queue={self._max_queue})"
            )
        waiter = self._loop.create_future()
        self._queue[waiter] = bounded
        self._admit()
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self.release()  # granted and cancelled in the same turn
            raise
        finally:
            self._queue.pop(waiter, None)

    def _admit(self) -> None:
        while self._queue and self._has_room():
            waiter = next(iter(self._queue))
            del self._queue[waiter]
            if not waiter.done():
                self._take()
                waiter.set_result(None)
        if self._queue and self._alarm is None and self._held_until > self._loop.time():
            self._alarm = self._loop.call_at(self._held_until, self._on_alarm)

    def _on_alarm(self) -> None:
        self._alarm = None
        self._admit()
