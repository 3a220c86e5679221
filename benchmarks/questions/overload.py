"""Overload: what goes through, and at what price, when more calls are wanted than the service has room for."""

from __future__ import annotations

from attrs import evolve, frozen

from benchmarks import trials
from benchmarks.asking import OURS, Answer, Circumstances, Figures, Goal, Question
from benchmarks.faulty_server import Conduct
from benchmarks.processes import progress
from benchmarks.trials import Trial

_ROOM, _WIDTH, _CALLS, _ROUNDS = 24, 64, 300, 2
_CONDUCT = Conduct(rooms=((0.0, _ROOM),))
_RETRYING, _IDEAL = "aiohttp_retrying", "ideal"


@frozen
class _Row:
    """One client with one width.

    Attributes:
        client: Its module.
        width: How many calls it has in flight at most; None for all at once.
    """

    client: str
    width: int | None = _WIDTH

    @property
    def name(self) -> str:
        """What the row is called."""
        if self == _Row(OURS):
            return OURS
        return f"{self.client}, {'all at once' if self.width is None else self.width}"


_KNOWN, _FIXED = _Row(OURS, _ROOM), _Row(_RETRYING)
_ROWS = (
    _Row(OURS),
    _KNOWN,
    _Row(_RETRYING, _ROOM),
    _FIXED,
    _Row(_RETRYING, None),
    _Row("openai", _ROOM),
    _Row("openai"),
    _Row("openai", None),
)


def _ask(where: Circumstances) -> Answer:
    calls = _CALLS // 2 if where.quick else _CALLS
    present = set(where.present([row.client for row in _ROWS]))
    rows = [row for row in _ROWS if row.client in present]
    ideal = _CONDUCT.ideal(calls)
    rounds: dict[str, list[Figures]] = {_IDEAL: [_ideal(calls)], **{row.name: [] for row in rows}}
    for number in where.rounds(_ROUNDS):
        for row in rows if number % 2 == 0 else reversed(rows):
            progress(f"round {number + 1}, {row.name}")
            trial = trials.calls(
                row.client,
                evolve(_CONDUCT, seed=number),
                calls=calls,
                concurrency=row.width or calls,
                interpreter=where.python,
            )
            rounds[row.name].append(_figures(trial, ideal))
    return Answer(rounds=rounds)


def _figures(trial: Trial, ideal: float) -> Figures:
    return {
        "goodput": trial.delivered / trial.told.seconds,
        "requests": trial.books["requests"] / trial.delivered,
        "makespan_s": trial.told.seconds,
        "makespan": trial.told.seconds / ideal,
        "lost": trial.calls - trial.delivered,
        "refused": trial.books["refused"],
        "server_ms": trial.server_s / trial.calls * 1000,
    }


def _ideal(calls: int) -> Figures:
    """Return what a client that knows the room and loses no moment would come to."""
    seconds = _CONDUCT.ideal(calls)
    return {
        "goodput": calls / seconds,
        "requests": 1.0,
        "makespan_s": seconds,
        "makespan": 1.0,
        "lost": 0.0,
        "refused": 0.0,
    }


QUESTION = Question(
    name="overload",
    title=f"{_CALLS} calls of {_CONDUCT.latency:.0f} s, room for {_ROOM}, a 503 for what is beyond",
    ask=_ask,
    goals=(
        Goal(figure="lost", limit=0.0),
        Goal(figure="makespan", limit=1.25, beside=_KNOWN.name),
        Goal(figure="requests", limit=1.5),
        Goal(figure="requests", limit=0.75, beside=_FIXED.name),
    ),
    about=f"`{OURS}` has its default policy and max_concurrency={_WIDTH}, and knows nothing of the room. Behind the"
    f" others stands how many calls each has in flight; with {_ROOM}, it knows the room by luck. `{_RETRYING}` is plain"
    " aiohttp with tenacity around it, and our attempts and pauses; openai makes its own two retries. Who gives up"
    " calls is done sooner: read the time beside the calls lost. The ideal is the room, filled at every moment.",
)
