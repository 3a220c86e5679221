"""Lost answers: what is paid for, and what of it arrives, when the work is done and its answer does not come."""

from __future__ import annotations

from attrs import evolve

from benchmarks import trials
from benchmarks.asking import OURS, Answer, Circumstances, Figures, Goal, Question
from benchmarks.faulty_server import Conduct
from benchmarks.processes import progress
from benchmarks.questions.clients import PEERS
from benchmarks.trials import Trial

_CALLS, _CONCURRENCY, _ROUNDS = 400, 16, 2
_CONDUCT = Conduct(latency=0.1, losing=0.2, failing=0.05)
_ASKED = "phota_async_buying_again"


def _ask(where: Circumstances) -> Answer:
    calls, present = _CALLS // 4 if where.quick else _CALLS, where.present((OURS, _ASKED, *PEERS))
    rounds: dict[str, list[Figures]] = {client: [] for client in present}
    for number in where.rounds(_ROUNDS):
        for client in present if number % 2 == 0 else reversed(present):
            progress(f"round {number + 1}, {client}")
            conduct = evolve(_CONDUCT, seed=number)
            trial = trials.calls(client, conduct, calls=calls, concurrency=_CONCURRENCY, interpreter=where.python)
            rounds[client].append(_figures(trial))
    return Answer(rounds=rounds)


def _figures(trial: Trial) -> Figures:
    charged = trial.books["charged"]
    return {
        "delivered": trial.delivered / trial.calls * 100,
        "charges": charged / trial.delivered,
        "charges_a_call": charged / trial.calls,
        "uncharged": trial.calls - len(trial.charges),
        "again": trial.again,
        "told": trial.told_maybe,
        "untold": trial.untold,
    }


QUESTION = Question(
    name="lost",
    title=f"{_CALLS} calls, {_CONCURRENCY} at once; {_CONDUCT.losing:.0%} of all requests are charged and not answered",
    ask=_ask,
    goals=(
        Goal(figure="charges_a_call", limit=1.0),
        Goal(figure="uncharged", limit=0.0),
        Goal(figure="again", limit=0.0),
        Goal(figure="untold", limit=0.0),
    ),
    about="The work is done and charged; then the connection is reset, or closed in the middle of the answer, or a"
    f" gateway says 502. Another {_CONDUCT.failing:.0%} fail with 500 and are not charged. Each client makes the"
    f" retries that it makes by itself; only `{_ASKED}` is phota_async with `retry_unknown=True`. An image"
    " whose answer is lost cannot be had but by paying again, so the caller must know: an error that has"
    " `maybe_charged` counts as told.",
)
