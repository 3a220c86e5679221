"""One client at work in a process of its own: it is given an `Assignment` as JSON and prints its figures as JSON.

It prints a line of its own before the work that is measured, and waits for one on standard input: from then on its
memory is looked at from outside.
"""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import AbstractAsyncContextManager
from importlib import import_module
from itertools import repeat
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

from attrs import asdict, frozen

from benchmarks.meters import StallMeter, peak_mb, resident_mb
from benchmarks.work import Photo, Shape, Work

READY = "ready"
_LOOKS_A_SECOND = 10


@frozen
class Assignment:
    """Who does what, and where."""

    client: str
    shape: Shape
    port: int
    photo: str

    def source(self) -> Photo:
        """Return what the clients are given."""
        path = Path(self.photo)
        return path if self.shape.from_files else path.read_bytes()

    def to_json(self) -> str:
        """Return it for a command line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Assignment:
        """Return what `to_json` wrote."""
        fields: Any = json.loads(text)
        return cls(shape=Shape(**fields.pop("shape")), **fields)


async def done(assignment: Assignment) -> dict[str, float]:
    """Make all calls and return what they cost; opening the client and a first call are not counted."""
    shape, stalls = assignment.shape, StallMeter()
    async with _opened(assignment) as work:
        source = assignment.source()
        if not shape.waits:
            await work(repeat(source, 1))
        print(READY, flush=True)
        sys.stdin.readline()
        before, cpu, wall = resident_mb(), process_time(), perf_counter()
        async with stalls.running(), asyncio.TaskGroup() as group:
            looking = group.create_task(_growth(assignment, before)) if shape.waits else None
            await work(repeat(source, shape.calls))
        cpu, wall = process_time() - cpu, perf_counter() - wall
    return {
        "cpu_ms": cpu / shape.calls * 1000,
        "peak_mb": peak_mb(),
        "before_mb": before,
        "stall_ms": stalls.longest_ms,
        "stall_p99_ms": stalls.p99_ms,
        "wall_ms": wall / shape.calls * 1000,
        **({"waiting_mb": looking.result()} if looking else {}),
    }


def _opened(assignment: Assignment) -> AbstractAsyncContextManager[Work]:
    client: Any = import_module(f"benchmarks.clients.{assignment.client}")
    opened: AbstractAsyncContextManager[Work] = client.opened(f"http://127.0.0.1:{assignment.port}", assignment.shape)
    return opened


async def _growth(assignment: Assignment, before: float) -> float:
    """Return by how many MB the process has grown for each call when all of them wait."""
    waiting, earlier = await _ledger(assignment.port)
    while waiting < assignment.shape.calls:
        await asyncio.sleep(1 / _LOOKS_A_SECOND)
        waiting, answers = await _ledger(assignment.port)
        if answers > earlier:
            raise ValueError("an answer came before every call waited; the latency is too short for this machine")
    return (resident_mb() - before) / waiting


async def _ledger(port: int) -> tuple[int, int]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(b"GET /ledger HTTP/1.1\r\nConnection: close\r\n\r\n")
        answer = (await reader.read()).partition(b"\r\n\r\n")[2]
    finally:
        writer.close()
    ledger: dict[str, int] = json.loads(answer)
    return ledger["waiting"], ledger["answers"]


if __name__ == "__main__":
    print(json.dumps(asyncio.run(done(Assignment.from_json(sys.argv[1])))))
