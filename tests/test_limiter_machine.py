"""The limiter as a state machine: never over its width, first come first served, nobody starves, it always recovers.

Calls of a batch that come back after a failed attempt may be passed by those who make their first, and calls of a batch
that are held back by any single call; nothing else passes anything.

Each rule is one thing that can happen; several may happen before the loop gets a turn, as in a task that does them in
a row. Time is the jumping loop's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from attrs import define
from examples import examples
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,  # pyright: ignore[reportUnknownVariableType]  (as shipped)
)
from test_limiter import JumpingLoop, settle

from phota_async.errors import ClientClosedError, OverloadedError
from phota_async.limiter import Limiter, Slot
from phota_async.width import CUT, YIELD

WHICH = st.integers(0, 2**16)


@define(eq=False)
class Caller:
    """One who asked for a slot."""

    task: asyncio.Task[Slot]
    patient: bool
    again: bool

    @property
    def bounded(self) -> bool:
        return not (self.patient or self.again)


class LimiterMachine(RuleBasedStateMachine):
    """What is known of a limiter from outside."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = JumpingLoop()
        self.waiting: list[Caller] = []
        self.holding: list[Slot] = []
        self.held_until = float("-inf")
        self.batches_held_until = self.batches_held_at_most = float("-inf")  # chance decides in between
        self.batches_may_be_passed_until = self.looked_at = float("-inf")
        self.starved: tuple[float, float] | None = None
        self.quickest: float | None = None
        self.drain: asyncio.Task[None] | None = None
        self.settled = True

    @initialize(greatest=st.integers(1, 6), max_queue=st.none() | st.integers(0, 3))
    def begin(self, greatest: int, max_queue: int | None) -> None:
        async def made() -> Limiter:
            return Limiter(greatest, max_queue)

        self.limiter = self.loop.run_until_complete(made())
        self.greatest, self.max_queue = greatest, max_queue

    # ---- what happens

    @rule(patient=st.booleans(), again=st.booleans(), several=st.integers(1, 4), at_once=st.booleans())
    def come(self, *, patient: bool, again: bool = False, several: int = 1, at_once: bool = False) -> None:
        for _ in range(several):
            task = self.loop.create_task(self.limiter.acquire(patient=patient, again=again))
            self.waiting.append(Caller(task, patient, again))
        self.settled = False
        if at_once:
            self.turn()

    @precondition(lambda self: self.holding)
    @rule(which=WHICH)
    def succeed(self, which: int) -> None:
        slot = self.left(which)
        before = self.limiter.width
        self.granting(lambda: self.limiter.succeeded(slot))
        assert self.limiter.width == before  # it grows later
        self.starved = None
        took = self.loop.time() - slot.begun
        self.quickest = took if self.quickest is None else min(took, self.quickest)
        soon = self.loop.time() + self.quickest / 3
        self.batches_held_until = min(self.batches_held_until, soon)
        self.batches_held_at_most = min(self.batches_held_at_most, soon)

    @precondition(lambda self: self.holding)
    @rule(which=WHICH)
    def be_refused(self, which: int) -> None:
        slot = self.holding[which % len(self.holding)]
        others, before = self.limiter.in_flight - 1, self.limiter.width
        self.granting(lambda: self.limiter.refused(slot))
        most, least = (max(1.0, min(before, others * left)) for left in (CUT, YIELD))
        if others + 1 < int(before):  # it was not all in use, unless somebody waited
            most = before
        assert least <= self.limiter.width <= most
        if not others:
            self.back_off()
        self.left(which)

    @precondition(lambda self: self.holding)
    @rule(which=WHICH)
    def fail(self, which: int) -> None:
        self.left(which)

    @precondition(lambda self: self.waiting)
    @rule(which=WHICH)
    def cancel(self, which: int) -> None:
        self.waiting[which % len(self.waiting)].task.cancel()
        self.settled = False

    @precondition(lambda self: self.waiting and self.holding)
    @rule(which=WHICH)
    def cancel_who_is_granted_a_slot(self, which: int) -> None:
        self.left(which)
        self.waiting[0].task.cancel()
        self.settled = False

    @rule(seconds=st.sampled_from([0.0, 0.5, 2.0, 7.0]))
    def hold(self, seconds: float) -> None:
        self.limiter.hold(seconds)
        self.held_until = max(self.held_until, self.loop.time() + seconds)

    @rule(seconds=st.sampled_from([0.0, 0.1, 1.0, 5.0]))
    def pass_time(self, seconds: float) -> None:
        self.turn()
        waiting = len(self.waiting)
        self.loop.run_until_complete(asyncio.sleep(seconds))
        self.turn()
        for slot in self.holding[len(self.holding) - waiting + len(self.waiting) :]:
            assert slot.begun >= self.held_until  # nothing but the end of a hold lets anybody in meanwhile

    @rule(seconds=st.sampled_from([0.1, 1.0, 5.0]))
    def hold_the_loop_up(self, seconds: float) -> None:
        """Let time pass without a turn, as a callback that takes long does: no alarm has rung when others come."""
        self.loop.now += seconds
        self.settled = False

    @precondition(lambda self: self.drain is None)
    @rule(chance=st.integers(0, 19))
    def close(self, chance: int) -> None:
        if chance < 19:  # it happens once, and little can happen after it
            return
        self.turn()
        self.drain = self.loop.create_task(self.limiter.drain())
        self.turn()
        assert not self.waiting

    @precondition(lambda self: not self.settled)
    @rule()
    def turn(self) -> None:
        """Let the loop run until nothing happens any more, and see who got what."""
        before = self.limiter.in_flight
        self.loop.run_until_complete(settle())
        self.check_grants(before)
        self.take_slots()
        self.settled, self.looked_at = True, self.loop.time()
        assert self.limiter.in_flight == len(self.holding)
        assert self.limiter.waiting == len(self.waiting)
        if self.waiting:  # nobody waits where there is room
            held = self.loop.time() < self.held_until
            batches_held = self.loop.time() < self.batches_held_at_most
            all_held = held or (batches_held and all(caller.patient for caller in self.waiting))
            assert all_held or len(self.holding) >= int(self.limiter.width)
        if self.max_queue is not None:
            assert sum(caller.bounded for caller in self.waiting) <= self.max_queue
        if self.drain is not None:
            assert self.drain.done() == (not self.holding)

    # ---- what always holds

    @invariant()
    def width_is_within_its_bounds(self) -> None:
        assert 1 <= self.limiter.width <= self.greatest
        assert self.limiter.in_flight >= 0
        assert self.limiter.quickest == self.quickest

    def back_off(self) -> None:
        """Who is refused with nothing else in flight asks again in a third of the time it has had nothing, or less."""
        now = self.loop.time()
        longest = 15.0 if self.quickest is None else self.quickest / 3
        since, last = self.starved or (now, now)
        self.starved = (since if now - last <= 2 * longest else now), now
        seconds = min(max((now - self.starved[0]) / 3, 0.1), longest)
        self.batches_held_until = max(self.batches_held_until, now + seconds / 2)
        self.batches_held_at_most = max(self.batches_held_at_most, now + seconds)
        self.batches_may_be_passed_until = max(self.batches_may_be_passed_until, now + seconds)

    def left(self, which: int) -> Slot:
        """Give a slot back."""
        slot = self.holding.pop(which % len(self.holding))
        self.granting(self.limiter.release, given_back=1)
        self.settled = False
        return slot

    def granting(self, act: Callable[[], None], given_back: int = 0) -> None:
        before = self.limiter.in_flight - given_back
        act()
        self.check_grants(before)

    def check_grants(self, before: int) -> None:
        if self.limiter.in_flight > before:
            assert self.limiter.in_flight <= int(self.limiter.width)
            assert self.loop.time() >= self.held_until

    def take_slots(self) -> None:
        """Sort out who got a slot, who was sent away, and who still waits."""
        still: list[Caller] = []
        for place, caller in enumerate(self.waiting):
            if not caller.task.done():
                still.append(caller)
            elif not caller.task.cancelled():
                self.see(caller, self.waiting[:place], still)
        self.waiting = still

    def see(self, caller: Caller, earlier: list[Caller], still: list[Caller]) -> None:
        match caller.task.exception():
            case None:
                assert all(self.may_pass(caller, other) for other in still)
                assert not caller.patient or caller.task.result().begun >= self.batches_held_until
                self.holding.append(caller.task.result())
            case ClientClosedError():
                assert self.drain is not None
            case OverloadedError():
                assert caller.bounded
                assert self.max_queue is not None
                queue_is_full = sum(other.bounded for other in earlier) >= self.max_queue
                under_way = len(self.holding) + sum(not other.patient for other in earlier)
                assert queue_is_full or under_way >= self.greatest + self.max_queue
            case error:
                raise AssertionError from error

    def may_pass(self, caller: Caller, other: Caller) -> bool:
        """Whether one may get a slot before another who came before."""
        held_back = self.looked_at < self.batches_may_be_passed_until and not caller.patient
        return other.patient and (held_back or (other.again and not caller.again))

    # ---- how it ends

    def teardown(self) -> None:
        if hasattr(self, "limiter"):
            self.turn()
            self.everybody_gets_a_turn()
            if self.drain is None:
                self.width_comes_back()
            assert (self.limiter.in_flight, self.limiter.waiting) == (0, 0)
        self.loop.close()

    def everybody_gets_a_turn(self) -> None:
        for _ in range(2 * len(self.waiting) + len(self.holding) + 4):
            while self.holding:
                self.left(0)
            self.pass_time(7.0)
        assert not self.waiting
        assert not self.holding

    def width_comes_back(self) -> None:
        """See that successes bring the full width back, and how many they may be at most: one widens by one nth."""
        self.pass_time(15.0)
        for _ in range(self.greatest * (self.greatest + 1) // 2 + 1):
            self.come(patient=True)
            self.pass_time(7.0)
            self.succeed(0)
        self.pass_time(7.0)
        assert self.limiter.width == self.greatest
        for _ in range(self.greatest):
            self.come(patient=True)
        self.turn()
        assert len(self.holding) == self.greatest
        while self.holding:
            self.left(0)


def test_no_interleaving_breaks_what_the_limiter_promises() -> None:
    run_state_machine_as_test(LimiterMachine, settings=examples(150, steps=40))
