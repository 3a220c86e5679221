"""Retries by any policy, whatever goes wrong: never past the deadline, never sooner than asked, never unasked.

First one call alone, then several that share a limiter, as in a client. Time is the jumping loop's.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import cast

import pytest
from attrs import define, field, frozen
from examples import examples
from hypothesis import given
from hypothesis import strategies as st
from test_limiter import JumpingLoop
from test_retry import answered, now

from phota_async.call import Call, Means
from phota_async.codec.answer import Answer
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
)
from phota_async.limiter import Limiter
from phota_async.models import EnhanceOptions
from phota_async.retry import Retries, RetryDetails, RetryPolicy
from phota_async.transport.post import Endpoint, Poster, Received
from phota_async.transport.upload import Flight

STATUSES = [302, 400, 401, 402, 404, 409, 422, 429, 500, 502, 503, 504, 524]
PHOTO = b"\x89PNG\r\n\x1a\n"
NEAR = 1e-6


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "asyncio", {"loop_factory": JumpingLoop}


@frozen
class Ending:
    """How one attempt ends, and after how long. ``kind`` is a status or the name of what went wrong."""

    kind: int | str
    took: float = 0.0
    retry_after: float | None = None

    @property
    def asked(self) -> float:
        """The pause that the service asks for: only answers can."""
        return (self.retry_after or 0.0) if isinstance(self.kind, int) else 0.0

    def error(self) -> PhotaError | None:
        if isinstance(self.kind, int):
            return answered(self.kind, self.retry_after)
        return OTHER[self.kind]() if self.kind != "good" else None

    def may_be_repeated(self, policy: RetryPolicy) -> bool:
        """Say what the contract says, in other words than the code."""
        if not isinstance(self.kind, int):
            return {"unsent": True, "unknown": policy.retry_unknown, "broken download": True}.get(self.kind, False)
        if self.asked > policy.max_retry_after:
            return False
        in_doubt = self.kind >= 500 and self.kind not in {500, 503}
        return self.kind in policy.statuses or (in_doubt and policy.retry_unknown)


OTHER: dict[str, Callable[[], PhotaError]] = {
    "unsent": lambda: ConnectionFailedError("unsent"),
    "unknown": lambda: OutcomeUnknownError("unknown"),
    "broken download": lambda: DownloadError("broken", transient=True),
    "dead link": lambda: DownloadError("dead", transient=False),
    "no photo": lambda: ImageError("none"),
    "overloaded": lambda: OverloadedError("overloaded"),
    "unusable": lambda: ResponseFormatError("unusable"),
}
SECONDS = st.sampled_from([0.0, 0.1, 1.0, 5.0, 30.0]) | st.floats(0, 60)
# In a header there is no room for powers of ten.
RETRY_AFTER = (
    st.none() | st.sampled_from([0.0, 1.0, 119.5, 120.0, 120.5]) | st.floats(0, 300).map(lambda s: round(s, 3))
)
TRANSIENT = st.sampled_from([429, 500, 503, "unsent"])
IN_DOUBT = st.sampled_from([502, 504, "unknown", "unknown"])
ENDINGS = st.builds(Ending, TRANSIENT | IN_DOUBT | st.sampled_from([*STATUSES, *OTHER, "good"]), SECONDS, RETRY_AFTER)
POLICIES = st.builds(
    RetryPolicy,
    max_attempts=st.integers(1, 8),
    initial_wait=SECONDS,
    max_wait=SECONDS,
    max_retry_after=st.just(120.0) | st.floats(0, 200),
    statuses=st.just(frozenset({429, 500, 503})) | st.frozensets(st.sampled_from(STATUSES)),
    retry_unknown=st.booleans(),
)


@define
class Course:
    """What one call did: when each attempt began and ended, and what was told before each pause."""

    begun: list[float] = field(factory=list[float])
    ended: list[float] = field(factory=list[float])
    told: list[RetryDetails] = field(factory=list[RetryDetails])


async def walked(course: Course, retries: Retries, endings: Sequence[Ending]) -> PhotaError | None:
    """Make a call whose attempts end as told, the last ending again and again; return what it raised."""

    async def attempt(number: int) -> None:
        course.begun.append(now())
        ending = endings[min(number, len(endings)) - 1]
        await asyncio.sleep(ending.took)
        course.ended.append(now())
        if (error := ending.error()) is not None:
            raise error

    try:
        await retries.run(attempt)
    except PhotaError as error:
        return error
    return None


@examples(300)
@given(
    POLICIES,
    st.lists(ENDINGS, min_size=1, max_size=8),
    st.none() | st.floats(0, 300),
    st.none() | SECONDS,
    st.integers(0, 2**32),
)
async def test_no_attempt_is_made_that_the_policy_and_the_deadline_do_not_allow_and_none_is_left_out(
    policy: RetryPolicy, endings: list[Ending], deadline: float | None, quickest: float | None, seed: int
) -> None:
    random.seed(seed)
    course, start = Course(), now()
    end = None if deadline is None else start + deadline
    error = await walked(course, Retries(policy, course.told.append, end, lambda: quickest), endings)

    made = [endings[min(number, len(endings) - 1)] for number in range(len(course.begun))]
    assert 1 <= len(made) <= policy.max_attempts
    assert all(ending.may_be_repeated(policy) for ending in made[:-1])
    pauses = [begun - ended for begun, ended in zip(course.begun[1:], course.ended, strict=False)]
    assert pauses == pytest.approx([details.wait for details in course.told], abs=NEAR)
    for number, (ending, pause) in enumerate(zip(made, pauses, strict=False)):
        drawn = min(policy.initial_wait * 2**number, policy.max_wait)
        assert ending.asked - NEAR <= pause <= max(ending.asked, drawn) + NEAR
    if end is not None:
        assert all(begun + (quickest or 0.0) < end + NEAR for begun in course.begun[1:])
    assert now() == course.ended[-1]  # nothing is waited for that no attempt follows

    last = made[-1]
    if last.kind != "good":
        assert error is not None
        assert type(error) is type(last.error())
        # Where it was given up, there was a reason.
        drawn = min(policy.initial_wait * 2 ** (len(made) - 1), policy.max_wait)
        longest = max(last.asked, drawn) + (quickest or 0.0)
        late = end is not None and course.ended[-1] + longest >= end - NEAR
        assert late or len(made) == policy.max_attempts or not last.may_be_repeated(policy)
        check_chain(error, made)
    else:
        assert error is None


def check_chain(error: PhotaError, made: Sequence[Ending]) -> None:
    """See that the last failure leads to all the earlier ones, and tells of the money in each."""
    chain: list[PhotaError] = [error]
    while isinstance(cause := chain[-1].__cause__, PhotaError):
        chain.append(cause)
    assert [type(one) for one in reversed(chain)] == [type(ending.error()) for ending in made]
    assert error.attempts == len(made) - isinstance(error, OverloadedError)
    single = [ending.error() for ending in made]
    assert error.maybe_charged == any(one is not None and one.maybe_charged for one in single)


# ---- calls that share a limiter


@define(eq=False)
class Service:
    """What stands behind the calls: it answers each attempt as told, and notes when each began."""

    script: list[Ending]
    limiter: Limiter
    begun: list[float] = field(factory=list[float])
    refusals: list[tuple[float, float]] = field(factory=list[tuple[float, float]])  # when, and how long to wait
    most_at_once: int = 0
    at_once: int = 0

    async def post(self, _: Endpoint, __: object, flight: Flight) -> Received:
        ending = self.script.pop() if self.script else Ending("good", 1.0)
        self.begun.append(now())
        async with self.working():
            flight.whole = True
            await asyncio.sleep(ending.took)
            if (error := ending.error()) is not None:
                if isinstance(error, APIError) and error.status in {429, 503} and error.retry_after:
                    self.refusals.append((now(), error.retry_after))
                raise error
        flight.arrive()
        return Received((), Answer((), ("https://host/",), {}, ()), None)

    @asynccontextmanager
    async def working(self) -> AsyncGenerator[None, None]:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            yield
        finally:
            self.at_once -= 1


@frozen
class Planned:
    """One call: when it comes, and how long it may take."""

    after: float
    deadline: float | None


@define
class Made:
    """What became of it."""

    begun: list[float] = field(factory=list[float])
    quickest: list[float | None] = field(factory=list[float | None])  # known when each attempt began
    end: float | None = None
    error: PhotaError | None = None


async def make(planned: Planned, means: Means, service: Service) -> Made:
    await asyncio.sleep(planned.after)
    made = Made(end=None if planned.deadline is None else now() + planned.deadline)

    @asynccontextmanager
    async def around(_: object) -> AsyncGenerator[None, None]:
        made.begun.append(now())
        made.quickest.append(service.limiter.quickest)
        yield

    try:
        await Call(means, EnhanceOptions(), planned.deadline, around=around).run(PHOTO)
    except PhotaError as error:
        made.error = error
    if made.end is not None:
        assert now() <= made.end + NEAR
    return made


# At about the same time, and with little room: they wait for each other.
CALLS = st.lists(
    st.builds(Planned, st.sampled_from([0.0, 0.5, 5.0]), st.none() | st.sampled_from([1.0, 20.0, 40.0, 50.0, 80.0])),
    min_size=2,
    max_size=8,
)
EAGER = st.builds(
    RetryPolicy, max_attempts=st.integers(2, 6), initial_wait=st.sampled_from([0.0, 1.0]), retry_unknown=st.booleans()
)
CALL_ENDINGS = st.builds(
    Ending,
    TRANSIENT | st.just("good") | st.sampled_from([400, 402, 502, "unknown", "unusable"]),
    st.sampled_from([0.5, 10.0, 30.0]),
    RETRY_AFTER,
)


@examples(500)
@given(st.integers(1, 3), EAGER, CALLS, st.lists(CALL_ENDINGS, max_size=25), st.integers(0, 2**32))
async def test_calls_that_share_a_limiter_keep_to_their_deadlines_and_to_what_the_service_asks(
    width: int, policy: RetryPolicy, calls: list[Planned], script: list[Ending], seed: int
) -> None:
    random.seed(seed)
    limiter = Limiter(width)
    service = Service(script, limiter)
    means = Means(limiter=limiter, poster=cast("Poster", service), endpoint=cast("Endpoint", None), policy=policy)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(make(planned, means, service)) for planned in calls]
    assert (limiter.in_flight, limiter.waiting, service.at_once) == (0, 0, 0)
    assert service.most_at_once <= width
    # A Retry-After holds back every new start, of whichever call.
    for (when, asked), begun in itertools.product(service.refusals, service.begun):
        assert begun <= when or begun >= when + min(asked, policy.max_retry_after) - NEAR
    for made in (task.result() for task in tasks):
        assert len(made.begun) <= policy.max_attempts
        if made.end is None:
            assert not isinstance(made.error, DeadlineExceededError)
            continue
        for number, (begun, quickest) in enumerate(zip(made.begun, made.quickest, strict=True)):
            assert begun <= made.end + NEAR
            assert not number or begun + (quickest or 0.0) < made.end + NEAR
