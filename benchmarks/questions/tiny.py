"""Tiny calls: what a call costs when it carries next to nothing."""

from __future__ import annotations

from benchmarks.asking import Answer, Circumstances, Goal, Question
from benchmarks.processes import compared
from benchmarks.questions.clients import IN_MEMORY
from benchmarks.work import Shape

_CLOSING = "aiohttp_closing"
_SHAPE = Shape(photo_bytes=20_000, image_bytes=20_000, concurrency=64, calls=2000)


def _ask(where: Circumstances) -> Answer:
    return compared(_SHAPE, (*IN_MEMORY, _CLOSING), where, rounds=4)


QUESTION = Question(
    name="tiny",
    title="20 KB both ways, 64 at once, answered at once",
    ask=_ask,
    goals=(Goal(figure="cpu_ms", limit=1.0, beside=_CLOSING),),
    about="phota_async makes a connection for each call, as a paid call should; `aiohttp_closing` is plain aiohttp that"
    " does so too, and all others keep theirs.",
)
