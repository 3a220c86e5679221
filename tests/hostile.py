"""One hostile case: what the server does, how the call must end, and what must hold whatever happened.

A case states the class of the error or the exact bytes, how many requests may be made, how many of them the service
may have charged, and how long it may take at most. What no case has to state is checked after each: the slot is free
again, no socket, task, thread or temporary file is left, nothing warned, and the key was seen nowhere but in the one
header of the POST.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import pickle
import threading
import traceback
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from os import listdir, readlink  # as they are before each call of them is looked at for blocking a loop
from pathlib import Path
from typing import Any, TypeAlias

import aiohttp
import pytest
from attrs import field, frozen
from raw_server import GOOD, IMAGE, KEY, PHOTO, RawServer, Script, answering, chain, client, tls_contexts

from phota_async import EnhancedImage, EnhanceResult, PhotaClient, PhotaError

Ending: TypeAlias = "type[PhotaError] | bytes | tuple[bytes, ...]"
Act: TypeAlias = Callable[[PhotaClient, RawServer], Awaitable[object]]

_TURNS = 200
_PATIENT = 20.0  # seconds
_POOLS = ("AnyIO worker thread", "asyncio_")  # idle threads that are kept for the next one who needs them
_FOREIGN_MODULES = ("aiohttp", "asyncio", "json", "binascii", "zlib", "sqlite3", "cattrs", "ssl")


@frozen(kw_only=True)
class Case:
    """What a case states.

    Attributes:
        serve: One script for each connection; the last serves all that follow.
        ends: The class of the error, exactly, or the bytes of the images.
        requests: How many requests came whole.
        charges: How many of them the service may have charged: those that it neither refused nor left half read.
        feared: Whether the error says that there may be a charge, where it has to say more than the truth: the client
            cannot know how much was read of what it handed over whole.
        within: Seconds it may take at most; generous, because a machine may be busy.
        options: Settings of the client.
        rescued: The images that ride on the error.
        says: Words of the error's line.
        photo: What is sent.
        receive_buffer: Of the server's sockets, in bytes; a small one makes the client feel what is not read.
        tls: Whether the way there is encrypted.
    """

    serve: Script | Sequence[Script]
    ends: Ending
    requests: int = 1
    charges: int = 1
    feared: bool = False
    within: float = 10.0
    options: dict[str, Any] = field(factory=dict[str, Any])
    rescued: tuple[bytes, ...] = ()
    says: str = ""
    photo: bytes = PHOTO
    receive_buffer: int | None = None
    tls: bool = False

    @property
    def scripts(self) -> tuple[Script, ...]:
        return (self.serve,) if callable(self.serve) else tuple(self.serve)


async def run(case: Case, caplog: pytest.LogCaptureFixture, *, act: Act | None = None) -> PhotaError | None:
    """Let a client of one slot meet the case, check all that it states and all that always holds.

    What is done is one `enhance`, if `act` is nothing else. The error is returned, or raised at the end where images
    were expected.
    """
    caplog.set_level(logging.DEBUG)
    tls, trust = tls_contexts() if case.tls else (None, None)
    async with (
        nothing_left(caplog),
        RawServer(*case.scripts, receive_buffer=case.receive_buffer, tls=tls) as server,
        AsyncExitStack() as stack,
    ):
        options: dict[str, Any] = {"max_concurrency": 1, **case.options}
        if trust is not None:
            connector = aiohttp.TCPConnector(ssl=trust)
            options["session"] = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))
        phota = await stack.enter_async_context(client(server, **options))
        came, failure = await _outcome(case, act, phota, server)
        assert (len(server.requests), server.charges) == (case.requests, case.charges)
        key_is_where_it_belongs(server)
        if failure is not None:
            _check(failure, case)
            assert act or failure.attempts == server.connections
        elif not isinstance(case.ends, type):
            assert came == ((case.ends,) if isinstance(case.ends, bytes) else case.ends)
        else:
            pytest.fail(f"{len(came)} images came in place of {case.ends.__name__}")
        await _slot_is_free(phota, server)
    if failure is not None and not isinstance(case.ends, type):
        raise failure
    return failure


async def _outcome(
    case: Case, act: Act | None, phota: PhotaClient, server: RawServer
) -> tuple[tuple[bytes, ...], PhotaError | None]:
    try:
        async with asyncio.timeout(case.within):
            result = await (act(phota, server) if act else phota.enhance(case.photo))
    except PhotaError as error:
        return (), error
    return images_of(result), None


def images_of(result: object) -> tuple[bytes, ...]:
    if isinstance(result, EnhanceResult):
        return tuple(image.data for image in result.images)
    assert isinstance(result, EnhancedImage)
    return (result.data,)


def _check(failure: PhotaError, case: Case) -> None:
    if isinstance(case.ends, type):
        assert type(failure) is case.ends, failure
    assert failure.maybe_charged == (case.charges > 0 or case.feared)
    assert tuple(image.data for image in getattr(failure, "images", ())) == case.rescued
    line = str(failure)
    assert case.says in line
    assert line.isprintable()
    assert len(line) < 1000
    copy = pickle.loads(pickle.dumps(failure))  # noqa: S301  (made in the line itself)
    assert (type(copy), str(copy), vars(copy)) == (type(failure), line, vars(failure))
    for one in chain(failure):
        assert not type(one).__module__.startswith(_FOREIGN_MODULES), one
        assert KEY not in "".join([*traceback.format_exception(one), repr(vars(one)), repr(one)])


def key_is_where_it_belongs(server: RawServer) -> None:
    for request in server.begun:
        posted = request.method == "POST"
        assert request.headers.get("X-Api-Key") == (KEY if posted else None)
        assert request.head.count(KEY.encode()) == posted
        assert KEY.encode() not in request.body


async def _slot_is_free(phota: PhotaClient, server: RawServer) -> None:
    """A good call gets through the one slot."""
    server.then(answering(GOOD))
    assert images_of(await phota.enhance(PHOTO, timeout=_PATIENT)) == (IMAGE,)


@frozen
class _Census:
    """What a test may leave behind."""

    descriptors: frozenset[tuple[str, str]]
    tasks: frozenset[asyncio.Task[Any]]
    threads: frozenset[threading.Thread]
    halves: frozenset[Path]

    @classmethod
    def now(cls, folders: Sequence[Path]) -> _Census:
        return cls(
            frozenset(_descriptors()),
            frozenset(asyncio.all_tasks()),
            frozenset(thread for thread in threading.enumerate() if not thread.name.startswith(_POOLS)),
            frozenset(path for folder in folders for path in folder.rglob("*.partial*")),
        )

    def surplus(self, later: _Census) -> list[object]:
        return [
            *(later.descriptors - self.descriptors),
            *(later.tasks - self.tasks),
            *(later.threads - self.threads),
            *(later.halves - self.halves),
        ]


def _descriptors() -> Iterator[tuple[str, str]]:
    for name in listdir("/proc/self/fd"):  # noqa: PTH208  (as above)
        with suppress(FileNotFoundError):  # the one that listdir itself had open
            yield name, readlink(f"/proc/self/fd/{name}")  # noqa: PTH115


@asynccontextmanager
async def nothing_left(caplog: pytest.LogCaptureFixture, *folders: Path) -> AsyncGenerator[None]:
    """Check that the block leaves no socket, task, thread or half file, warns of nothing, and shows no key in a log."""
    before = _Census.now(folders)
    yield
    for _ in range(_TURNS):  # connections close over a few turns of the loop
        if not before.surplus(_Census.now(folders)):
            break
        await asyncio.sleep(0)
    gc.collect(1)  # what nobody closed warns here, and a warning is an error
    await asyncio.sleep(0)
    assert before.surplus(_Census.now(folders)) == []
    assert KEY not in caplog.text
    complaints = [record for record in caplog.records if record.name == "asyncio" and record.levelno > logging.INFO]
    assert [record.getMessage() for record in complaints] == []
