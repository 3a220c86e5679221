"""What a person sees while it runs: a live bar on a terminal, one line a minute elsewhere. All of it on stderr."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager

from attrs import define, field
from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

LINE_SECONDS = 60.0
"""How often a line is printed where there is no terminal."""


@define
class Counts:
    """Where the run stands.

    Attributes:
        total: Photos in all.
        enhanced: Photos whose images are saved.
        failed: Photos that failed.
        skipped: Photos whose images were there already.
        not_attempted: Photos whose turn never came.
        unknown: Failed ones that may have been charged.
        in_flight: Calls under way.
        spent_usd: What the answered images cost at the documented price.
        free: Whether nothing is really charged.
        begun: When it began, on the monotonic clock.
    """

    total: int
    enhanced: int = 0
    failed: int = 0
    skipped: int = 0
    not_attempted: int = 0
    unknown: int = 0
    in_flight: int = 0
    spent_usd: float = 0.0
    free: bool = False
    begun: float = field(factory=time.monotonic)

    @property
    def elapsed(self) -> float:
        """Seconds since it began."""
        return time.monotonic() - self.begun

    @property
    def done(self) -> int:
        """Photos that need no more work."""
        return self.enhanced + self.failed + self.skipped

    @property
    def per_minute(self) -> float:
        """Photos enhanced in a minute, on average so far."""
        return self.enhanced / max(self.elapsed, 1e-9) * 60

    def line(self) -> str:
        """Say it in one line."""
        words = [f"{self.enhanced} enhanced", f"{self.failed} failed"]
        words += [f"{self.skipped} skipped (already there)"] if self.skipped else []
        words += [f"{self.not_attempted} not attempted"] if self.not_attempted else []
        words += [f"{self.in_flight} in flight"] if self.in_flight else []
        return ", ".join([*words, self.spend, f"{self.elapsed:.1f} s"])

    @property
    def spend(self) -> str:
        """What it cost, in words."""
        return f"{self.spent_usd:.2f} USD" + (" (not charged)" if self.free else "")


@contextmanager
def shown(counts: Counts, console: Console, *, every: float = LINE_SECONDS) -> Generator[Callable[[], None]]:
    """Show ``counts`` while the block runs; call what is given whenever they have changed."""
    if not console.is_terminal:
        yield _lines(counts, console, every)
        return
    bar = Progress(
        SpinnerColumn(),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[words]}"),
        TimeRemainingColumn(compact=True),
        console=console,
    )
    task = bar.add_task("", total=counts.total, words="")

    def refresh() -> None:
        failed = f"[red]{counts.failed} failed[/red] · " if counts.failed else ""
        words = f"{failed}{counts.in_flight} in flight · {counts.per_minute:.1f}/min · {counts.spend}"
        bar.update(task, completed=counts.done, words=words)

    refresh()
    with Live(bar, console=console, transient=True, refresh_per_second=8):
        yield refresh


def _lines(counts: Counts, console: Console, every: float) -> Callable[[], None]:
    last = time.monotonic()

    def refresh() -> None:
        nonlocal last
        if time.monotonic() - last >= every:
            last = time.monotonic()
            console.print(escape(f"{counts.done} of {counts.total}: {counts.line()}"), soft_wrap=True)

    return refresh
