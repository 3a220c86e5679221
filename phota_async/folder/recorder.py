"""Entries of many tasks, written to the journal together: one flush to the disk serves all that wait for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from anyio import to_thread

from phota_async.journal import Entry, Journal

T = TypeVar("T")


class Recorder:
    """Writes to and asks a journal from an event loop, in threads."""

    def __init__(self, journal: Journal) -> None:
        self.folder = journal.folder
        self._journal = journal
        self._waiting: list[tuple[Entry[Any], asyncio.Future[Any]]] = []
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

    async def ask(self, entry: Entry[T]) -> T:
        """Return what ``entry`` finds out."""
        return await to_thread.run_sync(self._journal.ask, entry)

    async def run(self, work: Callable[[Journal], T]) -> T:
        """Return what some longer ``work`` on the journal returns."""
        return await to_thread.run_sync(work, self._journal)

    async def aclose(self) -> None:
        """Wait until all is written."""
        while self._writing is not None:
            await asyncio.wait([self._writing])

    async def _write(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            try:
                results = await to_thread.run_sync(self._journal.write, [entry for entry, _ in batch])
            except Exception as error:  # noqa: BLE001  (handed to those who wait)
                for _, written in batch:
                    _fail(written, error)
            else:
                for (_, written), result in zip(batch, results, strict=True):
                    written.set_result(result)
        self._writing = None


def _fail(written: asyncio.Future[Any], error: Exception) -> None:
    written.set_exception(error)
    written.exception()  # whoever waits is told; nobody need
