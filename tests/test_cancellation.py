"""Calls and batches that are cancelled, left early, stopped or closed: nothing leaks, and paid calls land."""

from __future__ import annotations

import asyncio
import gc
import io
import socket
import threading
import warnings
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from raw_server import (
    AT_ONCE,
    BIG_PHOTO,
    GOOD,
    IMAGE,
    KEY,
    OTHER_IMAGE,
    PHOTO,
    RawServer,
    Request,
    Script,
    Wire,
    answer,
    answering,
    client,
    good_body,
    stalling_once,
)

from phota_async import (
    AuthenticationError,
    ConnectionFailedError,
    ImageError,
    InsufficientCreditsError,
    InternalServerError,
    Outcome,
    OutcomeUnknownError,
    OverloadedError,
    PhotaClient,
    PhotaError,
    RetryDetails,
    RetryPolicy,
    Timeout,
)
from phota_async.sandbox import Fault, Sandbox

good = answering(GOOD)


@asynccontextmanager
async def leaving_nothing_behind() -> AsyncGenerator[None]:
    """Check that the block leaves no task and that nothing in it was left to the garbage collector to close."""
    gc.collect()  # what an earlier test left is not this one's
    before = asyncio.all_tasks()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
        for _ in range(3):  # connections close over a few turns of the loop
            await asyncio.sleep(0)
        gc.collect()
        await asyncio.sleep(0)
    assert [str(warning.message) for warning in caught] == []
    assert asyncio.all_tasks() - before == set()


async def cancelled(task: asyncio.Task[Any]) -> None:
    task.cancel()
    async with asyncio.timeout(5):
        with pytest.raises(asyncio.CancelledError):
            await task


async def deaf(wire: Wire) -> None:
    await wire.headers()
    await wire.stall()
    await wire.gone()


async def silent(wire: Wire) -> None:
    await wire.request()
    await wire.gone()


async def half(wire: Wire) -> None:
    await wire.request()
    await wire.send(GOOD[:-100])
    await wire.gone()


async def half_a_refusal(wire: Wire) -> None:
    await wire.request()
    await wire.send(answer(b'{"detail"', 500, length=100))
    await wire.gone()


async def half_the_headers(wire: Wire) -> None:
    await wire.request()
    await wire.send(b"HTTP/1.1 200 OK\r\nContent-")
    await wire.gone()


# ---- one call


@pytest.mark.parametrize("script", [deaf, silent, half_the_headers, half, half_a_refusal])
async def test_a_call_cancelled_on_the_wire_gives_everything_back(script: Script) -> None:
    photo = BIG_PHOTO if script is deaf else PHOTO
    async with (
        leaving_nothing_behind(),
        RawServer(script, good, receive_buffer=64 * 1024) as server,
        client(server, max_concurrency=1) as phota,
    ):
        task = asyncio.create_task(phota.enhance(photo))
        await server.stalled()
        await cancelled(task)
        server.released.set()
        await server.quiet()
        assert (await phota.enhance(PHOTO, timeout=10)).images[0].data == IMAGE
        assert server.connections == 2
        assert not any(request.whole for request in server.begun[:1]) or script is not deaf


async def test_a_call_cancelled_while_it_waits_for_a_slot_leaves_the_queue() -> None:
    async with (
        leaving_nothing_behind(),
        RawServer(stalling_once) as server,
        client(server, max_concurrency=1, max_queue=1) as phota,
    ):
        first = asyncio.create_task(phota.enhance(PHOTO))
        await server.stalled()
        for _ in range(3):
            waiting = asyncio.create_task(phota.enhance(PHOTO))
            await asyncio.sleep(0)
            await cancelled(waiting)
        last = asyncio.create_task(phota.enhance(PHOTO))
        await asyncio.sleep(0)
        server.released.set()
        await asyncio.gather(first, last)
        assert server.connections == 2


async def test_a_slot_granted_to_a_call_that_is_cancelled_in_the_same_turn_goes_on_to_the_next() -> None:
    async with RawServer(stalling_once) as server, client(server, max_concurrency=1) as phota:
        first = asyncio.create_task(phota.enhance(PHOTO))
        await server.stalled()
        second, third = (asyncio.create_task(phota.enhance(PHOTO)) for _ in range(2))
        await asyncio.sleep(0)
        first.add_done_callback(lambda _: second.cancel())
        server.released.set()
        await first
        assert (await asyncio.wait_for(third, 5)).images[0].data == IMAGE
        with pytest.raises(asyncio.CancelledError):
            await second


async def test_a_call_cancelled_while_it_connects_gives_its_slot_back() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listening:
        port = listening.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            async with leaving_nothing_behind():
                url, retry = f"http://127.0.0.1:{port}", RetryPolicy(max_attempts=1)
                timeout = Timeout(connect=0.05)
                async with PhotaClient(KEY, base_url=url, max_concurrency=1, retry=retry, timeout=timeout) as phota:
                    task = asyncio.create_task(phota.enhance(PHOTO))
                    for _ in range(20):
                        await asyncio.sleep(0)
                    await cancelled(task)
                    with pytest.raises(ConnectionFailedError):  # it got as far as connecting: there was a slot
                        await phota.enhance(PHOTO, timeout=10)


async def test_a_call_cancelled_in_a_retry_pause_gives_everything_back() -> None:
    paused = asyncio.Event()
    retry = RetryPolicy(initial_wait=1000, max_wait=1000)

    def hook(_: RetryDetails) -> None:
        paused.set()

    async with (
        leaving_nothing_behind(),
        RawServer(answering(answer(b"{}", 500)), good) as server,
        client(server, max_concurrency=1, retry=retry, on_retry=hook) as phota,
    ):
        task = asyncio.create_task(phota.enhance(PHOTO))
        await paused.wait()
        # A pause holds no slot.
        assert (await phota.enhance(PHOTO, timeout=10)).attempts == 1
        await cancelled(task)
        assert server.connections == 2


class _SlowFile(io.BytesIO):
    """A file whose every read after the first waits for the test."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.may_go_on = threading.Event()
        self.reading = threading.Event()
        self.reads = 0

    def read(self, size: int | None = -1, /) -> bytes:
        self.reads += 1
        if self.reads > 1:
            self.reading.set()
            self.may_go_on.wait(10)
        return super().read(size)


async def test_a_call_cancelled_while_it_reads_its_photo_gives_everything_back() -> None:
    file = _SlowFile(BIG_PHOTO)
    async with leaving_nothing_behind(), RawServer(good) as server, client(server, max_concurrency=1) as phota:
        task = asyncio.create_task(phota.enhance(file))
        await asyncio.to_thread(file.reading.wait, 10)
        task.cancel()
        file.may_go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        await server.until(lambda: not server.requests)
        assert (await phota.enhance(PHOTO, timeout=10)).attempts == 1


async def test_cancelled_calls_do_not_pile_up_threads(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    await asyncio.to_thread(path.write_bytes, PHOTO)
    async with RawServer(silent) as server, client(server) as phota:
        counts: list[int] = []
        for number in range(12):
            task = asyncio.create_task(phota.enhance(path))
            await server.until(lambda number=number: len(server.requests) == number + 1)  # type: ignore[misc]
            await cancelled(task)
            counts.append(threading.active_count())
        await server.quiet()
    assert counts[-1] <= counts[2] + 1


@pytest.mark.parametrize("turns", range(12))
async def test_a_call_cancelled_at_any_turn_of_the_loop_leaks_no_slot(turns: int, tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    await asyncio.to_thread(path.write_bytes, PHOTO)
    async with leaving_nothing_behind(), RawServer(good) as server, client(server, max_concurrency=1) as phota:
        task = asyncio.create_task(phota.enhance(path))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert (await phota.enhance(path, timeout=10)).images[0].data == IMAGE
        await server.quiet()


# ---- batches that are cancelled or left


async def test_a_cancelled_batch_starts_nothing_more_and_leaks_nothing() -> None:
    async with (
        leaving_nothing_behind(),
        RawServer(silent, silent, good) as server,
        client(server, max_concurrency=2) as phota,
    ):
        task = asyncio.create_task(phota.enhance_many([PHOTO] * 50))
        await server.stalled(2)
        await cancelled(task)
        await server.quiet()
        assert server.connections == 2
        assert (await phota.enhance(PHOTO, timeout=10)).attempts == 1


async def test_a_stream_left_early_starts_nothing_more_and_leaks_nothing() -> None:
    async with (
        leaving_nothing_behind(),
        RawServer(good, silent) as server,
        client(server, max_concurrency=2) as phota,
    ):
        async with phota.enhance_stream([PHOTO] * 50) as outcomes:
            assert (await anext(outcomes)).ok
            await server.stalled(2)
        await server.quiet()
        assert server.connections == 3


async def test_a_stream_that_nobody_reads_stops_at_its_bound() -> None:
    taken: list[int] = []

    def photos() -> Iterator[bytes]:
        for number in range(1000):
            taken.append(number)
            yield PHOTO

    async with leaving_nothing_behind(), RawServer(good) as server, client(server, max_concurrency=3) as phota:
        async with phota.enhance_stream(photos()):
            await server.until(lambda: len(server.requests) == 3 and server.open == 0)
            for _ in range(100):
                await asyncio.sleep(0)
            assert len(taken) <= 4
        assert server.connections == 3


async def test_an_error_of_the_callers_block_stays_what_it_is() -> None:
    class OwnError(Exception):
        pass

    async def interrupted(phota: PhotaClient) -> None:
        async with phota.enhance_stream([PHOTO] * 5) as outcomes:
            await anext(outcomes)
            raise OwnError

    async with leaving_nothing_behind(), RawServer(good, silent) as server, client(server) as phota:
        with pytest.raises(OwnError):
            await interrupted(phota)
        await server.quiet()


async def test_a_stream_cancelled_while_it_waits_leaks_nothing() -> None:
    async with leaving_nothing_behind(), RawServer(silent) as server, client(server) as phota:

        async def consume() -> None:
            async with phota.enhance_stream([PHOTO] * 5) as outcomes:
                async for _ in outcomes:
                    pass

        task = asyncio.create_task(consume())
        await server.stalled(5)
        await cancelled(task)
        await server.quiet()


async def test_a_batch_cancelled_twice_leaks_nothing() -> None:
    closing, may_close = asyncio.Event(), asyncio.Event()

    async def photos() -> AsyncIterator[bytes]:
        try:
            yield PHOTO
            await asyncio.Event().wait()
        finally:
            closing.set()
            await may_close.wait()

    async with leaving_nothing_behind(), RawServer(silent) as server, client(server) as phota:
        task = asyncio.create_task(phota.enhance_many(photos()))
        await server.stalled()
        task.cancel()
        await closing.wait()
        task.cancel()
        for _ in range(5):
            await asyncio.sleep(0)
        may_close.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        await server.quiet()
        del task


async def test_a_stream_never_entered_costs_nothing() -> None:
    async with leaving_nothing_behind(), RawServer(good) as server, client(server) as phota:
        phota.enhance_stream([PHOTO])
        assert server.connections == 0


# ---- batches that end well


def _listed(photos: list[Any]) -> Any:
    return photos


def _iterated(photos: list[Any]) -> Any:
    return iter(photos)


async def _asynchronously(photos: list[Any]) -> AsyncIterator[Any]:
    for photo in photos:
        await asyncio.sleep(0)
        yield photo


@pytest.mark.parametrize("given", [_listed, tuple, _iterated, _asynchronously])
async def test_outcomes_come_in_input_order_from_any_iterable(given: Callable[[list[Any]], Any]) -> None:
    async def by_size(wire: Wire) -> None:
        request = await wire.request()
        if len(request.photo) < 1030:  # the first ones wait for the last
            await wire.stall()
        else:
            wire.server.released.set()
        await wire.send(GOOD)

    photos = [PHOTO + bytes(number) for number in range(6)]
    async with RawServer(by_size) as server, client(server) as phota:
        batch = await phota.enhance_many(given(photos))
        assert [outcome.index for outcome in batch] == list(range(6))
        assert [outcome.source for outcome in batch] == photos
        assert all(outcome.ok for outcome in batch)
        assert len(batch.results) == 6
        batch.raise_for_failures()
        assert server.connections == 6


@pytest.mark.parametrize("empty", [[], (), iter([])])
async def test_an_empty_batch_is_empty(empty: Any) -> None:
    async with RawServer(good) as server, client(server) as phota:
        assert len(await phota.enhance_many(empty)) == 0
        assert server.connections == 0


async def test_a_directory_gives_its_photos_in_order(tmp_path: Path) -> None:
    def fill() -> None:
        (tmp_path / "sub").mkdir()
        (tmp_path / ".hidden").mkdir()
        for name in ("b.jpg", "a.bin", "sub/c.jpg", ".hidden/d.jpg", ".e.jpg"):
            (tmp_path / name).write_bytes(PHOTO)
        (tmp_path / "notes.txt").write_text("nothing to see")
        (tmp_path / "broken.png").write_text("no photo")

    await asyncio.to_thread(fill)
    async with RawServer(good) as server, client(server) as phota:
        for directory in (tmp_path, str(tmp_path)):
            batch = await phota.enhance_many(directory)
            names = [outcome.source.relative_to(tmp_path).as_posix() for outcome in batch]
            assert names == ["a.bin", "b.jpg", "broken.png", "sub/c.jpg"]
            assert [outcome.ok for outcome in batch] == [True, True, False, True]
            assert isinstance(batch[2].error, ImageError)
        with pytest.raises(ImageError, match="nowhere"):
            await phota.enhance_many(tmp_path / "nowhere")


async def test_one_bad_photo_among_good_ones_is_a_value() -> None:
    photos: list[Any] = [PHOTO, b"", PHOTO, Path("/nowhere/x.jpg"), PHOTO, None]
    async with RawServer(good) as server, client(server, max_concurrency=2) as phota:
        batch = await phota.enhance_many(photos)
        assert [outcome.ok for outcome in batch] == [True, False, True, False, True, False]
        assert [outcome.index for outcome in batch.failed] == [1, 3, 5]
        assert len(batch.succeeded) == 3
        assert all(isinstance(outcome.error, ImageError) and outcome.attempted for outcome in batch.failed)
        assert len(server.requests) == 3
        with pytest.raises(ExceptionGroup) as caught:
            batch.raise_for_failures()
        assert len(caught.value.exceptions) == 3
        with pytest.raises(ExceptionGroup):
            _ = batch.results


async def test_an_unknown_outcome_is_a_value_and_the_rest_goes_on() -> None:
    async def drop(wire: Wire) -> None:
        await wire.request()

    async with RawServer(good, drop, good) as server, client(server, max_concurrency=1) as phota:
        batch = await phota.enhance_many([PHOTO] * 3)
        assert [outcome.ok for outcome in batch] == [True, False, True]
        assert isinstance(batch[1].error, OutcomeUnknownError)
        assert len(server.requests) == 3


@pytest.mark.parametrize("status", [401, 402, 403])
async def test_an_error_of_the_account_stops_new_starts_and_lets_calls_in_flight_land(status: int) -> None:
    async def refuse(wire: Wire) -> None:
        await wire.request()
        await wire.server.stalled(1)
        await wire.send(answer(b"{}", status))

    async with RawServer(stalling_once, refuse) as server, client(server, max_concurrency=2) as phota:
        async with phota.enhance_stream([PHOTO] * 10) as outcomes:
            first = await anext(outcomes)
            server.released.set()
            rest = [outcome async for outcome in outcomes]
        assert isinstance(first.error, AuthenticationError | InsufficientCreditsError)
        assert first.attempted
        landed = [outcome for outcome in rest if outcome.ok]
        assert len(landed) == 1
        skipped = [outcome for outcome in rest if not outcome.ok]
        assert len(skipped) == 8
        assert all(not outcome.attempted and outcome.error is first.error for outcome in skipped)
        assert server.connections == 2


async def test_an_error_of_the_account_keeps_a_call_that_waits_for_a_slot_from_starting() -> None:
    other = PHOTO + b"other"

    async def by_photo(wire: Wire) -> None:
        request = await wire.request()
        if request.photo == other:
            await wire.stall()
            await wire.send(GOOD)
        else:
            await wire.send(answer(b"{}", 402))

    async with RawServer(by_photo) as server, client(server, max_concurrency=2) as phota:
        holding = asyncio.create_task(phota.enhance(other))
        await server.stalled()
        # One worker has the second slot, the other one waits for it when the 402 comes.
        batch = await phota.enhance_many([PHOTO] * 6)
        server.released.set()
        assert (await holding).images[0].data == IMAGE
        assert [isinstance(outcome.error, InsufficientCreditsError) for outcome in batch] == [True] * 6
        assert sum(outcome.attempted for outcome in batch) == 1
        assert server.connections == 2


@pytest.mark.parametrize("asynchronous", [True, False])
async def test_an_iterable_that_raises_keeps_what_was_paid(*, asynchronous: bool) -> None:
    def photos() -> Iterator[bytes]:
        yield PHOTO
        yield PHOTO
        raise OSError("the list broke off")

    async def asynchronous_photos() -> AsyncIterator[bytes]:
        for photo in photos():
            yield photo

    async with leaving_nothing_behind(), RawServer(good) as server, client(server) as phota:
        batch = await phota.enhance_many(asynchronous_photos() if asynchronous else photos())
        assert [outcome.ok for outcome in batch] == [True, True, False]
        assert "the list broke off" in str(batch[2].error)
        assert server.connections == 2


async def test_reading_ahead_of_a_long_generator_is_bounded() -> None:
    ahead: list[int] = []
    server_saw: list[Request] = []

    def photos() -> Iterator[bytes]:
        for number in range(60):
            ahead.append(number + 1 - len(server_saw))
            yield PHOTO

    async with RawServer(good) as server, client(server, max_concurrency=3) as phota:
        server_saw = server.requests
        async with phota.enhance_stream(photos()) as outcomes:
            seen = [outcome.index async for outcome in outcomes]
        assert sorted(seen) == list(range(60))
        assert max(ahead) <= 4


async def test_calls_do_not_pile_up_in_their_pauses(box: Sandbox, photo: Path) -> None:
    box.script(*[Fault(status=500, retry_after=50)] * 3)
    pausing = asyncio.Semaphore(0)
    async with PhotaClient(
        "key", base_url=box.url, max_concurrency=2, max_queue=1, on_retry=lambda _: pausing.release()
    ) as phota:
        calls = [asyncio.create_task(phota.enhance(photo)) for _ in range(3)]
        for _ in calls:
            await pausing.acquire()
        with pytest.raises(OverloadedError, match="0 calls are in flight, and 3 wait for a slot or for their next"):
            await phota.enhance(photo)
        assert (await phota.enhance_many([photo]))[0].ok
        calls[0].cancel()
        await asyncio.wait(calls[:1])
        assert (await phota.enhance(photo)).attempts == 1
    assert [type(call.exception()) for call in calls[1:]] == [InternalServerError] * 2


async def test_a_call_that_comes_back_from_its_pause_is_not_sent_away_by_max_queue() -> None:
    async def refused_later(wire: Wire) -> None:
        await wire.request()
        await wire.stall()
        await wire.send(answer(b"{}", 503))

    def keep_the_next_waiting(_: RetryDetails) -> None:
        server.released.clear()

    async with (
        RawServer(refused_later, stalling_once, good) as server,
        client(server, max_concurrency=1, max_queue=0, on_retry=keep_the_next_waiting) as phota,
    ):
        first = asyncio.create_task(phota.enhance(PHOTO))
        await server.stalled()
        batch = asyncio.create_task(phota.enhance_many([PHOTO]))  # waits for the slot, and gets it
        for _ in range(50):
            await asyncio.sleep(0)
        server.released.set()
        await server.until(lambda: len(server.requests) == 2)
        await server.stalled()
        for _ in range(50):
            await asyncio.sleep(0)
        assert not first.done()
        server.released.set()
        assert (await first).attempts == 2
        assert (await batch)[0].ok


async def test_a_batch_is_not_bounded_by_max_queue() -> None:
    async with RawServer(good) as server, client(server, max_concurrency=2, max_queue=0) as phota:
        assert all(outcome.ok for outcome in await phota.enhance_many([PHOTO] * 8))


@pytest.mark.parametrize("photos", [PHOTO, bytearray(PHOTO), memoryview(PHOTO)])
async def test_one_photo_in_place_of_many_is_refused(photos: Any) -> None:
    async with RawServer(good) as server, client(server) as phota:
        with pytest.raises(ValueError, match="photos"):
            await phota.enhance_many(photos)
        assert server.connections == 0


async def test_a_bad_option_of_a_batch_is_told_before_anything_is_taken() -> None:
    async def photos() -> AsyncIterator[bytes]:
        raise AssertionError("taken")
        yield PHOTO

    async with RawServer(good) as server, client(server) as phota:
        with pytest.raises(ValueError, match="num_output_images"):
            await phota.enhance_many(photos(), num_output_images=9)
        with pytest.raises(ValueError, match="num_output_images"):
            phota.enhance_stream(photos(), num_output_images=9)
        assert server.connections == 0


# ---- the limiter, seen from the service


async def test_no_more_calls_than_max_concurrency_are_in_flight() -> None:
    async with RawServer(stalling_once) as server, client(server, max_concurrency=3) as phota:
        task = asyncio.create_task(phota.enhance_many([PHOTO] * 9))
        await server.stalled(3)
        for _ in range(50):
            await asyncio.sleep(0)
        assert server.open == 3
        server.released.set()
        await task
        assert server.most_stalled == 3


async def test_the_width_narrows_when_the_service_is_short_of_room_and_recovers() -> None:
    most = 0

    async def counted(wire: Wire) -> None:
        nonlocal most
        await wire.request()
        most = max(most, wire.server.open)
        await wire.stall()
        await wire.send(GOOD)

    busy = answering(answer(b"{}", 503))
    retry = RetryPolicy(max_attempts=1)
    async with (
        RawServer(busy, *[counted] * 7, *[good] * 30, counted) as server,
        client(server, max_concurrency=10, retry=retry) as phota,
    ):
        assert not (await phota.enhance_many([PHOTO]))[0].ok
        task = asyncio.create_task(phota.enhance_many([PHOTO] * 37))
        await server.stalled(7)
        for _ in range(50):
            await asyncio.sleep(0)
        assert server.open == 7  # 10 times 0.7
        assert most == 7
        server.released.set()
        assert all(outcome.ok for outcome in await task)
        server.released.clear()
        task = asyncio.create_task(phota.enhance_many([PHOTO] * 20))
        await server.stalled(10)
        server.released.set()
        await task


async def test_a_service_without_room_is_never_asked_by_more_than_it_refused() -> None:
    async with Sandbox(long_edge=64, capacity=3, latency=0.01) as box:
        retry = RetryPolicy(initial_wait=0.02, max_attempts=50)
        photo = await asyncio.to_thread(Path(__file__).with_name("photos").joinpath("rocket.jpg").read_bytes)
        async with PhotaClient("key", base_url=box.url, retry=retry) as phota:
            batch = await phota.enhance_many([photo] * 20)
        assert all(outcome.ok for outcome in batch)
        assert box.ledger.charged_images == 20
        assert box.ledger.widest <= 3


async def test_one_slow_answer_does_not_hold_the_others_back(phota_sandbox: Sandbox, photo: Path) -> None:
    phota_sandbox.script(Fault(stall=0.5))
    finished: list[int] = []
    async with (
        PhotaClient("key", base_url=phota_sandbox.url, retry=AT_ONCE) as phota,
        phota.enhance_stream([photo] * 4) as outcomes,
    ):
        finished += [outcome.index async for outcome in outcomes]
    assert sorted(finished) == [0, 1, 2, 3]


# ---- the life of a client


async def test_closing_lets_calls_in_flight_land() -> None:
    async with leaving_nothing_behind(), RawServer(stalling_once) as server:
        phota = PhotaClient(KEY, base_url=server.url)
        calls = [asyncio.create_task(phota.enhance(PHOTO)) for _ in range(2)]
        await server.stalled(2)
        closing = asyncio.create_task(phota.aclose())
        for _ in range(5):
            await asyncio.sleep(0)
        assert not closing.done()
        server.released.set()
        await closing
        assert [(await call).images[0].data for call in calls] == [IMAGE, IMAGE]


async def test_closing_sends_away_the_calls_that_wait() -> None:
    async with leaving_nothing_behind(), RawServer(stalling_once) as server:
        phota = PhotaClient(KEY, base_url=server.url, max_concurrency=1)
        first = asyncio.create_task(phota.enhance(PHOTO))
        await server.stalled()
        second = asyncio.create_task(phota.enhance(PHOTO))
        await asyncio.sleep(0)
        closing = asyncio.create_task(phota.aclose())
        await asyncio.wait([second], timeout=5)
        server.released.set()
        await closing
        assert (await first).images[0].data == IMAGE
        with pytest.raises((PhotaError, RuntimeError), match="closed"):
            await second
        assert server.connections == 1


async def test_closing_while_a_call_pauses_ends_it_with_what_it_had_met() -> None:
    paused = asyncio.Event()
    retry = RetryPolicy(initial_wait=1e9, max_wait=1e9)  # the draw is hardly ever short
    async with leaving_nothing_behind(), RawServer(answering(answer(b"{}", 500)), good) as server:
        phota = PhotaClient(KEY, base_url=server.url, retry=retry, on_retry=lambda _: paused.set())
        call = asyncio.create_task(phota.enhance(PHOTO))
        await paused.wait()
        await phota.aclose()
        with pytest.raises(InternalServerError):
            await call
        assert server.connections == 1


async def test_closing_in_the_middle_of_a_batch_starts_nothing_more() -> None:
    async with leaving_nothing_behind(), RawServer(stalling_once) as server:
        phota = PhotaClient(KEY, base_url=server.url, max_concurrency=2)
        task = asyncio.create_task(phota.enhance_many([PHOTO] * 8))
        await server.stalled(2)
        closing = asyncio.create_task(phota.aclose())
        await asyncio.sleep(0)
        server.released.set()
        await closing
        batch = await task
        await phota.aclose()  # so that a failure here does not show up in the next test
        assert sum(outcome.ok for outcome in batch) == 2
        assert server.connections == 2


async def test_closing_twice_and_without_use_is_harmless() -> None:
    async with leaving_nothing_behind():
        phota = PhotaClient(KEY)
        await phota.aclose()
        await phota.aclose()


async def test_a_closed_client_may_be_used_again() -> None:
    async with leaving_nothing_behind(), RawServer(good) as server:
        phota = PhotaClient(KEY, base_url=server.url)
        for _ in range(2):
            async with phota:
                assert (await phota.enhance(PHOTO)).attempts == 1


async def test_a_cancelled_close_still_closes() -> None:
    async with leaving_nothing_behind(), RawServer(stalling_once) as server:
        phota = PhotaClient(KEY, base_url=server.url)
        call = asyncio.create_task(phota.enhance(PHOTO))
        await server.stalled()
        closing = asyncio.create_task(phota.aclose())
        for _ in range(3):
            await asyncio.sleep(0)
        await cancelled(closing)
        server.abandon()
        with pytest.raises(OutcomeUnknownError):
            await call
        await server.quiet()
        await phota.aclose()


def test_one_client_serves_one_loop_after_another() -> None:
    with Sandbox(long_edge=64) as box, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        phota = PhotaClient("key", base_url=box.url)
        photo = Path(__file__).with_name("photos") / "rocket.jpg"
        for _ in range(3):
            assert asyncio.run(phota.enhance(photo)).attempts == 1
        asyncio.run(phota.aclose())
        gc.collect()
        assert box.ledger.charged_images == 3
    assert [str(warning.message) for warning in caught if issubclass(warning.category, ResourceWarning)] == []


async def test_a_copy_shares_the_limiter_and_leaves_the_original_open() -> None:
    async with RawServer(stalling_once) as server, client(server, max_concurrency=1) as phota:
        copy = phota.with_options(api_key="other", timeout=Timeout(overall=5))
        first = asyncio.create_task(copy.enhance(PHOTO))
        await server.stalled()
        second = asyncio.create_task(phota.enhance(PHOTO))
        for _ in range(20):
            await asyncio.sleep(0)
        assert server.connections == 1
        server.released.set()
        await asyncio.gather(first, second)
        await copy.aclose()
        await phota.enhance(PHOTO)
        keys = [request.headers["X-Api-Key"] for request in server.requests]
        assert keys == ["other", KEY, KEY]


async def test_an_injected_session_stays_open_and_is_used() -> None:
    async with RawServer(good) as server, aiohttp.ClientSession(headers={"X-Mine": "1"}) as session:
        for _ in range(2):
            async with client(server, session=session) as phota:
                assert (await phota.enhance(PHOTO)).attempts == 1
            assert not session.closed
        assert all(request.headers["X-Mine"] == "1" for request in server.requests)
        assert all(request.headers["Connection"] == "close" for request in server.requests)
        assert server.connections == 2


async def test_a_connection_of_an_injected_session_is_not_used_twice() -> None:
    stray = answer(good_body(OTHER_IMAGE))

    async def generous(wire: Wire) -> None:
        """Ignore `Connection: close`, and send an answer that nobody asked for a moment later."""
        await wire.request()
        await wire.send(GOOD)
        await wire.stall()
        await wire.send(stray)
        await wire.gone()

    async with RawServer(generous) as server, aiohttp.ClientSession() as session:
        async with client(server, session=session) as phota:
            assert (await phota.enhance(PHOTO)).images[0].data == IMAGE
            server.released.set()
            await server.until(lambda: server.most_stalled == 1)
            for _ in range(10):
                await asyncio.sleep(0)
            assert (await phota.enhance(PHOTO, timeout=5)).images[0].data == IMAGE
        assert server.connections == len(server.requests) == 2


@pytest.mark.parametrize("status", [302, 307, 401, 500])
async def test_an_injected_session_that_raises_for_a_status_changes_nothing(status: int) -> None:
    script = answering(answer(b"{}", status, {"Location": "/elsewhere"}))
    retry = RetryPolicy(max_attempts=1)
    async with RawServer(script) as server, aiohttp.ClientSession(raise_for_status=True) as session:
        async with client(server, session=session, retry=retry) as phota:
            with pytest.raises(PhotaError) as caught:
                await phota.enhance(PHOTO)
        assert getattr(caught.value, "status", None) == status
        assert server.connections == 1


async def test_a_failing_hook_costs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def hook(_: object) -> None:
        raise RuntimeError("the hook is broken")

    async with RawServer(answering(answer(b"{}", 500)), good) as server, client(server, on_retry=hook) as phota:
        assert (await phota.enhance(PHOTO)).attempts == 2
    assert "on_retry" in caplog.text


async def test_outcomes_are_exactly_one_of_result_and_error() -> None:
    with pytest.raises(ValueError, match="exactly one"):
        Outcome(0, PHOTO)


async def test_a_stop_ends_a_pause_and_a_wait_for_a_slot_at_once() -> None:
    async def busy(wire: Wire) -> None:
        await wire.request()
        await wire.send(answer(b"{}", 503, {"Retry-After": "100"}))

    async with (
        RawServer(busy) as server,
        client(server, max_concurrency=2, retry=RetryPolicy()) as phota,
        leaving_nothing_behind(),
        asyncio.timeout(20),
    ):
        paused = asyncio.Event()
        told = phota.with_options(on_retry=lambda _: paused.set())
        async with told.enhance_stream([PHOTO] * 4) as outcomes:
            await paused.wait()
            outcomes.stop()
            gathered = [outcome async for outcome in outcomes]
    assert len(gathered) == 4
    assert len(server.requests) <= 2
    assert [outcome.attempted for outcome in gathered].count(True) == len(server.requests)
