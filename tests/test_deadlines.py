"""The caller's deadline, the service's pauses, and the queue: what is still sent, and what an error says of it."""

from __future__ import annotations

import asyncio

import pytest
from raw_server import (
    GOOD,
    IMAGE,
    PHOTO,
    RawServer,
    Wire,
    answer,
    answering,
    chain,
    client,
    stalling_once,
)

from phota_async import (
    DeadlineExceededError,
    OverloadedError,
    PhotaError,
    RateLimitedError,
    RetryDetails,
    RetryPolicy,
    ServiceUnavailableError,
    Timeout,
)

good = answering(GOOD)


def is_ours(error: BaseException) -> bool:
    return all(not type(one).__module__.startswith(("aiohttp", "asyncio")) for one in chain(error))


# ---- deadlines and pauses


async def test_a_deadline_with_a_request_in_flight_is_an_unknown_outcome() -> None:
    async with RawServer(stalling_once) as server, client(server) as phota:
        with pytest.raises(DeadlineExceededError) as caught:
            await phota.enhance(PHOTO, timeout=0.2)
        assert len(server.requests) == 1
        await server.until(lambda: server.open == 1)
    error = caught.value
    assert isinstance(error, TimeoutError)
    assert error.outcome_unknown
    assert error.maybe_charged
    assert error.attempts == 1
    assert is_ours(error)


async def test_the_overall_timeout_is_the_deadline_of_every_call() -> None:
    async with RawServer(stalling_once) as server, client(server, timeout=Timeout(overall=0.1)) as phota:
        with pytest.raises(DeadlineExceededError):
            await phota.enhance(PHOTO)


async def test_a_deadline_after_the_head_of_the_answer_tells_the_request() -> None:
    async def head_only(wire: Wire) -> None:
        await wire.request()
        await wire.send(answer(b"{", headers={"X-Request-Id": "req_7"}, length=1000))
        await wire.stall()

    async with RawServer(head_only) as server, client(server) as phota:
        with pytest.raises(DeadlineExceededError) as caught:
            await phota.enhance(PHOTO, timeout=0.5)
        server.released.set()
    assert caught.value.outcome_unknown
    assert caught.value.request_id == "req_7"


async def test_a_deadline_while_waiting_for_a_slot_leaves_nothing_unknown() -> None:
    async with RawServer(stalling_once) as server, client(server, max_concurrency=1) as phota:
        first = asyncio.create_task(phota.enhance(PHOTO))
        await server.stalled()
        with pytest.raises(DeadlineExceededError) as caught:
            await phota.enhance(PHOTO, timeout=0.05)
        assert not caught.value.outcome_unknown
        assert not caught.value.maybe_charged
        assert caught.value.attempts == 0
        server.released.set()
        assert (await first).images[0].data == IMAGE
        assert server.connections == 1


async def test_a_deadline_in_a_pause_leaves_nothing_unknown() -> None:
    # The other call's Retry-After holds this one back beyond its deadline.
    refusal = answer(b"{}", 503, {"Retry-After": "60"})
    retry = RetryPolicy(max_attempts=1)
    async with RawServer(answering(refusal), good) as server, client(server, retry=retry) as phota:
        with pytest.raises(ServiceUnavailableError):
            await phota.enhance(PHOTO)
        with pytest.raises(DeadlineExceededError) as caught:
            await phota.enhance(PHOTO, timeout=0.1)
        assert server.connections == 1
    assert not caught.value.outcome_unknown
    assert not caught.value.maybe_charged


async def test_a_retry_that_the_deadline_cannot_hold_is_not_started() -> None:
    refusal = answer(b"{}", 503, {"Retry-After": "30"})
    async with RawServer(answering(refusal)) as server, client(server) as phota:
        with pytest.raises(ServiceUnavailableError) as caught:
            await phota.enhance(PHOTO, timeout=20)
        assert len(server.requests) == 1
    assert caught.value.retry_after == 30
    assert caught.value.attempts == 1


async def test_a_retry_after_beyond_the_bound_is_raised_at_once() -> None:
    refusal = answer(b"{}", 429, {"Retry-After": "121"})
    heard: list[RetryDetails] = []
    async with RawServer(answering(refusal)) as server, client(server, on_retry=heard.append) as phota:
        with pytest.raises(RateLimitedError) as caught:
            await phota.enhance(PHOTO)
        assert len(server.requests) == 1
    assert caught.value.retry_after == 121
    assert heard == []


async def test_a_retry_after_holds_the_retry_and_every_other_start() -> None:
    loop = asyncio.get_running_loop()
    came: list[float] = []

    async def timed(wire: Wire) -> None:
        await wire.request()
        came.append(loop.time())
        await wire.send(GOOD)

    refusal = answer(b"{}", 503, {"Retry-After": "0.3"})
    heard: asyncio.Queue[RetryDetails] = asyncio.Queue()
    async with (
        RawServer(answering(refusal), timed) as server,
        client(server, on_retry=heard.put_nowait) as phota,
    ):
        begun = loop.time()
        first = asyncio.create_task(phota.enhance(PHOTO))
        assert (await heard.get()).wait >= 0.3
        await asyncio.gather(first, phota.enhance(PHOTO), phota.enhance(PHOTO))
        assert len(came) == 3
        assert min(came) - begun >= 0.3


async def test_the_callers_own_timeout_passes_through() -> None:
    async with RawServer(stalling_once) as server, client(server) as phota:
        with pytest.raises(TimeoutError) as caught:
            async with asyncio.timeout(0.1):
                await phota.enhance(PHOTO, timeout=30)
        assert not isinstance(caught.value, PhotaError)


async def test_the_callers_own_timeout_passes_through_a_stalled_answer() -> None:
    async def half(wire: Wire) -> None:
        await wire.request()
        await wire.send(GOOD[:-100])
        await wire.gone()

    async with RawServer(half) as server, client(server) as phota:
        with pytest.raises(TimeoutError) as caught:
            async with asyncio.timeout(0.1):
                await phota.enhance(PHOTO)
        assert not isinstance(caught.value, PhotaError)
        await server.quiet()


async def test_a_body_after_the_bound_of_one_attempt_still_counts_each_attempt_anew() -> None:
    async def slow_refusal(wire: Wire) -> None:
        await wire.request()
        await asyncio.sleep(0.2)
        await wire.send(answer(b"{}", 503))

    async with (
        RawServer(slow_refusal, slow_refusal, slow_refusal, good) as server,
        client(server, timeout=Timeout(attempt=0.5)) as phota,
    ):
        assert (await phota.enhance(PHOTO)).attempts == 4
        assert len(server.requests) == 4


# ---- the queue


async def test_a_caller_beyond_the_queue_is_turned_away_and_nothing_is_sent() -> None:
    async with RawServer(stalling_once) as server, client(server, max_concurrency=1, max_queue=1) as phota:
        first = asyncio.create_task(phota.enhance(PHOTO))
        await server.stalled()
        others = [asyncio.create_task(phota.enhance(PHOTO)) for _ in range(2)]
        (refused,), (queued,) = await asyncio.wait(others, return_when=asyncio.FIRST_COMPLETED)
        with pytest.raises(OverloadedError) as caught:
            await refused
        assert not caught.value.maybe_charged
        assert caught.value.attempts == 0
        assert server.connections == 1
        server.released.set()
        await asyncio.gather(first, queued)
        assert len(server.requests) == 2


async def test_no_queue_at_all_still_lets_a_free_slot_be_taken() -> None:
    async with RawServer(good) as server, client(server, max_concurrency=1, max_queue=0) as phota:
        assert (await phota.enhance(PHOTO)).attempts == 1
        assert (await phota.enhance(PHOTO)).attempts == 1
