"""What OpenTelemetry's SDK is told, kept in memory.

Providers are set once in a process, so all tests share these. They drop spans, and keep no measurement apart that could
be mistaken for another test's, unless a test observes: metrics are told as the difference from where it began.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, cast

from attrs import define, field
from opentelemetry import metrics, trace
from opentelemetry.context import Context
from opentelemetry.instrumentation.aiohttp_client import create_trace_config
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, Metric
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult
from opentelemetry.trace import Link, SpanKind, TraceState
from opentelemetry.util.types import Attributes

from phota_async.transport.session import TraceConfig


class Switch(Sampler, SpanProcessor):
    """Samples while a test observes; a processor that raises if the test says so."""

    def __init__(self) -> None:
        self.observing = False
        self.raising = False

    def should_sample(  # noqa: PLR0913, PLR0917  (the SDK's signature)
        self,
        parent_context: Context | None,  # noqa: ARG002
        trace_id: int,  # noqa: ARG002
        name: str,  # noqa: ARG002
        kind: SpanKind | None = None,  # noqa: ARG002
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,  # noqa: ARG002
        trace_state: TraceState | None = None,  # noqa: ARG002
    ) -> SamplingResult:
        return SamplingResult(Decision.RECORD_AND_SAMPLE if self.observing else Decision.DROP, attributes)

    def get_description(self) -> str:
        return "while a test observes"

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:  # noqa: ARG002
        self._raise()

    def on_end(self, span: ReadableSpan) -> None:  # noqa: ARG002
        self._raise()

    def _raise(self) -> None:
        if self.raising:
            raise LookupError("a processor that is broken")


@define
class Observed:
    """What was told since a test began."""

    switch: Switch
    exporter: InMemorySpanExporter
    reader: InMemoryMetricReader
    before: dict[tuple[str, frozenset[Any]], float] = field(factory=dict[tuple[str, frozenset[Any]], float])

    def spans(self, name: str | None = None) -> list[ReadableSpan]:
        """The spans that have ended, in that order."""
        return [span for span in self.exporter.get_finished_spans() if name in {None, span.name}]

    def span(self, name: str) -> ReadableSpan:
        (found,) = self.spans(name)
        return found

    def children(self, parent: ReadableSpan) -> list[ReadableSpan]:
        assert parent.context is not None
        return [span for span in self.spans() if span.parent and span.parent.span_id == parent.context.span_id]

    def total(self, name: str, **labels: Any) -> float:
        """What was counted under a name (of a histogram: how often), of points that bear the labels."""
        wanted = {key.replace("__", "."): value for key, value in labels.items()}
        return sum(
            value - self.before.get((metric, attributes), 0)
            for (metric, attributes), value in self.values().items()
            if metric == f"phota.client.{name}" and wanted.items() <= dict(attributes).items()
        )

    def metrics(self) -> Iterator[Metric]:
        data = self.reader.get_metrics_data()
        for resource in data.resource_metrics if data else ():
            for scope in resource.scope_metrics:
                if scope.scope.name == "phota_async":
                    yield from scope.metrics

    def values(self) -> dict[tuple[str, frozenset[Any]], float]:
        return {
            (metric.name, frozenset(dict(point.attributes or {}).items())): _value(point)
            for metric in self.metrics()
            for point in metric.data.data_points
        }

    def everything(self) -> str:
        """All that any instrumentation has told, in full."""
        data = self.reader.get_metrics_data()
        told = [span.to_json() for span in self.spans()]
        return "\n".join([*told, data.to_json() if data else ""])


def _value(point: Any) -> float:
    return cast("float", point.count if hasattr(point, "count") else point.value)


@cache
def _providers() -> tuple[Switch, InMemorySpanExporter, InMemoryMetricReader]:
    switch, exporter, reader = Switch(), InMemorySpanExporter(), InMemoryMetricReader()
    provider = TracerProvider(sampler=switch)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    provider.add_span_processor(switch)
    trace.set_tracer_provider(provider)
    metrics.set_meter_provider(MeterProvider([reader]))
    return switch, exporter, reader


@contextmanager
def observing() -> Generator[Observed]:
    switch, exporter, reader = _providers()
    exporter.clear()
    observed = Observed(switch, exporter, reader)
    observed.before = observed.values()
    switch.observing = True
    try:
        yield observed
    finally:
        switch.observing = switch.raising = False
        exporter.clear()


def instrumentation() -> TraceConfig:
    """The instrumentation of aiohttp, as README sets it up."""
    return create_trace_config(url_filter=lambda url: str(url.with_query(None).with_fragment(None)))
