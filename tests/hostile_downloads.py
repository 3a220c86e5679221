"""One hostile download: what the server does, how fetching its link must end, and what must hold whatever happened.

As in `hostile`, but for GETs: nothing is ever charged, nothing of the account goes along, and a file appears whole
under its name or stays what it was.
"""

from __future__ import annotations

import asyncio
import logging
import re
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from attrs import field, frozen
from hostile import images_of, key_is_where_it_belongs, nothing_left
from raw_server import GOOD, KEY, PHOTO, RawServer, Request, Script, Wire, answer, answering, chain, client
from raw_server import IMAGE as BOUGHT

from phota_async import DownloadError, PhotaClient, PhotaError, RetryPolicy

IMAGE = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 60
OTHER = b"\x89PNG\r\n\x1a\n" + bytes(reversed(range(256))) * 60
SIGNATURE = "sig-5f0c"
TAG = {"ETag": '"one"'}

_OLD = b"what stood there before"
_THRICE = RetryPolicy(initial_wait=0, max_attempts=3)
_CREDENTIALS = {"X-Api-Key", "Cookie", "Authorization", "Proxy-Authorization"}
_FOREIGN_MODULES = ("aiohttp", "asyncio", "socket", "ssl", "yarl")

Link: TypeAlias = Callable[[RawServer], str]


def link(server: RawServer) -> str:
    """Return the signed link that a case fetches unless it says otherwise."""
    return f"{server.url}/files/a.png?signature={SIGNATURE}"


@frozen(kw_only=True)
class Case:
    """What a case states.

    Attributes:
        serve: One script for each connection; the last serves all that follow.
        ends: The class of the error, exactly, or the bytes of the image.
        requests: How many requests came whole.
        ranges: The ``Range`` of each request after the first, where the case says anything about it.
        validators: One of them is the ``If-Range`` that goes with each ``Range``.
        within: Seconds it may take at most; generous, because a machine may be busy.
        options: Settings of the client.
        status: The status that the error carries.
        transient: Whether the error is said to be worth another try.
        says: Words of the error's line.
    """

    serve: Script | Sequence[Script]
    ends: type[PhotaError] | bytes = DownloadError
    requests: int = 1
    ranges: tuple[str | None, ...] | None = None
    validators: tuple[str, ...] = (TAG["ETag"],)
    within: float = 10.0
    options: dict[str, Any] = field(factory=dict[str, Any])
    status: int | None = None
    transient: bool = False
    says: str = ""

    @property
    def scripts(self) -> tuple[Script, ...]:
        return (self.serve,) if callable(self.serve) else tuple(self.serve)


def good(*serve: Script, **stated: Any) -> Case:
    """Return a case that ends in the image."""
    stated = {"requests": len(serve), **stated}
    return Case(serve=serve, ends=IMAGE, **stated)


def lasting(*serve: Script, **stated: Any) -> Case:
    """Return a case in which no try helps, and so each of the three is made."""
    stated = {"requests": 3, "transient": True, **stated}
    return Case(serve=serve, **stated)


async def run(
    case: Case, caplog: pytest.LogCaptureFixture, target: Path | None, *, url: Link = link
) -> PhotaError | None:
    """Fetch a link into memory, or to ``target``; check all that the case states and all that always holds."""
    caplog.set_level(logging.DEBUG)
    stand = _Stand(target)
    options: dict[str, Any] = {"max_concurrency": 1, "retry": _THRICE, **case.options}
    async with (
        nothing_left(caplog, *stand.folders),
        RawServer(*map(stand.watched, case.scripts)) as server,
        client(server, **options) as phota,
    ):
        came, failure = await _outcome(case, phota, url(server), target)
        _check_requests(server, case)
        if failure is None:
            assert came == case.ends
            stand.check(came)
        else:
            _check(failure, case, url(server))
            stand.check(_OLD)
        await _slot_is_free(phota, server)
    assert SIGNATURE not in caplog.text
    return failure


async def _outcome(
    case: Case, phota: PhotaClient, url: str, target: Path | None
) -> tuple[bytes | None, PhotaError | None]:
    try:
        async with asyncio.timeout(case.within):
            if target is None:
                return (await phota.download(url)).data, None
            assert await phota.download(url, to=target) == target
    except PhotaError as error:
        return None, error
    return await asyncio.to_thread(target.read_bytes), None


def _check_requests(server: RawServer, case: Case) -> None:
    assert len(server.requests) == case.requests
    assert all(request.method == "GET" and free_of_credentials(request) for request in server.begun)
    if case.ranges is not None:
        assert tuple(request.headers.get("Range") for request in server.begun[1:]) == case.ranges
    for request in server.begun:
        assert request.headers.get("If-Range") in (case.validators if "Range" in request.headers else {None})
    key_is_where_it_belongs(server)


def free_of_credentials(request: Request) -> bool:
    sent = " ".join([request.target, *request.headers, *request.headers.values()])
    return KEY not in sent and not _CREDENTIALS & set(request.headers)


def _check(failure: PhotaError, case: Case, url: str) -> None:
    assert type(failure) is case.ends, failure
    assert not failure.maybe_charged
    line = str(failure)
    assert case.says in line
    assert line.isprintable()
    if isinstance(failure, DownloadError):
        assert (failure.status, failure.transient) == (case.status, case.transient), failure
        assert failure.url == re.sub("//[^/]*@", "//", re.split("[?#]", url)[0])
    for one in chain(failure):
        assert not type(one).__module__.startswith(_FOREIGN_MODULES), one
        shown = "".join([*traceback.format_exception(one), repr(vars(one)), repr(one)])
        assert KEY not in shown
        assert SIGNATURE not in shown


async def _slot_is_free(phota: PhotaClient, server: RawServer) -> None:
    """A good call gets through the one slot."""
    server.then(answering(GOOD))
    assert images_of(await phota.enhance(PHOTO, timeout=20)) == (BOUGHT,)


@frozen
class _Stand:
    """The place where a file is to appear, if it is to, with another one in it."""

    target: Path | None

    def __attrs_post_init__(self) -> None:
        if self.target is not None:
            self.target.write_bytes(_OLD)

    @property
    def folders(self) -> tuple[Path, ...]:
        return () if self.target is None else (self.target.parent,)

    def holds(self) -> bytes | None:
        return None if self.target is None else self.target.read_bytes()

    def watched(self, script: Script) -> Script:
        """Look at the place before each answer: nothing half may stand there."""

        async def looking(wire: Wire) -> None:
            assert self.holds() in {None, _OLD}
            await script(wire)

        return looking

    def check(self, expected: bytes | None) -> None:
        if self.target is not None:
            assert self.holds() == expected
            assert [path.name for path in self.target.parent.iterdir()] == [self.target.name]


# ---- what servers do


def png(body: bytes = IMAGE, status: int = 200, headers: Mapping[str, str] | None = None) -> bytes:
    return answer(body, status, headers, kind="image/png")


def raw(head: str, body: bytes = b"") -> Script:
    """A script that answers with these lines, to the byte, and this body."""
    return answering(head.replace("\n", "\r\n").encode("latin-1") + b"\r\n\r\n" + body)


def cut(
    at: int, headers: Mapping[str, str] | None = None, *, body: bytes = IMAGE, reset: bool = False, kind: str = ""
) -> Script:
    """Promise the whole body and break off after so many bytes."""

    async def script(wire: Wire) -> None:
        await wire.request()
        await wire.send(answer(body[:at], 200, headers, length=len(body), kind=kind or "image/png"))
        if reset:
            wire.reset()

    return script


def part(
    begin: int, headers: Mapping[str, str] | None = None, *, says: str = "", body: bytes = IMAGE, end: int | None = None
) -> Script:
    """Send the rest, or what lies before ``end``; ``says`` in place of the true Content-Range."""
    end = len(body) if end is None else end
    fields = {"Content-Range": says or f"bytes {begin}-{end - 1}/{len(body)}", **(TAG if headers is None else headers)}
    return answering(png(body[begin:end], 206, fields))


def serving(body: bytes = IMAGE, headers: Mapping[str, str] | None = None) -> Script:
    """Keep the contract: the whole, or the rest where that is asked for."""

    async def script(wire: Wire) -> None:
        request = await wire.request()
        begin = int(request.headers.get("Range", "bytes=0-")[len("bytes=") : -1])
        fields = {
            "Content-Range": f"bytes {begin}-{len(body) - 1}/{len(body)}",
            **(TAG if headers is None else headers),
        }
        await wire.send(png(body[begin:], 206, fields) if begin else png(body))

    return script


def redirect(location: bytes | str, status: int = 302) -> Script:
    """A script that leads elsewhere, in these very bytes."""
    place = location if isinstance(location, bytes) else location.encode()
    return answering(b"HTTP/1.1 %d Odd\r\nContent-Length: 0\r\nLocation: %s\r\n\r\n" % (status, place))


async def unwanted(wire: Wire) -> None:
    """Nobody may come here."""
    raise AssertionError(await wire.headers())
