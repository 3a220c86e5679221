"""What is paid for and not in the store yet, and claims that may be in it and were never sent."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from attrs import define, field

from phota_async.ray.records import Claim, read_claim, written
from phota_async.ray.store import TO_WRITE, Store, StoreError


@define(eq=False)
class Unwritten:
    """Writes what is paid for, and keeps what a store does not take until it does.

    It holds no more than was in flight when the store failed: nothing is bought while something is kept.

    Attributes:
        store: Where it belongs.
        within: Seconds that writing may take.
    """

    store: Store
    within: float = TO_WRITE
    _kept: dict[str, bytes] = field(init=False, factory=dict[str, bytes])
    _unsure: dict[str, tuple[str, Claim]] = field(init=False, factory=dict[str, tuple[str, Claim]])
    _catching_up: asyncio.Lock = field(init=False, factory=asyncio.Lock)

    @property
    def is_empty(self) -> bool:
        """Whether nothing is kept."""
        return not self._kept and not self._unsure

    async def write(self, objects: Mapping[str, bytes]) -> None:
        """Write what one request brought, one object after the other. What is left of them is kept, whatever happens.

        Raises:
            StoreError: They are not written.
        """
        left = dict(objects)
        try:
            await self._put(left)
        except BaseException:
            self._kept.update(left)
            raise

    def doubt(self, folder: str, refused: Claim) -> None:
        """Keep a claim that may be in the store as sent, and was not sent.

        Args:
            folder: The photo's.
            refused: The claim as it is to be there, if it is.
        """
        self._unsure[refused.word] = (f"{folder}/{refused.name}", refused)

    async def catch_up(self) -> None:
        """Write what is kept.

        Raises:
            StoreError: It still is.
        """
        async with self._catching_up:
            await self._put(self._kept)
            while self._unsure:
                word, (name, refused) = next(iter(self._unsure.items()))
                if await self._holds(name, refused):
                    await self._put({name: written(refused)})
                del self._unsure[word]

    async def _holds(self, name: str, claim: Claim) -> bool:
        """Tell whether it is this claim that the store has there, and not another worker's, or none."""
        return read_claim(claim.number, await self.store.get(name)).word == claim.word

    async def _put(self, left: dict[str, bytes]) -> None:
        try:
            async with asyncio.timeout(self.within):
                while left:
                    name = next(iter(left))
                    await self.store.put_surely(name, left[name])
                    del left[name]
        except TimeoutError:
            pass
        else:
            return
        raise StoreError(f"the store has not taken {next(iter(left))} within {self.within:g} s")
