"""Plain httpx, as one writes it at first."""

from __future__ import annotations

import base64
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import httpx

from benchmarks.work import Photo, Shape, Work, content, in_turns


@asynccontextmanager
async def opened(url: str, shape: Shape) -> AsyncGenerator[Work, None]:
    """Open a client and give what has photos enhanced."""
    async with httpx.AsyncClient(headers={"X-API-Key": "key"}, timeout=None) as client:  # noqa: S113  (answers are slow)

        async def enhance(photo: Photo) -> list[bytes]:
            body = {
                "image": base64.b64encode(content(photo)).decode(),
                "output_format": "png",
                "num_output_images": shape.images,
            }
            response = await client.post(f"{url}/v1/phota/enhance", json=body)
            response.raise_for_status()
            return [base64.b64decode(image) for image in response.json()["images"]]

        yield in_turns(enhance, shape)
