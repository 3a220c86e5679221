"""What a process of its own does for a question that compares no clients: a `Task` as JSON in, its `Cost` as JSON out.

The modules that do it import what they measure; this one imports neither the library nor a peer.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import Any, TypeVar

from attrs import asdict, evolve, frozen

from benchmarks.asking import Circumstances, Figures
from benchmarks.meters import StallMeter, peak_mb
from benchmarks.processes import ledger, python
from benchmarks.work import Shape

_IN_A_FOLDER = 100
_JPEG = b"\xff\xd8\xff\xe0"
_NUMBER_BYTES = 8

T = TypeVar("T")


@frozen(kw_only=True)
class Task:
    """What a process does.

    Attributes:
        role: One of those that ``module`` knows.
        module: What is run.
        shape: How large and how many the photos are, and how many calls are in flight.
        port: Where the server is.
        source: A folder of photos.
        output: The folder of their images.
        checksum: Whether a folder run reads every photo again.
        ticks: Whether the stalls of the loop are measured, which takes a little itself.
        times: How often a folder run is made; of the times it took the median counts, of the memory the first.
        net: Whether what a folder run costs that has nothing to do is taken off the times.
    """

    role: str
    module: str
    shape: Shape
    port: int = 0
    source: str = ""
    output: str = ""
    checksum: bool = False
    ticks: bool = False
    times: int = 1
    net: bool = False

    @classmethod
    def from_json(cls, text: str) -> Task:
        """Return what `done` wrote."""
        fields: Any = json.loads(text)
        return cls(shape=Shape(**fields.pop("shape")), **fields)

    def done(self, where: Circumstances) -> Cost:
        """Have it done by a process of its own, and return what that cost."""
        return Cost(**json.loads(python("-m", self.module, json.dumps(asdict(self)), interpreter=where.python)))


@frozen(kw_only=True)
class Cost:
    """What a task cost its process: imports, opening the client and the event loop left out.

    Attributes:
        cpu_ms: CPU time of the process, all threads.
        wall_ms: How long it took.
        peak_mb: Its highest resident set, the interpreter and the imports included.
        stall_ms: The longest time that the event loop was held, where it was measured.
        stall_p99_ms: What 99 of 100 ticks of the loop stayed below.
        server_ms: CPU time of the server meanwhile, less the share of what came before the meters started.
    """

    cpu_ms: float
    wall_ms: float
    peak_mb: float
    stall_ms: float = 0.0
    stall_p99_ms: float = 0.0
    server_ms: float = 0.0

    @classmethod
    def middle(cls, costs: Sequence[Cost]) -> Cost:
        """Return the first of some with the median of their times."""
        cpu, wall = median(cost.cpu_ms for cost in costs), median(cost.wall_ms for cost in costs)
        return evolve(costs[0], cpu_ms=cpu, wall_ms=wall)

    def without(self, fixed: Cost) -> Cost:
        """Return the same less the times of what is done once, however much there is to do."""
        return evolve(self, cpu_ms=self.cpu_ms - fixed.cpu_ms, wall_ms=self.wall_ms - fixed.wall_ms)

    def each(self, items: int) -> Figures:
        """Return the times an item, and the memory as it is."""
        return {
            "cpu_ms": self.cpu_ms / items,
            "peak_mb": self.peak_mb,
            "wall_ms": self.wall_ms / items,
            "server_ms": self.server_ms / items,
        }

    @property
    def stalls(self) -> Figures:
        """How long the loop was held."""
        return {"stall_ms": self.stall_ms, "stall_p99_ms": self.stall_p99_ms}


# ---- on the asking side


def witnessed(task: Task, where: Circumstances, *, requests: int, fetched: int = 0) -> Cost:
    """Have a task done, and return its cost and the server's.

    Raises:
        ValueError: The server saw another number of requests or of fetched images.
    """
    before = ledger(task.port)
    cost = task.done(where)
    after = ledger(task.port)
    done = {name: after[name] - before[name] for name in after}
    if done["requests"] != requests or done["answers"] != requests or done["fetched"] != fetched:
        raise ValueError(f"the server saw other work than {requests} requests and {fetched} images: {done}")
    if done["received"] < requests * task.shape.photo_bytes * 4 / 3:
        raise ValueError(f"the server was not sent the photos: {done}")
    share = task.shape.calls / requests if requests else 1.0
    return evolve(cost, server_ms=done["cpu_s"] * 1000 * share)


def bought(task: Task, where: Circumstances) -> Cost:
    """Have a folder's photos bought and their images written, and return what that cost.

    Raises:
        ValueError: Requests, downloads or files are not one for each photo.
    """
    shape = task.shape
    cost = witnessed(task, where, requests=shape.calls, fetched=shape.calls)
    written = [path.stat().st_size for path in Path(task.output).rglob("*.png")]
    if written != [shape.image_bytes] * shape.calls:
        raise ValueError(f"{len(written)} files were written for {shape.calls} photos, or not all of them whole")
    return cost


def photos(folder: Path, shape: Shape) -> str:
    """Make as many photos as there are calls, all different, in folders of a hundred, and return where."""
    folder.mkdir()
    content = _JPEG + os.urandom(shape.photo_bytes - len(_JPEG) - _NUMBER_BYTES)
    for number in range(shape.calls):
        inner = folder / f"{number // _IN_A_FOLDER:04}"
        if number % _IN_A_FOLDER == 0:
            inner.mkdir()
        (inner / f"IMG_{number:06}.jpg").write_bytes(content + number.to_bytes(_NUMBER_BYTES, "big"))
    return str(folder)


# ---- on the side of the process


def answer(roles: Mapping[str, Callable[[Task], Cost]]) -> None:
    """Do the task of the command line and print its cost."""
    task = Task.from_json(sys.argv[1])
    print(json.dumps(asdict(roles[task.role](task))))


async def metered(work: Awaitable[T], *, ticks: bool = False) -> tuple[Cost, T]:
    """Await, and return what that cost and what came of it."""
    stalls = StallMeter()
    gc.collect()
    wall, cpu = perf_counter(), process_time()
    async with stalls.running() if ticks else nullcontext():
        result = await work
    wall, cpu = perf_counter() - wall, process_time() - cpu
    cost = Cost(
        cpu_ms=1000 * cpu,
        wall_ms=1000 * wall,
        peak_mb=peak_mb(),
        stall_ms=stalls.longest_ms,
        stall_p99_ms=stalls.p99_ms,
    )
    return cost, result
