"""One ``enhance_many`` of phota_async in a process of its own: ``PORT CALLS CONCURRENCY`` on the command line.

It prints a `benchmarks.outcomes.Told` as JSON, and on standard error why a photo has no image.
"""

from __future__ import annotations

import asyncio
import sys
from time import perf_counter

from benchmarks.faulty_server import photo
from benchmarks.outcomes import Told, delivered, outcome
from phota_async import Outcome, PhotaClient


async def _made(port: int, calls: int, concurrency: int) -> Told:
    base_url = f"http://127.0.0.1:{port}/v1/phota"
    photos = [photo(number) for number in range(calls)]
    async with PhotaClient("key", base_url=base_url, max_concurrency=concurrency, proxy="") as phota:
        begun = perf_counter()
        batch = await phota.enhance_many(photos)
        seconds = perf_counter() - begun
    return Told(seconds, tuple(_word(one) for one in batch))


def _word(one: Outcome) -> str:
    if one.result is not None:
        return delivered(one.index, [image.data for image in one.result.images])
    print(f"photo {one.index}: {one.error}", file=sys.stderr)
    assert one.error is not None  # noqa: S101  (an outcome has one of the two)
    return outcome(one.error)


if __name__ == "__main__":
    print(asyncio.run(_made(*map(int, sys.argv[1:]))).to_json())
