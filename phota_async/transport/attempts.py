"""The attempts under way over the sessions of one loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

from phota_async.transport.border import SessionClosedError


class Attempts:
    """The attempts under way over the sessions of one loop, so that they end before their session closes.

    A reader whose session is closed under it is left waiting by aiohttp, or meets a bare RuntimeError.
    """

    def __init__(self) -> None:
        """Begin with none."""
        self._clocks: set[asyncio.Timeout] = set()
        self._idle = asyncio.Event()
        self._idle.set()
        self.ended = False

    @asynccontextmanager
    async def clock(self, seconds: float | None) -> AsyncGenerator[asyncio.Timeout, None]:
        """Bound one attempt.

        Raises:
            TimeoutError: It took longer.
            SessionClosedError: All are ended.
        """
        clock = asyncio.timeout(0 if self.ended else seconds)
        try:
            async with clock:
                self._clocks.add(clock)
                self._idle.clear()
                try:
                    yield clock
                finally:
                    self.let_go(clock)
                return
        except (TimeoutError, RuntimeError):
            if not self.ended:
                raise
        raise SessionClosedError

    def let_go(self, clock: asyncio.Timeout) -> None:
        """Leave an attempt to itself: its outcome is known."""
        self._clocks.discard(clock)
        if not self._clocks:
            self._idle.set()

    async def end(self) -> None:
        """End them all, those included that only now begin, and return when they have ended."""
        self.ended = True
        for clock in self._clocks:
            with suppress(RuntimeError):  # it is ending by itself
                clock.reschedule(0)
        await self._idle.wait()
