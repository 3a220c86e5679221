"""Several processes that share one service, and know nothing of each other: does each get its share?"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from benchmarks.asking import OURS, Answer, Circumstances, Figures, Goal, Question
from benchmarks.driver import READY
from benchmarks.faulty_server import Conduct
from benchmarks.processes import ROOT, ledger, progress, serving

_PROCESSES, _CALLS, _WIDTH, _ROOM = 4, 600, 64, 24
_CONDUCT = Conduct(rooms=((0.0, _ROOM),), latency=0.2)
_SECONDS = 300


def _ask(where: Circumstances) -> Answer:
    calls, rounds = _CALLS // 2 if where.quick else _CALLS, list[Figures]()
    for number in where.rounds(3):
        progress(f"round {number + 1}, {_PROCESSES} processes")
        with serving("benchmarks.faulty_server", conduct=_CONDUCT.to_json()) as port:
            rounds.append(_figures(_shared(port, calls, where.python), ledger(port), calls))
    return Answer(rounds={OURS: rounds})


def _shared(port: int, calls: int, interpreter: Path) -> list[list[float]]:
    """Have every process make its calls at the same time, and return when each brought its images."""
    with ExitStack() as stack:
        processes = [
            stack.enter_context(
                subprocess.Popen(  # noqa: S603  (our own module)
                    [interpreter, "-m", "benchmarks.sharer", *map(str, (port, first * calls, calls, _WIDTH))],
                    cwd=ROOT,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
            for first in range(_PROCESSES)
        ]
        for process in processes:
            assert process.stdout is not None  # noqa: S101  (asked for above)
            if process.stdout.readline().strip() != READY:
                raise ValueError("a process did not come to its work; what it said is above")
        for process in processes:
            assert process.stdin is not None  # noqa: S101
            process.stdin.write("\n")
            process.stdin.flush()
        return [json.loads(process.communicate(timeout=_SECONDS)[0]) for process in processes]


def _figures(times: Sequence[Sequence[float]], books: Mapping[str, float], calls: int) -> Figures:
    came, wanted = sum(map(len, times)), _PROCESSES * calls
    if not came == books["answered"] == books["charged"] or books["widest"] > _ROOM:
        raise ValueError(f"the server saw other work than {came} images: {books}")
    # Until the first process has all of its own: from then on there is more room for the others.
    end = min(max(one) for one in times)
    shares = [sum(at <= end for at in one) for one in times]
    seconds = max(map(max, times)) - min(map(min, times)) + _CONDUCT.latency
    return {
        "jain": sum(shares) ** 2 / (len(shares) * sum(share**2 for share in shares)),
        "least_share": min(shares) / sum(shares) * 100,
        "requests": books["requests"] / came,
        "makespan": seconds / _CONDUCT.ideal(wanted),
        "lost": wanted - came,
    }


QUESTION = Question(
    name="fairness",
    title=f"{_PROCESSES} processes with {_CALLS} calls each, max_concurrency={_WIDTH}; room for {_ROOM} calls of"
    f" {_CONDUCT.latency:g} s in all",
    ask=_ask,
    goals=(
        Goal(figure="jain", limit=0.9, at_least=True),
        Goal(figure="requests", limit=1.5),
        Goal(figure="lost", limit=0.0),
    ),
    about="Nothing is shared by the processes but the service, which refuses with a 503 what is beyond its room. Shares"
    " are counted until the first process has all its images; Jain's index is 1 where all are the same, and"
    f" {1 / _PROCESSES:g} where one has everything.",
)
