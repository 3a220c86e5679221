"""What a person sees while a run goes on."""

from __future__ import annotations

import re
from io import StringIO
from pathlib import Path

import pytest
from attrs import evolve
from cli_process import json_lines, phota, process, two_photos
from rich.console import Console

from phota_async.cli.progress import Words, shown
from phota_async.records import FolderProgress
from phota_async.sandbox import Fault, Sandbox

BEGUN = FolderProgress(total=9, in_flight=2, width=4, elapsed=1.0)
HALFWAY = evolve(BEGUN, enhanced=3, failed=1, skipped=2, spent_usd=0.36, elapsed=30.0)


def test_zeros_are_told_only_where_they_are_news() -> None:
    assert Words().counts(BEGUN) == "0 enhanced, 0 failed, 0.00 USD"
    everything = Words(free=True).counts(evolve(HALFWAY, unknown=1), not_attempted=2)
    told = "3 enhanced, 1 failed, 1 unknown, 2 skipped, 2 not attempted, 0.36 USD (not charged)"
    assert everything == told


def test_the_pace_is_told_once_there_is_one() -> None:
    assert Words().pace(BEGUN) == "2 in flight (width 4)"
    # Four photos in 30 s, and three to go: what was skipped took no time.
    assert Words(images=2).pace(HALFWAY) == "2 in flight (width 4) · 12.0 images/min · ETA 0:00:22"
    assert "ETA" not in Words().pace(evolve(HALFWAY, skipped=5))
    assert "ETA 3:07:30" in Words().pace(evolve(HALFWAY, elapsed=15000.0))


def test_on_a_terminal_a_live_bar_is_shown() -> None:
    screen = StringIO()
    console = Console(file=screen, force_terminal=True, width=120)
    with shown(Words(), console) as show:
        show(evolve(HALFWAY, unknown=1))
    told = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.getvalue())
    assert "7/9" in told
    assert "7/9 · 1 failed · 1 unknown · 0.36 USD · 2 in flight (width 4)" in told


def test_on_a_narrow_terminal_the_figures_come_before_the_bar() -> None:
    screen = StringIO()
    with shown(Words(), Console(file=screen, force_terminal=True, width=60)) as show:
        show(evolve(HALFWAY, unknown=1))
    told = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.getvalue())
    assert "7/9 · 1 failed · 1 unknown · 0.36 USD" in told
    assert "━" not in told


def test_elsewhere_a_line_is_printed_now_and_then() -> None:
    printed = StringIO()
    with shown(Words(), Console(file=printed), every=0.0) as show:
        show(HALFWAY)
    assert printed.getvalue().startswith("6 of 9: 3 enhanced, 1 failed, 2 skipped, 0.36 USD, 2 in flight (width 4) · ")
    with shown(Words(), Console(file=printed)) as show:
        show(HALFWAY)
    assert printed.getvalue().count("\n") == 1


def test_hidden_progress_is_not_shown() -> None:
    screen = StringIO()
    with shown(Words(), Console(file=screen, force_terminal=True), hidden=True) as show:
        show(HALFWAY)
    assert screen.getvalue() == ""


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return two_photos(tmp_path / "photos")


def test_a_terminal_gets_a_bar_and_the_results_go_where_they_are_sent(
    photos: Path, tmp_path: Path, phota_sandbox: Sandbox
) -> None:
    (photos / "note.jpg").write_text("not a photo")
    phota_sandbox.script(Fault(reset="after"))
    terminal = {"FORCE_COLOR": "1", "COLUMNS": "200"}
    done = process("enhance", photos, "-o", tmp_path / "out", "--json", box=phota_sandbox, env=terminal)
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", done.stderr)
    assert "in flight" in plain
    assert "1 failed" in plain
    assert "/min" in plain
    statuses = sorted(line.get("status", "") for line in json_lines(done.stdout))
    assert statuses == ["", "enhanced", "failed", "unknown"]


def test_no_progress_leaves_the_results(photos: Path, tmp_path: Path, phota_sandbox: Sandbox) -> None:
    terminal = {"FORCE_COLOR": "1", "NO_COLOR": "1"}
    done = phota("enhance", photos, "-o", tmp_path / "out", "--no-progress", box=phota_sandbox, env=terminal)
    assert (done.returncode, len(done.stdout.splitlines())) == (0, 2)
    assert "in flight" not in done.stderr
