"""The HTTP server: routes, request ids, and an end that waits for nobody."""

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import cast

from aiohttp import web
from aiohttp.typedefs import Handler

from .answers import Refusal
from .delivery import Call, until_cancelled
from .downloads import Downloads
from .ledger import Ledger, RequestRecord
from .service import EnhanceService

PATH = "/v1/phota"
_ONLY_POST = Refusal(405, "Method Not Allowed", headers={"Allow": "POST"})
_NOT_FOUND = Refusal(404, "Not Found", "NOT_FOUND")
# More at once than any test opens, so that none is refused by the kernel.
_BACKLOG = 1024


class Endpoint:
    """One listening server."""

    def __init__(self, ledger: Ledger, service: EnhanceService, downloads: Downloads) -> None:
        self._ledger = ledger
        self._service = service
        self._handlers: set[asyncio.Task[object]] = set()
        application = web.Application()
        application.on_response_prepare.append(downloads.begin)
        application.router.add_get("/files/{name}", self._watched(downloads.answer), allow_head=False)
        application.router.add_route("*", f"{PATH}/enhance", self._watched(self._enhance))
        application.router.add_route("*", "/{anything:.*}", self._watched(self._unknown))
        # A handler is cancelled when its client goes, so that a stalled one does not outlive it.
        self._runner = web.AppRunner(application, handler_cancellation=True, access_log=None, shutdown_timeout=1.0)

    async def start(self, host: str, port: int) -> int:
        """Listen, and tell the port; raises OSError if the address is taken."""
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, host, port, backlog=_BACKLOG).start()
        except BaseException:
            await self._runner.cleanup()
            raise
        bound: int = self._runner.addresses[0][1]
        return bound

    async def aclose(self) -> None:
        """Stop listening, break what is open and wait for its handlers."""
        for site in tuple(self._runner.sites):
            await site.stop()
        connections = self._runner.server.connections if self._runner.server else []
        for transport in [connection.transport for connection in connections if connection.transport]:
            transport.abort()
        if self._handlers:
            await asyncio.wait(self._handlers)
        await self._runner.cleanup()

    def _watched(self, handle: Callable[[Call], Awaitable[web.StreamResponse]]) -> Handler:
        async def watch(request: web.Request) -> web.StreamResponse:
            handler = cast("asyncio.Task[object]", asyncio.current_task())
            self._handlers.add(handler)
            try:
                return await handle(Call(request, uuid.uuid4().hex))
            except ConnectionError:
                # The client has gone, and this task is about to be cancelled; the server would log an error.
                await until_cancelled()
            finally:
                self._handlers.discard(handler)

        return watch

    async def _enhance(self, call: Call) -> web.StreamResponse:
        self._ledger.open(_record(call))
        try:
            if call.request.method != "POST":
                return await self._service.refuse(call, _ONLY_POST)
            return await self._service.answer(call)
        except BaseException:
            self._ledger.close(call.id, status=None, delivered=False)
            raise

    async def _unknown(self, call: Call) -> web.StreamResponse:
        self._ledger.open(_record(call))
        return await self._service.refuse(call, _NOT_FOUND)


def _record(call: Call) -> RequestRecord:
    request = call.request
    return RequestRecord(
        method=request.method,
        path=request.path,
        request_id=call.id,
        started=time.monotonic(),
        key=request.headers.get("X-API-Key"),
        content_length=request.content_length,
        transfer_encoding=request.headers.get("Transfer-Encoding"),
        connection=request.headers.get("Connection"),
        cookies="Cookie" in request.headers,
        authorization="Authorization" in request.headers,
    )
