"""A server on 127.0.0.1 whose every byte a test scripts: it may stop, stall or break off wherever the test wants."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import socket
import ssl
import struct
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from functools import cache, partial
from http import HTTPStatus
from types import TracebackType
from typing import Any, Self, TypeAlias

import trustme
from attrs import define, field

from phota_async import PhotaClient, RetryPolicy

PHOTO = b"\xff\xd8\xff\xe0" + bytes(range(256)) * 4
IMAGE = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 12
OTHER_IMAGE = b"\x89PNG\r\n\x1a\n" + bytes(reversed(range(256))) * 12

# More than the kernel's buffers of a connection hold, so that a server that stops reading is felt by the client.
BIG_PHOTO = b"\xff\xd8\xff\xe0" + bytes(12 * 2**20)

KEY = "canary-4b1d7e"
AT_ONCE = RetryPolicy(initial_wait=0)

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
_PATIENCE = 20.0

# The answers that are sure not to be charged, and what tells a final status from the interim ones before it.
_REFUSALS = frozenset({*range(300, 500), 500, 503})
_STATUS = re.compile(rb"(?:\A|\r\n\r\n)HTTP/1\.[01] ([2-9][0-9]{2})")
_REMEMBERED = 64 * 1024


@define
class Request:
    """What came over one connection; `whole` once the body had all the bytes that it promised."""

    method: str
    target: str
    headers: dict[str, str]
    head: bytes = b""
    body: bytearray = field(factory=bytearray)
    whole: bool = False

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def photo(self) -> bytes:
        return base64.b64decode(self.json["image"], validate=True)


class Wire:
    """The server's end of one connection."""

    def __init__(self, server: RawServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.server = server
        self._reader = reader
        self._writer = writer
        self._request: Request | None = None
        self._said = b""
        self._secured = False
        # Otherwise `drain` returns with bytes that a reset would take along.
        writer.transport.set_write_buffer_limits(high=0)

    async def first_byte(self) -> None:
        """Read the first byte that the client sends; nothing can be read as a request after that."""
        await self.secure()
        await self._reader.readexactly(1)

    async def secure(self) -> None:
        """Answer the client's TLS handshake, if the server has TLS."""
        if self.server.tls is not None and not self._secured:
            self._secured = True
            await self._writer.start_tls(self.server.tls)
            self._writer.transport.set_write_buffer_limits(high=1, low=0)  # of 0 asyncio's TLS never resumes

    async def headers(self) -> Request:
        """Read a request as far as the end of its headers."""
        await self.secure()
        head = await self._reader.readuntil(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        method, target, _ = lines[0].split(" ")
        pairs = (line.partition(": ") for line in lines[1:] if line)
        self._request = Request(method, target, {name.title(): value for name, _, value in pairs}, head)
        self.server.begun.append(self._request)
        return self._request

    async def body(self, share: float = 1.0) -> Request:
        """Read the body, or that share of it."""
        request = self._request
        assert request is not None
        length = int(request.headers.get("Content-Length", "0"))
        wanted = int(length * share)
        while len(request.body) < wanted:
            piece = await self._reader.read(wanted - len(request.body))
            if not piece:
                raise ConnectionError("the client closed the connection in the middle of its body")
            request.body += piece
        request.whole = len(request.body) == length
        if request.whole:
            self.server.requests.append(request)
        return request

    async def request(self) -> Request:
        """Read one request whole."""
        await self.headers()
        return await self.body()

    async def send(self, data: bytes) -> None:
        """Send bytes and wait until the kernel has them."""
        self._said += data[: _REMEMBERED - len(self._said)]
        self._writer.write(data)
        await self._writer.drain()

    async def stall(self) -> None:
        """Do nothing, not even read, until the test releases the server."""
        self.server.stalling(1)
        try:
            await self.server.released.wait()
        finally:
            self.server.stalling(-1)

    async def gone(self) -> None:
        """Wait until the client has closed or broken the connection."""
        self.server.stalling(1)
        try:
            while await self._reader.read(2**16):
                pass
        except ConnectionError:
            pass
        finally:
            self.server.stalling(-1)

    @property
    def charged(self) -> bool:
        """Whether the service may have charged: it had the request whole and did not refuse it."""
        status = _STATUS.search(self._said)
        refused = status is not None and int(status[1]) in _REFUSALS
        return self._request is not None and self._request.whole and not refused

    def reset(self) -> None:
        """Break the connection (RST)."""
        connection: socket.socket | None = self._writer.transport.get_extra_info("socket")
        if connection is not None:  # else the client was first
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self._writer.transport.abort()

    def close(self) -> None:
        """Close after what was sent."""
        self._writer.close()


Script: TypeAlias = Callable[[Wire], Awaitable[None]]


class RawServer:
    """Serves the first connection with the first script, and so on; the last script serves all that follow.

    Attributes:
        connections: How many were accepted.
        begun: The requests whose headers came.
        requests: The requests that came whole.
        released: Set by the test to let stalled scripts go on.
    """

    def __init__(self, *scripts: Script, receive_buffer: int | None = None, tls: ssl.SSLContext | None = None) -> None:
        self.connections = 0
        self.tls = tls
        self.begun: list[Request] = []
        self.requests: list[Request] = []
        self.released = asyncio.Event()
        self.most_stalled = 0
        self._stalled = 0
        self._changed = asyncio.Event()
        self._scripts = scripts
        self._past = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._bugs: list[BaseException] = []
        self._wires: list[Wire] = []
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=256)
        if receive_buffer is not None:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.port: int = self._socket.getsockname()[1]

    @property
    def url(self) -> str:
        return f"http{'s' if self.tls else ''}://127.0.0.1:{self.port}"

    @property
    def charges(self) -> int:
        """How many requests the service may have charged."""
        return sum(wire.charged for wire in self._wires)

    def then(self, *scripts: Script) -> None:
        """Serve the connections from now on with these."""
        self._scripts = scripts
        self._past = self.connections

    @property
    def open(self) -> int:
        """How many connections have not ended."""
        return len(self._tasks)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, sock=self._socket, limit=2**20)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        self.abandon()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self._server.wait_closed()
        if self._bugs and error is None:
            raise self._bugs[0]

    def abandon(self) -> None:
        """Break every connection."""
        for task in self._tasks:
            task.cancel()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        script = self._scripts[min(self.connections - self._past, len(self._scripts) - 1)]
        self.connections += 1
        task = asyncio.create_task(self._serve(script, reader, writer))
        self._tasks.add(task)
        task.add_done_callback(partial(self._ended, writer))
        self._changed.set()

    async def _serve(self, script: Script, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            wire = Wire(self, reader, writer)
            self._wires.append(wire)
            await script(wire)
            writer.close()
            await writer.wait_closed()
        except (ConnectionError, ssl.SSLError, asyncio.IncompleteReadError):
            pass  # the client went away, which its test checks by other means

    def _ended(self, writer: asyncio.StreamWriter, task: asyncio.Task[None]) -> None:
        writer.transport.abort()  # here, because a task that is cancelled before it began runs no `finally`
        self._tasks.discard(task)
        if not task.cancelled() and (bug := task.exception()) is not None:
            self._bugs.append(bug)
        self._changed.set()

    def stalling(self, change: int) -> None:
        self._stalled += change
        self.most_stalled = max(self.most_stalled, self._stalled)
        self._changed.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until what this server has seen fulfils the condition."""
        async with asyncio.timeout(_PATIENCE):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def stalled(self, count: int = 1) -> None:
        """Wait until so many scripts stall at once."""
        await self.until(lambda: self._stalled >= count)

    async def quiet(self) -> None:
        """Wait until every connection has ended."""
        await self.until(lambda: not self._tasks)


@cache
def tls_contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """For a server on 127.0.0.1, and for a client that trusts it."""
    authority = trustme.CA()
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    # trustme also takes contexts of pyOpenSSL, which is not installed.
    authority.issue_cert("127.0.0.1").configure_cert(server)  # pyright: ignore[reportUnknownMemberType]
    authority.configure_trust(client)  # pyright: ignore[reportUnknownMemberType]
    return server, client


@asynccontextmanager
async def client(server: RawServer, *, key: str = KEY, **options: Any) -> AsyncGenerator[PhotaClient]:
    """A client of that server, whose pauses take no time unless the test says otherwise."""
    settings: dict[str, Any] = {"base_url": server.url, "retry": AT_ONCE, **options}
    async with PhotaClient(key, **settings) as phota:
        try:
            yield phota
        except BaseException:
            # A failed test must not wait for the calls that it left stalled.
            server.abandon()
            raise


def answer(
    body: bytes = b"",
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    *,
    length: int | None = None,
    kind: str = "application/json",
) -> bytes:
    """An HTTP answer as bytes; `length` in place of the true Content-Length."""
    reason = HTTPStatus(status).phrase if status in set(HTTPStatus) else "Odd"
    fields = {"Content-Type": kind, "Content-Length": str(len(body) if length is None else length), **(headers or {})}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {status} {reason}\r\n{head}\r\n".encode() + body


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def good_body(*images: bytes, **fields: Any) -> bytes:
    """The service's document for a success."""
    listed = [encoded(image) for image in images or (IMAGE,)]
    return json.dumps({"images": listed, "download_urls": [], "known_subjects": {"counts": {}}, **fields}).encode()


GOOD = answer(good_body())


def answering(*answers: bytes) -> Script:
    """A script that reads one request whole and sends these bytes."""

    async def script(wire: Wire) -> None:
        await wire.request()
        for data in answers:
            await wire.send(data)

    return script


async def stalling_once(wire: Wire) -> None:
    """Read a request whole, stall until released, answer well."""
    await wire.request()
    await wire.stall()
    await wire.send(GOOD)


def chain(error: BaseException) -> list[BaseException]:
    """An error and all that hangs on it by cause and context, at any depth."""
    found: list[BaseException] = []
    todo = [error]
    while todo:
        one = todo.pop()
        if one not in found:
            found.append(one)
            todo += [other for other in (one.__cause__, one.__context__) if other is not None]
    return found
