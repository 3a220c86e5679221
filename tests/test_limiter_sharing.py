"""Several limiters that know nothing of each other share a service: fair shares, few refusals, and no photo is lost.

In virtual time, on a service that refuses at once what is beyond its room, with retries as the policy's default has
them. Shares are counted until the first client has all its photos; Jain's index is 1 where all are the same.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator

import pytest
from attrs import define, field
from test_limiter import JumpingLoop, now

from phota_async.limiter import Limiter
from phota_async.retry import RetryPolicy

ROOM, WIDTH, POLICY = 24, 64, RetryPolicy()


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "asyncio", {"loop_factory": JumpingLoop}


@define
class Service:
    """One with little room, ``seconds`` a call and about ``network`` seconds away."""

    seconds: float
    network: float
    working: int = 0
    requests: int = 0

    async def accepts(self) -> bool:
        await asyncio.sleep(self.network * random.uniform(0.5, 1.5))  # noqa: S311
        self.requests += 1
        good = self.working < ROOM
        if good:
            self.working += 1
            await asyncio.sleep(self.seconds)
            self.working -= 1
        await asyncio.sleep(self.network / 2)
        return good


@define
class Client:
    """One process: a limiter of its own, and its photos."""

    service: Service
    photos: int
    limiter: Limiter = field(factory=lambda: Limiter(WIDTH))
    done: list[float] = field(factory=list[float])
    lost: int = 0

    async def run(self) -> None:
        left = iter(range(self.photos))
        await asyncio.sleep(random.uniform(0, 0.01))  # noqa: S311
        async with asyncio.TaskGroup() as group:
            for _ in range(WIDTH):
                group.create_task(self._work(left))

    async def _work(self, left: Iterator[int]) -> None:
        for _ in left:
            if await self._made():
                self.done.append(now())
            else:
                self.lost += 1

    async def _made(self) -> bool:
        for number in range(1, POLICY.max_attempts + 1):
            slot = await self.limiter.acquire(patient=True, again=number > 1)
            good = await self.service.accepts()
            if not good:
                self.limiter.refused(slot)
            self.limiter.release()
            if good:
                self.limiter.succeeded(slot)
                return True
            longest = min(POLICY.max_wait, POLICY.initial_wait * 2 ** (number - 1))
            await asyncio.sleep(random.uniform(0, longest))  # noqa: S311
        return False


def jain(shares: list[int]) -> float:
    return sum(shares) ** 2 / (len(shares) * sum(share**2 for share in shares))


async def shared(service: Service, clients: int, photos: int, seed: int) -> tuple[float, float, int, float]:
    """Return Jain's index, requests a success, photos lost, and the makespan as a multiple of the least."""
    random.seed(seed)
    begun, all_of_them = now(), [Client(service, photos) for _ in range(clients)]
    async with asyncio.TaskGroup() as group:
        for client in all_of_them:
            group.create_task(client.run())
    end = min(client.done[-1] for client in all_of_them)
    shares = [sum(at <= end for at in client.done) for client in all_of_them]
    lost, made = sum(client.lost for client in all_of_them), sum(len(client.done) for client in all_of_them)
    makespan = (now() - begun) / (clients * photos / ROOM * service.seconds)
    return jain(shares), service.requests / made, lost, makespan


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.5, 55.0])
@pytest.mark.parametrize("clients", [2, 4, 8])
async def test_clients_that_share_a_service_get_fair_shares_and_lose_nothing(clients: int, seconds: float) -> None:
    photos = 100 * ROOM // clients  # a hundred times what the service takes at once
    told = [await shared(Service(seconds, 0.0015), clients, photos, seed) for seed in range(5)]
    indices = sorted(jain for jain, _, _, _ in told)
    assert indices[len(told) // 2] >= 0.9
    assert indices[0] >= 0.7
    assert max(requests for _, requests, _, _ in told) <= 1.5
    assert sum(lost for _, _, lost, _ in told) == 0
    assert max(makespan for _, _, _, makespan in told) <= 1.4


async def test_a_service_further_away_is_shared_fairly_too() -> None:
    index, requests, lost, _ = await shared(Service(10.0, 0.05), 4, 400, seed=1)
    assert index >= 0.9
    assert requests <= 1.5
    assert lost == 0
