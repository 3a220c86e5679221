"""The rules of a folder run as plain values: what a photo is due, what may be spent, what is said."""

from __future__ import annotations

import asyncio
import json
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phota_async import Price
from phota_async.batch import Gate, NotStartedError
from phota_async.folder.brake import Brake
from phota_async.folder.budget import Budget
from phota_async.folder.rules import Action, Again, action, stop_message
from phota_async.folder.tally import Tally
from phota_async.journal import Item
from phota_async.models import EnhanceOptions
from phota_async.records import FolderEvent, StopCause

FUZZ = settings(derandomize=True, deadline=None, max_examples=150)
CENT = 1e-9


def item(state: str, *, links: bool = False, run: int | None = 3) -> Item:
    return Item(state, b"/a.jpg", json.dumps(["https://x"]) if links else None, None, 0.0, None, None, 0.0, run)


# ---- what is due


@pytest.mark.parametrize(
    ("known", "again", "in_place", "due"),
    [
        (None, Again(), False, Action.SEND),
        (item("done"), Again(), True, Action.SKIP),
        (item("done"), Again(), False, Action.FETCH),
        (item("done"), Again(failed=True, unknown=True), True, Action.SKIP),
        (item("done", run=2), Again(since=3), True, Action.SEND),
        (item("done", run=None), Again(since=3), True, Action.SEND),
        (item("done", run=3), Again(since=3), True, Action.SKIP),
        (item("done", run=4), Again(since=3), False, Action.FETCH),
        (item("failed"), Again(unknown=True, since=9), False, Action.LEAVE_FAILED),
        (item("failed"), Again(failed=True), False, Action.SEND),
        (item("unknown"), Again(failed=True, since=9), False, Action.LEAVE_UNKNOWN),
        (item("unknown", links=True), Again(), True, Action.LEAVE_UNKNOWN),
        (item("unknown"), Again(unknown=True), False, Action.SEND),
        (item("unknown", links=True), Again(unknown=True), False, Action.FETCH),
        (item("answered", links=True), Again(), False, Action.FETCH),
        (item("answered", links=True), Again(since=9), False, Action.FETCH),
    ],
)
def test_what_a_photo_is_due(known: Item | None, again: Again, in_place: bool, due: Action) -> None:  # noqa: FBT001
    assert action(known, again, in_place=in_place) is due


@given(
    st.sampled_from(["done", "failed", "unknown", "answered"]),
    st.booleans(),
    st.booleans(),
    st.integers(0, 5),
)
@FUZZ
def test_nothing_that_is_paid_or_in_doubt_is_sent_unasked(state: str, failed: bool, in_place: bool, run: int) -> None:  # noqa: FBT001
    links = state in {"done", "answered"}
    due = action(item(state, links=links, run=run), Again(failed=failed), in_place=in_place)
    assert due is not Action.SEND or (state == "failed" and failed)


# ---- options


OPTIONS = st.builds(
    EnhanceOptions,
    prompt=st.none() | st.text(max_size=5),
    profile_ids=st.lists(st.text(min_size=1, max_size=3), max_size=3),
    num_output_images=st.integers(1, 4),
    output_format=st.sampled_from(["png", "jpg"]),
    response_mode=st.sampled_from(["bytes", "urls"]),
)


@given(OPTIONS, OPTIONS)
@FUZZ
def test_options_that_ask_for_the_same_are_the_same_text(one: EnhanceOptions, other: EnhanceOptions) -> None:
    def asked(options: EnhanceOptions) -> tuple[object, ...]:
        return options.prompt or None, options.profile_ids, options.num_output_images, options.output_format

    assert (one.identity() == other.identity()) == (asked(one) == asked(other))
    assert one.identity().isascii()


def test_what_options_go_by_stays_as_it_is() -> None:
    # It is in every journal, and in the names of what stores hold: another text, and all would be bought again.
    options = EnhanceOptions(prompt="wärmer", profile_ids=["a", "b"], num_output_images=2, response_mode="urls")
    assert options.identity() == (
        '{"num_output_images": 2, "output_format": "png", "profile_ids": ["a", "b"], "prompt": "w\\u00e4rmer"}'
    )


# ---- what is said


@pytest.mark.parametrize("cause", get_args(StopCause))
def test_a_stop_says_why_and_what_to_do(cause: StopCause) -> None:
    message = stop_message(cause, "some reason")
    assert message.startswith("stopped: some reason. Nothing more was sent")
    assert message.endswith("run the same command again: what is done is not bought again")


async def test_the_first_cause_of_a_stop_stays() -> None:
    events, gate = list[FolderEvent](), Gate()
    tally = Tally(Budget(Price(), 1, subjects=False, most=None), lambda: 1, events.append)
    brake = Brake(gate, tally)
    assert not any(brake.holds(due) for due in Action)
    brake.stop("account", "first", ZeroDivisionError())
    brake.stop("disk", "second")
    assert (tally.stopped_by, tally.message) == ("account", stop_message("account", "first"))
    assert [event.kind for event in events] == ["stopped"]
    assert isinstance(events[0].error, ZeroDivisionError)
    with pytest.raises(NotStartedError, match="first"):
        gate.enter()


@pytest.mark.parametrize(
    ("cause", "fetches"), [("account", True), ("budget", True), ("disk", False), ("caller", False)]
)
async def test_what_is_paid_for_is_fetched_unless_the_disk_or_the_caller_says_no(
    cause: StopCause,
    fetches: bool,  # noqa: FBT001
) -> None:
    brake = Brake(Gate(), Tally(Budget(Price(), 1, subjects=False, most=None), lambda: 1))
    brake.stop(cause, "a reason")
    assert brake.holds(Action.SEND)
    assert brake.holds(Action.FETCH) is not fetches


# ---- money


@given(
    st.lists(st.tuples(st.integers(1, 3), st.booleans(), st.sampled_from(["good", "refused", "doubt"])), max_size=30),
    st.floats(0, 3),
    st.integers(1, 5),
    st.integers(1, 4),
)
@FUZZ
def test_a_budget_is_never_passed_whatever_the_order(
    requests: list[tuple[int, bool, str]], most: float, workers: int, images: int
) -> None:
    async def main() -> None:
        budget, doubt, waiting = Budget(Price(), images, subjects=True, most=most), [0.0], iter(requests)

        async def worker() -> None:
            for turns, subject, end in waiting:
                held = await budget.hold()
                if held is None:
                    return
                for _ in range(turns):
                    await asyncio.sleep(0)
                if end == "good":
                    budget.pay(images, subject=subject)
                elif end == "doubt":
                    budget.doubt(held)
                    doubt[0] += held
                budget.give_back(held)
                assert budget.spent + doubt[0] <= most + 1e-4
                assert not budget.is_passed

        async with asyncio.timeout(5), asyncio.TaskGroup() as group:
            for _ in range(workers):
                group.create_task(worker())
        # Either all had their turn, or there is no room for one more.
        if next(waiting, None) is not None:
            assert budget.spent + doubt[0] + budget.most_for_one > most

    asyncio.run(main())


async def test_sums_are_exact_to_the_cent() -> None:
    budget = Budget(Price(), 1, subjects=False, most=1.2)
    for number in range(1, 11):
        held = await budget.hold()
        assert held == 0.12
        assert budget.pay(1, subject=False) == 0.12
        budget.give_back(0.12)
        assert budget.spent == round(number * 0.12, 2)
    assert await budget.hold() is None
    assert budget.words() == ("the budget of 1.20 USD would be passed: 1.20 spent, and one more photo may cost 0.12")


async def test_without_a_bound_everything_may_be_spent() -> None:
    budget = Budget(Price(1e6, 2e6), 4, subjects=True, most=None)
    assert [await budget.hold() for _ in range(3)] == [8e6] * 3
    assert not budget.is_passed


async def test_a_request_waits_for_one_that_may_turn_out_cheaper() -> None:
    budget = Budget(Price(0.1, 0.5), 1, subjects=True, most=0.6)
    first = await budget.hold()
    assert first == 0.5
    second = asyncio.create_task(budget.hold())
    await asyncio.sleep(0)
    assert not second.done()
    budget.pay(1, subject=False)
    budget.give_back(0.5)
    assert await second == 0.5
    third = asyncio.create_task(budget.hold())
    await asyncio.sleep(0)
    assert not third.done()
    budget.pay(1, subject=True)
    budget.give_back(0.5)
    assert await third is None
    assert budget.spent == 0.6


async def test_a_known_subject_nobody_asked_for_makes_the_next_ones_dearer() -> None:
    budget = Budget(Price(), 2, subjects=False, most=0.5)
    assert budget.most_for_one == 0.24
    held = await budget.hold()
    assert held is not None
    assert budget.pay(2, subject=True) == 0.3
    assert budget.most_for_one == 0.3
    assert budget.is_passed
    budget.give_back(held)
    assert not budget.is_passed
    assert await budget.hold() is None


async def test_what_is_in_doubt_is_told() -> None:
    budget = Budget(Price(), 1, subjects=False, most=0.2)
    held = await budget.hold()
    assert held is not None
    budget.doubt(held)
    budget.give_back(held)
    assert (budget.spent, await budget.hold()) == (0.0, None)
    assert "0.00 spent and 0.12 in doubt" in budget.words()
