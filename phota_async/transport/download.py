"""Signed links fetched: nothing of the account goes along, a broken transfer goes on where it broke."""

from __future__ import annotations

import re
from collections.abc import Callable, Container
from http import HTTPStatus
from typing import Protocol

import aiohttp
from aiohttp import hdrs
from attrs import define, frozen
from yarl import URL

from phota_async import formats
from phota_async.errors import GONE, DownloadError, without_query
from phota_async.transport.addresses import ForbiddenAddressError, Place, parsed, refusal
from phota_async.transport.attempts import Attempts
from phota_async.transport.border import FOREIGN, SessionClosedError, in_plain_words
from phota_async.transport.post import USER_AGENT
from phota_async.transport.session import Timeout

MAX_REDIRECTS = 5
IDLE_SECONDS = 60.0
"""A transfer that stands still for so long is broken off and resumed."""

_PIECE_BYTES = 2**20
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_TRANSIENT = frozenset({408, 416, 425, 429})
_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})")


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
    attempts: Attempts
    proxies: Container[Place]


@frozen
class _Version:
    """What an answer says of the version of the file that it holds."""

    tag: str | None = None
    date: str | None = None

    @classmethod
    def of(cls, response: aiohttp.ClientResponse) -> _Version:
        return cls(response.headers.get(hdrs.ETAG) or None, response.headers.get(hdrs.LAST_MODIFIED) or None)

    @property
    def _is_tagged(self) -> bool:
        # A weak tag says "about the same", which is not enough to sew two halves together (RFC 9110, section 13.1.5).
        return self.tag is not None and self.tag.startswith('"')

    @property
    def validator(self) -> str | None:
        return self.tag if self._is_tagged else self.date

    def is_of(self, other: _Version) -> bool:
        """Whether a part of the other version may be sewn to one of this: its server may know no If-Range."""
        if self._is_tagged:
            return other.tag == self.tag  # a part must repeat it (RFC 9110, section 15.3.7)
        return other.tag in {None, self.tag} and other.date in {None, self.date}


@define(eq=False)
class _Progress:
    """What was received so far, how to ask for the rest, and where the answer that is on its way must end."""

    received: int = 0
    total: int | None = None
    end: int | None = None
    version: _Version = _Version()
    resumes: bool = True

    def distrust(self) -> None:
        """Begin anew, and ask for no part again: this server's parts cannot be told to fit."""
        self.restart()
        self.resumes = False

    def restart(self) -> None:
        self.received, self.total, self.end, self.version = 0, None, None, _Version()

    def goes_on(self, response: aiohttp.ClientResponse) -> bool:
        """Whether ``response`` holds what follows, of the same file; then ``end`` is what it says."""
        found = _CONTENT_RANGE.fullmatch(_all(response, hdrs.CONTENT_RANGE))
        if found is None or self.total is None:
            return False
        begin, end, total = int(found[1]), int(found[2]) + 1, int(found[3])
        fits = (begin, total) == (self.received, self.total) and begin < end <= total
        is_as_long = response.content_length in {None, end - begin}
        self.end = end
        return fits and is_as_long and not _is_compressed(response) and self.version.is_of(_Version.of(response))


class Download:
    """One link on its way into one sink. `attempt` goes on where the last one broke off."""

    def __init__(self, session: aiohttp.ClientSession, source: Source, link: URL | str, sink: Sink) -> None:
        """Prepare to fetch ``link``; what is no URL is refused by the first attempt."""
        self._session = session
        self._source = source
        self._sink = sink
        self._progress = _Progress()
        self._shown = without_query(str(link))
        self._url = parsed(link)

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
            async with self._source.attempts.clock(self._source.timeout.attempt):
                await self._follow(self._url, MAX_REDIRECTS)
                return
        except _DiskError as error:
            failure = error.error
        except SessionClosedError:
            failure = self._failed("the client was closed")
        except FOREIGN as error:
            if isinstance(error.__cause__, ForbiddenAddressError):
                failure = self._failed(str(error.__cause__))
            else:
                # A URL that aiohttp does not accept stays one.
                reason, again = in_plain_words(error), not isinstance(error, aiohttp.InvalidURL)
                failure = DownloadError(f"the download broke off: {reason}", self._shown, transient=again)
        raise failure

    async def _follow(self, url: URL, redirects: int) -> None:
        if reason := refusal(url, self._source.own, self._source.proxies):
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
        return parsed(response.headers.get(hdrs.LOCATION, ""), response.url)

    def _headers(self) -> dict[str, str]:
        headers: dict[str, str] = {hdrs.ACCEPT_ENCODING: "identity", hdrs.USER_AGENT: USER_AGENT}
        progress = self._progress
        if progress.resumes and progress.received and progress.total and progress.version.validator:
            headers[hdrs.RANGE] = f"bytes={progress.received}-"
            # Without it a changed file would be sewn to the beginning of the old one.
            headers[hdrs.IF_RANGE] = progress.version.validator
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
            if not progress.received or not progress.goes_on(response):
                progress.distrust()
                raise self._interrupted("the server answered with another range than was asked for", status)
            return
        progress.restart()
        if status != HTTPStatus.OK:
            raise self._refused(status)
        if _is_compressed(response):
            raise self._failed("the server's answer has a content encoding, which was not asked for", status)
        chunked = _is_chunked(response)
        progress.total = None if chunked else response.content_length
        progress.version = _Version.of(response)
        if progress.total is None and not chunked:
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
        length = progress.received + len(data)
        if progress.end is not None and length > progress.end:
            progress.distrust()
            raise self._interrupted("the server sent another range than it said", response.status)
        if length > self._source.max_bytes:
            raise self._failed(f"it is longer than max_response_bytes ({self._source.max_bytes})", response.status)
        try:
            await self._sink.write(progress.received, data)
        except OSError as error:
            raise _DiskError(error) from None
        progress.received += len(data)

    def _failed(self, reason: str, status: int | None = None) -> DownloadError:
        return DownloadError(reason, self._shown, status)

    def _interrupted(self, reason: str, status: int | None = None) -> DownloadError:
        return DownloadError(reason, self._shown, status, transient=True)


def _is_compressed(response: aiohttp.ClientResponse) -> bool:
    return _all(response, hdrs.CONTENT_ENCODING).lower() not in {"", "identity"}


def _is_chunked(response: aiohttp.ClientResponse) -> bool:
    # Behind any other coding the body ends with the connection, wherever that may be cut.
    return _all(response, hdrs.TRANSFER_ENCODING).lower() == "chunked"


def _all(response: aiohttp.ClientResponse, name: str) -> str:
    """Return a header's value; of one that came several times all of them, as RFC 9110, section 5.3, joins them."""
    return ", ".join(response.headers.getall(name, [])).strip()


def _is_image(response: aiohttp.ClientResponse, head: bytes) -> bool:
    if formats.media_type(head[: formats.HEAD_BYTES]):
        return True
    return response.content_type.startswith("image/")
