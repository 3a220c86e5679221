"""Connections that fail at every stage: the right error, and no request bought a second time unasked."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager, suppress

import pytest
from raw_server import (
    AT_ONCE,
    BIG_PHOTO,
    GOOD,
    IMAGE,
    KEY,
    PHOTO,
    RawServer,
    Script,
    Wire,
    answer,
    answering,
    chain,
    client,
    good_body,
    stalling_once,
)

from phota_async import (
    AuthenticationError,
    ConnectionFailedError,
    DeadlineExceededError,
    GatewayError,
    OutcomeUnknownError,
    OverloadedError,
    PhotaClient,
    PhotaError,
    RateLimitedError,
    RetryDetails,
    RetryPolicy,
    ServiceUnavailableError,
    Timeout,
)

good = answering(GOOD)
busy = answering(answer(b"{}", 503))
SMALL_BUFFER = 64 * 1024


async def reset_on_accept(wire: Wire) -> None:
    wire.reset()


async def close_on_accept(wire: Wire) -> None:
    wire.close()


async def reset_after_headers(wire: Wire) -> None:
    await wire.headers()
    wire.reset()


async def close_after_headers(wire: Wire) -> None:
    await wire.headers()
    wire.close()


async def reset_in_body(wire: Wire) -> None:
    await wire.headers()
    await wire.body(0.3)
    wire.reset()


async def close_in_body(wire: Wire) -> None:
    await wire.headers()
    await wire.body(0.3)
    wire.close()


async def reset_after_body(wire: Wire) -> None:
    await wire.request()
    wire.reset()


async def close_after_body(wire: Wire) -> None:
    await wire.request()


def after(share: float, *, reset: bool) -> Script:
    """Break off after a share of the answer."""

    async def script(wire: Wire) -> None:
        await wire.request()
        await wire.send(GOOD[: int(len(GOOD) * share)])
        if reset:
            wire.reset()

    return script


HEADERS_SHARE = (GOOD.index(b"\r\n\r\n") + 4) / len(GOOD)
BEFORE_THE_END = {
    "reset on accept": reset_on_accept,
    "close on accept": close_on_accept,
    "reset after the headers": reset_after_headers,
    "close after the headers": close_after_headers,
    "reset in the body": reset_in_body,
    "close in the body": close_in_body,
}
AFTER_THE_END = {
    "reset after the body": reset_after_body,
    "close after the body": close_after_body,
    "reset after the answer's headers": after(HEADERS_SHARE, reset=True),
    "close after the answer's headers": after(HEADERS_SHARE, reset=False),
    "reset in the answer's headers": after(0.005, reset=True),
    "close in the answer's headers": after(0.005, reset=False),
    "reset in the answer": after(0.5, reset=True),
    "close in the answer": after(0.5, reset=False),
    "close before the last byte": after(0.9999, reset=False),
}


def is_ours(error: BaseException) -> bool:
    return all(not type(one).__module__.startswith(("aiohttp", "asyncio")) for one in chain(error))


@pytest.fixture
def unanswered_port() -> Iterator[int]:
    """A port whose queue of connections is full, so that connecting to it takes for ever."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listening:
        port = listening.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            yield port


@pytest.fixture
def refusing_port() -> Iterator[int]:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


# ---- never sent


@pytest.mark.parametrize("script", BEFORE_THE_END.values(), ids=BEFORE_THE_END.keys())
async def test_a_request_that_did_not_go_out_whole_is_made_again(script: Script) -> None:
    async with RawServer(script, script, good, receive_buffer=SMALL_BUFFER) as server, client(server) as phota:
        result = await phota.enhance(BIG_PHOTO)
        assert result.images[0].data == IMAGE
        assert result.attempts == 3
        assert len(server.requests) == 1
        assert server.requests[0].photo == BIG_PHOTO


@pytest.mark.parametrize("script", BEFORE_THE_END.values(), ids=BEFORE_THE_END.keys())
async def test_a_request_that_never_goes_out_whole_fails_uncharged(script: Script) -> None:
    retry = RetryPolicy(initial_wait=0, max_attempts=3)
    async with RawServer(script, receive_buffer=SMALL_BUFFER) as server, client(server, retry=retry) as phota:
        with pytest.raises(ConnectionFailedError) as caught:
            await phota.enhance(BIG_PHOTO)
        assert server.connections == 3
        assert server.requests == []
    error = caught.value
    assert not error.maybe_charged
    assert error.attempts == 3
    assert isinstance(error.__cause__, ConnectionFailedError)
    assert error.__cause__.attempts == 2
    assert isinstance(error.__cause__.__cause__, ConnectionFailedError)
    assert is_ours(error)


async def test_a_refused_port_is_tried_again_and_then_a_failed_connection(refusing_port: int) -> None:
    heard: list[RetryDetails] = []
    url = f"http://127.0.0.1:{refusing_port}"
    async with PhotaClient(KEY, base_url=url, retry=AT_ONCE, on_retry=heard.append) as phota:
        with pytest.raises(ConnectionFailedError, match=r"127\.0\.0\.1") as caught:
            await phota.enhance(PHOTO)
    assert [details.attempt for details in heard] == [1, 2, 3, 4]
    assert all(isinstance(details.error, ConnectionFailedError) for details in heard)
    assert caught.value.attempts == 5
    assert not caught.value.maybe_charged
    assert is_ours(caught.value)


async def test_a_name_that_does_not_resolve_is_a_failed_connection() -> None:
    retry = RetryPolicy(max_attempts=1)
    async with PhotaClient(KEY, base_url="https://something.invalid", retry=retry) as phota:
        with pytest.raises(ConnectionFailedError, match=r"something\.invalid") as caught:
            await phota.enhance(PHOTO)
    assert is_ours(caught.value)


async def test_a_server_without_tls_is_a_failed_connection() -> None:
    async def plain(wire: Wire) -> None:
        await wire.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with RawServer(plain) as server:
        url = f"https://127.0.0.1:{server.port}"
        async with PhotaClient(KEY, base_url=url, retry=RetryPolicy(max_attempts=1)) as phota:
            with pytest.raises(ConnectionFailedError) as caught:
                await phota.enhance(PHOTO)
    assert not caught.value.maybe_charged
    assert is_ours(caught.value)


async def test_connecting_is_bounded(unanswered_port: int) -> None:
    retry, timeout = RetryPolicy(max_attempts=2, initial_wait=0), Timeout(connect=0.05)
    url = f"http://127.0.0.1:{unanswered_port}"
    async with PhotaClient(KEY, base_url=url, retry=retry, timeout=timeout) as phota:
        with pytest.raises(ConnectionFailedError) as caught:
            await phota.enhance(PHOTO)
    assert caught.value.attempts == 2
    assert is_ours(caught.value)


async def test_an_upload_that_stands_still_is_bounded_and_uncharged() -> None:
    async def deaf(wire: Wire) -> None:
        await wire.headers()
        await wire.stall()

    retry = RetryPolicy(max_attempts=2, initial_wait=0)
    async with (
        RawServer(deaf, receive_buffer=SMALL_BUFFER) as server,
        client(server, retry=retry, timeout=Timeout(attempt=0.3)) as phota,
    ):
        with pytest.raises(ConnectionFailedError) as caught:
            await phota.enhance(BIG_PHOTO)
        assert server.connections == 2
        assert server.requests == []
    assert caught.value.attempts == 2
    assert not caught.value.maybe_charged


# ---- sent


@pytest.mark.parametrize("script", AFTER_THE_END.values(), ids=AFTER_THE_END.keys())
async def test_a_request_that_went_out_whole_is_not_made_again(script: Script) -> None:
    async with RawServer(script, good) as server, client(server) as phota:
        with pytest.raises(OutcomeUnknownError) as caught:
            await phota.enhance(PHOTO)
        assert server.connections == len(server.requests) == 1
    error = caught.value
    assert error.maybe_charged
    assert error.attempts == 1
    assert error.__cause__ is None
    assert is_ours(error)
    assert "charged" in str(error)
    assert {image.data for image in error.images} <= {IMAGE}


@pytest.mark.parametrize("script", AFTER_THE_END.values(), ids=AFTER_THE_END.keys())
async def test_it_is_made_again_where_the_policy_says_so(script: Script) -> None:
    retry = RetryPolicy(initial_wait=0, retry_unknown=True)
    async with RawServer(script, good) as server, client(server, retry=retry) as phota:
        result = await phota.enhance(PHOTO)
        assert result.images[0].data == IMAGE
        assert result.attempts == len(server.requests) == 2


async def test_every_failure_is_kept_when_repeats_of_unknown_outcomes_run_out() -> None:
    retry = RetryPolicy(initial_wait=0, retry_unknown=True, max_attempts=3)
    async with (
        RawServer(reset_after_body, busy, close_after_body) as server,
        client(server, retry=retry) as phota,
    ):
        with pytest.raises(OutcomeUnknownError) as caught:
            await phota.enhance(PHOTO)
        assert len(server.requests) == 3
    second = caught.value.__cause__
    assert isinstance(second, ServiceUnavailableError)
    assert second.maybe_charged  # because of the first
    assert isinstance(second.__cause__, OutcomeUnknownError)
    assert [error.attempts for error in (caught.value, second, second.__cause__)] == [3, 2, 1]


async def test_a_later_refusal_does_not_hide_that_an_earlier_attempt_may_be_paid() -> None:
    retry = RetryPolicy(initial_wait=0, retry_unknown=True)
    async with (
        RawServer(reset_after_body, answering(answer(b"{}", 401))) as server,
        client(server, retry=retry) as phota,
    ):
        with pytest.raises(AuthenticationError) as caught:
            await phota.enhance(PHOTO)
    assert caught.value.maybe_charged
    assert isinstance(caught.value.__cause__, OutcomeUnknownError)


@pytest.mark.parametrize(("status", "requests"), [(502, 1), (504, 1), (500, 2), (503, 2), (429, 2)])
async def test_only_answers_that_are_sure_to_be_unpaid_are_retried(status: int, requests: int) -> None:
    async with RawServer(answering(answer(b"{}", status)), good) as server, client(server) as phota:
        if requests == 1:
            with pytest.raises(GatewayError) as caught:
                await phota.enhance(PHOTO)
            assert caught.value.maybe_charged
        else:
            assert (await phota.enhance(PHOTO)).attempts == 2
        assert len(server.requests) == requests


async def test_a_stalled_answer_is_an_unknown_outcome_after_the_attempts_time() -> None:
    async with (
        RawServer(stalling_once) as server,
        client(server, timeout=Timeout(attempt=0.2)) as phota,
    ):
        with pytest.raises(OutcomeUnknownError) as caught:
            await phota.enhance(PHOTO)
        assert len(server.requests) == 1
    assert caught.value.maybe_charged
    assert is_ours(caught.value)


async def test_the_images_before_a_stall_ride_on_the_error() -> None:
    async def half(wire: Wire) -> None:
        await wire.request()
        await wire.send(answer(good_body(IMAGE, IMAGE))[:-3000])
        await wire.stall()

    async with RawServer(half) as server, client(server, timeout=Timeout(attempt=0.3)) as phota:
        with pytest.raises(OutcomeUnknownError) as caught:
            await phota.enhance(PHOTO)
    assert [image.data for image in caught.value.images] == [IMAGE]


async def test_a_stray_second_answer_never_reaches_another_call() -> None:
    mine, strays = answer(good_body(IMAGE)), answer(good_body(IMAGE[::-1]))

    async def generous(wire: Wire) -> None:
        await wire.request()
        await wire.send(mine)
        await wire.send(strays)

    async with RawServer(generous, good) as server, client(server) as phota:
        for _ in range(3):
            with suppress(OutcomeUnknownError):  # whether the first answer survives is another test's question
                assert (await phota.enhance(PHOTO)).images[0].data == IMAGE
        assert server.connections == 3


# ---- an answer before the request's end


@asynccontextmanager
async def refusing_early(*, reset: bool) -> AsyncGenerator[RawServer]:
    async def early(wire: Wire) -> None:
        await wire.headers()
        await wire.send(answer(b'{"detail":"no key"}', 401))
        if reset:
            wire.reset()
        else:
            await wire.gone()

    async with RawServer(early, receive_buffer=SMALL_BUFFER) as server:
        yield server


@pytest.mark.parametrize("size", [3 * 2**20, 12 * 2**20])
async def test_a_refusal_before_the_body_was_read_is_told(size: int) -> None:
    async with refusing_early(reset=False) as server, client(server) as phota:
        with pytest.raises(AuthenticationError) as caught:
            await phota.enhance(BIG_PHOTO[:size])
        assert server.connections == 1
        await server.quiet()
    assert caught.value.detail == "no key"
    assert not caught.value.maybe_charged


async def test_a_refusal_and_a_reset_before_the_body_was_read_is_one_of_two_errors() -> None:
    async with refusing_early(reset=True) as server, client(server) as phota:
        with pytest.raises((AuthenticationError, ConnectionFailedError)) as caught:
            await phota.enhance(BIG_PHOTO)
        assert server.requests == []
    assert not caught.value.maybe_charged
    assert is_ours(caught.value)


async def test_a_success_before_the_body_was_read_is_not_bought_again() -> None:
    async def hasty(wire: Wire) -> None:
        await wire.headers()
        await wire.send(GOOD)
        await wire.gone()

    async with RawServer(hasty, receive_buffer=SMALL_BUFFER) as server, client(server) as phota:
        result = await phota.enhance(BIG_PHOTO)
        assert result.images[0].data == IMAGE
        assert server.connections == 1


# ---- the caller's deadline


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


async def test_a_deadline_while_the_body_goes_out_leaves_nothing_unknown() -> None:
    async def deaf(wire: Wire) -> None:
        await wire.headers()
        await wire.stall()

    async with RawServer(deaf, receive_buffer=SMALL_BUFFER) as server, client(server) as phota:
        with pytest.raises(DeadlineExceededError) as caught:
            await phota.enhance(BIG_PHOTO, timeout=0.3)
        assert server.requests == []
    assert not caught.value.outcome_unknown
    assert not caught.value.maybe_charged


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


# ---- what every request is like


async def test_every_request_has_a_connection_of_its_own_and_an_exact_length() -> None:
    async with RawServer(good) as server, client(server) as phota:
        await asyncio.gather(*[phota.enhance(PHOTO) for _ in range(5)])
        assert server.connections == 5
        for request in server.requests:
            assert request.method == "POST"
            assert request.target == "/enhance"
            assert request.headers["Connection"] == "close"
            assert request.headers["X-Api-Key"] == KEY
            assert int(request.headers["Content-Length"]) == len(request.body)
            assert "Transfer-Encoding" not in request.headers
            assert "Expect" not in request.headers
            assert "Cookie" not in request.headers
            assert "Authorization" not in request.headers


async def test_cookies_of_an_answer_are_not_sent_back() -> None:
    script = answering(answer(good_body(), headers={"Set-Cookie": "a=b; Path=/"}))
    async with RawServer(script) as server, client(server) as phota:
        for _ in range(2):
            await phota.enhance(PHOTO)
        assert all("Cookie" not in request.headers for request in server.requests)


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
