"""A Starlette backend: ``uvicorn --app-dir tests apps.starlette_app:app``."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import TypedDict

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from apps.albums import Albums
from apps.answers import answer_to, document, image_of, note
from apps.limits import ALBUM_WIDTH, FOLDER, QUEUE, WIDTH, seconds
from apps.stopping import when_told_to_stop
from apps.visitors import EventStream, on_disconnect, photo_of, photos_of, while_connected
from phota_async import PhotaClient, PhotaError

logging.basicConfig(level=logging.INFO)


class State(TypedDict):
    """What lives as long as the backend."""

    phota: PhotaClient
    albums: Albums


@asynccontextmanager
async def lifespan(_: Starlette) -> AsyncGenerator[State, None]:
    async with (
        PhotaClient(max_concurrency=WIDTH, max_queue=QUEUE) as phota,
        Albums(PhotaClient(max_concurrency=ALBUM_WIDTH), FOLDER) as albums,
    ):
        with when_told_to_stop(albums.stop):
            yield {"phota": phota, "albums": albums}


async def on_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, PhotaError)
    note(error)
    answer = answer_to(error)
    return JSONResponse(document(error), answer.status, answer.headers)


async def enhance(request: Request) -> Response:
    try:
        timeout = seconds(request.query_params.get("timeout"))
    except ValueError as error:
        raise HTTPException(422, "timeout must be a number of seconds, and not too many") from error
    photo = await photo_of(request)
    async with while_connected(request):
        phota = request.state.phota
        image = await image_of(phota, await phota.enhance(photo, timeout=timeout))
        return Response(image.data, media_type=image.media_type)


async def album(request: Request) -> Response:
    return EventStream(request.state.albums.begin(await photos_of(request)))


app = Starlette(
    lifespan=lifespan,
    exception_handlers={PhotaError: on_error, ClientDisconnect: on_disconnect},
    routes=[
        Route("/enhance", enhance, methods=["POST"]),
        Route("/album", album, methods=["POST"]),
        Mount("/images", StaticFiles(directory=FOLDER, check_dir=False)),
    ],
)
