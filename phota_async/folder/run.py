"""A folder run from its first page to its last: photos from the journal to the workers."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Iterator

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from attrs import frozen

from phota_async.batch import NotStartedError
from phota_async.errors import ClientClosedError, JournalError
from phota_async.folder.brake import Brake
from phota_async.folder.purchase import DOWNLOADS, Desk
from phota_async.folder.rules import Action, Again
from phota_async.folder.survey import Due, Page, to_be_fetched
from phota_async.folder.tally import Tally
from phota_async.journal import Journal, items, photos
from phota_async.journal.photos import Left
from phota_async.journal.runs import Run
from phota_async.threads import in_thread

logger = logging.getLogger("phota_async")

_AT_ONCE = 20
"""How many photos are counted before others have their turn on the loop."""


@frozen(eq=False)
class FolderRun:
    """Gives each photo what it is due.

    Attributes:
        desk: Where photos are bought and fetched.
        brake: What stops the run.
        tally: The counts.
        sort: Gives the photos, page by page, with what each is due.
    """

    desk: Desk
    brake: Brake
    tally: Tally
    sort: Callable[[Journal, Run, Again], Iterator[Page]]

    async def work(self, workers: int, asked_to_stop: asyncio.Event | None) -> None:
        """Work until every photo is counted; ``workers`` calls are under way at most."""
        send, receive = anyio.create_memory_object_stream[Due | Left](0)
        async with asyncio.TaskGroup() as group:
            watching = group.create_task(self.brake.watch(asked_to_stop)) if asked_to_stop else None
            feeding = group.create_task(self._feed(send))
            # While some fetch what was bought, others buy on: the limiter bounds these, the desk those.
            crew = [group.create_task(self._crew(receive.clone())) for _ in range(workers + DOWNLOADS)]
            receive.close()
            await asyncio.wait([feeding, *crew])
            if watching is not None:
                watching.cancel()

    async def _feed(self, send: MemoryObjectSendStream[Due | Left]) -> None:
        first: set[bytes] = set()
        with send:
            try:
                # What is paid for comes first: its links do not live for ever.
                if await self.desk.recorder.ask(items.any_answered):
                    await self._feed_left(send)
                    await self._feed_pages(send, to_be_fetched, first, answered=True)
                await self._feed_pages(send, self.sort, first, answered=False)
            except (OSError, JournalError) as error:
                self.brake.stop("disk", f"the journal cannot be read: {error}", error)

    async def _feed_left(self, send: MemoryObjectSendStream[Due | Left]) -> None:
        left = await self.desk.recorder.ask(photos.left_over(self.desk.run))
        self.tally.total += len(left)
        for one in left:
            await send.send(one)

    async def _feed_pages(
        self,
        send: MemoryObjectSendStream[Due | Left],
        sort: Callable[[Journal, Run, Again], Iterator[Page]],
        first: set[bytes],
        *,
        answered: bool,
    ) -> None:
        desk = self.desk
        pages = await desk.recorder.run(lambda journal: sort(journal, desk.run, desk.again))
        while page := await in_thread(_next, pages):
            await self._skip(page, first)
            for number, due in enumerate(page.due, 1):
                if number % _AT_ONCE == 0:
                    await asyncio.sleep(0)
                if answered:
                    first.add(due.row.source)
                elif due.row.source in first:
                    continue
                if not self._settled(due):
                    await send.send(due)

    async def _skip(self, page: Page, first: set[bytes]) -> None:
        """Count the photos that have all that they are due, but for those that were the ``first`` of this run."""
        had = page.had.keys() - first if first else page.had.keys()
        if self.tally.on_event is None:
            self.tally.skipped_untold(len(had))
            return
        for number, source in enumerate(sorted(had), 1):
            self.tally.skipped(source, self.desk.shortfalls.paths(page.had[source]))
            if number % _AT_ONCE == 0:
                await asyncio.sleep(0)

    def _settled(self, due: Due) -> bool:
        """Count a photo that is due no work; return whether it was one."""
        row = due.row
        if due.action is Action.SKIP:
            self.tally.skipped(row.source, self.desk.shortfalls.paths(row.files))
        elif row.item is not None and due.action in {Action.LEAVE_FAILED, Action.LEAVE_UNKNOWN}:
            self.desk.shortfalls.leave(row.source, row.item)
        elif self.brake.holds(due.action):
            self.tally.passed_by(row.source)
        else:
            return False
        return True

    async def _crew(self, receive: MemoryObjectReceiveStream[Due | Left]) -> None:
        with receive:
            async for due in receive:
                if self.brake.holds(due.action if isinstance(due, Due) else Action.FETCH):
                    self.tally.passed_by(due.row.source)
                else:
                    await self._photo(due)

    async def _photo(self, due: Due | Left) -> None:
        source = due.row.source
        try:
            await (self.desk.serve(due.row) if isinstance(due, Due) else self.desk.fetch_left(due))
        except (NotStartedError, ClientClosedError) as error:
            self.brake.stop("caller", str(error))
            self.tally.passed_by(source)
        except (OSError, JournalError) as error:
            await self.desk.shortfalls.disk(source, error, str(error))
        except Exception as error:
            # A bug. It is not allowed to take down the neighbours, which are being paid for.
            logger.exception("%s met an unexpected error", os.fsdecode(source))
            self.desk.shortfalls.lacks(source, error, f"unexpected: {type(error).__name__}: {error}", unknown=True)


def _next(pages: Iterator[Page]) -> Page | None:
    return next(pages, None)
