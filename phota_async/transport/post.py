"""One attempt: the POST, its answer decoded as it arrives, and every foreign error turned into one of ours."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress

import aiohttp
from aiohttp import hdrs
from attrs import Factory, evolve, field, frozen
from yarl import URL

from phota_async.codec.answer import Answer, AnswerDecoder, AnswerError
from phota_async.codec.error_answer import MAX_BODY_BYTES, api_error
from phota_async.codec.request import RequestBody
from phota_async.errors import (
    APIError,
    ClientClosedError,
    ConnectionFailedError,
    OutcomeUnknownError,
    PhotaError,
    ResponseFormatError,
    charged_by,
)
from phota_async.models import EnhancedImage
from phota_async.transport.attempts import Attempts
from phota_async.transport.border import FOREIGN, in_plain_words
from phota_async.transport.inflate import EncodingError, Inflater
from phota_async.transport.redaction import Redaction
from phota_async.transport.session import Timeout
from phota_async.transport.upload import Flight, Upload
from phota_async.version import __version__

logger = logging.getLogger("phota_async")

USER_AGENT = f"phota-async/{__version__}"

_ERROR_BODY_SECONDS = 10.0  # the status is known by then; the rest is only words
_ID_CHARACTERS = 128
_REMEMBERED_DATES = 100


@frozen(eq=False)
class Endpoint:
    """Where attempts go, and what bounds them."""

    url: URL
    key: str = field(repr=False)
    proxy: URL | None = field(repr=False)
    timeout: Timeout
    max_response_bytes: int
    redaction: Redaction = field(init=False, default=Factory(lambda self: Redaction(self.key), takes_self=True))


@frozen(eq=False)
class Received:
    """What one good attempt brought."""

    images: tuple[EnhancedImage, ...]
    answer: Answer
    request_id: str | None


class Poster:
    """Makes attempts over one session."""

    def __init__(self, session: aiohttp.ClientSession, attempts: Attempts) -> None:
        """Use ``session``, which stays its owner's."""
        self._session = session
        self._attempts = attempts
        self._announced: set[str] = set()

    async def post(self, endpoint: Endpoint, body: RequestBody, flight: Flight) -> Received:
        """Make one attempt.

        Raises:
            ImageError: The photo changed since it was opened; the request was broken off before its end.
            ConnectionFailedError: The request did not reach the service whole.
            OutcomeUnknownError: It did, and no complete answer came.
            ResponseFormatError: A success that does not keep the contract.
            APIError: Any other answer.
        """
        if self._session.closed:
            raise ClientClosedError("the session given to the client is closed")
        upload = Upload(body, flight)
        failure: PhotaError
        try:
            async with self._attempts.clock(endpoint.timeout.attempt) as clock:
                answer = await self._exchange(endpoint, upload, flight, clock)
        except FOREIGN as error:
            failure = upload.failure or _connection_error(error, endpoint, sent=flight.whole or flight.accepted)
        except (AnswerError, EncodingError) as error:
            failure = ResponseFormatError(f"the service's answer is unusable: {error}", flight.request_id)
        except APIError as error:
            # The frames behind it hold the answer, whose headers may repeat the key.
            failure = error.with_traceback(None)
        else:
            flight.arrive()
            if answer.notes:
                answer = evolve(answer, notes=tuple(map(endpoint.redaction.of_text, answer.notes)))
            return Received(tuple(map(EnhancedImage, answer.images)), answer, flight.request_id)
        if isinstance(failure, OutcomeUnknownError | ResponseFormatError):
            failure = type(failure)(str(failure.args[0]), flight.request_id, flight.images)
        raise failure

    async def _exchange(self, endpoint: Endpoint, upload: Upload, flight: Flight, clock: asyncio.Timeout) -> Answer:
        async with self._session.post(
            endpoint.url,
            data=upload,
            headers=_headers(endpoint),
            allow_redirects=False,
            auto_decompress=False,
            proxy=endpoint.proxy,
            raise_for_status=False,
            timeout=aiohttp.ClientTimeout(total=None, connect=endpoint.timeout.connect),
        ) as response:
            try:
                flight.request_id = _request_id(response.headers, endpoint.redaction)
                self._announce(response.headers, endpoint.redaction)
                if not 200 <= response.status <= 299:  # noqa: PLR2004  (success)
                    clock.reschedule(None)
                    self._attempts.let_go(clock)
                    # Its words may still be on their way, but what it means for the money is known.
                    flight.landed = not charged_by(response.status)
                    raise await _api_error(response, endpoint.redaction)
                flight.accepted = True
                return await _decoded(response, flight.decoder, endpoint)
            finally:
                response.close()

    def _announce(self, headers: Mapping[str, str], redaction: Redaction) -> None:
        date = redaction.of_text(headers.get("X-Phota-Deprecation-Date", ""))[:_ID_CHARACTERS]
        if date and date not in self._announced and len(self._announced) < _REMEMBERED_DATES:
            self._announced.add(date)
            logger.warning("the service announces a deprecation for %s", date)


def _headers(endpoint: Endpoint) -> dict[str, str]:
    return {
        "X-API-Key": endpoint.key,
        hdrs.ACCEPT: "application/json",
        # base64 of compressed images does not get smaller, only dearer.
        hdrs.ACCEPT_ENCODING: "identity",
        hdrs.CONNECTION: "close",
        hdrs.USER_AGENT: USER_AGENT,
    }


def _request_id(headers: Mapping[str, str], redaction: Redaction) -> str | None:
    value = "".join(filter(str.isprintable, headers.get("X-Request-Id", "")))
    return redaction.of_text(value)[:_ID_CHARACTERS] or None


async def _decoded(response: aiohttp.ClientResponse, decoder: AnswerDecoder, endpoint: Endpoint) -> Answer:
    limit = endpoint.max_response_bytes
    if (response.content_length or 0) > limit:
        raise AnswerError(f"its {response.content_length} bytes are more than max_response_bytes ({limit})")
    encoding = endpoint.redaction.of_text(response.headers.get(hdrs.CONTENT_ENCODING, ""))
    await _Intake(decoder, encoding, limit).read(response.content)
    return decoder.finish()


class _Intake:
    """Takes an answer's body as it comes: unpacks it, bounds it, and feeds the decoder."""

    def __init__(self, decoder: AnswerDecoder, encoding: str, limit: int) -> None:
        self._decoder = decoder
        self._inflater = Inflater(encoding)
        self._limit = limit
        self._travelled = self._unpacked = 0
        self._taking = False

    async def read(self, stream: aiohttp.StreamReader) -> None:
        try:
            async for chunk in stream.iter_any():
                await self._take(chunk)
        except (*FOREIGN, asyncio.CancelledError):
            if not self._taking and not self._inflater.expands:
                self._take_last(stream)
            raise
        self._inflater.finish()

    async def _take(self, chunk: bytes) -> None:
        self._taking = True
        for piece in self._within(chunk):
            await self._feed(piece)
            if self._inflater.expands:
                await asyncio.sleep(0)  # one chunk may hold a thousand times its length
        self._taking = False

    async def _feed(self, piece: bytes) -> None:
        while piece:
            piece = piece[self._decoder.feed(piece) :]
            if piece:
                await asyncio.sleep(0)

    def _take_last(self, stream: aiohttp.StreamReader) -> None:
        # The reader ends before it gives out what it has buffered, which may hold an image that came whole, and it has
        # no public way to ask for that. At most half a MiB; a cancelled task may not wait, so no turn is given back.
        buffered: Iterable[bytes] = getattr(stream, "_buffer", ())
        with suppress(AnswerError):
            for piece in self._within(b"".join(buffered)):
                rest = piece
                while rest := rest[self._decoder.feed(rest) :]:
                    pass

    def _within(self, chunk: bytes) -> Iterator[bytes]:
        """Give what a chunk holds, as far as the bound allows: that may end an image, also where the rest is too much.

        Raises:
            AnswerError: There was more.
        """
        self._travelled += len(chunk)
        excess = max(0, self._travelled - self._limit)
        for piece in self._inflater.feed(chunk[: len(chunk) - excess]):
            self._unpacked += len(piece)
            excess = max(excess, self._unpacked - self._limit)
            yield piece[: max(0, len(piece) - max(0, self._unpacked - self._limit))]
            if self._unpacked > self._limit:
                break
        if excess:
            raise AnswerError(f"it is longer than max_response_bytes ({self._limit})")


async def _api_error(response: aiohttp.ClientResponse, redaction: Redaction) -> APIError:
    body = bytearray()
    # A key that begins within the bound is read whole, or it would not be found.
    wanted = MAX_BODY_BYTES + redaction.reach
    try:
        inflater = Inflater(response.headers.get(hdrs.CONTENT_ENCODING, ""))
        async with asyncio.timeout(_ERROR_BODY_SECONDS):
            async for chunk in response.content.iter_any():
                # A step of a compressed body is more than is wanted of it: the first is enough.
                body += next(inflater.feed(chunk), b"")
                if len(body) >= wanted:
                    break
    except (*FOREIGN, EncodingError):
        logger.debug("the body of a %d answer was cut short", response.status)
    told, excess = redaction.of_bytes(bytes(body[:wanted])), max(0, min(len(body), wanted) - MAX_BODY_BYTES)
    return api_error(
        response.status,
        told[: max(0, len(told) - excess)],
        request_id=_request_id(response.headers, redaction),
        retry_after=response.headers.getall(hdrs.RETRY_AFTER, ()),
    )


def _connection_error(error: BaseException, endpoint: Endpoint, *, sent: bool) -> PhotaError:
    host, words = endpoint.url.host, in_plain_words(error)
    if sent:
        return OutcomeUnknownError(f"sent to {host}, but no complete answer: {words}")
    return ConnectionFailedError(f"the request did not reach {host}: {words}")
