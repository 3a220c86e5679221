"""Calls and downloads as OpenTelemetry sees them. The one room that knows it, loaded where its API is installed.

One span is around all of a call: the wait for a slot, every attempt, every pause. Its kind is INTERNAL, because it is
no single request: those are the CLIENT spans of an instrumentation of aiohttp, which become its children. Names of
attributes are those of the semantic conventions where they have one.

What is exported is metadata: of an error its class and its status, of a link its host; never the key, a prompt, a
photo's name, or the service's own words. And what goes wrong here is logged: it must not cost what is paid for.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from contextvars import Token
from functools import lru_cache, wraps
from time import perf_counter
from types import TracebackType
from typing import Concatenate, ParamSpec, Self, TypeAlias
from weakref import WeakValueDictionary

from opentelemetry import context, metrics, trace
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.trace import Span, StatusCode
from yarl import URL

from phota_async.batch import NotStartedError
from phota_async.errors import APIError, DownloadError, PhotaError
from phota_async.limiter import Limiter
from phota_async.models import EnhanceResult
from phota_async.records import Price, charged_for, cost_usd
from phota_async.retry import RetryDetails
from phota_async.version import __version__

logger = logging.getLogger("phota_async")

Attributes: TypeAlias = dict[str, str | int | float | bool]
OnRetry: TypeAlias = Callable[[RetryDetails], object]
P = ParamSpec("P")

_SCOPE = ("phota_async", __version__)
_SCHEMA_URL = "https://opentelemetry.io/schemas/1.30.0"
# A call takes about 55 s, and up to 600; the API's own default ends at 10 s for seconds.
_BUCKETS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 75.0, 90.0, 120.0, 180.0, 300.0, 600.0)
_PRICE = Price()
_IN_USE: tuple[tuple[str, str, Callable[[Limiter], int]], ...] = (
    ("width", "How many calls may be in flight now.", lambda limiter: int(limiter.width)),
    ("in_flight", "How many calls hold a slot.", lambda limiter: limiter.in_flight),
    ("queue", "How many calls wait for a slot.", lambda limiter: limiter.waiting),
)


def _harmless(method: Callable[Concatenate[Watch, P], None]) -> Callable[Concatenate[Watch, P], None]:
    @wraps(method)
    def guarded(watch: Watch, /, *args: P.args, **kwargs: P.kwargs) -> None:
        try:
            method(watch, *args, **kwargs)
        except Exception:  # a sampler or a processor of the program's own may raise anything
            logger.exception("OpenTelemetry raised")

    return guarded


class Telemetry:
    """The tracer and the instruments of this process. They do nothing as long as no SDK is set up."""

    def __init__(self) -> None:
        """Make the instruments; whoever sets up an SDK later is heard as well."""
        self.tracer = trace.get_tracer(*_SCOPE, schema_url=_SCHEMA_URL)
        meter = metrics.get_meter(*_SCOPE, schema_url=_SCHEMA_URL)
        self.calls = meter.create_counter("phota.client.calls", "{call}", "Calls and downloads that have ended.")
        self.duration = meter.create_histogram(
            "phota.client.call.duration",
            "s",
            "From a call to its end: waiting for a slot, every attempt, every pause.",
            explicit_bucket_boundaries_advisory=_BUCKETS,
        )
        self.attempts = meter.create_counter("phota.client.attempts", "{attempt}", "Requests that have ended.")
        self.retries = meter.create_counter(
            "phota.client.retries", "{attempt}", "Requests that repeat one that failed; error.type says how it did."
        )
        self.spend = meter.create_counter(
            "phota.client.spend", "{USD}", "Answered images at the documented price: an estimate, not a bill."
        )
        # Of all open clients together: a client has no name by which series could be told apart, and be few.
        self._limiters: WeakValueDictionary[int, Limiter] = WeakValueDictionary()
        for name, description, read in _IN_USE:
            meter.create_observable_up_down_counter(f"phota.client.{name}", [self._summed(read)], "{call}", description)

    def call(self, endpoint: URL, response_mode: str) -> Watch:
        """Watch one call."""
        server = _server(endpoint.host, endpoint.port)
        return Watch(self, "enhance", {**server, "phota.response_mode": response_mode}, server)

    def download(self, link: URL) -> Watch:
        """Watch one download. Its host shows in the span only: links come out of answers, and series must stay few."""
        return Watch(self, "download", {**_server(link.host, link.port)}, {})

    def follow(self, limiter: Limiter) -> None:
        """Count what a limiter holds, until it is left, its loop is closed, or it is gone."""
        self._limiters[id(limiter)] = limiter

    def leave(self, limiter: Limiter) -> None:
        """Count it no more."""
        self._limiters.pop(id(limiter), None)

    def _summed(self, read: Callable[[Limiter], int]) -> Callable[[CallbackOptions], Iterable[Observation]]:
        def observed(_: CallbackOptions) -> Iterable[Observation]:
            # A list made at once: this is a reader's thread, and loops in others open and close clients.
            limiters = [reference() for reference in self._limiters.valuerefs()]
            yield Observation(sum(read(one) for one in limiters if one is not None and not one.is_stranded))

        return observed


class Watch:
    """One call or one download under observation; a context manager around all of it.

    Attributes:
        maybe_charged: Whether something was paid, or may have been, that is not in what came back.
    """

    def __init__(self, telemetry: Telemetry, operation: str, about: Attributes, labels: Attributes) -> None:
        """Prepare.

        Args:
            telemetry: What it is told to.
            operation: What goes on.
            about: What is known of it beforehand, for the span and its sampler.
            labels: What its metrics are told apart by.
        """
        self.maybe_charged: bool | None = None
        self._telemetry = telemetry
        self._name = f"phota.{operation}"
        self._about = about
        self._labels: Attributes = {"phota.operation": operation, **labels}
        self._span: Span = trace.INVALID_SPAN
        self._token: Token[context.Context] | None = None
        self._begun = self._failed = 0
        self._failure = ""

    def __enter__(self) -> Self:
        self._since = perf_counter()
        self._open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end_attempt(error)
        self._count(error)
        # Only now, so that what was measured is linked to the span of its own call.
        if self._token is not None:
            context.detach(self._token)
        self._describe(error)
        self._close()

    # ---- what is told

    @_harmless
    def attempt(self, number: int) -> None:
        """Say that a request begins."""
        self._begun = number
        if number > 1:
            self._telemetry.retries.add(1, {**self._labels, "error.type": self._failure})
        if self._span.is_recording():
            self._span.add_event("phota.attempt", {"phota.attempt.number": number})

    def on_retry(self, also: OnRetry | None) -> OnRetry:
        """Return what is to be called before each pause; it calls ``also`` in its turn."""

        def told(details: RetryDetails) -> None:
            self._fail(details.error, details.wait)
            if also is not None:
                also(details)

        return told

    @_harmless
    def answered(self, result: EnhanceResult) -> None:
        """Say what a call brought."""
        images, _ = charged_for(result)
        self._telemetry.spend.add(cost_usd(result, _PRICE), self._labels)
        if self._span.is_recording():
            self._span.set_attributes({"phota.images": images, **_request_id(result)})

    # ---- inside

    @_harmless
    def _open(self) -> None:
        self._span = self._telemetry.tracer.start_span(self._name, attributes=self._about)
        # Without an SDK there is nothing that could be current.
        if self._span.get_span_context().is_valid:
            self._token = context.attach(trace.set_span_in_context(self._span))

    @_harmless
    def _fail(self, error: BaseException, wait: float | None = None) -> None:
        self._failed, self._failure = self._begun, type(error).__name__
        self._telemetry.attempts.add(1, {**self._labels, "error.type": self._failure})
        if self._span.is_recording():
            event: Attributes = {"phota.attempt.number": self._begun, **_failure(error)}
            self._span.add_event(
                "phota.attempt.failed", event if wait is None else {**event, "phota.attempt.wait": wait}
            )

    @_harmless
    def _end_attempt(self, error: BaseException | None) -> None:
        if self._begun == self._failed:  # the error, if there is one, is of no attempt
            return
        if error is None:
            self._telemetry.attempts.add(1, self._labels)
        else:
            self._fail(error)

    @_harmless
    def _count(self, error: BaseException | None) -> None:
        labels: Attributes = {**self._labels, "phota.outcome": _outcome(error)}
        if labels["phota.outcome"] == "error":
            labels["error.type"] = type(error).__name__
        self._telemetry.duration.record(perf_counter() - self._since, labels)
        if self.maybe_charged is not None:
            labels["phota.maybe_charged"] = self.maybe_charged
        self._telemetry.calls.add(1, labels)

    @_harmless
    def _describe(self, error: BaseException | None) -> None:
        if self._span.is_recording():
            self._span.set_attributes({"phota.attempts": self._begun, "phota.outcome": _outcome(error)})
            if self.maybe_charged is not None:
                self._span.set_attribute("phota.maybe_charged", self.maybe_charged)
            if error is not None and _outcome(error) == "error":
                self._span.set_attributes({**_failure(error), **_request_id(error)})
                self._span.set_status(StatusCode.ERROR, type(error).__name__)

    @_harmless
    def _close(self) -> None:
        self._span.end()


def _outcome(error: BaseException | None) -> str:
    if error is None:
        return "ok"
    # Cancelled by the caller, or sent away when its batch was stopped: nothing failed.
    return "error" if isinstance(error, Exception) and not isinstance(error, NotStartedError) else "cancelled"


def _failure(error: BaseException) -> Attributes:
    status = error.status if isinstance(error, APIError | DownloadError) else None
    kind: Attributes = {"error.type": type(error).__name__}
    return kind if status is None else {**kind, "http.response.status_code": status}


def _request_id(told: object) -> Attributes:
    found = told.request_id if isinstance(told, EnhanceResult | PhotaError) else None
    return {} if found is None else {"phota.request_id": found}


@lru_cache(64)
def _server(host: str | None, port: int | None) -> Attributes:
    return {"server.address": host, "server.port": port} if host and port else {}


TELEMETRY = Telemetry()
"""The one of this process."""
