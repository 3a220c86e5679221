"""The request's body on its way through aiohttp: known length, in pieces, a turn given back after each."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, cast

from aiohttp import Payload
from aiohttp.abc import AbstractStreamWriter
from attrs import define, field

from phota_async.codec.answer import AnswerDecoder
from phota_async.codec.request import RequestBody
from phota_async.errors import ImageError
from phota_async.models import EnhancedImage

if TYPE_CHECKING:
    from aiohttp.client_proto import ResponseHandler
    from aiohttp.http import StreamWriter

# A call is silent for about 55 s, and NATs and load balancers drop what is silent: probe after 30 s, then every 15 s.
_SECONDS = {"TCP_KEEPIDLE": 30, "TCP_KEEPALIVE": 30, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 4}
_KEEPALIVE = tuple((getattr(socket, name), value) for name, value in _SECONDS.items() if hasattr(socket, name))


@define(eq=False)
class Flight:
    """How far one attempt got.

    Attributes:
        whole: Whether the request's last byte was handed over: from then on it may be paid for.
        accepted: Whether a good answer has begun.
        landed: Whether its outcome is known.
        request_id: The service's, once the head of an answer is here.
        decoder: What has arrived of the answer.
        on_arrival: Called when a good answer is here whole: from then on no clock may take it away.
    """

    on_arrival: Callable[[], None]
    decoder: AnswerDecoder = field(factory=AnswerDecoder)
    whole: bool = False
    accepted: bool = False
    landed: bool = False
    request_id: str | None = None

    def arrive(self) -> None:
        """Say that a good answer is here whole."""
        self.landed = True
        self.on_arrival()

    @property
    def images(self) -> tuple[EnhancedImage, ...]:
        """The images that are here intact by now."""
        return tuple(map(EnhancedImage, self.decoder.intact))

    @property
    def may_be_charged(self) -> bool:
        """Whether a paid request is in flight."""
        return self.whole and not self.landed


class Upload(Payload):
    """The body of one attempt. `flight` learns when the last piece goes out; `failure` is why none did."""

    def __init__(self, body: RequestBody, flight: Flight) -> None:
        """Prepare to send ``body``."""
        super().__init__(body, content_type="application/json")
        self._size = body.length
        self._body = body
        self._flight = flight
        self.failure: ImageError | None = None

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:  # noqa: ARG002  (aiohttp's signature)
        """Refuse: the body never exists as one string."""
        raise TypeError("the body exists in pieces only")

    async def write(self, writer: AbstractStreamWriter) -> None:
        """Write the body; aiohttp calls this in a task of its own."""
        stream = cast("StreamWriter", writer)
        keep_alive(stream.transport)
        # A server may ignore "Connection: close"; an injected session would then hand the connection to its next
        # request, and with it a stray second answer: another user's photo.
        cast("ResponseHandler", stream.protocol).force_close()
        written = 0
        try:
            async with aclosing(self._body.pieces()) as pieces:
                async for piece in pieces:
                    written += len(piece)
                    # Before the write: what it hands over can be acted on before it returns.
                    self._flight.whole = written == self._size
                    await writer.write(piece)
                    if not self._flight.whole:
                        await asyncio.sleep(0)
        except ImageError as error:
            self.failure = error
            raise


def keep_alive(transport: asyncio.BaseTransport | None) -> None:
    """Turn TCP keepalive on, whoever made the connection."""
    connection: Any = transport and transport.get_extra_info("socket")
    if connection is None or connection.family not in {socket.AF_INET, socket.AF_INET6}:
        return
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _KEEPALIVE:
        connection.setsockopt(socket.IPPROTO_TCP, option, value)
