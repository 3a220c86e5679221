"""What stops a folder run: nothing new starts, what is in flight lands, the rest waits for the next run."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from anyio import to_thread
from blockbuster import BlockBuster
from folder_runs import (
    NO_RETRY,
    client,
    counts,
    make,
    once,
    one_by_one,
    picture,
    put,
    run,
    standing,
    states,
    status,
)
from PIL import Image

from phota_async import FolderEvent, FolderReport, JournalError, PhotaClient, RetryPolicy
from phota_async.journal import LOCK_NAME, NAME, Journal
from phota_async.sandbox import Fault, Ledger, Sandbox

NAMES = tuple(f"{number}.jpg" for number in range(6))
REFUSALS = {401: "check PHOTA_API_KEY", 402: "no credits left", 403: "check PHOTA_API_KEY"}


def adds_up(report: FolderReport, total: int = len(NAMES)) -> bool:
    return report.enhanced + report.skipped + report.failed + report.unknown + report.not_attempted == total


# ---- the account


@pytest.mark.parametrize("code", REFUSALS)
async def test_an_account_that_is_refused_stops_the_run(box: Sandbox, tmp_path: Path, code: int) -> None:
    source, output = make(tmp_path / "photos", *NAMES), tmp_path / "out"
    box.script(None, Fault(status=code))
    events = list[FolderEvent]()
    report = await one_by_one(box, source, output, on_event=events.append)
    assert counts(report) == {"enhanced": 1, "failed": 1, "not_attempted": 4}
    assert not report.ok
    assert report.stopped_by == "account"
    assert report.message is not None
    assert report.message.startswith(f"stopped: {code} - ")
    assert REFUSALS[code] in report.message
    assert report.message.endswith("run the same command again: what is done is not bought again")
    assert len(box.ledger.requests) == 2
    (stopped,) = [event for event in events if event.kind == "stopped"]
    (refused,) = report.failures
    assert (stopped.reason, stopped.error) == (report.message, refused.error)
    passed_by = [event for event in events if event.kind == "not_attempted"]
    assert len(passed_by) == 4
    assert {event.reason for event in passed_by} == {report.message}
    assert (events[-1].kind, events[-1].reason) == ("ended", report.message)
    assert (await status(output)).message == report.message
    assert sorted((await states(output)).values()) == ["enhanced", *["not_attempted"] * 5]
    again = await run(box, source, output)
    assert counts(again) == {"enhanced": 5, "skipped": 1}
    assert (await status(output)).message is None
    assert set(box.ledger.charges.values()) == {1}


async def test_all_that_waited_for_a_worker_is_told(box: Sandbox, tmp_path: Path) -> None:
    source, output = make(tmp_path / "photos", *(f"{number:02}.jpg" for number in range(40))), tmp_path / "out"
    box.script(None, Fault(status=402))
    events = list[FolderEvent]()
    report = await one_by_one(box, source, output, on_event=events.append)
    assert counts(report) == {"enhanced": 1, "failed": 1, "not_attempted": 38}
    told = [event.source for event in events if event.kind in {"enhanced", "failed", "not_attempted"}]
    assert len(told) == len(set(told)) == 40
    assert len(box.ledger.requests) == 2


async def test_what_is_in_flight_lands_when_the_account_is_empty(box: Sandbox, tmp_path: Path) -> None:
    source, output = make(tmp_path / "photos", *NAMES), tmp_path / "out"
    box.latency, box.credits = 0.4, 0.25
    async with client(box, max_concurrency=3) as phota:
        report = await phota.enhance_folder(source, output)
    assert counts(report) == {"enhanced": 2, "failed": 1, "not_attempted": 3}
    assert report.stopped_by == "account"
    assert (report.spent_usd, len(box.ledger.requests)) == (0.24, 3)
    assert len(standing(output)) == 2
    box.credits = None
    assert counts(await run(box, source, output)) == {"enhanced": 4, "skipped": 2}


async def test_what_is_paid_for_is_fetched_also_without_an_account(box: Sandbox, tmp_path: Path) -> None:
    source, output = make(tmp_path / "photos", "a.jpg", "b.jpg"), tmp_path / "out"
    box.script(None, Fault(status=402))
    box.script_downloads(Fault(status=500))
    async with client(box, retry=NO_RETRY, max_concurrency=1) as phota:
        report = await phota.enhance_folder(source, output)
    assert counts(report) == {"failed": 2}
    box.script(Fault(status=402))
    report = await run(box, source, output)
    assert counts(report) == {"enhanced": 1, "failed": 1}
    assert len(standing(output)) == 1


# ---- the budget


NAMED = picture("named")


async def test_a_budget_stops_the_run_before_it_is_passed(box: Sandbox, tmp_path: Path) -> None:
    source, output = make(tmp_path / "photos", *NAMES), tmp_path / "out"
    report = await run(box, source, output, max_cost_usd=0.36)
    assert counts(report) == {"enhanced": 3, "not_attempted": 3}
    assert (report.stopped_by, report.spent_usd, box.ledger.spent_usd) == ("budget", 0.36, 0.36)
    assert report.message is not None
    assert report.message.startswith("stopped: the budget of 0.36 USD would be passed: 0.36 spent, and one more photo")
    report = await run(box, source, output, max_cost_usd=0.35)
    assert counts(report) == {"enhanced": 2, "skipped": 3, "not_attempted": 1}
    report = await run(box, source, output, max_cost_usd=0)
    assert counts(report) == {"skipped": 5, "not_attempted": 1}
    assert counts(await run(box, source, output, max_cost_usd=0.12)) == {"enhanced": 1, "skipped": 5}
    assert counts(await run(box, source, output, max_cost_usd=0)) == {"skipped": 6}


@pytest.mark.parametrize("workers", [1, 4])
async def test_the_budget_counts_what_may_have_been_charged(box: Sandbox, tmp_path: Path, workers: int) -> None:
    source, output = make(tmp_path / "photos", *NAMES), tmp_path / "out"
    box.script(Fault(status=504, charged=True), Fault(status=500))
    async with client(box, max_concurrency=workers, retry=NO_RETRY) as phota:
        report = await phota.enhance_folder(source, output, max_cost_usd=0.36)
    assert counts(report) == {"enhanced": 2, "failed": 1, "unknown": 1, "not_attempted": 2}
    assert (report.stopped_by, report.spent_usd, box.ledger.spent_usd) == ("budget", 0.24, 0.36)
    assert "0.24 spent and 0.12 in doubt" in (report.message or "")


async def test_the_budget_counts_each_attempt_that_may_have_been_charged(box: Sandbox, tmp_path: Path) -> None:
    source, output = make(tmp_path / "photos", "a.jpg", "b.jpg", "c.jpg"), tmp_path / "out"
    gateway = Fault(status=504, charged=True)
    box.script(gateway, None, gateway, gateway)
    async with client(box, max_concurrency=1, retry=RetryPolicy(initial_wait=0, retry_unknown=True)) as phota:
        report = await phota.enhance_folder(source, output, max_cost_usd=0.36)
        assert counts(report) == {"enhanced": 1, "unknown": 1, "not_attempted": 1}
        assert (report.stopped_by, report.spent_usd, box.ledger.spent_usd) == ("budget", 0.12, 0.36)
        report = await phota.enhance_folder(source, output, max_cost_usd=0.12)
        assert report.stopped_by == "budget"
        assert box.ledger.spent_usd == 0.48


async def test_the_budget_reckons_with_the_dearer_price_and_waits_for_the_cheaper_one(
    box: Sandbox, tmp_path: Path
) -> None:
    source, output = make(tmp_path / "photos", *NAMES), tmp_path / "out"
    # The answer tells of no known subject, so each costs less than was held back.
    async with client(box) as phota:
        made = await phota.enhance(NAMED, response_mode="urls")
    cheap = Fault(body=_body(made.download_urls))
    box.script(*[cheap] * 6)
    async with client(box, max_concurrency=6) as phota:
        report = await phota.enhance_folder(source, output, profile_ids=["me"], max_cost_usd=0.62)
    assert counts(report) == {"enhanced": 4, "not_attempted": 2}
    assert (report.spent_usd, report.stopped_by) == (0.48, "budget")


async def test_a_subject_nobody_asked_for_is_not_a_way_past_the_budget(box: Sandbox, tmp_path: Path) -> None:
    source, output = make(tmp_path / "photos", *NAMES), tmp_path / "out"
    async with client(box) as phota:
        made = await phota.enhance(NAMED, response_mode="urls")
    box.script(*[Fault(body=_body(made.download_urls, me=1))] * 6)
    report = await one_by_one(box, source, output, max_cost_usd=0.44)
    assert counts(report) == {"enhanced": 2, "not_attempted": 4}
    assert report.spent_usd == 0.3


def _body(links: tuple[str, ...], **subjects: int) -> bytes:
    return json.dumps({"images": [], "download_urls": links, "known_subjects": {"counts": subjects}}).encode()


# ---- the caller


async def test_a_run_stops_when_it_is_told_to(box: Sandbox, tmp_path: Path) -> None:
    source, output = make(tmp_path / "photos", *NAMES), tmp_path / "out"
    stop = asyncio.Event()

    def on_event(event: FolderEvent) -> None:
        if event.kind == "sent":
            stop.set()

    report = await one_by_one(box, source, output, on_event=on_event, stop=stop)
    assert counts(report) == {"enhanced": 1, "not_attempted": 5}
    assert report.stopped_by == "caller"
    assert (report.message or "").startswith(
        "stopped: by request. Nothing more was sent, what was in flight has landed"
    )
    assert len(standing(output)) == 1
    assert counts(await run(box, source, output, stop=asyncio.Event())) == {"enhanced": 5, "skipped": 1}


async def test_a_run_that_is_told_to_stop_beforehand_sends_nothing(box: Sandbox, tmp_path: Path) -> None:
    source, stop = make(tmp_path / "photos", *NAMES), asyncio.Event()
    stop.set()
    report = await run(box, source, tmp_path / "out", stop=stop)
    assert counts(report) == {"not_attempted": 6}
    assert box.ledger.requests == []


async def test_a_run_that_waits_for_a_pause_stops_when_it_is_told_to(box: Sandbox, tmp_path: Path) -> None:
    source, output, stop = make(tmp_path / "photos", *NAMES), tmp_path / "out", asyncio.Event()
    box.script(Fault(status=503, retry_after=0.3))

    def on_event(event: FolderEvent) -> None:
        if event.kind == "sent":
            stop.set()

    report = await one_by_one(box, source, output, on_event=on_event, stop=stop)
    assert adds_up(report)
    assert report.enhanced == 0
    assert report.not_attempted >= 5
    assert len(box.ledger.requests) == 1
    again = await run(box, source, output)
    assert again.enhanced + again.failed == 6


async def test_a_client_that_is_closed_stops_the_run(box: Sandbox, tmp_path: Path) -> None:
    source, output = make(tmp_path / "photos", *NAMES), tmp_path / "out"
    box.latency = 0.3
    phota = client(box, max_concurrency=2)
    running = asyncio.create_task(phota.enhance_folder(source, output))
    await to_thread.run_sync(box.ledger.wait, _has_two_in_flight)
    await phota.aclose()
    report = await running
    assert adds_up(report)
    assert report.stopped_by == "caller"
    assert "the client was closed" in (report.message or "")
    assert report.unknown == 0
    assert report.not_attempted == 4
    assert report.spent_usd == 0.24
    assert len(box.ledger.requests) == 2
    assert (await run(box, source, output)).skipped == report.enhanced
    assert set(box.ledger.charges.values()) == {1}


async def test_a_client_closed_beforehand_opens_anew(box: Sandbox, tmp_path: Path) -> None:
    phota: PhotaClient = client(box)
    await phota.aclose()
    report = await phota.enhance_folder(make(tmp_path / "photos", "a.jpg"), tmp_path / "out")
    await phota.aclose()
    assert counts(report) == {"enhanced": 1}


# ---- the disk


@pytest.mark.parametrize("what", ["folder", "moved", "journal", "replaced"])
async def test_an_output_folder_that_vanishes_stops_the_run(
    box: Sandbox, tmp_path: Path, blockbuster: BlockBuster, what: str
) -> None:
    source, output = make(tmp_path / "photos", *NAMES), tmp_path / "out"
    acts = {
        "folder": lambda: shutil.rmtree(output),
        "moved": lambda: output.rename(tmp_path / "elsewhere"),
        "journal": (output / NAME).unlink,
        "replaced": lambda: _replace(output / NAME),
    }
    report = await one_by_one(box, source, output, on_event=once(blockbuster, "sent", acts[what]))
    assert report.stopped_by == "disk"
    assert adds_up(report)
    assert counts(report) == {"unknown": 1, "not_attempted": 5}
    (one,) = report.failures
    assert len(one.download_urls) == 1
    assert "its links are in download_urls" in one.reason
    assert "signed" in repr(one)
    assert one.download_urls[0] not in repr(one)
    assert one.request_id == box.ledger.requests[0].request_id
    assert report.spent_usd == 0.12
    assert len(box.ledger.requests) == 1
    assert "run the same command again" in (report.message or "")
    if what in {"folder", "moved"}:
        assert not output.exists()
    async with client(box) as phota:
        image = await phota.download(one.download_urls[0])
    assert image.media_type == "image/png"


def _replace(path: Path) -> None:
    shutil.copy(path, path.with_name("copy"))
    path.with_name("copy").replace(path)


async def test_a_journal_that_vanishes_before_the_first_request_stops_the_run(
    box: Sandbox, tmp_path: Path, blockbuster: BlockBuster
) -> None:
    source, output = make(tmp_path / "photos", *NAMES), tmp_path / "out"
    hook = once(blockbuster, "walked", (output / NAME).unlink)
    report = await run(box, source, output, on_event=hook)
    assert counts(report) == {"not_attempted": 6}
    assert report.stopped_by == "disk"
    assert box.ledger.requests == []


async def test_a_place_that_is_taken_by_a_file_is_one_photos_own_failure(box: Sandbox, tmp_path: Path) -> None:
    source, output = make(tmp_path / "photos", "sub/a.jpg", "b.jpg"), tmp_path / "out"
    output.mkdir()
    (output / "sub").write_bytes(b"a file")
    report = await run(box, source, output)
    assert counts(report) == {"enhanced": 1, "failed": 1}
    assert report.stopped_by is None
    assert "in the way of a folder" in report.failures[0].reason
    assert len(box.ledger.requests) == 1
    (output / "sub").unlink()
    assert counts(await run(box, source, output)) == {"enhanced": 1, "skipped": 1}


FULL_DISK = """
import asyncio, resource, signal, sys
from phota_async import PhotaClient, RetryPolicy

async def main(url, source, output, limit):
    def on_event(event):
        if event.kind == "walked":
            resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), resource.RLIM_INFINITY))
    async with PhotaClient("key", base_url=url, max_concurrency=1) as phota:
        report = await phota.enhance_folder(source, output, on_event=on_event)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    print(report.stopped_by, report.enhanced, report.failed, report.unknown, report.not_attempted)
    for failure in report.failures:
        print(failure.reason)

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
asyncio.run(main(*sys.argv[1:]))
"""


def _on_a_full_disk(box: Sandbox, source: Path, output: Path, limit: int) -> list[str]:
    command = [sys.executable, "-c", FULL_DISK, box.url, str(source), str(output), str(limit)]
    return subprocess.run(  # noqa: S603
        command, capture_output=True, text=True, check=True, timeout=50
    ).stdout.splitlines()


@pytest.mark.skipif(sys.platform == "win32", reason="there is no limit for the size of a file")
@pytest.mark.parametrize("limit", [1000, 200_000])
async def test_a_full_disk_stops_the_run_and_loses_nothing(box: Sandbox, tmp_path: Path, limit: int) -> None:
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
    source, output = make(tmp_path / "photos", *NAMES), tmp_path / "out"
    for name in NAMES:
        put(source / name, name)
    box.long_edge = 1024
    await to_thread.run_sync(_big, source / NAMES[0])
    first, *reasons = await to_thread.run_sync(_on_a_full_disk, box, source, output, limit)
    stopped_by, *numbers = first.split()
    assert stopped_by == "disk"
    assert sum(map(int, numbers)) == 6
    assert [reason for reason in reasons if "paid for" not in reason] == []
    requests = len(box.ledger.requests)
    report = await run(box, source, output)
    assert report.unknown == report.failed == 0
    assert report.stopped_by is None
    assert len(box.ledger.requests) == requests + 6 - len(reasons) - int(numbers[0])
    assert set(box.ledger.charges.values()) == {1}
    assert not list(output.rglob("*.partial"))


def _big(path: Path) -> None:
    Image.frombytes("RGB", (600, 600), os.urandom(600 * 600 * 3)).save(path, "PNG")


async def test_a_folder_that_vanishes_during_a_download_stops_the_run(box: Sandbox, tmp_path: Path) -> None:
    source, output = make(tmp_path / "photos", *NAMES), tmp_path / "out"
    box.script_downloads(Fault(stall=0.3))

    async def remove() -> None:
        await to_thread.run_sync(box.ledger.wait, _has_downloads)
        await to_thread.run_sync(shutil.rmtree, output)

    async with asyncio.TaskGroup() as group:
        group.create_task(remove())
        running = group.create_task(one_by_one(box, source, output))
    report = running.result()
    assert adds_up(report)
    assert report.stopped_by == "disk"
    assert report.enhanced == 0
    assert any(one.reason.startswith("paid for, but it could not be written") for one in report.failures)
    assert not output.exists()


def _has_one_in_flight(ledger: Ledger) -> bool:
    return ledger.in_flight == 1


def _has_two_in_flight(ledger: Ledger) -> bool:
    return ledger.in_flight == 2


def _has_downloads(ledger: Ledger) -> bool:
    return bool(ledger.downloads)


async def test_a_journal_that_is_damaged_meanwhile_stops_the_run(
    box: Sandbox, tmp_path: Path, blockbuster: BlockBuster
) -> None:
    source, output = make(tmp_path / "photos", *NAMES), tmp_path / "out"
    await run(box, source, output)
    before = (output / NAME).read_bytes()

    def damage() -> None:
        for path in (output / NAME, output / f"{NAME}-wal"):
            with path.open("rb+") as file:
                file.write(b"damaged!" * (path.stat().st_size // 8))

    report = await run(box, source, output, checksum=True, on_event=once(blockbuster, "walked", damage))
    assert adds_up(report)
    assert len(box.ledger.requests) == len(NAMES)
    if report.stopped_by is not None:
        assert (report.stopped_by, counts(report)) == ("disk", {"not_attempted": 6})
        assert "cannot be read" in (report.message or "")
    (output / NAME).write_bytes(before)
    assert counts(await run(box, source, output)) == {"skipped": 6}


# ---- two at once


async def test_a_second_run_on_the_same_folder_is_refused(box: Sandbox, tmp_path: Path) -> None:
    source, output = make(tmp_path / "photos", "a.jpg"), tmp_path / "out"
    box.latency = 1  # longer than a second run waits for its turn
    async with client(box) as phota:
        running = asyncio.create_task(phota.enhance_folder(source, output))
        await to_thread.run_sync(box.ledger.wait, _has_one_in_flight)
        with pytest.raises(JournalError, match=r"another run is writing to .*out; wait for it"):
            await phota.enhance_folder(source, output)
        assert (await status(output)).running
        assert await states(output) == {"a.jpg": "not_attempted"}
        assert counts(await running) == {"enhanced": 1}
    assert not (await status(output)).running
    assert counts(await run(box, source, output)) == {"skipped": 1}


async def test_a_run_that_is_cancelled_while_it_waits_for_its_turn_leaves_nothing_open(
    box: Sandbox, tmp_path: Path
) -> None:
    source, output = make(tmp_path / "photos", "a.jpg"), tmp_path / "out"
    await run(box, source, output)
    journal = await to_thread.run_sync(Journal.open, output)
    async with client(box) as phota:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(phota.enhance_folder(source, output), 0.1)
        await to_thread.run_sync(journal.close)
        assert counts(await phota.enhance_folder(source, output)) == {"skipped": 1}


HOLDER = """
import sys
from pathlib import Path
from phota_async.journal import Journal

with Journal.open(Path(sys.argv[1])):
    print("open", flush=True)
    sys.stdin.read()
"""


async def test_a_run_beside_another_process_is_refused(box: Sandbox, tmp_path: Path) -> None:
    source, output = make(tmp_path / "photos", "a.jpg"), tmp_path / "out"
    output.mkdir()
    command = [sys.executable, "-c", HOLDER, str(output)]
    with subprocess.Popen(  # noqa: ASYNC220, S603
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        await to_thread.run_sync(holder.stdout.readline)
        with pytest.raises(JournalError, match="another run is writing"):
            await run(box, source, output)
        assert (await status(output)).running
        holder.stdin.close()
        holder.wait()
    assert (output / LOCK_NAME).exists()
    assert counts(await run(box, source, output)) == {"enhanced": 1}


async def test_a_journal_that_is_damaged_is_told_before_anything_is_sent(box: Sandbox, tmp_path: Path) -> None:
    source, output = make(tmp_path / "photos", "a.jpg"), tmp_path / "out"
    output.mkdir()
    (output / NAME).write_bytes(b"no database" * 1000)
    with pytest.raises(JournalError, match="cannot be read"):
        await run(box, source, output)
    assert box.ledger.requests == []
    assert (output / NAME).read_bytes() == b"no database" * 1000


async def test_the_errno_of_a_folder_in_the_way(box: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OSError, match="file") as caught:
        await run(box, make(tmp_path / "photos", "a.jpg"), tmp_path / "file" / "out")
    assert caught.value.errno == errno.ENOTDIR


# ---- the clock


async def test_a_clock_that_was_set_back_changes_nothing(
    box: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, output = make(tmp_path / "photos", "a.jpg"), tmp_path / "out"
    box.script(Fault(status=504, charged=True))
    await run(box, source, output)
    monkeypatch.setattr("phota_async.journal.items.time.time", lambda: 1000.0)
    assert counts(await run(box, source, output)) == {"unknown": 1}
    make(source, "b.jpg")
    box.link_lifetime = 10**12
    assert counts(await run(box, source, output, retry_unknown=True)) == {"enhanced": 2}
    folder = await status(output)
    assert (folder.begun, folder.ended) == (1000.0, 1000.0)
    assert counts(await run(box, source, output)) == {"skipped": 2}
