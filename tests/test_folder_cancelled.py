"""A folder run that is cancelled: what went out is in doubt, everything else is as it was, and nothing is left."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from anyio import to_thread
from folder_runs import (
    client,
    counts,
    make,
    run,
    sha256,
    standing,
    states,
    status,
)

from phota_async import (
    FolderEvent,
)
from phota_async.journal.items import DEAD_RUN
from phota_async.sandbox import Fault, Ledger, Sandbox


def _has_two_photos(ledger: Ledger) -> bool:
    return [one.sha256 is not None for one in ledger.requests] == [True, True]


def _has_downloads(ledger: Ledger) -> bool:
    return bool(ledger.downloads)


async def test_a_cancelled_run_leaves_what_was_in_flight_unknown(box: Sandbox, tmp_path: Path) -> None:
    source, output = make(tmp_path / "photos", "a.jpg", "b.jpg", "c.jpg"), tmp_path / "out"
    box.script(Fault(stall=math.inf), Fault(stall=math.inf))
    async with client(box, max_concurrency=2) as phota:
        running = asyncio.create_task(phota.enhance_folder(source, output))
        await to_thread.run_sync(box.ledger.wait, _has_two_photos)
        before = asyncio.all_tasks()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert running in before
        own = {task for task in asyncio.all_tasks() if task in before and "phota_async/folder" in repr(task)}
        assert own == set()
        sent = {one.sha256 for one in box.ledger.requests}
        found = await states(output)
        assert {sha256(name) for name, state in found.items() if state == "unknown"} == sent
        assert sorted(found.values()) == ["not_attempted", "unknown", "unknown"]
        folder = await status(output)
        assert (folder.running, folder.unknown, folder.not_attempted) == (False, 2, 1)
        assert folder.message == "stopped at once, with requests in flight"
        assert standing(output) == {}
        report = await phota.enhance_folder(source, output)
        assert counts(report) == {"enhanced": 1, "unknown": 2}
        assert {one.reason for one in report.failures} == {DEAD_RUN}
        assert {one.kind for one in report.failures} == {"OutcomeUnknownError"}
        assert counts(await phota.enhance_folder(source, output, retry_unknown=True)) == {"enhanced": 2, "skipped": 1}


async def test_a_walk_ends_when_its_run_is_cancelled(box: Sandbox, tmp_path: Path) -> None:
    source, loop, ended = make(tmp_path / "photos", "a.jpg"), asyncio.get_running_loop(), threading.Event()

    def sources() -> Iterator[Path]:
        try:
            yield source
            loop.call_soon_threadsafe(lambda: running.cancel())  # noqa: PLW0108  (it is assigned later)
            while True:
                yield source
        finally:
            ended.set()

    running = asyncio.create_task(run(box, sources(), tmp_path / "out"))
    with pytest.raises(asyncio.CancelledError):
        await running
    assert await to_thread.run_sync(ended.wait, 20)
    assert box.ledger.requests == []
    assert counts(await run(box, source, tmp_path / "out")) == {"enhanced": 1}


async def test_a_run_cancelled_before_a_request_went_out_leaves_it_as_it_was(box: Sandbox, tmp_path: Path) -> None:
    source, output = make(tmp_path / "photos", "a.jpg"), tmp_path / "out"

    def cancel(event: FolderEvent) -> None:
        if event.kind == "sent":
            running.cancel()

    running = asyncio.create_task(run(box, source, output, on_event=cancel))
    with pytest.raises(asyncio.CancelledError):
        await running
    assert await states(output) == {"a.jpg": "not_attempted"}
    assert counts(await run(box, source, output)) == {"enhanced": 1}
    assert box.ledger.charged_images == 1


@pytest.mark.parametrize("turns", [0, 1, 2, 5, 10, 20, 40, 60, 80, 100, 150, 200, 300, 500])
async def test_whenever_a_run_is_cancelled_only_what_went_out_is_in_doubt(
    box: Sandbox, tmp_path: Path, turns: int
) -> None:
    source, output = make(tmp_path / "photos", *(f"{number}.jpg" for number in range(12))), tmp_path / "out"
    async with client(box, max_concurrency=3) as phota:
        running = asyncio.create_task(phota.enhance_folder(source, output))
        for _ in range(turns):
            await asyncio.sleep(0)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
    report = await run(box, source, output)
    came = {one.sha256 for one in box.ledger.requests}
    assert {sha256(one.source.name) for one in report.failures} <= came
    assert report.failed == 0
    assert report.enhanced + report.skipped + report.unknown == 12
    assert all(charged == 1 for charged in box.ledger.charges.values())
    assert not list(output.rglob("*.partial"))


async def test_a_download_that_is_cancelled_leaves_no_half_file(box: Sandbox, tmp_path: Path) -> None:
    source, output = make(tmp_path / "photos", "a.jpg"), tmp_path / "out"
    box.script_downloads(Fault(slow=100))
    running = asyncio.create_task(run(box, source, output))
    await to_thread.run_sync(box.ledger.wait, _has_downloads)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert standing(output) == {}
    assert await states(output) == {"a.jpg": "answered"}
    report = await run(box, source, output)
    assert (counts(report), report.spent_usd) == ({"enhanced": 1}, 0.0)
