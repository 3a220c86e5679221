"""Many photos through one callable: workers on one shared iterator, outcomes as values, bounded in every direction.

Knows neither HTTP nor the client: what enhances a photo is handed in. Reading ahead is bounded by the number of
workers, so is what is finished and not yet taken, and a million paths cost no more than a hundred.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Generator, Iterable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, contextmanager
from typing import Any, TypeAlias

import anyio
from anyio.abc import ObjectReceiveStream
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from attrs import define, field

from phota_async.errors import ACCOUNT_ERRORS, ClientClosedError, ImageError, PhotaError
from phota_async.models import BatchResult, EnhanceResult, Outcome

Enhance: TypeAlias = Callable[[Any], Awaitable[EnhanceResult]]
Photos: TypeAlias = Iterable[Any] | AsyncIterable[Any]

logger = logging.getLogger("phota_async")


@asynccontextmanager
async def stream(
    photos: Photos, enhance: Enhance, workers: int, gate: Gate | None = None
) -> AsyncGenerator[Outcomes, None]:
    """Give the outcomes as they complete, one for each photo.

    Leaving the block early abandons what is in flight.
    """
    gate = gate or Gate()
    send, receive = anyio.create_memory_object_stream[Outcome](0)
    # A task of its own rather than a task group around the yield: an error of the caller's block stays what it is.
    untaken: dict[int, Outcome] = {}
    running = asyncio.create_task(_Batch(photos, enhance, send, gate, untaken).run(workers))
    try:
        yield Outcomes(receive, gate, untaken)
    finally:
        running.cancel()
        receive.close()
        try:
            await ended(running)
        finally:
            send.close()  # a task that is cancelled before its first step closes nothing itself
            _tell_lost(untaken.values())
        bug = None if running.cancelled() else running.exception()
    if bug is not None:
        raise bug


async def gather(photos: Photos, enhance: Enhance, workers: int, gate: Gate | None = None) -> BatchResult:
    """Return all outcomes in input order."""
    gathered: list[Outcome] = []
    try:
        async with stream(photos, enhance, workers, gate) as outcomes:
            async for outcome in outcomes:
                gathered.append(outcome)  # noqa: PERF401  (a comprehension loses what it has when it is cancelled)
    except asyncio.CancelledError:
        _tell_lost(gathered)
        raise
    gathered.sort(key=lambda outcome: outcome.index)
    return BatchResult(tuple(gathered))


async def ended(task: asyncio.Task[Any]) -> None:
    """Wait for ``task`` to end, also when the wait is cancelled; the cancellation goes on afterwards."""
    interruption: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            interruption = error
    if interruption is not None:
        raise interruption


class NotStartedError(Exception):
    """A batch had stopped before a photo's request began; `reason` is what stopped it."""

    def __init__(self, reason: Exception) -> None:
        """Keep the reason."""
        super().__init__(reason)
        self.reason = reason


@define(eq=False)
class Gate:
    """Through it goes each start of one batch, until something closes it for good.

    Attributes:
        closed_by: What did, an account's error or the caller.
    """

    closed_by: Exception | None = None
    _waiting: set[anyio.CancelScope] = field(init=False, factory=set[anyio.CancelScope])

    def close(self, reason: Exception) -> None:
        """Let nothing through any more, and send away what waits; the first reason stays."""
        self.closed_by = self.closed_by or reason
        for scope in self._waiting:
            scope.cancel()

    @contextmanager
    def waiting(self) -> Generator[None, None, None]:
        """Wait for something, but no longer than the gate is open.

        Raises:
            NotStartedError: It is closed, or closes meanwhile.
        """
        self.enter()
        with anyio.CancelScope() as scope:
            self._waiting.add(scope)
            try:
                yield
            finally:
                self._waiting.discard(scope)
        if scope.cancelled_caught:
            self.enter()

    def heed(self, error: Exception) -> None:
        """Close if ``error`` is about the account."""
        if isinstance(error, ACCOUNT_ERRORS):
            self.close(error)

    def enter(self) -> None:
        """Do nothing while the gate is open.

        Raises:
            NotStartedError: It is closed.
        """
        if self.closed_by is not None:
            raise NotStartedError(self.closed_by)


class Outcomes(ObjectReceiveStream[Outcome]):
    """The outcomes of a batch as they complete: iterate over it, or `receive` one."""

    def __init__(self, receive: MemoryObjectReceiveStream[Outcome], gate: Gate, untaken: dict[int, Outcome]) -> None:
        """Read from ``receive``; what is read is ``untaken`` no more."""
        self._receive = receive
        self._gate = gate
        self._untaken = untaken

    async def receive(self) -> Outcome:
        """Return the next one.

        Raises:
            anyio.EndOfStream: That was all.
        """
        outcome = await self._receive.receive()
        # Only now: what was sent to a reader that is cancelled in the same turn of the loop never comes out here.
        del self._untaken[outcome.index]
        return outcome

    async def aclose(self) -> None:
        """Read no more; what is in flight still lands."""
        self._receive.close()

    def stop(self) -> None:
        """Let nothing new start; what is in flight lands, the rest comes out with ``attempted=False``."""
        self._gate.close(PhotaError("the batch was stopped before this photo's turn"))


class _Batch:
    def __init__(
        self,
        photos: Photos,
        enhance: Enhance,
        send: MemoryObjectSendStream[Outcome],
        gate: Gate,
        untaken: dict[int, Outcome],
    ) -> None:
        self._photos = photos
        self._enhance = enhance
        self._send = send
        self._taking = asyncio.Lock()
        self._taken = 0
        self._ended = False
        self._gate = gate
        self._untaken = untaken

    async def run(self, workers: int) -> None:
        async with self._send, AsyncExitStack() as stack:
            photos = await stack.enter_async_context(aclosing(_each(self._photos)))
            async with asyncio.TaskGroup() as group:
                for _ in range(workers):
                    group.create_task(self._work(photos))

    async def _work(self, photos: AsyncIterator[Any]) -> None:
        while (taken := await self._take(photos)) is not None:
            outcome = taken if isinstance(taken, Outcome) else await self._outcome(*taken)
            self._untaken[outcome.index] = outcome
            try:
                await self._send.send(outcome)
            except anyio.BrokenResourceError:  # the reader closed its end
                self._ended = True

    async def _take(self, photos: AsyncIterator[Any]) -> tuple[int, Any] | Outcome | None:
        async with self._taking:
            if self._ended:
                return None
            index = self._taken
            try:
                photo = await anext(photos)
            except StopAsyncIteration:
                self._ended = True
                return None
            except Exception as error:  # noqa: BLE001  (the caller's iterable may raise anything)
                self._ended = True
                return _broken_source(index, error)
            self._taken += 1
            return index, photo

    async def _outcome(self, index: int, photo: Any) -> Outcome:
        if self._gate.closed_by is not None:
            return Outcome(index, photo, error=self._gate.closed_by, attempted=False)
        try:
            return Outcome(index, photo, result=await self._enhance(photo))
        except (NotStartedError, ClientClosedError) as error:
            reason = error.reason if isinstance(error, NotStartedError) else error
            self._gate.close(reason)
            return Outcome(index, photo, error=reason, attempted=False)
        except PhotaError as error:
            self._gate.heed(error)
            return Outcome(index, photo, error=error)
        except Exception as error:
            # A bug. It is not allowed to take down the neighbours, which are being paid for.
            logger.exception("photo %d of a batch met an unexpected error", index)
            return Outcome(index, photo, error=error)


def _tell_lost(outcomes: Iterable[Outcome]) -> None:
    # Who leaves pays all the same; the request id is what the service can be asked about.
    for outcome in outcomes:
        if outcome.result is not None:
            request = outcome.result.request_id
            logger.warning("photo %d of a batch was enhanced (request %s), and nobody took it", outcome.index, request)


def _broken_source(index: int, error: Exception) -> Outcome:
    failure = ImageError(f"the iterable of photos raised after {index} photos: {type(error).__name__}: {error}")
    failure.__cause__ = error
    return Outcome(index, None, error=failure, attempted=False)


async def _each(photos: Photos) -> AsyncGenerator[Any, None]:
    if isinstance(photos, AsyncIterable):
        async for photo in photos:
            yield photo
        return
    for photo in photos:
        yield photo
