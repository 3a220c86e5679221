"""A FastAPI backend: ``uvicorn --app-dir tests apps.fastapi_app:app``."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import FastAPI, Query, Request, Response
from fastapi.responses import JSONResponse
from fastapi.staticfiles import StaticFiles
from starlette.requests import ClientDisconnect

from apps import openapi
from apps.albums import Albums
from apps.answers import answer_to, document, image_of, note
from apps.limits import ALBUM_WIDTH, FOLDER, MAX_SECONDS, QUEUE, WIDTH
from apps.stopping import when_told_to_stop
from apps.visitors import EventStream, on_disconnect, photo_of, photos_of, while_connected
from phota_async import PhotaClient, PhotaError

logging.basicConfig(level=logging.INFO)

phota = PhotaClient(max_concurrency=WIDTH, max_queue=QUEUE)  # one for the process; it opens in the server's loop
albums = Albums(PhotaClient(max_concurrency=ALBUM_WIDTH), FOLDER)  # and one for albums


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncGenerator[None, None]:
    async with phota, albums:  # left when the last request is answered
        with when_told_to_stop(albums.stop):
            yield


app = FastAPI(lifespan=lifespan)
app.add_exception_handler(ClientDisconnect, on_disconnect)
app.mount("/images", StaticFiles(directory=FOLDER, check_dir=False))


@app.exception_handler(PhotaError)
async def on_error(_: Request, error: PhotaError) -> Response:
    note(error)
    answer = answer_to(error)
    return JSONResponse(document(error), answer.status, answer.headers)


@app.post("/enhance", **openapi.ENHANCE)
async def enhance(request: Request, timeout: Annotated[float, Query(gt=0, le=MAX_SECONDS)] = MAX_SECONDS) -> Response:
    photo = await photo_of(request)
    async with while_connected(request):
        image = await image_of(phota, await phota.enhance(photo, timeout=timeout))
        return Response(image.data, media_type=image.media_type)


@app.post("/album", **openapi.ALBUM)
async def album(request: Request) -> Response:
    return EventStream(albums.begin(await photos_of(request)))
