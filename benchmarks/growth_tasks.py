"""Batches in memory, each in a process of its own: ``python -m benchmarks.growth_tasks TASK``."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable
from itertools import repeat

import aiohttp

from benchmarks.tasks import Cost, Task, answer, metered
from phota_async import PhotaClient

_JPEG = b"\xff\xd8\xff\xe0"


def _photo(task: Task) -> bytes:
    return _JPEG + bytes(task.shape.photo_bytes - len(_JPEG))


def _look(image: bytes, task: Task) -> None:
    if len(image) != task.shape.image_bytes:
        raise ValueError("an answer did not bring its image")


async def _stream(task: Task) -> Cost:
    """Take outcomes as they complete and throw them away; a first stream as wide as it goes is not counted."""
    url, width = f"http://127.0.0.1:{task.port}/v1/phota", task.shape.concurrency
    async with PhotaClient("key", base_url=url, max_concurrency=width, proxy="") as phota:

        async def work(count: int) -> int:
            taken = 0
            async with phota.enhance_stream(repeat(_photo(task), count)) as outcomes:
                async for outcome in outcomes:
                    if outcome.result is None:
                        raise ValueError(f"a photo was not enhanced: {outcome.error}")
                    _look(outcome.result.images[0].data, task)
                    taken += 1
            return taken

        await work(width)
        cost, taken = await metered(work(task.shape.calls))
    if taken != task.shape.calls:
        raise ValueError(f"{taken} outcomes came of {task.shape.calls} photos")
    return cost


async def _gather(task: Task) -> Cost:
    """Do the same with plain aiohttp, as one writes it at first: a task for each photo, all of them at once."""
    async with aiohttp.ClientSession(headers={"X-API-Key": "key"}) as session:

        async def enhance(photo: bytes) -> bytes:
            body = {"image": base64.b64encode(photo).decode(), "output_format": "png"}
            async with session.post(f"http://127.0.0.1:{task.port}/v1/phota/enhance", json=body) as response:
                response.raise_for_status()
                return base64.b64decode((await response.json())["images"][0])

        async def work(count: int) -> None:
            images = await asyncio.gather(*[enhance(photo) for photo in repeat(_photo(task), count)])
            for image in images:
                _look(image, task)

        await work(task.shape.concurrency)
        return (await metered(work(task.shape.calls)))[0]


_ROLES: dict[str, Callable[[Task], Cost]] = {
    "stream": lambda task: asyncio.run(_stream(task)),
    "gather": lambda task: asyncio.run(_gather(task)),
}


if __name__ == "__main__":
    answer(_ROLES)
