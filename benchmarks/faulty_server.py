"""A server that refuses, fails and loses calls as its conduct says, and keeps a book of what it charged for.

``python -m benchmarks.faulty_server --conduct JSON`` (of a `Conduct`) prints its port and serves until its standard
input closes. ``GET /ledger`` tells what was done, and ``GET /charges`` how often each photo was paid for. Photos tell
their number (`photo`), and an image tells whose it is (`enhanced`), so that nobody takes another one's for theirs.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import random
import re
import socket
import struct
import sys
import time
from collections import Counter
from contextlib import suppress
from typing import Any

from attrs import asdict, define, field, frozen

_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")
_CLOSE = re.compile(rb"(?i)\r\nconnection: *close")
_SECONDS = 600.0
_JPEG, _PNG = b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n"
_DIGITS, _FILLING = 8, bytes(1000)
_REFUSED, _FAILED, _GATEWAY, _GOOD = "503 Service Unavailable", "500 Internal Server Error", "502 Bad Gateway", "200 OK"
_RESET, _CUT = "reset", "cut"
_LOST = (_RESET, _CUT, _GATEWAY)


@frozen(kw_only=True)
class Conduct:
    """How the service behaves. Chance is drawn in the order in which requests come, the same for each client.

    Attributes:
        rooms: Pairs of a time, in seconds after the first request, and how many calls there is room for from then on;
            what is beyond gets a 503 at once.
        latency: Seconds that a call takes.
        failing: The share of accepted calls that fail with 500.
        fails_late: Whether those have taken their time and room before; otherwise they fail at once.
        losing: The share of accepted calls whose work is done and charged and whose answer never comes whole: a reset
            connection, one that closes in the middle of the answer, and a 502, in equal parts.
        retry_after: What a refusal asks for, in seconds, or None.
        seed: Begins the chance.
    """

    rooms: tuple[tuple[float, int], ...] = ((0.0, 10_000),)
    latency: float = 1.0
    failing: float = 0.0
    fails_late: bool = True
    losing: float = 0.0
    retry_after: int | None = None
    seed: int = 0

    def room(self, now: float) -> int:
        """Return how many calls there is room for at a time."""
        return next(room for begin, room in reversed(self.rooms) if now >= begin)

    def ideal(self, calls: int) -> float:
        """Return the seconds in which the room, always filled, does the work of all calls, none of which fails."""
        work = calls * self.latency
        ends = [begin for begin, _ in self.rooms[1:]]
        for (begin, room), end in zip(self.rooms, ends, strict=False):
            if work <= room * (end - begin):
                return begin + work / room
            work -= room * (end - begin)
        begin, room = self.rooms[-1]
        return begin + work / room

    def to_json(self) -> str:
        """Return it for a command line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Conduct:
        """Return what `to_json` wrote."""
        return cls(**json.loads(text))


def photo(number: int) -> bytes:
    """Return a photo that tells its number."""
    return _JPEG + b"%0*d" % (_DIGITS, number) + _FILLING


def enhanced(source: bytes) -> bytes:
    """Return the image that a photo becomes."""
    return _PNG + source


@define
class Ledger:
    """What was done.

    Attributes:
        requests: Requests that came in whole.
        refused: Those for which there was no room.
        failed: Those that failed, and were not charged.
        charged: Those whose work was done.
        answered: Those whose image was handed to the system whole.
        widest: The most that were worked on at once.
        cpu_s: CPU time of this process.
    """

    requests: int = 0
    refused: int = 0
    failed: int = 0
    charged: int = 0
    answered: int = 0
    widest: int = 0
    cpu_s: float = 0.0


@define
class Service:
    """A service, whose time begins with the first request."""

    conduct: Conduct
    ledger: Ledger = field(factory=Ledger)
    charges: Counter[str] = field(factory=Counter[str])
    _chance: random.Random = field(init=False)
    _working: int = field(init=False, default=0)
    _begun: float | None = field(init=False, default=None)

    def __attrs_post_init__(self) -> None:
        self._chance = random.Random(self.conduct.seed)  # noqa: S311  (the same requests fail in each run)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection, for as long as the client keeps it and no fault ends it."""
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while await self._exchange(reader, writer):
                pass
        writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request and return whether the connection stays."""
        head = await reader.readuntil(b"\r\n\r\n")
        length = _LENGTH.search(head)
        body = await reader.readexactly(int(length[1]) if length else 0)
        if head.startswith(b"GET"):
            writer.write(_message(_GOOD, self._told(head)))
            await writer.drain()
            return False
        source = base64.b64decode(json.loads(body)["image"])
        fate = await self._worked(source)
        if fate == _RESET:
            _reset(writer)
            return False
        message = self._answer(fate, source)
        writer.write(message[: len(message) // 2] if fate == _CUT else message)
        await writer.drain()
        self.ledger.answered += fate == _GOOD
        return fate != _CUT and not _CLOSE.search(head)

    async def _worked(self, source: bytes) -> str:
        """Do the work, and return what becomes of the request."""
        now = asyncio.get_running_loop().time()
        self._begun = now if self._begun is None else self._begun
        self.ledger.requests += 1
        if self._working >= self.conduct.room(now - self._begun):
            self.ledger.refused += 1
            return _REFUSED
        fate = self._drawn()
        if self.conduct.fails_late or fate != _FAILED:
            self._working += 1
            self.ledger.widest = max(self.ledger.widest, self._working)
            await asyncio.sleep(self.conduct.latency)
            self._working -= 1
        if fate == _FAILED:
            self.ledger.failed += 1
        else:
            self.ledger.charged += 1
            self.charges[_number(source)] += 1
        return fate

    def _drawn(self) -> str:
        drawn = self._chance.random()
        if drawn < self.conduct.failing:
            return _FAILED
        if drawn < self.conduct.failing + self.conduct.losing:
            return self._chance.choice(_LOST)
        return _GOOD

    def _answer(self, fate: str, source: bytes) -> bytes:
        if fate in {_GOOD, _CUT}:
            image = base64.b64encode(enhanced(source)).decode()
            return _message(_GOOD, {"images": [image], "download_urls": [], "known_subjects": {"counts": {}}})
        return _message(fate, {"detail": fate}, self.conduct.retry_after if fate == _REFUSED else None)

    def _told(self, head: bytes) -> Any:
        if head.startswith(b"GET /charges"):
            return self.charges
        self.ledger.cpu_s = time.process_time()
        return asdict(self.ledger)


def _number(source: bytes) -> str:
    return str(int(source[len(_JPEG) : len(_JPEG) + _DIGITS]))


def _reset(writer: asyncio.StreamWriter) -> None:
    connection: socket.socket = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # closing it sends an RST
    writer.transport.abort()


def _message(status: str, content: Any, retry_after: int | None = None) -> bytes:
    body = json.dumps(content).encode()
    told = "" if retry_after is None else f"Retry-After: {retry_after}\r\n"
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n{told}\r\n"
    return head.encode() + body


async def _serve(service: Service) -> None:
    server = await asyncio.start_server(service.serve, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    with suppress(TimeoutError):
        # A thread that waits for the end of standard input; it ends with this process at the latest.
        await asyncio.wait_for(asyncio.to_thread(sys.stdin.read), _SECONDS)
    server.close()


def main() -> None:
    """Serve as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--conduct", type=Conduct.from_json, required=True)
    asyncio.run(_serve(Service(parser.parse_args().conduct)))


if __name__ == "__main__":
    main()
