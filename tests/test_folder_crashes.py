"""Folder runs that are killed, for real: nothing is lost, bought twice unasked, or left half."""

from __future__ import annotations

import gc
import os
import random
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from folder_process import KILLED, Driver, Ended, Scene, sandbox

from phota_async.journal.views import status
from phota_async.sandbox import Fault

# Where a run is only one of many that may be killed, every operation is tried when EVERY_OPERATION is set.
STEP = 1 if os.environ.get("EVERY_OPERATION") else 3
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="processes are not forked there"),
    # aiohttp, serving a file, leaves it to the collector when the client dies while it is being opened.
    pytest.mark.filterwarnings("ignore:unclosed file .*phota-sandbox-:ResourceWarning"),
]

PAID_AND_SILENT = Fault(stall=float("inf"), charged=True)
DAY = 86400


@pytest.fixture(scope="module")
def driver() -> Iterator[Driver]:
    with Driver() as driver:
        yield driver


@pytest.fixture
def scene(tmp_path: Path, driver: Driver) -> Iterator[Scene]:
    with sandbox() as box:
        yield Scene(box=box, driver=driver, source=tmp_path / "photos", output=tmp_path / "enhanced")
    gc.collect()


@pytest.mark.timeout(180)
def test_killed_fifty_times_at_random_moments(scene: Scene) -> None:
    moments = random.Random(20260508)  # noqa: S311  (no secret)
    scene.fill(*range(200))
    scene.box.latency = 0.2
    photos = scene.photos()
    while scene.kills < 50:
        safe = {photos[name]: path for name, path in scene.images().items()}
        before = scene.charges()
        assert scene.run(kill_after=moments.uniform(0.0, 0.3)).status == KILLED
        assert not safe.keys() & (scene.charges() - before).keys()
    assert set(scene.charges().values()) == {1}
    scene.box.latency = 0.0
    assert scene.settle(in_flight=50 * scene.concurrency) > 0
    scene.check_still()


def sweep(scene: Scene, trial: Callable[[int], Ended], step: int = STEP) -> int:
    """Make trials from a clean slate, each broken off some operations later, until one comes to its end."""
    for number in range(1, 1000, step):
        shutil.rmtree(scene.output, ignore_errors=True)
        scene.box.ledger.reset()
        if trial(number).status == 0:
            return number
    raise AssertionError


@pytest.mark.timeout(180)
def test_killed_before_each_operation_on_the_disk(scene: Scene) -> None:
    scene.fill(0, 1, 2)
    doubts: list[int] = []

    def trial(number: int) -> Ended:
        ended = scene.run(kill_at=number)
        doubts.append(scene.settle(in_flight=scene.concurrency))
        return ended

    assert sweep(scene, trial, 1) > 40
    assert set(doubts) >= {0, 1}


@pytest.mark.timeout(180)
@pytest.mark.parametrize("overwrite", [False, True])
def test_killed_while_images_are_put_in_place_anew(scene: Scene, overwrite: bool) -> None:  # noqa: FBT001
    scene.fill(0, 1, 3)

    def trial(number: int) -> Ended:
        scene.run().whole()
        if not overwrite:
            for path in scene.images().values():
                path.unlink()
        before, wanted = scene.charges().total(), 3 * overwrite
        ended = scene.run(kill_at=number, overwrite=overwrite)
        if status(scene.output).ended:
            return ended  # an overwriting run after one that is complete buys anew
        unknown = scene.run(overwrite=overwrite).whole()["unknown"]
        assert scene.charges().total() - before <= wanted
        scene.run(retry_unknown=True).whole()
        assert scene.charges().total() - before <= wanted + unknown
        assert unknown <= scene.concurrency * overwrite
        scene.check_end()
        return ended

    assert sweep(scene, trial) > 20


def test_a_killed_run_that_is_killed_again_while_it_recovers(scene: Scene) -> None:
    scene.fill(0, 1, 2)

    def trial(number: int) -> Ended:
        scene.box.script(PAID_AND_SILENT)
        killing = scene.start()
        assert scene.box.ledger.wait(lambda ledger: ledger.charged_images == 3)
        killing.signal(signal.SIGKILL)
        assert killing.until_ended().status == KILLED
        ended = scene.run(kill_at=number)
        assert scene.settle(in_flight=scene.concurrency) >= 1
        return ended

    assert sweep(scene, trial) > 5


# ---- signals


@pytest.mark.parametrize("times", [1, 2])
def test_an_interrupted_run_leaves_in_doubt_what_was_in_flight(scene: Scene, times: int) -> None:
    scene.fill(*range(6))
    scene.box.script(None, None, PAID_AND_SILENT, PAID_AND_SILENT)
    running = scene.start()
    assert scene.box.ledger.wait(lambda ledger: ledger.charged_images == 4)
    for _ in range(times):
        running.signal(signal.SIGINT)
    assert running.until_ended().status == 130
    assert scene.settle(in_flight=2) == 2
    assert scene.charges().total() == 8


def test_a_terminated_run_leaves_in_doubt_what_was_in_flight(scene: Scene) -> None:
    scene.fill(0, 1)
    scene.box.script(Fault(stall=float("inf")), Fault(stall=float("inf")))
    running = scene.start()
    assert scene.box.ledger.wait(lambda ledger: len(ledger.requests) == 2)
    running.signal(signal.SIGTERM)
    assert running.until_ended().status == -signal.SIGTERM
    assert scene.settle(in_flight=2) == 2
    assert scene.charges().total() == 2


# ---- two at once


def test_a_second_run_is_refused_while_one_is_under_way(scene: Scene) -> None:
    scene.fill(0, 1, 2)
    scene.box.script(PAID_AND_SILENT)
    with Driver() as other:
        first = scene.start()
        assert scene.box.ledger.wait(lambda ledger: ledger.charged_images == 3)
        other.start(scene.job())
        second = other.until_ended()
        assert second.raised is not None
        assert second.raised["raised"] == "JournalError"
        assert "another run is writing" in second.raised["reason"]
        # What held the folder dies, and with it the hold.
        first.signal(signal.SIGKILL)
        assert first.until_ended().status == KILLED
    assert scene.settle(in_flight=scene.concurrency) >= 1


def test_runs_that_begin_at_the_same_moment_buy_nothing_twice(scene: Scene) -> None:
    scene.fill(*range(5))
    with Driver() as other:
        for driver in (scene.driver, other):
            driver.start(scene.job())
        ends = [driver.until_ended() for driver in (scene.driver, other)]
    assert any(ended.status == 0 for ended in ends)
    assert all(ended.status == 0 or ended.raised for ended in ends)
    assert scene.settle(in_flight=0) == 0


# ---- time


def test_the_clock_is_set_back_between_runs(scene: Scene) -> None:
    scene.fill(*range(5))
    scene.box.script(None, None, PAID_AND_SILENT)
    running = scene.start()
    assert scene.box.ledger.wait(lambda ledger: ledger.charged_images == 5)
    running.signal(signal.SIGKILL)
    assert running.until_ended().status == KILLED
    scene.always = {"clock": -400 * DAY}
    assert scene.settle(in_flight=scene.concurrency) >= 1
    scene.check_still()
