"""The visitors of a backend: some wait for an enhance, all the time, and one after another says ``ping``.

It is given a `Load` as JSON and prints what it met as JSON. The pings keep to a schedule, whatever becomes of them, and
each is timed from the moment it was due: a backend that stands still is not asked less often for it.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from array import array
from asyncio import StreamReader, StreamWriter
from selectors import SelectSelector
from time import perf_counter
from typing import Any

from attrs import asdict, define, field, frozen

_ANSWER_SECONDS = 120  # a bound, not an expectation
_ENHANCE, _PING, _USAGE = b"POST /enhance", b"GET /ping", b"GET /usage"


@frozen(kw_only=True)
class Load:
    """What is asked of a backend.

    Attributes:
        port: Where it is.
        enhances: How many are in flight at all times.
        images: How long the images of each must be.
        spread: Seconds over which they start, so that they do not all land together.
        seconds: How long pings are sent.
        pings: How many are due in a second.
    """

    port: int
    enhances: int
    images: list[int]
    spread: float
    seconds: float
    pings: int

    def to_json(self) -> str:
        """Return it for a command line."""
        return json.dumps(asdict(self))


@define(eq=False)
class Visitors:
    """Those who ask a backend, over connections that are kept.

    Attributes:
        load: What they ask.
        late: Seconds from when each ping was due to its answer.
        unpunctual: Seconds from when each ping was due to when it was sent.
        enhanced: Enhances so far.
    """

    load: Load
    late: array[float] = field(init=False, factory=lambda: array("d"))
    unpunctual: array[float] = field(init=False, factory=lambda: array("d"))
    enhanced: int = field(init=False, default=0)
    _idle: list[tuple[StreamReader, StreamWriter]] = field(init=False, factory=list[tuple[StreamReader, StreamWriter]])
    _over: bool = field(init=False, default=False)

    async def visit(self) -> dict[str, float]:
        """Ask for all of it, and return what came of it."""
        load = self.load
        await self._asked(_PING)
        before = await self._usage()
        async with asyncio.TaskGroup() as group:
            for number in range(load.enhances):
                group.create_task(self._enhances(number * load.spread / load.enhances))
            await asyncio.sleep(load.spread)  # from now on all of them are in flight
            begun, earlier = perf_counter(), self.enhanced
            await self._pings()
            took, within = perf_counter() - begun, self.enhanced - earlier
            self._over = True
        after = await self._usage()
        for _, writer in self._idle:
            writer.close()
        used = after["cpu_s"] - before["cpu_s"]
        return {**self._figures(), "enhances": self.enhanced, "enhances_s": within / took, "cpu_s": used, **after}

    async def _enhances(self, pause: float) -> None:
        await asyncio.sleep(pause)
        while not self._over:
            if json.loads(await self._asked(_ENHANCE)) != self.load.images:
                raise ValueError("an enhance did not bring its images")
            self.enhanced += 1

    async def _pings(self) -> None:
        # Each at a moment of its own within its turn, so that they do not keep step with anything in the backend.
        moment, begun = random.Random(0), perf_counter()  # noqa: S311  (no secret; the same in every round)
        async with asyncio.TaskGroup() as group:
            for number in range(round(self.load.seconds * self.load.pings)):
                due = begun + (number + moment.random()) / self.load.pings
                await asyncio.sleep(due - perf_counter())
                group.create_task(self._ping(due))

    async def _ping(self, due: float) -> None:
        self.unpunctual.append(perf_counter() - due)
        if await self._asked(_PING) != b"pong":
            raise ValueError("the backend answers something else than pong")
        self.late.append(perf_counter() - due)

    async def _usage(self) -> dict[str, float]:
        usage: dict[str, float] = json.loads(await self._asked(_USAGE))
        return usage

    async def _asked(self, what: bytes) -> bytes:
        connection = self._idle.pop() if self._idle else await asyncio.open_connection("127.0.0.1", self.load.port)
        reader, writer = connection
        writer.write(what + b" HTTP/1.1\r\nHost: backend\r\n\r\n")
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        body = await reader.readexactly(int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0]))
        if not head.startswith(b"http/1.1 200 "):
            raise ValueError(f"the backend did not do {what.decode()}: {body.decode()}")
        self._idle.append(connection)
        return body

    def _figures(self) -> dict[str, float]:
        late, unpunctual = sorted(self.late), sorted(self.unpunctual)
        return {
            "ping_p50_ms": late[len(late) // 2] * 1000,
            "ping_p99_ms": late[int(len(late) * 0.99)] * 1000,
            "ping_max_ms": late[-1] * 1000,
            "unpunctual_p99_ms": unpunctual[int(len(late) * 0.99)] * 1000,
        }


async def visited(load: Load) -> dict[str, float]:
    """Return what visitors met, within a bounded time."""
    async with asyncio.timeout(load.seconds + _ANSWER_SECONDS):
        return await Visitors(load).visit()


def main() -> None:
    """Visit as the command line says."""
    fields: Any = json.loads(sys.argv[1])
    # Epoll waits for whole milliseconds, which is as long as a ping takes; select does not.
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(SelectSelector())) as runner:
        print(json.dumps(runner.run(visited(Load(**fields)))))


if __name__ == "__main__":
    main()
