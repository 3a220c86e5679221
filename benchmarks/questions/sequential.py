"""One call after another: what a single caller waits for beside the service's own time."""

from __future__ import annotations

from benchmarks.asking import FLOOR, Answer, Circumstances, Goal, Question
from benchmarks.processes import compared
from benchmarks.questions.clients import IN_MEMORY
from benchmarks.work import Shape

_SHAPE = Shape(photo_bytes=3_000_000, image_bytes=6_000_000, concurrency=1, calls=40)


def _ask(where: Circumstances) -> Answer:
    return compared(_SHAPE, IN_MEMORY, where, rounds=3)


QUESTION = Question(
    name="sequential",
    title="3 MB in, 6 MB out, one after another, answered at once",
    ask=_ask,
    goals=(Goal(figure="cpu_ms", limit=1.25, beside=FLOOR),),
    about="The wall time of a call is what it adds to the service's own time.",
)
