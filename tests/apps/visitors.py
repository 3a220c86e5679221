"""The visitor of a Starlette or FastAPI handler: what it sends is bounded, and it may go away at any time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import IO

from anyio import CancelScope
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from apps.answers import EVENT_STREAM
from apps.limits import MAX_ALBUM_BYTES, MAX_ALBUM_PHOTOS, MAX_PHOTO_BYTES, one_upload, refusal


@asynccontextmanager
async def while_connected(request: Request) -> AsyncGenerator[None, None]:
    """End the block, and what it waits for, when the visitor goes away. The body must have been read.

    Raises:
        ClientDisconnect: The visitor has gone.
    """
    with CancelScope() as scope:

        async def watch() -> None:
            while (await request.receive())["type"] != "http.disconnect":
                pass
            scope.cancel()

        watching = asyncio.create_task(watch())
        try:
            yield
        finally:
            watching.cancel()
    if scope.cancelled_caught:
        raise ClientDisconnect


async def on_disconnect(_: Request, __: Exception) -> Response:
    """Answer nobody: without an answer, or with an error, a server logs a traceback."""
    return Response(status_code=499)


class EventStream(StreamingResponse):
    """Server-sent events of a context, which is entered before the answer begins and left whatever becomes of it."""

    def __init__(self, events: AbstractAsyncContextManager[AsyncIterator[bytes]]) -> None:
        super().__init__((), headers=EVENT_STREAM)
        self._events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._events as self.body_iterator:
            await super().__call__(scope, receive, send)


async def photo_of(request: Request) -> bytearray:
    """Return the body."""
    photo = bytearray()
    async with _upload(request, MAX_PHOTO_BYTES) as upload:
        async for chunk in upload.stream():
            photo += chunk
    return photo


async def photos_of(request: Request) -> list[IO[bytes]]:
    """Return the files of a form's field ``photos``, those that are large on disk; whoever takes them closes them."""
    async with _upload(request, MAX_ALBUM_BYTES) as upload:
        form = await upload.form(max_files=MAX_ALBUM_PHOTOS, max_fields=0)
    photos: list[IO[bytes]] = [one.file for one in form.getlist("photos") if isinstance(one, UploadFile)]
    if not 0 < len(photos) == len(form.multi_items()):
        await form.close()
        raise HTTPException(400, f"an album is a form with 1 to {MAX_ALBUM_PHOTOS} files in its field photos")
    return photos


@asynccontextmanager
async def _upload(request: Request, most: int) -> AsyncGenerator[Request, None]:
    """Give a request whose body is refused once more than ``most`` bytes have come, or when it takes too long."""
    if status := refusal(request.headers, most):
        raise HTTPException(status)
    came = 0

    async def receive() -> Message:
        nonlocal came
        message = await request.receive()
        came += len(message.get("body", b""))
        if came > most:
            raise HTTPException(413)
        return message

    try:
        async with one_upload():
            yield Request(request.scope, receive)
    except TimeoutError as slow:
        raise HTTPException(408) from slow
    except OSError as full:
        raise HTTPException(507, "There is no room for these photos.") from full
