"""What openapi-generator generates from the OpenAPI document with ``--library asyncio``: aiohttp and pydantic."""

from __future__ import annotations

import base64
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from importlib import import_module
from typing import Any

from benchmarks.work import Photo, Shape, Work, content, in_turns

generated: Any = import_module("phota_pydantic")  # generated beside the peers, not committed


@asynccontextmanager
async def opened(url: str, shape: Shape) -> AsyncGenerator[Work, None]:
    """Open a client and give what has photos enhanced."""
    configuration = generated.Configuration(host=url, api_key={"APIKeyHeader": "key"})
    async with generated.ApiClient(configuration) as client:
        studio = generated.StudioApi(client)

        async def enhance(photo: Photo) -> list[bytes]:
            image = base64.b64encode(content(photo)).decode()
            answer = await studio.enhance_v1_phota_enhance_post(
                generated.EnhanceRequest(image=image, num_output_images=shape.images)
            )
            return [base64.b64decode(image) for image in answer.images]

        yield in_turns(enhance, shape)
