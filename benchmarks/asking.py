"""What a question is, what answers it, and what is asked of the answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import TypeAlias

from attrs import field, frozen

OURS, FLOOR, PLAIN = "phota_async", "floor", "aiohttp"

Figures: TypeAlias = Mapping[str, float]
"""What one round measured, by the names of `benchmarks.report.TITLES`."""


@frozen(kw_only=True)
class Goal:
    """What one figure of one client may be at most, or has to be at least.

    Attributes:
        figure: Its name.
        limit: The most (or the least) it may be: times the same figure of ``beside``, or as it stands where
            that is None.
        beside: The client that it is compared with.
        client: Whose figure it is.
        at_least: Whether the limit is the least.
    """

    figure: str
    limit: float
    beside: str | None = None
    client: str = OURS
    at_least: bool = False

    def holds(self, value: float) -> bool:
        """Whether a value keeps to it."""
        return value >= self.limit if self.at_least else value <= self.limit


@frozen(kw_only=True)
class Answer:
    """What was measured.

    Attributes:
        rounds: For each client, each round's figures.
        series: For each client a course over time, as pairs of seconds and megabytes.
    """

    rounds: Mapping[str, Sequence[Figures]]
    series: Mapping[str, Sequence[tuple[float, float]]] = field(factory=dict[str, Sequence[tuple[float, float]]])

    def middle(self, client: str, figure: str) -> float:
        """Return the median of a client's figure over all rounds."""
        return median(figures[figure] for figures in self.rounds[client])

    def value(self, goal: Goal) -> float | None:
        """Return what is held against a goal, or None where one of the two was not measured."""
        if goal.client not in self.rounds or (goal.beside is not None and goal.beside not in self.rounds):
            return None
        value = self.middle(goal.client, goal.figure)
        return value if goal.beside is None else value / self.middle(goal.beside, goal.figure)


@frozen(kw_only=True)
class Circumstances:
    """Where and how questions are asked.

    Attributes:
        quick: Whether a look is enough: one round, fewer calls.
        folder: A folder for what questions write; it is removed after all.
        python: The interpreter that the clients run in.
        missing: Clients that cannot run here, and why.
    """

    quick: bool
    folder: Path
    python: Path
    missing: Mapping[str, str] = field(factory=dict[str, str])

    def present(self, clients: Sequence[str]) -> list[str]:
        """Return those that can run here."""
        return [client for client in clients if client not in self.missing]

    def rounds(self, number: int) -> range:
        """Return the rounds to make, of ``number`` in a real measurement."""
        return range(1 if self.quick else number)


@frozen(kw_only=True)
class Question:
    """A question.

    Attributes:
        name: What to call it in ``--only``.
        title: What the work is, in words.
        ask: Measures the answer.
        goals: What is asked of it.
        about: What else a reader of its table should know.
    """

    name: str
    title: str
    ask: Callable[[Circumstances], Answer]
    goals: tuple[Goal, ...] = ()
    about: str = ""
