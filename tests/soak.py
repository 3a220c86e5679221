"""Very many small calls against a sandbox in another process, with faults and cancellations, and what is left of them.

``python tests/soak.py --calls 100000`` prints what the process held at each tenth, what the client believes of its
calls beside the sandbox's book, and a verdict; its exit status is 1 when a promise is broken.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import itertools
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack, suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp
from attrs import Factory, astuple, define, fields, frozen
from soak_books import Belief, Books
from soak_calls import RETRY, TIMEOUT, Act, Stage, acts
from soak_watch import Listener, on_retry, watching

from phota_async import PhotaClient

SERVER = Path(__file__).with_name("soak_server.py")
RATE = 0.03
SIDE_BY_SIDE = 64  # acts
CLIENTS = 50
LEAST_OF_A_CLIENT = 200  # calls
WIDTHS = (16, 32, 48)
GROWTH = 1.05  # of memory, from the first fifth of the calls to the end
OBJECTS = (
    250  # that may be more over the same time, or once caches are full: a leak grows with the calls, this does not
)
CACHES_FULL = 1200  # calls, which fill aiohttp's, yarl's and re's
POOLS = ("AnyIO worker thread", "asyncio_")  # idle threads that are kept for the next one who needs them
A_THREAD = 60  # objects at most, of each of those
POOLED = 48  # the greatest number of them: 40 of anyio, and those of asyncio's executor
ENOUGH_FOR_MEMORY = 50_000
TURNS = 50
MOST_TOLD = 20


# ---- the other process


class Server:
    """The sandbox in its own process, by way of its standard input and output."""

    def __init__(self, seed: int, calls: int) -> None:
        given = {"seed": seed, "rate": RATE, "downloads": calls}
        self._process = subprocess.Popen(  # noqa: S603  (our own script)
            [sys.executable, str(SERVER), json.dumps(given)],
            # What a sandbox does is measured elsewhere; here it would only take longer.
            env={name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.url = self._heard().strip()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._process:
            assert self._process.stdin is not None
            self._process.stdin.close()

    def book(self) -> dict[str, Any]:
        """Return what it did since the last time; it comes to rest first."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        told: dict[str, Any] = json.loads(self._heard())
        return told

    def _heard(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the sandbox's process has ended"
        return line


# ---- what this process holds


@frozen
class Mark:
    """What the process held after so many calls, when nothing was under way; `server_mb` is the sandbox's memory."""

    calls: int
    seconds: float
    rss_mb: float
    descriptors: int
    sockets: int
    tasks: int
    threads: int
    pooled: int
    objects: int
    server_mb: float = 0.0

    @classmethod
    def now(cls, calls: int, seconds: float, server_mb: float) -> Mark:
        gc.collect()
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        open_now = list(_descriptors())
        pooled = sum(thread.name.startswith(POOLS) for thread in threading.enumerate())
        return cls(
            calls=calls,
            seconds=seconds,
            rss_mb=pages * resource.getpagesize() / 1e6,
            descriptors=len(open_now),
            sockets=sum(target.startswith("socket:") for target in open_now),
            tasks=len(asyncio.all_tasks()),
            threads=threading.active_count() - pooled,
            pooled=pooled,
            objects=len(gc.get_objects()),
            server_mb=server_mb,
        )


def _descriptors() -> Iterator[str]:
    for entry in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # the one that the listing itself has open
            yield str(entry.readlink())


def growth(marks: Sequence[Mark]) -> Iterator[str]:
    """Tell what has grown: the first mark is that before any call, the next are at the tenths."""
    first, last = marks[0], marks[-1]
    for mark in marks[1:]:
        for name in ("descriptors", "sockets", "tasks", "threads"):
            before, after = getattr(first, name), getattr(mark, name)
            if after > before:
                yield f"{name}: {before} at first, {after} after {mark.calls} calls"
        if mark.pooled > POOLED:
            yield f"{mark.pooled} threads in pools after {mark.calls} calls"
    warm = next(mark for mark in marks if mark.calls >= min(max(last.calls / 5, CACHES_FULL), last.calls))
    if last.objects > warm.objects + OBJECTS + A_THREAD * max(0, last.pooled - warm.pooled):
        yield f"objects: {warm.objects} after {warm.calls} calls, {last.objects} after {last.calls}"
    if last.calls >= ENOUGH_FOR_MEMORY and last.rss_mb > warm.rss_mb * GROWTH:
        yield f"memory: {warm.rss_mb:.1f} MB after {warm.calls} calls, {last.rss_mb:.1f} MB after {last.calls}"


# ---- the soak


@define
class Soak:
    """What came of it so far."""

    seed: int
    calls: int
    marks: list[Mark] = Factory(list[Mark])
    books: Books = Factory(Books)

    @property
    def broken(self) -> list[str]:
        """The promises that were not kept."""
        return [*self.books.wrong, *growth(self.marks)]

    async def run(self, told: Callable[[Mark], object] = lambda _: None) -> None:
        """Make all calls, one client after another."""
        begun, made = time.monotonic(), 0
        plan = acts(self.seed, self.calls)
        with (
            Server(self.seed, self.calls) as server,
            tempfile.TemporaryDirectory() as folder,
            Listener(self.books.wrong).listening(),
        ):
            told(self._mark(0, 0.0, await _at_rest(server)))
            for number in itertools.count():
                if not (part := _part(plan, max(LEAST_OF_A_CLIENT, self.calls // CLIENTS))):
                    return
                calls = await self._one_client(number, iter(part), server.url, Path(folder))
                made += sum(act.size for act in part)
                book = await _at_rest(server)
                self.books.compare(calls, book)
                del calls
                if made >= self.calls * len(self.marks) // 10:
                    told(self._mark(made, time.monotonic() - begun, book))

    async def _one_client(self, number: int, part: Iterator[Act], url: str, folder: Path) -> list[Belief]:
        """Open a client, play with it, and close it; every fourth is closed while calls are under way."""
        async with AsyncExitStack() as opened:
            session = None
            if number % 4 == 3:
                session = await opened.enter_async_context(aiohttp.ClientSession(trace_configs=[watching()]))
            phota = PhotaClient(
                "key",
                base_url=url,
                max_concurrency=WIDTHS[number % len(WIDTHS)],
                timeout=TIMEOUT,
                retry=RETRY,
                session=session,
                trace_configs=[watching()],
                on_retry=on_retry,
            )
            opened.push_async_callback(phota.aclose)
            stage = Stage(phota, self.seed, folder, self.books.wrong)

            async def play() -> None:
                for act in part:
                    await stage.play(act)
                if number % 4 == 1:
                    await phota.aclose()

            async with asyncio.TaskGroup() as group:
                for _ in range(SIDE_BY_SIDE):
                    group.create_task(play())
        return stage.calls

    def _mark(self, calls: int, seconds: float, book: dict[str, Any]) -> Mark:
        self.marks.append(Mark.now(calls, seconds, book["rss_mb"]))
        return self.marks[-1]


def _part(plan: Iterator[Act], calls: int) -> list[Act]:
    part: list[Act] = []
    while sum(act.size for act in part) < calls and (act := next(plan, None)) is not None:
        part.append(act)
    return part


async def _at_rest(server: Server) -> dict[str, Any]:
    """Return the sandbox's book once nothing is under way on either side."""
    book = await asyncio.to_thread(server.book)
    for _ in range(TURNS):  # connections close over a few turns of the loop
        await asyncio.sleep(0)
    return book


# ---- as a script


def row_of(values: Sequence[object]) -> str:
    return "| " + " | ".join(f"{value:.1f}" if isinstance(value, float) else str(value) for value in values) + " |"


def told_of(soak: Soak) -> Iterator[str]:
    """Give the totals, and the verdict, as lines of Markdown."""
    books = soak.books
    for title, counts in (("books", books.totals), ("how the calls ended", books.endings)):
        yield from ("", row_of((title, "count")), "|---|---:|")
        yield from (row_of(pair) for pair in counts.most_common())
    yield ""
    yield from (f"- BROKEN: {what}" for what in soak.broken[:MOST_TOLD])
    yield f"{len(soak.broken)} promises broken" if soak.broken else "All promises kept."


def main() -> int:
    """Soak as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    soak = Soak(given.seed, given.calls)
    names = [attribute.name for attribute in fields(Mark)]
    tell = partial(print, flush=True, sep="\n")
    tell(row_of(names), "|" + "---:|" * len(names))
    asyncio.run(soak.run(lambda mark: tell(row_of(astuple(mark)))))
    tell(*told_of(soak))
    return 1 if soak.broken else 0


if __name__ == "__main__":
    sys.exit(main())
