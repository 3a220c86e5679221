"""What is paid for is fetched, or told; what may be paid for is left alone until somebody asks."""

from __future__ import annotations

import asyncio
import base64
import json
import math
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest
from anyio import to_thread
from folder_runs import (
    NO_RETRY,
    client,
    counts,
    known,
    make,
    one_by_one,
    picture,
    put,
    run,
    standing,
    states,
    status,
)

from phota_async import (
    ContentModerationError,
    DeadlineExceededError,
    DownloadError,
    FolderEvent,
    FolderReport,
    GatewayError,
    OutcomeUnknownError,
    RetryPolicy,
    Timeout,
)
from phota_async.folder.rules import LINKS_EXPIRED, REMOVED
from phota_async.journal import NAME
from phota_async.journal.items import NO_LINKS
from phota_async.sandbox import Fault, Sandbox

DROPPED = Fault(reset="after", charged=True)
GATEWAY = Fault(status=504, charged=True)


def answer(*, images: int = 0, links: tuple[str, ...] = (), extra: tuple[str, ...] = (), **fields: Any) -> Fault:
    """Return an answer of the service's own making; ``extra`` are images that are no good."""
    pictures = [base64.b64encode(picture(("answer", number))).decode() for number in range(images)]
    document: dict[str, Any] = {
        "images": [*pictures, *extra],
        "download_urls": links,
        "known_subjects": {"counts": {}},
        **fields,
    }
    return Fault(body=json.dumps(document).encode(), charged=True, headers={"X-Request-Id": "the-request"})


def failure(report: FolderReport) -> tuple[str, str, str]:
    (one,) = report.failures
    return one.state, one.kind, one.reason


# ---- what may have been charged


@pytest.mark.parametrize(
    ("fault", "kind"),
    [(DROPPED, OutcomeUnknownError), (GATEWAY, GatewayError), (Fault(reset="answer"), OutcomeUnknownError)],
)
async def test_what_may_have_been_charged_is_left_alone_until_asked(
    box: Sandbox, tmp_path: Path, fault: Fault, kind: type[Exception]
) -> None:
    source, output = make(tmp_path / "photos", "a.jpg"), tmp_path / "out"
    box.script(fault)
    report = await run(box, source, output)
    assert counts(report) == {"unknown": 1}
    assert not report.ok
    (one,) = report.failures
    assert (one.state, one.kind, type(one.error)) == ("unknown", kind.__name__, kind)
    assert "may have been charged" in one.reason
    assert report.spent_usd == 0.0
    for flags in ({}, {"retry_failed": True}, {"overwrite": True}):
        again = await run(box, source, output, **flags)
        assert counts(again) == {"unknown": 1}
        assert again.failures[0] == one.__class__(
            source=source / "a.jpg", state="unknown", reason=one.reason, kind=one.kind, request_id=one.request_id
        )
    assert len(box.ledger.requests) == 1
    record = (await known(output))["a.jpg"]
    assert (record.state, record.reason, record.request_id) == ("unknown", one.reason, one.request_id)
    assert counts(await run(box, source, output, retry_unknown=True)) == {"enhanced": 1}
    assert list(standing(output)) == ["a.png"]
    assert box.ledger.charged_images == 2


async def test_a_retry_that_may_be_charged_again_is_the_policys_word(box: Sandbox, tmp_path: Path) -> None:
    source, output = make(tmp_path / "photos", "a.jpg"), tmp_path / "out"
    box.script(DROPPED, None)
    policy = RetryPolicy(initial_wait=0, retry_unknown=True)
    async with client(box, retry=policy) as phota:
        assert counts(await phota.enhance_folder(source, output)) == {"enhanced": 1}
    assert await states(output) == {"a.jpg": "enhanced"}


async def test_what_is_refused_after_a_doubtful_attempt_stays_in_doubt(box: Sandbox, tmp_path: Path) -> None:
    source, output = make(tmp_path / "photos", "a.jpg"), tmp_path / "out"
    box.script(DROPPED, Fault(status=400, code="CONTENT_MODERATION"))
    async with client(box, retry=RetryPolicy(initial_wait=0, retry_unknown=True)) as phota:
        report = await phota.enhance_folder(source, output)
    assert counts(report) == {"unknown": 1}
    assert report.failures[0].kind == "ContentModerationError"
    assert await states(output) == {"a.jpg": "unknown"}


async def test_one_purchase_again_for_all_with_the_same_bytes(box: Sandbox, tmp_path: Path) -> None:
    source, output = tmp_path / "photos", tmp_path / "out"
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        put(source / name, "the same")
    box.script(DROPPED, DROPPED)
    assert counts(await run(box, source, output)) == {"unknown": 3}
    assert len(box.ledger.requests) == 1
    assert counts(await run(box, source, output, retry_unknown=True)) == {"unknown": 3}
    assert len(box.ledger.requests) == 2
    assert counts(await run(box, source, output, retry_unknown=True)) == {"enhanced": 1, "skipped": 2}
    assert len(box.ledger.requests) == 3


# ---- what failed


async def test_what_failed_is_sent_again_when_asked(box: Sandbox, tmp_path: Path) -> None:
    source, output = make(tmp_path / "photos", "a.jpg"), tmp_path / "out"
    box.script(Fault(status=400, code="CONTENT_MODERATION", detail="no"), Fault(status=422))
    first = await run(box, source, output)
    assert counts(first) == {"failed": 1}
    assert isinstance(first.failures[0].error, ContentModerationError)
    for flags in ({}, {"retry_unknown": True}):
        again = await run(box, source, output, **flags)
        assert counts(again) == {"failed": 1}
        assert (again.failures[0].reason, again.failures[0].error) == (first.failures[0].reason, None)
    assert len(box.ledger.requests) == 1
    assert counts(await run(box, source, output, retry_failed=True)) == {"failed": 1}
    record = (await known(output))["a.jpg"]
    assert (record.state, record.request_id) == ("failed", box.ledger.requests[-1].request_id)
    assert "422" in (record.reason or "")
    assert counts(await run(box, source, output, retry_failed=True)) == {"enhanced": 1}
    assert (await known(output))["a.jpg"].reason is None


async def test_one_refusal_for_all_with_the_same_bytes(box: Sandbox, tmp_path: Path) -> None:
    source, output = tmp_path / "photos", tmp_path / "out"
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        put(source / name, "the same")
    box.script(Fault(status=400), Fault(status=400))
    assert counts(await run(box, source, output)) == {"failed": 3}
    assert counts(await run(box, source, output, retry_failed=True)) == {"failed": 3}
    assert len(box.ledger.requests) == 2


@pytest.mark.parametrize("fault", [Fault(status=500), Fault(status=503), Fault(status=429)])
async def test_what_is_sure_not_to_be_charged_is_retried(box: Sandbox, tmp_path: Path, fault: Fault) -> None:
    source, output = make(tmp_path / "photos", "a.jpg"), tmp_path / "out"
    box.script(fault, fault)
    events = list[FolderEvent]()
    assert counts(await run(box, source, output, on_event=events.append)) == {"enhanced": 1}
    assert [event.kind for event in events].count("sent") == 3
    assert box.ledger.charged_images == 1


async def test_what_a_refusal_says_that_is_no_text_harms_nobody(box: Sandbox, tmp_path: Path) -> None:
    source, output = make(tmp_path / "photos", "a.jpg", "b.jpg"), tmp_path / "out"
    body = json.dumps({"detail": "\ud83d", "code": "\ud83d", "request_id": "\ud83d"}).encode()
    box.script(Fault(status=400, body=body, headers={"X-Request-Id": ""}), Fault(status=504, body=body))
    assert counts(await run(box, source, output)) == {"failed": 1, "unknown": 1}
    assert sorted((await states(output)).values()) == ["failed", "unknown"]


async def test_retries_that_run_out_are_a_failure_with_its_causes(box: Sandbox, tmp_path: Path) -> None:
    source, output = make(tmp_path / "photos", "a.jpg"), tmp_path / "out"
    box.script(Fault(status=500), Fault(status=503))
    async with client(box, retry=RetryPolicy(max_attempts=2, initial_wait=0)) as phota:
        report = await phota.enhance_folder(source, output)
    assert counts(report) == {"failed": 1}
    error = report.failures[0].error
    assert error is not None
    assert error.__cause__ is not None
    # They would keep the frames of the call alive, with all they hold.
    assert (error.__traceback__, error.__cause__.__traceback__) == (None, None)
    assert await states(output) == {"a.jpg": "failed"}


async def test_a_deadline_counts_for_each_photo(box: Sandbox, tmp_path: Path) -> None:
    source, output = make(tmp_path / "photos", "a.jpg", "b.jpg"), tmp_path / "out"
    box.script(Fault(stall=math.inf))
    report = await one_by_one(box, source, output, timeout=0.5)
    assert counts(report) == {"enhanced": 1, "unknown": 1}
    assert isinstance(report.failures[0].error, DeadlineExceededError)
    assert sorted((await states(output)).values()) == ["enhanced", "unknown"]


# ---- links


async def test_links_that_expired_at_once_are_paid_and_lost(box: Sandbox, tmp_path: Path) -> None:
    source, output = make(tmp_path / "photos", "a.jpg"), tmp_path / "out"
    box.link_lifetime = 0
    report = await run(box, source, output)
    assert counts(report) == {"unknown": 1}
    assert failure(report) == ("unknown", "DownloadError", LINKS_EXPIRED)
    assert report.failures[0].request_id == box.ledger.requests[0].request_id
    assert report.spent_usd == 0.12
    record = (await known(output))["a.jpg"]
    assert (record.state, record.reason, record.cost_usd) == ("unknown", LINKS_EXPIRED, 0.12)
    assert record.request_id == box.ledger.requests[0].request_id
    assert counts(await run(box, source, output)) == {"unknown": 1}
    # They should live yet, so each run asks for them once more: that is free.
    assert (len(box.ledger.requests), len(box.ledger.downloads)) == (1, 2)
    box.link_lifetime = 3600
    again = await run(box, source, output, retry_unknown=True)
    assert (counts(again), again.spent_usd) == ({"enhanced": 1}, 0.12)
    assert (len(box.ledger.requests), len(box.ledger.downloads)) == (2, 4)
    assert (await status(output)).spent_usd == 0.24


@pytest.mark.parametrize("status_code", [401, 403, 404, 410])
async def test_a_link_is_tried_again_before_anything_is_bought_again(
    box: Sandbox, tmp_path: Path, status_code: int
) -> None:
    source, output = make(tmp_path / "photos", "a.jpg"), tmp_path / "out"
    box.script_downloads(Fault(status=status_code))
    assert counts(await run(box, source, output)) == {"unknown": 1}
    report = await run(box, source, output, retry_unknown=True)
    assert (counts(report), report.spent_usd) == ({"enhanced": 1}, 0.0)
    assert len(box.ledger.requests) == 1


@pytest.mark.parametrize("fault", [Fault(status=500), Fault(cut=10), Fault(status=400), Fault(body=b"no image")])
async def test_what_could_not_be_fetched_is_fetched_by_the_next_run(box: Sandbox, tmp_path: Path, fault: Fault) -> None:
    source, output = make(tmp_path / "photos", "a.jpg"), tmp_path / "out"
    box.script_downloads(fault)
    async with client(box, retry=NO_RETRY) as phota:
        report = await phota.enhance_folder(source, output)
    assert (counts(report), report.spent_usd) == ({"failed": 1}, 0.12)
    (one,) = report.failures
    assert (one.state, one.kind, one.request_id) == ("failed", "DownloadError", box.ledger.requests[0].request_id)
    assert isinstance(one.error, DownloadError)
    assert one.reason.startswith("paid for, but not fetched yet (the next run fetches it for nothing)")
    assert await states(output) == {"a.jpg": "answered"}
    assert standing(output) == {}
    make(source, "0.jpg")
    again = await one_by_one(box, source, output)
    assert (counts(again), again.spent_usd) == ({"enhanced": 2}, 0.12)
    assert box.ledger.charged_images == 2


async def test_links_of_a_server_that_is_gone_are_given_up_when_they_have_died(
    box: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, output = make(tmp_path / "photos", "a.jpg"), tmp_path / "out"
    box.script(answer(links=("http://127.0.0.1:9/gone.png",)))
    async with client(box, retry=NO_RETRY) as phota:
        assert counts(await phota.enhance_folder(source, output)) == {"failed": 1}
        assert counts(await phota.enhance_folder(source, output)) == {"failed": 1}
        later = time.time() + 25 * 3600
        monkeypatch.setattr(time, "time", lambda: later)
        report = await phota.enhance_folder(source, output)
        assert failure(report) == ("unknown", "DownloadError", LINKS_EXPIRED)
        again = await phota.enhance_folder(source, output, retry_unknown=True)
    assert (counts(again), box.ledger.charged_images) == ({"enhanced": 1}, 2)


async def test_a_download_that_takes_too_long_is_fetched_by_the_next_run(box: Sandbox, tmp_path: Path) -> None:
    source, output = make(tmp_path / "photos", "a.jpg"), tmp_path / "out"
    box.script_downloads(Fault(stall=math.inf))
    async with client(box, timeout=Timeout(overall=0.5)) as phota:
        report = await phota.enhance_folder(source, output)
    assert counts(report) == {"failed": 1}
    assert failure(report)[:2] == ("failed", "DeadlineExceededError")
    assert failure(report)[2].startswith("paid for, but not fetched yet")
    assert counts(await run(box, source, output)) == {"enhanced": 1}
    assert len(box.ledger.requests) == 1


async def test_links_that_expired_between_two_runs(box: Sandbox, tmp_path: Path) -> None:
    source, output = make(tmp_path / "photos", "a.jpg"), tmp_path / "out"
    box.script_downloads(Fault(status=500), Fault(status=403))
    async with client(box, retry=NO_RETRY) as phota:
        await phota.enhance_folder(source, output)
    report = await run(box, source, output)
    assert (counts(report), report.spent_usd) == ({"unknown": 1}, 0.0)
    assert failure(report) == ("unknown", "DownloadError", LINKS_EXPIRED)
    assert report.failures[0].request_id == box.ledger.requests[0].request_id
    assert len(box.ledger.requests) == 1


async def test_an_image_that_was_removed_is_fetched_again(box: Sandbox, tmp_path: Path) -> None:
    source, output = make(tmp_path / "photos", "a.jpg"), tmp_path / "out"
    await run(box, source, output, num_output_images=2)
    before = standing(output)
    (output / "a-2.png").unlink()
    report = await run(box, source, output, num_output_images=2)
    assert (counts(report), report.spent_usd) == ({"enhanced": 1}, 0.0)
    assert standing(output) == before
    assert len(box.ledger.requests) == 1


async def test_an_image_that_was_removed_when_its_links_were_dead_is_lost(box: Sandbox, tmp_path: Path) -> None:
    source, output = make(tmp_path / "photos", "a.jpg"), tmp_path / "out"
    await run(box, source, output)
    (output / "a.png").unlink()
    box.script_downloads(Fault(status=403), Fault(status=403))
    report = await run(box, source, output)
    assert failure(report) == ("unknown", "DownloadError", REMOVED)
    assert counts(await run(box, source, output, retry_unknown=True)) == {"enhanced": 1}
    assert box.ledger.charged_images == 2


async def test_a_removed_image_is_copied_from_where_it_still_is(box: Sandbox, tmp_path: Path) -> None:
    source, output = tmp_path / "photos", tmp_path / "out"
    for name in ("a.jpg", "b.jpg"):
        put(source / name, "the same")
    await run(box, source, output)
    files = standing(output)
    box.script_downloads(*[Fault(status=403)] * 3)
    for name in files:
        (output / name).unlink()
        assert counts(await run(box, source, output)) == {"skipped": 2}
        assert standing(output) == files
    assert len(box.ledger.downloads) == 1
    assert set((await states(output)).values()) == {"enhanced"}


async def test_a_photo_renamed_before_its_image_was_fetched(box: Sandbox, tmp_path: Path) -> None:
    source, output = make(tmp_path / "photos", "a.jpg"), tmp_path / "out"
    box.script_downloads(Fault(status=500))
    async with client(box, retry=NO_RETRY) as phota:
        await phota.enhance_folder(source, output)
    (source / "a.jpg").rename(source / "b.jpg")
    (output / "b.png").write_bytes(b"somebody's")
    report = await run(box, source, output)
    # What was paid for is fetched before it is known that a photo of this run has its bytes.
    assert counts(report) == {"enhanced": 1, "skipped": 1}
    assert (output / "b.png").read_bytes() == b"somebody's"
    # With its links dead, what it left is found all the same.
    box.script_downloads(*[Fault(status=403)] * 3)
    put(source / "c.jpg", "a.jpg")
    assert counts(await run(box, source, output)) == {"skipped": 2}
    assert set((await states(output)).values()) == {"enhanced"}
    assert box.ledger.charged_images == 1


# ---- answers that are not what was asked for


async def test_images_in_place_of_links_are_kept(box: Sandbox, tmp_path: Path) -> None:
    source, output = make(tmp_path / "photos", "a.jpg"), tmp_path / "out"
    box.script(answer(images=1))
    report = await run(box, source, output)
    assert (counts(report), report.spent_usd) == ({"enhanced": 1}, 0.12)
    assert standing(output) == {"a.png": picture(("answer", 0))}
    assert counts(await run(box, source, output)) == {"skipped": 1}
    (output / "a.png").unlink()
    assert failure(await run(box, source, output)) == ("unknown", "DownloadError", REMOVED)
    assert counts(await run(box, source, output, retry_unknown=True)) == {"enhanced": 1}
    assert len(box.ledger.requests) == 2


async def test_images_that_came_in_place_of_links_and_were_not_written_are_not_bought_again(
    box: Sandbox, tmp_path: Path
) -> None:
    source, output = make(tmp_path / "photos", "sub/a.jpg"), tmp_path / "out"
    box.script(answer(images=1))

    def block(event: FolderEvent) -> None:
        if event.kind == "sent":
            blocker.set()

    blocker, landed = asyncio.Event(), box.ledger
    box.latency = 0.3

    async def in_the_way() -> None:
        await blocker.wait()
        await to_thread.run_sync(_replace_by_a_file, output / "sub")

    async with asyncio.TaskGroup() as group:
        group.create_task(in_the_way())
        running = group.create_task(run(box, source, output, on_event=block))
    report = running.result()
    assert counts(report) == {"unknown": 1}
    assert report.spent_usd == 0.12
    assert report.failures[0].request_id == "the-request"
    assert "paid for" in report.failures[0].reason
    assert (await known(output))["sub/a.jpg"].reason == NO_LINKS
    assert counts(await run(box, source, output)) == {"unknown": 1}
    assert len(landed.requests) == 1


def _replace_by_a_file(folder: Path) -> None:
    folder.rmdir()
    folder.write_bytes(b"in the way")


async def test_an_answer_with_nothing_is_paid_and_lost(box: Sandbox, tmp_path: Path) -> None:
    source, output = make(tmp_path / "photos", "a.jpg"), tmp_path / "out"
    box.script(answer())
    report = await run(box, source, output)
    assert failure(report)[:2] == ("unknown", "ResponseFormatError")
    assert report.failures[0].request_id == "the-request"
    assert counts(await run(box, source, output)) == {"unknown": 1}
    assert len(box.ledger.requests) == 1
    assert counts(await run(box, source, output, retry_unknown=True)) == {"enhanced": 1}


async def test_fewer_and_more_links_than_were_asked_for(box: Sandbox, tmp_path: Path) -> None:
    source, output = make(tmp_path / "photos", "a.jpg"), tmp_path / "out"
    async with client(box) as phota:
        made = await phota.enhance(picture("made"), num_output_images=3, response_mode="urls")
    box.script(answer(links=made.download_urls))
    report = await run(box, source, output)
    assert (counts(report), report.spent_usd) == ({"enhanced": 1}, 0.36)
    assert list(standing(output)) == ["a-2.png", "a-3.png", "a.png"]
    assert counts(await run(box, source, output)) == {"skipped": 1}
    box.script(answer(links=made.download_urls[:1]))
    report = await run(box, source, output, num_output_images=2)
    assert (counts(report), report.spent_usd) == ({"enhanced": 1}, 0.12)
    assert len(standing(output)) == 4
    assert counts(await run(box, source, output, num_output_images=2)) == {"skipped": 1}


async def test_more_images_than_were_asked_for_are_fetched_again_where_they_were(box: Sandbox, tmp_path: Path) -> None:
    source, output = make(tmp_path / "photos", "a.jpg"), tmp_path / "out"
    async with client(box) as phota:
        made = await phota.enhance(picture("made"), num_output_images=2, response_mode="urls")
    box.script(answer(links=made.download_urls))
    await run(box, source, output)
    before = standing(output)
    (output / "a-2.png").unlink()
    assert counts(await run(box, source, output)) == {"enhanced": 1}
    assert standing(output) == before


async def test_what_is_intact_of_a_broken_answer_is_kept(box: Sandbox, tmp_path: Path) -> None:
    source, output = make(tmp_path / "photos", "a.jpg"), tmp_path / "out"
    box.script(answer(images=1, extra=("no base64 !",)))
    report = await run(box, source, output, num_output_images=2)
    assert counts(report) == {"unknown": 1}
    assert (failure(report)[:2], report.failures[0].request_id) == (("unknown", "ResponseFormatError"), "the-request")
    assert standing(output) == {"a-1.png": picture(("answer", 0))}
    record = (await known(output))["a.jpg"]
    assert (record.state, record.outputs) == ("unknown", (output / "a-1.png",))
    assert counts(await run(box, source, output, num_output_images=2)) == {"unknown": 1}
    assert counts(await run(box, source, output, num_output_images=2, retry_unknown=True)) == {"enhanced": 1}
    assert standing(output)["a-1.png"] == picture(("answer", 0))
    assert len(standing(output)) == 3


async def test_what_is_intact_of_a_broken_answer_cannot_be_kept(box: Sandbox, tmp_path: Path) -> None:
    source, output = make(tmp_path / "photos", "sub/a.jpg"), tmp_path / "out"
    box.script(answer(images=1, extra=("no base64 !",)))
    box.latency, blocker = 0.3, asyncio.Event()

    def block(event: FolderEvent) -> None:
        if event.kind == "sent":
            blocker.set()

    async def in_the_way() -> None:
        await blocker.wait()
        await to_thread.run_sync(_replace_by_a_file, output / "sub")

    async with asyncio.TaskGroup() as group:
        group.create_task(in_the_way())
        running = group.create_task(run(box, source, output, on_event=block))
    report = running.result()
    assert counts(report) == {"unknown": 1}
    assert report.failures[0].kind == "ResponseFormatError"
    assert await states(output) == {"sub/a.jpg": "unknown"}


@pytest.mark.parametrize("overwrite", [False, True])
async def test_another_format_than_was_asked_for_has_its_own_extension(
    box: Sandbox, tmp_path: Path, *, overwrite: bool
) -> None:
    source, output = make(tmp_path / "photos", "a.jpg"), tmp_path / "out"
    (output / "b").mkdir(parents=True)
    (output / "a.png").write_bytes(b"somebody's")
    async with client(box) as phota:
        made = await phota.enhance(picture("made"), response_mode="urls")
    box.script(answer(links=made.download_urls))
    report = await run(box, source, output, output_format="jpg", overwrite=overwrite)
    assert counts(report) == {"enhanced": 1}
    assert list(standing(output)) == ["a-2.png", "a.png"]
    assert standing(output)["a.png"] == b"somebody's"
    (output / "a-2.png").unlink()
    assert counts(await run(box, source, output, output_format="jpg")) == {"enhanced": 1}
    assert list(standing(output)) == ["a-2.png", "a.png"]


async def test_a_bug_in_one_photo_takes_no_other_down(
    box: Sandbox, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source, output = make(tmp_path / "photos", "a.jpg"), tmp_path / "out"
    box.script_downloads(Fault(status=400))
    await run(box, source, output)
    await to_thread.run_sync(_spoil_links, output / NAME)
    make(source, "b.jpg")
    report = await run(box, source, output)
    assert counts(report) == {"enhanced": 1, "unknown": 1}
    assert report.failures[0].reason.startswith("unexpected: JSONDecodeError")
    assert caplog.messages == [f"{source / 'a.jpg'} met an unexpected error"]


def _spoil_links(journal: Path) -> None:
    connection = sqlite3.connect(journal)
    connection.execute("UPDATE items SET links = 'no JSON'")
    connection.commit()
    connection.close()
