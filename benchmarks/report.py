"""Results as Markdown: medians with the least and the greatest, ratios, and which goals hold in this run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import median
from typing import Any

from benchmarks.asking import FLOOR, OURS
from benchmarks.results import Result

TITLES = {
    "cpu_ms": "CPU, ms a call",
    "peak_mb": "peak RSS, MB",
    "before_mb": "RSS before, MB",
    "waiting_mb": "RSS for each waiting call, MB",
    "stall_ms": "longest stall, ms",
    "stall_p99_ms": "p99 stall, ms",
    "wall_ms": "wall, ms a call",
    "server_ms": "the server's CPU, ms a call",
    "ping_p50_ms": "ping p50, ms",
    "ping_p99_ms": "ping p99, ms",
    "ping_max_ms": "ping max, ms",
    "unpunctual_p99_ms": "pings sent late by the load, p99 ms",
    "enhances_s": "enhances a second",
    "again_ratio": "wall, x bare",
    "again_cpu_ratio": "CPU, x bare",
    "again_ms": "wall, ms",
    "bare_ms": "bare, ms",
    "sent": "requests sent",
    "import_cpu_ms": "CPU, ms",
    "import_wall_ms": "wall, ms",
    "jain": "fairness (Jain's index)",
    "least_share": "least share, %",
    "goodput": "successes a second",
    "requests": "requests for each success",
    "makespan": "makespan, x ideal",
    "makespan_s": "makespan, s",
    "ideal_s": "ideal, s",
    "lost": "calls lost",
    "refused": "refused (503)",
    "failed": "failed (500)",
    "delivered": "images delivered, % of the calls",
    "charges": "charges for each delivered image",
    "charges_a_call": "charges for each call",
    "uncharged": "calls never charged",
    "again": "images bought again",
    "told": "not delivered, told maybe charged",
    "untold": "charged, not delivered, not told",
}
"""What each figure is, with its unit."""

_SHORT = ("cpu_ms", "peak_mb", "stall_ms")
_NAMES = {
    "floor": "floor: asyncio protocol and pybase64",
    "phota_async": "**phota_async**",
    "phota_async_folder": "phota_async, folder to folder",
    "aiohttp": "plain aiohttp",
    "httpx": "plain httpx",
    "requests": "requests in threads",
    "openai": "openai SDK's generic post",
    "openapi_python_client": "client by openapi-python-client",
    "openapi_generator": "client by openapi-generator",
}


def whole(run: dict[str, Any]) -> str:
    """Return a run as one page."""
    parts = [_circumstances(run), *(question(result) for result in run["questions"]), goals(run["questions"])]
    return "\n\n".join(parts) + "\n"


def question(result: Result) -> str:
    """Return one question's figures, and ours as multiples of the others'."""
    rounds: dict[str, list[dict[str, float]]] = result["rounds"]
    heading = f"### {result['name']}: {result['title']}"
    if not rounds:
        return f"{heading}\n\nNot asked: what it needs is not installed."
    names = list(dict.fromkeys(name for figures in rounds.values() for name in figures[0]))
    rows = [(client, *(_spread(figures, name) for name in names)) for client, figures in rounds.items()]
    number = max(len(figures) for figures in rounds.values())
    parts = [heading, f"Rounds of each: {number}. {result['about']}".strip()]
    parts.append(_table(("", *(TITLES[name] for name in names)), rows))
    if OURS in rounds and len(rounds) > 1:
        others = [
            (client, *(_ratio(rounds[OURS], figures, name) for name in names))
            for client, figures in rounds.items()
            if client != OURS
        ]
        parts.append(_table((f"{OURS} as a multiple of", *(TITLES[name] for name in names)), others))
    return "\n\n".join(parts)


def goals(results: Iterable[Result]) -> str:
    """Return which goals hold."""
    rows = [
        (
            result["name"],
            goal["client"],
            TITLES[goal["figure"]],
            _asked(goal),
            "not measured" if goal["value"] is None else shown(goal["value"]),
            {True: "yes", False: "**no**", None: ""}[goal["holds"]],
        )
        for result in results
        for goal in result["goals"]
    ]
    return "### Goals\n\n" + _table(("question", "of", "figure", "asked", "this run", "holds"), rows)


def _asked(goal: dict[str, Any]) -> str:
    beside = f" x {goal['beside']}" if goal["beside"] else ""
    return f"at {'least' if goal['at_least'] else 'most'} {shown(goal['limit'])}{beside}"


def summary(run: dict[str, Any], name: str) -> str:
    """Return the short table that the README shows: one question's figures, and their ratio to the floor."""
    (result,) = (one for one in run["questions"] if one["name"] == name)
    rounds: dict[str, list[dict[str, float]]] = result["rounds"]
    rows = [
        (
            _NAMES[client],
            shown(middle(figures, "cpu_ms")),
            f"{middle(figures, 'cpu_ms') / middle(rounds[FLOOR], 'cpu_ms'):.1f}",
            *(shown(middle(figures, one)) for one in _SHORT[1:]),
        )
        for client, figures in rounds.items()
    ]
    cpu, *others = (TITLES[one] for one in _SHORT)
    return _table(("", cpu, "x floor", *others), rows)


def middle(figures: Sequence[dict[str, float]], name: str) -> float:
    """Return the median of all rounds."""
    return median(one[name] for one in figures)


def shown(value: float) -> str:
    """Return a figure with three digits."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"  # noqa: PLR2004  (three digits)


def _circumstances(run: dict[str, Any]) -> str:
    lines = [f"## Benchmarks of {run['date']}{', a quick look' if run['quick'] else ''}", ""]
    lines += [f"- {name}: {value}" for name, value in run["machine"].items()]
    lines.append("- packages: " + ", ".join(f"{name} {version}" for name, version in run["versions"].items()))
    lines += [f"- {client} is missing: {why}" for client, why in run["missing"].items()]
    return "\n".join(lines)


def _spread(figures: Sequence[dict[str, float]], name: str) -> str:
    values = [one[name] for one in figures if name in one]
    if not values:
        return ""
    if len(values) == 1:
        return shown(values[0])
    return f"{shown(median(values))} ({shown(min(values))} to {shown(max(values))})"


def _ratio(ours: Sequence[dict[str, float]], others: Sequence[dict[str, float]], name: str) -> str:
    if name not in ours[0] or name not in others[0] or not middle(others, name):
        return ""
    return shown(middle(ours, name) / middle(others, name))


def _table(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heading, ["---"] * len(heading), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
