"""Plain aiohttp, as one writes it at first: ``json=``, ``await response.json()`` and the standard library's base64."""

from __future__ import annotations

import base64
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import aiohttp

from benchmarks.shapes import Enhance, Photo, Shape


@asynccontextmanager
async def opened(base_url: str, shape: Shape) -> AsyncGenerator[Enhance, None]:
    """Open a session and give what enhances one photo."""
    connector = aiohttp.TCPConnector(force_close=shape.force_close)
    async with aiohttp.ClientSession(connector=connector, headers={"X-API-Key": "key"}) as session:

        async def enhance(photo: Photo) -> list[bytes]:
            body = _body(photo, shape.images)
            async with session.post(f"{base_url}/enhance", json=body) as response:
                response.raise_for_status()
                answer = await response.json()
            return [base64.b64decode(image) for image in answer["images"]]

        yield enhance


def _body(photo: Photo, images: int) -> dict[str, object]:
    data = photo if isinstance(photo, bytes) else photo.read_bytes()
    return {
        "image": base64.b64encode(data).decode(),
        "output_format": "png",
        "num_output_images": images,
    }
