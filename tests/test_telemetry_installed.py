"""With opentelemetry-api and without, with an SDK and without: each in a process of its own, against the sandbox."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

from phota_async.sandbox import Sandbox

CALL = """
import asyncio, sys
import phota_async
from phota_async import PhotaClient

def loaded():
    return sorted({name.split(".")[0] for name in sys.modules if name.startswith("opentelemetry")})

async def call(*, retry=phota_async.RetryPolicy(initial_wait=0)):
    async with PhotaClient("key", base_url=sys.argv[1], retry=retry) as phota:
        result = await phota.enhance(sys.argv[2], response_mode="urls")
        await phota.download(result.download_urls[0])
"""


def run(box: Sandbox, photo: Path, program: str) -> str:
    """Run a program after the lines above, and return what it printed."""
    source = f"{textwrap.dedent(program.partition('###')[0])}{CALL}{textwrap.dedent(program.partition('###')[2])}"
    done = subprocess.run(  # noqa: S603  (our own interpreter and program)
        [sys.executable, "-W", "error", "-c", source, box.url, str(photo)],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_without_it_nothing_is_loaded_and_calls_are_made(phota_sandbox: Sandbox, photo: Path) -> None:
    program = """
        import sys
        sys.modules["opentelemetry"] = None
        ###
        asyncio.run(call())
        print([name for name in sys.modules if "telemetry" in name])
    """
    assert run(phota_sandbox, photo, program) == "['opentelemetry']\n"  # the one that says that it is not there
    assert phota_sandbox.ledger.charged_images == 1


def test_it_is_loaded_when_a_client_opens_and_not_before(phota_sandbox: Sandbox, photo: Path) -> None:
    program = """
        ###
        PhotaClient("key")
        print(loaded())
        asyncio.run(call())
        print(loaded())
        print(sorted(name for name in sys.modules if name.startswith("opentelemetry.sdk")))
    """
    assert run(phota_sandbox, photo, program) == "[]\n['opentelemetry']\n[]\n"


def test_without_an_sdk_nothing_is_told_and_what_is_current_stays(phota_sandbox: Sandbox, photo: Path) -> None:
    program = """
        ###
        from opentelemetry import context, trace

        seen = []
        async def both():
            await call()
            seen.append(context.get_current())
            far = trace.SpanContext(1, 2, is_remote=True)
            with trace.use_span(trace.NonRecordingSpan(far)):
                await call()
                seen.append(trace.get_current_span().get_span_context() == far)

        asyncio.run(both())
        print(seen)
    """
    assert run(phota_sandbox, photo, program) == "[{}, True]\n"


def test_an_sdk_that_is_set_up_later_is_told_from_then_on(phota_sandbox: Sandbox, photo: Path) -> None:
    program = """
        ###
        from opentelemetry import metrics, trace
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import InMemoryMetricReader
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import SimpleSpanProcessor
        from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

        asyncio.run(call())
        exporter, reader, provider = InMemorySpanExporter(), InMemoryMetricReader(), TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        trace.set_tracer_provider(provider)
        metrics.set_meter_provider(MeterProvider([reader]))
        asyncio.run(call())
        print([span.name for span in exporter.get_finished_spans()])
        (resource,) = reader.get_metrics_data().resource_metrics
        print(sorted(metric.name.removeprefix("phota.client.") for metric in resource.scope_metrics[0].metrics))
        print(resource.scope_metrics[0].scope.name, resource.scope_metrics[0].scope.version == phota_async.__version__)
    """
    assert run(phota_sandbox, photo, program).splitlines() == [
        "['phota.enhance', 'phota.download']",
        "['attempts', 'call.duration', 'calls', 'in_flight', 'queue', 'spend', 'width']",
        "phota_async True",
    ]


def test_an_api_that_is_too_old_is_said_and_left_alone(phota_sandbox: Sandbox, photo: Path) -> None:
    # Before 1.30 a histogram took no advice on its buckets.
    program = """
        from opentelemetry.metrics import NoOpMeter
        import opentelemetry.metrics

        class OldMeter(NoOpMeter):
            def create_histogram(self, name, unit="", description=""):
                return super().create_histogram(name, unit, description)

        opentelemetry.metrics.get_meter = lambda *scope, **more: OldMeter("old")
        ###
        asyncio.run(call())
    """
    told = run(phota_sandbox, photo, program)
    assert told.startswith("opentelemetry-api cannot be used, from 1.30 it can:")
    assert "explicit_bucket_boundaries_advisory" in told
    assert phota_sandbox.ledger.charged_images == 1
