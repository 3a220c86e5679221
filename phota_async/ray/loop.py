"""An event loop in a thread of its own, for a program that has none."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, wait
from typing import Any, TypeVar

from phota_async.errors import ClientClosedError

T = TypeVar("T")

_DEAF = 0.25  # seconds that a thread may sleep through a signal


class Loop:
    """Runs coroutines for any thread until it is closed. What it runs goes on while nobody looks."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._submitting = threading.Lock()
        self._closed = False
        # A process that exits does not wait for it; who needs what it runs closes it.
        self._thread = threading.Thread(target=self._loop.run_forever, name="phota-async", daemon=True)
        self._thread.start()

    def submit(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        """Begin to run a coroutine.

        Raises:
            ClientClosedError: It would not come to its end any more.
        """
        with self._submitting:
            if not self._closed:
                return asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        coroutine.close()
        raise ClientClosedError("the worker is closed")

    def close(self, first: Callable[[], object], last: Coroutine[Any, Any, object]) -> None:
        """Call ``first`` in it, let what runs end, then ``last``, and stop."""
        if threading.current_thread() is self._thread:
            # The garbage collector calls from wherever it happens to run; this thread cannot wait for itself.
            threading.Thread(target=self.close, args=[first, last]).start()
            return
        awaited(self.submit(self._after_all(first, last)))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _after_all(self, first: Callable[[], object], last: Coroutine[Any, Any, object]) -> None:
        first()
        await _others()
        with self._submitting:
            self._closed = True
        await asyncio.sleep(0)  # what was submitted until now becomes tasks
        await _others()
        await last


def awaited(running: Future[T]) -> T:
    """Wait for what a loop runs, in steps.

    A signal that arrives just before a thread goes to sleep, or at another thread, does not wake it.
    """
    while not wait([running], _DEAF).done:
        pass
    return running.result()


async def _others() -> None:
    """Wait until no other task is left, those included that begin meanwhile."""
    while others := asyncio.all_tasks() - {asyncio.current_task()}:
        await asyncio.gather(*others, return_exceptions=True)
