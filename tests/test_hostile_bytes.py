"""A short answer cut and damaged at every byte: the right bytes or an error, one request, no lost charge."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import re
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager

import pytest
from hostile import images_of, key_is_where_it_belongs, nothing_left
from raw_server import IMAGE, PHOTO, RawServer, Script, Wire, answering, client, encoded

from phota_async import (
    APIError,
    EnhanceResult,
    OutcomeUnknownError,
    PhotaClient,
    PhotaError,
    ResponseFormatError,
)

SMALL = IMAGE[:30]
BODY = b'{"images":["%s"],"x":1}' % encoded(SMALL).encode()
QUOTE, END_QUOTE = BODY.index(b'["') + 2, BODY.index(b'"]')
ZIPPED = gzip.compress(BODY, mtime=0)
LINE = b"HTTP/1.1 200 OK\r\n"


def headed(fields: bytes, body: bytes) -> bytes:
    return LINE + fields + b"X-Request-Id: ab\r\n\r\n" + body


CHUNKS = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in (BODY[:20], BODY[20:])) + b"0\r\n\r\n"
FRAMINGS: dict[str, bytes] = {
    "length": headed(b"Content-Length: %d\r\n" % len(BODY), BODY),
    "chunks": headed(b"Transfer-Encoding: chunked\r\n", CHUNKS),
    "gzip": headed(b"Content-Encoding: gzip\r\nContent-Length: %d\r\n" % len(ZIPPED), ZIPPED),
}
UNTIL_CLOSE = headed(b"", BODY)


@asynccontextmanager
async def watched(caplog: pytest.LogCaptureFixture) -> AsyncGenerator[tuple[PhotaClient, RawServer]]:
    """A client of one slot and its server, with nothing left of them and the slot free in the end."""
    async with (
        nothing_left(caplog),
        RawServer(answering(b"")) as server,
        client(server, max_concurrency=1) as phota,
    ):
        yield phota, server
        key_is_where_it_belongs(server)
        server.then(answering(FRAMINGS["length"]))
        assert images_of(await phota.enhance(PHOTO, timeout=20)) == (SMALL,)


async def met(phota: PhotaClient, server: RawServer, script: Script) -> tuple[EnhanceResult | PhotaError, bool]:
    """Make one call of one request, and tell how it ended and whether the service may have charged it."""
    server.then(script)
    requests, charges = len(server.requests), server.charges
    try:
        ended: EnhanceResult | PhotaError = await phota.enhance(PHOTO, timeout=20)
    except PhotaError as error:
        ended = error
    assert len(server.requests) == server.connections == requests + 1
    charged = server.charges > charges
    if isinstance(ended, PhotaError):
        assert ended.maybe_charged >= charged
        assert ended.attempts == 1
    return ended, charged


def rescued(ended: EnhanceResult | PhotaError) -> tuple[bytes, ...]:
    return tuple(image.data for image in getattr(ended, "images", ()))


# ---- cuts


def breaking_off(data: bytes, *, reset: bool) -> Script:
    async def script(wire: Wire) -> None:
        await wire.request()
        if data:
            await wire.send(data)
        if reset:
            for _ in range(10):  # what the client has not read by then a reset takes along
                await asyncio.sleep(0)
            wire.reset()

    return script


def arrived(data: bytes) -> bool:
    """Whether the image's string has ended in that much of an answer that is not compressed."""
    return data.count(b'"', data.find(b"\r\n\r\n")) >= 4


@pytest.mark.parametrize(("reset", "step"), [(False, 1), (True, 10)], ids=["FIN", "RST"])
@pytest.mark.parametrize("framing", ["length", "chunks"])
async def test_an_answer_cut_at_any_byte_is_an_unknown_outcome(
    framing: str, step: int, *, reset: bool, caplog: pytest.LogCaptureFixture
) -> None:
    whole = FRAMINGS[framing]
    async with watched(caplog) as (phota, server):
        for cut in range(0, len(whole), step):
            ended, charged = await met(phota, server, breaking_off(whole[:cut], reset=reset))
            assert type(ended) is OutcomeUnknownError, cut
            assert rescued(ended) == ((SMALL,) if arrived(whole[:cut]) else ()), cut
            assert charged
        ended, _ = await met(phota, server, breaking_off(whole, reset=reset))
        assert images_of(ended) == (SMALL,)


async def test_a_compressed_answer_cut_at_any_byte_is_an_unknown_outcome(caplog: pytest.LogCaptureFixture) -> None:
    whole = FRAMINGS["gzip"]
    async with watched(caplog) as (phota, server):
        for cut in range(0, len(whole), 2):
            ended, _ = await met(phota, server, breaking_off(whole[:cut], reset=False))
            assert type(ended) is OutcomeUnknownError, cut
            assert rescued(ended) in {(), (SMALL,)}


async def test_an_answer_that_only_the_end_of_the_connection_ends_is_no_success_when_it_is_cut(
    caplog: pytest.LogCaptureFixture,
) -> None:
    head = UNTIL_CLOSE.index(b"\r\n\r\n") + 4
    async with watched(caplog) as (phota, server):
        for cut in range(len(UNTIL_CLOSE)):
            ended, _ = await met(phota, server, breaking_off(UNTIL_CLOSE[:cut], reset=False))
            assert type(ended) is (ResponseFormatError if cut >= head else OutcomeUnknownError), cut
            assert rescued(ended) == ((SMALL,) if arrived(UNTIL_CLOSE[:cut]) else ()), cut


# ---- damage


def damaged(data: bytes, first: int, last: int, masks: list[int]) -> Iterator[tuple[int, bytes]]:
    for place in range(first, last):
        for mask in masks:
            yield place, data[:place] + bytes([data[place] ^ mask]) + data[place + 1 :]


def read_by_others(body: bytes) -> tuple[bytes, ...] | None:
    """The images of a document as json and base64 read them, or None if they cannot."""
    try:
        document = json.loads(body.decode(errors="replace"), strict=False)
        (text,) = document["images"]
        plain = re.sub("[ \t\r\n]", "", text).replace("-", "+").replace("_", "/")
        return (base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True),)
    except (ValueError, KeyError, TypeError):
        return None


EVERY_BIT = [1 << bit for bit in range(8)]


async def test_a_body_with_any_bit_turned_is_what_others_read_or_a_format_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    whole = FRAMINGS["length"]
    head = len(whole) - len(BODY)
    async with watched(caplog) as (phota, server):
        for place, data in damaged(whole, head, len(whole), [*EVERY_BIT, 0xFF]):
            ended, charged = await met(phota, server, answering(data))
            expected = read_by_others(data[head:])
            assert charged
            if expected:
                assert images_of(ended) == expected, data
            else:
                assert type(ended) is ResponseFormatError, data
                in_the_image = QUOTE <= place - head <= END_QUOTE
                assert rescued(ended) in ({()} if in_the_image else {(), (SMALL,)}), data


@pytest.mark.parametrize(("framing", "masks"), [("length", [*EVERY_BIT, 0xFF]), ("chunks", [0x20])])
async def test_a_head_with_any_bit_turned_is_the_image_or_an_error_that_loses_no_charge(
    framing: str, masks: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    whole = FRAMINGS[framing]
    head = whole.index(b"\r\n\r\n") + 4
    async with watched(caplog) as (phota, server):
        for _, data in damaged(whole, 0, head, masks):
            check_head(*await met(phota, server, answering(data)), data)


def check_head(ended: EnhanceResult | PhotaError, charged: bool, data: bytes) -> None:  # noqa: FBT001
    if isinstance(ended, EnhanceResult):
        assert images_of(ended) == (SMALL,), data
    elif type(ended) is APIError:
        assert f" {ended.status:03} ".encode() in data
        assert ended.maybe_charged == charged, data
    else:
        assert type(ended) in {OutcomeUnknownError, ResponseFormatError}, data
        assert rescued(ended) in {(), (SMALL,)}, data


async def test_chunks_with_any_byte_damaged_are_what_others_read_or_an_error(caplog: pytest.LogCaptureFixture) -> None:
    whole = FRAMINGS["chunks"]
    async with watched(caplog) as (phota, server):
        for _, data in damaged(whole, len(whole) - len(CHUNKS), len(whole), [0x01, 0x20, 0xFF]):
            ended, charged = await met(phota, server, answering(data))
            assert charged
            if isinstance(ended, EnhanceResult):
                same_length = data[len(whole) - len(CHUNKS) :]
                body = same_length[4:24] + same_length[30 : 30 + len(BODY) - 20]
                assert images_of(ended) == read_by_others(body), data
            else:
                assert type(ended) in {OutcomeUnknownError, ResponseFormatError}, data


async def test_a_compressed_body_with_any_byte_damaged_is_the_image_or_an_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    # gzip has a checksum: there is no damage that makes another image.
    whole = FRAMINGS["gzip"]
    async with watched(caplog) as (phota, server):
        for _, data in damaged(whole, len(whole) - len(ZIPPED), len(whole), [0x01, 0x20, 0xFF]):
            ended, charged = await met(phota, server, answering(data))
            assert charged
            if isinstance(ended, EnhanceResult):
                assert images_of(ended) == (SMALL,), data
            else:
                assert type(ended) is ResponseFormatError, data
                assert rescued(ended) in {(), (SMALL,)}, data
