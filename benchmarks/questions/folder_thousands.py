"""A folder of thousands: what a photo costs from file to file, and whether memory keeps to the calls in flight."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from attrs import evolve

from benchmarks.asking import OURS, PLAIN, Answer, Circumstances, Figures, Goal, Question
from benchmarks.processes import progress, served
from benchmarks.tasks import Task, bought, photos
from benchmarks.work import Shape

_TENTH = "phota_async, a tenth"
_SHAPE = Shape(photo_bytes=1_000_000, image_bytes=1_000_000, concurrency=64, latency=0.1, calls=2000)


def _ask(where: Circumstances) -> Answer:
    shape = _SHAPE.shortened() if where.quick else _SHAPE
    with TemporaryDirectory(dir=where.folder) as place, served(shape) as port:
        tasks = _tasks(shape, Path(place), port)
        found: dict[str, list[Figures]] = {name: [] for name in tasks}
        for number in where.rounds(3):
            for name in tasks if number % 2 == 0 else reversed(tasks):
                progress(f"round {number + 1}, {name}")
                found[name].append(_measured(tasks[name], where))
    return Answer(rounds=found)


def _tasks(shape: Shape, place: Path, port: int) -> dict[str, Task]:
    tenth = evolve(shape, calls=shape.calls // 10)
    many, few = photos(place / "many", shape), photos(place / "few", tenth)
    ours = Task(role="run", module="benchmarks.folder_tasks", shape=shape, port=port, source=many, ticks=True)
    return {OURS: ours, PLAIN: evolve(ours, role="plain"), _TENTH: evolve(ours, shape=tenth, source=few)}


def _measured(task: Task, where: Circumstances) -> Figures:
    with TemporaryDirectory(dir=where.folder) as output:
        cost = bought(evolve(task, output=f"{output}/images"), where)
    return {**cost.each(task.shape.calls), **cost.stalls}


QUESTION = Question(
    name="folder-thousands",
    title="a folder run of 2,000 photos, 1 MB in, a link to 1 MB out, 64 at once, answered after 100 ms",
    ask=_ask,
    goals=(Goal(figure="peak_mb", limit=1.5, beside=_TENTH), Goal(figure="peak_mb", limit=150)),
    about="From files to files. phota_async also hashes each photo, keeps a journal, and writes each image to the disk"
    " (fsync) before it takes its name; plain aiohttp writes with `write_bytes`.",
)
