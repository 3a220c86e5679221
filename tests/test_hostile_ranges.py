"""Transfers that break off, and servers that lie about the rest: resumed where it is sure, else begun anew."""

from __future__ import annotations

from pathlib import Path

import pytest
from hostile_downloads import IMAGE, OTHER, TAG, Case, cut, good, lasting, part, png, raw, redirect, run, serving
from raw_server import Script, Wire, answer, answering

from phota_async import DownloadError, RetryPolicy

N = len(IMAGE)
WHOLE = answering(png())
REST = f"bytes 1000-{N - 1}/{N}"
DATE = "Wed, 21 Oct 2026 07:28:00 GMT"
LATER = "Wed, 21 Oct 2026 07:28:01 GMT"


@pytest.fixture(params=["memory", "file"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    return tmp_path / "out.png" if request.param == "file" else None


# ---- resumed


def cut_part(begin: int, at: int) -> Script:
    """Break off in the middle of the rest."""

    async def script(wire: Wire) -> None:
        await wire.request()
        fields = {**TAG, "Content-Range": f"bytes {begin}-{N - 1}/{N}"}
        await wire.send(answer(IMAGE[begin:at], 206, fields, length=N - begin, kind="image/png"))

    return script


RESUMED = {
    "once": good(cut(1000, TAG), part(1000), ranges=("bytes=1000-",)),
    "at the last byte": good(cut(N - 1, TAG), part(N - 1), ranges=(f"bytes={N - 1}-",)),
    "part by part": good(cut(1000, TAG), part(1000, end=5000), part(5000), ranges=("bytes=1000-", "bytes=5000-")),
    "a part that breaks off": good(
        cut(1000, TAG), cut_part(1000, 1500), part(1500), ranges=("bytes=1000-", "bytes=1500-")
    ),
    "a part without a length": good(
        cut(1000, TAG), raw(f'HTTP/1.1 206 P\nContent-Range: {REST}\nETag: "one"', IMAGE[1000:])
    ),
    "a part without a length that breaks off": good(
        cut(1000, TAG),
        raw(f'HTTP/1.1 206 P\nContent-Range: {REST}\nETag: "one"', IMAGE[1000:2000]),
        part(2000),
        ranges=("bytes=1000-", "bytes=2000-"),
    ),
    "a part in chunks": good(
        cut(1000, TAG),
        raw(
            f'HTTP/1.1 206 P\nContent-Range: {REST}\nETag: "one"\nTransfer-Encoding: chunked',
            b"%x\r\n%s\r\n0\r\n\r\n" % (N - 1000, IMAGE[1000:]),
        ),
    ),
    "behind a redirect": good(cut(1000, TAG), redirect("/there"), part(1000), ranges=("bytes=1000-", "bytes=1000-")),
    "after a refusal": good(cut(1000, TAG), answering(answer(b"", 503)), WHOLE, ranges=("bytes=1000-", None)),
    "after a length that is none": good(
        cut(1000, TAG),
        raw(f'HTTP/1.1 206 P\nContent-Range: {REST}\nContent-Length: x\nETag: "one"', OTHER[1000:]),
        WHOLE,
        ranges=("bytes=1000-", "bytes=1000-"),
    ),
    "by its date": good(
        cut(1000, {"Last-Modified": DATE}), part(1000, {}), ranges=("bytes=1000-",), validators=(DATE,)
    ),
    "by its date beside a weak tag": good(
        cut(1000, {"ETag": 'W/"a"', "Last-Modified": DATE}),
        part(1000, {"ETag": 'W/"a"'}),
        ranges=("bytes=1000-",),
        validators=(DATE,),
    ),
    "with a date that differs beside the same tag": good(
        cut(1000, {**TAG, "Last-Modified": DATE}), part(1000, {**TAG, "Last-Modified": LATER}), ranges=("bytes=1000-",)
    ),
}


@pytest.mark.parametrize("case", RESUMED.values(), ids=RESUMED)
async def test_a_transfer_that_broke_is_resumed(
    case: Case, caplog: pytest.LogCaptureFixture, target: Path | None
) -> None:
    await run(case, caplog, target)


# ---- begun anew, because nothing tells that the rest belongs to the beginning

ANEW = {
    "no validator": cut(1000),
    "a weak tag": cut(1000, {"ETag": 'W/"a"'}),
    "an empty tag": cut(1000, {"ETag": ""}),
    "a tag that is none": cut(1000, {"ETag": "one"}),
    "an empty date": cut(1000, {"Last-Modified": ""}),
    "too little to tell an image": cut(63, TAG),
    "one byte": cut(1, TAG),
    "nothing": cut(0, TAG),
    "no total": raw(
        'HTTP/1.1 200 OK\nContent-Type: image/png\nETag: "one"\nTransfer-Encoding: chunked',
        b"3e8\r\n%s\r\n" % IMAGE[:1000],
    ),
}


@pytest.mark.parametrize("first", ANEW.values(), ids=ANEW)
async def test_what_cannot_be_resumed_for_sure_begins_anew(
    first: Script, caplog: pytest.LogCaptureFixture, target: Path | None
) -> None:
    await run(good(first, WHOLE, ranges=(None,)), caplog, target)


async def test_a_tag_that_is_no_text_harms_nobody(caplog: pytest.LogCaptureFixture, target: Path | None) -> None:
    head = 'HTTP/1.1 200 OK\nContent-Type: image/png\nContent-Length: 9999\nETag: "\xff\xfe"'
    await run(good(raw(head, OTHER[:1000]), WHOLE, validators=('""',)), caplog, target)


# ---- lies


def lie(says: str, **fields: str) -> Script:
    return part(1000, {**TAG, **fields}, says=says)


MULTIPART = (
    b"--x\r\nContent-Type: image/png\r\nContent-Range: " + REST.encode() + b"\r\n\r\n" + IMAGE[1000:] + b"\r\n--x--\r\n"
)

LIES = {
    "another begin": part(2000),
    "an overlap": part(500),
    "the whole as a part": part(0),
    "a begin that is not the body's": part(2000, says=REST),
    "an end before the end": lie(f"bytes 1000-1999/{N}"),
    "an end behind the end": lie(f"bytes 1000-{N + 5}/{N}"),
    "an end behind the end of a body as long": part(
        1000, TAG, says=f"bytes 1000-{N + 9}/{N}", body=IMAGE + b"0123456789"
    ),
    "an end before the begin": lie(f"bytes 1000-999/{N}"),
    "more than it says": part(1000, TAG, body=IMAGE + b"more", says=REST),
    "less than it says": part(1000, TAG, end=5000, says=REST),
    "nothing of what it says": part(1000, TAG, end=1000, says=REST),
    "another total": lie(f"bytes 1000-{N - 1}/{N + 1}"),
    "a smaller total": lie(f"bytes 1000-{N - 1}/{N - 1}"),
    "no total": lie(f"bytes 1000-{N - 1}/*"),
    "no range in it": lie(f"bytes */{N}"),
    "another unit": lie(f"items 1000-{N - 1}/{N}"),
    "no unit": lie(f"1000-{N - 1}/{N}"),
    "a negative begin": lie(f"bytes -1000-{N - 1}/{N}"),
    "numbers beyond all bounds": lie(f"bytes 1000-{'9' * 400}/{'9' * 400}"),
    "no numbers": lie("bytes from-to/all"),
    "garbage": lie("\x7f" * 10),
    "two ranges in one": lie(f"{REST}, bytes 0-999/{N}"),
    "no Content-Range": answering(png(IMAGE[1000:], 206, TAG)),
    "several parts": answering(
        answer(MULTIPART, 206, {**TAG, "Content-Range": REST}, kind="multipart/byteranges; boundary=x")
    ),
    "several Content-Ranges": raw(
        f'HTTP/1.1 206 P\nContent-Range: {REST}\nContent-Range: bytes 0-99/{N}\nETag: "one"', OTHER[1000:]
    ),
    "another tag": part(1000, {"ETag": '"two"'}, body=OTHER),
    "the tag gone": part(1000, {}, body=OTHER),
    "the tag weakened": part(1000, {"ETag": 'W/"one"'}, body=OTHER),
    "compressed": part(1000, {**TAG, "Content-Encoding": "gzip"}, body=OTHER),
    "more chunks than it says": raw(
        f'HTTP/1.1 206 P\nContent-Range: {REST}\nETag: "one"\nTransfer-Encoding: chunked',
        b"%x\r\n%s\r\n0\r\n\r\n" % (N, IMAGE),
    ),
    "not satisfiable": answering(answer(b"", 416, {"Content-Range": f"bytes */{N}"})),
    "not satisfiable at another length": answering(answer(b"", 416, {"Content-Range": "bytes */5"})),
}


@pytest.mark.parametrize("lying", LIES.values(), ids=LIES)
async def test_a_range_that_was_not_asked_for_is_never_sewn_on(
    lying: Script, caplog: pytest.LogCaptureFixture, target: Path | None
) -> None:
    await run(good(cut(1000, TAG), lying, WHOLE, ranges=("bytes=1000-", None)), caplog, target)


async def test_parts_that_once_did_not_fit_are_not_asked_for_again(
    caplog: pytest.LogCaptureFixture, target: Path | None
) -> None:
    again = (cut(1000, TAG), part(1000, {}, body=OTHER), cut(1000, TAG), WHOLE)
    patient = {"retry": RetryPolicy(initial_wait=0, max_attempts=4)}
    await run(good(*again, ranges=("bytes=1000-", None, None), options=patient), caplog, target)


DATED = {
    "another date": part(1000, {"Last-Modified": LATER}, body=OTHER),
    "another weak tag": part(1000, {"ETag": 'W/"b"', "Last-Modified": DATE}, body=OTHER),
    "a strong tag of another kind": part(1000, {"ETag": '"b"', "Last-Modified": DATE}, body=OTHER),
}


@pytest.mark.parametrize("lying", DATED.values(), ids=DATED)
async def test_the_rest_of_another_version_is_never_sewn_on(
    lying: Script, caplog: pytest.LogCaptureFixture, target: Path | None
) -> None:
    first = cut(1000, {"ETag": 'W/"a"', "Last-Modified": DATE})
    await run(good(first, lying, WHOLE, ranges=("bytes=1000-", None), validators=(DATE,)), caplog, target)


SENT_AGAIN = {
    "the same": good(cut(1000, TAG), WHOLE, ranges=("bytes=1000-",)),
    "another version": good(cut(5000, TAG, body=OTHER), answering(png(IMAGE, 200, {"ETag": '"two"'}))),
    "a shorter version": good(cut(len(IMAGE * 2) - 9, TAG, body=IMAGE * 2), WHOLE),
    "another version that breaks off too": good(
        cut(5000, TAG, body=OTHER),
        cut(2000, {"ETag": '"two"'}),
        part(2000, {"ETag": '"two"'}),
        validators=('"one"', '"two"'),
    ),
    "with a Content-Range beside it": good(cut(1000, TAG), answering(png(IMAGE, 200, {"Content-Range": REST}))),
}


@pytest.mark.parametrize("case", SENT_AGAIN.values(), ids=SENT_AGAIN)
async def test_a_server_that_sends_all_again_is_taken_from_the_beginning(
    case: Case, caplog: pytest.LogCaptureFixture, target: Path | None
) -> None:
    await run(case, caplog, target)


UNASKED = "the server answered with another range than was asked for"

IN_VAIN = {
    "a part that nobody asked for": lasting(part(1000), status=206, says=UNASKED),
    "the whole as a part that nobody asked for": lasting(part(0), status=206, says=UNASKED),
    "cut again and again": lasting(cut(1000), says="the answer was cut short", ranges=(None, None)),
    "cut, and another part": lasting(cut(1000, TAG), part(2000), cut(1000, TAG), ranges=("bytes=1000-", None)),
    "a part of no bytes": lasting(cut(1000, TAG), cut_part(1000, 1000), ranges=("bytes=1000-", "bytes=1000-")),
}


@pytest.mark.parametrize("case", IN_VAIN.values(), ids=IN_VAIN)
async def test_a_server_that_never_sends_the_rest_is_an_error_in_the_end(
    case: Case, caplog: pytest.LogCaptureFixture, target: Path | None
) -> None:
    failure = await run(case, caplog, target)
    assert failure is not None
    assert failure.attempts == 3
    assert isinstance(failure.__cause__, DownloadError)


PIECES = IMAGE * 200  # several pieces of a megabyte
FOUR = {"retry": RetryPolicy(initial_wait=0, max_attempts=4)}


@pytest.mark.parametrize("at", [2**20 - 1, 2**20, 2**20 + 1, 2_500_000])
async def test_a_big_transfer_is_resumed_between_its_pieces(
    at: int, caplog: pytest.LogCaptureFixture, target: Path | None
) -> None:
    scripts = [cut(at, TAG, body=PIECES), part(2000, body=PIECES), cut(at, TAG, body=PIECES), serving(PIECES)]
    await run(Case(serve=scripts, ends=PIECES, requests=4, options=FOUR), caplog, target)
