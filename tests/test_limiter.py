"""The limiter: what it does with slots, its width, holds and its end. Its promises are held by test_limiter_machine.

The loop of these tests jumps: where a loop would sleep, its clock moves on at once, so that waits are exact and free.
"""

from __future__ import annotations

import asyncio
import gc
import random
import selectors
import weakref
from itertools import pairwise

import pytest
from attrs import define, field
from hypothesis import given, settings
from hypothesis import strategies as st

from phota_async.errors import ClientClosedError, OverloadedError
from phota_async.limiter import Limiter, Slot
from phota_async.width import CUT, UNUSED

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


async def waiting_for(limiter: Limiter, *, patient: bool = False, again: bool = False) -> asyncio.Task[Slot]:
    task = asyncio.create_task(limiter.acquire(patient=patient, again=again))
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


@pytest.mark.parametrize("kind", ["patient", "again"])
async def test_a_call_of_a_batch_and_one_that_was_admitted_once_are_not_sent_away(kind: str) -> None:
    limiter = Limiter(4, max_queue=1)
    await narrowed(limiter, 1)
    others = [await waiting_for(limiter, **{kind: True}) for _ in range(2)]
    last = await waiting_for(limiter)  # nor do they take the place of one who may be
    for task in (*others, last):
        limiter.release()
        await task


async def test_calls_in_their_pauses_are_under_way_too() -> None:
    limiter = Limiter(2, max_queue=1)
    pausing = [asyncio.create_task(limiter.pause(1e6)) for _ in range(2)]
    await asyncio.sleep(0)
    await limiter.acquire()
    with pytest.raises(OverloadedError, match="1 calls are in flight, and 2 wait for a slot or for their next attempt"):
        await limiter.acquire()
    for others in ({"patient": True}, {"again": True}):
        await limiter.acquire(**others)
        limiter.release()
    limiter.release()
    for task in pausing:
        task.cancel()
    await asyncio.wait(pausing)
    await limiter.acquire()


async def test_a_call_that_must_wait_counts_those_in_their_pauses_as_well() -> None:
    limiter = Limiter(2, max_queue=3)
    for _ in range(2):
        await limiter.acquire()
    pausing = [asyncio.create_task(limiter.pause(1e6)) for _ in range(2)]
    waiting = await waiting_for(limiter)
    with pytest.raises(OverloadedError, match="2 calls are in flight, and 3 wait"):
        await limiter.acquire()
    assert limiter.waiting == 1
    for task in (*pausing, waiting):
        task.cancel()
    await asyncio.wait([*pausing, waiting])
    assert limiter.in_flight == 2


async def test_who_is_sent_away_during_a_pause_is_told_of_it() -> None:
    limiter = Limiter(5, max_queue=0)
    limiter.hold(5)
    with pytest.raises(OverloadedError, match="0 calls already wait for the end of the pause that the service asked"):
        await limiter.acquire()


# ---- the width


async def narrowed(limiter: Limiter, to: int) -> Slot:
    """Have a width that was all in use cut to a number; so many stay in flight."""
    slots = [await limiter.acquire() for _ in range(int(limiter.width))]
    await asyncio.sleep(0.01)
    for _ in slots[to:]:
        limiter.refused(slots[0])
        limiter.release()
    assert limiter.in_flight == to
    assert int(limiter.width) == max(1, int(to * CUT))
    return slots[0]


async def test_a_refusal_leaves_most_of_what_was_in_flight_beside_it() -> None:
    limiter = Limiter(64)
    slots = [await limiter.acquire() for _ in range(64)]
    await asyncio.sleep(0.01)
    for slot in slots[24:]:
        limiter.refused(slot)
        limiter.release()
    assert limiter.in_flight == 24
    assert limiter.width == pytest.approx(24 * CUT)


@pytest.mark.parametrize("width", [1, 2, 3, 7, 20])
async def test_each_widths_worth_of_successes_adds_one_within_a_round_trip(width: int) -> None:
    limiter, seconds = Limiter(100), 5.0
    limiter.succeeded(Slot(now() - seconds))
    await narrowed(limiter, width)
    before = limiter.width
    assert before == pytest.approx(max(width * CUT, 1))
    for _ in range(width):
        limiter.succeeded(Slot(now() - seconds))
    assert limiter.width == before
    await asyncio.sleep(seconds)
    assert before + 0.7 <= limiter.width <= before + 1.1


async def test_successes_widen_at_a_random_moment_so_that_clients_in_step_do_not_ask_at_once() -> None:
    moments: list[float] = []
    for _ in range(200):
        limiter = Limiter(3)
        await narrowed(limiter, 1)
        begun = now()
        first, second = await waiting_for(limiter), await waiting_for(limiter)
        limiter.release()
        limiter.succeeded(Slot(now() - 10))
        await first
        moments.append((await second).begun - begun)
    assert max(moments) <= 10
    assert all(any(start < moment <= start + 2.5 for moment in moments) for start in (0, 2.5, 5, 7.5))


async def test_successes_never_widen_beyond_the_greatest_width() -> None:
    limiter = Limiter(3)
    await narrowed(limiter, 2)
    for _ in range(50):
        limiter.succeeded(Slot(now() - 1))
        await asyncio.sleep(1)
    assert limiter.width == 3.0


async def test_at_its_greatest_width_nothing_is_scheduled() -> None:
    limiter, others = Limiter(3), asyncio.all_tasks()
    limiter.succeeded(Slot(now() - 1))
    begun = now()
    await limiter.drain()
    assert (now(), asyncio.all_tasks()) == (begun, others)


@FUZZ
@given(st.integers(1, 70), st.lists(st.tuples(st.booleans(), st.integers(1, 40)), max_size=30))
async def test_no_success_adds_more_than_one_and_the_width_keeps_to_its_bounds(
    greatest: int, course: list[tuple[bool, int]]
) -> None:
    limiter = Limiter(greatest)
    for good, times in course:
        slot, start = await limiter.acquire(), limiter.width
        await asyncio.sleep(1)
        for _ in range(times):
            (limiter.succeeded if good else limiter.refused)(slot)
        await asyncio.sleep(1)
        assert 1 <= limiter.width <= greatest
        if good:
            assert start <= limiter.width <= start + times
        else:
            assert (1 if start < 3 else start * UNUSED) <= limiter.width <= start
        limiter.release()


async def test_one_refusal_of_a_width_that_was_not_in_use_leaves_most_of_it() -> None:
    limiter = Limiter(64)
    slots = [await limiter.acquire() for _ in range(20)]
    await asyncio.sleep(1)
    for slot in slots[15:]:  # five at once: they tell the same
        limiter.refused(slot)
        limiter.release()
    assert limiter.width == pytest.approx(64 * UNUSED)


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
    random.seed(seed)  # the limiter's own chance as well

    async def attempt() -> bool:
        slot = await limiter.acquire(patient=True)
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
    assert await makespan(service, 300, 64, seed) <= 1.3 * 14.5
    assert service.requests <= 1.35 * 300


async def test_a_narrowed_limiter_starts_nothing_until_enough_have_landed() -> None:
    limiter = Limiter(4)
    slots = [await limiter.acquire() for _ in range(4)]
    waiting = await waiting_for(limiter)
    await asyncio.sleep(1)
    limiter.refused(slots[0])  # 2.91 wide
    for _ in range(2):
        limiter.release()
        await settle()
        assert not waiting.done()
    limiter.release()
    await waiting
    assert limiter.in_flight == 2


async def test_what_the_width_grows_by_is_had_without_another_success() -> None:
    limiter = Limiter(2)
    slot = await narrowed(limiter, 1)
    first, second = await waiting_for(limiter), await waiting_for(limiter)
    await asyncio.sleep(1)
    # In the order in which a call does it: the slot is given back, then its success is told.
    limiter.release()
    limiter.succeeded(slot)
    await settle()
    assert first.done()
    assert not second.done()
    await second
    assert limiter.width == 2.0
    assert now() <= slot.begun + 2


async def test_what_the_width_grows_by_goes_to_a_first_attempt_and_a_slot_given_back_to_who_came_first() -> None:
    limiter = Limiter(4)
    limiter.succeeded(Slot(now() - 1))
    await narrowed(limiter, 1)
    again = [await waiting_for(limiter, patient=True, again=True) for _ in range(2)]
    fresh = await waiting_for(limiter)
    limiter.succeeded(Slot(now() - 1))
    await asyncio.sleep(1)
    assert int(limiter.width) == 2
    assert [task.done() for task in (*again, fresh)] == [False, False, True]
    limiter.release()
    await settle()
    assert [task.done() for task in again] == [True, False]
    limiter.succeeded(Slot(now() - 1))
    limiter.succeeded(Slot(now() - 1))
    await again[1]  # nobody else is left to try it


# ---- who has nothing in flight


async def test_who_is_refused_with_nothing_else_in_flight_asks_in_growing_intervals() -> None:
    limiter, begun = Limiter(64), now()
    starts: list[float] = []
    while now() < begun + 300:
        starts.append((await limiter.acquire(patient=True)).begun - begun)
        limiter.refused(Slot(now()))
        limiter.release()
    pauses = [later - earlier for earlier, later in pairwise(starts)]
    assert 0.05 <= min(pauses) <= pauses[0] <= 0.1
    for start, pause in zip(starts, pauses, strict=False):
        assert pause <= max(0.1, min(start / 3, 15.0)) + 1e-9
        assert pause >= max(0.1, min(start / 3, 15.0)) / 2 - 1e-9
    assert max(pauses) > 12
    assert len(starts) < 70


async def test_who_is_refused_with_nothing_else_in_flight_asks_thrice_in_the_time_of_a_success_or_more() -> None:
    limiter, starts = Limiter(64), list[float]()
    limiter.succeeded(Slot(now() - 6.0))
    for _ in range(60):
        starts.append((await limiter.acquire(patient=True)).begun)
        limiter.refused(Slot(now()))
        limiter.release()
    assert 1.0 <= max(later - earlier for earlier, later in pairwise(starts)) <= 2.0
    await limiter.acquire(patient=True)
    limiter.succeeded(Slot(now() - 6.0))
    limiter.refused(Slot(now()))  # a success has been in between: it begins again
    limiter.release()
    begun = now()
    await limiter.acquire(patient=True)
    assert now() <= begun + 0.1


async def test_a_refusal_long_ago_holds_nothing_back_any_more() -> None:
    limiter = Limiter(64)
    for hour in range(1, 4):
        await limiter.acquire(patient=True)
        limiter.refused(Slot(now()))
        limiter.release()
        begun = now()
        await limiter.acquire(patient=True)
        assert now() <= begun + 0.1
        limiter.release()
        await asyncio.sleep(hour * 3600)


async def test_a_call_that_somebody_waits_for_is_not_held_back() -> None:
    limiter, begun = Limiter(64, max_queue=0), now()
    while now() < begun + 60:
        await limiter.acquire(patient=True)
        limiter.refused(Slot(now()))
        limiter.release()
    begun = now()
    batch = await waiting_for(limiter, patient=True)
    assert (await limiter.acquire()).begun == begun
    assert not batch.done()
    limiter.hold(1)  # but this one is the service's own
    single = await waiting_for(limiter, again=True)
    limiter.release()
    assert (await single).begun == pytest.approx(begun + 1)
    limiter.release()
    await batch
    assert now() > begun + 5


async def test_a_success_shortens_what_batches_are_held_for() -> None:
    limiter, begun = Limiter(64), now()
    while now() < begun + 60:
        await limiter.acquire(patient=True)
        limiter.refused(Slot(now()))
        limiter.release()
    begun, batch = now(), await waiting_for(limiter, patient=True)
    slot = await limiter.acquire()
    await asyncio.sleep(0.3)
    limiter.release()
    limiter.succeeded(slot)
    assert (await batch).begun <= begun + 0.3 + 0.1


def test_whoever_comes_at_the_very_end_of_a_hold_does_not_wait_for_ever() -> None:
    class Ticking(JumpingLoop):
        """Whose clock goes on with each look at it, as a real one does."""

        def time(self) -> float:
            self.now += 1e-7
            return self.now

    async def come(early: float) -> None:
        limiter = Limiter(1)
        limiter.hold(1.0)
        loop.now += 1.0 - early
        async with asyncio.timeout(5):
            await limiter.acquire()

    loop = Ticking()
    try:
        for step in range(40):
            loop.run_until_complete(come(step * 5e-8))
    finally:
        loop.close()


async def test_a_call_of_a_batch_that_comes_back_is_passed_a_few_times_at_most() -> None:
    limiter = Limiter(1)
    limiter.hold(1)
    again = await waiting_for(limiter, patient=True, again=True)
    fresh = [await waiting_for(limiter, patient=True) for _ in range(20)]
    while not again.done():
        await asyncio.sleep(1)
        await settle()
        limiter.hold(1)
        limiter.release()
    assert sum(task.done() for task in fresh) == 8
    for task in fresh[8:]:
        await task
        limiter.release()


async def test_a_single_call_that_comes_back_is_not_passed() -> None:
    limiter = Limiter(1)
    limiter.hold(1)
    again = await waiting_for(limiter, again=True)
    fresh = await waiting_for(limiter)
    await again
    assert not fresh.done()
    limiter.release()
    await fresh


async def test_who_is_refused_beside_others_holds_nothing_back() -> None:
    limiter = Limiter(4)
    await narrowed(limiter, 3)
    begun = now()
    for _ in range(2):
        limiter.release()
    assert (await limiter.acquire(patient=True)).begun == begun


async def test_the_first_start_after_a_hold_goes_to_a_first_attempt() -> None:
    limiter = Limiter(1)
    limiter.hold(5)
    again = await waiting_for(limiter, patient=True, again=True)
    fresh = await waiting_for(limiter)
    await fresh
    assert not again.done()
    limiter.release()
    await again


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


async def test_a_limiter_that_is_drained_while_it_is_held_leaves_nothing_on_the_loop() -> None:
    limiter = Limiter(2)
    limiter.hold(1000)
    waiting, gone = await waiting_for(limiter), weakref.ref(limiter)
    waiting.cancel()
    await settle()
    await limiter.drain()
    del limiter, waiting
    gc.collect()
    assert gone() is None


async def test_an_earlier_end_of_a_hold_rings_before_a_later_one() -> None:
    limiter, begun = Limiter(4), now()
    limiter.succeeded(Slot(now() - 30))
    while now() < begun + 20:
        await limiter.acquire(patient=True)
        limiter.refused(Slot(now()))
        limiter.release()
    begun, batch = now(), await waiting_for(limiter, patient=True)  # its alarm is set
    limiter.hold(0.5)
    single = await waiting_for(limiter)
    assert (await single).begun == pytest.approx(begun + 0.5)
    limiter.release()
    assert (await batch).begun > begun + 1


async def test_a_drained_limiter_leaves_nothing_on_the_loop() -> None:
    limiter = Limiter(2)
    slot = await narrowed(limiter, 1)
    gone = weakref.ref(limiter)
    await asyncio.sleep(1)
    limiter.release()
    limiter.succeeded(slot)
    await limiter.drain()
    del limiter
    gc.collect()
    assert gone() is None


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
