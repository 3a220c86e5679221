"""Metrics: what is counted, how often, and under which labels."""

from __future__ import annotations

import asyncio
import gc
import math
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from anyio import to_thread
from raw_server import GOOD, PHOTO, RawServer, answering, client, stalling_once
from telemetry_capture import Observed, observing
from yarl import URL

from phota_async import OutcomeUnknownError, PhotaClient, RetryPolicy, ServiceUnavailableError
from phota_async.sandbox import Fault, Sandbox

AT_ONCE = RetryPolicy(max_attempts=2, initial_wait=0)
NO_ROOM = Fault(status=503, retry_after=0)


@pytest.fixture
def observed() -> Iterator[Observed]:
    with observing() as opened:
        yield opened


def to(box: Sandbox, **options: Any) -> PhotaClient:
    settings: dict[str, Any] = {"base_url": box.url, "retry": AT_ONCE, **options}
    return PhotaClient("key", **settings)


async def test_a_call_that_is_retried_is_one_call_and_two_attempts(
    box: Sandbox, photo: Path, observed: Observed
) -> None:
    box.script(NO_ROOM)
    async with to(box) as phota:
        await phota.enhance(photo)
    port = URL(box.url).port
    good: dict[str, Any] = {"phota__operation": "enhance", "server__address": "127.0.0.1", "server__port": port}
    assert observed.total("calls") == 1
    assert observed.total("calls", **good, phota__outcome="ok", phota__maybe_charged=False) == 1
    assert observed.total("call.duration", **good, phota__outcome="ok") == 1
    assert observed.total("attempts") == 2
    assert observed.total("attempts", **good, error__type="ServiceUnavailableError") == 1
    assert observed.total("retries") == 1
    assert observed.total("retries", **good, error__type="ServiceUnavailableError") == 1


async def test_a_call_that_gives_up_is_counted_by_its_error(box: Sandbox, photo: Path, observed: Observed) -> None:
    box.script(NO_ROOM, NO_ROOM, Fault(reset="after", charged=True))
    async with to(box) as phota:
        with pytest.raises(ServiceUnavailableError):
            await phota.enhance(photo)
        with pytest.raises(OutcomeUnknownError):
            await phota.enhance(photo)
    failed = {"phota__outcome": "error", "error__type": "ServiceUnavailableError"}
    lost = {"phota__outcome": "error", "error__type": "OutcomeUnknownError"}
    assert observed.total("calls") == 2
    assert observed.total("calls", **failed, phota__maybe_charged=False) == 1
    assert observed.total("calls", **lost, phota__maybe_charged=True) == 1
    assert [observed.total("call.duration", **labels) for labels in (failed, lost)] == [1, 1]
    assert (observed.total("attempts"), observed.total("retries")) == (3, 1)
    assert observed.total("spend") == 0


async def test_a_call_that_is_cancelled_is_counted_as_that(observed: Observed) -> None:
    async with RawServer(stalling_once) as server, client(server) as phota:
        call = asyncio.create_task(phota.enhance(PHOTO))
        await server.stalled()
        call.cancel()
        await asyncio.wait([call])
    assert observed.total("calls", phota__outcome="cancelled", phota__maybe_charged=True) == 1
    assert observed.total("attempts", error__type="CancelledError") == 1
    assert observed.total("calls") == 1


@pytest.mark.parametrize(("profiles", "usd"), [((), 0.24), (("anna",), 0.30)])
async def test_spend_is_what_answered_images_cost_by_the_price_list(
    profiles: tuple[str, ...], usd: float, box: Sandbox, photo: Path, observed: Observed
) -> None:
    async with to(box) as phota:
        result = await phota.enhance(photo, num_output_images=2, profile_ids=profiles, response_mode="urls")
        await phota.download(result.download_urls[0])
    assert observed.total("spend") == pytest.approx(usd)
    assert box.ledger.spent_usd == pytest.approx(usd)


async def test_a_download_is_counted_apart_and_without_its_host(box: Sandbox, photo: Path, observed: Observed) -> None:
    async with to(box) as phota:
        result = await phota.enhance(photo, response_mode="urls")
        await phota.download(result.download_urls[0])
    assert observed.total("calls", phota__operation="download", phota__outcome="ok") == 1
    assert observed.total("calls", phota__operation="enhance") == 1
    labels = [dict(found) for _, found in observed.values() if ("phota.operation", "download") in found]
    assert {key for found in labels for key in found} <= {"phota.operation", "phota.outcome", "error.type"}


async def test_buckets_tell_calls_of_a_minute_apart(box: Sandbox, photo: Path, observed: Observed) -> None:
    async with to(box) as phota:
        await phota.enhance(photo)
    (duration,) = (metric for metric in observed.metrics() if metric.name == "phota.client.call.duration")
    bounds = list(duration.data.data_points[0].explicit_bounds)  # type: ignore[union-attr]
    assert duration.unit == "s"
    assert [bound for bound in bounds if 30 <= bound <= 90] == [30, 40, 50, 60, 75, 90]
    assert bounds[-1] == 600


# ---- what is in use now


@asynccontextmanager
async def calling(phota: PhotaClient, photo: Path, count: int) -> AsyncGenerator[None]:
    """Keep so many calls under way."""
    calls = [asyncio.create_task(phota.enhance(photo)) for _ in range(count)]
    try:
        yield
    finally:
        for call in calls:
            call.cancel()
        await asyncio.wait(calls)


async def test_width_slots_and_queue_are_those_of_the_moment(box: Sandbox, photo: Path, observed: Observed) -> None:
    def in_use() -> list[float]:
        return [observed.total(name) for name in ("width", "in_flight", "queue")]

    box.script(*[Fault(stall=math.inf)] * 2)
    async with to(box, max_concurrency=2) as phota:
        async with calling(phota, photo, 3):
            assert await asyncio.to_thread(box.ledger.wait, lambda ledger: ledger.in_flight == 2)
            assert in_use() == [2, 2, 1]
            async with to(box, max_concurrency=5) as other:
                box.script(NO_ROOM)
                await other.enhance(photo)
                width, *others = in_use()
                assert 2 < width < 2 + 5  # a refusal has narrowed the other one
                assert others == [2, 1]
            assert in_use() == [2, 2, 1]
        assert in_use() == [2, 0, 0]
    assert in_use() == [0, 0, 0]


async def test_a_client_that_is_forgotten_is_not_counted(observed: Observed) -> None:
    async with RawServer(answering(GOOD)) as server, aiohttp.ClientSession() as session:
        phota = PhotaClient("key", base_url=server.url, session=session, max_concurrency=7)
        await phota.enhance(PHOTO)
        assert observed.total("width") == 7
        del phota
        gc.collect()
        assert observed.total("width") == 0


async def test_a_client_whose_loop_has_ended_is_not_counted(
    phota_sandbox: Sandbox, photo: Path, observed: Observed
) -> None:
    phota = PhotaClient("key", base_url=phota_sandbox.url, max_concurrency=7)
    widths: list[float] = []

    async def once() -> None:
        await phota.enhance(photo)
        widths.append(observed.total("width"))

    await to_thread.run_sync(asyncio.run, once())
    widths.append(observed.total("width"))
    await phota.aclose()
    assert widths == [7, 0]


async def test_what_is_measured_is_linked_to_the_span_of_its_call(
    box: Sandbox, photo: Path, observed: Observed
) -> None:
    box.script(NO_ROOM)
    async with to(box) as phota:
        await phota.enhance(photo)
    call = observed.span("phota.enhance").context
    assert call is not None
    port = URL(box.url).port
    linked = {
        metric.name.removeprefix("phota.client."): {exemplar.span_id for exemplar in point.exemplars}
        for metric in observed.metrics()
        for point in metric.data.data_points
        if dict(point.attributes or {}).get("server.port") == port
    }
    assert linked == {name: {call.span_id} for name in ("calls", "call.duration", "attempts", "retries", "spend")}
