"""Retries: what is repeated, what is raised, what is told. How often and when: see test_retry_properties too.

Time is the jumping loop's, so that every pause is measured exactly and costs nothing.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
from collections.abc import Awaitable, Callable
from functools import partial
from http import HTTPStatus
from typing import Any

import pytest
from test_limiter import JumpingLoop

from phota_async.codec.error_answer import api_error
from phota_async.errors import (
    APIError,
    ConnectionFailedError,
    DeadlineExceededError,
    DownloadError,
    ImageError,
    OutcomeUnknownError,
    OverloadedError,
    PhotaError,
    ResponseFormatError,
    ServiceUnavailableError,
)
from phota_async.retry import Retries, RetryDetails, RetryPolicy

AT_ONCE = RetryPolicy(initial_wait=0.0)
UNKNOWN_TOO = RetryPolicy(initial_wait=0.0, retry_unknown=True)


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "asyncio", {"loop_factory": JumpingLoop}


def now() -> float:
    return asyncio.get_running_loop().time()


def answered(status: int, retry_after: float | None = None) -> APIError:
    return api_error(status, b"", request_id=None, retry_after=[] if retry_after is None else [str(retry_after)])


def scripted(*ends: BaseException | str) -> tuple[Callable[[int], Awaitable[str]], list[int]]:
    """Return an attempt that ends in each of ``ends`` in turn, and the list of numbers it was called with."""
    numbers: list[int] = []

    async def attempt(number: int) -> str:
        numbers.append(number)
        end = ends[min(len(numbers), len(ends)) - 1]
        if isinstance(end, BaseException):
            raise end
        return end

    return attempt, numbers


def always(kind: Callable[[], PhotaError], took: float = 0.0) -> tuple[Callable[[int], Awaitable[str]], list[float]]:
    """Return an attempt that always fails, and the list of times at which it began."""
    begun: list[float] = []

    async def attempt(_: int) -> str:
        begun.append(now())
        await asyncio.sleep(took)
        raise kind()

    return attempt, begun


# ---- what may be repeated

REFUSED = {status: answered(status) for status in (302, 400, 401, 402, 403, 404, 408, 409, 413, 418, 422, 501, 505)}
NOT_CHARGED = {status: answered(status) for status in (429, 500, 503)}
MAYBE_CHARGED = {status: answered(status) for status in (502, 504, 501, 505, 520, 524, 599)}


@pytest.mark.parametrize(
    ("error", "by_default", "if_unknown_too"),
    [
        *[(error, False, error.maybe_charged) for error in REFUSED.values()],
        *[(error, True, True) for error in NOT_CHARGED.values()],
        *[(error, False, True) for error in MAYBE_CHARGED.values()],
        (ConnectionFailedError("c"), True, True),
        (OutcomeUnknownError("o"), False, True),
        (DownloadError("d", transient=True), True, True),
        (DownloadError("d", transient=False), False, False),
        (ImageError("i"), False, False),
        (OverloadedError("o"), False, False),
        (DeadlineExceededError("d", outcome_unknown=True), False, False),
        (ResponseFormatError("r"), False, False),
        (PhotaError("p"), False, False),
        (answered(429, 120), True, True),
        (answered(429, 121), False, False),
        (answered(503, 1e9), False, False),
        (answered(502, 500), False, False),
        (ValueError("v"), False, False),
        (TimeoutError(), False, False),
        (asyncio.CancelledError(), False, False),
        (KeyboardInterrupt(), False, False),
    ],
    ids=lambda value: (
        f"{type(value).__name__}{getattr(value, 'status', '')}" if isinstance(value, BaseException) else None
    ),
)
def test_what_the_policy_repeats(error: BaseException, by_default: bool, if_unknown_too: bool) -> None:  # noqa: FBT001
    assert RetryPolicy().allows(error) is by_default
    assert RetryPolicy(retry_unknown=True).allows(error) is if_unknown_too


def test_the_statuses_are_the_callers_to_choose() -> None:
    policy = RetryPolicy(statuses={HTTPStatus.CONFLICT, 502})  # any collection will do
    assert policy.statuses == {409, 502}
    assert policy.allows(answered(502))
    assert policy.allows(answered(409))
    assert not policy.allows(answered(429))
    assert not policy.allows(answered(504))
    assert RetryPolicy(statuses=[300, 599]).statuses == {300, 599}


def test_no_status_at_all_may_be_repeated() -> None:
    policy = RetryPolicy(statuses=frozenset())
    assert not any(policy.allows(error) for error in NOT_CHARGED.values())
    assert policy.allows(ConnectionFailedError("c"))


BAD_POLICIES: dict[str, list[Any]] = {
    "max_attempts": [0, -1, 1.0, True, "5", None],
    "initial_wait": [-1, math.nan, math.inf, True, "1", None],
    "max_wait": [-0.1, math.nan, math.inf, False, "1", None],
    "max_retry_after": [-1, math.nan, math.inf, True, "1", None],
    "statuses": [{299}, {600}, {"429"}, "429", 429, None, {429.0}, [True]],
    "retry_unknown": [0, 1, None, "yes"],
}


@pytest.mark.parametrize("options", [{name: value} for name in BAD_POLICIES for value in BAD_POLICIES[name]], ids=repr)
def test_a_bad_policy_is_refused_by_the_name_of_its_field(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        RetryPolicy(**options)


def test_the_defaults_are_those_of_the_contract() -> None:
    assert repr(RetryPolicy()) == (
        "RetryPolicy(max_attempts=5, initial_wait=1.0, max_wait=30.0, max_retry_after=120.0, "
        f"statuses={frozenset({429, 500, 503})!r}, retry_unknown=False)"
    )


# ---- how often


async def test_the_first_good_attempt_ends_it() -> None:
    attempt, numbers = scripted(ConnectionFailedError("1"), answered(503), "good", "never")
    assert await Retries(AT_ONCE).run(attempt) == "good"
    assert numbers == [1, 2, 3]


@pytest.mark.parametrize("most", [1, 2, 5, 8])
async def test_no_more_attempts_are_made_than_allowed_and_the_last_failure_is_raised(most: int) -> None:
    failures = [ConnectionFailedError(str(number)) for number in range(1, most + 3)]
    attempt, numbers = scripted(*failures)
    with pytest.raises(ConnectionFailedError) as caught:
        await Retries(RetryPolicy(max_attempts=most, initial_wait=0.0)).run(attempt)
    assert numbers == list(range(1, most + 1))
    assert caught.value is failures[most - 1]
    assert caught.value.attempts == most


async def test_what_may_not_be_repeated_is_raised_at_once() -> None:
    for error in (OutcomeUnknownError("o"), answered(402), answered(504), answered(429, 1000), ImageError("i")):
        attempt, numbers = scripted(error, "never")
        with pytest.raises(type(error)) as caught:
            await Retries(AT_ONCE).run(attempt)
        assert caught.value is error
        assert numbers == [1]
        assert caught.value.attempts == 1


@pytest.mark.parametrize("bug", [ZeroDivisionError("bug"), TypeError("bug"), OSError("disk")])
async def test_a_bug_is_raised_as_it_is_and_never_repeated(bug: Exception) -> None:
    attempt, numbers = scripted(ConnectionFailedError("1"), bug)
    with pytest.raises(type(bug)) as caught:
        await Retries(AT_ONCE).run(attempt)
    assert caught.value is bug
    assert numbers == [1, 2]


async def test_cancelling_during_an_attempt_or_a_pause_ends_it_at_once() -> None:
    for took, pause in ((10.0, 0.0), (0.0, 10.0)):
        attempt, begun = always(lambda pause=pause: answered(503, pause), took)  # type: ignore[misc]
        start = now()
        task = asyncio.create_task(Retries(AT_ONCE).run(attempt))
        await asyncio.sleep(5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert now() == pytest.approx(start + 5)
        assert len(begun) == 1


# ---- the chain


async def test_the_earlier_failures_hang_on_the_last() -> None:
    failures = [ConnectionFailedError("1"), answered(503), answered(500), answered(401)]
    attempt, _ = scripted(*failures)
    with pytest.raises(PhotaError) as caught:
        await Retries(AT_ONCE).run(attempt)
    chain: list[BaseException] = []
    error: BaseException | None = caught.value
    while error is not None:
        chain.append(error)
        error = error.__cause__
    assert chain == failures[::-1]
    assert [error.attempts for error in failures] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    "kind", [partial(ConnectionFailedError, "c"), *(partial(answered, s) for s in (500, 402, 400))]
)
async def test_an_attempt_that_may_have_been_charged_marks_every_later_failure(kind: Callable[[], PhotaError]) -> None:
    last = kind()
    assert not last.maybe_charged
    attempt, _ = scripted(OutcomeUnknownError("1"), ConnectionFailedError("2"), last)
    with pytest.raises(type(last)) as caught:
        await Retries(RetryPolicy(max_attempts=3, initial_wait=0.0, retry_unknown=True)).run(attempt)
    assert caught.value is last
    assert caught.value.maybe_charged
    assert "may have been charged" in str(caught.value)


@pytest.mark.parametrize("kind", [OverloadedError, DeadlineExceededError])
@pytest.mark.parametrize("earlier", [0, 1, 2])
async def test_an_attempt_that_never_began_is_not_counted(kind: type[PhotaError], earlier: int) -> None:
    attempt, _ = scripted(*[ConnectionFailedError("c")] * earlier, kind("never began"))
    with pytest.raises(kind) as caught:
        await Retries(AT_ONCE).run(attempt)
    assert caught.value.attempts == earlier


async def test_without_a_charge_nothing_is_marked() -> None:
    attempt, _ = scripted(answered(429), ConnectionFailedError("2"), answered(400))
    with pytest.raises(APIError) as caught:
        await Retries(AT_ONCE).run(attempt)
    assert not caught.value.maybe_charged


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 422])
async def test_a_refusal_is_final_also_after_an_attempt_that_may_have_been_charged(status: int) -> None:
    attempt, numbers = scripted(OutcomeUnknownError("1"), answered(status), "never")
    with pytest.raises(APIError) as caught:
        await Retries(UNKNOWN_TOO).run(attempt)
    assert caught.value.status == status
    assert numbers == [1, 2]


# ---- pauses


@pytest.mark.parametrize(
    ("policy", "failures", "widest"),
    [
        (RetryPolicy(initial_wait=8.0), 1, 8.0),
        (RetryPolicy(initial_wait=8.0), 2, 16.0),
        (RetryPolicy(initial_wait=8.0), 4, 30.0),
        (RetryPolicy(initial_wait=8.0, max_wait=2.0), 1, 2.0),
    ],
)
async def test_pauses_are_spread_over_their_range(policy: RetryPolicy, failures: int, widest: float) -> None:
    random.seed(7)
    last: list[float] = []
    for _ in range(200):
        told: list[RetryDetails] = []
        attempt, _ = scripted(*[ConnectionFailedError("c")] * failures, "good")
        await Retries(policy, told.append).run(attempt)
        last.append(told[-1].wait)
    assert min(last) < widest / 8
    assert widest * 7 / 8 < max(last) <= widest
    assert len(set(last)) > 190


async def test_each_pause_is_made_by_what_was_given_for_it() -> None:
    paused: list[float] = []

    async def pause(seconds: float) -> None:
        paused.append(seconds)

    attempt, _ = scripted(answered(429, 3), answered(503, 5), "good")
    start = now()
    await Retries(AT_ONCE, pause=pause).run(attempt)
    assert paused == [3.0, 5.0]
    assert now() == start


# ---- the deadline


@pytest.mark.parametrize(("quickest", "made"), [(0.5, 4), (0.4, 5), (None, 5)])
async def test_attempts_go_on_as_long_as_the_deadline_holds_them(quickest: float | None, made: int) -> None:
    attempt, begun = always(lambda: ServiceUnavailableError(503, retry_after=4.0), 1.0)
    start = now()
    policy = RetryPolicy(max_attempts=50, initial_wait=0.0)
    with pytest.raises(ServiceUnavailableError):
        await Retries(policy, None, start + 20.5, lambda: quickest).run(attempt)
    assert [when - start for when in begun] == pytest.approx([0.0, 5.0, 10.0, 15.0, 20.0][:made])


# ---- the hook


async def test_the_hook_is_told_before_each_pause() -> None:
    told: list[RetryDetails] = []
    first, second = answered(429, 3), ConnectionFailedError("2")
    attempt, _ = scripted(first, second, "good")
    await Retries(AT_ONCE, told.append).run(attempt)
    assert [(one.attempt, one.error, one.wait) for one in told] == [(1, first, 3.0), (2, second, 0.0)]
    assert [one.elapsed for one in told] == pytest.approx([0.0, 3.0])


async def test_a_hook_that_raises_is_logged_and_costs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def hook(_: RetryDetails) -> None:
        raise ZeroDivisionError("in the hook")

    attempt, numbers = scripted(ConnectionFailedError("1"), ConnectionFailedError("2"), "good")
    with caplog.at_level(logging.ERROR, "phota_async"):
        assert await Retries(AT_ONCE, hook).run(attempt) == "good"
    assert numbers == [1, 2, 3]
    assert [record.getMessage() for record in caplog.records] == ["on_retry raised"] * 2
    assert "in the hook" in caplog.text


async def test_each_retry_is_logged_with_its_reason(caplog: pytest.LogCaptureFixture) -> None:
    attempt, _ = scripted(answered(429, 2), "good")
    with caplog.at_level(logging.INFO, "phota_async"):
        await Retries(AT_ONCE).run(attempt)
    assert caplog.messages == ["attempt 1 failed, next in 2.0 s: 429 - too many requests"]


# ---- many at once


async def test_concurrent_calls_do_not_mix_their_state() -> None:
    retries = Retries(RetryPolicy(max_attempts=10))

    async def call(failures: int) -> tuple[int, list[str]]:
        causes: list[PhotaError] = []

        async def attempt(number: int) -> list[str]:
            await asyncio.sleep(0.3)
            if number <= failures:
                causes.append(ConnectionFailedError(f"{failures}/{number}"))
                raise causes[-1]
            return [str(error.__cause__.args[0]) if error.__cause__ else "" for error in causes]

        return failures, await retries.run(attempt)

    for failures, causes in await asyncio.gather(*map(call, range(10))):
        assert causes == ["", *(f"{failures}/{number}" for number in range(1, failures))][:failures]
