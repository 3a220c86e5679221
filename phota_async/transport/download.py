"""Signed links fetched: nothing of the account goes along, a broken transfer goes on where it broke."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from http import HTTPStatus
from typing import Protocol

import aiohttp
from aiohttp import hdrs
from attrs import define, frozen
from yarl import URL

from phota_async import formats
from phota_async.errors import GONE, DownloadError, without_query
from phota_async.transport.addresses import ForbiddenAddressError, refusal
from phota_async.transport.border import FOREIGN, in_plain_words
from phota_async.transport.post import USER_AGENT
from phota_async.transport.session import Timeout

MAX_REDIRECTS = 5
IDLE_SECONDS = 60.0
"""A transfer that stands still for so long is broken off and resumed."""

_PIECE_BYTES = 2**20
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_TRANSIENT = frozenset({408, 416, 425, 429})
_PLAIN = re.compile(r"[!-~]+")
_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-\d{1,18}/(\d{1,18})")


class _DiskError(Exception):
    """The sink's own error, kept apart from those of the network, which are `OSError` as well."""

    def __init__(self, error: OSError) -> None:
        super().__init__(error)
        self.error = error


class Sink(Protocol):
    """Where the bytes go."""

    async def write(self, offset: int, data: bytes) -> None:
        """Put ``data`` at ``offset``; what was behind it counts no more."""
        ...


@frozen(eq=False)
class Source:
    """What a download needs to know of the client."""

    own: URL
    proxy_for: Callable[[URL], URL | None]
    timeout: Timeout
    max_bytes: int


@define(eq=False)
class _Progress:
    """What was received so far, and how to ask for the rest."""

    received: int = 0
    total: int | None = None
    validator: str | None = None

    def restart(self) -> None:
        self.received, self.total, self.validator = 0, None, None


class Download:
    """One link on its way into one sink. `attempt` goes on where the last one broke off."""

    def __init__(self, session: aiohttp.ClientSession, source: Source, link: URL | str, sink: Sink) -> None:
        """Prepare to fetch ``link``; what is no URL is refused by the first attempt."""
        self._session = session
        self._source = source
        self._sink = sink
        self._progress = _Progress()
        self._shown = without_query(str(link))
        try:
            # A str is taken as it is: to quote it anew would break its signature.
            url = URL(link, encoded=isinstance(link, str) and _PLAIN.fullmatch(link) is not None)
            self._url = url if url.port else URL()  # asking for the port is what checks it
        except (TypeError, ValueError):
            self._url = URL()

    async def attempt(self) -> None:
        """Fetch what is missing.

        Raises:
            DownloadError: ``transient`` when another attempt may go on; else the link has expired, leads where no link
                may lead, or holds no image.
            OSError: The sink cannot be written to.
        """
        failure: DownloadError | OSError
        if self._session.closed:
            raise self._failed("the client was closed")
        try:
            async with asyncio.timeout(self._source.timeout.attempt):
                await self._follow(self._url, MAX_REDIRECTS)
                return
        except _DiskError as error:
            failure = error.error
        except FOREIGN as error:
            if isinstance(error.__cause__, ForbiddenAddressError):
                failure = self._failed(str(error.__cause__))
            else:
                # A URL that aiohttp does not accept stays one.
                reason, again = in_plain_words(error), not isinstance(error, aiohttp.InvalidURL)
                failure = DownloadError(f"the download broke off: {reason}", self._shown, transient=again)
        raise failure

    async def _follow(self, url: URL, redirects: int) -> None:
        if reason := refusal(url, self._source.own):
            raise self._failed(reason)
        async with self._session.get(
            url,
            headers=self._headers(),
            allow_redirects=False,
            auto_decompress=False,
            proxy=self._source.proxy_for(url),
            timeout=aiohttp.ClientTimeout(total=None, connect=self._source.timeout.connect, sock_read=IDLE_SECONDS),
        ) as response:
            if response.status not in _REDIRECTS:
                await self._receive(response)
                return
            target = self._target(response)
        if not redirects:
            raise self._failed(f"more than {MAX_REDIRECTS} redirects")
        await self._follow(target, redirects - 1)

    def _target(self, response: aiohttp.ClientResponse) -> URL:
        try:
            return response.url.join(URL(response.headers.get(hdrs.LOCATION, ""), encoded=True))
        except ValueError:
            return URL()

    def _headers(self) -> dict[str, str]:
        headers: dict[str, str] = {hdrs.ACCEPT_ENCODING: "identity", hdrs.USER_AGENT: USER_AGENT}
        if self._progress.received and self._progress.validator:
            headers[hdrs.RANGE] = f"bytes={self._progress.received}-"
            # Without it a changed file would be sewn to the beginning of the old one.
            headers[hdrs.IF_RANGE] = self._progress.validator
        return headers

    async def _receive(self, response: aiohttp.ClientResponse) -> None:
        self._begin(response)
        buffer, broken = bytearray(), ""
        try:
            async for chunk in response.content.iter_any():
                buffer += chunk
                if len(buffer) >= _PIECE_BYTES:
                    await self._flush(response, buffer)
        except FOREIGN as error:
            broken = in_plain_words(error)
        # What came before a break is kept: the next attempt asks for the rest only. Too little to tell an image is not.
        if not broken or self._progress.received + len(buffer) >= formats.HEAD_BYTES:
            await self._flush(response, buffer)
        if broken:
            raise self._interrupted(f"the download broke off: {broken}")
        if self._progress.total not in {None, self._progress.received}:
            raise self._interrupted("the download was cut short")
        if not self._progress.received:
            raise self._failed("what the link holds is empty", response.status)

    def _begin(self, response: aiohttp.ClientResponse) -> None:
        status, progress = response.status, self._progress
        if status == HTTPStatus.PARTIAL_CONTENT:
            if not progress.received or not _goes_on(response, progress):
                progress.restart()
                raise self._interrupted("the server answered with another range than was asked for", status)
            return
        progress.restart()
        if status != HTTPStatus.OK:
            raise self._refused(status)
        chunked = hdrs.TRANSFER_ENCODING in response.headers
        progress.total = None if chunked else response.content_length
        progress.validator = _validator(response)
        if response.headers.get(hdrs.CONTENT_ENCODING, "identity") != "identity" or (
            progress.total is None and not chunked
        ):
            raise self._failed("the server's answer has no length by which a cut could be told", status)
        if progress.total is not None and progress.total > self._source.max_bytes:
            raise self._failed(f"it is longer than max_response_bytes ({self._source.max_bytes})", status)

    def _refused(self, status: int) -> DownloadError:
        if status in GONE:
            return self._failed(f"{status}: the link has expired (links live 24 hours) or is not valid", status)
        if status in _TRANSIENT or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return self._interrupted(f"the server answered {status}", status)
        return self._failed(f"the server answered {status}", status)

    async def _flush(self, response: aiohttp.ClientResponse, buffer: bytearray) -> None:
        if not buffer:
            return
        progress, data = self._progress, bytes(buffer)
        buffer.clear()
        if not progress.received and not _is_image(response, data):
            raise self._failed("what the link holds is no image", response.status)
        bound = self._source.max_bytes if progress.total is None else progress.total
        if progress.received + len(data) > bound:
            raise self._failed(f"it is longer than {bound} bytes", response.status)
        try:
            await self._sink.write(progress.received, data)
        except OSError as error:
            raise _DiskError(error) from None
        progress.received += len(data)

    def _failed(self, reason: str, status: int | None = None) -> DownloadError:
        return DownloadError(reason, self._shown, status)

    def _interrupted(self, reason: str, status: int | None = None) -> DownloadError:
        return DownloadError(reason, self._shown, status, transient=True)


def _goes_on(response: aiohttp.ClientResponse, progress: _Progress) -> bool:
    found = _CONTENT_RANGE.fullmatch(response.headers.get(hdrs.CONTENT_RANGE, ""))
    if found is None or (int(found[1]), int(found[2])) != (progress.received, progress.total):
        return False
    # A server that knows no If-Range may send the rest of another version of the file.
    return _validator(response) in {None, progress.validator}


def _validator(response: aiohttp.ClientResponse) -> str | None:
    tag = response.headers.get(hdrs.ETAG, "")
    # A weak tag says "about the same", which is not enough to sew two halves together (RFC 9110, section 13.1.5).
    return tag if tag.startswith('"') else response.headers.get(hdrs.LAST_MODIFIED)


def _is_image(response: aiohttp.ClientResponse, head: bytes) -> bool:
    if formats.media_type(head[: formats.HEAD_BYTES]):
        return True
    return response.content_type.startswith("image/")
