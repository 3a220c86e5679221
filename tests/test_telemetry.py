"""Spans: one around all of a call or a download, with what the instrumentation of aiohttp tells below it."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
from aiohttp import TraceConfig
from canary import logged
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, StatusCode
from raw_server import GOOD, IMAGE, RawServer, answer, answering, client
from telemetry_capture import Observed, instrumentation, observing
from yarl import URL

from phota_async import (
    DeadlineExceededError,
    DownloadError,
    ImageError,
    InsufficientCreditsError,
    OutcomeUnknownError,
    PhotaClient,
    RetryDetails,
    RetryPolicy,
    ServiceUnavailableError,
    __version__,
)
from phota_async.sandbox import Fault, Sandbox

AT_ONCE = RetryPolicy(max_attempts=2, initial_wait=0)
NO_ROOM = Fault(status=503, retry_after=0)
SILENT = Fault(stall=math.inf)


@pytest.fixture
def observed() -> Iterator[Observed]:
    with observing() as opened:
        yield opened


def to(box: Sandbox, **options: Any) -> PhotaClient:
    settings: dict[str, Any] = {"base_url": box.url, "retry": AT_ONCE, "trace_configs": [instrumentation()], **options}
    return PhotaClient("key", **settings)


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def events(span: ReadableSpan) -> list[tuple[str, dict[str, Any]]]:
    return [(event.name, dict(event.attributes or {})) for event in span.events]


def begun(number: int) -> tuple[str, dict[str, Any]]:
    return "phota.attempt", {"phota.attempt.number": number}


def failed(number: int, error: str, **more: Any) -> tuple[str, dict[str, Any]]:
    return "phota.attempt.failed", {"phota.attempt.number": number, "error.type": error, **more}


async def in_flight(box: Sandbox, count: int = 1) -> None:
    assert await asyncio.to_thread(box.ledger.wait, lambda ledger: ledger.in_flight == count)


# ---- calls


async def test_a_call_is_one_span_around_its_request(box: Sandbox, photo: Path, observed: Observed) -> None:
    async with to(box) as phota:
        result = await phota.enhance(photo, num_output_images=2)
    span = observed.span("phota.enhance")
    assert span.kind is SpanKind.INTERNAL
    assert span.status.status_code is StatusCode.UNSET
    assert span.parent is None
    assert attributes(span) == {
        "server.address": "127.0.0.1",
        "server.port": URL(box.url).port,
        "phota.response_mode": "bytes",
        "phota.images": 2,
        "phota.request_id": result.request_id,
        "phota.attempts": 1,
        "phota.outcome": "ok",
        "phota.maybe_charged": False,
    }
    assert events(span) == [begun(1)]
    (request,) = observed.children(span)
    assert (request.name, request.kind) == ("POST", SpanKind.CLIENT)
    scope = span.instrumentation_scope
    assert scope is not None
    assert (scope.name, scope.version) == ("phota_async", __version__)
    assert (scope.schema_url or "").startswith("https://opentelemetry.io/schemas/1.")


async def test_attempts_are_events_and_their_requests_are_children(
    box: Sandbox, photo: Path, observed: Observed
) -> None:
    told: list[RetryDetails] = []
    box.script(NO_ROOM)
    async with to(box, retry=RetryPolicy(initial_wait=0.01), on_retry=told.append) as phota:
        await phota.enhance(photo)
    span = observed.span("phota.enhance")
    wait = {"http.response.status_code": 503, "phota.attempt.wait": told[0].wait}
    assert events(span) == [begun(1), failed(1, "ServiceUnavailableError", **wait), begun(2)]
    assert (attributes(span)["phota.attempts"], attributes(span)["phota.outcome"]) == (2, "ok")
    assert "error.type" not in attributes(span)
    assert span.status.status_code is StatusCode.UNSET
    assert [request.name for request in observed.children(span)] == ["POST", "POST"]


async def test_a_call_that_gives_up_says_why_in_one_word(box: Sandbox, photo: Path, observed: Observed) -> None:
    box.script(NO_ROOM, Fault(status=503, retry_after=0, detail="upstream-words"))
    async with to(box) as phota:
        with pytest.raises(ServiceUnavailableError) as caught:
            await phota.enhance(photo)
    span = observed.span("phota.enhance")
    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, "ServiceUnavailableError")
    found = attributes(span)
    assert (found["error.type"], found["http.response.status_code"]) == ("ServiceUnavailableError", 503)
    assert (found["phota.outcome"], found["phota.attempts"], found["phota.maybe_charged"]) == ("error", 2, False)
    assert found["phota.request_id"] == caught.value.request_id
    assert "phota.images" not in found
    assert [name for name, _ in events(span)] == ["phota.attempt", "phota.attempt.failed"] * 2
    assert events(span)[-1] == failed(2, "ServiceUnavailableError", **{"http.response.status_code": 503})
    assert "upstream-words" not in observed.everything()


async def test_a_lost_answer_shows_that_it_may_have_been_charged(box: Sandbox, photo: Path, observed: Observed) -> None:
    box.script(Fault(reset="after", charged=True))
    async with to(box) as phota:
        with pytest.raises(OutcomeUnknownError):
            await phota.enhance(photo)
    span = observed.span("phota.enhance")
    assert (span.status.description, attributes(span)["phota.maybe_charged"]) == ("OutcomeUnknownError", True)
    assert events(span) == [begun(1), failed(1, "OutcomeUnknownError")]


async def test_what_an_earlier_attempt_may_have_cost_shows_on_a_success(
    box: Sandbox, photo: Path, observed: Observed
) -> None:
    box.script(Fault(reset="after", charged=True))
    async with to(box, retry=RetryPolicy(initial_wait=0, retry_unknown=True)) as phota:
        await phota.enhance(photo)
    found = attributes(observed.span("phota.enhance"))
    assert (found["phota.outcome"], found["phota.maybe_charged"]) == ("ok", True)


async def test_a_deadline_that_passes_ends_the_attempt_in_flight(box: Sandbox, photo: Path, observed: Observed) -> None:
    box.script(SILENT)
    async with to(box) as phota:
        with pytest.raises(DeadlineExceededError):
            await phota.enhance(photo, timeout=0.5)
    span = observed.span("phota.enhance")
    assert span.status.description == "DeadlineExceededError"
    assert attributes(span)["phota.maybe_charged"]
    assert events(span) == [begun(1), failed(1, "DeadlineExceededError")]


async def test_a_call_cancelled_in_flight_is_no_failure_but_may_have_been_charged(
    box: Sandbox, photo: Path, observed: Observed
) -> None:
    box.script(SILENT)
    async with to(box) as phota:
        call = asyncio.create_task(phota.enhance(photo))
        await in_flight(box)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
    span = observed.span("phota.enhance")
    found = attributes(span)
    assert span.status.status_code is StatusCode.UNSET
    assert (found["phota.outcome"], found["phota.maybe_charged"], found["phota.attempts"]) == ("cancelled", True, 1)
    assert "error.type" not in found
    assert events(span) == [begun(1), failed(1, "CancelledError")]


async def test_a_call_cancelled_before_its_slot_has_made_no_attempt(
    box: Sandbox, photo: Path, observed: Observed
) -> None:
    box.script(SILENT)
    async with to(box, max_concurrency=1) as phota:
        first = asyncio.create_task(phota.enhance(photo))
        await in_flight(box)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await phota.enhance(photo)
        first.cancel()
        await asyncio.wait([first])
    waited, sent = observed.spans("phota.enhance")
    assert [attributes(span)["phota.maybe_charged"] for span in (waited, sent)] == [False, True]
    assert (events(waited), attributes(waited)["phota.attempts"]) == ([], 0)
    assert attributes(waited)["phota.outcome"] == "cancelled"


async def test_a_call_cancelled_in_its_pause_has_no_attempt_in_flight(
    box: Sandbox, photo: Path, observed: Observed
) -> None:
    paused = asyncio.Event()

    def note(_: RetryDetails) -> None:
        paused.set()

    box.script(Fault(status=503, retry_after=60))
    async with to(box, on_retry=note) as phota:
        call = asyncio.create_task(phota.enhance(photo))
        await paused.wait()
        call.cancel()
        await asyncio.wait([call])
    span = observed.span("phota.enhance")
    assert [name for name, _ in events(span)] == ["phota.attempt", "phota.attempt.failed"]
    assert (attributes(span)["phota.outcome"], attributes(span)["phota.maybe_charged"]) == ("cancelled", False)
    assert (observed.total("attempts"), observed.total("retries")) == (1, 0)


async def test_a_call_that_sends_nothing_has_made_no_attempt(box: Sandbox, observed: Observed) -> None:
    async with to(box) as phota:
        with pytest.raises(ImageError):
            await phota.enhance(b"no photo")
    span = observed.span("phota.enhance")
    assert (events(span), span.status.description) == ([], "ImageError")
    assert (attributes(span)["phota.attempts"], attributes(span)["phota.maybe_charged"]) == (0, False)


async def test_the_span_of_a_call_is_current_for_what_its_hooks_do(
    box: Sandbox, photo: Path, observed: Observed
) -> None:
    seen: list[int] = []

    def note(_: RetryDetails) -> None:
        seen.append(trace.get_current_span().get_span_context().span_id)

    box.script(NO_ROOM)
    async with to(box, on_retry=note) as phota:
        await phota.enhance(photo)
    span = observed.span("phota.enhance")
    assert span.context is not None
    assert seen == [span.context.span_id]
    assert not trace.get_current_span().get_span_context().is_valid


# ---- many of them


async def test_each_call_of_a_batch_is_a_child_of_what_was_current(
    box: Sandbox, photo: Path, observed: Observed
) -> None:
    box.script(NO_ROOM)
    async with to(box, max_concurrency=3) as phota:
        with trace.get_tracer("a program").start_as_current_span("its work"):
            batch = await phota.enhance_many([photo] * 4)
    calls, work = observed.spans("phota.enhance"), observed.span("its work")
    assert observed.children(work) == calls
    identities = {outcome.result.request_id for outcome in batch.succeeded if outcome.result}
    assert len(identities) == 4
    assert {attributes(call)["phota.request_id"] for call in calls} == identities
    requests = [len(observed.children(call)) for call in calls]
    assert requests == [attributes(call)["phota.attempts"] for call in calls]
    assert sorted(requests) == [1, 1, 1, 2]


async def test_a_call_that_its_stopped_batch_sends_away_is_no_failure(
    box: Sandbox, photo: Path, observed: Observed
) -> None:
    box.script(SILENT, Fault(status=402, stall=0.2))
    async with to(box, max_concurrency=2) as phota:
        other = asyncio.create_task(phota.enhance(photo))
        await in_flight(box)
        batch = await phota.enhance_many([photo, photo])  # one has the last slot, one waits for it
        other.cancel()
        await asyncio.wait([other])
    assert [type(outcome.error) for outcome in batch] == [InsufficientCreditsError] * 2
    away, refused = sorted(observed.spans("phota.enhance")[:2], key=lambda span: attributes(span)["phota.attempts"])
    assert (attributes(refused)["phota.outcome"], refused.status.description) == ("error", "InsufficientCreditsError")
    assert (attributes(away)["phota.outcome"], away.status.status_code) == ("cancelled", StatusCode.UNSET)
    assert attributes(away)["phota.attempts"] == 0


async def test_each_call_and_each_download_of_a_folder_run_has_its_span(
    box: Sandbox, photo: Path, tmp_path: Path, observed: Observed
) -> None:
    async with to(box) as phota:
        report = await phota.enhance_folder(photo, tmp_path / "enhanced", num_output_images=2)
    assert len(report.outputs) == 2
    assert [span.name for span in observed.spans() if span.kind is SpanKind.INTERNAL] == [
        "phota.enhance",
        "phota.download",
        "phota.download",
    ]


# ---- downloads


async def test_a_download_is_one_span_around_its_requests(observed: Observed) -> None:
    image = answering(answer(IMAGE, kind="image/png"))
    async with (
        RawServer(answering(answer(status=503)), image) as server,
        client(server, trace_configs=[instrumentation()]) as phota,
    ):
        await phota.download(f"{server.url}/a.png?signature=5f")
    span, port = observed.span("phota.download"), URL(server.url).port
    assert attributes(span) == {
        "server.address": "127.0.0.1",
        "server.port": port,
        "phota.attempts": 2,
        "phota.outcome": "ok",
    }
    assert [name for name, _ in events(span)] == ["phota.attempt", "phota.attempt.failed", "phota.attempt"]
    assert events(span)[1][1]["error.type"] == "DownloadError"
    assert events(span)[1][1]["http.response.status_code"] == 503
    assert [request.name for request in observed.children(span)] == ["GET", "GET"]


@pytest.mark.parametrize("link", ["https://127.0.0.1:1/a.png?signature=5f", "no link at all", ""])
async def test_a_link_that_leads_nowhere_is_a_failed_download(link: str, box: Sandbox, observed: Observed) -> None:
    async with to(box) as phota:
        with pytest.raises(DownloadError):
            await phota.download(link)
    span = observed.span("phota.download")
    assert (span.status.description, attributes(span)["error.type"]) == ("DownloadError", "DownloadError")
    assert attributes(span).get("server.port") == (1 if link.startswith("https") else None)


# ---- what must not matter


async def test_spans_that_are_not_sampled_pass_on_that_they_are_not(
    box: Sandbox, photo: Path, observed: Observed
) -> None:
    observed.switch.observing = False
    inside: list[trace.SpanContext] = []

    def note(_: RetryDetails) -> None:
        inside.append(trace.get_current_span().get_span_context())

    box.script(NO_ROOM)
    async with to(box, on_retry=note) as phota:
        assert (await phota.enhance(photo)).attempts == 2
    assert (inside[0].is_valid, inside[0].trace_flags.sampled) == (True, False)
    assert observed.spans() == []


@pytest.mark.parametrize("instrumented", [False, True])
async def test_a_processor_that_raises_costs_nothing_that_is_paid_for(
    box: Sandbox, photo: Path, observed: Observed, *, instrumented: bool
) -> None:
    observed.switch.raising = True
    async with to(box, trace_configs=[instrumentation()] * instrumented) as phota:
        with logged() as log:
            result = await phota.enhance(photo, response_mode="urls")
            image = await phota.download(result.download_urls[0])
    assert image.data
    assert "OpenTelemetry raised" in log.getvalue()
    assert ("a callback of trace_configs raised" in log.getvalue()) == instrumented
    assert not trace.get_current_span().get_span_context().is_valid


async def test_callbacks_of_trace_configs_are_told_all_and_given_their_own_context(box: Sandbox, photo: Path) -> None:
    told: list[tuple[str, object]] = []

    class Kept(TraceConfig):
        def trace_config_ctx(self, trace_request_ctx: Any = None) -> SimpleNamespace:
            return SimpleNamespace(mine=True, given=trace_request_ctx)

    async def note(_: object, context: SimpleNamespace, params: object) -> None:
        told.append((type(params).__name__, context.mine))

    config = Kept()
    config.on_request_start.append(note)
    config.on_request_headers_sent.append(note)
    config.on_request_end.append(note)
    async with to(box, trace_configs=[config]) as phota:
        await phota.enhance(photo)
    kinds = ["TraceRequestStartParams", "TraceRequestHeadersSentParams", "TraceRequestEndParams"]
    assert told == [(kind, True) for kind in kinds]


async def test_what_ends_a_request_that_may_be_charged_is_logged(photo: Path) -> None:
    class OutOfSpaceError(LookupError):
        pass

    async def broken(*_: object) -> None:
        raise OutOfSpaceError

    config = TraceConfig()
    config.on_request_end.append(broken)
    async with (
        RawServer(answering(GOOD)) as server,
        aiohttp.ClientSession(trace_configs=[config]) as session,  # one of the program's own is not guarded
        client(server, session=session) as phota,
    ):
        with logged() as log, pytest.raises(OutOfSpaceError):
            await phota.enhance(photo)
    assert "a call ended in OutOfSpaceError while its request was in flight; it may have been charged" in log.getvalue()
