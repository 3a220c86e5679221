"""The library, as its documentation shows it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from benchmarks.shapes import Enhance, Photo, Shape
from phota_async import PhotaClient


@asynccontextmanager
async def opened(base_url: str, shape: Shape) -> AsyncGenerator[Enhance, None]:
    """Open a client and give what enhances one photo."""
    async with PhotaClient("key", base_url=base_url, max_concurrency=shape.concurrency, proxy="") as phota:

        async def enhance(photo: Photo) -> list[bytes]:
            result = await phota.enhance(photo, num_output_images=shape.images)
            return [image.data for image in result.images]

        yield enhance
