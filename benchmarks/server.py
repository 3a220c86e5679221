"""A server that costs next to nothing: it counts what it is sent, waits, and answers with bytes made beforehand.

``python -m benchmarks.server --images 1 --image-bytes 6000000 --latency 0.2`` prints its port and serves until its
standard input closes. ``GET /ledger`` tells what was really done, so that no client is quick by leaving work out. Below
``/linked`` the answers hold links, and ``GET /image`` is what they lead to.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import os
import re
import socket
import sys
import time
from contextlib import suppress

from attrs import asdict, define, frozen

_CHUNK_BYTES = 256 * 1024
_SCRATCH_BYTES = 256 * 1024
_PNG = b"\x89PNG\r\n\x1a\n"
_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")
_CLOSE = re.compile(rb"(?i)\r\nconnection: *close")


@define
class Ledger:
    """What was done.

    Attributes:
        requests: Requests that came in whole.
        received: Bytes of their bodies.
        waiting: Requests that are in and not yet answered.
        answers: Answers whose last byte was handed to the system.
        fetched: Images that links were followed to.
        cpu_s: CPU time of this process.
    """

    requests: int = 0
    received: int = 0
    waiting: int = 0
    answers: int = 0
    fetched: int = 0
    cpu_s: float = 0.0


@frozen
class Service:
    """What the connections share.

    Attributes:
        answers: The whole answer, by whether it holds links and whether the connection closes behind it.
        images: What its links lead to, by whether the connection closes behind it.
        latency: Seconds before it is sent.
        ledger: What was done.
        scratch: Where request bodies are read into, and overwritten.
    """

    answers: dict[tuple[bool, bool], bytes]
    images: dict[bool, bytes]
    latency: float
    ledger: Ledger
    scratch: bytearray


class Connection(asyncio.BufferedProtocol):
    """One connection: requests one after another."""

    def __init__(self, service: Service) -> None:
        """Serve from ``service``."""
        self._service = service
        self._head = bytearray()
        self._missing: int | None = None  # of the request's body; None while its head comes in
        self._closes = False
        self._timer: asyncio.TimerHandle | None = None
        self._unsent = memoryview(b"")
        self._counted = False
        self._fetches = False
        self._linked = False
        self._paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep no more than one chunk's rest in user space."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101  (create_server gives no other)
        self._transport = transport
        transport.set_write_buffer_limits(high=0)

    def get_buffer(self, sizehint: int) -> bytearray:  # noqa: ARG002  (asyncio's signature)
        """Read over what was read before."""
        return self._service.scratch

    def buffer_updated(self, nbytes: int) -> None:
        """Take the head, then count the body."""
        if self._missing is None:
            self._head += memoryview(self._service.scratch)[:nbytes]
            end = self._head.find(b"\r\n\r\n")
            if end < 0:
                return
            nbytes = len(self._head) - end - 4
            self._begin(bytes(self._head[:end]))
        self._take(nbytes)

    def _begin(self, head: bytes) -> None:
        self._head.clear()
        length = _LENGTH.search(head)
        self._missing = int(length[1]) if length else 0
        self._closes = _CLOSE.search(head) is not None
        self._counted = head.startswith(b"POST")
        self._linked = head.startswith(b"POST /linked")
        self._fetches = head.startswith(b"GET /image")
        if self._counted:
            self._service.ledger.received += self._missing

    def _take(self, count: int) -> None:
        self._missing = (self._missing or 0) - count
        if self._missing > 0:
            return
        self._missing = None
        if self._fetches:
            self._service.ledger.fetched += 1
            self._send(self._service.images[self._closes])
            return
        if not self._counted:
            self._send(_message(_ledger(self._service.ledger), closes=self._closes))
            return
        self._service.ledger.requests += 1
        self._service.ledger.waiting += 1
        if self._service.latency:
            self._timer = asyncio.get_running_loop().call_later(self._service.latency, self._answer)
        else:
            self._answer()

    def _answer(self) -> None:
        self._timer = None
        self._service.ledger.waiting -= 1
        self._send(self._service.answers[self._linked, self._closes])

    def _send(self, message: bytes) -> None:
        self._unsent = memoryview(message)
        self._go_on()

    def _go_on(self) -> None:
        while self._unsent and not self._paused:
            chunk, self._unsent = self._unsent[:_CHUNK_BYTES], self._unsent[_CHUNK_BYTES:]
            self._transport.write(chunk)
        if not self._unsent and not self._paused:
            self._service.ledger.answers += self._counted
            self._counted = False
            if self._closes:
                # Not now: in the middle of resume_writing, Python 3.11 would end the connection twice.
                asyncio.get_running_loop().call_soon(self._transport.close)

    def pause_writing(self) -> None:
        """Wait: the system takes no more."""
        self._paused = True

    def resume_writing(self) -> None:
        """Go on: it does."""
        self._paused = False
        self._go_on()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  (asyncio's signature)
        """Answer nobody who has gone."""
        if self._timer is not None:
            self._timer.cancel()
            self._service.ledger.waiting -= 1


def _ledger(ledger: Ledger) -> bytes:
    ledger.cpu_s = time.process_time()
    return json.dumps(asdict(ledger)).encode()


def _message(body: bytes, *, closes: bool, kind: bytes = b"application/json") -> bytes:
    connection = b"close" if closes else b"keep-alive"
    head = b"HTTP/1.1 200 OK\r\nContent-Type: %s\r\nContent-Length: %d\r\nConnection: %s\r\n\r\n"
    return head % (kind, len(body), connection) + body


def _image(image_bytes: int) -> bytes:
    return _PNG + os.urandom(image_bytes - len(_PNG))


def _body(images: int, image_bytes: int) -> bytes:
    strings = (b'"' + base64.b64encode(_image(image_bytes)) + b'"' for _ in range(images))
    return b'{"images":[' + b",".join(strings) + b'],"download_urls":[],"known_subjects":{"counts":{}}}'


def _links(images: int, port: int) -> bytes:
    link = f"http://127.0.0.1:{port}/image.png"
    return json.dumps({"images": [], "download_urls": [link] * images, "known_subjects": {"counts": {}}}).encode()


class _UntilClosed(asyncio.Protocol):
    def __init__(self, closed: asyncio.Event) -> None:
        self._closed = closed

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  (asyncio's signature)
        self._closed.set()


def listener() -> socket.socket:
    """Return a socket that listens on a free port of this machine."""
    # Of a socket that is not said to be TCP, asyncio leaves Nagle's algorithm on, and small answers take 40 ms.
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.bind(("127.0.0.1", 0))
    listening.listen(1024)
    return listening


async def serve(service: Service, listening: socket.socket, seconds: float) -> None:
    """Serve until standard input closes, for ``seconds`` at most."""
    loop, closed = asyncio.get_running_loop(), asyncio.Event()
    server = await loop.create_server(lambda: Connection(service), sock=listening, backlog=1024)
    print(listening.getsockname()[1], flush=True)
    await loop.connect_read_pipe(lambda: _UntilClosed(closed), sys.stdin)
    with suppress(TimeoutError):
        await asyncio.wait_for(closed.wait(), seconds)
    server.close()


def main() -> None:
    """Serve as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=1)
    parser.add_argument("--image-bytes", type=int, default=6_000_000)
    parser.add_argument("--latency", type=float, default=0.2, help="seconds before an answer")
    parser.add_argument("--seconds", type=float, default=1800.0, help="end after this, whatever happens")
    given = parser.parse_args()
    listening = listener()
    bodies = {False: _body(given.images, given.image_bytes), True: _links(given.images, listening.getsockname()[1])}
    answers = {
        (linked, closes): _message(body, closes=closes) for linked, body in bodies.items() for closes in (False, True)
    }
    image = _image(given.image_bytes)
    images = {closes: _message(image, closes=closes, kind=b"image/png") for closes in (False, True)}
    service = Service(answers, images, given.latency, Ledger(), bytearray(_SCRATCH_BYTES))
    asyncio.run(serve(service, listening, given.seconds))


if __name__ == "__main__":
    main()
