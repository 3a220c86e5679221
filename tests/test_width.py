"""The rule of the width, on plain values."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phota_async.width import CUT, UNUSED, YIELD, Width


def refused(width: Width, *levels: int) -> list[float]:
    """Refuse calls with so many others in flight, each in its own round trip, and return what is left each time."""
    left: list[float] = []
    for number, others in enumerate(levels):
        width.narrow(others, begun=number, now=number + 0.5)
        left.append(width.value)
    return left


def test_it_begins_with_the_greatest() -> None:
    assert Width(64).value == 64.0


def test_a_refusal_leaves_most_of_what_was_in_flight_beside_the_refused_call() -> None:
    assert refused(Width(64), 24) == [pytest.approx(24 * CUT)]


def test_of_a_burst_that_is_refused_the_last_one_tells_how_much_was_borne() -> None:
    width = Width(64)
    for others in range(63, 23, -1):
        width.narrow(others, begun=1.0, now=1.5)
    assert width.value == pytest.approx(24 * CUT)


def test_a_refusal_never_widens() -> None:
    width = Width(10)
    refused(width, 5, 9)
    assert width.value == pytest.approx(5 * CUT)


def test_who_meets_the_same_bound_again_keeps_most_of_it() -> None:
    width = Width(64)
    for number in range(5):
        width.value = 25.0
        width.narrow(24, begun=number, now=number + 0.5)
        assert width.value == pytest.approx(24 * CUT)


def test_who_bears_less_than_before_gives_way_to_whoever_took_the_room() -> None:
    assert refused(Width(64), 24, 23, 12) == pytest.approx([24 * CUT, min(24 * CUT, 23 * YIELD), 12 * YIELD])


def test_who_bears_more_than_before_keeps_most_of_it() -> None:
    width = Width(64)
    refused(width, 12)
    width.value = 20.0
    width.narrow(19, begun=5, now=6)
    assert width.value == pytest.approx(19 * CUT)


def test_all_that_was_in_flight_together_is_cut_by_one_share() -> None:
    width = Width(64)
    width.narrow(24, begun=0.0, now=1.0)
    width.narrow(23, begun=0.9, now=1.1)  # fewer, but it tells of the same bound
    assert width.value == pytest.approx(23 * CUT)
    width.narrow(22, begun=1.0, now=1.2)  # this one began after the cut
    assert width.value == pytest.approx(22 * YIELD)


def test_who_is_refused_alone_still_has_one() -> None:
    assert refused(Width(64), 0, 0, 1) == [1.0, 1.0, 1.0]


def test_of_a_width_that_was_not_in_use_most_is_left_once_for_each_round_trip() -> None:
    width = Width(64)
    for others in (19, 18, 17):
        width.narrow(others, begun=1.0, now=1.5, in_use=False)
        assert width.value == pytest.approx(64 * UNUSED)
    width.narrow(16, begun=1.5, now=2.0, in_use=False)
    assert width.value == pytest.approx(64 * UNUSED**2)


def test_it_is_never_less_than_what_was_borne() -> None:
    width = Width(64)
    width.narrow(60, begun=1.0, now=1.5, in_use=False)
    assert width.value == 60.0


def test_what_was_borne_is_not_told_by_a_width_that_was_not_in_use() -> None:
    width = Width(64)
    refused(width, 24)
    width.narrow(3, begun=8.0, now=8.5, in_use=False)
    width.value = 30.0
    width.narrow(24, begun=9.0, now=9.5)
    assert width.value == pytest.approx(24 * CUT)


@pytest.mark.parametrize("value", [1.0, 3.0, 20.0])
def test_each_widths_worth_of_successes_adds_one_up_to_what_was_borne(value: float) -> None:
    width = Width(100)
    refused(width, 60)
    width.value, worth = value, 0.0
    for more in (1, 2, 3, 4):
        while worth < more - 1e-9:
            worth += 1 / width.value
            width.widen()
        assert width.value == pytest.approx(value + more, abs=1.0)


def test_beyond_that_the_nth_further_widths_worth_adds_n_squared_more() -> None:
    width, values = Width(1000), list[int]()
    for _ in range(2):
        refused(width, 100)
        width.value = 100.0
        for _ in range(4):
            worth = 0.0
            while worth < 1 - 1e-9:
                worth += 1 / width.value
                width.widen()
            values.append(round(width.value))
    assert values == [101, 103, 108, 118] * 2


REFUSALS = st.tuples(st.integers(0, 80), st.booleans(), st.booleans())


@given(st.integers(1, 70), st.lists(st.none() | REFUSALS, max_size=60))
def test_it_keeps_to_its_bounds(greatest: int, course: list[tuple[int, bool, bool] | None]) -> None:
    width = Width(greatest)
    for now, event in enumerate(course):
        before = width.value
        if event is None:
            width.widen()
            assert min(before + 1 / before, greatest) <= width.value <= greatest
        else:
            others, late, in_use = event
            others = others if in_use else min(others, int(before) - 1)
            width.narrow(others, begun=now - late, now=now, in_use=in_use)
            if in_use:
                assert max(1.0, min(before, others * YIELD)) <= width.value <= max(1.0, min(before, others * CUT))
            else:
                assert max(1.0, before * UNUSED) <= width.value <= before


@given(st.integers(1, 70))
def test_successes_bring_all_of_it_back(greatest: int) -> None:
    width = Width(greatest)
    refused(width, 0)
    for _ in range(greatest * (greatest + 1) // 2 + 1):
        width.widen()
    assert width.value == greatest
