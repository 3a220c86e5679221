"""requests in threads: a thread for each call in flight, each with a session of its own, awaited from an event loop."""

from __future__ import annotations

import asyncio
import base64
import threading
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from importlib import import_module
from typing import Any

from benchmarks.work import Photo, Shape, Work, content, in_turns

requests: Any = import_module("requests")  # installed among the peers only


@asynccontextmanager
async def opened(url: str, shape: Shape) -> AsyncGenerator[Work, None]:
    """Open the threads and give what has photos enhanced."""
    own = threading.local()

    def enhanced(photo: Photo) -> list[bytes]:
        if not hasattr(own, "session"):
            own.session = requests.Session()
            own.session.headers["X-API-Key"] = "key"
        body = {
            "image": base64.b64encode(content(photo)).decode(),
            "output_format": "png",
            "num_output_images": shape.images,
        }
        response = own.session.post(f"{url}/v1/phota/enhance", json=body)
        response.raise_for_status()
        return [base64.b64decode(image) for image in response.json()["images"]]

    with ThreadPoolExecutor(shape.concurrency) as threads:

        async def enhance(photo: Photo) -> list[bytes]:
            return await asyncio.get_running_loop().run_in_executor(threads, enhanced, photo)

        yield in_turns(enhance, shape)
