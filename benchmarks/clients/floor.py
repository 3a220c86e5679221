"""The floor: the leanest client that asyncio and pybase64 allow. It shows where Python's own limit lies.

It knows this one server's exact answer and nothing else: no errors, no time-outs, no TLS, no JSON. Base64 goes out in
pieces made while they are sent, and comes in straight from the socket's buffer into the image's place; the protocol
runs by asyncio's callbacks alone, on connections that are kept.
"""

from __future__ import annotations

import asyncio
import mmap
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pybase64
from yarl import URL

from benchmarks.work import Photo, Shape, Work, content, in_turns

_PIECE_BYTES = 144 * 1024  # 192 KiB of base64
_SCRATCH_BYTES = 256 * 1024
_MAPPED_BYTES = 256 * 1024
_GROUP = 4
_IMAGE, _BEFORE, _BETWEEN = b'{"image":"', b'{"images":["', b'","'


def _encoded(count: int) -> int:
    return -(-count // 3) * _GROUP


def _mapped(count: int) -> mmap.mmap:
    """Return anonymous memory in huge pages, which is cheaper to fill than malloc's."""
    place = mmap.mmap(-1, count)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        place.madvise(mmap.MADV_HUGEPAGE)
    return place


class _Images:
    """The images of one answer, decoded as it comes."""

    def __init__(self, shape: Shape) -> None:
        self.done: list[Any] = []
        self._missing = shape.images
        self._bytes = shape.image_bytes
        self._skip = len(_BEFORE)
        self._held = b""  # characters of a group of four that the end of a piece cut
        self._open()

    def _open(self) -> None:
        self._at, self._left = 0, _encoded(self._bytes)
        self._place = _mapped(self._bytes) if self._bytes > _MAPPED_BYTES else bytearray(self._bytes)

    def feed(self, data: memoryview) -> None:
        while data and self._missing:
            step = min(self._skip, len(data))
            self._skip -= step
            data = self._decoded(data[step:])
            if not self._left:
                self.done.append(self._place)
                self._missing -= 1
                self._skip = len(_BETWEEN)
                if self._missing:
                    self._open()

    def _decoded(self, data: memoryview) -> memoryview:
        """Decode what belongs to the open image, and return the rest."""
        if self._held:
            fill = _GROUP - len(self._held)
            self._held, data = self._held + bytes(data[:fill]), data[fill:]
            if len(self._held) == _GROUP:
                self._put(self._held)
                self._held = b""
        whole = min(self._left, len(data) - len(data) % _GROUP)
        if whole:
            self._put(data[:whole])
        if self._left and len(data) > whole:
            self._held = bytes(data[whole:])
            return memoryview(b"")
        return data[whole:]

    def _put(self, text: memoryview | bytes) -> None:
        decoded = pybase64.b64decode(text, validate=True)
        end = self._at + len(decoded)
        self._place[self._at : end] = decoded
        self._at, self._left = end, self._left - len(text)


class _Exchange(asyncio.BufferedProtocol):
    """One connection, for one call after another."""

    _transport: asyncio.Transport
    _answer: asyncio.Future[list[Any]]
    _images: _Images

    def __init__(self, shape: Shape, host: str, scratch: memoryview) -> None:
        self._shape = shape
        self._scratch = scratch
        self._begin = (
            b"POST /v1/phota/enhance HTTP/1.1\r\nHost: %b\r\nX-API-Key: key\r\nContent-Length: " % host.encode()
        )
        self._end = b'","output_format":"png","num_output_images":%d}' % shape.images
        self._unsent = memoryview(b"")
        self._head = bytearray()
        self._missing = 0  # of the answer's body
        self._paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101  (create_connection gives no other)
        self._transport = transport
        transport.set_write_buffer_limits(high=0)

    async def enhance(self, photo: bytes) -> list[Any]:
        self._answer = asyncio.get_running_loop().create_future()
        self._images, self._unsent = _Images(self._shape), memoryview(photo)
        length = len(_IMAGE) + _encoded(len(photo)) + len(self._end)
        self._transport.write(b"%b%d\r\n\r\n%b" % (self._begin, length, _IMAGE))
        self._send()
        return await self._answer

    def _send(self) -> None:
        if self._paused or not self._unsent:
            return
        piece, self._unsent = self._unsent[:_PIECE_BYTES], self._unsent[_PIECE_BYTES:]
        encoded = pybase64.b64encode(piece)
        self._transport.write(encoded if self._unsent else encoded + self._end)
        asyncio.get_running_loop().call_soon(self._send)

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._send()

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002  (asyncio's signature)
        return self._scratch

    def buffer_updated(self, nbytes: int) -> None:
        data = self._scratch[:nbytes]
        if not self._missing:
            self._head += data
            head, blank, body = bytes(self._head).partition(b"\r\n\r\n")
            if not blank:
                return
            self._head.clear()
            self._missing = int(head.partition(b"Content-Length: ")[2].partition(b"\r\n")[0])
            data = memoryview(body)
        self._missing -= len(data)
        self._images.feed(data)
        if not self._missing:
            self._answer.set_result(self._images.done)


@asynccontextmanager
async def opened(url: str, shape: Shape) -> AsyncGenerator[Work, None]:
    """Give what has photos enhanced, on connections that are made when they are first needed."""
    place, scratch = URL(url), memoryview(bytearray(_SCRATCH_BYTES))
    idle: list[_Exchange] = []
    made: list[asyncio.Transport] = []

    async def enhance(photo: Photo) -> list[bytes]:
        if not idle:
            transport, exchange = await asyncio.get_running_loop().create_connection(
                lambda: _Exchange(shape, place.authority, scratch), str(place.host), place.port or 80
            )
            made.append(transport)
            idle.append(exchange)
        exchange = idle.pop()
        images = await exchange.enhance(content(photo))
        idle.append(exchange)
        return images

    try:
        yield in_turns(enhance, shape)
    finally:
        for transport in made:
            transport.close()
