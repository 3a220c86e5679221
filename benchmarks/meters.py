"""The meters, the same for every client: CPU, memory, and how long the event loop was held."""

from __future__ import annotations

import asyncio
import resource
from array import array
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from time import perf_counter

_TICK = 0.001
_MB = 1e6


class StallMeter:
    """A task that wants to run every millisecond; whatever it comes late by is a stall of the loop."""

    def __init__(self) -> None:
        """Start with nothing."""
        self._late = array("d")

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None, None]:
        """Measure while the block runs."""
        ticker = asyncio.create_task(self._tick())
        await asyncio.sleep(0)
        try:
            yield
        finally:
            await asyncio.sleep(0)  # a stall at the very end counts as well
            ticker.cancel()

    async def _tick(self) -> None:
        last = perf_counter()
        while True:
            await asyncio.sleep(_TICK)
            now = perf_counter()
            self._late.append(now - last - _TICK)
            last = now

    @property
    def longest_ms(self) -> float:
        """The longest stall."""
        return max(self._late, default=0.0) * 1000

    @property
    def p99_ms(self) -> float:
        """What 99 of 100 ticks stayed below."""
        return sorted(self._late)[int(len(self._late) * 0.99)] * 1000 if self._late else 0.0


def resident_mb() -> float:
    """Return this process's resident set now."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() / _MB


def peak_mb() -> float:
    """Return its highest so far. Not ``ru_maxrss``, which is never below that of the process that started this one."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024 / _MB
