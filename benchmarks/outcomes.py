"""One client's calls in a process of its own, each with its outcome.

The command line is ``CLIENT PORT CALLS CONCURRENCY``. Where `benchmarks.driver` ends at the first failure, this goes
on: failures are what is to be seen. It prints a `Told` as JSON. Every call has a photo of its own, and the image that
it brings must be that photo's.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from importlib import import_module
from time import perf_counter
from typing import Any

from attrs import asdict, frozen

from benchmarks.faulty_server import enhanced, photo
from benchmarks.work import Enhance, InTurns, Shape

DELIVERED, MAYBE_CHARGED, FAILED = "delivered", "maybe charged", "failed"
"""What a caller has in the end: the image, or an error that says it may be charged, or any other error."""


@frozen
class Told:
    """What the callers know.

    Attributes:
        seconds: How long all calls took.
        outcomes: One of the three for each photo, by its number.
    """

    seconds: float
    outcomes: tuple[str, ...]

    def to_json(self) -> str:
        """Return it for standard output."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Told:
        """Return what `to_json` wrote."""
        fields = json.loads(text)
        return cls(fields["seconds"], tuple(fields["outcomes"]))


def outcome(error: BaseException) -> str:
    """Return what an error tells its caller: phota_async's have ``maybe_charged``."""
    return MAYBE_CHARGED if getattr(error, "maybe_charged", False) else FAILED


def delivered(number: int, images: list[bytes]) -> str:
    """Return that a call's image is there.

    Raises:
        ValueError: It is another one's, or not whole.
    """
    if images != [enhanced(photo(number))]:
        raise ValueError(f"call {number} was given something else than its image")
    return DELIVERED


async def _made(client: Any, url: str, shape: Shape) -> Told:
    outcomes = [""] * shape.calls
    opened: AbstractAsyncContextManager[InTurns] = client.opened(url, shape)
    async with opened as work:
        begun, numbers = perf_counter(), iter(range(shape.calls))
        async with asyncio.TaskGroup() as group:
            for _ in range(shape.concurrency):
                group.create_task(_worker(work.enhance, numbers, outcomes))
        seconds = perf_counter() - begun
    return Told(seconds, tuple(outcomes))


async def _worker(enhance: Enhance, numbers: Iterator[int], outcomes: list[str]) -> None:
    for number in numbers:
        try:
            images = await enhance(photo(number))
        except Exception as error:  # noqa: BLE001  (whatever a client raises is what its caller is told)
            outcomes[number] = outcome(error)
        else:
            outcomes[number] = delivered(number, images)


def _main(client: str, port: str, calls: str, concurrency: str) -> None:
    logging.disable()  # failures are expected here, and a line for each would hide what is not
    source = photo(0)
    shape = Shape(
        photo_bytes=len(source), image_bytes=len(enhanced(source)), calls=int(calls), concurrency=int(concurrency)
    )
    module = import_module(f"benchmarks.clients.{client}")
    print(asyncio.run(_made(module, f"http://127.0.0.1:{port}", shape)).to_json())


if __name__ == "__main__":
    _main(*sys.argv[1:])
