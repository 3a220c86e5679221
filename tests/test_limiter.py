"""The limiter: what it does with slots, its width, holds and its end. Its promises are held by test_limiter_machine.

The loop of these tests jumps: where a loop would sleep, its clock moves on at once, so that waits are exact and free.
"""

from __future__ import annotations

import asyncio
import gc
import random
import selectors

import pytest
from attrs import define, field
from hypothesis import given, settings
from hypothesis import strategies as st

from phota_async.errors import ClientClosedError, OverloadedError
from phota_async.limiter import CUT, Limiter, Slot

FUZZ = settings(derandomize=True, deadline=None, max_examples=150)


class JumpingLoop(asyncio.SelectorEventLoop):
    """A loop whose clock stands still while anything runs and jumps where it would have slept."""

    def __init__(self) -> None:
        self.now = 1000.0
        super().__init__(_JumpingSelector(self))

    def time(self) -> float:
        return self.now


class _JumpingSelector(selectors.SelectSelector):
    def __init__(self, loop: JumpingLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is not None and timeout > 0:
            self._loop.now += timeout
            timeout = 0
        return super().select(timeout)


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "asyncio", {"loop_factory": JumpingLoop}


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def now() -> float:
    return asyncio.get_running_loop().time()


async def waiting_for(limiter: Limiter) -> asyncio.Task[Slot]:
    task = asyncio.create_task(limiter.acquire())
    await settle()
    return task


# ---- slots


async def test_calls_get_slots_up_to_the_width_and_the_rest_in_the_order_they_came() -> None:
    limiter, order = Limiter(2), list[int]()

    async def call(number: int) -> None:
        await limiter.acquire()
        order.append(number)
        await asyncio.sleep(1)
        limiter.release()

    async with asyncio.TaskGroup() as group:
        for number in range(9):
            group.create_task(call(number))
            await settle()
        assert (limiter.in_flight, limiter.waiting, order) == (2, 7, [0, 1])
    assert order == list(range(9))
    assert (limiter.in_flight, limiter.waiting) == (0, 0)


async def test_a_newcomer_does_not_pass_one_who_waits() -> None:
    limiter = Limiter(1)
    await limiter.acquire()
    first = await waiting_for(limiter)
    limiter.release()
    second = asyncio.create_task(limiter.acquire())
    await settle()
    assert first.done()
    assert not second.done()
    limiter.release()
    await second


async def test_a_newcomer_does_not_pass_one_whose_hold_has_just_ended() -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, JumpingLoop)
    limiter = Limiter(1)
    limiter.hold(5)
    first = await waiting_for(limiter)
    loop.now += 6  # the hold is over, and its alarm has not rung yet
    second = asyncio.create_task(limiter.acquire())
    await settle()
    assert first.done()
    assert not second.done()
    limiter.release()
    await second


async def test_a_slot_begins_when_it_is_had() -> None:
    limiter, begun = Limiter(1), now()
    assert (await limiter.acquire()).begun == begun
    waiting = await waiting_for(limiter)
    await asyncio.sleep(7)
    limiter.release()
    assert (await waiting).begun == pytest.approx(begun + 7)


@pytest.mark.parametrize("granted", [False, True])
async def test_a_waiter_that_is_cancelled_leaks_nothing(granted: bool) -> None:  # noqa: FBT001
    limiter = Limiter(1)
    await limiter.acquire()
    first, second = await waiting_for(limiter), await waiting_for(limiter)
    if granted:
        limiter.release()
    first.cancel()
    if not granted:
        limiter.release()
    with pytest.raises(asyncio.CancelledError):
        await first
    await second
    assert (limiter.in_flight, limiter.waiting) == (1, 0)
    limiter.release()
    assert limiter.in_flight == 0


async def test_a_cancelled_waiter_gives_its_place_in_the_queue_to_others_at_once() -> None:
    limiter = Limiter(1, max_queue=1)
    await limiter.acquire()
    first = await waiting_for(limiter)
    first.cancel()
    await settle()
    second = await waiting_for(limiter)
    limiter.release()
    await second


# ---- the queue's bound


@pytest.mark.parametrize("max_queue", [0, 1, 3])
async def test_more_waiters_than_the_queue_holds_are_sent_away_at_once(max_queue: int) -> None:
    limiter = Limiter(1, max_queue)
    await limiter.acquire()
    waiting = [await waiting_for(limiter) for _ in range(max_queue)]
    with pytest.raises(OverloadedError, match=f"{max_queue} calls already wait for one of 1 slots") as caught:
        await limiter.acquire()
    assert not caught.value.maybe_charged
    for task in waiting:
        limiter.release()
        await task


async def test_a_call_that_was_admitted_once_is_not_sent_away_later() -> None:
    limiter = Limiter(1, max_queue=0)
    await limiter.acquire()
    again = asyncio.create_task(limiter.acquire(bounded=False))
    await settle()
    limiter.release()
    await again


# ---- the width


async def test_a_refusal_cuts_the_width_once_for_each_round_trip() -> None:
    limiter = Limiter(10)
    together = [await limiter.acquire() for _ in range(5)]
    await asyncio.sleep(1)
    for slot in together:
        limiter.refused(slot)
        await asyncio.sleep(0.1)
    assert limiter.width == pytest.approx(10 * CUT)
    later = await limiter.acquire()
    await asyncio.sleep(1)
    limiter.refused(later)
    assert limiter.width == pytest.approx(10 * CUT**2)


async def test_the_width_never_falls_below_one() -> None:
    limiter = Limiter(3)
    for _ in range(20):
        slot = await limiter.acquire()
        await asyncio.sleep(1)
        limiter.refused(slot)
        limiter.release()
    assert limiter.width == 1.0
    await limiter.acquire()


@pytest.mark.parametrize("width", [1, 2, 3, 7, 20])
async def test_each_widths_worth_of_successes_adds_one(width: int) -> None:
    limiter = Limiter(100)
    limiter.width = float(width)
    for done in range(1, width + 1):
        limiter.succeeded(Slot(now()))
        assert limiter.width <= width + done / width + 1e-9
    limiter.succeeded(Slot(now()))  # the width grows on the way, and a width's worth with it
    assert width + 1 <= limiter.width < width + 2.1


async def test_successes_never_widen_beyond_the_greatest_width() -> None:
    limiter = Limiter(3)
    for _ in range(50):
        limiter.succeeded(Slot(now()))
    assert limiter.width == 3.0


async def test_what_was_borne_beside_a_refused_call_is_had_again_by_one_for_each_success() -> None:
    limiter = Limiter(100)
    limiter.width = 25.0
    slots = [await limiter.acquire() for _ in range(25)]
    limiter.refused(slots[0])
    limiter.release()
    widths = [limiter.width]
    for slot in slots[1:9]:
        limiter.release()
        limiter.succeeded(slot)
        widths.append(limiter.width)
    assert widths[:8] == pytest.approx([17.5, 18.5, 19.5, 20.5, 21.5, 22.5, 23.5, 24.0])
    assert widths[8] == pytest.approx(24 + 1 / 24)  # nobody knows yet whether there is more


async def test_of_a_burst_that_is_refused_the_last_one_tells_how_much_was_borne() -> None:
    limiter = Limiter(64)
    slots = [await limiter.acquire() for _ in range(64)]
    await asyncio.sleep(0.01)
    for slot in slots[24:]:
        limiter.refused(slot)
        limiter.release()
    assert limiter.width == pytest.approx(64 * CUT)
    assert limiter.in_flight == 24
    for slot in slots[:3]:  # 24 were borne, and the width is more than that: it grows as ever
        width = limiter.width
        limiter.succeeded(slot)
        assert limiter.width == pytest.approx(width + 1 / width)
    limiter.width = 5.0
    limiter.succeeded(slots[3])
    assert limiter.width == 6.0
    limiter.width = 23.5
    limiter.succeeded(slots[4])
    assert limiter.width == 24.0


async def test_each_further_widths_worth_without_a_refusal_adds_one_more_than_the_one_before() -> None:
    limiter, widths = Limiter(1000), list[int]()
    limiter.width = 100.0
    slot = await limiter.acquire()
    for _ in range(2):
        limiter.refused(slot)
        await asyncio.sleep(1)
        slot = Slot(now())
        limiter.width = 100.0
        for _ in range(4):
            worth = 0.0
            while worth < 1 - 1e-9:
                worth += 1 / limiter.width
                limiter.succeeded(slot)
            widths.append(round(limiter.width))
    assert widths == [101, 103, 106, 110] * 2


@FUZZ
@given(st.integers(1, 70), st.lists(st.tuples(st.booleans(), st.integers(1, 40)), max_size=30))
async def test_no_success_adds_more_than_one_and_no_refusal_takes_more_than_the_cut(
    greatest: int, course: list[tuple[bool, int]]
) -> None:
    limiter = Limiter(greatest)
    for good, times in course:
        slot, start = await limiter.acquire(), limiter.width
        await asyncio.sleep(1)
        for _ in range(times):
            before = limiter.width
            (limiter.succeeded if good else limiter.refused)(slot)
            assert 1 <= limiter.width <= greatest
            assert not good or before <= limiter.width <= before + 1
        assert good or limiter.width == pytest.approx(max(start * CUT, 1))  # one round trip
        limiter.release()


@define
class Service:
    """One whose room changes with time, and who refuses the rest at once."""

    rooms: list[tuple[float, int]]  # from when on, and how many
    seconds: float = 1.0
    begun: float = field(factory=now)
    working: int = 0
    requests: int = 0

    async def accepts(self) -> bool:
        self.requests += 1
        await asyncio.sleep(0.005)
        if self.working >= next(room for begin, room in reversed(self.rooms) if now() - self.begun >= begin):
            return False
        self.working += 1
        await asyncio.sleep(self.seconds)
        self.working -= 1
        return True


async def makespan(service: Service, calls: int, greatest: int, seed: int) -> float:
    limiter, left, chance = Limiter(greatest), iter(range(calls)), random.Random(seed)  # noqa: S311  (the same each time)

    async def attempt() -> bool:
        slot = await limiter.acquire()
        good = await service.accepts()
        if not good:
            limiter.refused(slot)
        limiter.release()
        if good:
            limiter.succeeded(slot)
        return good

    async def work() -> None:
        for _ in left:
            pause = 1.0
            while not await attempt():
                await asyncio.sleep(chance.uniform(0, pause))
                pause = min(2 * pause, 30)

    async with asyncio.TaskGroup() as group:
        for _ in range(greatest):
            group.create_task(work())
    return now() - service.begun


@pytest.mark.parametrize("seconds", [1.0, 55.0])
@pytest.mark.parametrize("seed", range(3))
async def test_a_service_with_less_room_than_asked_for_is_kept_busy_with_few_refusals(
    seed: int, seconds: float
) -> None:
    service = Service([(0, 24)], seconds)
    assert await makespan(service, 300, 64, seed) <= 1.1 * 300 / 24 * seconds
    assert service.requests <= 1.25 * 300


@pytest.mark.parametrize("seed", range(3))
async def test_room_that_comes_back_is_soon_in_use(seed: int) -> None:
    service = Service([(0, 24), (4, 12), (8, 24)])
    assert await makespan(service, 300, 64, seed) <= 1.2 * 14.5
    assert service.requests <= 1.35 * 300


async def test_a_narrowed_limiter_starts_nothing_until_enough_have_landed() -> None:
    limiter = Limiter(4)
    slots = [await limiter.acquire() for _ in range(4)]
    waiting = await waiting_for(limiter)
    await asyncio.sleep(1)
    limiter.refused(slots[0])  # 2.8 wide
    for _ in range(2):
        limiter.release()
        await settle()
        assert not waiting.done()
    limiter.release()
    await waiting
    assert limiter.in_flight == 2


async def test_a_success_that_widens_lets_the_next_waiter_in_at_once() -> None:
    limiter = Limiter(2)
    limiter.width = 1.0
    slot = await limiter.acquire()
    first, second = await waiting_for(limiter), await waiting_for(limiter)
    # In the order in which a call does it: the slot is given back, then its success is told.
    limiter.release()
    limiter.succeeded(slot)
    await settle()
    assert limiter.width == 2.0
    assert first.done()
    assert second.done()


async def test_the_quickest_success_is_remembered() -> None:
    limiter = Limiter(1)
    assert limiter.quickest is None
    for seconds in (5.0, 3.0, 4.0):
        slot = Slot(now())
        await asyncio.sleep(seconds)
        limiter.succeeded(slot)
    assert limiter.quickest == pytest.approx(3.0)


# ---- holding


async def test_a_hold_keeps_every_new_start_back_for_its_time() -> None:
    limiter, begun = Limiter(3), now()
    limiter.hold(5)
    slots = await asyncio.gather(*[limiter.acquire() for _ in range(3)])
    assert [slot.begun for slot in slots] == pytest.approx([begun + 5] * 3)


async def test_a_longer_hold_extends_and_a_shorter_one_does_not() -> None:
    limiter, begun = Limiter(1), now()
    limiter.hold(5)
    waiting = await waiting_for(limiter)
    limiter.hold(9)
    limiter.hold(2)
    assert (await waiting).begun == pytest.approx(begun + 9)


async def test_a_release_during_a_hold_starts_nothing_early() -> None:
    limiter, begun = Limiter(1), now()
    await limiter.acquire()
    waiting = await waiting_for(limiter)
    limiter.hold(5)
    limiter.release()
    assert (await waiting).begun == pytest.approx(begun + 5)


async def test_a_hold_that_has_passed_costs_nothing() -> None:
    limiter = Limiter(1)
    limiter.hold(5)
    await asyncio.sleep(6)
    assert (await limiter.acquire()).begun == pytest.approx(now())


async def test_the_head_of_a_held_queue_may_leave_it() -> None:
    limiter, begun = Limiter(1), now()
    limiter.hold(5)
    first, second = await waiting_for(limiter), await waiting_for(limiter)
    first.cancel()
    assert (await second).begun == pytest.approx(begun + 5)
    assert limiter.in_flight == 1


# ---- the end


async def test_draining_an_idle_limiter_returns_at_once() -> None:
    await Limiter(1).drain()


async def test_nothing_starts_on_a_drained_limiter() -> None:
    limiter = Limiter(1)
    await limiter.drain()
    with pytest.raises(RuntimeError, match="client was closed"):
        await limiter.acquire()
    assert limiter.in_flight == 0


async def test_drain_sends_waiters_away_and_waits_for_what_is_in_flight() -> None:
    limiter, begun = Limiter(2), now()
    for _ in range(2):
        await limiter.acquire()
    waiting = await waiting_for(limiter)
    for seconds in (3, 8):
        asyncio.get_running_loop().call_later(seconds, limiter.release)
    await limiter.drain()
    assert now() == pytest.approx(begun + 8)
    with pytest.raises(RuntimeError, match="client was closed while this call waited"):
        await waiting
    assert (limiter.in_flight, limiter.waiting) == (0, 0)


async def test_drain_sends_away_those_whom_a_hold_keeps_back() -> None:
    limiter, begun = Limiter(1), now()
    limiter.hold(60)
    waiting, given_up = await waiting_for(limiter), await waiting_for(limiter)
    given_up.cancel()
    await limiter.drain()
    with pytest.raises(RuntimeError):
        await waiting
    with pytest.raises(asyncio.CancelledError):
        await given_up
    assert now() == begun


async def test_a_waiter_cancelled_while_the_limiter_drains_is_cancelled() -> None:
    limiter = Limiter(1)
    await limiter.acquire()
    waiting, other = await waiting_for(limiter), await waiting_for(limiter)
    other.cancel()
    draining = asyncio.create_task(limiter.drain())
    await asyncio.sleep(0)
    waiting.cancel()
    limiter.release()
    await draining
    with pytest.raises((asyncio.CancelledError, RuntimeError)):
        await waiting
    with pytest.raises(asyncio.CancelledError):
        await other
    assert limiter.in_flight == 0
    del waiting, other
    gc.collect()  # an exception that nobody fetched would be reported here


async def test_two_who_drain_both_return() -> None:
    limiter = Limiter(1)
    await limiter.acquire()
    limiter.hold(60)
    waiting = await waiting_for(limiter)
    both = [asyncio.create_task(limiter.drain()) for _ in range(2)]
    await settle()
    limiter.release()
    await settle()
    assert [task.done() for task in both] == [True, True]
    await asyncio.gather(*both)
    with pytest.raises(RuntimeError, match="client was closed"):
        await waiting


# ---- pauses


async def test_a_pause_takes_the_time_it_was_asked_for() -> None:
    limiter, begun = Limiter(1), now()
    await limiter.pause(7)
    assert now() == pytest.approx(begun + 7)
    await limiter.pause(0)
    assert now() == pytest.approx(begun + 7)


async def test_a_drain_ends_a_pause_at_once_and_no_other_begins() -> None:
    limiter, begun = Limiter(1), now()
    pausing = asyncio.create_task(limiter.pause(1e6))
    await settle()
    await limiter.drain()
    for pause in (pausing, limiter.pause(5)):
        with pytest.raises(ClientClosedError, match="the client was closed"):
            await pause
    assert now() == begun
