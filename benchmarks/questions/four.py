"""Four outputs: answers that are much larger than the photos."""

from __future__ import annotations

from benchmarks.asking import FLOOR, PLAIN, Answer, Circumstances, Goal, Question
from benchmarks.processes import compared
from benchmarks.questions.clients import EVERY_CLIENT
from benchmarks.work import Shape

_SHAPE = Shape(photo_bytes=3_000_000, images=4, image_bytes=8_000_000, concurrency=32, latency=0.2, calls=32)


def _ask(where: Circumstances) -> Answer:
    return compared(_SHAPE, EVERY_CLIENT, where, rounds=2)


QUESTION = Question(
    name="four",
    title="3 MB in, 4 x 8 MB out, 32 at once, answered after 200 ms",
    ask=_ask,
    goals=(
        Goal(figure="cpu_ms", limit=1.25, beside=FLOOR),
        Goal(figure="cpu_ms", limit=1 / 4, beside=PLAIN),
        Goal(figure="stall_ms", limit=1 / 10, beside=PLAIN),
    ),
)
