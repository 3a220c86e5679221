"""Folder runs: their memory, what a finished folder costs that is run again, and how long they hold the loop.

Each figure comes from a process of its own (``python -m benchmarks.folder TASK``, the task as JSON), the processes that
are compared take turns, and a ratio is that of two which ran one after the other.
"""

from __future__ import annotations

import asyncio
import base64
import gc
import hashlib
import itertools
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path, PurePath
from tempfile import TemporaryDirectory
from time import perf_counter, process_time

import aiohttp
from attrs import AttrsInstance, asdict, evolve, frozen

from benchmarks.meters import StallMeter, peak_mb
from benchmarks.processes import ledger, python, served
from benchmarks.shapes import OURS, PLAIN, Goal, Shape
from phota_async import PhotaClient
from phota_async.folder.job import FolderJob
from phota_async.folder.rules import options_text
from phota_async.folder.survey import find
from phota_async.journal import Claim, Journal, Key, Row, items, names, photos, runs, walks
from phota_async.journal.runs import Run
from phota_async.models import EnhanceOptions

_IN_A_FOLDER = 100
_JPEG = b"\xff\xd8\xff\xe0"
_PNG = b"\x89PNG\r\n\x1a\n an image"
_OPTIONS = EnhanceOptions(response_mode="urls")
_MANY, _FEW = 100_000, 100


@frozen(kw_only=True)
class Task:
    """What a process does.

    Attributes:
        role: One of `_ROLES`.
        source: A folder of photos.
        output: The folder of their images.
        port: Where the server is.
        concurrency: How many calls are in flight.
        checksum: Whether a folder run reads every photo again.
        ticks: Whether the stalls of the loop are measured, which takes a little itself.
    """

    role: str
    source: str
    output: str = ""
    port: int = 0
    concurrency: int = 64
    checksum: bool = False
    ticks: bool = False

    def done(self) -> Cost:
        """Have it done by a process of its own, and return what that cost."""
        return Cost(**json.loads(python("-m", "benchmarks.folder", json.dumps(asdict(self)))))


@frozen
class Cost:
    """What a task cost its process: imports, opening the client and the event loop left out.

    Attributes:
        wall_ms: How long it took.
        cpu_ms: CPU time of the process, all threads.
        peak_mb: Its highest resident set, the interpreter and the imports included.
        stall_ms: The longest time that the event loop was held, where it has one.
        stall_p99_ms: What 99 of 100 ticks of the loop stayed below.
    """

    wall_ms: float
    cpu_ms: float
    peak_mb: float
    stall_ms: float = 0.0
    stall_p99_ms: float = 0.0


# ---- the questions


@frozen(kw_only=True)
class FolderMemory:
    """Peak memory of a run of many photos, and of one of a tenth."""

    peak_mb: float
    tenth_peak_mb: float
    peak_ratio: float
    a_photo_ms: float


@frozen(kw_only=True)
class FolderAgain:
    """A finished folder that is run again, beside a bare loop over the same photos; times in milliseconds."""

    again_ratio: float
    again_cpu_ratio: float
    again_ms: float
    bare_ms: float
    sent: float


@frozen(kw_only=True)
class FolderStall:
    """How long the loop is held while images are downloaded to the disk."""

    stall_ms: float
    stall_p99_ms: float
    wall_s: float


@frozen(kw_only=True)
class FolderMany:
    """Peak memory of a finished folder with very many photos, beside one with few; and the time of the journal."""

    peak_mb: float
    few_peak_mb: float
    peak_ratio: float
    journal_ms: float


@frozen(kw_only=True)
class FolderQuestion:
    """A question, its goals, and what answers it: a function of the shape and an empty folder."""

    shape: Shape
    goals: tuple[Goal, ...]
    answer: Callable[[Shape, Path], dict[str, Sequence[AttrsInstance]]]

    def measure(self, shape: Shape) -> dict[str, Sequence[AttrsInstance]]:
        """Return the figures, round by round; ``shape`` is this question's, or a shortened one."""
        with TemporaryDirectory() as folder:
            return self.answer(shape, Path(folder))


def _memory(shape: Shape, folder: Path) -> dict[str, Sequence[AttrsInstance]]:
    many, tenth = _photos(folder / "many", shape.calls, shape), _photos(folder / "tenth", shape.calls // 10, shape)
    found: list[FolderMemory] = []
    with served(shape, linked=True) as port:
        for number in _rounds(shape):
            tasks = [
                Task(role="run", source=str(source), output=f"{source}-{number}", port=port) for source in (tenth, many)
            ]
            less, more = (evolve(task, concurrency=shape.concurrency).done() for task in tasks)
            found.append(
                FolderMemory(
                    peak_mb=more.peak_mb,
                    tenth_peak_mb=less.peak_mb,
                    peak_ratio=more.peak_mb / less.peak_mb,
                    a_photo_ms=more.wall_ms / shape.calls,
                )
            )
    return {OURS: found}


def _again(shape: Shape, folder: Path) -> dict[str, Sequence[AttrsInstance]]:
    return _beside(shape, folder, "walk", checksum=False)


def _checksum(shape: Shape, folder: Path) -> dict[str, Sequence[AttrsInstance]]:
    return _beside(shape, folder, "hash", checksum=True)


def _beside(shape: Shape, folder: Path, bare: str, *, checksum: bool) -> dict[str, Sequence[AttrsInstance]]:
    source, output = str(_photos(folder / "photos", shape.calls, shape)), str(folder / "images")
    Task(role="fill", source=source, output=output).done()
    found: list[FolderAgain] = []
    with served(shape, linked=True) as port:
        for number in _rounds(shape):
            tasks = [
                Task(role=bare, source=source),
                Task(role="run", source=source, output=output, port=port, checksum=checksum),
            ]
            costs = {task.role: task.done() for task in (tasks if number % 2 else reversed(tasks))}
            found.append(
                FolderAgain(
                    again_ratio=costs["run"].wall_ms / costs[bare].wall_ms,
                    again_cpu_ratio=costs["run"].cpu_ms / costs[bare].cpu_ms,
                    again_ms=costs["run"].wall_ms,
                    bare_ms=costs[bare].wall_ms,
                    sent=ledger(port)["requests"],
                )
            )
    return {OURS: found}


def _stall(shape: Shape, folder: Path) -> dict[str, Sequence[AttrsInstance]]:
    source = str(_photos(folder / "photos", shape.calls, shape))
    roles = {OURS: "run", PLAIN: "plain"}
    found: dict[str, Sequence[AttrsInstance]] = {}
    costs: dict[str, list[FolderStall]] = {client: [] for client in roles}
    with served(shape, linked=True) as port:
        for number in _rounds(shape):
            for client in roles if number % 2 else reversed(roles):
                with TemporaryDirectory(dir=folder) as output:
                    task = Task(role=roles[client], source=source, output=output, port=port, ticks=True)
                    cost = evolve(task, concurrency=shape.concurrency).done()
                costs[client].append(
                    FolderStall(stall_ms=cost.stall_ms, stall_p99_ms=cost.stall_p99_ms, wall_s=cost.wall_ms / 1000)
                )
        if ledger(port)["fetched"] != shape.calls * shape.rounds * len(roles):
            raise ValueError("the server saw other downloads than were asked for")
    found.update(costs)
    return found


def _many(shape: Shape, folder: Path) -> dict[str, Sequence[AttrsInstance]]:
    many, few = _photos(folder / "many", shape.calls, shape), _photos(folder / "few", _FEW, shape)
    filled = [Task(role="fill", source=str(source), output=f"{source}-images").done() for source in (many, few)]
    found: list[FolderMany] = []
    with served(shape, linked=True) as port:
        for _ in _rounds(shape):
            more, less = (
                Task(role="run", source=str(source), output=f"{source}-images", port=port).done()
                for source in (many, few)
            )
            found.append(
                FolderMany(
                    peak_mb=more.peak_mb,
                    few_peak_mb=less.peak_mb,
                    peak_ratio=more.peak_mb / less.peak_mb,
                    journal_ms=filled[0].wall_ms / shape.calls,
                )
            )
    return {OURS: found}


def _rounds(shape: Shape) -> Iterator[int]:
    for number in range(shape.rounds):
        print(f"{shape.name}: round {number + 1} of {shape.rounds}", file=sys.stderr)
        yield number


def _photos(folder: Path, count: int, shape: Shape) -> Path:
    """Make so many photos, all different, in folders of a hundred."""
    content = _JPEG + os.urandom(shape.photo_bytes - len(_JPEG) - 8)
    for number in range(count):
        inner = folder / f"{number // _IN_A_FOLDER:04}"
        if number % _IN_A_FOLDER == 0:
            inner.mkdir(parents=True)
        (inner / f"IMG_{number:06}.jpg").write_bytes(content + number.to_bytes(8, "big"))
    return folder


QUESTIONS = (
    FolderQuestion(
        shape=Shape(
            name="folder-memory",
            title="a folder run, 1 MB in, a link to 1 MB out, 64 at once, answered after 100 ms",
            photo_bytes=1_000_000,
            images=1,
            image_bytes=1_000_000,
            concurrency=64,
            latency=0.1,
            calls=2000,
            rounds=3,
        ),
        goals=(Goal("peak_ratio", 1.5, relative=False), Goal("peak_mb", 150, relative=False)),
        answer=_memory,
    ),
    FolderQuestion(
        shape=Shape(
            name="folder-again",
            title="a finished folder run again, beside a bare walk with stat",
            photo_bytes=2000,
            images=1,
            image_bytes=2000,
            concurrency=64,
            latency=0.0,
            calls=10_000,
            rounds=9,
        ),
        goals=(Goal("again_ratio", 3.0, relative=False), Goal("sent", 0.0, relative=False)),
        answer=_again,
    ),
    FolderQuestion(
        shape=Shape(
            name="folder-checksum",
            title="the same with checksum and photos of 1 MB, beside hashing them one by one",
            photo_bytes=1_000_000,
            images=1,
            image_bytes=2000,
            concurrency=64,
            latency=0.0,
            calls=1000,
            rounds=9,
        ),
        goals=(Goal("again_ratio", 1.2, relative=False), Goal("sent", 0.0, relative=False)),
        answer=_checksum,
    ),
    FolderQuestion(
        shape=Shape(
            name="folder-stall",
            title="a folder run, 3 MB in, a link to 8 MB out, 16 at once, answered after 200 ms",
            photo_bytes=3_000_000,
            images=1,
            image_bytes=8_000_000,
            concurrency=16,
            latency=0.2,
            calls=64,
            rounds=5,
        ),
        goals=(Goal("stall_ms", 1 / 8),),
        answer=_stall,
    ),
    FolderQuestion(
        shape=Shape(
            name="folder-many",
            title="a finished folder run again, beside one with 100 photos",
            photo_bytes=100,
            images=1,
            image_bytes=2000,
            concurrency=64,
            latency=0.0,
            calls=_MANY,
            rounds=3,
        ),
        goals=(),
        answer=_many,
    ),
)


# ---- the processes


def _metered(task: Task, work: Callable[[Task], object]) -> Cost:
    gc.collect()
    wall, cpu = perf_counter(), process_time()
    work(task)
    return Cost(1000 * (perf_counter() - wall), 1000 * (process_time() - cpu), peak_mb())


def _walk(task: Task) -> None:
    for root, _, files in os.walk(task.source):
        for name in files:
            os.stat(os.path.join(root, name))  # noqa: PTH116, PTH118  (a bare walk makes no Path)


def _hash(task: Task) -> None:
    for root, _, files in os.walk(task.source):
        for name in files:
            with open(os.path.join(root, name), "rb") as file:  # noqa: PTH118, PTH123  (as above)
                hashlib.file_digest(file, "sha256")


def _fill(task: Task) -> Cost:
    """Finish a folder without a server, and return what the journal cost: photos go through it as in a run."""
    output, waiting = Path(task.output), 0.0
    output.mkdir()
    with Journal.open(output) as journal:
        options = journal.write([items.number_of(options_text(_OPTIONS))])[0]
        run: Run = journal.write([runs.begun(options, overwrite=False, stand_in=True)])[0]
        find(journal, FolderJob.of(sources=task.source, output=output, options=_OPTIONS))
        rows = itertools.chain.from_iterable(photos.pages(journal, run))
        while some := list(itertools.islice(rows, task.concurrency)):
            waiting += _bought(journal, run, some)
        journal.write([runs.ended(run, complete=True, message=None)])
    return Cost(1000 * waiting, 0.0, peak_mb())


def _bought(journal: Journal, run: Run, rows: list[Row]) -> float:
    """Write all that a run writes of photos that are under way together, and return the seconds of it."""
    hashes = [hashlib.sha256(Path(os.fsdecode(row.source)).read_bytes()).digest() for row in rows]
    claims = [
        Claim(
            source=row.source,
            name=PurePath(os.fsdecode(row.name)),
            key=Key(sha256, run.options),
            extension=".png",
            count=1,
            overwrite=False,
        )
        for row, sha256 in zip(rows, hashes, strict=True)
    ]
    answer = items.Answer(links=("http://127.0.0.1/image.png",), request_id="request", cost_usd=0.12, run=run.number)
    begun = perf_counter()
    journal.write(
        walks.identified(row.source, row.size, row.modified_ns, sha256)
        for row, sha256 in zip(rows, hashes, strict=True)
    )
    reserved = journal.write(names.reserve(journal.folder, claim) for claim in claims)
    journal.write(items.sent(claim.key, claim.source) for claim in claims)
    journal.write(items.answered(claim.key, claim.source, answer) for claim in claims)
    journal.write(names.place(claim, got.names) for claim, got in zip(claims, reserved, strict=True))
    seconds = perf_counter() - begun
    for got in reserved:
        path = journal.folder / got.names[0]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(_PNG)
    return seconds


def _base_url(task: Task) -> str:
    return f"http://127.0.0.1:{task.port}/v1/phota"


async def _run(task: Task) -> Cost:
    """Make a folder run."""
    stalls = StallMeter()
    meter = stalls.running() if task.ticks else nullcontext()
    async with PhotaClient("key", base_url=_base_url(task), max_concurrency=task.concurrency, proxy="") as phota:
        with TemporaryDirectory() as nothing:
            await phota.enhance_folder(nothing, Path(nothing) / "images")  # what is done once, on first use
        gc.collect()
        wall, cpu = perf_counter(), process_time()
        async with meter:
            report = await phota.enhance_folder(task.source, task.output, checksum=task.checksum)
        wall, cpu = perf_counter() - wall, process_time() - cpu
    if report.failures or report.not_attempted:
        raise ValueError(f"a photo was not enhanced: {report}")
    return Cost(1000 * wall, 1000 * cpu, peak_mb(), stalls.longest_ms, stalls.p99_ms)


def _paths(source: str) -> list[Path]:
    return sorted(Path(source).rglob("*.jpg"))


async def _plain(task: Task) -> Cost:
    """Do the same with plain aiohttp, as one writes it at first."""
    stalls, paths = StallMeter(), iter(_paths(task.source))
    async with aiohttp.ClientSession(headers={"X-API-Key": "key"}) as session:

        async def worker() -> None:
            for path in paths:
                body = {"image": base64.b64encode(path.read_bytes()).decode(), "response_mode": "urls"}
                async with session.post(f"{_base_url(task)}/enhance", json=body) as response:
                    response.raise_for_status()
                    links = (await response.json())["download_urls"]
                for link in links:
                    async with session.get(link) as response:
                        response.raise_for_status()
                        (Path(task.output) / f"{path.stem}.png").write_bytes(await response.read())

        wall, cpu = perf_counter(), process_time()
        async with stalls.running(), asyncio.TaskGroup() as group:
            for _ in range(task.concurrency):
                group.create_task(worker())
        wall, cpu = perf_counter() - wall, process_time() - cpu
    return Cost(1000 * wall, 1000 * cpu, peak_mb(), stalls.longest_ms, stalls.p99_ms)


_ROLES: dict[str, Callable[[Task], Cost]] = {
    "run": lambda task: asyncio.run(_run(task)),
    "plain": lambda task: asyncio.run(_plain(task)),
    "walk": lambda task: _metered(task, _walk),
    "hash": lambda task: _metered(task, _hash),
    "fill": _fill,
}


if __name__ == "__main__":
    asked = Task(**json.loads(sys.argv[1]))
    print(json.dumps(asdict(_ROLES[asked.role](asked))))
