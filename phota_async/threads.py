"""Threads for what would hold the loop: a number of the library's own, on each event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from importlib import import_module
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
    if not _load_anyio.cache_info().currsize:
        await _in_new_thread(_load_anyio)  # its first use would load a part of it on the loop
    try:
        limiter = _threads.get()
    except LookupError:
        limiter = CapacityLimiter(_MOST)
        _threads.set(limiter)
    return await to_thread.run_sync(function, *given, limiter=limiter)


@cache
def _load_anyio() -> None:
    with suppress(ModuleNotFoundError):  # its own affair: wherever it is, it loads by itself when it is needed
        import_module("anyio._backends._asyncio")


async def _in_new_thread(function: Callable[[], T]) -> T:
    pool = ThreadPoolExecutor(1, "phota-async")
    try:
        return await asyncio.get_running_loop().run_in_executor(pool, function)
    finally:
        pool.shutdown(wait=False)
