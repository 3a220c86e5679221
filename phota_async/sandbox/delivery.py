"""The wire: bodies are read and answers written; slowly, by halves or not at all if a fault wants it."""

import asyncio
import socket
import struct
import sys
from collections.abc import Callable
from typing import NoReturn

from aiohttp import web
from attrs import frozen

from .answers import Answer
from .faults import NO_FAULT, Fault

_PIECE = 2**18
# A slow answer is written in so many pieces a second.
_BEATS = 20
_BODILESS = (204, 304)
# On, for no time: the kernel then sends RST in place of FIN.
_NO_LINGER = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)


@frozen
class Call:
    """One request on its way through."""

    request: web.Request
    id: str
    fault: Fault = NO_FAULT

    @property
    def origin(self) -> str:
        """Where the client reaches the sandbox, by its own words."""
        return str(self.request.url.origin())

    @property
    def headers(self) -> dict[str, str]:
        """Headers of any answer to this call."""
        retry_after = self.fault.retry_after
        again = {} if retry_after is None else {"Retry-After": str(retry_after)}
        return {"X-Request-Id": self.id, **again, **self.fault.headers}


async def read_body(call: Call, received: Callable[[int], None]) -> bytearray:
    """Read the request's body, or half of it and break the connection."""
    body = bytearray()
    interrupted = call.fault.reset == "during"
    half = (call.request.content_length or 0) // 2
    while piece := await call.request.content.readany():
        body += piece
        received(len(body))
        if interrupted and len(body) >= half:
            break
    if interrupted:
        await break_off(call.request)
    return body


async def deliver(call: Call, answer: Answer, whole: Callable[[], None]) -> web.StreamResponse:
    """Send the answer; `whole` is called just before its last piece, so that no client can be ahead of it."""
    response = web.StreamResponse(status=answer.status, headers={**answer.headers, **call.headers})
    response.content_length = answer.size
    size = 0 if call.request.method == "HEAD" or answer.status in _BODILESS else answer.size
    end = _end(size, call.fault)
    slow = call.fault.slow
    step = _PIECE if slow is None else max(1, int(slow / _BEATS))
    position = 0
    while True:
        piece = await asyncio.to_thread(answer.read, position, min(step, end - position))
        position += len(piece)
        if position == size:
            whole()
        # The headers go out with the first piece; later this does nothing.
        await response.prepare(call.request)
        await response.write(piece)
        if position >= end:
            break
        await asyncio.sleep(0 if slow is None else len(piece) / slow)
    if end < size:
        await _stop_short(call)
    return response


async def break_off(request: web.Request) -> NoReturn:
    """Reset the connection; the server cancels this task when it is gone."""
    if request.transport is not None:
        connection: socket.socket = request.transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        request.transport.abort()
    await until_cancelled()


async def until_cancelled() -> NoReturn:
    """Wait for the end of the connection, or of the sandbox."""
    while True:
        await asyncio.Event().wait()


async def _stop_short(call: Call) -> NoReturn:
    transport = call.request.transport
    if transport is None or call.fault.reset == "answer":
        await break_off(call.request)
    # What was written still goes out before the end, as when a proxy gives up.
    transport.close()
    await until_cancelled()


def _end(size: int, fault: Fault) -> int:
    if fault.cut is not None:
        return min(fault.cut, size)
    return size // 2 if fault.reset == "answer" else size
