"""A finished folder that is run again with ``checksum``: every photo is read."""

from __future__ import annotations

from benchmarks.asking import Answer, Circumstances, Goal, Question
from benchmarks.questions.folder_again import beside
from benchmarks.work import Shape

_SHAPE = Shape(photo_bytes=1_000_000, image_bytes=2000, concurrency=64, calls=1000)


def _ask(where: Circumstances) -> Answer:
    return beside(_SHAPE, "hash", where, checksum=True)


QUESTION = Question(
    name="folder-checksum",
    title="a finished folder of 1,000 photos of 1 MB run again with checksum, beside hashing them one by one",
    ask=_ask,
    goals=(Goal(figure="again_ratio", limit=1.2), Goal(figure="sent", limit=0.0)),
)
