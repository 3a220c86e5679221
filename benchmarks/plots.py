"""Results as pictures; matplotlib comes with the dependency group ``benchmark``."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeAlias

from benchmarks.asking import FLOOR, OURS
from benchmarks.processes import progress
from benchmarks.report import TITLES, middle, shown
from benchmarks.results import Result

Figure: TypeAlias = Any  # matplotlib's, which is not installed where types are checked
Axes: TypeAlias = Any

_DOTS = 110  # an inch
_BARS = ("cpu_ms", "peak_mb", "stall_ms")
_OURS, _FLOOR, _OTHER = "#1a7f5a", "#9aa5b1", "#c96f4a"


def drawn(run: dict[str, Any], folder: Path) -> list[str]:
    """Draw what a run has figures for into ``folder``, and return the files' names."""
    if find_spec("matplotlib") is None:
        progress("no pictures: matplotlib is not installed (dependency group benchmark)")
        return []
    found = {result["name"]: result for result in run["questions"]}
    pictures: dict[str, tuple[str, Callable[[Result], Figure]]] = {
        "bars.png": ("large", _bars),
        "memory.png": ("large", _memory),
        "makespan.png": ("makespan", _makespan),
    }
    made: list[str] = []
    for name, (wanted, draw) in pictures.items():
        if wanted in found:
            draw(found[wanted]).savefig(folder / name, dpi=_DOTS)
            made.append(name)
    return made


def _bars(result: Result) -> Figure:
    """Draw each client's CPU, memory and longest stall beside each other."""
    figure = _figure(11, 0.36 * len(result["rounds"]) + 1.2)
    panels = figure.subplots(1, len(_BARS), sharey=True)
    for axes, name in zip(panels, _BARS, strict=True):
        _bar_panel(axes, {client: [one[name] for one in rounds] for client, rounds in result["rounds"].items()})
        axes.set_title(TITLES[name], fontsize=10, loc="left")
    figure.suptitle(result["title"], fontsize=10, x=0.01, ha="left")
    return figure


def _color(client: str) -> str:
    if client == FLOOR:
        return _FLOOR
    return _OURS if client.startswith(OURS) else _OTHER


def _bar_panel(axes: Axes, figures: dict[str, list[float]], color: Callable[[str], str] = _color) -> None:
    """Draw medians as bars, with the least and the greatest as whiskers."""
    clients = list(figures)[::-1]
    medians = [middle([{"": value} for value in figures[client]], "") for client in clients]
    spread = [
        [value - min(figures[client]) for client, value in zip(clients, medians, strict=True)],
        [max(figures[client]) - value for client, value in zip(clients, medians, strict=True)],
    ]
    axes.barh(clients, medians, xerr=spread, color=[color(client) for client in clients], ecolor="#444", height=0.7)
    for place, client in enumerate(clients):
        axes.annotate(f" {shown(medians[place])}", (max(figures[client]), place), va="center", fontsize=8)
    axes.set_xmargin(0.2)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)


def _memory(result: Result) -> Figure:
    """Draw each client's resident set over time, while it does the same work."""
    figure = _figure(9, 4)
    axes = figure.subplots()
    for client, course in result["series"].items():
        ours = client.startswith(OURS)
        width = 2.2 if ours or client == FLOOR else 1.0
        axes.plot([at for at, _ in course], [mb for _, mb in course], label=client, linewidth=width)
    axes.set_xlabel("seconds since the work began")
    axes.set_ylabel("resident set, MB")
    axes.set_ylim(bottom=0)
    axes.set_title(f"Memory over time: {result['title']}", fontsize=10, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=8, frameon=False)
    return figure


def _makespan(result: Result) -> Figure:
    """Draw how long each course took as a multiple of the ideal."""
    figure = _figure(7, 0.36 * len(result["rounds"]) + 1.0)
    axes = figure.subplots()
    courses = {course: [one["makespan"] for one in rounds] for course, rounds in result["rounds"].items()}
    _bar_panel(axes, courses, lambda _: _OURS)
    axes.axvline(1.0, color="#444", linewidth=1, linestyle="--")
    axes.set_title(TITLES["makespan"], fontsize=10, loc="left")
    return figure


def _figure(width: float, height: float) -> Figure:
    return import_module("matplotlib.figure").Figure(figsize=(width, height), layout="constrained")
