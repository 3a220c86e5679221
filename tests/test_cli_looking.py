"""What is told without buying anything: dry runs, where a folder stands, its report, help, completion."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest
from cli_process import PHOTOS, json_lines, phota, process, running, two_photos

from phota_async.journal import NAME
from phota_async.sandbox import Fault, Sandbox


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return two_photos(tmp_path / "photos")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


# ---- a dry run


def test_a_dry_run_tells_what_would_be_sent_and_makes_nothing(photos: Path, out: Path, phota_sandbox: Sandbox) -> None:
    done = phota("enhance", photos, "-o", out, "--dry-run", "-n", "2", box=phota_sandbox)
    assert done.returncode == 0
    assert done.stdout.splitlines() == [f"send\t{photos / 'chelsea.png'}", f"send\t{photos / 'trip' / 'rocket.jpg'}"]
    assert "2 to be sent" in done.stderr
    assert "4 images: at most 0.60 USD, 0.48 USD where no known subject is recognised; nothing was sent" in done.stderr
    assert (out.exists(), phota_sandbox.ledger.requests) == (False, [])


def test_a_dry_run_needs_no_key_and_knows_the_budget(photos: Path, out: Path) -> None:
    done = phota("enhance", photos / "chelsea.png", "-o", out, "--dry-run", "--max-cost", "0.1")
    assert done.returncode == 0
    assert "1 image: at most 0.15 USD" in done.stderr
    assert "--max-cost stops it before 0.10 USD are passed" in done.stderr
    enough = phota("enhance", photos, "-o", out, "--dry-run", "--max-cost", "9", "--sandbox")
    assert "0.24 USD where no known subject is recognised (the sandbox charges nothing); nothing" in enough.stderr


def test_a_dry_run_knows_what_is_done_failed_and_unknown(photos: Path, out: Path, phota_sandbox: Sandbox) -> None:
    phota("enhance", photos / "chelsea.png", "-o", out, box=phota_sandbox)
    for fault, name in (Fault(status=400, detail="no"), "astronaut.png"), (Fault(reset="after"), "coffee.png"):
        phota_sandbox.script(fault)
        phota("enhance", PHOTOS / name, "-o", out, box=phota_sandbox)
    before = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    sources = [photos, PHOTOS / "astronaut.png", PHOTOS / "coffee.png"]
    done = phota("enhance", *sources, "-o", out, "--dry-run", "--json", box=phota_sandbox)
    *lines, last = json_lines(done.stdout)
    assert {Path(line["source"]).stem: line["status"] for line in lines} == {
        "astronaut": "failed",
        "chelsea": "skip",
        "coffee": "unknown",
        "rocket": "send",
    }
    counts = {"send": 1, "fetch": 0, "skip": 1, "failed": 1, "unknown": 1}
    assert last == {"summary": {**counts, "images": 1, "max_cost_usd": 0.15, "min_cost_usd": 0.12}}
    assert "1 failed earlier, left alone (--retry-failed)" in done.stderr
    again = ("--retry-failed", "--retry-unknown", "--overwrite")
    done = phota("enhance", *sources, "-o", out, "--dry-run", "--json", *again, box=phota_sandbox)
    assert json_lines(done.stdout)[-1]["summary"]["send"] == 4
    assert {path: path.stat().st_mtime_ns for path in out.iterdir()} == before
    assert len(phota_sandbox.ledger.requests) == 3
    done = phota("enhance", photos / "chelsea.png", "-o", out, "--dry-run", box=phota_sandbox)
    assert (done.stdout, "there is nothing to buy; nothing was sent" in done.stderr) == ("", True)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--include", "*.webp"], "there is no photo to enhance"),
        (["--base-url", "http://["], "Invalid IPv6 URL"),
        (["--max-cost", "nan"], "max_cost_usd must be"),
        (["-o", "{photos}"], "is the source itself"),
    ],
)
def test_a_dry_run_that_foresees_no_run_says_why(more: list[str], words: str, photos: Path, out: Path) -> None:
    given = [word.format(photos=photos) for word in more]
    done = phota("enhance", photos, "-o", out, "--dry-run", *given)
    assert (done.returncode, done.stdout, words in done.stderr) == (1, "", True)


# ---- where a folder stands


def test_status_tells_counts_spend_and_reasons(photos: Path, out: Path, phota_sandbox: Sandbox) -> None:
    (photos / "no\nte.jpg").write_text("not a photo")
    phota("enhance", photos, "-o", out, box=phota_sandbox)
    lines = phota("status", out).stdout.splitlines()
    assert lines[:3] == [
        "      2 enhanced",
        "      1 failed: --retry-failed sends again what the service refused",
        "   0.24 USD (not charged) spent in all",
    ]
    assert lines[3].startswith("the last run went from 20")
    assert lines[4].startswith("failed: no\\x0ate.jpg: ")
    trouble, last = json_lines(phota("status", out, "--json").stdout)
    assert trouble["source"] == str(photos / "no\nte.jpg")
    assert trouble["status"] == "failed"
    assert "JPEG" in trouble["error"]
    assert last["summary"] | {"begun": 0, "ended": 0} == {
        "enhanced": 2,
        "answered": 0,
        "failed": 1,
        "unknown": 0,
        "not_attempted": 0,
        "spent_usd": 0.24,
        "running": False,
        "begun": 0,
        "ended": 0,
        "message": None,
        "stand_in": True,
    }


def test_status_shows_the_first_failures_or_all(tmp_path: Path, out: Path, phota_sandbox: Sandbox) -> None:
    for number in range(21):
        (tmp_path / f"{number}.jpg").write_text("not a photo")
    phota("enhance", tmp_path, "-o", out, box=phota_sandbox)
    some, all_of_them = (phota("status", out, *more).stdout.splitlines() for more in ([], ["-v"]))
    assert (len(some), some[-1]) == (3 + 20 + 1, "... and more: -v shows all")
    assert len(all_of_them) == 3 + 21


def test_status_says_what_stopped_the_last_run(photos: Path, out: Path, phota_sandbox: Sandbox) -> None:
    phota("enhance", photos, "-o", out, "--max-cost", "0.1", box=phota_sandbox)
    told = phota("status", out).stdout
    assert "      2 not attempted yet: run again" in told
    assert "; stopped: the budget of 0.10 USD would be passed" in told


def test_status_knows_a_run_that_is_under_way_and_one_that_was_killed(
    photos: Path, out: Path, phota_sandbox: Sandbox
) -> None:
    phota_sandbox.script(Fault(stall=1000))
    with running("enhance", photos, "-o", out, "-j", "1", box=phota_sandbox) as killed:
        assert phota_sandbox.ledger.wait(lambda ledger: ledger.in_flight == 1)
        told = phota("status", out).stdout
        assert "a run is under way, since 20" in told
        assert "      2 not attempted yet" in told
        assert json_lines(phota("status", out, "--json").stdout)[-1]["summary"]["running"] is True
        killed.send_signal(signal.SIGKILL)
        killed.wait()
    told = phota("status", out).stdout
    assert "was killed or could not begin; run again to go on" in told
    assert "      1 may have been charged, or were and are lost: --retry-unknown buys them again" in told
    assert "the run ended before the answer came" in told


@pytest.mark.parametrize("command", [["status"], ["status", "--json"], ["report"]])
def test_a_folder_without_a_journal_or_with_a_damaged_one_is_told(command: list[str], out: Path) -> None:
    assert phota(*command, out).returncode == 2
    out.mkdir()
    none = phota(*command, out)
    assert (none.returncode, none.stdout) == (1, "")
    assert "nothing was enhanced into it" in none.stderr
    (out / NAME).write_bytes(b"no journal at all" * 100)
    damaged = phota(*command, out)
    assert (damaged.returncode, damaged.stdout) == (1, "")
    assert "To go on, move it away and run again" in damaged.stderr


def test_a_damaged_journal_stops_a_run_before_it_buys(photos: Path, out: Path, phota_sandbox: Sandbox) -> None:
    out.mkdir()
    (out / NAME).write_bytes(b"no journal at all" * 100)
    for more in ([], ["--dry-run"]):
        done = phota("enhance", photos, "-o", out, *more, box=phota_sandbox)
        assert (done.returncode, "To go on, move it away" in done.stderr) == (1, True)
    assert phota_sandbox.ledger.requests == []


# ---- the report


def test_report_writes_the_page_and_leaves_another_ones_alone(photos: Path, out: Path, phota_sandbox: Sandbox) -> None:
    phota("enhance", photos, "-o", out, box=phota_sandbox)
    done = phota("report", out)
    assert (done.returncode, done.stdout) == (0, "")
    assert f"report: {out / 'report.html'}" in done.stderr
    assert b"chelsea.png" in (out / "report.html").read_bytes()
    (out / "report.html").write_text("somebody else's")
    done = phota("enhance", photos, "-o", out, "--report", box=phota_sandbox)
    assert done.returncode == 1
    assert "no report: " in done.stderr
    assert "move it away first" in done.stderr


# ---- help and completion


@pytest.mark.parametrize("command", [[], ["enhance"], ["status"], ["report"], ["completion"], ["sandbox"]])
def test_help_fits_a_terminal(command: list[str]) -> None:
    done = phota(*command, "--help", env={"COLUMNS": "100"})
    assert (done.returncode, done.stderr) == (0, "")
    assert max(map(len, done.stdout.splitlines())) <= 100
    assert "..." not in done.stdout.partition("Commands:")[2]


def test_help_tells_every_option_and_exit_code() -> None:
    told = phota("enhance", "--help").stdout
    options = (
        "-o -n -j -v --output --prompt --profile-id --format --include --exclude --files-from --dry-run --overwrite"
    )
    more = "--retry-failed --retry-unknown --checksum --max-cost --fail-fast --report --json --no-progress --sandbox"
    for option in (options + " " + more + " --base-url").split():
        assert f"{option} " in told or f"{option}," in told
    for code in ("0 all done", "1 could not run", "2 usage", "3 some", "4 stopped", "5 budget", "6 unknown", "130 int"):
        assert code in told
    assert phota("--version").stdout.startswith("phota-async, version ")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_what_the_shell_needs(shell: str) -> None:
    done = phota("completion", shell)
    assert done.returncode == 0
    assert f"_PHOTA_ASYNC_COMPLETE={shell}_complete" in done.stdout
    assert "phota-async" in done.stdout


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("phota-async ", {"enhance", "status", "report", "completion", "sandbox"}),
        ("phota-async enhance --retry-", {"--retry-failed", "--retry-unknown"}),
        ("phota-async enhance --format ", {"png", "jpg"}),
    ],
)
def test_completion_completes(words: str, expected: set[str]) -> None:
    place = str(len(words.split(" ")) - 1)
    env = {"_PHOTA_ASYNC_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": place}
    told = process(env=env).stdout
    assert {line.partition(",")[2] for line in told.splitlines()} == expected


def test_the_bash_script_is_one() -> None:
    script = phota("completion", "bash").stdout
    assert subprocess.run(["bash", "-n"], input=script, text=True, check=False).returncode == 0  # noqa: S607
