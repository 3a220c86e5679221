"""What a server does to a download: odd statuses, broken framing, cuts, stalls, compression, bodies without end."""

from __future__ import annotations

import asyncio
import gzip
from pathlib import Path
from typing import Any

import pytest
from hostile_downloads import IMAGE, TAG, Case, cut, good, lasting, png, raw, run, serving
from raw_server import Script, Wire, answer, answering

from phota_async import DeadlineExceededError, RetryPolicy, Timeout

WHOLE = answering(png())
N = len(IMAGE)
OK = "HTTP/1.1 200 OK\nContent-Type: image/png\n"


@pytest.fixture(params=["memory", "file"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    return tmp_path / "out.png" if request.param == "file" else None


# ---- statuses


def status(code: int, **headers: str) -> Script:
    return answering(
        answer(b"<Error/>" if code >= 400 else b"", code, {n.replace("_", "-"): v for n, v in headers.items()})
    )


STATUSES = {
    **{
        f"{code}, expired": Case(serve=status(code), status=code, says=f"{code}: the link has expired")
        for code in (401, 403, 404, 410)
    },
    **{
        f"{code}, no image": Case(serve=status(code), status=code, says=f"the server answered {code}")
        for code in (204, 205, 207, 226, 300, 304, 305, 306, 400, 402, 405, 407, 411, 412, 413, 418, 451, 499)
    },
    **{
        f"{code}, in vain": lasting(status(code), status=code, says=f"the server answered {code}")
        for code in (408, 416, 425, 429, 500, 501, 502, 503, 504, 507, 520, 599, 999)
    },
    **{f"{code}, then well": good(status(code), WHOLE) for code in (408, 416, 425, 429, 500, 502, 503, 504)},
    "101": Case(serve=raw("HTTP/1.1 101 Odd\nUpgrade: x\nConnection: upgrade", png()), status=101, says="answered 101"),
    "interim answers": good(raw("HTTP/1.1 100 Continue\n\n" * 50 + "HTTP/1.1 103 Hints\nLink: </x>", png())),
}


@pytest.mark.parametrize("case", STATUSES.values(), ids=STATUSES)
async def test_a_status_is_told_or_tried_again(case: Case, caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    await run(case, caplog, tmp_path / "out.png")


@pytest.mark.parametrize(
    "value", ["0", "-1", "soon", "", "1e400", "\x7f", "9" * 4000, "0, 1", "Thu, 01 Jan 1970 00:00:00 GMT", "0.0"]
)
@pytest.mark.parametrize("code", [429, 503])
async def test_no_shape_of_retry_after_harms_a_download(
    code: int, value: str, caplog: pytest.LogCaptureFixture
) -> None:
    await run(good(status(code, Retry_After=value), WHOLE), caplog, None)


# ---- heads and framing

NOT_HTTP = "the answer is not HTTP"
CHUNKED = f"{OK}Transfer-Encoding: chunked"
LAST_CHUNK = b"0\r\n\r\n"
CHUNK = b"%x\r\n%s\r\n" % (N, IMAGE)
NO_LENGTH = "has no length by which a cut could be told"

FRAMING = {
    "chunks": good(raw(CHUNKED, CHUNK + LAST_CHUNK)),
    "chunks of a few bytes": good(
        raw(CHUNKED, b"".join(b"4\r\n%s\r\n" % IMAGE[i : i + 4] for i in range(0, N, 4)) + LAST_CHUNK)
    ),
    "chunks with extensions and trailers": good(
        raw(CHUNKED, CHUNK.replace(b"\r\n", b';a="b"\r\n', 1) + b"0\r\nETag: x\r\n\r\n")
    ),
    "chunks in capitals": good(raw(f"{OK}Transfer-Encoding: CHUNKED", CHUNK + LAST_CHUNK)),
    "chunks that end early": lasting(raw(CHUNKED, CHUNK), says="cut short"),
    "a chunk that ends early": lasting(raw(CHUNKED, CHUNK[:5000]), says="cut short"),
    "a chunk of no size": lasting(raw(CHUNKED, b"zz\r\n" + CHUNK), says=NOT_HTTP),
    "a chunk of less than it says": lasting(raw(CHUNKED, b"%x\r\n%s\r\n" % (N + 9, IMAGE) + LAST_CHUNK)),
    "a chunk of more than it says": lasting(raw(CHUNKED, b"%x\r\n%s\r\n" % (N - 9, IMAGE) + LAST_CHUNK), says=NOT_HTTP),
    "a chunk of negative size": lasting(raw(CHUNKED, b"-1\r\n" + CHUNK), says=NOT_HTTP),
    "a chunk of a size beyond all bounds": lasting(raw(CHUNKED, b"f" * 18 + b"\r\n" + IMAGE), says=NOT_HTTP),
    "chunks and a length": lasting(raw(f"{CHUNKED}\nContent-Length: {N}", CHUNK + LAST_CHUNK), says=NOT_HTTP),
    "chunks of what is compressed": Case(
        serve=raw(f"{OK}Transfer-Encoding: gzip, chunked", CHUNK + LAST_CHUNK), status=200, says=NO_LENGTH
    ),
    "no length": Case(serve=raw(f"{OK}X: y", IMAGE), status=200, says=NO_LENGTH),
    "less than the length": lasting(cut(N - 1), says="cut short"),
    "more than the length": lasting(raw(f"{OK}Content-Length: 5000", IMAGE), says=NOT_HTTP),
    "a negative length": lasting(raw(f"{OK}Content-Length: -5", IMAGE), says=NOT_HTTP),
    "a length with a sign": lasting(raw(f"{OK}Content-Length: +{N}", IMAGE), says=NOT_HTTP),
    "a length in words": lasting(raw(f"{OK}Content-Length: many", IMAGE), says=NOT_HTTP),
    "an empty length": lasting(raw(f"{OK}Content-Length: ", IMAGE), says=NOT_HTTP),
    "two lengths": lasting(raw(f"{OK}Content-Length: {N}\nContent-Length: 5000", IMAGE), says=NOT_HTTP),
    "one length twice": lasting(raw(f"{OK}Content-Length: {N}\nContent-Length: {N}", IMAGE), says=NOT_HTTP),
    "a list of lengths": lasting(raw(f"{OK}Content-Length: {N}, {N}", IMAGE), says=NOT_HTTP),
    "a length beyond all bounds": lasting(raw(f"{OK}Content-Length: {'9' * 30}", IMAGE), says=NOT_HTTP),
    "a banner": lasting(answering(b"SSH-2.0-OpenSSH_9.6\r\n"), says=NOT_HTTP),
    "an image and no head": lasting(answering(IMAGE), says=NOT_HTTP),
    "another protocol": lasting(answering(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), says=NOT_HTTP),
    "a status of two digits": lasting(raw("HTTP/1.1 20 Odd\nContent-Length: 0"), says=NOT_HTTP),
    "a negative status": lasting(raw("HTTP/1.1 -200 Odd\nContent-Length: 0"), says=NOT_HTTP),
    "a header that is none": lasting(raw(f"{OK}no colon", IMAGE), says=NOT_HTTP),
    "a header with a zero byte": lasting(raw(f"{OK}X: \0", IMAGE), says=NOT_HTTP),
    "a header of 70 KB": lasting(raw(f"{OK}X: {'a' * 70_000}", IMAGE), says=NOT_HTTP),
    "very many headers": lasting(raw(OK + "\n".join(f"X-{i}: 1" for i in range(9000)), IMAGE), says=NOT_HTTP),
}


@pytest.mark.parametrize("case", FRAMING.values(), ids=FRAMING)
async def test_broken_framing_is_never_a_half_image(
    case: Case, caplog: pytest.LogCaptureFixture, target: Path | None
) -> None:
    await run(case, caplog, target)


@pytest.mark.parametrize("coding", ["gzip", "identity", "xchunked", "chunked, gzip", "chunked\n\tx", ""])
@pytest.mark.parametrize("reset", [True, False], ids=["reset", "close"])
async def test_a_body_in_a_coding_that_hides_its_end_is_never_a_half_image(
    coding: str, caplog: pytest.LogCaptureFixture, tmp_path: Path, *, reset: bool
) -> None:
    async def half(wire: Wire) -> None:
        await wire.request()
        await wire.send(f"{OK}Transfer-Encoding: {coding}\n\n".replace("\n", "\r\n").encode() + IMAGE[: N // 2])
        if reset:
            wire.reset()

    await run(Case(serve=half, status=200, says=NO_LENGTH), caplog, tmp_path / "out.png")


# ---- cuts

HEAD = png()[:-N]
STAGES = {
    "before the answer": 0,
    "in the status line": 9,
    "in the headers": 40,
    "before the empty line": len(HEAD) - 2,
    "before the body": len(HEAD),
    "in the image's first bytes": len(HEAD) + 5,
    "in the body": len(HEAD) + N // 2,
    "before the last byte": len(HEAD) + N - 1,
}


@pytest.mark.parametrize("at", STAGES.values(), ids=STAGES)
@pytest.mark.parametrize("headers", [None, TAG], ids=["begun anew", "resumed"])
@pytest.mark.parametrize("reset", [True, False], ids=["reset", "close"])
async def test_a_cut_at_any_stage_is_made_good(
    at: int, headers: dict[str, str] | None, caplog: pytest.LogCaptureFixture, target: Path | None, *, reset: bool
) -> None:
    data = png(IMAGE, 200, headers)
    longer = len(data) - len(png())

    async def broken(wire: Wire) -> None:
        await wire.request()
        await wire.send(data[: at + longer if at >= len(HEAD) - 2 else at])
        if reset:
            wire.reset()

    await run(good(broken, serving()), caplog, target)


@pytest.mark.parametrize("at", STAGES.values(), ids=STAGES)
async def test_a_cut_that_comes_again_each_time_is_an_error(
    at: int, caplog: pytest.LogCaptureFixture, target: Path | None
) -> None:
    await run(lasting(answering(png()[:at]), says="the download broke off"), caplog, target)


# ---- stalls


def stalling(data: bytes) -> Script:
    async def script(wire: Wire) -> None:
        await wire.request()
        await wire.send(data)
        await wire.gone()

    return script


async def dripping(wire: Wire) -> None:
    """Send a few bytes whenever the client has had time to take the last ones, for longer than it waits."""
    await wire.request()
    await wire.send(HEAD)
    for i in range(0, N, 3):
        await wire.send(IMAGE[i : i + 3])
        await asyncio.sleep(0.01)


QUICK: dict[str, Any] = {
    "timeout": Timeout(attempt=0.15),
    "retry": RetryPolicy(initial_wait=0, max_attempts=2),
}
SLOW = {"before the answer": stalling(b""), "in the headers": stalling(HEAD[:-2]), "in the body": stalling(png()[:-9])}


@pytest.mark.parametrize("script", [*SLOW.values(), dripping], ids=[*SLOW, "in drips"])
async def test_a_server_that_never_comes_to_an_end_is_left(
    script: Script, caplog: pytest.LogCaptureFixture, target: Path | None
) -> None:
    case = lasting(script, requests=2, says="it took too long", options=QUICK)
    await run(case, caplog, target)


@pytest.mark.parametrize("script", SLOW.values(), ids=SLOW)
async def test_a_stall_is_made_good_by_another_try(
    script: Script, caplog: pytest.LogCaptureFixture, target: Path | None
) -> None:
    await run(good(script, WHOLE, options=QUICK), caplog, target)


@pytest.mark.parametrize("script", [SLOW["in the body"], dripping], ids=["stall", "in drips"])
async def test_the_overall_timeout_bounds_a_download(
    script: Script, caplog: pytest.LogCaptureFixture, target: Path | None
) -> None:
    case = Case(serve=script, ends=DeadlineExceededError, options={"timeout": Timeout(overall=0.15)}, says="deadline")
    await run(case, caplog, target)


# ---- compression, which is not asked for

BOMB = gzip.compress(bytes(2**24))
COMPRESSED = "a content encoding, which was not asked for"


@pytest.mark.parametrize("coding", ["gzip", "x-gzip", "deflate", "br", "zstd", "GZIP", "odd", "identity, gzip"])
async def test_a_compressed_answer_is_refused_unopened(
    coding: str, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    serve = answering(png(BOMB, 200, {"Content-Encoding": coding}))
    await run(Case(serve=serve, status=200, says=COMPRESSED), caplog, tmp_path / "out.png")


@pytest.mark.parametrize("coding", ["identity", "Identity", ""])
async def test_a_coding_that_changes_nothing_costs_nothing(
    coding: str, caplog: pytest.LogCaptureFixture, target: Path | None
) -> None:
    await run(good(answering(png(IMAGE, 200, {"Content-Encoding": coding}))), caplog, target)


# ---- what the bytes are

NO_IMAGE = "what the link holds is no image"
EMPTY = "what the link holds is empty"
AVIF = b"\0\0\0\x1cftypavif" + bytes(500)


def body(data: bytes, kind: str) -> Script:
    return answering(answer(data, kind=kind))


CONTENTS = {
    "HTML": Case(serve=body(b"<html>login</html>", "text/html"), status=200, says=NO_IMAGE),
    "XML": Case(serve=body(b"<?xml version='1.0'?><Error/>", "application/xml"), status=200, says=NO_IMAGE),
    "zeros": Case(serve=body(bytes(5000), "application/octet-stream"), status=200, says=NO_IMAGE),
    "compressed and not said": Case(serve=body(BOMB, "application/gzip"), status=200, says=NO_IMAGE),
    "a type that is none": Case(serve=body(b"x" * 500, ";;;="), status=200, says=NO_IMAGE),
    "a type that is no text": Case(
        serve=raw("HTTP/1.1 200 OK\nContent-Type: \xff\nContent-Length: 99", b"x" * 99), status=200, says=NO_IMAGE
    ),
    "no type": Case(serve=raw("HTTP/1.1 200 OK\nContent-Length: 99", b"x" * 99), status=200, says=NO_IMAGE),
    "seven bytes of an image": Case(serve=body(IMAGE[:7], "text/plain"), status=200, says=NO_IMAGE),
    "HTML that breaks off": Case(
        serve=cut(3000, body=b"<html>" * 1000, kind="text/html", reset=True), status=200, says=NO_IMAGE
    ),
    "nothing": Case(serve=body(b"", "image/png"), status=200, says=EMPTY),
    "nothing of no type": Case(serve=body(b"", "application/octet-stream"), status=200, says=EMPTY),
    "no chunks": Case(serve=raw(CHUNKED, LAST_CHUNK), status=200, says=EMPTY),
    "an image that says it is text": good(body(IMAGE, "text/html; charset=utf-8")),
    "an image of no type": good(raw(f"HTTP/1.1 200 OK\nContent-Length: {N}", IMAGE)),
    "an image whose type is none": good(body(IMAGE, "\x7f;;")),
    "an image of a kind that is not known": Case(serve=body(AVIF, "image/avif"), ends=AVIF),
}


@pytest.mark.parametrize("case", CONTENTS.values(), ids=CONTENTS)
async def test_the_bytes_tell_an_image_and_not_what_is_said_of_them(
    case: Case, caplog: pytest.LogCaptureFixture, target: Path | None
) -> None:
    await run(case, caplog, target)


# ---- bodies without end

BOUND = 2**18
TAKEN_AT_MOST = 2**24  # with what the buffers of both kernels hold


def endless(head: str, piece: bytes) -> Script:
    """Send for as long as somebody takes it, which must not be long."""

    async def script(wire: Wire) -> None:
        await wire.request()
        await wire.send(head.replace("\n", "\r\n").encode() + b"\r\n\r\n")
        for _ in range(TAKEN_AT_MOST // len(piece)):
            await wire.send(piece)
        raise AssertionError("the client took all of it")

    return script


async def endless_headers(wire: Wire) -> None:
    await wire.request()
    await wire.send(OK.replace("\n", "\r\n").encode())
    for _ in range(TAKEN_AT_MOST // 2**16):
        await wire.send(b"X: yyyy\r\n" * 2**13)
    raise AssertionError("the client took all of it")


LONGER = "longer than max_response_bytes"
MORE = IMAGE * 10
SMALL = {"max_response_bytes": BOUND, "retry": RetryPolicy(initial_wait=0, max_attempts=2)}

ENDLESS = {
    "a long body": Case(serve=endless(f"{OK}Content-Length: {10**12}", MORE), status=200, says=LONGER, options=SMALL),
    "chunks": Case(serve=endless(CHUNKED, b"%x\r\n%s\r\n" % (len(MORE), MORE)), status=200, says=LONGER, options=SMALL),
    "no length": Case(serve=endless(f"{OK}X: y", MORE), status=200, says=NO_LENGTH, options=SMALL),
    "HTML": Case(
        serve=endless("HTTP/1.1 200 OK\nContent-Type: text/html\nTransfer-Encoding: chunked", b"4\r\nword\r\n" * 9999),
        status=200,
        says=NO_IMAGE,
    ),
    "a refusal": Case(serve=endless("HTTP/1.1 403 No\nTransfer-Encoding: chunked", CHUNK), status=403, says="expired"),
    "a redirect": good(endless("HTTP/1.1 302 Go\nLocation: /x\nTransfer-Encoding: chunked", CHUNK), WHOLE, requests=2),
    "headers": lasting(endless_headers, requests=2, options=SMALL),
    "a part": good(
        cut(1000, TAG),
        endless(
            f'HTTP/1.1 206 P\nContent-Range: bytes 1000-{N - 1}/{N}\nETag: "one"\nTransfer-Encoding: chunked', CHUNK
        ),
        WHOLE,
        ranges=("bytes=1000-", None),
    ),
}


@pytest.mark.parametrize("case", ENDLESS.values(), ids=ENDLESS)
async def test_what_never_ends_is_broken_off(case: Case, caplog: pytest.LogCaptureFixture, target: Path | None) -> None:
    await run(case, caplog, target)
