"""An aiohttp.web backend: ``python -m apps.aiohttp_app`` in ``tests``, with the port in ``PORT``."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncGenerator
from contextlib import ExitStack, asynccontextmanager
from tempfile import SpooledTemporaryFile
from typing import IO

from aiohttp import BodyPartReader, web
from aiohttp.typedefs import Handler

from apps.albums import Albums
from apps.answers import EVENT_STREAM, answer_to, document, image_of, note
from apps.limits import (
    ALBUM_WIDTH,
    FOLDER,
    GRACE,
    MAX_ALBUM_BYTES,
    MAX_ALBUM_PHOTOS,
    MAX_PHOTO_BYTES,
    QUEUE,
    WIDTH,
    one_upload,
    refusal,
    seconds,
)
from phota_async import PhotaClient, PhotaError

PHOTA = web.AppKey("phota", PhotaClient)
ALBUMS = web.AppKey("albums", Albums)

NO_ALBUM = f"an album is a form with 1 to {MAX_ALBUM_PHOTOS} files in its field photos"


async def life(app: web.Application) -> AsyncGenerator[None, None]:
    async with (
        PhotaClient(max_concurrency=WIDTH, max_queue=QUEUE) as phota,
        Albums(PhotaClient(max_concurrency=ALBUM_WIDTH), FOLDER) as albums,
    ):
        app[PHOTA], app[ALBUMS] = phota, albums
        yield  # until the last request is answered


async def stop_albums(app: web.Application) -> None:
    app[ALBUMS].stop()


@web.middleware
async def errors_told(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except PhotaError as error:
        note(error)
        answer = answer_to(error)
        return web.json_response(document(error), status=answer.status, headers=answer.headers)


@asynccontextmanager
async def upload(request: web.Request, most: int) -> AsyncGenerator[None, None]:
    match refusal(request.headers, most):
        case 413:
            raise web.HTTPRequestEntityTooLarge(most)
        case 415:
            raise web.HTTPUnsupportedMediaType
        case _:
            pass
    try:
        async with one_upload():
            yield
    except TimeoutError as slow:
        raise web.HTTPRequestTimeout from slow
    except OSError as full:
        raise web.HTTPInsufficientStorage(text="There is no room for these photos.") from full
    except ValueError as broken:
        raise web.HTTPBadRequest(text=NO_ALBUM) from broken


async def enhance(request: web.Request) -> web.Response:
    try:
        timeout = seconds(request.query.get("timeout"))
    except ValueError as error:
        raise web.HTTPUnprocessableEntity(text="timeout must be a number of seconds, and not too many") from error
    photo = bytearray()
    async with upload(request, MAX_PHOTO_BYTES):
        async for chunk in request.content.iter_any():
            photo += chunk
            if len(photo) > MAX_PHOTO_BYTES:
                raise web.HTTPRequestEntityTooLarge(MAX_PHOTO_BYTES)
    phota = request.app[PHOTA]
    image = await image_of(phota, await phota.enhance(photo, timeout=timeout))
    return web.Response(body=image.data, content_type=image.media_type)


async def photos_of(request: web.Request) -> list[IO[bytes]]:
    """Return the files of a form's field ``photos``, those that are large on disk; whoever takes them closes them."""
    if request.content_type != "multipart/form-data":
        raise web.HTTPBadRequest(text=NO_ALBUM)
    photos, left = list[IO[bytes]](), MAX_ALBUM_BYTES
    with ExitStack() as files:  # ``request.post()`` leaves them open when its visitor goes away
        async with upload(request, MAX_ALBUM_BYTES):
            async for part in await request.multipart():
                if not isinstance(part, BodyPartReader) or part.name != "photos" or len(photos) == MAX_ALBUM_PHOTOS:
                    raise web.HTTPBadRequest(text=NO_ALBUM)
                photos.append(files.enter_context(SpooledTemporaryFile(2**20)))
                left = await spool(part, photos[-1], left)
        if not photos:
            raise web.HTTPBadRequest(text=NO_ALBUM)
        files.pop_all()
    return photos


async def spool(part: BodyPartReader, file: IO[bytes], left: int) -> int:
    while chunk := await part.read_chunk(2**18):
        left -= len(chunk)
        if left < 0:
            raise web.HTTPRequestEntityTooLarge(MAX_ALBUM_BYTES)
        await asyncio.to_thread(file.write, chunk)
    file.seek(0)
    return left


async def album(request: web.Request) -> web.StreamResponse:
    answer = web.StreamResponse(headers=EVENT_STREAM)
    async with request.app[ALBUMS].begin(await photos_of(request)) as events:
        await answer.prepare(request)
        async for event in events:
            await answer.write(event)
    return answer


def make_app() -> web.Application:
    app = web.Application(middlewares=[errors_told])
    app.cleanup_ctx.append(life)
    app.on_shutdown.append(stop_albums)  # comes before the wait for open answers
    FOLDER.mkdir(parents=True, exist_ok=True)
    app.add_routes([web.post("/enhance", enhance), web.post("/album", album), web.static("/images", FOLDER)])
    return app


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    web.run_app(
        make_app(),
        host="127.0.0.1",
        port=int(os.environ.get("PORT", "8080")),
        handler_cancellation=True,  # a visitor who goes away ends the wait
        shutdown_timeout=GRACE / 2,  # aiohttp waits that long, twice; a minute, if it is left out
    )
