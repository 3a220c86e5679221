"""Plain aiohttp, as one writes it at first: ``json=``, ``await response.json()`` and the standard library's base64."""

from __future__ import annotations

import base64
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import aiohttp

from benchmarks.work import Photo, Shape, Work, content, in_turns


@asynccontextmanager
async def opened(url: str, shape: Shape, *, force_close: bool = False) -> AsyncGenerator[Work, None]:
    """Open a session and give what has photos enhanced."""
    connector = aiohttp.TCPConnector(force_close=force_close)
    async with aiohttp.ClientSession(connector=connector, headers={"X-API-Key": "key"}) as session:

        async def enhance(photo: Photo) -> list[bytes]:
            body = {
                "image": base64.b64encode(content(photo)).decode(),
                "output_format": "png",
                "num_output_images": shape.images,
            }
            async with session.post(f"{url}/v1/phota/enhance", json=body) as response:
                response.raise_for_status()
                answer = await response.json()
            return [base64.b64decode(image) for image in answer["images"]]

        yield in_turns(enhance, shape)
