"""One of several processes of phota_async that share a service: ``PORT FIRST CALLS CONCURRENCY`` on the command line.

It says that it is ready, waits for a line on standard input, makes one batch of the photos from number ``FIRST`` on,
and prints as JSON when each image was there, in seconds of the system's clock.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

from benchmarks.driver import READY
from benchmarks.faulty_server import photo
from benchmarks.outcomes import delivered
from phota_async import PhotaClient


async def _made(port: int, first: int, calls: int, concurrency: int) -> list[float]:
    times: list[float] = []
    base_url = f"http://127.0.0.1:{port}/v1/phota"
    async with PhotaClient("key", base_url=base_url, max_concurrency=concurrency, proxy="") as phota:
        print(READY, flush=True)
        sys.stdin.readline()
        async with phota.enhance_stream(photo(first + number) for number in range(calls)) as outcomes:
            async for one in outcomes:
                if one.result is None:
                    print(f"photo {first + one.index}: {one.error}", file=sys.stderr)
                else:
                    delivered(first + one.index, [image.data for image in one.result.images])
                    times.append(time.time())
    return times


if __name__ == "__main__":
    print(json.dumps(asyncio.run(_made(*map(int, sys.argv[1:])))))
