"""Attempts and what they lead to: which are made again, what each failure keeps, what every request is like."""

from __future__ import annotations

import asyncio
import json
import pickle
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from raw_server import (
    AT_ONCE,
    GOOD,
    KEY,
    PHOTO,
    RawServer,
    Wire,
    answer,
    answering,
    chain,
    client,
    good_body,
)

from phota_async import (
    APIError,
    AuthenticationError,
    BadRequestError,
    ConnectionFailedError,
    ContentModerationError,
    GatewayError,
    InsufficientCreditsError,
    InternalServerError,
    InvalidRequestError,
    NotFoundError,
    OutcomeUnknownError,
    PhotaClient,
    PhotaError,
    ProfileNotFoundError,
    ProfileNotReadyError,
    RateLimitedError,
    ResponseFormatError,
    RetryDetails,
    RetryPolicy,
    ServerError,
    ServiceUnavailableError,
    Timeout,
    UnprocessableError,
)

good = answering(GOOD)
busy = answering(answer(b"{}", 503))
ATTEMPTS = 3
RETRY = RetryPolicy(initial_wait=0, max_attempts=ATTEMPTS)


async def reset_after_body(wire: Wire) -> None:
    await wire.request()
    wire.reset()


async def close_after_body(wire: Wire) -> None:
    await wire.request()


def is_ours(error: BaseException) -> bool:
    return all(not type(one).__module__.startswith(("aiohttp", "asyncio")) for one in chain(error))


async def refused(data: bytes, *, retry: RetryPolicy = RETRY) -> tuple[APIError, int]:
    """Call against a server that always answers so; return the error and the number of requests."""
    async with RawServer(answering(data)) as server, client(server, retry=retry) as phota:
        with pytest.raises(APIError) as caught:
            await phota.enhance(PHOTO, timeout=20)
        assert server.connections == len(server.requests)
        return caught.value, len(server.requests)


def told(code: str | None, detail: Any = "the reason", **more: Any) -> bytes:
    return json.dumps({"detail": detail, "request_id": "req-body", **({"code": code} if code else {}), **more}).encode()


# ---- never sent


@pytest.fixture
def refusing_port() -> Iterator[int]:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


@pytest.fixture
def unanswered_port() -> Iterator[int]:
    """A port whose queue of connections is full, so that connecting to it takes for ever."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listening:
        port = listening.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            yield port


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


# ---- made again


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


@pytest.mark.parametrize("status", [418, 404, 302])
async def test_other_statuses_are_retried_where_the_policy_names_them(status: int) -> None:
    retry = RetryPolicy(initial_wait=0, max_attempts=4, statuses=frozenset({status}))
    assert (await refused(answer(b"{}", status), retry=retry))[1] == 4
    assert (await refused(answer(b"{}", 503), retry=retry))[1] == 1


@pytest.mark.parametrize("status", [501, 502, 504, 520])
async def test_unknown_outcomes_are_repeated_where_the_policy_says_so(status: int) -> None:
    retry = RetryPolicy(initial_wait=0, max_attempts=4, retry_unknown=True)
    error, requests = await refused(answer(b"{}", status), retry=retry)
    assert requests == 4
    assert error.maybe_charged


async def test_a_format_error_is_never_bought_again_even_so() -> None:
    retry = RetryPolicy(initial_wait=0, retry_unknown=True)
    async with RawServer(answering(answer(b"{}"))) as server, client(server, retry=retry) as phota:
        with pytest.raises(ResponseFormatError):
            await phota.enhance(PHOTO)
        assert len(server.requests) == 1


async def test_the_chain_of_failures_is_kept_in_order() -> None:
    scripts = [answering(answer(told(None, f"number {number}"), 503)) for number in range(3)]
    async with RawServer(*scripts) as server, client(server, retry=RETRY) as phota:
        with pytest.raises(ServiceUnavailableError) as caught:
            await phota.enhance(PHOTO)
        assert len(server.requests) == 3
    errors = [error for error in chain(caught.value) if isinstance(error, APIError)]
    assert [error.detail for error in errors] == ["number 2", "number 1", "number 0"]
    assert [error.attempts for error in errors] == [3, 2, 1]
    assert "after 3 attempts" in str(caught.value)


async def test_calls_at_the_same_time_do_not_mix_their_attempts() -> None:
    async def by_photo(wire: Wire) -> None:
        request = await wire.request()
        same = sum(other.photo == request.photo for other in wire.server.requests)
        wanted = len(request.photo) - len(PHOTO)
        await wire.send(GOOD if same > wanted else answer(b"{}", 500))

    async with RawServer(by_photo) as server, client(server) as phota:
        results = await asyncio.gather(*[phota.enhance(PHOTO + bytes(number)) for number in (0, 1, 2, 3, 4)])
        assert [result.attempts for result in results] == [1, 2, 3, 4, 5]


# ---- the errors


def test_the_tree_is_the_contracts() -> None:
    assert issubclass(InvalidRequestError, BadRequestError)
    assert issubclass(ContentModerationError, BadRequestError)
    assert issubclass(ProfileNotFoundError, NotFoundError)
    assert issubclass(ProfileNotReadyError, NotFoundError)
    for kind in (InternalServerError, ServiceUnavailableError, GatewayError):
        assert issubclass(kind, ServerError)
    for child in (BadRequestError, AuthenticationError, InsufficientCreditsError, NotFoundError, UnprocessableError):
        assert child.__mro__[1] is APIError
    assert RateLimitedError.__mro__[1] is ServerError.__mro__[1] is APIError
    assert APIError.__mro__[1] is PhotaError


@pytest.mark.parametrize("kind", [PhotaError, ResponseFormatError])
def test_errors_without_an_answer_survive_pickling(kind: type[PhotaError]) -> None:
    error = kind("what happened")
    error.attempts, error.maybe_charged = 2, True
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301  (made in the line itself)
    assert (str(copy), copy.__dict__) == (str(error), error.__dict__)


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
