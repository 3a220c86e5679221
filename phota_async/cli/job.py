"""One run of ``phota-async enhance``: sources in, files out, an exit code at the end."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from io import StringIO
from pathlib import Path, PurePath
from types import FrameType
from typing import Any, cast

from attrs import define, field, frozen
from rich.console import Console
from rich.markup import escape

from phota_async.cli.progress import Counts, shown
from phota_async.client import PhotaClient
from phota_async.errors import ACCOUNT_ERRORS, DownloadError, ImageError
from phota_async.files import existing, writable
from phota_async.formats import EXTENSIONS
from phota_async.images import photos_in
from phota_async.models import EnhancedImage, EnhanceOptions, EnhanceResult, Outcome
from phota_async.naming import Names, numbered

PRICE_USD = 0.12  # an output image (release notes v0.6.0)
PRICE_WITH_SUBJECT_USD = 0.15  # the same, with a recognised profile

_SUMMARY = ("enhanced", "failed", "skipped", "not_attempted", "unknown")
_EXIT_COULD_NOT_RUN, _EXIT_SOME_FAILED, _EXIT_ACCOUNT, _EXIT_UNKNOWN, _EXIT_INTERRUPTED = 1, 3, 4, 6, 130


@frozen(kw_only=True)
class Job:
    """What was asked for on the command line."""

    sources: tuple[Path, ...]
    output: Path
    options: EnhanceOptions
    jobs: int
    sandbox: bool
    base_url: str | None
    as_json: bool


@frozen
class _Item:
    source: Path
    targets: list[Path]


def could_not_run(console: Console, why: str) -> int:
    """Say why nothing was done, and return the exit code for it."""
    console.print(f"[bold red]phota-async:[/] {escape(why)}", soft_wrap=True, highlight=False)
    return _EXIT_COULD_NOT_RUN


async def run(job: Job, console: Console) -> int:
    """Run ``job`` and return the exit code."""
    try:
        items = await _items(job)
        if items:
            await writable(job.output)
    except (ImageError, OSError) as error:
        return could_not_run(console, str(error))
    if not items:
        why = "there is no photo among the sources (JPEG, PNG, WebP or HEIC), those in the output folder apart"
        return could_not_run(console, why)
    async with AsyncExitStack() as stack:
        try:
            client = await stack.enter_async_context(_client(job, console))
        except (ImportError, ValueError) as error:
            return could_not_run(console, str(error))
        return await _Run(job, console, Counts(len(items), free=job.sandbox)).enhance(client, items)


async def _items(job: Job) -> list[_Item]:
    names, extension = Names(), f".{job.options.output_format}"
    items: dict[Path, _Item] = {}
    for source in job.sources:
        for photo in await photos_in(source):
            # A re-run over a folder that holds the output does not enhance what was enhanced.
            if photo in items or photo.absolute().is_relative_to(job.output.absolute()):
                continue
            relative = PurePath(photo.name) if photo == source else photo.relative_to(source)
            stem = job.output / names.stem_for(relative)
            items[photo] = _Item(photo, numbered(stem, extension, job.options.num_output_images))
    return list(items.values())


@asynccontextmanager
async def _client(job: Job, console: Console) -> AsyncGenerator[PhotaClient, None]:
    if not job.sandbox:
        async with PhotaClient(base_url=job.base_url, max_concurrency=job.jobs) as client:
            yield client
        return
    from phota_async.sandbox import Sandbox  # noqa: PLC0415  (Pillow is an extra)

    console.print("sandbox: a local stand-in for the API; no key is used and nothing is charged")
    async with (
        Sandbox() as box,
        PhotaClient("sandbox", base_url=box.url, max_concurrency=job.jobs, proxy="") as client,
    ):
        yield client


@define
class _Run:
    job: Job
    console: Console
    counts: Counts
    _stopped: bool = field(init=False, default=False)
    _interrupted: bool = field(init=False, default=False)
    _taken: int = field(init=False, default=0)
    _account: Exception | None = field(init=False, default=None)
    _disk: OSError | None = field(init=False, default=None)
    _stop_batch: Callable[[], None] = field(init=False, default=lambda: None)
    _mute: bool = field(init=False, default=False)
    _refresh: Callable[[], None] = field(init=False, default=lambda: None)

    async def enhance(self, client: PhotaClient, items: list[_Item]) -> int:
        there = await existing([place for item in items for target in item.targets for place in _places(target)])
        with shown(self.counts, self.console) as self._refresh, self._signals():
            todo = [item for item in items if not self._skip(item, there)]
            try:
                async with client.enhance_stream(self._photos(todo), **_keywords(self.job.options)) as outcomes:
                    self._stop_batch = outcomes.stop
                    async for outcome in outcomes:
                        await self._landed(client, outcome, todo[outcome.index])
            except asyncio.CancelledError:
                if not self._interrupted:
                    raise
                asyncio.current_task().uncancel()  # type: ignore[union-attr]  # it is this coroutine that runs
                self.counts.failed += self.counts.in_flight
                self.counts.unknown += self.counts.in_flight
                self.counts.in_flight = 0
            for item in todo[self._taken :]:
                self._report(item, "not_attempted")
        self.counts.not_attempted = self.counts.total - self.counts.done
        return self._end()

    def _photos(self, todo: list[_Item]) -> Iterator[Path]:
        for item in todo:
            if self._stopped:
                return
            self._taken += 1
            self.counts.in_flight += 1
            self._refresh()
            yield item.source

    def _stop(self) -> None:
        self._stopped = True
        self._stop_batch()  # also those that wait for a slot or in a retry pause

    def _skip(self, item: _Item, there: set[Path]) -> bool:
        # Any image of it, in whatever format it came: what was bought once is not bought again.
        found = [place for target in item.targets for place in _places(target) if place in there]
        if not found:
            return False
        self.counts.skipped += 1
        self._report(item, "skipped", outputs=[str(place) for place in found])
        return True

    async def _landed(self, client: PhotaClient, outcome: Outcome, item: _Item) -> None:
        self.counts.in_flight -= 1
        if not outcome.attempted:
            self._report(item, "not_attempted")
        elif outcome.result is not None:
            await self._save(client, outcome.result, item)
        else:
            error = cast("Exception", outcome.error)
            await self._rescue(getattr(error, "images", ()), item)
            self._failed(error, item)
        self._refresh()

    async def _save(self, client: PhotaClient, result: EnhanceResult, item: _Item) -> None:
        count = len(result.images) or len(result.download_urls)
        price = PRICE_WITH_SUBJECT_USD if any(result.known_subjects.values()) else PRICE_USD
        self.counts.spent_usd += price * count
        saved: list[Path] = []
        try:
            for target, image in zip(item.targets, result.images, strict=False):
                saved.append(await image.save(target.with_suffix(image.extension)))
            # The service may answer with links where images were asked for; they are paid for all the same.
            for target, link in zip(item.targets, result.download_urls, strict=False):
                saved.append(await client.download(link, to=target))
        except DownloadError as error:
            self._failed(error, item)
            return
        except OSError as error:
            # The disk's failure will be the next photo's as well.
            self._disk = error
            self._stop()
            self._failed(error, item)
            return
        if count < len(item.targets):
            self.console.print(
                f"{escape(str(item.source))}: {count} of {len(item.targets)} images came", soft_wrap=True
            )
        self.counts.enhanced += 1
        self._report(item, "enhanced", outputs=[str(path) for path in saved], request_id=result.request_id)

    async def _rescue(self, images: tuple[EnhancedImage, ...], item: _Item) -> None:
        """Save what came intact with an answer that failed: it is most likely paid for."""
        for target, image in zip(item.targets, images, strict=False):
            try:
                path = await image.save(target.with_suffix(image.extension))
            except OSError as error:
                self._disk = error
                self._stop()
                return
            self.console.print(f"saved from an answer that failed: {escape(str(path))}", soft_wrap=True)

    def _failed(self, error: Exception, item: _Item) -> None:
        maybe_charged = bool(getattr(error, "maybe_charged", False))
        self.counts.failed += 1
        self.counts.unknown += maybe_charged
        if isinstance(error, ACCOUNT_ERRORS):
            self._account = self._account or error
            self._stop()
        self.console.print(f"[red]failed[/] {escape(str(item.source))}: {escape(str(error))}", soft_wrap=True)
        self._report(item, "failed", error=f"{type(error).__name__}: {error}", maybe_charged=maybe_charged)

    def _report(self, item: _Item, status: str, **facts: Any) -> None:
        if self.job.as_json:
            self._print(json.dumps({"source": str(item.source), "status": status, **facts}))
        elif status == "enhanced" and not sys.stdout.isatty():
            self._print(*facts["outputs"])

    def _print(self, *lines: str) -> None:
        if self._mute:
            return
        try:
            print(*lines, sep="\n", flush=True)  # noqa: T201  (stdout is for results)
        except OSError:
            # Whoever read it has gone. What is paid for is still worth landing.
            self._mute = True
            sys.stdout = StringIO()

    def _end(self) -> int:
        counts = self.counts
        code = self._code()
        if self._account:
            self.console.print(f"[bold]stopped:[/] {escape(str(self._account))}", soft_wrap=True)
        if self._disk:
            self.console.print(
                f"[bold]stopped:[/] cannot write to {escape(str(self.job.output))}: {escape(str(self._disk))}",
                soft_wrap=True,
            )
        if counts.unknown:
            self.console.print(
                f"{counts.unknown} of the failed may have been charged; they are not repeated by themselves"
            )
        self.console.print(f"{counts.line()} → {escape(str(self.job.output))}", soft_wrap=True, highlight=False)
        if self.job.as_json:
            facts = {
                name: getattr(counts, name) for name in ("enhanced", "failed", "skipped", "not_attempted", "unknown")
            }
            summary = {**facts, "spent_usd": round(counts.spent_usd, 2), "elapsed": round(counts.elapsed, 3)}
            self._print(json.dumps({"summary": summary, "exit_code": code}))
        return code

    def _code(self) -> int:
        if self._interrupted:
            return _EXIT_INTERRUPTED
        if self._account:
            return _EXIT_ACCOUNT
        if self._disk:
            return _EXIT_COULD_NOT_RUN
        if self.counts.unknown:
            return _EXIT_UNKNOWN
        return _EXIT_SOME_FAILED if self.counts.failed else 0

    @contextmanager
    def _signals(self) -> Generator[None]:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        numbers = (signal.SIGINT, signal.SIGTERM)

        def interrupt() -> None:
            if self._interrupted and task is not None:
                task.cancel()
                return
            self._interrupted = True
            self._stop()
            self.console.print("stopping: what is paid for will land; press Ctrl-C again to stop at once")

        def heard(_number: int, _frame: FrameType | None) -> None:
            loop.call_soon_threadsafe(interrupt)

        before = [signal.signal(number, heard) for number in numbers]
        try:
            yield
        finally:
            for number, handler in zip(numbers, before, strict=True):
                signal.signal(number, handler)


def _keywords(options: EnhanceOptions) -> Any:
    return {
        "prompt": options.prompt,
        "profile_ids": options.profile_ids,
        "num_output_images": options.num_output_images,
        "output_format": options.output_format,
    }


def _places(target: Path) -> list[Path]:
    """Where an image that was asked for as ``target`` may stand, by the format that it came in."""
    return [target, *(target.with_suffix(extension) for extension in (*EXTENSIONS.values(), ".bin"))]
