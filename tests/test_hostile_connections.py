"""Connections that break at every stage of request and answer: no paid request is lost sight of or made again."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import TypeAlias

import pytest
from attrs import evolve
from hostile import Case, run
from raw_server import (
    BIG_PHOTO,
    GOOD,
    IMAGE,
    PHOTO,
    Script,
    Wire,
    answer,
    answering,
)

from phota_async import ConnectionFailedError, OutcomeUnknownError, RetryPolicy

SMALL_BUFFER = 64 * 1024
THRICE = RetryPolicy(initial_wait=0, max_attempts=3)
AGAIN = RetryPolicy(initial_wait=0, max_attempts=3, retry_unknown=True)

good = answering(GOOD)

Stage: TypeAlias = Callable[[Wire], Awaitable[object]]
Break: TypeAlias = Callable[[Wire], None]

BREAKS: dict[str, Break] = {"RST": Wire.reset, "FIN": Wire.close}


def breaking(stage: Stage, breaks: Break) -> Script:
    """Go as far as the stage, let the client take in what was sent, and break off."""

    async def script(wire: Wire) -> None:
        await stage(wire)
        for _ in range(10):
            await asyncio.sleep(0)
        breaks(wire)

    return script


# ---- the request


async def accepted(_: Wire) -> None:
    pass


def in_the_body(share: float) -> Stage:
    async def stage(wire: Wire) -> None:
        await wire.headers()
        await wire.body(share)

    return stage


async def all_but_one_byte(wire: Wire) -> None:
    request = await wire.headers()
    length = int(request.headers["Content-Length"])
    await wire.body((length - 1) / length)
    assert len(request.body) == length - 1


IN_THE_REQUEST: dict[str, Stage] = {
    "at accept": accepted,
    "at its first byte": Wire.first_byte,
    "after its headers": Wire.headers,
    "at its body's first byte": in_the_body(1e-7),
    "at 30 % of its body": in_the_body(0.3),
    "at half of its body": in_the_body(0.5),
}


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
@pytest.mark.parametrize("breaks", BREAKS.values(), ids=BREAKS)
@pytest.mark.parametrize("stage", IN_THE_REQUEST.values(), ids=IN_THE_REQUEST)
async def test_a_request_that_never_goes_out_whole_is_uncharged(
    stage: Stage, breaks: Break, *, tls: bool, caplog: pytest.LogCaptureFixture
) -> None:
    case = Case(
        serve=breaking(stage, breaks),
        ends=ConnectionFailedError,
        requests=0,
        charges=0,
        options={"retry": THRICE},
        photo=BIG_PHOTO,
        receive_buffer=SMALL_BUFFER,
        tls=tls,
    )
    error = await run(case, caplog)
    assert error is not None
    assert isinstance(error.__cause__, ConnectionFailedError)
    assert isinstance(error.__cause__.__cause__, ConnectionFailedError)
    assert [error.attempts, error.__cause__.attempts, error.__cause__.__cause__.attempts] == [3, 2, 1]


@pytest.mark.parametrize("breaks", BREAKS.values(), ids=BREAKS)
@pytest.mark.parametrize("stage", IN_THE_REQUEST.values(), ids=IN_THE_REQUEST)
async def test_a_request_that_did_not_go_out_whole_is_made_again(
    stage: Stage, breaks: Break, caplog: pytest.LogCaptureFixture
) -> None:
    broken = breaking(stage, breaks)
    serve = [broken, broken, good]
    await run(Case(serve=serve, ends=IMAGE, photo=BIG_PHOTO, receive_buffer=SMALL_BUFFER), caplog)


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
@pytest.mark.parametrize("breaks", BREAKS.values(), ids=BREAKS)
@pytest.mark.parametrize("photo", [PHOTO, BIG_PHOTO], ids=["small", "big"])
async def test_what_was_handed_over_whole_is_feared_for_even_if_the_last_byte_was_not_read(
    photo: bytes, breaks: Break, *, tls: bool, caplog: pytest.LogCaptureFixture
) -> None:
    case = Case(
        serve=breaking(all_but_one_byte, breaks),
        ends=OutcomeUnknownError,
        requests=0,
        charges=0,
        feared=True,
        photo=photo,
        receive_buffer=SMALL_BUFFER,
        tls=tls,
    )
    await run(case, caplog)


# ---- the answer

PLAIN = GOOD
HEAD = GOOD.index(b"\r\n\r\n") + 4
QUOTE = GOOD.index(b'["') + 2
END_QUOTE = GOOD.index(b'"]')

# Where a broken answer breaks, and whether its image is there by then.
IN_THE_ANSWER: dict[str, tuple[bytes, bool]] = {
    "before it": (b"", False),
    "after its first byte": (GOOD[:1], False),
    "in the status line": (GOOD[:11], False),
    "after the status line": (GOOD[: GOOD.index(b"\r\n") + 2], False),
    "in a header": (GOOD[: GOOD.index(b"Content-Length") + 9], False),
    "before the end of the headers": (GOOD[: HEAD - 2], False),
    "in the end of the headers": (GOOD[: HEAD - 1], False),
    "after the headers": (GOOD[:HEAD], False),
    "in JSON before the image": (GOOD[: HEAD + 5], False),
    "at the image": (GOOD[:QUOTE], False),
    "in the image": (GOOD[: QUOTE + 1001], False),
    "before the end of the image": (GOOD[:END_QUOTE], False),
    "after the image": (GOOD[: END_QUOTE + 1], True),
    "in JSON after the image": (GOOD[: END_QUOTE + 9], True),
    "before the closing bracket": (GOOD[:-1], True),
}


def in_chunks(*pieces: bytes) -> bytes:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)


BODY = GOOD[HEAD:]
FIRST, SECOND, THIRD = BODY[:200], BODY[200 : END_QUOTE - HEAD + 1], BODY[END_QUOTE - HEAD + 1 :]

IN_THE_CHUNKS: dict[str, tuple[bytes, bool]] = {
    "before the first": (in_chunks(), False),
    "in a size": (in_chunks()[:] + b"c", False),
    "after a size": (in_chunks() + b"c8", False),
    "in the end of a size": (in_chunks() + b"c8\r", False),
    "before the data": (in_chunks() + b"c8\r\n", False),
    "in the data": (in_chunks(FIRST)[:-50], False),
    "after the data": (in_chunks(FIRST)[:-2], False),
    "in the end of a chunk": (in_chunks(FIRST)[:-1], False),
    "between chunks": (in_chunks(FIRST), False),
    "after the image": (in_chunks(FIRST, SECOND)[:-2], True),
    "after the image's chunk": (in_chunks(FIRST, SECOND), True),
    "before the last chunk": (in_chunks(FIRST, SECOND, THIRD), True),
    "in the last chunk": (in_chunks(FIRST, SECOND, THIRD) + b"0", True),
    "after the last chunk's size": (in_chunks(FIRST, SECOND, THIRD) + b"0\r\n", True),
    "in the end": (in_chunks(FIRST, SECOND, THIRD) + b"0\r\n\r", True),
    "in a trailer": (in_chunks(FIRST, SECOND, THIRD) + b"0\r\nX-Trailer: ", True),
}

ANSWERS = {
    **{f"plain, {place}": broken for place, broken in IN_THE_ANSWER.items()},
    **{f"chunks, {place}": broken for place, broken in IN_THE_CHUNKS.items()},
}


def said(data: bytes) -> Stage:
    async def stage(wire: Wire) -> None:
        await wire.request()
        if data:
            await wire.send(data)

    return stage


# From 3.12 on asyncio hands TLS over later, and a reset that comes meanwhile takes along what was not handed over.
TAKEN_ALONG = sys.version_info >= (3, 12)


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
@pytest.mark.parametrize("breaks", BREAKS.values(), ids=BREAKS)
@pytest.mark.parametrize(("data", "whole"), ANSWERS.values(), ids=ANSWERS)
async def test_an_answer_that_breaks_off_is_an_unknown_outcome(
    data: bytes, breaks: Break, *, whole: bool, tls: bool, caplog: pytest.LogCaptureFixture
) -> None:
    if whole and tls and TAKEN_ALONG and breaks is BREAKS["RST"]:
        pytest.skip("whether the image is rescued is chance")
    rescued = (IMAGE,) if whole else ()
    case = Case(serve=breaking(said(data), breaks), ends=OutcomeUnknownError, rescued=rescued, tls=tls, says="charged")
    error = await run(case, caplog)
    assert error is not None
    assert error.__cause__ is None


async def test_a_break_that_overtakes_the_decoder_loses_no_image(caplog: pytest.LogCaptureFixture) -> None:
    # After a reset the kernel hands out nothing more, so only an orderly end can leave anything behind.
    many_tokens = b'{"x":[%s],' % (b"1," * 150_000 + b"1")
    data = answer(many_tokens + BODY[1 : END_QUOTE - HEAD + 1], length=10**6)
    await run(Case(serve=answering(data), ends=OutcomeUnknownError, rescued=(IMAGE,)), caplog)


@pytest.mark.parametrize("breaks", BREAKS.values(), ids=BREAKS)
@pytest.mark.parametrize("place", ["before it", "after the headers", "in the image", "before the closing bracket"])
async def test_it_is_made_again_where_the_policy_says_so(
    place: str, breaks: Break, caplog: pytest.LogCaptureFixture
) -> None:
    broken = breaking(said(IN_THE_ANSWER[place][0]), breaks)
    options = {"retry": AGAIN}
    await run(Case(serve=[broken, good], ends=IMAGE, requests=2, charges=2, options=options), caplog)
    never = Case(serve=broken, ends=OutcomeUnknownError, requests=3, charges=3, options=options)
    await run(evolve(never, rescued=(IMAGE,) if IN_THE_ANSWER[place][1] else ()), caplog)


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
@pytest.mark.parametrize("breaks", BREAKS.values(), ids=BREAKS)
@pytest.mark.parametrize("data", [GOOD, in_chunks(FIRST, SECOND, THIRD) + b"0\r\n\r\n"], ids=["plain", "chunks"])
async def test_how_the_connection_ends_after_a_whole_answer_is_all_one(
    data: bytes, breaks: Break, *, tls: bool, caplog: pytest.LogCaptureFixture
) -> None:
    if tls and TAKEN_ALONG and breaks is BREAKS["RST"]:
        pytest.skip("whether the answer arrives is chance")
    await run(Case(serve=breaking(said(data), breaks), ends=IMAGE, tls=tls), caplog)
