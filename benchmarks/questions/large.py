"""Large photos: what a call costs beside the bytes themselves."""

from __future__ import annotations

from benchmarks.asking import FLOOR, PLAIN, Answer, Circumstances, Goal, Question
from benchmarks.processes import compared
from benchmarks.questions.clients import EVERY_CLIENT
from benchmarks.work import Shape

SHAPE = Shape(photo_bytes=3_000_000, image_bytes=6_000_000, concurrency=16, latency=0.2, calls=48)


def _ask(where: Circumstances) -> Answer:
    return compared(SHAPE, EVERY_CLIENT, where, rounds=4, course=True)


QUESTION = Question(
    name="large",
    title="3 MB in, 6 MB out, 16 at once, answered after 200 ms",
    ask=_ask,
    goals=(
        Goal(figure="cpu_ms", limit=1.25, beside=FLOOR),
        Goal(figure="peak_mb", limit=1.1, beside=FLOOR),
        Goal(figure="stall_ms", limit=1.3, beside=FLOOR),
        Goal(figure="cpu_ms", limit=1 / 4, beside=PLAIN),
        Goal(figure="peak_mb", limit=1 / 2, beside=PLAIN),
        Goal(figure="stall_ms", limit=1 / 8, beside=PLAIN),
    ),
)
