"""The benchmark suite: it runs, the books of its server are what counts, and what is quoted was measured."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import report, results
from benchmarks.asking import Answer, Circumstances, Goal, Question
from benchmarks.processes import audit, compared
from benchmarks.work import Shape

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
RUN: dict[str, Any] = json.loads((RESULTS / "results.json").read_text(encoding="utf-8"))


def where(folder: Path) -> Circumstances:
    return Circumstances(quick=True, folder=folder, python=Path(sys.executable), missing={"openai": "for a test"})


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_a_look_at_one_question_prints_its_figures_and_keeps_them_as_data(tmp_path: Path) -> None:
    asked = ["--quick", "--no-peers", "--only", "tiny", "--out", str(tmp_path)]
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-m", "benchmarks", *asked], cwd=ROOT, capture_output=True, text=True, timeout=55, check=True
    )
    run = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    (question,) = run["questions"]
    assert {"floor", "phota_async", "aiohttp", "aiohttp_closing"} <= set(question["rounds"])
    assert all(figures["cpu_ms"] > 0 for rounds in question["rounds"].values() for figures in rounds)
    assert report.question(question) in done.stdout
    assert (tmp_path / "results.md").read_text(encoding="utf-8") == report.whole(run)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_every_client_that_is_here_does_the_whole_work(tmp_path: Path) -> None:
    shape = Shape(photo_bytes=300_000, images=2, image_bytes=600_001, concurrency=4, calls=8)
    clients = ("floor", "phota_async", "phota_async_folder", "aiohttp", "httpx", "openai")
    answer = compared(shape, clients, where(tmp_path), rounds=3, course=True)
    assert list(answer.rounds) == ["floor", "phota_async", "phota_async_folder", "aiohttp", "httpx"]
    assert all(len(rounds) == 1 for rounds in answer.rounds.values())
    assert set(answer.series) == set(answer.rounds)


@pytest.mark.parametrize("book", ["requests", "answers", "received"])
def test_a_client_that_leaves_work_out_is_found_out(book: str) -> None:
    shape = Shape(photo_bytes=3000, image_bytes=6000, concurrency=1, calls=2)
    done = {"requests": 2, "answers": 2, "received": 2 * 4000}
    audit(done, 2, shape)
    with pytest.raises(ValueError, match="the server saw other work than 2 calls"):
        audit({**done, book: done[book] - 1}, 2, shape)


def test_a_goal_is_held_against_the_median_of_the_rounds() -> None:
    rounds = {"phota_async": [{"cpu_ms": value} for value in (1.0, 9.0, 2.0)], "floor": [{"cpu_ms": 4.0}]}
    goals = (
        Goal(figure="cpu_ms", limit=0.5, beside="floor"),
        Goal(figure="cpu_ms", limit=1.9),
        Goal(figure="cpu_ms", limit=1.0, beside="openai"),
    )
    question = Question(name="one", title="a title", ask=lambda _: Answer(rounds=rounds), goals=goals)
    result = results.result(question, Answer(rounds=rounds))
    assert [(goal["value"], goal["holds"]) for goal in result["goals"]] == [(0.5, True), (2.0, False), (None, None)]
    assert "| phota_async | 2 (1 to 9) |" in report.question(result)
    assert "| floor | 0.5 |" in report.question(result)
    assert "| one | phota_async | CPU, ms a call | at most 1.9 | 2 | **no** |" in report.goals([result])


def test_a_goal_may_ask_for_the_least() -> None:
    goal = Goal(figure="jain", limit=0.9, at_least=True)
    rounds = {"phota_async": [{"jain": 0.9}]}
    question = Question(name="one", title="a title", ask=lambda _: Answer(rounds=rounds), goals=(goal,))
    result = results.result(question, Answer(rounds=rounds))
    assert "| at least 0.9 | 0.9 | yes |" in report.goals([result])
    assert not goal.holds(0.89)


def test_what_is_written_reads_back() -> None:
    assert json.loads(results.written(RUN)) == RUN


def test_the_page_of_the_results_is_made_of_their_data() -> None:
    assert (RESULTS / "results.md").read_text(encoding="utf-8") == report.whole(RUN)
    assert not RUN["quick"]


def test_the_readme_quotes_what_was_measured() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert report.summary(RUN, "large") in readme
    assert f"on {RUN['date']}" in readme
    assert RUN["machine"]["cpu"] in readme


def middle(question: str, figure: str, client: str = "phota_async") -> float:
    """What was measured, with the three digits that are quoted."""
    (asked,) = (one for one in RUN["questions"] if one["name"] == question)
    return float(report.shown(report.middle(asked["rounds"][client], figure)))


def about(value: float) -> str:
    """Two digits of a quotient, or three of what begins with more."""
    digits = 3 if value >= 10_000 else 2
    return f"{float(f'{value:.{digits}g}'):,.0f}"


def test_the_readmes_arithmetic_is_of_what_was_measured() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    cpu, waiting = middle("large", "cpu_ms"), middle("waiting", "waiting_mb")
    calls, folder = 1000 / cpu, middle("large", "cpu_ms", "phota_async_folder")
    copied = 1000 / folder
    row = f"to folder: {folder:g} ms | {about(copied)} | {about(55 * copied)} | {about(432 * copied)} |"
    assert row in readme
    assert f"it is\n{middle('waiting', 'peak_mb'):g} MB.)" in readme
    assert f"÷ {cpu:g} ms a call | {about(calls)} | {about(55 * calls)} | {about(432 * calls)} |" in readme
    assert f"÷ {waiting:g} MB a call that waits | \N{EN DASH} | {about(4000 / waiting)} |" in readme
