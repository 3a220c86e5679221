"""Where aiohttp's and the system's errors become ours.

aiohttp's errors hold the request's headers, the key included, so none of them may hang on ``__cause__`` or
``__context__`` of what is raised: the callers translate inside ``except`` and raise behind it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import aiohttp


class SessionClosedError(aiohttp.ClientConnectionError):
    """The session was closed under an attempt."""


FOREIGN = (aiohttp.ClientError, OSError, TimeoutError)
"""What may come out of aiohttp for reasons outside this program."""


class ConnectionLostError(aiohttp.ClientError):
    """What aiohttp itself would make a GET again for."""


class PlainError(aiohttp.ClientError):
    """Stands for an error of aiohttp's whose own words repeat a URL, with a link's query or a proxy's password."""


def in_plain_words(error: BaseException) -> str:
    """Say what happened on the connection, without any header and without a URL's query."""
    for kind, words in _WORDS.items():
        if isinstance(error, kind):
            return words(error)
    return f"the connection failed ({type(error).__name__})"


def _system(error: OSError) -> str:
    return os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror or type(error).__name__


# The narrower kinds stand first.
_WORDS: dict[type[BaseException], Callable[[Any], str]] = {
    SessionClosedError: lambda _: "the client was closed",
    aiohttp.ClientHttpProxyError: lambda error: f"the proxy refused to connect (it answered {error.status})",
    aiohttp.ClientProxyConnectionError: lambda error: f"cannot connect to the proxy: {_system(error.os_error)}",
    aiohttp.ClientConnectorDNSError: lambda error: f"cannot resolve {error.host}: {_system(error.os_error)}",
    aiohttp.ClientConnectorCertificateError: lambda error: (
        f"TLS: {error.host} is not trusted: {error.certificate_error}"
    ),
    aiohttp.ClientConnectorError: lambda error: f"cannot connect to {error.host}: {_system(error.os_error)}",
    aiohttp.ConnectionTimeoutError: lambda _: "connecting took too long",
    ConnectionLostError: str,
    PlainError: str,
    aiohttp.ServerDisconnectedError: lambda _: "the connection was closed before an answer",
    aiohttp.ClientPayloadError: lambda _: "the answer was cut short",
    aiohttp.ClientResponseError: lambda _: "the answer is not HTTP",
    TimeoutError: lambda _: "it took too long",
    OSError: lambda error: f"the connection was lost: {_system(error)}",
}
