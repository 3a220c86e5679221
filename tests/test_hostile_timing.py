"""Answers that come too early, too late, too slowly or without end, each ended by the library's own clock."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from hostile import Case, nothing_left, run
from raw_server import (
    BIG_PHOTO,
    GOOD,
    IMAGE,
    RawServer,
    Script,
    Wire,
    answer,
    client,
    good_body,
)

from phota_async import (
    APIError,
    AuthenticationError,
    ConnectionFailedError,
    DeadlineExceededError,
    GatewayError,
    OutcomeUnknownError,
    PhotaError,
    ResponseFormatError,
    RetryPolicy,
    Timeout,
)

SMALL_BUFFER = 64 * 1024
TWICE = RetryPolicy(initial_wait=0, max_attempts=2)
HEAD = GOOD.index(b"\r\n\r\n") + 4
IMAGE_END = GOOD.index(b'"]') + 1
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
BRIEF: dict[str, object] = {"timeout": Timeout(attempt=0.25)}

# ---- stalls


def stalling(data: bytes) -> Script:
    async def script(wire: Wire) -> None:
        await wire.request()
        if data:
            await wire.send(data)
        await wire.gone()

    return script


STALLS: dict[str, tuple[bytes, bool]] = {
    "before the answer": (b"", False),
    "after an interim answer": (b"HTTP/1.1 100 Continue\r\n\r\n", False),
    "in the status line": (GOOD[:7], False),
    "in the headers": (GOOD[: HEAD - 2], False),
    "after the headers": (GOOD[:HEAD], False),
    "in the image": (GOOD[: HEAD + 1000], False),
    "after the image": (GOOD[:IMAGE_END], True),
    "before the last byte": (GOOD[:-1], True),
    "in a chunk's size": (CHUNKED + b"1", False),
    "in a chunk": (CHUNKED + b"100\r\n{", False),
    "before the last chunk": (CHUNKED + b"%x\r\n%s\r\n" % (len(GOOD[HEAD:]), GOOD[HEAD:]), True),
    "before the end that only a close would be": (b"HTTP/1.1 200 OK\r\n\r\n" + GOOD[HEAD:], True),
}


@pytest.mark.parametrize(("data", "whole"), STALLS.values(), ids=STALLS)
async def test_an_answer_that_stalls_is_an_unknown_outcome_after_the_attempts_time(
    data: bytes, *, whole: bool, caplog: pytest.LogCaptureFixture
) -> None:
    rescued = (IMAGE,) if whole else ()
    case = Case(serve=stalling(data), ends=OutcomeUnknownError, rescued=rescued, options=BRIEF, says="took too long")
    await run(case, caplog)


@pytest.mark.parametrize("place", ["before the answer", "after the headers", "in the image", "after the image"])
async def test_an_answer_that_stalls_past_the_deadline_is_an_unknown_outcome_too(
    place: str, caplog: pytest.LogCaptureFixture
) -> None:
    data, whole = STALLS[place]
    options = {"timeout": Timeout(overall=0.4)}
    rescued = (IMAGE,) if whole else ()
    error = await run(
        Case(serve=stalling(data), ends=DeadlineExceededError, rescued=rescued, options=options, says="in flight"),
        caplog,
    )
    assert isinstance(error, DeadlineExceededError)
    assert error.outcome_unknown


@pytest.mark.parametrize(("status", "charges"), [(402, 0), (503, 0), (307, 0), (502, 1), (600, 1)])
@pytest.mark.parametrize("body", [b'{"detail": "the rea'], ids=["in its words"])
async def test_a_refusal_that_stalls_ends_with_the_deadline_and_is_charged_as_its_status_says(
    status: int, charges: int, body: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    data = answer(body, status, length=1000)
    options = {"timeout": Timeout(overall=0.4)}
    case = Case(serve=stalling(data), ends=DeadlineExceededError, charges=charges, options=options)
    error = await run(case, caplog)
    assert isinstance(error, DeadlineExceededError)
    assert error.outcome_unknown == (charges > 0)


async def reading_nothing(wire: Wire) -> None:
    await wire.stall()


async def reading_the_headers(wire: Wire) -> None:
    await wire.headers()
    await wire.stall()


async def reading_half(wire: Wire) -> None:
    await wire.headers()
    await wire.body(0.5)
    await wire.stall()


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
@pytest.mark.parametrize("serve", [reading_nothing, reading_the_headers, reading_half])
async def test_an_upload_that_stands_still_is_bounded_and_uncharged(
    serve: Script, *, tls: bool, caplog: pytest.LogCaptureFixture
) -> None:
    case = Case(
        serve=serve,
        ends=ConnectionFailedError,
        requests=0,
        charges=0,
        options={"timeout": Timeout(attempt=0.3, connect=0.1), "retry": TWICE},
        photo=BIG_PHOTO,
        receive_buffer=SMALL_BUFFER,
        tls=tls,
    )
    await run(case, caplog)


async def test_an_upload_that_stands_still_past_the_deadline_is_uncharged(caplog: pytest.LogCaptureFixture) -> None:
    case = Case(
        serve=reading_the_headers,
        ends=DeadlineExceededError,
        requests=0,
        charges=0,
        options={"timeout": Timeout(overall=0.3)},
        photo=BIG_PHOTO,
        receive_buffer=SMALL_BUFFER,
    )
    await run(case, caplog)


# ---- drips and floods


def dripping(data: bytes, again: bytes = b"") -> Script:
    """Send byte by byte; then the same bytes again for as long as the client is there."""

    async def script(wire: Wire) -> None:
        await wire.request()
        for byte in data:
            await wire.send(bytes([byte]))
            await asyncio.sleep(0)
        while again:
            await wire.send(again)
            await asyncio.sleep(0.001)

    return script


async def test_an_answer_one_byte_at_a_time_arrives_unharmed(caplog: pytest.LogCaptureFixture) -> None:
    image = IMAGE[:90]
    await run(Case(serve=dripping(answer(good_body(image))), ends=image), caplog)


ENDLESS: dict[str, Script] = {
    "interim answers": dripping(b"", b"HTTP/1.1 102 Processing\r\n\r\n"),
    "floods of interim answers": dripping(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100),
    "space before the document": dripping(CHUNKED, b"1\r\n \r\n"),
    "an image": dripping(CHUNKED + b'c\r\n{"images":["\r\n', b"1\r\nA\r\n"),
    "other members": dripping(CHUNKED + b'7\r\n{"x":[1\r\n', b"2\r\n,1\r\n"),
    "space behind the document": dripping(CHUNKED + b"4\r\nnull\r\n", b"1\r\n \r\n"),
}


@pytest.mark.parametrize("serve", ENDLESS.values(), ids=ENDLESS)
async def test_what_drips_for_ever_ends_with_the_attempts_time(serve: Script, caplog: pytest.LogCaptureFixture) -> None:
    await run(Case(serve=serve, ends=OutcomeUnknownError, options=BRIEF), caplog)


ENDLESS_HEAD: dict[str, Script] = {
    "headers": dripping(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n" * 100),
    "a header": dripping(b"HTTP/1.1 200 OK\r\nX: ", b"y" * 1000),
    "a reason": dripping(b"HTTP/1.1 200 ", b"y" * 1000),
    "a chunk's extension": dripping(CHUNKED + b"1;", b"y" * 1000),
}


@pytest.mark.parametrize("serve", ENDLESS_HEAD.values(), ids=ENDLESS_HEAD)
async def test_a_head_without_end_is_an_unknown_outcome(serve: Script, caplog: pytest.LogCaptureFixture) -> None:
    await run(Case(serve=serve, ends=OutcomeUnknownError, options={"timeout": Timeout(attempt=0.5)}), caplog)


# ---- too early


def early(data: bytes, end: Callable[[Wire], Awaitable[object]]) -> Script:
    async def script(wire: Wire) -> None:
        await wire.headers()
        await wire.send(data)
        await end(wire)

    return script


async def reset(wire: Wire) -> None:
    for _ in range(10):
        await asyncio.sleep(0)
    wire.reset()


EARLY: dict[str, tuple[bytes, type[PhotaError] | bytes, bool]] = {
    # the answer, how the call ends, and whether that leaves a charge to be feared
    "401": (answer(b'{"detail":"no key"}', 401), AuthenticationError, False),
    "413": (answer(b"", 413), APIError, False),
    "302": (answer(b"", 302, {"Location": "/x"}), APIError, False),
    "502": (answer(b"", 502), GatewayError, True),
    "a success": (GOOD, IMAGE, False),
    "a success without an image": (answer(b"{}"), ResponseFormatError, True),
    "a success that stops": (GOOD[: HEAD + 1000], OutcomeUnknownError, True),
}


@pytest.mark.parametrize("size", [3 * 2**20, 12 * 2**20], ids=["3 MiB", "12 MiB"])
@pytest.mark.parametrize(("data", "ends", "feared"), EARLY.values(), ids=EARLY)
async def test_an_answer_before_the_request_was_read_is_heeded(
    data: bytes, ends: type[PhotaError] | bytes, size: int, *, feared: bool, caplog: pytest.LogCaptureFixture
) -> None:
    case = Case(
        serve=early(data, Wire.gone),
        ends=ends,
        requests=0,
        charges=0,
        feared=feared,
        photo=BIG_PHOTO[:size],
        receive_buffer=SMALL_BUFFER,
        options={"timeout": Timeout(attempt=0.5)},
        says="no key" if ends is AuthenticationError else "",
    )
    await run(case, caplog)


async def test_a_refusal_and_a_reset_before_the_request_was_read_is_one_of_two_errors(
    caplog: pytest.LogCaptureFixture,
) -> None:
    # Which one it is depends on whether the client reads the answer or meets the reset first.
    serve = early(answer(b"{}", 401), reset)
    async with (
        nothing_left(caplog),
        RawServer(serve, receive_buffer=SMALL_BUFFER) as server,
        client(server, retry=TWICE) as phota,
    ):
        with pytest.raises((AuthenticationError, ConnectionFailedError)) as caught:
            await phota.enhance(BIG_PHOTO)
        assert server.requests == []
        assert not caught.value.maybe_charged
