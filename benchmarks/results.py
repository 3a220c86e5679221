"""The results of a run as data: what was asked, every round's figures, the machine, the versions, the day.

A file of them is all that tables and pictures are made from, so that no figure is ever copied by hand.
"""

from __future__ import annotations

import json
import os
import platform
from datetime import date
from pathlib import Path
from typing import Any, TypeAlias

from attrs import asdict

from benchmarks.asking import Answer, Goal, Question

Result: TypeAlias = dict[str, Any]
"""One question's result, ready for JSON: ``name``, ``title``, ``about``, ``rounds``, ``series``, ``goals``."""


def machine() -> dict[str, str]:
    """Return what the figures depend on beside the software."""
    model = "unknown"
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "cpu": f"{model}, {os.cpu_count()} CPUs",
        "memory": f"{memory:.0f} GiB",
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
    }


def run(results: list[Result], versions: dict[str, str], missing: dict[str, str], *, quick: bool) -> dict[str, Any]:
    """Return a whole run."""
    return {
        "date": date.today().isoformat(),  # noqa: DTZ011  (the day where the machine stands)
        "quick": quick,
        "machine": machine(),
        "versions": versions,
        "missing": missing,
        "questions": results,
    }


def written(run: dict[str, Any]) -> str:
    """Return a run as JSON, with one line for each question."""
    head = {name: value for name, value in run.items() if name != "questions"}
    questions = ",\n  ".join(json.dumps(one) for one in run["questions"])
    return f'{json.dumps(head, indent=1)[:-2]},\n "questions": [\n  {questions}\n ]\n}}\n'


def result(question: Question, answer: Answer) -> Result:
    """Return one question's result."""
    return {
        "name": question.name,
        "title": question.title,
        "about": question.about,
        "rounds": {client: [_rounded(figures) for figures in rounds] for client, rounds in answer.rounds.items()},
        "series": {client: list(course) for client, course in answer.series.items()},
        "goals": [_verdict(goal, answer.value(goal)) for goal in question.goals],
    }


def _rounded(figures: Any) -> dict[str, float]:
    return {name: float(f"{value:.5g}") for name, value in figures.items()}


def _verdict(goal: Goal, value: float | None) -> dict[str, Any]:
    holds = None if value is None else goal.holds(value)
    return {**asdict(goal), "value": None if value is None else float(f"{value:.4g}"), "holds": holds}
