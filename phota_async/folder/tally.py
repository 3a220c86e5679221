"""The counts of a run, told to whoever listens."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

from attrs import define, field

from phota_async.folder.budget import Budget
from phota_async.records import (
    EventKind,
    FolderEvent,
    FolderFailure,
    FolderProgress,
    FolderReport,
    Paths,
    StopCause,
)

logger = logging.getLogger("phota_async")


@define(eq=False)
class Tally:
    """Counts what becomes of each photo, and tells ``on_event``.

    Attributes:
        budget: Where the money is counted.
        width: Gives how many requests may be under way.
        on_event: Who is told; what it raises is logged, it must not cost what is being paid for.
    """

    budget: Budget
    width: Callable[[], int]
    on_event: Callable[[FolderEvent], object] | None = None
    total: int = field(init=False, default=0)
    in_flight: int = field(init=False, default=0)
    stopped_by: StopCause | None = field(init=False, default=None)
    message: str | None = field(init=False, default=None)
    _enhanced: int = field(init=False, default=0)
    _skipped: int = field(init=False, default=0)
    _failed: int = field(init=False, default=0)
    _unknown: int = field(init=False, default=0)
    _outputs: Paths = field(init=False, factory=Paths)
    _failures: list[FolderFailure] = field(init=False, factory=list[FolderFailure])
    _begun: float = field(init=False, factory=lambda: asyncio.get_running_loop().time())

    @property
    def elapsed(self) -> float:
        """Seconds since the run began."""
        return asyncio.get_running_loop().time() - self._begun

    def enhanced(self, source: bytes, outputs: list[Path], request_id: str | None, cost_usd: float) -> None:
        """Count a photo whose images are in place."""
        self._enhanced += 1
        for path in outputs:
            self._outputs.append(path)
        self.tell("enhanced", source, outputs=tuple(outputs), request_id=request_id, cost_usd=cost_usd)

    def skipped(self, source: bytes, outputs: tuple[Path, ...], reason: str | None = None) -> None:
        """Count a photo with nothing left to do."""
        self._skipped += 1
        self.tell("skipped", source, outputs=outputs, reason=reason)

    def skipped_untold(self, count: int) -> None:
        """Count many such photos, where nobody listens."""
        self._skipped += count

    def lacks(self, failure: FolderFailure, cost_usd: float = 0.0) -> None:
        """Count a photo that is not enhanced, failed or unknown."""
        if failure.state == "failed":
            self._failed += 1
        else:
            self._unknown += 1
        self._failures.append(failure)
        self.tell(
            failure.state,
            os.fsencode(failure.source),
            reason=failure.reason,
            error=failure.error,
            error_kind=failure.kind,
            request_id=failure.request_id,
            cost_usd=cost_usd,
            download_urls=failure.download_urls,
        )

    def passed_by(self, source: bytes) -> None:
        """Tell of a photo whose turn never came."""
        self.tell("not_attempted", source, reason=self.message)

    def stopped(self, cause: StopCause, message: str, error: Exception | None) -> None:
        """Tell that nothing new starts any more."""
        self.stopped_by, self.message = cause, message
        self.tell("stopped", reason=message, error=error)

    @contextmanager
    def flight(self, source: bytes) -> Generator[None, None, None]:
        """Count a request that is under way."""
        self.in_flight += 1
        self.tell("sent", source)
        try:
            yield
        finally:
            self.in_flight -= 1

    def tell(  # noqa: PLR0913  (the facts of an event)
        self,
        kind: EventKind,
        source: bytes | None = None,
        *,
        outputs: tuple[Path, ...] = (),
        reason: str | None = None,
        error: Exception | None = None,
        error_kind: str | None = None,
        request_id: str | None = None,
        cost_usd: float = 0.0,
        download_urls: tuple[str, ...] = (),
    ) -> None:
        """Tell an event."""
        if self.on_event is None:
            return
        event = FolderEvent(
            kind=kind,
            progress=self.progress(),
            source=None if source is None else Path(os.fsdecode(source)),
            outputs=outputs,
            reason=reason,
            error=error,
            error_kind=error_kind,
            request_id=request_id,
            cost_usd=cost_usd,
            download_urls=download_urls,
        )
        try:
            self.on_event(event)
        except Exception:
            logger.exception("on_event raised")

    def progress(self) -> FolderProgress:
        """Return where the run stands."""
        return FolderProgress(
            total=self.total,
            enhanced=self._enhanced,
            skipped=self._skipped,
            failed=self._failed,
            unknown=self._unknown,
            in_flight=self.in_flight,
            width=self.width(),
            spent_usd=self.budget.spent,
            elapsed=self.elapsed,
        )

    def report(self) -> FolderReport:
        """Return what the run came to."""
        return FolderReport(
            enhanced=self._enhanced,
            skipped=self._skipped,
            failed=self._failed,
            unknown=self._unknown,
            not_attempted=self.total - self.progress().settled,
            outputs=self._outputs,
            failures=tuple(self._failures),
            spent_usd=self.budget.spent,
            elapsed=self.elapsed,
            stopped_by=self.stopped_by,
            message=self.message,
        )
