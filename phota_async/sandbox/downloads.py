"""The links' endpoint: signed, expiring, by range."""

import asyncio
import math
from pathlib import Path

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.web_request import BaseRequest
from attrs import evolve

from . import answers
from .answers import Answer, Refusal
from .delivery import Call, break_off, deliver, until_cancelled
from .faults import NO_FAULT, Script
from .ledger import DownloadRecord, Ledger
from .links import Links

_CREDENTIALS = ("X-API-Key", "Authorization", "Cookie", "Proxy-Authorization")
_TO_OPEN = 0.5  # seconds that opening a file takes at most
_EXPIRED = Refusal(403, "The link has expired or its signature is wrong")


class _File(web.FileResponse):
    """A file and the call that it answers."""

    def __init__(self, file: Path, call: Call) -> None:
        super().__init__(file, headers=call.headers)
        self.call = call

    async def prepare(self, request: BaseRequest) -> AbstractStreamWriter | None:
        """Send it. aiohttp would leave the file open if its caller went away while a thread opens it."""
        sending = asyncio.ensure_future(super().prepare(request))
        try:
            return await asyncio.shield(sending)
        except asyncio.CancelledError:
            await asyncio.wait([sending], timeout=_TO_OPEN)
            sending.cancel()
            await asyncio.wait([sending])
            raise


class Downloads:
    """Answers requests for links."""

    def __init__(self, ledger: Ledger, script: Script, links: Links) -> None:
        self._ledger = ledger
        self._script = script
        self._links = links

    async def answer(self, call: Call) -> web.StreamResponse:
        """Serve the file behind a link, or a fault."""
        call = evolve(call, fault=self._script.take()[1] or NO_FAULT)
        self._ledger.download(_record(call))
        await _strike(call)
        if call.fault.replaces_answer:
            return await self._send(call, answers.faulty(call.fault, call.id))
        query = call.request.query
        file = self._links.find(
            call.request.match_info["name"],
            expires=query.get("expires", ""),
            signature=query.get("signature", ""),
        )
        if file is None:
            return await self._send(call, answers.refusal(_EXPIRED, call.id))
        if call.fault.disturbs_sending:
            return await self._send(call, await asyncio.to_thread(_part, call.request, file))
        # aiohttp's own knows ranges, conditions and sendfile.
        return _File(file, call)

    async def begin(self, _: web.Request, response: web.StreamResponse) -> None:
        """Note the status that aiohttp chose for a file; called before anything of it is sent."""
        if isinstance(response, _File):
            self._ledger.download(evolve(_record(response.call), status=response.status))

    async def _send(self, call: Call, answer: Answer) -> web.StreamResponse:
        self._ledger.download(evolve(_record(call), status=answer.status))
        return await deliver(call, answer, lambda: None)


async def _strike(call: Call) -> None:
    if call.fault.stall is not None:
        await (until_cancelled() if call.fault.stall == math.inf else asyncio.sleep(call.fault.stall))
    if call.fault.reset in ("before", "during", "after"):
        await break_off(call.request)


def _record(call: Call) -> DownloadRecord:
    return DownloadRecord(
        path=call.request.path,
        request_id=call.id,
        range=call.request.headers.get("Range"),
        carried_credentials=tuple(name for name in _CREDENTIALS if name in call.request.headers),
    )


def _part(request: web.Request, file: Path) -> Answer:
    stat = file.stat()
    headers = {
        "Accept-Ranges": "bytes",
        # The tag that web.FileResponse gives the same file, so that a client may resume there.
        "ETag": f'"{stat.st_mtime_ns:x}-{stat.st_size:x}"',
        "Content-Type": "image/png" if file.suffix == ".png" else "image/jpeg",
    }
    if "Range" not in request.headers:
        return Answer(status=200, body=file, size=stat.st_size, headers=headers)
    try:
        part = range(stat.st_size)[request.http_range]
    except ValueError:
        part = range(0)
    if not part:
        headers["Content-Range"] = f"bytes */{stat.st_size}"
        return Answer(status=416, body=b"", size=0, headers=headers)
    headers["Content-Range"] = f"bytes {part.start}-{part.stop - 1}/{stat.st_size}"
    return Answer(status=206, body=file, size=len(part), offset=part.start, headers=headers)
