"""A small web backend: FastAPI in uvicorn, with one client of the image API for as long as it lives.

``python -m benchmarks.backend_app --assignment '...'`` prints its port and serves until its standard input closes.
``POST /enhance`` has the photo enhanced and tells how long its images are, ``GET /ping`` is what every other visitor
feels of that, and ``GET /usage`` tells what the process has used so far.
"""

from __future__ import annotations

import argparse
import asyncio
import socket
import sys
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib import import_module
from time import process_time
from typing import Any

from fastapi import FastAPI
from fastapi.responses import PlainTextResponse

from benchmarks.driver import Assignment
from benchmarks.meters import peak_mb
from benchmarks.server import listener
from benchmarks.work import InTurns

uvicorn: Any = import_module("uvicorn")  # installed among the peers only

# Longer than any round: what stands before a backend keeps its connections.
_KEPT_SECONDS = 300


def backend(assignment: Assignment) -> FastAPI:
    """Return the application; it opens its client when it starts and closes it when it ends."""
    client: Any = import_module(f"benchmarks.clients.{assignment.client}")
    opened: AbstractAsyncContextManager[InTurns] = client.opened(
        f"http://127.0.0.1:{assignment.port}", assignment.shape
    )
    photo = assignment.source()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None, None]:
        async with opened as work:
            app.state.enhance = work.enhance
            yield

    app = FastAPI(lifespan=lifespan)

    @app.post("/enhance")
    async def enhance() -> list[int]:  # pyright: ignore[reportUnusedFunction]  (FastAPI uses it)
        return [len(image) for image in await app.state.enhance(photo)]

    @app.get("/ping", response_class=PlainTextResponse)
    async def ping() -> str:  # pyright: ignore[reportUnusedFunction]
        return "pong"

    @app.get("/usage")
    async def usage() -> dict[str, float]:  # pyright: ignore[reportUnusedFunction]
        return {"cpu_s": process_time(), "peak_mb": peak_mb()}

    return app


async def serve(app: FastAPI, listening: socket.socket) -> None:
    """Serve until standard input closes."""
    server = uvicorn.Server(
        uvicorn.Config(app, log_level="warning", access_log=False, timeout_keep_alive=_KEPT_SECONDS)
    )
    loop = asyncio.get_running_loop()

    def end() -> None:
        loop.remove_reader(sys.stdin)
        server.should_exit = True

    loop.add_reader(sys.stdin, end)
    print(listening.getsockname()[1], flush=True)
    await server.serve(sockets=[listening])


def main() -> None:
    """Serve as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--assignment", required=True, type=Assignment.from_json, help="the client, as JSON")
    app = backend(parser.parse_args().assignment)
    with listener() as listening:
        asyncio.run(serve(app, listening))


if __name__ == "__main__":
    main()
