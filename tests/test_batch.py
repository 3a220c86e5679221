"""Batches over plain callables: outcomes as values, bounded reading ahead, nothing left behind."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from typing import Any

import anyio
import pytest

from phota_async.batch import Gate, gather, stream
from phota_async.errors import (
    AuthenticationError,
    ClientClosedError,
    ConnectionFailedError,
    ImageError,
    InsufficientCreditsError,
    PhotaError,
    ServiceUnavailableError,
)
from phota_async.models import EnhanceResult, Outcome


def result_of(photo: object) -> EnhanceResult:
    return EnhanceResult(request_id=str(photo))


async def good(photo: object) -> EnhanceResult:
    await asyncio.sleep(0)
    return result_of(photo)


async def settle() -> None:
    for _ in range(50):
        await asyncio.sleep(0)


def other_tasks() -> set[asyncio.Task[Any]]:
    return {task for task in asyncio.all_tasks() if task is not asyncio.current_task()}


class Turnstile:
    """An enhancer that lets photos through when told, and counts who is inside."""

    def __init__(self) -> None:
        self.inside: dict[object, asyncio.Event] = {}
        self.begun: list[object] = []
        self.widest = 0

    async def __call__(self, photo: object) -> EnhanceResult:
        self.begun.append(photo)
        gate = self.inside[photo] = asyncio.Event()
        self.widest = max(self.widest, len(self.inside))
        try:
            await gate.wait()
        finally:
            del self.inside[photo]
        return result_of(photo)

    def open(self, *photos: object) -> None:
        for photo in photos:
            self.inside[photo].set()


# ---- sources and order


async def _async_photos(count: int) -> AsyncIterator[int]:
    for number in range(count):
        await asyncio.sleep(0)
        yield number


SOURCES: dict[str, Callable[[], Iterable[int] | AsyncIterable[int]]] = {
    "list": lambda: list(range(20)),
    "tuple": lambda: tuple(range(20)),
    "range": lambda: range(20),
    "generator": lambda: (number for number in range(20)),
    "iterator": lambda: iter(range(20)),
    "async generator": lambda: _async_photos(20),
}


@pytest.mark.parametrize("kind", SOURCES)
@pytest.mark.parametrize("workers", [1, 3, 50])
async def test_gathered_outcomes_are_in_input_order(kind: str, workers: int) -> None:
    async def later_first(photo: int) -> EnhanceResult:
        for _ in range(20 - photo):
            await asyncio.sleep(0)
        return result_of(photo)

    batch = await gather(SOURCES[kind](), later_first, workers)
    assert [(one.index, one.source) for one in batch] == [(number, number) for number in range(20)]
    assert [one.request_id for one in batch.results] == [str(number) for number in range(20)]
    assert all(outcome.attempted for outcome in batch)


async def test_streamed_outcomes_come_as_they_complete() -> None:
    turnstile = Turnstile()
    async with stream("abc", turnstile, 3) as outcomes:
        await settle()
        for photo in "cab":
            turnstile.open(photo)
            outcome = await outcomes.receive()
            assert (outcome.source, outcome.index) == (photo, "abc".index(photo))
        with pytest.raises(anyio.EndOfStream):
            await outcomes.receive()


async def test_a_batch_of_nothing_is_empty() -> None:
    assert len(await gather([], good, 3)) == 0
    assert len(await gather(_async_photos(0), good, 3)) == 0


async def test_the_same_photo_may_come_several_times() -> None:
    batch = await gather(["a", "a", "a"], good, 2)
    assert [outcome.index for outcome in batch] == [0, 1, 2]


# ---- bounds


@pytest.mark.parametrize("workers", [1, 2, 5])
async def test_no_more_are_in_flight_than_there_are_workers(workers: int) -> None:
    turnstile = Turnstile()
    async with stream(range(12), turnstile, workers) as outcomes:
        for _ in range(12):
            await settle()
            turnstile.open(next(iter(turnstile.inside)))
            await outcomes.receive()
    assert turnstile.widest == workers
    assert turnstile.begun == list(range(12))


@pytest.mark.parametrize("workers", [1, 4])
async def test_an_endless_source_is_read_only_as_far_as_outcomes_are_taken(workers: int) -> None:
    taken = 0

    def endless() -> Iterator[int]:
        nonlocal taken
        while True:
            taken += 1
            yield taken

    async with stream(endless(), good, workers) as outcomes:
        for received in range(30):
            await settle()
            assert taken <= received + workers
            await outcomes.receive()


async def test_a_slow_async_source_is_asked_by_one_worker_at_a_time() -> None:
    asked = 0

    async def photos() -> AsyncIterator[int]:
        nonlocal asked
        for number in range(10):
            asked += 1
            assert asked == 1
            await settle()
            asked -= 1
            yield number

    assert len((await gather(photos(), good, 5)).succeeded) == 10


# ---- failures are values


async def test_an_error_of_one_photo_is_its_outcome() -> None:
    async def enhance(photo: int) -> EnhanceResult:
        if photo % 3 == 1:
            raise ConnectionFailedError(f"{photo}")
        if photo % 3 == 2:
            raise ServiceUnavailableError(503)
        return result_of(photo)

    batch = await gather(range(9), enhance, 2)
    assert [outcome.ok for outcome in batch] == [True, False, False] * 3
    assert all(outcome.attempted for outcome in batch)


@pytest.mark.parametrize("bug", [ZeroDivisionError("bug"), TimeoutError("bug"), ExceptionGroup("bugs", [OSError("x")])])
async def test_a_bug_in_one_photo_is_logged_and_does_not_take_its_neighbours_down(
    bug: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    async def enhance(photo: int) -> EnhanceResult:
        await asyncio.sleep(0)
        if photo == 1:
            raise bug
        return result_of(photo)

    with caplog.at_level(logging.ERROR, "phota_async"):
        batch = await gather(range(4), enhance, 2)
    assert [outcome.error for outcome in batch] == [None, bug, None, None]
    assert caplog.messages == ["photo 1 of a batch met an unexpected error"]


async def test_an_enhancer_that_returns_nothing_is_a_bug_of_that_photo() -> None:
    async def enhance(_: object) -> Any:
        return None

    (outcome,) = await gather(["a"], enhance, 1)
    assert isinstance(outcome.error, ValueError)


@pytest.mark.parametrize("error", [InsufficientCreditsError(402), AuthenticationError(401), AuthenticationError(403)])
async def test_an_account_error_lets_land_what_flies_and_starts_nothing_new(error: PhotaError) -> None:
    turnstile = Turnstile()

    async def enhance(photo: int) -> EnhanceResult:
        result = await turnstile(photo)
        if photo == 1:
            raise error
        return result

    async with stream(range(8), enhance, 3) as outcomes:
        await settle()
        turnstile.open(1)
        landed = [await outcomes.receive()]
        await settle()
        turnstile.open(0, 2)
        landed += [outcome async for outcome in outcomes]
    assert turnstile.begun == [0, 1, 2]
    landed.sort(key=lambda outcome: outcome.index)
    assert [outcome.ok for outcome in landed] == [True, False, True] + [False] * 5
    assert [outcome.attempted for outcome in landed] == [True] * 3 + [False] * 5
    assert {outcome.error for outcome in landed if not outcome.ok} == {error}
    assert [outcome.source for outcome in landed] == list(range(8))


async def test_the_first_account_error_is_what_stopped_the_rest() -> None:
    errors = [InsufficientCreditsError(402), AuthenticationError(401)]

    async def enhance(photo: int) -> EnhanceResult:
        await asyncio.sleep(0)
        raise errors[photo]

    batch = await gather(range(4), enhance, 2)
    assert [outcome.error for outcome in batch] == [errors[0], errors[1], errors[0], errors[0]]


async def test_a_start_that_the_gate_refuses_is_not_attempted() -> None:
    gate, reached = Gate(), list[int]()

    async def enhance(photo: int) -> EnhanceResult:
        await asyncio.sleep(0)
        gate.enter()
        reached.append(photo)
        for error in (ImageError("no account's"), InsufficientCreditsError(402), AuthenticationError(401)):
            gate.heed(error)
        raise ConnectionFailedError("after the gate was closed")

    batch = await gather(range(5), enhance, 2)
    assert reached == [0]
    assert [outcome.attempted for outcome in batch] == [True] + [False] * 4
    assert {type(outcome.error) for outcome in batch[1:]} == {InsufficientCreditsError}
    assert isinstance(gate.closed_by, InsufficientCreditsError)


async def test_an_open_gate_lets_everything_through() -> None:
    gate = Gate()
    gate.enter()
    gate.heed(ServiceUnavailableError(503))
    gate.enter()
    assert gate.closed_by is None


async def test_a_client_that_was_closed_ends_the_batch_without_attempts() -> None:
    async def enhance(photo: int) -> EnhanceResult:
        await asyncio.sleep(0)
        if photo:
            raise ClientClosedError("the client was closed")
        return result_of(photo)

    batch = await gather(range(4), enhance, 1)
    assert [outcome.attempted for outcome in batch] == [True, False, False, False]
    assert {type(outcome.error) for outcome in batch[1:]} == {ClientClosedError}


# ---- sources that break


def _breaking(error: Exception, after: int) -> Iterator[int]:
    yield from range(after)
    raise error


async def _breaking_async(error: Exception, after: int) -> AsyncIterator[int]:
    for number in range(after):
        yield number
    raise error


@pytest.mark.parametrize("broken", [_breaking, _breaking_async])
@pytest.mark.parametrize("after", [0, 1, 5])
async def test_a_source_that_raises_ends_the_batch_with_one_more_outcome(broken: Any, after: int) -> None:
    error = OSError("the disk went away")
    batch = await gather(broken(error, after), good, 2)
    assert [outcome.ok for outcome in batch] == [True] * after + [False]
    last = batch[-1]
    assert (last.index, last.source, last.attempted) == (after, None, False)
    assert isinstance(last.error, ImageError)
    assert last.error.__cause__ is error
    assert f"raised after {after} photos: OSError: the disk went away" in str(last.error)


@pytest.mark.parametrize("photos", [None, 7, object()])
async def test_what_cannot_be_iterated_is_told(photos: Any) -> None:
    (outcome,) = await gather(photos, good, 2)
    assert isinstance(outcome.error, ImageError)
    assert "is not iterable" in str(outcome.error)


# ---- leaving


async def test_leaving_early_cancels_what_flies_and_leaves_no_task() -> None:
    before, turnstile = other_tasks(), Turnstile()
    async with stream(range(10), turnstile, 3) as outcomes:
        await settle()
        turnstile.open(0)
        await outcomes.receive()
    assert turnstile.inside == {}
    assert len(turnstile.begun) <= 4
    assert other_tasks() == before


@pytest.mark.parametrize("closes", [False, True])
async def test_what_was_enhanced_and_not_taken_is_told_with_its_request(
    caplog: pytest.LogCaptureFixture,
    closes: bool,  # noqa: FBT001
) -> None:
    async def two_fail(photo: object) -> EnhanceResult:
        if photo in {1, 2}:
            raise ServiceUnavailableError(503)
        return await good(photo)

    async with stream(range(10), two_fail, 3) as outcomes:
        assert (await outcomes.receive()).index == 1
        await settle()  # each worker stands there with what it has
        if closes:
            await outcomes.aclose()
            await settle()
    told = sorted(record.getMessage() for record in caplog.records)
    assert told == [f"photo {i} of a batch was enhanced (request {i}), and nobody took it" for i in (0, 3)]


@pytest.mark.parametrize("turns", range(1, 8))
async def test_what_a_cancelled_batch_had_is_told_with_its_requests_at_whatever_turn(
    turns: int, caplog: pytest.LogCaptureFixture
) -> None:
    turnstile = Turnstile()
    task = asyncio.create_task(gather(range(4), turnstile, 4))
    await settle()
    for photo in (3, 1):
        turnstile.open(photo)
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    told = sorted(record.getMessage() for record in caplog.records)
    assert told == [f"photo {i} of a batch was enhanced (request {i}), and nobody took it" for i in (1, 3)]


async def test_leaving_at_once_starts_nothing_and_leaves_nothing() -> None:
    before, turnstile = other_tasks(), Turnstile()
    async with stream(range(10), turnstile, 3):
        pass
    assert turnstile.begun == []
    assert other_tasks() == before
    gc.collect()  # a stream that was not closed would be reported here


async def test_leaving_closes_the_callers_generators() -> None:
    closed: list[str] = []

    def photos() -> Iterator[int]:
        try:
            yield from range(10)
        finally:
            closed.append("generator")

    async def photos_async() -> AsyncIterator[int]:
        try:
            for number in range(10):
                yield number
        finally:
            closed.append("async generator")

    for source in (photos(), photos_async()):
        async with stream(source, good, 2) as outcomes:
            await outcomes.receive()
        del source
    gc.collect()
    await settle()
    assert closed == ["generator", "async generator"]


class CallersError(Exception):
    pass


@pytest.mark.parametrize("error", [CallersError("mine"), ImageError("mine"), TimeoutError("mine"), KeyError("mine")])
async def test_an_exception_inside_the_block_passes_through_as_it_is(error: Exception) -> None:
    before = other_tasks()
    with pytest.raises(type(error)) as caught:  # noqa: PT012
        async with stream(range(10), Turnstile(), 3) as outcomes:
            await settle()
            assert outcomes is not None
            raise error
    assert caught.value is error
    assert caught.value.__context__ is None
    assert other_tasks() == before


async def test_a_timeout_of_the_callers_is_a_timeout() -> None:
    turnstile = Turnstile()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01), stream(range(10), turnstile, 3) as outcomes:
            await outcomes.receive()
    assert turnstile.inside == {}


async def test_cancelling_a_gathering_task_cancels_all_of_it() -> None:
    before, turnstile = other_tasks(), Turnstile()
    task = asyncio.create_task(gather(range(10), turnstile, 3))
    await settle()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert turnstile.inside == {}
    assert len(turnstile.begun) == 3
    assert other_tasks() == before


async def test_a_cancellation_while_leaving_at_once_leaves_nothing_behind() -> None:
    async def enter_and_leave() -> None:
        async with stream(range(3), good, 1):
            pass

    async def cancelled() -> None:
        task = asyncio.create_task(enter_and_leave())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    before = other_tasks()
    await cancelled()
    assert other_tasks() == before
    await settle()
    gc.collect()  # a stream that was not closed would be reported here


async def test_a_reader_that_closes_its_end_stops_new_starts() -> None:
    turnstile = Turnstile()
    async with stream(range(10), turnstile, 2) as outcomes:
        await settle()
        await outcomes.aclose()
        turnstile.open(0, 1)
        await settle()
        assert turnstile.begun == [0, 1]
        assert turnstile.inside == {}


async def test_several_readers_share_the_outcomes() -> None:
    seen: list[Outcome] = []

    async def drain(outcomes: Any) -> None:
        async for outcome in outcomes:
            seen.append(outcome)
            await asyncio.sleep(0)

    async with stream(range(20), good, 4) as outcomes, asyncio.TaskGroup() as group:
        for _ in range(3):
            group.create_task(drain(outcomes))
    assert sorted(outcome.index for outcome in seen) == list(range(20))


async def test_a_source_that_raises_in_its_cleanup_costs_no_result() -> None:
    async def photos() -> AsyncIterator[int]:
        try:
            yield 1
            yield 2
        finally:
            raise CallersError("on closing")

    batch = await gather(photos(), good, 1)
    assert [outcome.ok for outcome in batch] == [True, True, False]
    assert isinstance(batch[-1].error, ImageError)


async def test_a_second_cancellation_while_leaving_leaves_nothing_behind() -> None:
    async def enhance(_: object) -> EnhanceResult:
        try:
            await asyncio.Event().wait()
        finally:
            await settle()
        return result_of("")

    before = other_tasks()
    task = asyncio.create_task(gather(range(3), enhance, 2))
    await settle()
    for _ in range(2):
        task.cancel()
        for _ in range(5):
            await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert other_tasks() == before
    gc.collect()  # a stream that was not closed would be reported here


async def test_a_stop_of_the_program_is_not_made_a_value() -> None:
    class StopProgram(BaseException):
        pass

    async def enhance(_: object) -> EnhanceResult:
        raise StopProgram

    with pytest.raises(BaseException) as caught:  # noqa: PT011
        await gather(range(3), enhance, 1)
    assert repr(caught.value).endswith("[StopProgram()])")
