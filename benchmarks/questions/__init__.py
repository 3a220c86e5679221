"""The questions, one module each."""

from __future__ import annotations

from benchmarks.questions import (
    backend,
    fairness,
    folder_again,
    folder_checksum,
    folder_stall,
    folder_thousands,
    four,
    growth,
    imports,
    large,
    lost,
    makespan,
    overload,
    sequential,
    tiny,
    waiting,
)

_IN_ORDER = (
    # First those in which clients mostly wait: a machine may need its time to come to rest.
    *(overload, lost, waiting),
    *(large, four, tiny, sequential, backend, makespan, fairness),
    *(folder_thousands, folder_again, folder_checksum, folder_stall, growth, imports),
)

QUESTIONS = tuple(module.QUESTION for module in _IN_ORDER)
"""All of them, in the order in which they are asked."""
