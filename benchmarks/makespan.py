"""How long a batch takes where the service refuses what is beyond its room, beside the least time that it could take.

Each round has a server of its own (``python -m benchmarks.makespan server COURSE SEED``: it refuses with 503 at once,
fails some calls with 500, and prints its ledger when its standard input closes) and a client's process of its own. The
ideal is the time in which the course's room, filled at every moment, does the work of all calls, none of which fails.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress
from time import perf_counter

from attrs import asdict, define, field, frozen

from benchmarks.processes import ROOT, python
from benchmarks.shapes import OURS, Goal
from phota_async import PhotaClient

_PHOTO = b"\xff\xd8\xff\xe0 a small photo"
_GOOD = b'{"images":["iVBORw0KGgo="],"download_urls":[],"known_subjects":{"counts":{}}}'
_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")
_SECONDS = 600.0


@frozen(kw_only=True)
class Course:
    """What the service is like.

    Attributes:
        name: What to call it.
        title: What it is, in words.
        rooms: Pairs of a time, in seconds after the first request, and how many calls there is room for from then on.
        fails_late: Whether a call that fails has taken its time and room before; otherwise it fails at once.
        retry_after: What a refusal asks for, in seconds, or None.
        goals: What is asked of the client.
        calls: How many there are to make.
        concurrency: The client's ``max_concurrency``.
        latency: Seconds that a call takes.
        failing: The share of calls that fail with 500.
    """

    name: str
    title: str
    rooms: tuple[tuple[float, int], ...] = ((0.0, 24),)
    fails_late: bool = True
    retry_after: int | None = None
    goals: tuple[Goal, ...] = ()
    calls: int = 300
    concurrency: int = 64
    latency: float = 1.0
    failing: float = 0.05

    def room(self, now: float) -> int:
        """Return how many calls there is room for at a time."""
        return next(room for begin, room in reversed(self.rooms) if now >= begin)

    def ideal(self) -> float:
        """Return the seconds in which the room, always filled, does the work of all calls."""
        work = self.calls * self.latency
        ends = [begin for begin, _ in self.rooms[1:]]
        for (begin, room), end in zip(self.rooms, ends, strict=False):
            if work <= room * (end - begin):
                return begin + work / room
            work -= room * (end - begin)
        begin, room = self.rooms[-1]
        return begin + work / room


def _goals(makespan: float) -> tuple[Goal, ...]:
    figures = {"makespan": makespan, "requests": 1.5, "lost": 0.0}
    return tuple(Goal(figure, limit, relative=False) for figure, limit in figures.items())


_HALVES = ((0.0, 24), (4.0, 12), (8.0, 24))

COURSES = (
    Course(name="steady", title="room for 24, 5 % fail after their second", goals=_goals(1.25)),
    Course(name="steady-at-once", title="the same, they fail at once", fails_late=False, goals=_goals(1.25)),
    Course(name="steady-told", title="as steady, and a 503 says Retry-After: 1", retry_after=1),
    Course(name="halves", title="as steady, with room for 12 from second 4 to 8", rooms=_HALVES, goals=_goals(1.4)),
    Course(
        name="halves-at-once", title="the same, they fail at once", rooms=_HALVES, fails_late=False, goals=_goals(1.4)
    ),
)
_BY_NAME = {course.name: course for course in COURSES}


@frozen
class MakespanFigures:
    """What one round came to.

    Attributes:
        makespan: How long the batch took, as a multiple of the ideal.
        makespan_s: The same in seconds.
        requests: How many requests the server saw for each success.
        refused: How many of them it refused.
        failed: How many of them it failed.
        lost: How many calls had no success in the end.
    """

    makespan: float
    makespan_s: float
    requests: float
    refused: float
    failed: float
    lost: float


def measure(course: Course, rounds: int) -> dict[str, list[MakespanFigures]]:
    """Return what each round came to."""
    found: list[MakespanFigures] = []
    for number in range(rounds):
        print(f"makespan: {course.name}, round {number + 1} of {rounds}", file=sys.stderr)
        with _served(course, number) as (port, ledger):
            seconds = json.loads(python("-m", "benchmarks.makespan", "client", course.name, str(port)))
        found.append(
            MakespanFigures(
                makespan=seconds / course.ideal(),
                makespan_s=seconds,
                requests=ledger.requests / ledger.answered,
                refused=ledger.refused,
                failed=ledger.failed,
                lost=course.calls - ledger.answered,
            )
        )
    return {OURS: found}


# ---- the client's process


async def _batch(course: Course, port: int) -> float:
    """Return the seconds that the whole batch took."""
    base_url = f"http://127.0.0.1:{port}/v1/phota"
    async with PhotaClient("key", base_url=base_url, max_concurrency=course.concurrency, proxy="") as phota:
        begun = perf_counter()
        batch = await phota.enhance_many([_PHOTO] * course.calls)
        seconds = perf_counter() - begun
    for outcome in batch.failed:
        print(f"photo {outcome.index}: {outcome.error}", file=sys.stderr)
    return seconds


# ---- the server's process


@define
class Ledger:
    """What was done."""

    requests: int = 0
    refused: int = 0
    failed: int = 0
    answered: int = 0


@define
class Service:
    """A service on its course, whose time begins with the first request."""

    course: Course
    chance: random.Random
    ledger: Ledger = field(factory=Ledger)
    working: int = 0
    _begun: float | None = None

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection: one request, as the client makes them."""
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            length = _LENGTH.search(head)
            await reader.readexactly(int(length[1]) if length else 0)
            writer.write(await self._decide())
            await writer.drain()
        finally:
            writer.close()

    async def _decide(self) -> bytes:
        now = asyncio.get_running_loop().time()
        self._begun = now if self._begun is None else self._begun
        self.ledger.requests += 1
        if self.working >= self.course.room(now - self._begun):
            self.ledger.refused += 1
            return _message(b"503 Service Unavailable", b"{}", self.course.retry_after)
        fails = self.chance.random() < self.course.failing
        if self.course.fails_late or not fails:
            self.working += 1
            await asyncio.sleep(self.course.latency)
            self.working -= 1
        self.ledger.failed += fails
        self.ledger.answered += not fails
        return _message(b"500 Internal Server Error", b"{}") if fails else _message(b"200 OK", _GOOD)


def _message(status: bytes, body: bytes, retry_after: int | None = None) -> bytes:
    told = b"" if retry_after is None else b"Retry-After: %d\r\n" % retry_after
    head = b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n%sConnection: close\r\n\r\n"
    return head % (status, len(body), told) + body


async def _serve(service: Service) -> None:
    server = await asyncio.start_server(service.answer, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    with suppress(TimeoutError):
        # A thread that waits for the end of standard input; it ends with this process at the latest.
        await asyncio.wait_for(asyncio.to_thread(sys.stdin.read), _SECONDS)
    server.close()
    print(json.dumps(asdict(service.ledger)))


@contextmanager
def _served(course: Course, seed: int) -> Generator[tuple[int, Ledger], None, None]:
    """Give the port of a server, and its ledger, which is filled when the block is left."""
    command = [sys.executable, "-m", "benchmarks.makespan", "server", course.name, str(seed)]
    ledger = Ledger()
    with subprocess.Popen(  # noqa: S603  (our own module)
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None  # noqa: S101  (asked for above)
        yield int(process.stdout.readline()), ledger
        told, _ = process.communicate()
        for name, count in json.loads(told).items():
            setattr(ledger, name, count)


def _main(role: str, name: str, number: str) -> None:
    course = _BY_NAME[name]
    if role == "server":
        chance = random.Random(int(number))  # noqa: S311  (the same calls fail in the same round of each run)
        asyncio.run(_serve(Service(course, chance)))
    else:
        print(json.dumps(asyncio.run(_batch(course, int(number)))))


if __name__ == "__main__":
    _main(*sys.argv[1:])
