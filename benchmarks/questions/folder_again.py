"""A finished folder that is run again, beside a bare loop over the same photos."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from attrs import evolve

from benchmarks.asking import OURS, Answer, Circumstances, Figures, Goal, Question
from benchmarks.processes import ledger, progress, served
from benchmarks.tasks import Task, photos
from benchmarks.work import Shape

_SHAPE = Shape(photo_bytes=2000, image_bytes=2000, concurrency=64, calls=10_000)


def beside(shape: Shape, bare: str, where: Circumstances, *, checksum: bool) -> Answer:
    """Run a finished folder again, in turns with a bare loop; a ratio is that of two that ran one after the other.

    A quick look is at as many photos: what a run costs once would weigh more among fewer.
    """
    found: list[Figures] = []
    with TemporaryDirectory(dir=where.folder) as place, served(shape) as port:
        run = Task(
            role="run",
            module="benchmarks.folder_tasks",
            shape=shape,
            port=port,
            source=photos(Path(place, "photos"), shape),
            output=f"{place}/images",
            checksum=checksum,
        )
        evolve(run, role="fill").done(where)
        for number in where.rounds(7):
            progress(f"round {number + 1}")
            found.append(_compared(run, evolve(run, role=bare), where, bare_first=number % 2 == 1))
    return Answer(rounds={OURS: found})


def _compared(run: Task, bare: Task, where: Circumstances, *, bare_first: bool) -> Figures:
    before = ledger(run.port)["requests"]
    costs = {task.role: task.done(where) for task in ((bare, run) if bare_first else (run, bare))}
    ours, other = costs[run.role], costs[bare.role]
    return {
        "again_ratio": ours.wall_ms / other.wall_ms,
        "again_cpu_ratio": ours.cpu_ms / other.cpu_ms,
        "again_ms": ours.wall_ms,
        "bare_ms": other.wall_ms,
        "sent": ledger(run.port)["requests"] - before,
    }


def _ask(where: Circumstances) -> Answer:
    return beside(_SHAPE, "walk", where, checksum=False)


QUESTION = Question(
    name="folder-again",
    title="a finished folder of 10,000 photos run again, beside a bare walk with stat",
    ask=_ask,
    goals=(Goal(figure="again_ratio", limit=3.0), Goal(figure="sent", limit=0.0)),
)
