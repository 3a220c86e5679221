"""Sessions: how connections are made, and what no request may carry by itself."""

from __future__ import annotations

import sys
from collections.abc import Container, Sequence
from typing import Any

import aiohttp
from aiohttp import ClientSession as Session
from aiohttp import TraceConfig
from attrs import Attribute, field, frozen

from phota_async.transport.addresses import Place, PublicResolver
from phota_async.transport.border import ConnectionLostError, PlainError, in_plain_words
from phota_async.transport.tracing import harmless

__all__ = [
    "Session",
    "Timeout",
    "TraceConfig",
    "is_seconds",
    "open_download_session",
    "open_session",
    "session_or_none",
    "trace_configs_only",
]


def _seconds(_: object, attribute: Attribute[Any], value: object) -> None:
    if value is not None and not is_seconds(value):
        raise ValueError(f"{attribute.name} must be a positive number of seconds or None, not {value!r}")


def is_seconds(value: object) -> bool:
    """Whether a value is a positive number of seconds that a clock can hold."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= sys.float_info.max


def trace_configs_only(_: object, attribute: Attribute[Any], value: tuple[object, ...]) -> None:
    """Accept aiohttp's trace configurations.

    Raises:
        ValueError: Something else is among them; the message names the field.
    """
    if not all(isinstance(one, TraceConfig) for one in value):
        raise ValueError(f"{attribute.name} must be a list of aiohttp.TraceConfig, not {value!r}")


@frozen(kw_only=True)
class Timeout:
    """How long to wait, in seconds; None for ever.

    Attributes:
        connect: For a connection, name resolution and TLS included.
        attempt: For one request and its whole answer, counted from when the call has its slot. The default is a little
            more than the service's own limit of 600 s (release notes v0.1.1), so that its answer is not missed.
        overall: For the whole call: waiting for a slot, every attempt, every pause.
    """

    connect: float | None = field(default=10.0, validator=_seconds)
    attempt: float | None = field(default=630.0, validator=_seconds)
    overall: float | None = field(default=None, validator=_seconds)


def session_or_none(_: object, attribute: Attribute[Any], value: object) -> None:
    """Accept None and sessions.

    Raises:
        ValueError: It is something else; the message names the field.
    """
    if value is not None and not isinstance(value, Session):
        raise ValueError(f"{attribute.name} must be an aiohttp.ClientSession or None, not {value!r}")


def open_session(trace_configs: Sequence[TraceConfig]) -> Session:
    """Open the session for the API.

    Each POST has a connection of its own: on a kept one, a stale connection loses a paid request, and a stray second
    answer would be handed to the next call. Nobody waits for a connection here (``limit=0``): aiohttp counts that
    waiting as part of the timeout, and the limiter has done it.
    """
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    return _session(connector, trace_configs)


def open_download_session(own: Container[Place], trace_configs: Sequence[TraceConfig]) -> Session:
    """Open the session for signed links, which connects to public addresses and to what is ``own`` only."""
    connector = aiohttp.TCPConnector(limit=0, force_close=True, resolver=PublicResolver(own))
    return _session(connector, trace_configs, made_once)


async def made_once(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """Make a request, and keep aiohttp from making it again when the connection is lost: attempts are the policy's."""
    try:
        return await handler(request)
    except aiohttp.ClientConnectorError:
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        lost = ConnectionLostError(in_plain_words(error))
    raise lost


async def in_words_without_urls(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """Make a request, and keep errors that repeat a URL from trace_configs: an instrumentation exports them."""
    try:
        return await handler(request)
    except (aiohttp.ClientResponseError, aiohttp.ConnectionTimeoutError) as error:
        plain = PlainError(in_plain_words(error))
    except aiohttp.ClientConnectionError as error:
        if type(error) is not aiohttp.ClientConnectionError:
            raise
        # Sending failed: it tells the proxy's URL, and what the photo's source said.
        plain = PlainError(in_plain_words(error))
    raise plain


def _session(
    connector: aiohttp.BaseConnector, trace_configs: Sequence[TraceConfig], *middlewares: aiohttp.ClientMiddlewareType
) -> Session:
    # No cookies kept or sent; trust_env stays off, so no .netrc; no timeouts but ours.
    return Session(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None),
        trace_configs=[*map(harmless, trace_configs)],
        middlewares=(in_words_without_urls, *middlewares),
    )
