"""How long a batch takes where the service refuses what is beyond its room, beside the least time possible."""

from __future__ import annotations

from attrs import evolve, frozen

from benchmarks import trials
from benchmarks.asking import Answer, Circumstances, Figures, Goal, Question
from benchmarks.faulty_server import Conduct
from benchmarks.processes import progress

_CALLS, _CONCURRENCY, _ROUNDS = 300, 64, 3
_HALVES = ((0.0, 24), (4.0, 12), (8.0, 24))
_STEADY = Conduct(rooms=((0.0, 24),), failing=0.05)


@frozen(kw_only=True)
class _Course:
    """What the service is like.

    Attributes:
        name: What to call it.
        title: What it is, in words.
        conduct: How it behaves.
        limit: What the makespan may be at most, as a multiple of the ideal, or None where nothing is asked.
    """

    name: str
    title: str
    conduct: Conduct
    limit: float | None = None

    def goals(self) -> tuple[Goal, ...]:
        """Return what is asked of the client."""
        if self.limit is None:
            return ()
        limits = {"makespan": self.limit, "requests": 1.5, "lost": 0.0}
        return tuple(Goal(figure=figure, limit=limit, client=self.name) for figure, limit in limits.items())

    def ideal(self) -> float:
        """Return the least seconds."""
        return self.conduct.ideal(_CALLS)


_COURSES = (
    _Course(name="steady", title="room for 24, 5 % fail with 500 after their second", conduct=_STEADY, limit=1.25),
    _Course(
        name="steady-at-once",
        title="the same, they fail at once",
        conduct=evolve(_STEADY, fails_late=False),
        limit=1.25,
    ),
    _Course(
        name="steady-told",
        title="as steady, and a 503 says Retry-After: 1",
        conduct=evolve(_STEADY, retry_after=1),
    ),
    _Course(
        name="halves",
        title="as steady, with room for 12 from second 4 to 8",
        conduct=evolve(_STEADY, rooms=_HALVES),
        limit=1.4,
    ),
    _Course(
        name="halves-at-once",
        title="the same, they fail at once",
        conduct=evolve(_STEADY, rooms=_HALVES, fails_late=False),
        limit=1.4,
    ),
)


def _ask(where: Circumstances) -> Answer:
    rounds: dict[str, list[Figures]] = {course.name: [] for course in _COURSES}
    for number in where.rounds(_ROUNDS):
        for course in _COURSES:
            progress(f"round {number + 1}, {course.name}")
            rounds[course.name].append(_round(course, number, where))
    return Answer(rounds=rounds)


def _round(course: _Course, number: int, where: Circumstances) -> Figures:
    conduct = evolve(course.conduct, seed=number)
    trial = trials.batch(conduct, calls=_CALLS, concurrency=_CONCURRENCY, interpreter=where.python)
    return {
        "makespan": trial.told.seconds / course.ideal(),
        "makespan_s": trial.told.seconds,
        "ideal_s": course.ideal(),
        "requests": trial.books["requests"] / trial.delivered,
        "refused": trial.books["refused"],
        "failed": trial.books["failed"],
        "lost": trial.calls - trial.delivered,
    }


QUESTION = Question(
    name="makespan",
    title=f"a batch of {_CALLS} calls of {_STEADY.latency:.0f} s, max_concurrency={_CONCURRENCY}, and room for fewer",
    ask=_ask,
    goals=tuple(goal for course in _COURSES for goal in course.goals()),
    about="Each row is phota_async on another course: "
    + "; ".join(f"`{course.name}`: {course.title}" for course in _COURSES)
    + ". What is beyond the room gets a 503 at once. The ideal is that room, filled at every moment, doing the work of"
    " all calls, none of which fails. The end of a round hangs on few calls (one that fails last, and its pause): trust"
    " the median.",
)
