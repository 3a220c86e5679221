"""Answers with status 200 that are odd, damaged or hostile: paid work is handed over, and nothing is bought twice."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import tracemalloc
import zlib
from collections.abc import Iterator
from typing import Any

import pytest
from raw_server import (
    GOOD,
    IMAGE,
    KEY,
    OTHER_IMAGE,
    PHOTO,
    RawServer,
    Wire,
    answer,
    answering,
    chain,
    client,
    encoded,
    good_body,
)

from phota_async import EnhanceResult, OutcomeUnknownError, PhotaClient, PhotaError, ResponseFormatError
from phota_async.codec.growing import RESERVED_BYTES

ENCODED = encoded(IMAGE)
CODED = ENCODED.encode()
DOCUMENT = good_body()


async def enhanced(*answers: bytes, **options: Any) -> EnhanceResult:
    """Call once against a server that answers so, which must see exactly one request and one connection."""
    async with RawServer(answering(*answers)) as server, client(server, **options) as phota:
        try:
            return await phota.enhance(PHOTO)
        finally:
            assert len(server.requests) == 1
            assert server.connections == 1


async def refused(*answers: bytes, **options: Any) -> ResponseFormatError | OutcomeUnknownError:
    kinds: tuple[type[ResponseFormatError | OutcomeUnknownError], ...] = (ResponseFormatError, OutcomeUnknownError)
    with pytest.raises(kinds) as caught:
        await enhanced(*answers, **options)
    assert caught.value.maybe_charged
    assert caught.value.attempts == 1
    assert not any(type(one).__module__.startswith("aiohttp") for one in chain(caught.value))
    assert KEY not in str(caught.value)
    return caught.value


def body_with(images: str, rest: str = "") -> bytes:
    return f'{{"images":[{images}],"known_subjects":{{"counts":{{}}}}{rest}}}'.encode()


def chunked(*pieces: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + end


def deflated(data: bytes, window: int) -> bytes:
    machine = zlib.compressobj(wbits=window)
    return machine.compress(data) + machine.flush()


def gzipped(data: bytes) -> bytes:
    return answer(gzip.compress(data), headers={"Content-Encoding": "gzip"})


# ---- what is odd and costs nothing

WRAPPED = "\\n".join(ENCODED[i : i + 76] for i in range(0, len(ENCODED), 76))
UNPADDED_IMAGE = IMAGE + b"!"

GOOD_BODIES = {
    "plain": DOCUMENT,
    "spread out": json.dumps(json.loads(DOCUMENT), indent=4).encode(),
    "tabs and line breaks": b"\r\n\t " + DOCUMENT.replace(b",", b" ,\r\n\t") + b"\n\n",
    "other order of keys": b'{"known_subjects":{"counts":{}},"download_urls":[],"images":["%s"]}' % CODED,
    "unknown members": body_with(f'"{ENCODED}"', ',"x":{"images":["AAAA"],"y":[1,[2,{}],null,"\\u00e9"]},"z":1e5'),
    "unknown members first": b'{"a":[[[]]],"images2":["no"],"images":["%s"]}' % CODED,
    "escaped slashes": body_with('"' + ENCODED.replace("/", "\\/") + '"'),
    "escaped letters": body_with('"' + ENCODED.replace("+", "\\u002b").replace("/", "\\u002F") + '"'),
    "every letter escaped": body_with('"' + "".join(f"\\u{ord(letter):04x}" for letter in ENCODED) + '"'),
    "an escaped key": body_with(f'"{ENCODED}"').replace(b'"images"', b'"im\\u0061ges"'),
    "line breaks inside": body_with(f'"{WRAPPED}"'),
    "the url-safe alphabet": body_with('"' + base64.urlsafe_b64encode(IMAGE).decode() + '"'),
    "a data: URI": body_with(f'"data:image/png;base64,{ENCODED}"'),
    "subjects null": b'{"images":["%s"],"known_subjects":null}' % CODED,
    "subjects absent": b'{"images":["%s"]}' % CODED,
    "subjects a list": b'{"images":["%s"],"known_subjects":["a"]}' % CODED,
    "counts null": b'{"images":["%s"],"known_subjects":{"counts":null}}' % CODED,
    "counts odd": b'{"images":["%s"],"known_subjects":{"counts":{"a":1.5,"b":true,"c":"1"}}}' % CODED,
    "subjects nested deep": b'{"images":["%s"],"known_subjects":%s%s}' % (CODED, b"[" * 20000, b"]" * 20000),
    "subjects huge": b'{"images":["%s"],"known_subjects":{"counts":{"%s":1}}}' % (CODED, b"a" * 300_000),
    "links null": b'{"images":["%s"],"download_urls":null}' % CODED,
    "links odd": b'{"images":["%s"],"download_urls":[1,{}]}' % CODED,
    "links no list": b'{"images":["%s"],"download_urls":"https://h/x"}' % CODED,
    "a byte order mark": b"\xef\xbb\xbf" + DOCUMENT,
}


@pytest.mark.parametrize("body", GOOD_BODIES.values(), ids=GOOD_BODIES.keys())
async def test_an_odd_answer_with_a_whole_image_hands_the_image_over(body: bytes) -> None:
    result = await enhanced(answer(body))
    assert [image.data for image in result.images] == [IMAGE]
    assert result.known_subjects == {}
    assert result.attempts == 1


@pytest.mark.parametrize("padding", [0, 1, 2])
async def test_missing_padding_is_forgiven(padding: int) -> None:
    image = IMAGE + b"x" * padding
    result = await enhanced(answer(body_with('"' + encoded(image).rstrip("=") + '"')))
    assert result.images[0].data == image


@pytest.mark.parametrize("size", [*range(1, 10), 3070, 3071, 3072, 3073, 98_303, 98_304, 98_305, 400_001])
async def test_an_image_of_any_size_arrives_unharmed(size: int) -> None:
    image = (IMAGE * (1 + size // len(IMAGE)))[:size]
    result = await enhanced(answer(good_body(image, OTHER_IMAGE)))
    assert [one.data for one in result.images] == [image, OTHER_IMAGE]


@pytest.mark.parametrize(
    ("encoding", "compressed"),
    [
        ("gzip", gzip.compress(DOCUMENT)),
        ("x-gzip", gzip.compress(DOCUMENT)),
        ("GZip", gzip.compress(DOCUMENT)),
        ("deflate", deflated(DOCUMENT, 15)),
        ("deflate", deflated(DOCUMENT, -15)),
        ("identity", DOCUMENT),
        ("", DOCUMENT),
        ("gzip", gzip.compress(DOCUMENT[:50]) + gzip.compress(DOCUMENT[50:])),  # RFC 1952, section 2.2
    ],
    ids=["gzip", "x-gzip", "upper case", "zlib", "raw deflate", "identity", "empty", "gzip in two members"],
)
async def test_a_compressed_answer_is_read(encoding: str, compressed: bytes) -> None:
    result = await enhanced(answer(compressed, headers={"Content-Encoding": encoding}))
    assert result.images[0].data == IMAGE


@pytest.mark.parametrize("kind", ["text/html", "application/octet-stream", "nonsense", ""])
async def test_a_wrong_content_type_costs_nothing(kind: str) -> None:
    assert (await enhanced(answer(DOCUMENT, kind=kind))).images[0].data == IMAGE


@pytest.mark.parametrize("status", [200, 201, 202, 203, 206])
async def test_any_success_status_hands_the_image_over(status: int) -> None:
    assert (await enhanced(answer(DOCUMENT, status))).images[0].data == IMAGE


async def test_an_answer_one_byte_at_a_time_arrives_unharmed() -> None:
    image = IMAGE[:90]
    document = body_with(f'"\\u{ord(encoded(image)[0]):04x}{encoded(image)[1:]}"', ',"x":[1.5e3,true,"\\"\\\\"]')

    async def dripping(wire: Wire) -> None:
        await wire.request()
        for byte in answer(document):
            await wire.send(bytes([byte]))
            await asyncio.sleep(0)

    async with RawServer(dripping) as server, client(server) as phota:
        result = await phota.enhance(PHOTO)
        assert result.images[0].data == image
        assert len(server.requests) == 1


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 4096])
async def test_an_answer_in_chunks_of_any_size_arrives_unharmed(size: int) -> None:
    document = body_with('"' + ENCODED[:400].replace("/", "\\/") + '"')
    pieces = [document[i : i + size] for i in range(0, len(document), size)]
    result = await enhanced(chunked(*pieces))
    assert result.images[0].data == base64.b64decode(ENCODED[:400])


@pytest.mark.parametrize(
    "before",
    [
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n",
        b"HTTP/1.1 102 Processing\r\n\r\n" * 3,
    ],
    ids=["100", "103", "three times 102"],
)
async def test_interim_answers_are_passed_over(before: bytes) -> None:
    assert (await enhanced(before, GOOD)).images[0].data == IMAGE
    assert (await enhanced(before + GOOD)).images[0].data == IMAGE


async def test_a_body_that_ends_with_the_connection_is_read() -> None:
    bare = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n" + DOCUMENT
    assert (await enhanced(bare)).images[0].data == IMAGE


# aiohttp's parser drops the whole answer that it has just parsed when the rest of the same segment is wrong, so a short
# answer with something behind it cannot be had; it ends as an unknown outcome, which is never repeated by itself.
DROPPED = pytest.mark.xfail(raises=OutcomeUnknownError, reason="aiohttp drops what it parsed before the error")


@pytest.mark.parametrize(
    ("tail", "connection"),
    [
        pytest.param(GOOD, "close", id="answer-close", marks=DROPPED),
        pytest.param(GOOD, "keep-alive", id="answer-keep-alive"),
        pytest.param(b"\r\n", "close", id="line-close"),
        pytest.param(b"\r\n", "keep-alive", id="line-keep-alive"),
        pytest.param(b"garbage", "close", id="text-close", marks=DROPPED),
        pytest.param(b"garbage", "keep-alive", id="text-keep-alive", marks=DROPPED),
        pytest.param(b"\x00" * 100, "close", id="zeros-close", marks=DROPPED),
        pytest.param(b"\x00" * 100, "keep-alive", id="zeros-keep-alive", marks=DROPPED),
    ],
)
async def test_what_follows_the_answer_harms_neither_this_call_nor_the_next(tail: bytes, connection: str) -> None:
    first, second = answer(good_body(IMAGE), headers={"Connection": connection}), answer(good_body(OTHER_IMAGE))
    async with RawServer(answering(first + tail), answering(second)) as server, client(server) as phota:
        assert (await phota.enhance(PHOTO)).images[0].data == IMAGE
        assert (await phota.enhance(PHOTO)).images[0].data == OTHER_IMAGE
        assert server.connections == len(server.requests) == 2


async def test_links_in_place_of_images_are_handed_over() -> None:
    links = ["https://cdn.example/a?sig=1\u0026x=/", "https://cdn.example/b"]
    body = json.dumps({"images": None, "download_urls": links, "known_subjects": {"counts": {"ann": 2}}}).encode()
    result = await enhanced(answer(body.replace(b"/", b"\\/").replace(b"&", b"\\u0026")))
    assert result.images == ()
    assert result.download_urls == tuple(links)
    assert result.known_subjects == {"ann": 2}


async def test_the_request_id_is_kept() -> None:
    assert (await enhanced(answer(DOCUMENT, headers={"X-Request-Id": "req-1"}))).request_id == "req-1"


# ---- what is damaged

BAD_BODIES = {
    "empty": b"",
    "space": b"  \n",
    "HTML": b"<html><body>502</body></html>",
    "a number": b"12",
    "a string": b'"%s"' % CODED,
    "null": b"null",
    "a list": b'["%s"]' % CODED,
    "an empty object": b"{}",
    "no images": b'{"images":[],"known_subjects":{"counts":{}}}',
    "images and links empty": b'{"images":[],"download_urls":[]}',
    "images null": b'{"images":null}',
    "images a string": b'{"images":"%s"}' % CODED,
    "images an object": b'{"images":{"0":"%s"}}' % CODED,
    "images of numbers": b'{"images":[1,2]}',
    "images of null": b'{"images":[null]}',
    "images of lists": b'{"images":[["%s"]]}' % CODED,
    "images of objects": b'{"images":[{"data":"%s"}]}' % CODED,
    "an empty image": b'{"images":[""]}',
    "links only, odd": b'{"images":[],"download_urls":[1]}',
    "links only, a string": b'{"download_urls":"https://h/x"}',
    "image not base64": b'{"images":["%s"]}' % (b"*" * 100),
    "image with a stray byte": b'{"images":["%s*%s"]}' % (CODED[:2000], CODED[2000:]),
    "image with padding inside": b'{"images":["%s"]}' % (encoded(IMAGE[:10]) + ENCODED).encode(),
    "image with half a byte": b'{"images":["%s"]}' % (CODED.rstrip(b"=") + b"AAAAA")[: 4 * 100 + 1],
    "image in UTF-8": '{"images":["ÄÖÜ€😀"]}'.encode(),
    "image of raw bytes": b'{"images":["\xff\xfe\xfd"]}',
    "a raw line break": b'{"images":["%s\n%s"]' % (CODED[:76], CODED[76:]),
    "a wrong escape": b'{"images":["\\x41%s"]}' % CODED,
    "half an escape": b'{"images":["\\u00"]}',
    "single quotes": b"{'images':['%s']}" % CODED,
    "a trailing comma": b'{"images":["%s"],}' % CODED,
    "a missing comma": b'{"images":["%s"] "known_subjects":null}' % CODED,
    "brackets crossed": b'{"images":["%s"}]' % CODED,
    "two documents": DOCUMENT + DOCUMENT,
    "open brackets": b"[" * 200_000,
    "open objects": b'{"a":' * 50_000,
    "cut JSON": DOCUMENT[:-1],
    "cut in the image": DOCUMENT[:500],
}


@pytest.mark.parametrize("body", BAD_BODIES.values(), ids=BAD_BODIES.keys())
async def test_a_damaged_answer_is_an_error_and_no_half_image(body: bytes) -> None:
    error = await refused(answer(body, headers={"X-Request-Id": "req-7"}))
    assert isinstance(error, ResponseFormatError)
    assert error.request_id == "req-7"
    assert "req-7" in str(error)
    assert "\n" not in str(error)
    assert {image.data for image in error.images} <= {IMAGE}


@pytest.mark.parametrize(
    "second",
    ['"****"', '""', "5", "null", f'"{ENCODED[:400]}*{ENCODED[400:]}"', f'"{ENCODED[:40]}', '"\\q"'],
    ids=["not base64", "empty", "a number", "null", "broken inside", "cut", "wrong escape"],
)
async def test_an_intact_image_rides_on_the_error_of_a_damaged_one(second: str) -> None:
    error = await refused(answer(body_with(f'"{ENCODED}",{second}')))
    assert [image.data for image in error.images] == [IMAGE]


async def test_an_intact_image_after_a_damaged_one_rides_on_the_error() -> None:
    error = await refused(answer(body_with(f'"****","{ENCODED}"')))
    assert [image.data for image in error.images] == [IMAGE]


LOST = pytest.mark.xfail(raises=AssertionError, reason="aiohttp drops what it parsed before the error")


@pytest.mark.parametrize(
    "data",
    [
        answer(DOCUMENT[:-40], length=len(DOCUMENT)),
        answer(DOCUMENT, length=len(DOCUMENT) + 5),
        chunked(DOCUMENT[:-40], end=b""),
        chunked(DOCUMENT, end=b""),
        pytest.param(chunked(DOCUMENT, end=b"zz\r\n"), marks=LOST),
        pytest.param(chunked(DOCUMENT[:-1], end=b"ffffffffffffffffffff\r\n"), marks=LOST),
        gzipped(DOCUMENT[:-40]),
        gzipped(DOCUMENT)[:-6],
    ],
    ids=[
        "cut",
        "too short by five",
        "chunks cut",
        "no last chunk",
        "a wrong chunk",
        "a chunk too long",
        "JSON cut under gzip",
        "gzip cut",
    ],
)
async def test_an_image_that_came_whole_rides_on_the_error_of_a_cut_answer(data: bytes) -> None:
    error = await refused(data)
    assert [image.data for image in error.images] == [IMAGE]


# After a reset the kernel hands out nothing more, so only an orderly end can leave anything behind.
@pytest.mark.parametrize("ending", ["close"])
async def test_images_that_came_before_the_connection_broke_are_handed_over(ending: str) -> None:
    async def breaking(wire: Wire) -> None:
        await wire.request()
        # Many tokens in front, so that the break overtakes the decoder.
        document = b'{"x":[%s],"images":["%s","%s' % (b"1," * 150_000 + b"1", CODED, CODED)
        await wire.send(answer(document, length=10**6))
        if ending == "reset":
            wire.reset()

    async with RawServer(breaking) as server, client(server) as phota:
        with pytest.raises(OutcomeUnknownError) as caught:
            await phota.enhance(PHOTO)
        assert [image.data for image in caught.value.images] == [IMAGE]
        assert len(server.requests) == 1


@pytest.mark.parametrize(
    "data",
    [
        answer(DOCUMENT, length=len(DOCUMENT) - 2000),
        answer(DOCUMENT[:200], length=len(DOCUMENT)),
        chunked(DOCUMENT[:200], end=b""),
        b"HTTP/1.1 200 OK\r\nContent-Length: 5, 7\r\n\r\n" + DOCUMENT,
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n" + DOCUMENT,
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 30_000 + b"\r\n" + DOCUMENT,
        b"HTTP/1.1 abc OK\r\n\r\n" + DOCUMENT,
        b"SSH-2.0-OpenSSH_9.9\r\n",
        b"\x15\x03\x01\x00\x02\x02\x50",
        b"\x00" * 1000,
    ],
    ids=[
        "length too small",
        "cut early",
        "chunk cut early",
        "two lengths",
        "negative length",
        "cut in the headers",
        "endless headers",
        "no status",
        "ssh",
        "tls",
        "zeros",
    ],
)
async def test_an_answer_that_is_not_whole_http_is_an_error_without_images(data: bytes) -> None:
    error = await refused(data)
    assert error.images == ()


@pytest.mark.parametrize("encoding", ["br", "zstd", "compress", "gzip, gzip", "gzip"])
async def test_an_unknown_or_wrong_compression_is_a_format_error(encoding: str) -> None:
    error = await refused(answer(DOCUMENT, headers={"Content-Encoding": encoding}))
    assert isinstance(error, ResponseFormatError)


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_a_cut_compressed_answer_is_no_success(encoding: str) -> None:
    data = gzip.compress(DOCUMENT) if encoding == "gzip" else deflated(DOCUMENT, 15)
    await refused(answer(data[:-6], headers={"Content-Encoding": encoding}))


# ---- what is too much


@pytest.fixture
def peak() -> Iterator[object]:
    tracemalloc.start()
    yield tracemalloc
    tracemalloc.stop()


@pytest.mark.parametrize("framing", ["gzip", "deflate"])
@pytest.mark.usefixtures("peak")
async def test_a_compression_bomb_is_stopped_by_max_response_bytes(framing: str) -> None:
    machine = zlib.compressobj(9, wbits=31 if framing == "gzip" else 15)
    bomb = machine.compress(b'{"images":["')
    bomb += b"".join(machine.compress(b"A" * 2**20) for _ in range(64)) + machine.compress(b'"]}') + machine.flush()
    tracemalloc.reset_peak()
    held = tracemalloc.get_traced_memory()[0]
    error = await refused(answer(bomb, headers={"Content-Encoding": framing}), max_response_bytes=2**20)
    assert isinstance(error, ResponseFormatError)
    assert "max_response_bytes" in str(error)
    # What is reserved for an image is address space; it is traced all the same.
    assert tracemalloc.get_traced_memory()[1] - held < RESERVED_BYTES + 8 * 2**20


async def test_a_content_length_beyond_the_bound_is_refused_before_the_body() -> None:
    async def promising(wire: Wire) -> None:
        await wire.request()
        await wire.send(answer(b'{"images":["', length=10**12))
        await wire.gone()

    async with RawServer(promising) as server, client(server) as phota:
        with pytest.raises(ResponseFormatError, match="max_response_bytes"):
            await phota.enhance(PHOTO)
        await server.quiet()


async def test_an_endless_answer_is_cut_at_the_bound() -> None:
    async def endless(wire: Wire) -> None:
        await wire.request()
        await wire.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n")
        while True:
            await wire.send(b"1000\r\n%s\r\n" % (b" " * 4096))

    async with RawServer(endless) as server, client(server, max_response_bytes=100_000) as phota:
        with pytest.raises(ResponseFormatError, match="max_response_bytes"):
            await phota.enhance(PHOTO)
        await server.quiet()
        assert len(server.requests) == 1


async def test_an_answer_as_long_as_the_bound_is_read() -> None:
    assert (await enhanced(answer(DOCUMENT), max_response_bytes=len(DOCUMENT))).images[0].data == IMAGE
    await refused(answer(DOCUMENT), max_response_bytes=len(DOCUMENT) - 1)


async def test_the_images_before_the_bound_are_handed_over() -> None:
    error = await refused(chunked(good_body(IMAGE, OTHER_IMAGE * 100)), max_response_bytes=100_000)
    assert [image.data for image in error.images] == [IMAGE]


async def test_a_switch_of_protocols_is_an_error_and_not_a_wait() -> None:
    data = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"
    async with RawServer(answering(data)) as server, PhotaClient(KEY, base_url=server.url) as phota:
        with pytest.raises(PhotaError):
            await phota.enhance(PHOTO, timeout=5)
        assert len(server.requests) == 1
