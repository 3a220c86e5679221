"""Many waiting calls: how much memory a call holds before its answer comes."""

from __future__ import annotations

from benchmarks.asking import FLOOR, Answer, Circumstances, Goal, Question
from benchmarks.processes import compared
from benchmarks.questions.clients import IN_MEMORY
from benchmarks.work import Shape

_SHAPE = Shape(photo_bytes=3_000_000, image_bytes=6_000_000, concurrency=64, latency=10.0, calls=64, waits=True)


def _ask(where: Circumstances) -> Answer:
    return compared(_SHAPE, IN_MEMORY, where, rounds=2)


QUESTION = Question(
    name="waiting",
    title="3 MB in, 6 MB out, 64 calls in flight that wait 10 s",
    ask=_ask,
    goals=(Goal(figure="waiting_mb", limit=1.0), Goal(figure="peak_mb", limit=1.1, beside=FLOOR)),
    about="There is no first call before the work that is measured.",
)
