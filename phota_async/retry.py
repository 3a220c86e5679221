"""When a failed attempt is made again, and after how long. The one room that knows tenacity.

The rule behind every line: an attempt that may have been paid for is repeated only by a policy that says so, because
the synchronous call has no idempotency key and a repeated POST is a second purchase (the service's enhance page).
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Collection
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from attrs import Attribute, field, frozen

from phota_async.errors import (
    APIError,
    ConnectionFailedError,
    DeadlineExceededError,
    DownloadError,
    OutcomeUnknownError,
    OverloadedError,
    PhotaError,
    let_go,
)

if TYPE_CHECKING:
    from tenacity import AsyncRetrying, RetryCallState

T = TypeVar("T")

logger = logging.getLogger("phota_async")


def _count(_: object, attribute: Attribute[Any], value: object) -> None:
    if type(value) is not int or value < 1:
        raise ValueError(f"{attribute.name} must be a whole number from 1, not {value!r}")


def _seconds(_: object, attribute: Attribute[Any], value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise ValueError(f"{attribute.name} must be a number of seconds from 0, not {value!r}")


def _yes_or_no(_: object, attribute: Attribute[Any], value: object) -> None:
    if not isinstance(value, bool):
        raise ValueError(f"{attribute.name} must be True or False, not {value!r}")


def _statuses(value: Collection[int]) -> frozenset[int]:
    if not isinstance(value, Collection) or not all(isinstance(one, int) and 300 <= one <= 599 for one in value):  # noqa: PLR2004
        raise ValueError(f"statuses must be a set of HTTP statuses from 300 to 599, not {value!r}")
    return frozenset(map(int, value))


@frozen(kw_only=True)
class RetryPolicy:
    """What is tried again.

    Attributes:
        max_attempts: How many requests one call may make.
        initial_wait: Seconds; the first pause is drawn from 0 to this, each later one from a range twice as wide.
        max_wait: Seconds; no pause is drawn from a wider range.
        max_retry_after: Seconds; a service that asks for a longer pause gets its error raised at once.
        statuses: The answers that are retried. The default holds those that are sure not to be charged.
        retry_unknown: Whether to repeat what may have been paid for already (a lost connection, a time-out while
            waiting, 502, 504). Each such repeat may buy the image a second time.
    """

    max_attempts: int = field(default=5, validator=_count)
    initial_wait: float = field(default=1.0, validator=_seconds)
    max_wait: float = field(default=30.0, validator=_seconds)
    max_retry_after: float = field(default=120.0, validator=_seconds)
    statuses: frozenset[int] = field(default=frozenset({429, 500, 503}), converter=_statuses)
    retry_unknown: bool = field(default=False, validator=_yes_or_no)

    def allows(self, error: BaseException) -> bool:
        """Whether an attempt that ended in ``error`` may be made again, attempts and time permitting."""
        if isinstance(error, OutcomeUnknownError):
            return self.retry_unknown
        if isinstance(error, APIError):
            named = error.status in self.statuses or (error.maybe_charged and self.retry_unknown)
            return named and (error.retry_after or 0.0) <= self.max_retry_after
        if isinstance(error, DownloadError):
            return error.transient
        return isinstance(error, ConnectionFailedError)


@frozen
class RetryDetails:
    """What ``on_retry`` is told before each pause.

    Attributes:
        attempt: Which attempt failed, from 1.
        error: Why.
        wait: Seconds until the next attempt asks for a slot.
        elapsed: Seconds since the call began.
    """

    attempt: int
    error: PhotaError
    wait: float
    elapsed: float


@frozen(eq=False)
class Retries:
    """One call's retries: the policy and what bounds it.

    Attributes:
        policy: What is tried again.
        on_retry: Told before each pause; what it raises is logged, never passed on.
        deadline: The time on the loop's clock that no attempt may outlast, or None.
        quickest: Gives the seconds that an attempt takes at least, so that none is started that the deadline cannot
            hold: it would be paid for and thrown away.
        pause: Waits between attempts.
    """

    policy: RetryPolicy
    on_retry: Callable[[RetryDetails], object] | None = None
    deadline: float | None = None
    quickest: Callable[[], float | None] = lambda: None
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep

    async def run(self, attempt: Callable[[int], Awaitable[T]]) -> T:
        """Return what the first good attempt returns; ``attempt`` is given its number, from 1.

        Raises:
            PhotaError: The last failure; ``attempts`` counts them, ``__cause__`` leads through the earlier ones.
        """
        attempts, begun = _Attempts(attempt, self.policy), asyncio.get_running_loop().time()
        try:
            await attempts.make()
            if attempts.again:
                await self._more(attempts, begun)
            return attempts.result()
        finally:
            attempts.forget()

    async def _more(self, attempts: _Attempts[Any], begun: float) -> None:
        # The machine is built only now, when there is something to retry; what failed is its first attempt.
        machine, made = self._machine(attempts, begun), [None]

        async def from_the_first() -> None:
            return made.pop() if made else await attempts.make()

        try:
            await machine(from_the_first)
        finally:
            machine.iter_state.reset()  # its last steps lead back to it, and it to the photo

    def _machine(self, attempts: _Attempts[Any], begun: float) -> AsyncRetrying:
        # No part of what importing the library costs; a client loads it in a thread when it opens.
        from tenacity import AsyncRetrying  # noqa: PLC0415

        # One for each call: a shared one mixes the state of concurrent tasks.
        return AsyncRetrying(
            sleep=self.pause,
            retry=lambda _: attempts.again,
            wait=lambda state: self._wait(state, attempts.error),
            stop=self._stop,
            before_sleep=lambda state: self._before_sleep(state, attempts.error, begun),
            retry_error_callback=lambda _: None,
        )

    def _wait(self, state: RetryCallState, error: PhotaError) -> float:
        from tenacity import wait_random_exponential  # noqa: PLC0415  (as above)

        drawn = wait_random_exponential(multiplier=self.policy.initial_wait, max=self.policy.max_wait)(state)
        return max(drawn, getattr(error, "retry_after", None) or 0.0)

    def _stop(self, state: RetryCallState) -> bool:
        if state.attempt_number >= self.policy.max_attempts:
            return True
        if self.deadline is None:
            return False
        needed = state.upcoming_sleep + (self.quickest() or 0.0)
        return asyncio.get_running_loop().time() + needed >= self.deadline

    def _before_sleep(self, state: RetryCallState, error: PhotaError, begun: float) -> None:
        elapsed = asyncio.get_running_loop().time() - begun
        details = RetryDetails(state.attempt_number, error, state.upcoming_sleep, elapsed)
        logger.info("attempt %d failed, next in %.1f s: %s", details.attempt, details.wait, _in_our_words(error))
        if self.on_retry is not None:
            try:
                self.on_retry(details)
            except Exception:  # a broken hook must not cost what its neighbours in a batch have paid for
                logger.exception("on_retry raised")


class _Attempts(Generic[T]):
    """The attempts of one call, how the last one ended, and the chain of what went wrong.

    Tenacity is handed neither results nor errors: it and its frames would hold them, and the errors its frames. Photos
    and images would stay in memory until Python's garbage collector comes by.
    """

    def __init__(self, attempt: Callable[[int], Awaitable[T]], policy: RetryPolicy) -> None:
        self.again = False
        self._attempt = attempt
        self._policy = policy
        self._count = 0
        self._results: list[T] = []
        self._raised: BaseException | None = None
        self._last: PhotaError | None = None

    async def make(self) -> None:
        """Make the next attempt; then ``again`` tells whether another may follow it."""
        self._count, self.again = self._count + 1, False
        try:
            self._results.append(await self._attempt(self._count))
        except PhotaError as error:
            self.again = self._policy.allows(error)  # before the chain: it speaks for its own attempt only
            self._chain(error)
            self._raised = error
        except BaseException as error:  # noqa: BLE001  (`result` raises it)
            self._raised = error

    @property
    def error(self) -> PhotaError:
        """What the last attempt met, where another may follow it."""
        assert self._last is not None  # noqa: S101  (the policy allows nothing else)
        return self._last

    def result(self) -> T:
        """Return what the last attempt brought, or raise what it met."""
        if self._results:
            return self._results[0]
        assert self._raised is not None  # noqa: S101  (one was made)
        raise self._raised

    def _chain(self, error: PhotaError) -> None:
        # These two tell of an attempt that never began.
        error.attempts = self._count - isinstance(error, OverloadedError | DeadlineExceededError)
        if self._last is not None and self._last is not error:
            error.__cause__ = self._last
            error.maybe_charged = error.maybe_charged or self._last.maybe_charged
        self._last = error

    def forget(self) -> None:
        """Let go of the errors, whose tracebacks lead here, and of what an attempt is made with."""
        let_go(self._last)
        self._last = self._raised = None
        del self._attempt


def _in_our_words(error: PhotaError) -> PhotaError:
    # The service's own may repeat what was sent.
    return type(error)(error.status, request_id=error.request_id) if isinstance(error, APIError) else error
