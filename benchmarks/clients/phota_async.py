"""The library in memory, as its documentation shows it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from benchmarks.work import Photo, Shape, Work, in_turns
from phota_async import PhotaClient, RetryPolicy


@asynccontextmanager
async def opened(url: str, shape: Shape, *, retry: RetryPolicy | None = None) -> AsyncGenerator[Work, None]:
    """Open a client, by default as it comes, and give what has photos enhanced."""
    base_url, retry = f"{url}/v1/phota", retry or RetryPolicy()
    async with PhotaClient("key", base_url=base_url, max_concurrency=shape.concurrency, retry=retry, proxy="") as phota:

        async def enhance(photo: Photo) -> list[bytes]:
            result = await phota.enhance(photo, num_output_images=shape.images)
            return [image.data for image in result.images]

        yield in_turns(enhance, shape)
