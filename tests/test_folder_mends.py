"""Folder runs where things go wrong between two steps: neighbours, names, and links that are not what they were."""

from __future__ import annotations

import asyncio
import errno
import os
import sqlite3
from pathlib import Path, PurePath
from typing import Any

import pytest
from anyio import to_thread
from folder_runs import NO_RETRY, client, counts, make, one_by_one, put, run, standing, states, status

from phota_async import ConnectionFailedError, FolderEvent, PhotaClient
from phota_async.folder.recorder import Recorder
from phota_async.journal import NAME, Journal, items
from phota_async.naming import plainer
from phota_async.sandbox import Fault, Ledger, Sandbox


def _tell(journal: Path, statement: str) -> None:
    connection = sqlite3.connect(journal)
    connection.execute(statement)
    connection.commit()
    connection.close()


def _is_busy(ledger: Ledger) -> bool:
    return ledger.in_flight == 1


# ---- neighbours in one transaction


async def test_an_entry_that_cannot_be_written_takes_no_other_down(tmp_path: Path) -> None:
    def broken(_: sqlite3.Connection) -> None:
        raise PermissionError(errno.EACCES, "not this one")

    journal = await to_thread.run_sync(Journal.open, tmp_path)
    recorder = Recorder(journal)
    written: list[asyncio.Future[Any]] = [
        recorder.submit(items.number_of("a")),
        recorder.submit(broken),
        recorder.submit(items.number_of("b")),
    ]
    results = await asyncio.gather(*written, return_exceptions=True)
    assert results[0] == 1
    assert isinstance(results[1], PermissionError)
    assert results[2] == 2
    await recorder.aclose()
    await to_thread.run_sync(journal.close)


# ---- places


async def test_a_sub_folder_that_takes_no_files_is_found_out_before_anything_is_bought(
    box: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, output = make(tmp_path / "photos", "sub/a.jpg", "b.jpg"), tmp_path / "out"
    honest = os.open

    def refusing(path: Any, *arguments: Any, **options: Any) -> int:
        if f"{os.sep}sub{os.sep}.phota-" in str(path):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return honest(path, *arguments, **options)

    monkeypatch.setattr(os, "open", refusing)
    report = await run(box, source, output)
    assert counts(report) == {"enhanced": 1, "failed": 1}
    assert report.failures[0].kind == "PermissionError"
    assert box.ledger.charged_images == 1


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENAMETOOLONG])
async def test_a_name_that_the_disk_does_not_take_costs_no_image(
    box: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    source, output = make(tmp_path / "photos", "12:30.jpg"), tmp_path / "out"
    honest_link, honest_replace = os.link, os.replace

    def check(target: Any) -> None:
        if ":" in str(target):
            raise OSError(number, "no such names here", str(target))

    def link(path: Any, target: Any, **options: Any) -> None:
        check(target)
        honest_link(path, target, **options)

    def replace(path: Any, target: Any, **options: Any) -> None:
        check(target)
        honest_replace(path, target, **options)

    monkeypatch.setattr(os, "link", link)
    monkeypatch.setattr(os, "replace", replace)
    monkeypatch.setattr(Path, "replace", replace)
    report = await run(box, source, output)
    assert counts(report) == {"enhanced": 1}
    assert list(standing(output)) == ["12_30.png"]
    assert counts(await run(box, source, output)) == {"skipped": 1}


async def test_another_error_of_the_disk_stays_one(
    box: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, output = make(tmp_path / "photos", "a.jpg"), tmp_path / "out"

    honest = Path.replace

    def refuse(path: Any, target: Any, **__: Any) -> Any:
        if NAME in str(target):
            return honest(path, target)
        raise OSError(errno.EINVAL, "not even this name")

    monkeypatch.setattr(os, "link", refuse)
    monkeypatch.setattr(Path, "replace", refuse)
    report = await run(box, source, output)
    assert counts(report) == {"failed": 1}
    assert "could not be written" in report.failures[0].reason


def test_a_plainer_name_is_one_that_every_disk_takes() -> None:
    assert plainer(PurePath("sub/12:30?.png")) == PurePath("sub/12_30_.png")
    assert plainer(PurePath("漢" * 80 + ".png")) == PurePath("_" * 60 + ".png")
    assert plainer(PurePath("a.png")) == PurePath("a.png")


# ---- paid work


async def test_what_is_paid_for_is_fetched_although_its_photo_is_no_longer_asked_for(
    box: Sandbox, tmp_path: Path
) -> None:
    old, new, output = make(tmp_path / "2023", "a.jpg"), make(tmp_path / "2024", "b.jpg"), tmp_path / "out"
    box.script_downloads(Fault(status=500))
    async with client(box, retry=NO_RETRY) as phota:
        assert counts(await phota.enhance_folder(old, output)) == {"failed": 1}
    report = await run(box, new, output, prompt="warmer")
    assert counts(report) == {"enhanced": 2}
    assert sorted(standing(output)) == ["a.png", "b.png"]
    assert (report.spent_usd, box.ledger.charged_images) == (0.12, 2)
    assert counts(await run(box, old, output)) == {"skipped": 1}


async def test_what_was_paid_for_and_nobody_asks_for_is_told_when_its_links_died(box: Sandbox, tmp_path: Path) -> None:
    old, new, output = make(tmp_path / "2023", "a.jpg"), make(tmp_path / "2024", "b.jpg"), tmp_path / "out"
    box.script_downloads(Fault(status=500))
    async with client(box, retry=NO_RETRY) as phota:
        await phota.enhance_folder(old, output)
    box.script_downloads(Fault(status=404))
    report = await run(box, new, output, retry_unknown=True)
    assert counts(report) == {"enhanced": 1, "unknown": 1}
    assert report.failures[0].source == old / "a.jpg"
    assert box.ledger.charged_images == 2


async def test_what_is_left_waits_when_the_run_is_stopped(box: Sandbox, tmp_path: Path) -> None:
    old, new, output = make(tmp_path / "2023", "a.jpg"), make(tmp_path / "2024", "b.jpg"), tmp_path / "out"
    box.script_downloads(Fault(status=500))
    async with client(box, retry=NO_RETRY) as phota:
        await phota.enhance_folder(old, output)
    stop = asyncio.Event()
    stop.set()
    assert counts(await run(box, new, output, stop=stop)) == {"not_attempted": 2}


async def test_a_link_that_is_not_known_for_a_moment_is_asked_for_again_by_the_next_run(
    box: Sandbox, tmp_path: Path
) -> None:
    source, output = make(tmp_path / "photos", "a.jpg"), tmp_path / "out"
    box.script_downloads(Fault(status=404))
    assert counts(await run(box, source, output)) == {"unknown": 1}
    report = await run(box, source, output)
    assert (counts(report), report.spent_usd, box.ledger.charged_images) == ({"enhanced": 1}, 0.0, 1)


async def test_an_image_that_was_placed_just_before_a_crash_is_not_lost_with_its_links(
    box: Sandbox, tmp_path: Path
) -> None:
    source, output = make(tmp_path / "photos", "a.jpg", "b.jpg"), tmp_path / "out"
    await run(box, source, output)
    # As a crash between the renames and the journal's next line leaves it; of one photo, only a stump stands there.
    await to_thread.run_sync(_tell, output / NAME, "UPDATE items SET state = 'answered'")
    await to_thread.run_sync(_tell, output / NAME, "UPDATE files SET written = 0")
    await to_thread.run_sync((output / "b.png").write_bytes, b"no image")
    box.script_downloads(*[Fault(status=410)] * 2)
    report = await one_by_one(box, source, output)
    assert counts(report) == {"enhanced": 1, "unknown": 1}
    assert await states(output) == {"a.jpg": "enhanced", "b.jpg": "unknown"}
    assert box.ledger.charged_images == 2


# ---- what is no photo's fault


async def test_photos_that_never_reached_the_service_are_sent_by_the_next_run(box: Sandbox, tmp_path: Path) -> None:
    source, output = make(tmp_path / "photos", "a.jpg", "b.jpg"), tmp_path / "out"
    async with PhotaClient("key", base_url="http://127.0.0.1:9/v1/phota", retry=NO_RETRY) as nowhere:
        report = await nowhere.enhance_folder(source, output)
    assert counts(report) == {"failed": 2}
    assert isinstance(report.failures[0].error, ConnectionFailedError)
    assert (await status(output)).failed == 2
    assert counts(await run(box, source, output)) == {"enhanced": 2}


async def test_an_empty_prompt_is_no_prompt(box: Sandbox, tmp_path: Path) -> None:
    source, output = make(tmp_path / "photos", "a.jpg"), tmp_path / "out"
    await run(box, source, output)
    assert counts(await run(box, source, output, prompt="")) == {"skipped": 1}


async def test_links_that_could_not_be_written_down_are_told(box: Sandbox, tmp_path: Path) -> None:
    source, output = make(tmp_path / "photos", "a.jpg"), tmp_path / "out"
    box.latency = 0.3
    told = list[FolderEvent]()
    running = asyncio.create_task(run(box, source, output, on_event=told.append))
    await to_thread.run_sync(box.ledger.wait, _is_busy)
    await to_thread.run_sync((output / NAME).rename, tmp_path / "elsewhere")
    report = await running
    (one,) = (event for event in told if event.kind == "unknown")
    assert one.download_urls == report.failures[0].download_urls != ()
    assert "signed" in repr(one)
    assert one.download_urls[0] not in repr(one)


async def test_an_error_is_kept_without_what_it_kept_alive(box: Sandbox, tmp_path: Path) -> None:
    source, output = put(tmp_path / "photos" / "a.jpg").parent, tmp_path / "out"
    box.script(Fault(status=400, body=b"{" + b" " * 5000))
    (failure,) = (await run(box, source, output)).failures
    assert failure.error is not None
    assert getattr(failure.error, "body", None) == b""
    assert not any(isinstance(fact, bytes) and fact for fact in failure.error.args)
    assert failure.error.__traceback__ is None
    assert str(failure.error).startswith("400")


async def test_the_journal_is_for_nobody_else(box: Sandbox, tmp_path: Path) -> None:
    await run(box, make(tmp_path / "photos", "a.jpg"), tmp_path / "out")
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "out").glob(".phota-async*")}
    assert set(modes.values()) == {0o600}
