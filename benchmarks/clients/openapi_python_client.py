"""What openapi-python-client generates from the OpenAPI document: httpx and attrs."""

from __future__ import annotations

import base64
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from importlib import import_module
from typing import Any

from benchmarks.work import Photo, Shape, Work, content, in_turns

# Generated beside the peers, not committed.
generated: Any = import_module("phota_attrs")
models: Any = import_module("phota_attrs.models")
endpoint: Any = import_module("phota_attrs.api.studio.enhance_v1_phota_enhance_post")


@asynccontextmanager
async def opened(url: str, shape: Shape) -> AsyncGenerator[Work, None]:
    """Open a client and give what has photos enhanced."""
    async with generated.Client(base_url=url, headers={"X-API-Key": "key"}, timeout=None) as client:

        async def enhance(photo: Photo) -> list[bytes]:
            image = base64.b64encode(content(photo)).decode()
            answer = await endpoint.asyncio(
                client=client, body=models.EnhanceRequest(image=image, num_output_images=shape.images)
            )
            return [base64.b64decode(image) for image in answer.images]

        yield in_turns(enhance, shape)
