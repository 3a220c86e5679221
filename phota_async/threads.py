"""Threads for what would hold the loop: a number of the library's own, on each event loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, TypeVarTuple

from anyio import CapacityLimiter, to_thread
from anyio.lowlevel import RunVar

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_MOST = 40

_threads: RunVar[CapacityLimiter] = RunVar("phota_async.threads")


async def in_thread(function: Callable[[*Ts], T], *given: *Ts) -> T:
    """Call a function in a thread.

    Not by anyio's own number of them: web frameworks run handlers there, and where each of these waits for a call of
    ours (`anyio.from_thread.run`), none would be left for the call to open its photo.
    """
    try:
        limiter = _threads.get()
    except LookupError:
        limiter = CapacityLimiter(_MOST)
        _threads.set(limiter)
    return await to_thread.run_sync(function, *given, limiter=limiter)
