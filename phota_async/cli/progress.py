"""What a person sees while it runs: a live bar on a terminal, one line a minute elsewhere. All of it on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TypeAlias

from attrs import frozen
from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn
from rich.table import Column

from phota_async.records import FolderProgress

_WIDE = 100
LINE_SECONDS = 60.0
"""How often a line is printed where there is no terminal."""

Show: TypeAlias = Callable[[FolderProgress], None]


@frozen
class Words:
    """How a run's figures are put.

    Attributes:
        images: Images of a photo.
        free: Whether nothing is really charged.
    """

    images: int = 1
    free: bool = False

    @property
    def currency(self) -> str:
        """What stands after an amount."""
        return "USD (not charged)" if self.free else "USD"

    def spend(self, usd: float) -> str:
        """Return what was spent."""
        return f"{usd:.2f} {self.currency}"

    def counts(self, progress: FolderProgress, not_attempted: int = 0) -> str:
        """Return the counts and what was spent; zeros only where they are news."""
        counted = [(progress.enhanced, "enhanced"), (progress.failed, "failed"), (progress.unknown, "unknown")]
        rest = [(progress.skipped, "skipped"), (not_attempted, "not attempted")]
        shown = counted[:2] + [one for one in counted[2:] + rest if one[0]]
        return ", ".join([*(f"{count} {name}" for count, name in shown), self.spend(progress.spent_usd)])

    def pace(self, progress: FolderProgress) -> str:
        """Return what is under way, how fast, and how long it will take."""
        parts = [f"{progress.in_flight} in flight (width {progress.width})"]
        if progress.enhanced:
            parts.append(f"{progress.enhanced * self.images / max(progress.elapsed, 1e-9) * 60:.1f} images/min")
        worked = progress.settled - progress.skipped
        if worked and progress.settled < progress.total:
            parts.append(f"ETA {_clock((progress.total - progress.settled) * progress.elapsed / worked)}")
        return " · ".join(parts)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"


@contextmanager
def shown(words: Words, console: Console, *, every: float = LINE_SECONDS, hidden: bool = False) -> Generator[Show]:
    """Show progress while the block runs; what is given is called whenever there is some."""
    if hidden:
        yield lambda _: None
        return
    if not console.is_terminal:
        yield _lines(words, console, every)
        return
    # Where there is little room, figures are worth more than a bar.
    bar = Progress(
        SpinnerColumn(),
        *([BarColumn(bar_width=20)] if console.width >= _WIDE else []),
        TextColumn("{task.fields[words]}", table_column=Column(no_wrap=True, overflow="ellipsis")),
        console=console,
    )
    task = bar.add_task("", total=None, words="looking for photos")

    def show(progress: FolderProgress) -> None:
        troubles = [(progress.failed, "red", "failed"), (progress.unknown, "yellow", "unknown")]
        trouble = "".join(f"[{color}]{count} {name}[/{color}] · " for count, color, name in troubles if count)
        spend = words.spend(progress.spent_usd)
        line = f"{progress.settled}/{progress.total} · {trouble}{spend} · {words.pace(progress)}"
        bar.update(task, total=progress.total, completed=progress.settled, words=line)

    # What is printed goes above the bar where both are on the screen, and where it was sent to otherwise.
    with Live(bar, console=console, transient=True, refresh_per_second=8, redirect_stdout=sys.stdout.isatty()):
        yield show


def _lines(words: Words, console: Console, every: float) -> Show:
    last = time.monotonic()

    def show(progress: FolderProgress) -> None:
        nonlocal last
        if time.monotonic() - last >= every:
            last = time.monotonic()
            line = f"{progress.settled} of {progress.total}: {words.counts(progress)}, {words.pace(progress)}"
            console.print(escape(line), soft_wrap=True, highlight=False)

    return show
