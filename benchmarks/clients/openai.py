"""The openai SDK's generic ``post``: how the SDKs that vendors generate for such APIs go about it."""

from __future__ import annotations

import base64
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from importlib import import_module
from typing import Any

from benchmarks.work import Photo, Shape, Work, content, in_turns

openai: Any = import_module("openai")  # installed among the peers only


@asynccontextmanager
async def opened(url: str, shape: Shape) -> AsyncGenerator[Work, None]:
    """Open a client and give what has photos enhanced."""
    async with openai.AsyncOpenAI(api_key="key", base_url=f"{url}/v1/phota") as client:

        async def enhance(photo: Photo) -> list[bytes]:
            body = {
                "image": base64.b64encode(content(photo)).decode(),
                "output_format": "png",
                "num_output_images": shape.images,
            }
            answer = await client.post("/enhance", body=body, cast_to=object)
            return [base64.b64decode(image) for image in answer["images"]]

        yield in_turns(enhance, shape)
