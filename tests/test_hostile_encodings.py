"""Compressed answers: gzip and deflate in every framing, what is unknown or damaged, bombs, and the bounds."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib
from collections.abc import Iterator

import pytest
from hostile import Case, run
from raw_server import GOOD, IMAGE, KEY, OTHER_IMAGE, Script, Wire, answer, answering, good_body

from phota_async import OutcomeUnknownError, ResponseFormatError
from phota_async.codec.growing import RESERVED_BYTES

DOCUMENT = good_body()
ZIPPED = gzip.compress(DOCUMENT)
RAW, ZLIB, GZIP = -15, 15, 31  # zlib's window bits for each framing


def deflated(data: bytes, window: int, level: int = -1) -> bytes:
    machine = zlib.compressobj(level, wbits=window)
    return machine.compress(data) + machine.flush()


GOOD_ONES: dict[str, tuple[str, bytes]] = {
    "gzip": ("gzip", ZIPPED),
    "x-gzip": ("x-gzip", ZIPPED),
    "upper case": ("GZip", ZIPPED),
    "space around": (" gzip ", ZIPPED),
    "gzip with a name": ("gzip", ZIPPED[:3] + b"\x08" + ZIPPED[4:10] + b"name\x00" + ZIPPED[10:]),
    "gzip of nothing pressed": ("gzip", gzip.compress(DOCUMENT, 0)),
    "gzip in two members": ("gzip", gzip.compress(DOCUMENT[:50]) + gzip.compress(DOCUMENT[50:])),  # RFC 1952, 2.2
    "gzip in a member for each byte": ("gzip", b"".join(gzip.compress(bytes([byte])) for byte in DOCUMENT)),
    "gzip with an empty member": ("gzip", ZIPPED + gzip.compress(b"")),
    "gzip with zeros behind it": ("gzip", ZIPPED + bytes(1000)),
    "gzip with text behind it": ("gzip", ZIPPED + b"text"),
    "gzip with half a member's mark behind it": ("gzip", ZIPPED + b"\x1f"),
    "deflate by the book": ("deflate", deflated(DOCUMENT, ZLIB)),
    "deflate, raw": ("deflate", deflated(DOCUMENT, RAW)),
    "deflate with text behind it": ("deflate", deflated(DOCUMENT, ZLIB) + b"text"),
    "two headers, the first of them true": ("gzip\r\nContent-Encoding: br", ZIPPED),
    "identity": ("identity", DOCUMENT),
    "empty": ("", DOCUMENT),
}


def served(encoding: str, data: bytes) -> Script:
    return answering(answer(data, headers={"Content-Encoding": encoding}))


@pytest.mark.parametrize(("encoding", "data"), GOOD_ONES.values(), ids=GOOD_ONES)
async def test_a_compressed_answer_is_read(encoding: str, data: bytes, caplog: pytest.LogCaptureFixture) -> None:
    await run(Case(serve=served(encoding, data), ends=IMAGE), caplog)


BAD_ONES: dict[str, tuple[str, bytes, bool]] = {
    # the encoding, what is sent, and whether the image rides on the error
    "br": ("br", DOCUMENT, False),
    "br, really": ("br", b"\x1b\x0f\x00\xf8\xa5[\xca\xe6\x8c\x86\x94\x84", False),
    "zstd": ("zstd", b"(\xb5/\xfd", False),
    "compress": ("compress", DOCUMENT, False),
    "words": ("klingon", DOCUMENT, False),
    "the key": (KEY, DOCUMENT, False),
    "long": ("x" * 5000, DOCUMENT, False),
    "gzip twice": ("gzip, gzip", gzip.compress(ZIPPED), False),
    "gzip and identity": ("gzip, identity", ZIPPED, False),
    "gzip with a parameter": ("gzip;q=1", ZIPPED, False),
    "gzip in name only": ("gzip", DOCUMENT, False),
    "deflate in name only": ("deflate", DOCUMENT, False),
    "gzip that says deflate": ("deflate", ZIPPED, False),
    "deflate that says gzip": ("gzip", deflated(DOCUMENT, ZLIB), False),
    "gzip that says nothing": ("", ZIPPED, False),
    "gzip of nothing": ("gzip", b"", False),
    "gzip of an empty document": ("gzip", gzip.compress(b""), False),
    "a gzip header alone": ("gzip", ZIPPED[:10], False),
    "gzip cut in its end": ("gzip", ZIPPED[:-6], True),
    "gzip cut early": ("gzip", ZIPPED[:200], False),
    "deflate cut": ("deflate", deflated(DOCUMENT, ZLIB)[:-6], True),
    "a cut document": ("gzip", gzip.compress(DOCUMENT[:-40]), True),
    "a cut member behind a whole one": ("gzip", ZIPPED + ZIPPED[:-6], True),
    "a second document in a second member": ("gzip", ZIPPED + ZIPPED, True),
    "a document that is not JSON": ("gzip", gzip.compress(b"<html>"), False),
}


@pytest.mark.parametrize(("encoding", "data", "whole"), BAD_ONES.values(), ids=BAD_ONES)
async def test_an_unknown_or_damaged_compression_is_a_format_error(
    encoding: str, data: bytes, *, whole: bool, caplog: pytest.LogCaptureFixture
) -> None:
    rescued = (IMAGE,) if whole else ()
    await run(Case(serve=served(encoding, data), ends=ResponseFormatError, rescued=rescued), caplog)


CUTS = [1, 9, 10, 11, 100, len(ZIPPED) // 2, len(ZIPPED) - 9]


@pytest.mark.parametrize("cut", CUTS)
async def test_a_compressed_answer_that_breaks_off_is_an_unknown_outcome(
    cut: int, caplog: pytest.LogCaptureFixture
) -> None:
    data = answer(ZIPPED[:cut], headers={"Content-Encoding": "gzip"}, length=len(ZIPPED))
    error = await run(Case(serve=answering(data), ends=OutcomeUnknownError, rescued=rescued_at(cut)), caplog)
    assert error is not None


def rescued_at(cut: int) -> tuple[bytes, ...]:
    return (IMAGE,) if b'"]' in zlib.decompressobj(GZIP).decompress(ZIPPED[:cut]) else ()


# ---- too much


@pytest.fixture
def traced() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
@pytest.mark.parametrize("head", [b'{"images":["', b'{"x":"', b" "], ids=["image", "string", "space"])
@pytest.mark.usefixtures("traced")
async def test_a_compression_bomb_is_stopped_by_max_response_bytes(
    encoding: str, head: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    machine = zlib.compressobj(9, wbits=GZIP if encoding == "gzip" else ZLIB)
    filling = b"A" if head.endswith(b'"') else head
    bomb = machine.compress(head)
    bomb += b"".join(machine.compress(filling * 2**20) for _ in range(16)) + machine.compress(b'"]}') + machine.flush()
    tracemalloc.reset_peak()
    held = tracemalloc.get_traced_memory()[0]
    options = {"max_response_bytes": 2**18}
    case = Case(serve=served(encoding, bomb), ends=ResponseFormatError, options=options, says="max_response_bytes")
    await run(case, caplog)
    # What is reserved for an image is address space; it is traced all the same.
    assert tracemalloc.get_traced_memory()[1] - held < RESERVED_BYTES + 8 * 2**20


async def test_a_bomb_in_a_bomb_is_not_unpacked(caplog: pytest.LogCaptureFixture) -> None:
    bomb = gzip.compress(gzip.compress(b" " * 2**24))
    await run(Case(serve=served("gzip", bomb), ends=ResponseFormatError, says="not JSON"), caplog)


def promising(length: int) -> Script:
    async def script(wire: Wire) -> None:
        await wire.request()
        await wire.send(answer(b'{"images":["', length=length))
        await wire.gone()

    return script


async def test_a_content_length_beyond_the_bound_is_refused_before_the_body(caplog: pytest.LogCaptureFixture) -> None:
    await run(Case(serve=promising(10**12), ends=ResponseFormatError, says="max_response_bytes"), caplog)


async def endless(wire: Wire) -> None:
    await wire.request()
    await wire.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n")
    while True:
        await wire.send(b"1000\r\n%s\r\n" % (b" " * 4096))


async def test_an_endless_answer_is_cut_at_the_bound(caplog: pytest.LogCaptureFixture) -> None:
    options = {"max_response_bytes": 100_000}
    await run(Case(serve=endless, ends=ResponseFormatError, options=options, says="max_response_bytes"), caplog)


async def test_an_answer_as_long_as_the_bound_is_read(caplog: pytest.LogCaptureFixture) -> None:
    await run(Case(serve=answering(GOOD), ends=IMAGE, options={"max_response_bytes": len(DOCUMENT)}), caplog)


@pytest.mark.parametrize("encoding", ["gzip", "identity"])
async def test_an_answer_longer_than_the_bound_by_one_byte_is_refused(
    encoding: str, caplog: pytest.LogCaptureFixture
) -> None:
    body = good_body(IMAGE, known_subjects={"counts": {"a": 1}})
    case = Case(
        serve=served(encoding, gzip.compress(body) if encoding == "gzip" else body),
        ends=ResponseFormatError,
        options={"max_response_bytes": len(body) - 1},
        rescued=(IMAGE,) if encoding == "gzip" else (),
        says="max_response_bytes",
    )
    await run(case, caplog)


async def test_the_images_before_the_bound_are_handed_over(caplog: pytest.LogCaptureFixture) -> None:
    body = good_body(IMAGE, OTHER_IMAGE * 100)
    data = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    options = {"max_response_bytes": 100_000}
    await run(Case(serve=answering(data), ends=ResponseFormatError, rescued=(IMAGE,), options=options), caplog)
