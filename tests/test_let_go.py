"""What a call held is let go when it ends, however it ends, without waiting for Python's garbage collector."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from raw_server import AT_ONCE

from phota_async import EnhanceResult, OverloadedError, PhotaClient, PhotaError, Timeout
from phota_async.sandbox import Fault, Sandbox

PHOTO = (Path(__file__).parent / "photos" / "rocket.jpg").read_bytes()
BROKEN = Fault(status=500)


class Photo(bytearray):
    """Bytes that can be watched."""


@pytest.fixture(autouse=True)
def without_the_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


async def outcome_of(phota: PhotaClient, photo: Photo, **options: Any) -> EnhanceResult | str:
    """Make a call, and return its result, or the name of its error."""
    try:
        return await phota.enhance(photo, **options)
    except (PhotaError, asyncio.CancelledError) as error:
        return type(error).__name__


async def watched_call(phota: PhotaClient, **options: Any) -> tuple[EnhanceResult | str, weakref.ref[Photo]]:
    photo = Photo(PHOTO)
    return await outcome_of(phota, photo, **options), weakref.ref(photo)


async def watched_task(phota: PhotaClient, **options: Any) -> tuple[EnhanceResult | str, weakref.ref[Photo]]:
    """Make a call in a task of its own, as `asyncio.gather` does; a task keeps its error, and time-outs their task."""
    photo = Photo(PHOTO)
    (outcome,) = await asyncio.gather(phota.enhance(photo, **options), return_exceptions=True)
    assert isinstance(outcome, Exception)
    return type(outcome).__name__, weakref.ref(photo)


@pytest.mark.parametrize(
    ("faults", "told"),
    [
        ([Fault(status=400)], "InvalidRequestError"),
        ([BROKEN, Fault(status=400)], "InvalidRequestError"),
        ([BROKEN] * 5, "InternalServerError"),
        ([Fault(reset="after")], "OutcomeUnknownError"),
        ([Fault(stall=1000)], "DeadlineExceededError"),
        ([BROKEN, Fault(stall=1000)], "DeadlineExceededError"),
    ],
)
@pytest.mark.parametrize("in_a_task", [False, True])
async def test_a_call_that_fails_lets_its_photo_go(
    box: Sandbox, faults: list[Fault], told: str, *, in_a_task: bool
) -> None:
    box.script(*faults)
    async with PhotaClient("key", base_url=box.url, retry=AT_ONCE) as phota:
        call = watched_task if in_a_task else watched_call
        outcome, photo = await call(phota, timeout=0.5 if told == "DeadlineExceededError" else None)
    assert outcome == told
    assert photo() is None


async def test_a_call_that_comes_to_its_end_after_failures_lets_photo_and_images_go(box: Sandbox) -> None:
    box.script(BROKEN, BROKEN)
    async with PhotaClient("key", base_url=box.url, retry=AT_ONCE) as phota:
        outcome, photo = await watched_call(phota)
        assert isinstance(outcome, EnhanceResult)
        assert outcome.attempts == 3
        image = weakref.ref(outcome.images[0])
        del outcome
    assert photo() is None
    assert image() is None


@pytest.mark.parametrize("faults", [[Fault(stall=1000)], [BROKEN, Fault(stall=1000)], [BROKEN]])
async def test_a_call_that_is_cancelled_lets_its_photo_go(box: Sandbox, faults: list[Fault]) -> None:
    box.script(*faults, Fault(status=500, retry_after=50))
    async with PhotaClient("key", base_url=box.url, retry=AT_ONCE) as phota:
        call = asyncio.create_task(watched_call(phota))
        await asyncio.to_thread(box.ledger.wait, lambda ledger: len(ledger.requests) == len(faults))
        await asyncio.sleep(0.05)
        call.cancel()
        outcome, photo = await call
    assert outcome == "CancelledError"
    assert photo() is None


async def test_a_call_that_is_sent_away_lets_its_photo_go(box: Sandbox) -> None:
    box.script(Fault(stall=1000))
    async with PhotaClient("key", base_url=box.url, max_concurrency=1, max_queue=0) as phota:
        first = asyncio.create_task(phota.enhance(PHOTO))
        await asyncio.to_thread(box.ledger.wait, lambda ledger: ledger.in_flight)
        outcome, photo = await watched_call(phota)
        first.cancel()
        await asyncio.wait([first])
    assert outcome == OverloadedError.__name__
    assert photo() is None


async def test_a_call_that_is_sent_away_by_the_closing_client_lets_its_photo_go(box: Sandbox) -> None:
    box.script(Fault(stall=0.5))
    async with PhotaClient("key", base_url=box.url, max_concurrency=1) as phota:
        first = asyncio.create_task(phota.enhance(PHOTO))
        await asyncio.to_thread(box.ledger.wait, lambda ledger: ledger.in_flight)
        second = asyncio.create_task(watched_call(phota))
        await asyncio.sleep(0.05)
    outcome, photo = await second
    assert isinstance(await first, EnhanceResult)
    assert outcome == "ClientClosedError"
    assert photo() is None


@pytest.mark.parametrize(
    ("faults", "told"),
    [
        ([Fault(status=404)], "DownloadError"),
        ([BROKEN] * 5, "DownloadError"),
        ([Fault(reset="before")] * 5, "DownloadError"),
        ([Fault(stall=1000)], "DeadlineExceededError"),
    ],
)
async def test_a_download_that_fails_lets_its_errors_go(box: Sandbox, faults: list[Fault], told: str) -> None:
    overall = 0.5 if told == "DeadlineExceededError" else 30
    async with PhotaClient("key", base_url=box.url, retry=AT_ONCE, timeout=Timeout(overall=overall)) as phota:
        (link,) = (await phota.enhance(PHOTO, response_mode="urls")).download_urls
        box.script_downloads(*faults)
        seen: list[tuple[str, weakref.ref[PhotaError]]] = []

        async def download() -> None:
            try:
                await phota.download(link)
            except PhotaError as error:
                seen.append((type(error).__name__, weakref.ref(error)))

        await download()
    assert [(name, error()) for name, error in seen] == [(told, None)]
