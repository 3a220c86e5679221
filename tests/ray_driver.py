"""A worker that dies at one operation of its store: ``python ray_driver.py URL STORE NUMBER before|after``."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from itertools import count
from typing import TypeVar

from attrs import field, frozen
from ray_workers import FOLDER, desk_of, small_photo

from phota_async.batch import Gate
from phota_async.ray.buyer import Buyer
from phota_async.ray.store import Store, open_store

T = TypeVar("T")


@frozen(eq=False)
class Deadly(Store):
    """A store one of whose operations, counted from 0, is its worker's last."""

    last: int
    when: str
    numbers: count[int] = field(factory=count)

    async def names(self, folder: str) -> list[str]:
        return await self._perhaps(lambda: super(Deadly, self).names(folder))

    async def get(self, name: str) -> bytes | None:
        return await self._perhaps(lambda: super(Deadly, self).get(name))

    async def create(self, name: str, content: bytes) -> bool:
        return await self._perhaps(lambda: super(Deadly, self).create(name, content))

    async def put(self, name: str, content: bytes) -> None:
        return await self._perhaps(lambda: super(Deadly, self).put(name, content))

    async def _perhaps(self, operation: Callable[[], Awaitable[T]]) -> T:
        is_last = next(self.numbers) == self.last
        if is_last and self.when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = await operation()
        if is_last:
            os.kill(os.getpid(), signal.SIGKILL)
        return result


async def main(url: str, store: str, last: str, when: str) -> None:
    async with Buyer(base_url=url) as buyer:
        desk = desk_of(Deadly(open_store(store).objects, int(last), when), buyer, patience=1.0)
        await desk.serve(FOLDER, small_photo(1), Gate())


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
