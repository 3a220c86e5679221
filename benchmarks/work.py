"""The work that is compared: its shape, and what a client is to the driver that has it done."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TypeAlias

from attrs import evolve, frozen

Photo: TypeAlias = Path | bytes
Enhance: TypeAlias = Callable[[Photo], Awaitable[list[bytes]]]
Work: TypeAlias = Callable[[Iterator[Photo]], Awaitable[None]]
"""Has every photo of an iterator enhanced, with as many calls in flight as the shape says."""


@frozen(kw_only=True)
class Shape:
    """One kind of work.

    Attributes:
        photo_bytes: How long the photo is.
        images: How many images an answer holds.
        image_bytes: How long each of them is, decoded.
        concurrency: How many calls are in flight.
        latency: Seconds before the server answers.
        calls: How many calls one process makes.
        waits: Whether memory is taken while every call waits for its answer.
        from_files: Whether the clients are given the photo's path, rather than its bytes as a web backend has them.
    """

    photo_bytes: int
    images: int = 1
    image_bytes: int
    concurrency: int
    latency: float = 0.0
    calls: int
    waits: bool = False
    from_files: bool = False

    def shortened(self) -> Shape:
        """Return the same with fewer calls."""
        return evolve(self, calls=self.calls if self.waits else max(self.calls // 4, self.concurrency))


@frozen
class InTurns:
    """Has photos enhanced by workers on one shared iterator, and looks at what each call brings.

    Attributes:
        enhance: Makes one call, for a driver that wants each call's outcome.
        shape: What the calls are.
    """

    enhance: Enhance
    shape: Shape

    async def __call__(self, photos: Iterator[Photo]) -> None:
        """Have all photos enhanced, with as many calls in flight as the shape says."""
        async with asyncio.TaskGroup() as group:
            for _ in range(self.shape.concurrency):
                group.create_task(self._worker(photos))

    async def _worker(self, photos: Iterator[Photo]) -> None:
        expected = [self.shape.image_bytes] * self.shape.images
        for photo in photos:
            if [len(image) for image in await self.enhance(photo)] != expected:
                raise ValueError("an answer did not bring its images")


def in_turns(enhance: Enhance, shape: Shape) -> InTurns:
    """Return what has photos enhanced by workers on one shared iterator."""
    return InTurns(enhance, shape)


def content(photo: Photo) -> bytes:
    """Return a photo's bytes."""
    return photo if isinstance(photo, bytes) else photo.read_bytes()
