"""How long the event loop is held while large images are downloaded to the disk."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.asking import OURS, PLAIN, Answer, Circumstances, Figures, Goal, Question
from benchmarks.processes import progress, served
from benchmarks.tasks import Task, bought, photos
from benchmarks.work import Shape

_SHAPE = Shape(photo_bytes=3_000_000, image_bytes=8_000_000, concurrency=16, latency=0.2, calls=64)
_ROLES = {OURS: "run", PLAIN: "plain"}


def _ask(where: Circumstances) -> Answer:
    shape = _SHAPE.shortened() if where.quick else _SHAPE
    found: dict[str, list[Figures]] = {client: [] for client in _ROLES}
    with TemporaryDirectory(dir=where.folder) as place, served(shape) as port:
        source = photos(Path(place, "photos"), shape)
        for number in where.rounds(5):
            for client in _ROLES if number % 2 == 0 else reversed(_ROLES):
                progress(f"round {number + 1}, {client}")
                with TemporaryDirectory(dir=place) as output:
                    task = Task(
                        role=_ROLES[client],
                        module="benchmarks.folder_tasks",
                        shape=shape,
                        port=port,
                        source=source,
                        output=f"{output}/images",
                        ticks=True,
                    )
                    cost = bought(task, where)
                found[client].append({**cost.each(shape.calls), **cost.stalls})
    return Answer(rounds=found)


QUESTION = Question(
    name="folder-stall",
    title="a folder run of 64 photos, 3 MB in, a link to 8 MB out, 16 at once, answered after 200 ms",
    ask=_ask,
    goals=(Goal(figure="stall_ms", limit=1 / 8, beside=PLAIN),),
)
