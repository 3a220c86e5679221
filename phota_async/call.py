"""One call: a slot for each attempt, attempts within the deadline, and what became of the money when it ends."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import TYPE_CHECKING, TypeAlias

from attrs import define, field, frozen

from phota_async.batch import Gate, NotStartedError
from phota_async.codec.request import RequestBody
from phota_async.errors import APIError, ClientClosedError, DeadlineExceededError, PhotaError, let_go
from phota_async.images import open_photo
from phota_async.limiter import Limiter, Slot
from phota_async.models import EnhanceOptions, EnhanceResult
from phota_async.retry import Retries, RetryDetails, RetryPolicy
from phota_async.transport.post import Endpoint, Poster, Received
from phota_async.transport.upload import Flight

if TYPE_CHECKING:
    from phota_async.telemetry import Telemetry, Watch

logger = logging.getLogger("phota_async")

Around: TypeAlias = Callable[[Callable[[], bool]], AbstractAsyncContextManager[None]]
"""What goes on around each attempt's request. It is given what tells whether all of the request has gone out."""

_NO_ROOM = frozenset({429, 503})
_MEDIA_TYPES = {"png": "image/png", "jpg": "image/jpeg"}


@frozen(kw_only=True, eq=False)
class Means:
    """What a call is made with."""

    limiter: Limiter
    poster: Poster
    endpoint: Endpoint
    policy: RetryPolicy
    on_retry: Callable[[RetryDetails], object] | None = None
    telemetry: Telemetry | None = None


@define(eq=False)
class Call:
    """One photo on its way. Used once.

    Attributes:
        means: What it is made with.
        options: What is asked for.
        deadline: Seconds for the whole of it, or None.
        bounded: Whether ``max_queue`` applies to it.
        gate: Where it is one of a batch: what may keep it from starting.
        around: Entered before each attempt's request, and left with what became of it.
    """

    means: Means
    options: EnhanceOptions
    deadline: float | None
    bounded: bool = True
    gate: Gate = field(factory=Gate)
    around: Around = lambda _: nullcontext()
    _flight: Flight | None = field(init=False, default=None)
    _maybe_charged: bool = field(init=False, default=False)
    _attempts: int = field(init=False, default=0)
    _last: PhotaError | None = field(init=False, default=None)
    _watch: Watch | None = field(init=False, default=None)

    async def run(self, image: object) -> EnhanceResult:
        """Enhance one photo.

        Raises:
            NotStartedError: Its batch was stopped before anything was sent for it.
            PhotaError: Any of the tree but `DownloadError`.
        """
        telemetry = self.means.telemetry
        try:
            result = await (self._run(image) if telemetry is None else self._watched(image, telemetry))
        except BaseException as error:
            if isinstance(error, PhotaError):
                # Its words are for whoever called: they may repeat what was sent.
                told = (type(error).__name__, error.attempts, error.request_id)
                logger.debug("a call ended in %s, attempts %d, request %s", *told)
            let_go(error)
            raise
        finally:
            self._flight = self._last = None  # they lead to the photo, and to this call
        logger.debug("a call took %.1f s, attempts %d, request %s", result.elapsed, result.attempts, result.request_id)
        return result

    async def _watched(self, image: object, telemetry: Telemetry) -> EnhanceResult:
        with telemetry.call(self.means.endpoint.url, self.options.response_mode) as self._watch:
            try:
                result = await self._run(image)
            finally:
                self._watch.maybe_charged = self._in_flight or self._maybe_charged
            self._watch.answered(result)
            return result

    async def _run(self, image: object) -> EnhanceResult:
        begun = asyncio.get_running_loop().time()
        failure: Exception
        clock = asyncio.timeout(self.deadline)
        try:
            async with clock:
                body = RequestBody.of(await open_photo(image), self.options)
                retries = Retries(self.means.policy, self._on_retry(), clock.when(), self._quickest, self._pause)
                received = await retries.run(lambda number: self._attempt(number, body, clock))
        except (NotStartedError, ClientClosedError) as error:
            # What an earlier attempt met, and may have cost, is the end of this call.
            failure = self._last or error
        except PhotaError as error:
            self.gate.heed(error)
            raise
        except TimeoutError as error:
            failure = self._too_late() if clock.expired() else error
        except BaseException as error:
            self._warn_of_loss(error)
            raise
        else:
            return self._result(received, asyncio.get_running_loop().time() - begun)
        raise failure

    def _on_retry(self) -> Callable[[RetryDetails], object] | None:
        return self.means.on_retry if self._watch is None else self._watch.on_retry(self.means.on_retry)

    def _quickest(self) -> float | None:
        return self.means.limiter.quickest

    async def _pause(self, seconds: float) -> None:
        with self.gate.waiting():
            await self.means.limiter.pause(seconds, patient=not self.bounded)

    @property
    def _in_flight(self) -> bool:
        return self._flight is not None and self._flight.may_be_charged

    async def _attempt(self, number: int, body: RequestBody, clock: asyncio.Timeout) -> Received:
        limiter = self.means.limiter
        self.gate.enter()
        patient, again = not self.bounded, number > 1
        slot = limiter.acquire_nowait(patient=patient, again=again)
        if slot is None:
            with self.gate.waiting():
                slot = await limiter.acquire(patient=patient, again=again)
        flight = Flight(on_arrival=lambda: clock.reschedule(None))
        try:
            self.gate.enter()
            self._check_time(number, clock)
            self._attempts, self._flight = number, flight
            async with self.around(lambda: flight.whole):
                if self._watch is not None:
                    self._watch.attempt(number)
                received = await self.means.poster.post(self.means.endpoint, body, flight)
        except PhotaError as error:
            flight.landed = True
            self._last = error
            self._maybe_charged = self._maybe_charged or error.maybe_charged
            self._heed(error, slot)
            raise
        finally:
            limiter.release()
        limiter.succeeded(slot)
        return received

    def _check_time(self, number: int, clock: asyncio.Timeout) -> None:
        """Raise if the deadline cannot hold another attempt: it would be paid for and thrown away.

        A first attempt is always made: what the quickest one took so far may have been another kind of call.
        """
        end, quickest = clock.when(), self.means.limiter.quickest
        if number > 1 and end is not None and asyncio.get_running_loop().time() + (quickest or 0.0) >= end:
            raise DeadlineExceededError(f"no time for another attempt before the deadline of {self.deadline:g} s")

    def _heed(self, error: PhotaError, slot: Slot) -> None:
        if not isinstance(error, APIError) or error.status not in _NO_ROOM:
            return
        self.means.limiter.refused(slot)
        if error.retry_after:
            # A longer pause than the policy's bound is raised to the caller; it must not freeze the whole client.
            self.means.limiter.hold(min(error.retry_after, self.means.policy.max_retry_after))

    def _result(self, received: Received, elapsed: float) -> EnhanceResult:
        for note in (*received.answer.notes, *_deviations(received, self.options)):
            logger.warning("request %s: %s", received.request_id, note)
        if self._maybe_charged:
            logger.warning("request %s: an earlier attempt of this call may have been charged too", received.request_id)
        return EnhanceResult(
            images=received.images,
            download_urls=received.answer.download_urls,
            known_subjects=received.answer.known_subjects,
            request_id=received.request_id,
            attempts=self._attempts,
            elapsed=elapsed,
        )

    def _warn_of_loss(self, error: BaseException) -> None:
        """Say what a call may have cost that ends in no error of ours, so that nobody else says it."""
        how = "was cancelled" if isinstance(error, asyncio.CancelledError) else f"ended in {type(error).__name__}"
        if self._in_flight:
            logger.warning("a call %s while its request was in flight; it may have been charged", how)
        elif self._maybe_charged:
            logger.warning("a call %s; an earlier attempt of it may have been charged", how)

    def _too_late(self) -> DeadlineExceededError:
        in_flight = self._in_flight
        where = "with a request in flight" if in_flight else "with no request in flight"
        images = self._flight.images if in_flight and self._flight else ()
        error = DeadlineExceededError(f"the deadline of {self.deadline:g} s passed {where}", in_flight, images)
        error.attempts = self._attempts
        error.maybe_charged = in_flight or self._maybe_charged
        error.request_id = self._flight.request_id if self._flight else None
        return error


def _deviations(received: Received, options: EnhanceOptions) -> list[str]:
    asked = options.num_output_images
    came = len(received.images) or len(received.answer.download_urls)
    notes = [f"{came} images came where {asked} were asked for"] if came != asked else []
    if (options.response_mode == "urls") == bool(received.images):
        notes.append(f"the answer came in another mode than {options.response_mode!r}")
    wanted = _MEDIA_TYPES[options.output_format]
    notes += [
        f"an image came as {image.media_type} where {wanted} was asked for"
        for image in received.images
        if image.media_type != wanted
    ]
    return notes
