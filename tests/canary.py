"""Secrets that must show nowhere, and all that logs, crash reports and pickles show of an error."""

from __future__ import annotations

import io
import logging
import pickle
import traceback
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from raw_server import KEY, chain
from rich.pretty import pretty_repr

__all__ = ["KEY", "SIGNATURE", "logged", "shown", "with_locals"]

SIGNATURE = "sig-77ac01"

_HERE = Path(__file__).parent
_CUT = 8  # how much of a long string is shown: less than a canary, which must not show in part either


def shown(error: BaseException) -> str:
    """Everything that a log, a crash report or a pickle could show of an error, except local variables."""
    parts: list[str] = []
    for one in chain(error):
        parts += [str(one), repr(one), repr(one.args), repr(vars(one)), *traceback.format_exception(one)]
    pickled = pickle.dumps(error)
    return "\n".join([*parts, pickled.decode("latin-1")])


def with_locals(error: BaseException) -> str:
    """What is shown by those who also look at the local variables of every frame but the caller's own.

    The standard library prints their representation; others cut long strings, or look one level into objects.
    """
    parts: list[str] = []
    for one in chain(error):
        frames = list(_frames(one))
        parts += traceback.StackSummary.extract(iter(frames), capture_locals=True).format()
        for frame, _ in frames:
            parts += [pretty_repr(value, max_string=_CUT) for value in frame.f_locals.values()]
            parts += [repr(_attributes(value)) for value in frame.f_locals.values()]
    return "\n".join(parts)


def _frames(error: BaseException) -> Iterator[tuple[FrameType, int]]:
    for frame, line in traceback.walk_tb(error.__traceback__):
        if Path(frame.f_code.co_filename).parent != _HERE:
            yield frame, line


def _attributes(value: object) -> dict[str, Any]:
    named: dict[str, Any] = getattr(value, "__dict__", {})
    slots = [name for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ()) if name != "__weakref__"]
    return {**named, **{name: getattr(value, name, None) for name in slots}}


@contextmanager
def logged() -> Generator[io.StringIO]:
    """Keep what all loggers say at any level, with tracebacks."""
    log, root = io.StringIO(), logging.getLogger()
    handler, level = logging.StreamHandler(log), root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        yield log
    finally:
        root.setLevel(level)
        root.removeHandler(handler)
