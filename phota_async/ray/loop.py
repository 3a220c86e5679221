"""An event loop in a thread of its own, for a program that has none."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, TypeVar

from phota_async.errors import ClientClosedError

T = TypeVar("T")

_DEAF = 0.25  # seconds that a thread may sleep through a signal


class Loop:
    """Runs coroutines for any thread until it is closed. What it runs goes on while nobody looks."""

    def __init__(self) -> None:
        self._loop, self._end_of_life = asyncio.new_event_loop(), asyncio.Event()
        self._process = os.getpid()
        self._submitting = threading.Lock()
        self._closed = False
        # A process that exits does not wait for it; who needs what it runs closes it.
        self._thread = threading.Thread(target=self._run, name="phota-async", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        # A task at the root: anyio keeps its threads as long as one lives, and would start new ones for each of ours.
        self._life = self._loop.create_task(self._end_of_life.wait())
        self._loop.run_until_complete(self._life)

    def submit(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        """Begin to run a coroutine.

        Raises:
            ClientClosedError: It would not come to its end any more, or the process is another one's fork.
        """
        if self._is_inherited:
            coroutine.close()
            raise ClientClosedError("the worker belongs to another process: build it in the one that uses it")
        with self._submitting:
            if not self._closed:
                return asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        coroutine.close()
        raise ClientClosedError("the worker is closed")

    def close(self, first: Callable[[], object], last: Coroutine[Any, Any, object]) -> None:
        """Call ``first`` in it, let what runs end, then ``last``, and stop.

        Who is interrupted meanwhile is let go at once; the process still waits for all that.

        Raises:
            RuntimeError: It is called in the loop's own thread, and no other can be had.
        """
        if self._is_inherited:
            last.close()
            return
        # The garbage collector calls from wherever it happens to run; the loop's thread cannot wait for itself.
        is_own = threading.current_thread() is self._thread
        try:
            # A thread that the process waits for as it exits.
            ended = ThreadPoolExecutor(1, "phota-async-end").submit(self._end, first, last)
        except RuntimeError:  # none can be had: under a limit, or as the interpreter exits
            if is_own:
                last.close()
                raise
            self._end(first, last)
        else:
            if not is_own:
                awaited(ended)

    @property
    def _is_inherited(self) -> bool:
        # A fork has none of the threads.
        return os.getpid() != self._process

    def _end(self, first: Callable[[], object], last: Coroutine[Any, Any, object]) -> None:
        ending = self.submit(self._after_all(first, last))
        try:
            _wait(ending)
        finally:
            _wait(ending)  # once more: an interrupt comes here only where no thread could be had to go on in
            self._loop.call_soon_threadsafe(self._end_of_life.set)
            self._thread.join()
            self._loop.close()
        ending.result()

    async def _after_all(self, first: Callable[[], object], last: Coroutine[Any, Any, object]) -> None:
        first()
        await self._others()
        with self._submitting:
            self._closed = True
        await asyncio.sleep(0)  # what was submitted until now becomes tasks
        await self._others()
        await last

    async def _others(self) -> None:
        """Wait until no other task is left, those included that begin meanwhile."""
        while others := asyncio.all_tasks() - {asyncio.current_task(), self._life}:
            await asyncio.gather(*others, return_exceptions=True)


def awaited(running: Future[T]) -> T:
    """Wait for what a loop runs, and return its result."""
    _wait(running)
    return running.result()


def _wait(running: Future[Any]) -> None:
    # In steps: a signal that arrives just before a thread goes to sleep, or at another thread, does not wake it.
    while not wait([running], _DEAF).done:
        pass
