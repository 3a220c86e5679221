"""Where aiohttp's and the system's errors become ours.

aiohttp's errors hold the request's headers, the key included, so none of them may hang on ``__cause__`` or
``__context__`` of what is raised: the callers translate inside ``except`` and raise behind it.
"""

from __future__ import annotations

import os

import aiohttp

FOREIGN = (aiohttp.ClientError, OSError, TimeoutError)
"""What may come out of aiohttp for reasons outside this program."""


def in_plain_words(error: BaseException) -> str:
    """Say what happened on the connection, without any header and without a URL's query."""
    match error:
        case aiohttp.ClientHttpProxyError():
            return f"the proxy refused to connect (it answered {error.status})"
        case aiohttp.ClientProxyConnectionError():
            return f"cannot connect to the proxy: {_system(error.os_error)}"
        case aiohttp.ClientConnectorDNSError():
            return f"cannot resolve {error.host}: {_system(error.os_error)}"
        case aiohttp.ClientConnectorCertificateError():
            return f"the TLS certificate of {error.host} is not trusted: {error.certificate_error}"
        case aiohttp.ClientConnectorError():
            return f"cannot connect to {error.host}: {_system(error.os_error)}"
        case aiohttp.ConnectionTimeoutError():
            return "connecting took too long"
        case aiohttp.ServerDisconnectedError():
            return "the connection was closed before an answer"
        case aiohttp.ClientPayloadError():
            return "the answer was cut short"
        case aiohttp.ClientResponseError():
            return "the answer is not HTTP"
        case TimeoutError():
            return "it took too long"
        case OSError():
            return f"the connection was lost: {_system(error)}"
        case _:
            return f"the connection failed ({type(error).__name__})"


def _system(error: OSError) -> str:
    return os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror or type(error).__name__
