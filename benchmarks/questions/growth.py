"""What an item costs among a hundred, and among a hundred thousand: neither its CPU nor the memory may grow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from attrs import evolve

from benchmarks.asking import Answer, Circumstances, Figures, Goal, Question
from benchmarks.processes import progress, served
from benchmarks.tasks import Cost, Task, bought, photos, witnessed
from benchmarks.work import Shape

_FEW, _SOME, _MANY, _MOST = 100, 1_000, 10_000, 100_000
_ROUNDS, _ROUNDS_OF_MOST = 2, 1
_TIMES = 20
_SHAPE = Shape(photo_bytes=2000, image_bytes=2000, concurrency=64, calls=_FEW)

_Found = dict[str, list[Figures]]


def _ask(where: Circumstances) -> Answer:
    found: _Found = {}
    with served(_SHAPE) as port:
        _in_memory(port, where, found)
    with TemporaryDirectory(dir=where.folder) as place, served(_SHAPE) as port:
        _in_folders(Path(place), port, where, found)
    return Answer(rounds=found)


def _in_memory(port: int, where: Circumstances, found: _Found) -> None:
    stream = Task(role="stream", module="benchmarks.growth_tasks", shape=_SHAPE, port=port)
    tasks = {f"stream {size}": _of(stream, size) for size in _sizes(where, _FEW, _SOME, _MANY, _MOST)}
    for size in _sizes(where, _FEW, _MANY):
        tasks[f"aiohttp gather {size}"] = _of(evolve(stream, role="gather"), size)
    for number, name in _turns(tasks, where):
        task = tasks[name]
        if number < _ROUNDS_OF_MOST or task.shape.calls < _MOST:
            # A first batch, as wide as it goes, comes before what is measured.
            cost = witnessed(task, where, requests=task.shape.calls + task.shape.concurrency)
            found.setdefault(name, []).append(cost.each(task.shape.calls))


def _in_folders(place: Path, port: int, where: Circumstances, found: _Found) -> None:
    # Net of what a run costs that has nothing to do, which is to open the journal, above all.
    run = Task(role="run", module="benchmarks.folder_tasks", shape=_SHAPE, port=port, net=True)
    tasks: dict[str, Task] = {}
    for size in _sizes(where, _FEW, _SOME, _MANY, _MOST):
        progress(f"making and finishing a folder of {size}")
        task = _of(run, size)
        task = evolve(task, source=photos(place / str(size), task.shape), output=f"{place}/{size}-images")
        cost = witnessed(evolve(task, role="fill"), where, requests=0)
        found[f"journal {size}"] = [cost.each(size)]
        # A run that has nothing to buy looks at a hundred photos in less than the noise of opening the journal.
        if size > _FEW:
            tasks[f"again {size}"] = evolve(task, times=1 if size > _SOME else _TIMES)
        if size < _MOST:
            tasks[f"folder {size}"] = task
    for _, name in _turns(tasks, where):
        task = tasks[name]
        cost = witnessed(task, where, requests=0) if name.startswith("again") else _bought(task, where)
        found.setdefault(name, []).append(cost.each(task.shape.calls))


def _bought(task: Task, where: Circumstances) -> Cost:
    with TemporaryDirectory(dir=where.folder) as output:
        return bought(evolve(task, output=f"{output}/images"), where)


def _of(task: Task, size: int) -> Task:
    return evolve(task, shape=evolve(task.shape, calls=size))


def _sizes(where: Circumstances, *sizes: int) -> Sequence[int]:
    return sizes[:-1] if where.quick else sizes


def _turns(tasks: dict[str, Task], where: Circumstances) -> Iterator[tuple[int, str]]:
    for number in where.rounds(_ROUNDS):
        for name in tasks if number % 2 == 0 else reversed(tasks):
            progress(f"round {number + 1}, {name}")
            yield number, name


def _flat(kind: str, size: int) -> tuple[Goal, Goal]:
    most, some = f"{kind} {size}", f"{kind} {_SOME}"
    return (
        Goal(figure="cpu_ms", limit=1.25, client=most, beside=some),
        Goal(figure="peak_mb", limit=1.1, client=most, beside=some),
    )


QUESTION = Question(
    name="growth",
    title="100 to 100,000 items, 2 KB both ways, 64 at once, answered at once",
    ask=_ask,
    goals=(*_flat("stream", _MOST), *_flat("folder", _MANY), *_flat("again", _MOST)),
    about="`stream`: `enhance_stream`, its outcomes thrown away. `aiohttp gather`: plain aiohttp with a task for each"
    " photo, all at once, its images kept as `gather` does. `folder`: a folder run that buys every photo. `journal`:"
    " what such a run writes to its journal, without a server. `again`: a finished folder run again. What an empty run"
    " costs is taken off the times of `folder` and `again`.",
)
