"""What Ctrl-C, its like and a reader that leaves do to a run: no paid image is lost, and the end is told."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import NoReturn

import pytest
from cli_process import PHOTOS, heard, json_lines, phota, running, two_photos
from rich.console import Console

from phota_async.cli.job import Job, run
from phota_async.sandbox import Fault, Sandbox


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return two_photos(tmp_path / "photos")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_interrupt_lets_paid_calls_land_and_the_next_run_goes_on(
    number: signal.Signals, photos: Path, out: Path, phota_sandbox: Sandbox
) -> None:
    phota_sandbox.script(Fault(stall=0.7))
    with running("enhance", photos, "-o", out, "-j", "1", "--report", box=phota_sandbox) as process:
        assert phota_sandbox.ledger.wait(lambda ledger: ledger.in_flight == 1)
        process.send_signal(number)
        _, told = process.communicate()
    assert process.returncode == 130
    assert "press Ctrl-C again" in told
    assert "To go on, run the same command again" in told
    assert "1 enhanced, 0 failed, 1 not attempted, 0.12 USD" in told
    assert phota_sandbox.ledger.charged_images == len(list(out.rglob("*.png"))) == 1
    again = phota("enhance", photos, "-o", out, box=phota_sandbox)
    assert again.returncode == 0
    assert "1 enhanced, 0 failed, 1 skipped" in again.stderr
    assert phota_sandbox.ledger.charged_images == 2


def test_the_second_interrupt_stops_at_once_and_the_journal_says_unknown(
    photos: Path, out: Path, phota_sandbox: Sandbox
) -> None:
    phota_sandbox.script(Fault(stall=1000))
    with running("enhance", photos, "-o", out, "-j", "1", "--json", box=phota_sandbox) as process:
        assert phota_sandbox.ledger.wait(lambda ledger: ledger.in_flight == 1)
        process.send_signal(signal.SIGINT)
        heard(process, "press Ctrl-C again")
        process.send_signal(signal.SIGINT)
        printed, told = process.communicate()
    assert process.returncode == 130
    assert "1 unknown: may have been charged" in told
    assert "Traceback" not in told
    last = json_lines(printed)[-1]
    assert (last["exit_code"], last["summary"]["unknown"], last["summary"]["not_attempted"]) == (130, 1, 1)
    assert json_lines(phota("status", out, "--json").stdout)[-1]["summary"]["unknown"] == 1
    again = phota("enhance", photos, "-o", out, box=phota_sandbox)
    assert (again.returncode, phota_sandbox.ledger.charged_images) == (6, 1)


def test_what_is_paid_for_when_all_stops_is_told_and_fetched_later(
    photos: Path, out: Path, phota_sandbox: Sandbox
) -> None:
    phota_sandbox.script_downloads(Fault(stall=1000))
    with running("enhance", photos / "chelsea.png", "-o", out, box=phota_sandbox) as process:
        assert phota_sandbox.ledger.wait(lambda ledger: ledger.downloads)
        process.send_signal(signal.SIGINT)
        heard(process, "press Ctrl-C again")
        process.send_signal(signal.SIGTERM)
        _, told = process.communicate()
    assert process.returncode == 130
    assert "0 enhanced, 0 failed, 1 not attempted, 0.12 USD" in told
    assert "      1 paid for and not fetched yet" in phota("status", out).stdout
    assert "fetch\t" in phota("enhance", photos / "chelsea.png", "-o", out, "--dry-run", box=phota_sandbox).stdout
    again = phota("enhance", photos / "chelsea.png", "-o", out, box=phota_sandbox)
    assert (again.returncode, phota_sandbox.ledger.charged_images) == (0, 1)
    assert "1 enhanced, 0 failed, 0.00 USD" in again.stderr


def test_after_an_interrupt_nothing_is_bought_that_waited(photos: Path, out: Path, phota_sandbox: Sandbox) -> None:
    phota_sandbox.script(*[Fault(status=503, retry_after=1)] * 2)
    with running("enhance", photos, "-o", out, "-j", "2", "-v", box=phota_sandbox) as process:
        assert phota_sandbox.ledger.wait(lambda ledger: sum(one.status == 503 for one in ledger.requests) == 2)
        process.send_signal(signal.SIGINT)
        _, told = process.communicate()
    assert process.returncode == 130
    assert "0 enhanced, " in told
    assert (len(phota_sandbox.ledger.requests), phota_sandbox.ledger.charged_images) == (2, 0)


def test_after_an_interrupt_what_never_began_is_told(out: Path, phota_sandbox: Sandbox) -> None:
    phota_sandbox.script(None, Fault(stall=0.7))
    with running("enhance", PHOTOS, "-o", out, "-j", "1", "--json", box=phota_sandbox) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline()]
        assert phota_sandbox.ledger.wait(lambda ledger: ledger.in_flight)
        process.send_signal(signal.SIGINT)
        lines += process.communicate()[0].splitlines()
    statuses = sorted(line.get("status", "") for line in json_lines("\n".join(map(str.strip, lines))))
    assert statuses == ["", "enhanced", "enhanced", "not_attempted", "not_attempted"]
    assert phota_sandbox.ledger.charged_images == 2


def test_an_interrupt_ends_the_waiting_for_a_list(tmp_path: Path, out: Path) -> None:
    listing = tmp_path / "list"
    os.mkfifo(listing)
    # The list opens for writing when it is opened for reading.
    with running("enhance", "--files-from", listing, "-o", out, box=None) as process, listing.open("wb"):
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=30)
    assert (process.returncode, "Traceback" in told, out.exists()) == (130, False, False)


class WithoutSignals(asyncio.SelectorEventLoop):
    """A loop that takes no signals, as that of Windows."""

    def add_signal_handler(self, sig: int, callback: Callable[..., object], *args: object) -> NoReturn:
        raise NotImplementedError

    def remove_signal_handler(self, sig: int) -> NoReturn:
        raise NotImplementedError


def test_where_the_loop_takes_no_signals_an_interrupt_is_heard_all_the_same(
    photos: Path, out: Path, phota_sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PHOTA_API_KEY", "key")
    phota_sandbox.script(Fault(stall=0.7))
    job = Job(sources=[photos], output=out, jobs=1, base_url=phota_sandbox.url)

    async def interrupted() -> int:
        task = asyncio.create_task(run(job, Console(file=StringIO())))
        assert await asyncio.to_thread(phota_sandbox.ledger.wait, lambda ledger: ledger.in_flight == 1)
        signal.raise_signal(signal.SIGTERM)
        return await task

    before = signal.getsignal(signal.SIGTERM)
    with asyncio.Runner(loop_factory=WithoutSignals) as runner:
        assert runner.run(interrupted()) == 130
    assert signal.getsignal(signal.SIGTERM) is before
    assert phota_sandbox.ledger.charged_images == 1


async def test_a_cancelled_run_passes_the_cancellation_on(
    photos: Path, out: Path, phota_sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PHOTA_API_KEY", "key")
    phota_sandbox.script(Fault(stall=1000))
    job = Job(sources=[photos], output=out, jobs=1, base_url=phota_sandbox.url)
    before = signal.getsignal(signal.SIGINT)
    task = asyncio.create_task(run(job, Console(file=StringIO())))
    assert await asyncio.to_thread(phota_sandbox.ledger.wait, lambda ledger: ledger.in_flight == 1)
    assert signal.getsignal(signal.SIGINT) is not before
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert signal.getsignal(signal.SIGINT) is before


def test_a_reader_that_leaves_costs_nothing(photos: Path, out: Path, phota_sandbox: Sandbox) -> None:
    phota_sandbox.script(Fault(stall=0.5))
    with running("enhance", photos, "-o", out, "-j", "1", "--json", box=phota_sandbox) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        told = process.stderr.read()
        assert process.wait() == 0
    assert phota_sandbox.ledger.charged_images == len(list(out.rglob("*.png"))) == 2
    assert "could be printed" not in told
    assert "Exception ignored" not in told


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="no terminal hangs up there")
def test_one_wish_told_twice_and_a_terminal_that_hangs_up_let_paid_calls_land(
    photos: Path, out: Path, phota_sandbox: Sandbox
) -> None:
    phota_sandbox.script(Fault(stall=1.0))
    with running("enhance", photos, "-o", out, "-j", "1", box=phota_sandbox) as process:
        assert phota_sandbox.ledger.wait(lambda ledger: ledger.in_flight == 1)
        # Of these, whoever runs the tests with nohup has the first one ignored.
        for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
            process.send_signal(number)
        _, told = process.communicate()
    assert process.returncode == 130
    assert "1 enhanced, 0 failed, 1 not attempted, 0.12 USD" in told
