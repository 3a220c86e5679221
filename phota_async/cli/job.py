"""One run of ``phota-async enhance``: sources in, files out, an exit code at the end."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncGenerator, Callable, Generator, Iterable
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

from attrs import define, evolve, field, frozen
from rich.console import Console
from rich.markup import escape

from phota_async.cli.progress import Show, Words, shown
from phota_async.cli.results import Results, printable
from phota_async.client import PhotaClient
from phota_async.errors import JournalError
from phota_async.journal.views import status
from phota_async.records import FolderEvent, FolderProgress, FolderReport
from phota_async.threads import in_thread

COULD_NOT_RUN, SOME_FAILED, ACCOUNT, BUDGET, UNKNOWN, INTERRUPTED = 1, 3, 4, 5, 6, 130
NO_PHOTO = (
    "there is no photo to enhance: no JPEG, PNG, WebP or HEIC among the sources that --include and --exclude let"
    " through (output folders are passed over)"
)
_INTERRUPTED = "interrupted. To go on, run the same command again: what is paid for is not bought again"
_ONE_WISH_SECONDS = 0.3
_HINTS = {
    "failed": "why is said above; run again for the rest, with --retry-failed for what was refused",
    "unknown": "may have been charged, or were and are lost; only --retry-unknown buys them again",
}


@frozen(kw_only=True)
class Job:
    """What was asked for on the command line.

    Attributes:
        sources: Files and folders; read in a thread.
        output: Where images go.
        jobs: Calls in flight at most.
        options: What `PhotaClient.enhance_folder` takes of what `PhotaClient.enhance` does.
        rules: What else it takes.
        sandbox: Whether a local stand-in is used.
        base_url: Where the API is, or None.
        as_json: Whether results are printed as JSON Lines.
        progress: Whether progress is shown.
        fail_fast: Whether the first failure stops the run.
        must_find: Whether it is a mistake if there is no photo; an empty list is none.
    """

    sources: Iterable[Path]
    output: Path
    jobs: int = 16
    options: dict[str, Any] = field(factory=dict[str, Any])
    rules: dict[str, Any] = field(factory=dict[str, Any])
    sandbox: bool = False
    base_url: str | None = None
    as_json: bool = False
    progress: bool = True
    fail_fast: bool = False
    must_find: bool = True


def could_not_run(console: Console, why: str) -> int:
    """Say why something was not done, and return the exit code for it."""
    console.print(f"[bold red]phota-async:[/] {escape(printable(why))}", soft_wrap=True, highlight=False)
    return COULD_NOT_RUN


def in_words(error: Exception) -> str:
    """Return what an error says, without the system's numbers."""
    if isinstance(error, OSError) and error.filename is not None:
        return f"{os.fsdecode(error.filename)}: {error.strerror}"
    return str(error)


def with_complaint(code: int, results: Results, console: Console) -> int:
    """Return the exit code; say so where results could not be printed, which is an error by itself."""
    if results.complaint is None:
        return code
    return code or could_not_run(console, results.complaint)


async def run(job: Job, console: Console) -> int:
    """Run ``job`` and return the exit code."""
    async with AsyncExitStack() as stack:
        try:
            client = await stack.enter_async_context(_client(job, console))
            return await _Run(job, console).enhance(client)
        except (ImportError, ValueError, JournalError, OSError) as error:
            return could_not_run(console, in_words(error))


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
    _progress: FolderProgress = field(init=False, factory=FolderProgress)
    _stop: asyncio.Event = field(init=False, factory=asyncio.Event)
    _interrupted: bool = field(init=False, default=False)
    _warned: bool = field(init=False, default=False)
    _results: Results = field(init=False)
    _words: Words = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._results = Results(self.job.as_json)
        self._words = Words(self.job.options.get("num_output_images", 1), self.job.sandbox)

    async def enhance(self, client: PhotaClient) -> int:
        job = self.job
        try:
            with shown(self._words, self.console, hidden=not job.progress) as show, self._signals():
                report = await client.enhance_folder(
                    job.sources,
                    job.output,
                    stop=self._stop,
                    on_event=lambda event: self._heard(event, show),
                    **job.options,
                    **job.rules,
                )
        except asyncio.CancelledError:
            if not self._interrupted:
                raise
            asyncio.current_task().uncancel()  # type: ignore[union-attr]  # it is this coroutine that runs
            report = await self._cut_off()
        return self._end(report)

    def _heard(self, event: FolderEvent, show: Show) -> None:
        self._progress = event.progress
        if event.kind in {"failed", "unknown"}:
            color = "red" if event.kind == "failed" else "yellow"
            self._say(f"[{color}]{event.kind}[/] {_safe(_told(event))}")
            for link in event.download_urls:
                self._say(f"  paid for: {_safe(link)}")
            # What an earlier run met would stop every later one at its first photos.
            if self.job.fail_fast and (event.error or event.cost_usd):
                self._stop.set()
        self._results.photo(event)
        show(event.progress)

    async def _cut_off(self) -> FolderReport:
        """Return what is known of a run that was stopped at once."""
        unknown = self._progress.unknown
        with suppress(JournalError, OSError):  # there is none yet
            # A request whose body had not gone out whole is not in doubt: only the journal can tell.
            unknown = (await in_thread(status, self.job.output)).unknown
        self._progress = progress = evolve(self._progress, unknown=unknown, in_flight=0)
        return FolderReport(
            enhanced=progress.enhanced,
            skipped=progress.skipped,
            failed=progress.failed,
            unknown=unknown,
            not_attempted=progress.total - progress.settled,
            spent_usd=progress.spent_usd,
            elapsed=progress.elapsed,
        )

    def _end(self, report: FolderReport) -> int:
        if not self._progress.total and not self._interrupted:
            return could_not_run(self.console, NO_PHOTO) if self.job.must_find else self._nothing()
        code = self._code(report)
        message = _INTERRUPTED if self._interrupted else report.message
        if message:
            self._say(f"[bold]{_safe(message)}[/]")
        for name, hint in _HINTS.items():
            if count := getattr(report, name):
                self._say(f"{count} {name}: {hint}")
        counts = self._words.counts(self._progress, report.not_attempted)
        self._say(f"{counts}, {report.elapsed:.1f} s → {_safe(self.job.output)}")
        if self.job.as_json:
            self._results.facts(summary=summary(report), exit_code=code)
        return with_complaint(code, self._results, self.console)

    def _nothing(self) -> int:
        self._say("nothing to do: the list is empty")
        return 0

    def _say(self, text: str) -> None:
        with suppress(OSError):  # the terminal has gone
            self.console.print(text, soft_wrap=True, highlight=False)

    def _code(self, report: FolderReport) -> int:
        if self._interrupted:
            return INTERRUPTED
        if report.stopped_by in {"account", "budget", "disk"}:
            return {"account": ACCOUNT, "budget": BUDGET}.get(report.stopped_by, COULD_NOT_RUN)
        if report.unknown:
            return UNKNOWN
        return SOME_FAILED if report.failed or report.not_attempted else 0

    @contextmanager
    def _signals(self) -> Generator[None]:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        # A terminal that goes away is no reason to lose what is paid for; who said nohup wants no reaction at all.
        hangup: signal.Signals = getattr(signal, "SIGHUP", signal.SIGTERM)
        ignored = signal.getsignal(hangup) is signal.SIG_IGN
        numbers = (signal.SIGINT, signal.SIGTERM, *(() if ignored else (hangup,)))

        def warn() -> None:
            self._warned = True
            self._say("stopping: nothing new starts, what is paid for will land; press Ctrl-C again to stop at once")

        def interrupt() -> None:
            if self._warned and task is not None:
                task.cancel()
            elif not self._interrupted:
                self._interrupted = True
                self._stop.set()
                # Some who end a process, such as timeout, signal it twice at once: that is one wish.
                warning.append(loop.call_later(_ONE_WISH_SECONDS, warn))

        warning: list[asyncio.TimerHandle] = []
        try:
            with ExitStack() as stack:
                for number in numbers:
                    stack.enter_context(_listening(loop, number, interrupt))
                yield
        finally:
            for timer in warning:
                timer.cancel()


@contextmanager
def _listening(loop: asyncio.AbstractEventLoop, number: signal.Signals, react: Callable[[], None]) -> Generator[None]:
    def heard(_number: int, _frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(react)

    before = signal.getsignal(number)
    try:
        # Through the loop, because a signal that arrives just before the loop sleeps does not wake it otherwise.
        loop.add_signal_handler(number, react)
    except NotImplementedError:  # on Windows, where every signal wakes the loop
        signal.signal(number, heard)
    try:
        yield
    finally:
        with suppress(NotImplementedError):
            loop.remove_signal_handler(number)
        signal.signal(number, before)


def _told(event: FolderEvent) -> str:
    source, reason = str(event.source), event.reason or ""
    return reason if source in reason else f"{source}: {reason}"


def _safe(text: object) -> str:
    return escape(printable(str(text)))


def summary(report: FolderReport) -> dict[str, Any]:
    """Return the last line's facts."""
    counts = {name: getattr(report, name) for name in ("enhanced", "failed", "skipped", "not_attempted", "unknown")}
    stopped = {"stopped_by": report.stopped_by, "message": report.message} if report.stopped_by else {}
    return {**counts, "spent_usd": round(report.spent_usd, 4), "elapsed": round(report.elapsed, 3), **stopped}
