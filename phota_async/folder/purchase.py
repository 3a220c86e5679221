"""One photo at the desk: told by its bytes, bought if it must be, fetched if it is paid for. All of it written down."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import PurePath
from typing import TypeAlias

from attrs import define, field, frozen

from phota_async.batch import NotStartedError
from phota_async.call import Around
from phota_async.errors import (
    ACCOUNT_ERRORS,
    ClientClosedError,
    ConnectionFailedError,
    DeadlineExceededError,
    DownloadError,
    ImageError,
    JournalError,
    PhotaError,
)
from phota_async.folder import rules
from phota_async.folder.brake import Brake
from phota_async.folder.budget import Budget
from phota_async.folder.outputs import Outputs
from phota_async.folder.recorder import Recorder
from phota_async.folder.rules import Action, Again
from phota_async.folder.shortfalls import Facts, Shortfalls
from phota_async.folder.survey import Images, identify, images_of
from phota_async.folder.tally import Tally
from phota_async.images import File
from phota_async.journal import Claim, Item, Key, Reserved, Row, items, photos, walks
from phota_async.journal.runs import Run
from phota_async.models import EnhanceOptions, EnhanceResult
from phota_async.records import charged_for
from phota_async.threads import in_thread

DOWNLOADS = 8
"""How many photos' images are fetched at once; each holds a piece of 1 MB."""

Enhance: TypeAlias = Callable[[File, Around], Awaitable[EnhanceResult]]
"""Makes one call, each attempt's request of which is made inside what is handed in."""


@frozen
class _Work:
    """One photo whose bytes are known, and who claims the names of its images."""

    row: Row
    key: Key
    claim: Claim

    @property
    def source(self) -> bytes:
        return self.row.source


@define(eq=False, kw_only=True)
class Desk:
    """Where the photos of a run are served.

    Attributes:
        options: What is asked for.
        enhance: Makes a call.
        outputs: Where images go.
        recorder: What is written down.
        run: This run, in the journal.
        again: What is done again.
        overwrite: Whether files that stand there may be replaced.
        budget: The money.
        brake: What stops the run.
        tally: The counts.
        shortfalls: What is counted of photos that are not enhanced.
        calls: Bounds how many calls are under way.
    """

    options: EnhanceOptions
    enhance: Enhance
    outputs: Outputs
    recorder: Recorder
    run: Run
    again: Again
    overwrite: bool
    budget: Budget
    brake: Brake
    tally: Tally
    shortfalls: Shortfalls
    calls: asyncio.Semaphore
    _busy: dict[Key, asyncio.Event] = field(init=False, factory=dict[Key, asyncio.Event])
    _met: set[Key] = field(init=False, factory=set[Key])
    _downloads: asyncio.Semaphore = field(init=False, factory=lambda: asyncio.Semaphore(DOWNLOADS))

    async def serve(self, row: Row) -> None:
        """Give a photo what it is due, and count it.

        Raises:
            NotStartedError: The run was stopped before its request began.
            PhotaError: It cannot be had otherwise.
            OSError: A file, or the journal, cannot be written.
        """
        try:
            file, sha256, is_news = await in_thread(identify, row)
            if is_news:
                size, modified_ns = file.size, file.stamp.modified_ns
                await self.recorder.write(walks.identified(row.source, size, modified_ns, sha256))
            key = Key(sha256, self.run.options)
            async with self._alone(key):
                await self._item(_Work(row, key, _claim(row, key, self.options, overwrite=self.overwrite)), file)
        except ImageError as error:
            await self.recorder.write(walks.unusable(row.source, str(error)))
            self.shortfalls.lacks(row.source, error, str(error), unknown=error.maybe_charged)

    async def fetch_left(self, left: photos.Left) -> None:
        """Fetch what is paid for and no photo of this run: its links would die unseen. It counts as one more photo."""
        item = left.row.item
        assert item is not None  # noqa: S101  (that is what is left)
        async with self._alone(left.key):
            asked = EnhanceOptions(**json.loads(left.options_text))
            work = _Work(left.row, left.key, _claim(left.row, left.key, asked, overwrite=False))
            if not await self._fetched(work, item):
                await self._lose(work, item, rules.LINKS_EXPIRED)

    @asynccontextmanager
    async def _alone(self, key: Key) -> AsyncGenerator[None, None]:
        """Wait while another photo with the same bytes is under way: it may buy for both."""
        while (busy := self._busy.get(key)) is not None:
            await busy.wait()
        self._busy[key] = asyncio.Event()
        try:
            yield
        finally:
            self._busy.pop(key).set()

    async def _item(self, work: _Work, file: File) -> None:
        item = await self.recorder.ask(items.item(work.key))
        bought_as = work.source if item is None else item.source
        having = await self.recorder.run(lambda journal: images_of(journal, work.key, work.source, bought_as))
        due = rules.action(item, self._again(work.key), in_place=having is not None)
        if item is None or due is Action.SEND:
            await self._send(work, file)
        elif having is not None and due is Action.SKIP:
            await self._had(work, having)
        elif due is not Action.FETCH:
            self.shortfalls.leave(work.source, item)
        elif not await self._fetched(work, item):
            await self._send(work, file)

    def _again(self, key: Key) -> Again:
        # What this run has met is not done again for the next photo with the same bytes.
        return Again(since=self.again.since) if key in self._met else self.again

    async def _had(self, work: _Work, having: Images) -> None:
        """Count a photo whose item is done; one with the bytes of another gets copies, unless that one was renamed."""
        paths, reason = self.shortfalls.paths(having.files), None
        if having.source != work.source:
            reason = rules.BOUGHT_BEFORE.format(name=os.fsdecode(having.source))
            if await self.recorder.ask(walks.is_there(having.source)):
                reserved = await self._reserve(work)
                if reserved is None:
                    return
                paths = tuple(await self.outputs.copy(work.claim, reserved.names, map(os.fsdecode, having.files)))
        self.tally.skipped(work.source, paths, reason)

    async def _reserve(self, work: _Work, *, paid: bool = False) -> Reserved | None:
        reserved = await self.outputs.reserve(work.claim, paid=paid)
        if isinstance(reserved, Reserved):
            return reserved
        reason = rules.OCCUPIED.format(name=reserved.name)
        self.tally.skipped(work.source, (self.outputs.folder / reserved.name,), reason)
        return None

    # ---- what is paid for

    async def _fetched(self, work: _Work, item: Item) -> bool:
        """Fetch what an earlier run paid for; return False if it is lost, and to be bought again."""
        lost = rules.REMOVED if item.state == "done" else rules.LINKS_EXPIRED
        reserved = await self._reserve(work, paid=True) if item.download_urls else None
        if reserved is not None and await self._fetch(work, reserved, item, 0.0):
            return True
        if reserved is not None and (paths := await self.outputs.placed(work.claim, reserved.names)):
            # It was put there just before a run died.
            self.tally.enhanced(work.source, paths, item.request_id, 0.0)
            return True
        if self._again(work.key).unknown:
            return False
        await self._lose(work, item, lost)
        return True

    async def _lose(self, work: _Work, item: Item, reason: str, cost_usd: float = 0.0) -> None:
        self._met.add(work.key)
        await self.recorder.write(items.lost(work.key, reason))
        self.shortfalls.leave(
            work.source, item._replace(state="unknown", reason=reason, kind="DownloadError"), cost_usd
        )

    async def _fetch(self, work: _Work, reserved: Reserved, answer: Item, cost_usd: float) -> bool:
        """Fetch links, and count the photo; return False if they have expired."""
        facts = Facts(answer.request_id, cost_usd)
        try:
            async with self._downloads:
                paths = await self.outputs.fetch(work.claim, reserved.names, answer.download_urls)
        except (DownloadError, DeadlineExceededError) as error:
            if isinstance(error, DownloadError) and (error.expired or answer.links_are_old):
                return False  # where links have died, their server may be gone as well
            self.shortfalls.lacks(work.source, error, rules.NOT_FETCHED.format(reason=error), facts)
        except (OSError, JournalError) as error:
            await self.shortfalls.disk(work.source, error, rules.NOT_WRITTEN.format(reason=error), facts)
        else:
            self.tally.enhanced(work.source, paths, answer.request_id, cost_usd)
        return True

    # ---- what is bought

    async def _send(self, work: _Work, file: File) -> None:
        reserved = await self._reserve(work)
        if reserved is None:
            return
        # Not more calls than may be in flight: the clock of one that waits for a slot would run already.
        async with self.calls:
            await self._buy(work, file, reserved)

    async def _buy(self, work: _Work, file: File, reserved: Reserved) -> None:
        held = await self.budget.hold()
        if held is None:
            self.brake.stop("budget", self.budget.words())
            self.tally.passed_by(work.source)
            return
        result: EnhanceResult | PhotaError
        try:
            result = await self.enhance(file, lambda whole: self._recorded(work, held, whole))
            images, subject = charged_for(result)
            cost_usd = self.budget.pay(images, subject=subject)
        except (ImageError, JournalError, ClientClosedError):
            raise  # nothing was sent
        except PhotaError as error:
            result, cost_usd = error, 0.0
        finally:
            self.budget.give_back(held)
        if isinstance(result, PhotaError):
            await self._refused(work, reserved, result)
        else:
            await self._answered(work, reserved, result, cost_usd)

    @asynccontextmanager
    async def _recorded(self, work: _Work, held: float, whole: Callable[[], bool]) -> AsyncGenerator[None, None]:
        """Write down that a request begins, and what became of it if it was no answer.

        Raises:
            NotStartedError: An earlier attempt may have been charged, and one more would pass the budget.
        """
        if self.budget.is_passed:
            self.brake.stop("budget", self.budget.words())
            raise NotStartedError(PhotaError(self.budget.words()))
        try:
            await self.recorder.guard()
            await self.recorder.write(items.sent(work.key, work.source))
            with self.tally.flight(work.source):
                yield
        except PhotaError as error:
            kind = type(error).__name__
            doubt = items.unknown(work.key, str(error), kind, error.request_id)
            if error.maybe_charged:
                self.budget.doubt(held)
            # Not waited for: what the call comes to in the end is written after it.
            self.recorder.submit(doubt if error.maybe_charged else items.withdrawn(work.key))
            raise
        except asyncio.CancelledError:
            if whole():
                self.budget.doubt(held)
            else:
                self.recorder.submit(items.withdrawn(work.key))
            raise

    async def _answered(self, work: _Work, reserved: Reserved, result: EnhanceResult, cost_usd: float) -> None:
        answer = items.Answer(
            links=result.download_urls, request_id=result.request_id, cost_usd=cost_usd, run=self.run.number
        )
        facts = Facts(result.request_id, cost_usd, result.download_urls)
        try:
            item = await self.recorder.write(items.answered(work.key, work.source, answer))
        except (OSError, JournalError) as error:
            self.brake.stop("disk", str(error), error)
            self.shortfalls.lacks(work.source, error, rules.NOT_RECORDED.format(reason=error), facts, unknown=True)
            return
        if result.images:
            await self._kept(work, reserved, result, facts)
        elif not await self._fetch(work, reserved, item, cost_usd):
            await self._lose(work, item, rules.LINKS_EXPIRED, cost_usd)

    async def _kept(self, work: _Work, reserved: Reserved, result: EnhanceResult, facts: Facts) -> None:
        """Write images that came where links were asked for, and count the photo."""
        try:
            paths = await self.outputs.keep(work.claim, reserved.names, result.images)
        except (OSError, JournalError) as error:
            reason = rules.NOT_WRITTEN if facts.links else rules.NOT_KEPT
            await self.shortfalls.disk(work.source, error, reason.format(reason=error), facts, unknown=not facts.links)
        else:
            self.tally.enhanced(work.source, paths, result.request_id, facts.cost_usd)

    async def _refused(self, work: _Work, reserved: Reserved, error: PhotaError) -> None:
        reason, kind = str(error), type(error).__name__
        self._met.add(work.key)
        try:
            if isinstance(error, ACCOUNT_ERRORS):
                # Nothing is wrong with the photo: the next run sends it without being asked.
                self.brake.stop("account", str(error), error)
            elif isinstance(error, ConnectionFailedError) and not error.maybe_charged:
                # It never reached the service: the next run sends it without being asked.
                await self.recorder.write(walks.troubled(work.source, reason))
            elif error.maybe_charged:
                await self.recorder.write(items.unknown(work.key, reason, kind, error.request_id))
                if images := error.images:
                    paths = await self.outputs.keep(work.claim, reserved.names, images, done=False)
                    reason = rules.RESCUED.format(reason=reason, paths=", ".join(map(str, paths)))
            else:
                await self.recorder.write(items.failed(work.key, work.source, reason, kind, error.request_id))
        except (OSError, JournalError) as failure:
            await self.shortfalls.stop_for(failure)
        self.shortfalls.lacks(work.source, error, reason, unknown=error.maybe_charged)


def _claim(row: Row, key: Key, options: EnhanceOptions, *, overwrite: bool) -> Claim:
    return Claim(
        source=row.source,
        name=PurePath(os.fsdecode(row.name)),
        key=key,
        extension=f".{options.output_format}",
        count=options.num_output_images,
        overwrite=overwrite,
    )
