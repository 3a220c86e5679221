"""One client at work in a process of its own: it is given an `Assignment` as JSON and prints `Figures` as JSON."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from importlib import import_module
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

from attrs import asdict, frozen

from benchmarks.meters import StallMeter, peak_mb, resident_mb
from benchmarks.shapes import Enhance, Figures, Photo, Shape

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
        return path.read_bytes() if self.shape.in_memory else path

    def to_json(self) -> str:
        """Return it for a command line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Assignment:
        """Return what `to_json` wrote."""
        fields: Any = json.loads(text)
        return cls(shape=Shape(**fields.pop("shape")), **fields)


async def work(assignment: Assignment) -> Figures:
    """Make all calls and return what they cost; opening the client and a first call are not counted."""
    shape, stalls = assignment.shape, StallMeter()
    async with _opened(assignment) as enhance:
        if not shape.waits:
            await _worker(enhance, iter([assignment.source()]), shape)
        before, cpu, wall = resident_mb(), process_time(), perf_counter()
        async with stalls.running():
            waiting = await _calls(enhance, assignment, before)
        cpu, wall = process_time() - cpu, perf_counter() - wall
    return Figures(
        cpu_ms=cpu / shape.calls * 1000,
        peak_mb=peak_mb(),
        before_mb=before,
        waiting_mb=waiting,
        stall_ms=stalls.longest_ms,
        stall_p99_ms=stalls.p99_ms,
        wall_s=wall,
    )


def _opened(assignment: Assignment) -> AbstractAsyncContextManager[Enhance]:
    client: Any = import_module(f"benchmarks.clients.{assignment.client}")
    opened: AbstractAsyncContextManager[Enhance] = client.opened(
        f"http://127.0.0.1:{assignment.port}/v1/phota", assignment.shape
    )
    return opened


async def _calls(enhance: Enhance, assignment: Assignment, before: float) -> float:
    """Return by how many MB the process had grown for each call while all of them waited, if that was asked."""
    shape = assignment.shape
    photos = iter([assignment.source()] * shape.calls)
    async with asyncio.TaskGroup() as group:
        looking = group.create_task(_growth(assignment, before)) if shape.waits else None
        for _ in range(shape.concurrency):
            group.create_task(_worker(enhance, photos, shape))
    return looking.result() if looking else 0.0


async def _worker(enhance: Enhance, photos: Iterator[Photo], shape: Shape) -> None:
    expected = [shape.image_bytes] * shape.images
    for photo in photos:
        if [len(image) for image in await enhance(photo)] != expected:
            raise ValueError("an answer did not bring its images")


async def _growth(assignment: Assignment, before: float) -> float:
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
    print(json.dumps(asdict(asyncio.run(work(Assignment.from_json(sys.argv[1]))))))
