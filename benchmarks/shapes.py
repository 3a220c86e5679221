"""The questions: what is sent and answered in each, and what the answer to the question should be."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeAlias

from attrs import evolve, frozen

Photo: TypeAlias = Path | bytes
Enhance: TypeAlias = Callable[[Photo], Awaitable[list[bytes]]]

OURS, PLAIN = "phota_async", "aiohttp"
CLIENTS = (OURS, PLAIN)


@frozen
class Figures:
    """What one process measured of itself.

    Attributes:
        cpu_ms: CPU time of the process, all threads, a call.
        peak_mb: Its highest resident set, the interpreter and the imports included.
        before_mb: Its resident set before the work.
        waiting_mb: How much the resident set had grown for each call once all of them waited; zero where not asked.
        stall_ms: The longest time that the event loop was held.
        stall_p99_ms: What 99 of 100 ticks of the loop stayed below.
        wall_s: How long the work took.
    """

    cpu_ms: float
    peak_mb: float
    before_mb: float
    waiting_mb: float
    stall_ms: float
    stall_p99_ms: float
    wall_s: float


@frozen
class Goal:
    """One field of `Figures`, and what it may be at most: times the other client's, or as it stands."""

    figure: str
    limit: float
    relative: bool = True


@frozen(kw_only=True)
class Shape:
    """One kind of work.

    Attributes:
        name: What to call it in ``--only``.
        title: What it is, in words.
        photo_bytes: How long the photo is.
        images: How many images an answer holds.
        image_bytes: How long each of them is, decoded.
        concurrency: How many calls are in flight.
        latency: Seconds before the server answers.
        calls: How many calls one process makes.
        rounds: How many processes of each client make them, in turns.
        force_close: Whether plain aiohttp too makes a connection for each call.
        waits: Whether memory is taken while every call waits for its answer.
        in_memory: Whether the clients are given the photo's bytes, as a web backend has them, rather than its path.
    """

    name: str
    title: str
    photo_bytes: int
    images: int
    image_bytes: int
    concurrency: int
    latency: float
    calls: int
    rounds: int
    force_close: bool = False
    waits: bool = False
    in_memory: bool = False

    def shortened(self) -> Shape:
        """Return the same with fewer calls and rounds."""
        calls = self.calls if self.waits else max(self.calls // 4, self.concurrency)
        return evolve(self, calls=calls, rounds=1)


@frozen
class Question:
    """A shape and its goals."""

    shape: Shape
    goals: tuple[Goal, ...]


QUESTIONS = (
    Question(
        Shape(
            name="large",
            title="3 MB in, 6 MB out, 16 at once, answered after 200 ms",
            photo_bytes=3_000_000,
            images=1,
            image_bytes=6_000_000,
            concurrency=16,
            latency=0.2,
            calls=96,
            rounds=3,
        ),
        (Goal("cpu_ms", 1 / 4), Goal("peak_mb", 1 / 2), Goal("stall_ms", 1 / 8)),
    ),
    Question(
        Shape(
            name="four",
            title="3 MB in, 4 x 8 MB out, 32 at once, answered after 200 ms",
            photo_bytes=3_000_000,
            images=4,
            image_bytes=8_000_000,
            concurrency=32,
            latency=0.2,
            calls=64,
            rounds=3,
        ),
        (Goal("cpu_ms", 1 / 4), Goal("stall_ms", 1 / 10)),
    ),
    Question(
        Shape(
            name="small",
            title="20 KB both ways, 64 at once, answered at once, a connection for each call",
            photo_bytes=20_000,
            images=1,
            image_bytes=20_000,
            concurrency=64,
            latency=0.0,
            calls=4000,
            rounds=5,
            force_close=True,
            in_memory=True,
        ),
        (Goal("cpu_ms", 1.3),),
    ),
    Question(
        Shape(
            name="small-files",
            title="the same with the photo as a file: plain aiohttp reads it on the event loop, phota_async does not",
            photo_bytes=20_000,
            images=1,
            image_bytes=20_000,
            concurrency=64,
            latency=0.0,
            calls=4000,
            rounds=3,
            force_close=True,
        ),
        (),
    ),
    Question(
        Shape(
            name="waiting",
            title="3 MB in, 6 MB out, 64 calls in flight that wait 10 s",
            photo_bytes=3_000_000,
            images=1,
            image_bytes=6_000_000,
            concurrency=64,
            latency=10.0,
            calls=64,
            rounds=2,
            waits=True,
        ),
        (Goal("waiting_mb", 1.0, relative=False),),
    ),
)
