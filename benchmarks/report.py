"""Figures as Markdown: medians with the least and the greatest, ratios, and which goals hold in this run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import median

from attrs import AttrsInstance, fields, frozen

from benchmarks.shapes import CLIENTS, OURS, PLAIN, Goal

_NAMES = {
    "cpu_ms": "CPU, ms a call",
    "peak_mb": "peak RSS, MB",
    "before_mb": "RSS before, MB",
    "waiting_mb": "RSS for each waiting call, MB",
    "stall_ms": "longest stall, ms",
    "stall_p99_ms": "p99 stall, ms",
    "wall_s": "wall, s",
    "import_cpu_ms": "CPU, ms",
    "import_wall_ms": "wall, ms",
    "makespan": "makespan, x ideal",
    "makespan_s": "makespan, s",
    "requests": "requests for each success",
    "refused": "refused (503)",
    "failed": "failed (500)",
    "lost": "calls lost",
    "tenth_peak_mb": "peak RSS of a tenth of them, MB",
    "few_peak_mb": "peak RSS of 100, MB",
    "peak_ratio": "peak RSS, x that of fewer",
    "a_photo_ms": "wall, ms a photo",
    "again_ratio": "wall, x bare",
    "again_cpu_ratio": "CPU, x bare",
    "again_ms": "wall, ms",
    "bare_ms": "bare, ms",
    "sent": "requests sent",
    "journal_ms": "the journal, ms a photo",
}


@frozen
class Verdict:
    """A goal, and what this run says to it."""

    title: str
    goal: Goal
    value: float

    @property
    def holds(self) -> bool:
        """Whether the goal was reached."""
        return self.value <= self.goal.limit


def table(title: str, measured: Mapping[str, Sequence[AttrsInstance]]) -> str:
    """Return one question's figures; a ratio where two clients are compared."""
    clients = [client for client in CLIENTS if client in measured]
    compared = len(clients) > 1
    names = [field.name for field in fields(type(measured[OURS][0]))]
    rows = [
        (
            _NAMES[name],
            *(_spread(_all(measured[client], name)) for client in clients),
            *((_shown(_ratio(measured, name)),) if compared else ()),
        )
        for name in names
        if any(any(_all(measured[client], name)) for client in clients)
    ]
    rounds = len(measured[OURS])
    return f"### {title}\n\nRounds of each: {rounds}\n\n" + _table(
        ("", *clients, *(("ratio",) if compared else ())), rows
    )


def verdicts(title: str, goals: Iterable[Goal], measured: Mapping[str, Sequence[AttrsInstance]]) -> list[Verdict]:
    """Return what a question's figures say to its goals."""
    return [
        Verdict(
            title,
            goal,
            _ratio(measured, goal.figure) if goal.relative else median(_all(measured[OURS], goal.figure)),
        )
        for goal in goals
    ]


def summary(found: Iterable[Verdict]) -> str:
    """Return which goals hold."""
    rows = [
        (
            verdict.title,
            _NAMES[verdict.goal.figure],
            f"{_shown(verdict.goal.limit)}{' x aiohttp' if verdict.goal.relative else ''}",
            _shown(verdict.value),
            "yes" if verdict.holds else "**no**",
        )
        for verdict in found
    ]
    return "### Goals\n\n" + _table(("question", "figure", "at most", "this run", "holds"), rows)


def _all(figures: Sequence[AttrsInstance], name: str) -> list[float]:
    return [getattr(one, name) for one in figures]


def _ratio(measured: Mapping[str, Sequence[AttrsInstance]], name: str) -> float:
    plain = median(_all(measured[PLAIN], name))
    return median(_all(measured[OURS], name)) / plain if plain else float("inf")


def _spread(values: Sequence[float]) -> str:
    return f"{_shown(median(values))} ({_shown(min(values))} to {_shown(max(values))})"


def _shown(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"  # noqa: PLR2004  (three digits)


def _table(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heading, ["---"] * len(heading), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
