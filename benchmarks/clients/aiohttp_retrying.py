"""Plain aiohttp with retries around it, as one writes it with tenacity: what was refused or failed, after full jitter.

Its attempts and pauses are those of phota_async's default, so that what is compared is the number of calls in flight:
as many as the driver has workers, whatever the service says to it. A worker keeps its place during a pause.
"""

from __future__ import annotations

import base64
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import aiohttp
from tenacity import retry, retry_if_exception, stop_after_attempt, wait_random_exponential

from benchmarks.work import Photo, Shape, Work, content, in_turns

_ATTEMPTS, _FIRST_WAIT, _LONGEST_WAIT = 5, 1.0, 30.0
_STATUSES = {429, 500, 503}


def _may_be_repeated(error: BaseException) -> bool:
    return isinstance(error, aiohttp.ClientResponseError) and error.status in _STATUSES


@asynccontextmanager
async def opened(url: str, shape: Shape) -> AsyncGenerator[Work, None]:
    """Open a session and give what has photos enhanced."""
    connector = aiohttp.TCPConnector(limit=0)  # by itself aiohttp has no more than 100 calls in flight
    async with aiohttp.ClientSession(connector=connector, headers={"X-API-Key": "key"}) as session:

        @retry(
            stop=stop_after_attempt(_ATTEMPTS),
            wait=wait_random_exponential(multiplier=_FIRST_WAIT, max=_LONGEST_WAIT),
            retry=retry_if_exception(_may_be_repeated),
            reraise=True,
        )
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
