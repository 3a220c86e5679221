"""Tracebacks that show local variables, as crash reporters make them, show no key: not in our frames, not in aiohttp's.

The caller's own frames are the caller's. Beside the key, local variables do hold what is worked on: photos, prompts,
signed links, a proxy's URL.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeAlias

import aiohttp
import pytest
from canary import KEY, logged, shown, with_locals
from raw_server import GOOD, PHOTO, RawServer, Script, Wire, answer, answering, chain, client, stalling_once

import phota_async
from phota_async import PhotaClient, PhotaError, RetryPolicy

Act: TypeAlias = Callable[[PhotaClient], Coroutine[Any, Any, object]]

AGAIN = RetryPolicy(initial_wait=0, max_attempts=2, statuses=frozenset({429, 500, 503}), retry_unknown=True)


def hidden(error: BaseException, through: str) -> bool:
    """Whether the key is in nothing that is shown, and the frames of ``through`` are looked at at all."""
    seen = with_locals(error)
    assert through in seen
    return KEY[:8] not in seen + shown(error)


# ---- our errors


async def enhance(phota: PhotaClient) -> object:
    return await phota.enhance(PHOTO)


async def too_late(phota: PhotaClient) -> object:
    return await phota.enhance(PHOTO, timeout=0.1)


async def too_many(phota: PhotaClient) -> object:
    return await asyncio.gather(*(phota.with_options(retry=AGAIN).enhance(PHOTO, timeout=0.3) for _ in range(3)))


async def no_photo(phota: PhotaClient) -> object:
    return await phota.enhance(b"no photo")


async def no_link(phota: PhotaClient) -> object:
    return await phota.download("http://10.0.0.1/a.png")


async def in_batch(phota: PhotaClient) -> object:
    (await phota.enhance_many([PHOTO])).raise_for_failures()
    return None


def refusing(status: int, code: str | None = None) -> Script:
    words = json.dumps({"detail": f"no: {KEY}", "code": code or KEY}).encode()
    return answering(answer(words, status, {"X-Request-Id": KEY, "WWW-Authenticate": KEY}))


ENDS: dict[str, tuple[Script, Act, Any]] = {
    "InvalidRequestError": (refusing(400, "INVALID_REQUEST"), enhance, {}),
    "ContentModerationError": (refusing(400, "CONTENT_MODERATION"), enhance, {}),
    "BadRequestError": (refusing(400), enhance, {}),
    "AuthenticationError": (refusing(401), enhance, {}),
    "InsufficientCreditsError": (refusing(402), enhance, {}),
    "ProfileNotFoundError": (refusing(404, "PROFILE_NOT_FOUND"), enhance, {}),
    "ProfileNotReadyError": (refusing(404, "PROFILE_NOT_READY"), enhance, {}),
    "NotFoundError": (refusing(404), enhance, {}),
    "UnprocessableError": (refusing(422), enhance, {}),
    "RateLimitedError": (refusing(429), enhance, {}),
    "InternalServerError": (refusing(500), enhance, {}),
    "GatewayError": (refusing(502), enhance, {}),
    "ServiceUnavailableError": (refusing(503), enhance, {}),
    "ServerError": (refusing(599), enhance, {}),
    "APIError": (refusing(302), enhance, {}),
    "ResponseFormatError": (answering(answer(KEY.encode(), 200, {"X-Request-Id": KEY})), enhance, {}),
    "OutcomeUnknownError": (answering(GOOD[:-9]), enhance, {}),
    "ConnectionFailedError": (stalling_once, enhance, {"base_url": "http://127.0.0.1:1"}),
    "DeadlineExceededError": (stalling_once, too_late, {}),
    "OverloadedError": (stalling_once, too_many, {"max_concurrency": 1, "max_queue": 1}),
    "ImageError": (stalling_once, no_photo, {}),
    "DownloadError": (stalling_once, no_link, {}),
    "ExceptionGroup": (refusing(401), in_batch, {}),
}


@pytest.mark.parametrize("name", ENDS)
async def test_no_error_of_the_tree_shows_the_key_with_its_locals(name: str) -> None:
    script, act, options = ENDS[name]
    settings: dict[str, Any] = {"retry": AGAIN, **options}
    async with RawServer(script) as server, client(server, **settings) as phota:
        with pytest.raises((PhotaError, ExceptionGroup)) as caught:
            await act(phota)
        server.abandon()
    assert type(caught.value).__name__ == name
    assert hidden(caught.value, "" if name == "ExceptionGroup" else "phota_async/client.py")
    for inner in getattr(caught.value, "exceptions", ()):
        assert hidden(inner, "phota_async/call.py")


def test_every_error_of_the_tree_is_among_them() -> None:
    errors = {name for name in phota_async.__all__ if name.endswith("Error")}
    # A journal's errors have no request behind them; the first stands for all others.
    assert errors - ENDS.keys() == {"JournalError", "PhotaError"}


# ---- what passes through


async def headers_only(wire: Wire) -> None:
    await wire.headers()
    await wire.stall()
    await wire.gone()  # once the client has got rid of what was on its way


async def half_an_answer(wire: Wire) -> None:
    await wire.request()
    await wire.send(GOOD[:-9])
    await wire.stall()


async def half_a_refusal(wire: Wire) -> None:
    await wire.request()
    await wire.send(answer(b"{", 401, length=9))
    await wire.stall()


PHASES = {
    "the body goes out": headers_only,
    "the answer is waited for": stalling_once,
    "the answer comes": half_an_answer,
    "the words of a refusal come": half_a_refusal,
}


async def cancelled(call: Awaitable[object], server: RawServer) -> None:
    task = asyncio.ensure_future(call)
    await server.stalled()
    task.cancel()
    await task


async def timed_out(call: Awaitable[object], server: RawServer) -> None:
    async with asyncio.timeout(None) as clock:
        task = asyncio.current_task()
        assert task is not None
        watch = asyncio.create_task(server.stalled())
        watch.add_done_callback(lambda _: clock.reschedule(0))
        await call


@pytest.mark.parametrize("end", [cancelled, timed_out])
@pytest.mark.parametrize("phase", PHASES)
async def test_the_callers_own_end_of_a_call_shows_no_key_with_its_locals(
    phase: str, end: Callable[[Awaitable[object], RawServer], Awaitable[None]]
) -> None:
    with logged() as log:
        async with RawServer(PHASES[phase], receive_buffer=4096) as server, client(server) as phota:
            with pytest.raises((asyncio.CancelledError, TimeoutError)) as caught:
                await end(phota.enhance(PHOTO + bytes(2**20)), server)
            server.released.set()
            await server.quiet()
    cut_off = next(one for one in chain(caught.value) if isinstance(one, asyncio.CancelledError))
    # Nothing is cut out of it: who debugs sees where it stood.
    through = "phota_async/transport/post.py" if phase == "the words of a refusal come" else "aiohttp/"
    assert hidden(cut_off, through)
    assert hidden(caught.value, "phota_async/client.py")
    assert KEY not in log.getvalue()


async def test_a_call_that_ends_while_it_connects_shows_no_key_with_its_locals() -> None:
    async def never(*_: object) -> None:
        connecting.set()
        await asyncio.Event().wait()

    connecting, trace = asyncio.Event(), aiohttp.TraceConfig()
    trace.on_connection_create_start.append(never)
    async with PhotaClient(KEY, base_url="http://127.0.0.1:1", trace_configs=[trace]) as phota:
        task = asyncio.create_task(phota.enhance(PHOTO))
        await connecting.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await task
    assert hidden(caught.value, "aiohttp/connector.py")


class Interruption(BaseException):
    """As `KeyboardInterrupt`, which a loop takes out of the task that it hits."""


@pytest.mark.parametrize("moment", ["on_request_start", "on_request_headers_sent", "on_request_end"])
async def test_what_nobody_catches_shows_no_key_with_its_locals(moment: str) -> None:
    async def interrupt(*_: object) -> None:
        raise Interruption

    trace = aiohttp.TraceConfig()
    getattr(trace, moment).append(interrupt)
    async with RawServer(answering(GOOD)) as server, client(server, trace_configs=[trace]) as phota:
        with pytest.raises(Interruption) as caught:
            await phota.enhance(PHOTO)
        server.abandon()
    assert hidden(caught.value, "aiohttp/")


async def test_a_trace_config_does_see_the_key_because_it_sees_the_request() -> None:
    seen: list[str] = []

    async def look(_: aiohttp.ClientSession, __: object, sent: aiohttp.TraceRequestHeadersSentParams) -> None:
        seen.append(sent.headers["X-API-Key"])

    trace = aiohttp.TraceConfig()
    trace.on_request_headers_sent.append(look)
    async with RawServer(answering(GOOD)) as server, client(server, trace_configs=[trace]) as phota:
        await phota.enhance(PHOTO)
    assert seen == [KEY]
    assert KEY not in repr(seen)  # but who prints it as it is taken out of the headers shows nothing
