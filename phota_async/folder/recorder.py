"""Entries of many tasks, written to the journal together: one flush to the disk serves all that wait for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from anyio import CapacityLimiter, to_thread

from phota_async.journal import Entry, Journal

T = TypeVar("T")


class Recorder:
    """Writes to and asks a journal from an event loop, in threads."""

    def __init__(self, journal: Journal) -> None:
        self.folder = journal.folder
        self._journal = journal
        self._waiting: list[tuple[Entry[Any], asyncio.Future[Any]]] = []
        # They wait for each other anyway; so they take no threads from the rest of the program.
        self._threads = CapacityLimiter(2)
        self._guarded = False
        self._writing: asyncio.Task[None] | None = None

    async def write(self, entry: Entry[T]) -> T:
        """Write ``entry``, and return its result once it is safe on the disk.

        It is written also when the caller is cancelled meanwhile.

        Raises:
            OSError: The disk does not take it.
            JournalError: The journal cannot be used any more.
        """
        return await asyncio.shield(self.submit(entry))

    def submit(self, entry: Entry[T]) -> asyncio.Future[T]:
        """Have ``entry`` written, without waiting for it."""
        written: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.append((entry, written))
        if self._writing is None:
            self._writing = asyncio.create_task(self._write())
        return written

    async def guard(self) -> None:
        """Have it noted, once, that something is going to be bought: see `Journal.mark_open`."""
        if not self._guarded:
            await self.run(Journal.mark_open)
            self._guarded = True

    async def ask(self, entry: Entry[T]) -> T:
        """Return what ``entry`` finds out."""
        return await self.run(lambda journal: journal.ask(entry))

    async def run(self, work: Callable[[Journal], T]) -> T:
        """Return what some longer ``work`` on the journal returns."""
        return await to_thread.run_sync(work, self._journal, limiter=self._threads)

    async def aclose(self) -> None:
        """Wait until all is written."""
        while self._writing is not None:
            await asyncio.wait([self._writing])

    async def _write(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            written = await self._try(batch)
            # One that cannot be written must not take down its neighbours, which may be paid for.
            again = batch if len(batch) > 1 and not written else []
            for one in again:
                await self._try([one])
        self._writing = None

    async def _try(self, batch: list[tuple[Entry[Any], asyncio.Future[Any]]]) -> bool:
        try:
            results = await self.run(lambda journal: journal.write(entry for entry, _ in batch))
        except Exception as error:  # noqa: BLE001  (handed to who waits)
            failure = error
        else:
            for (_, written), result in zip(batch, results, strict=True):
                written.set_result(result)
            return True
        if len(batch) == 1:
            batch[0][1].set_exception(failure)
            batch[0][1].exception()  # who waits is told; nobody need
        return False
