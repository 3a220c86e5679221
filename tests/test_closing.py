"""What is under way when a client closes ends at once, as an error of the library; aiohttp alone does neither."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from types import SimpleNamespace

import aiohttp
import pytest
from raw_server import IMAGE, KEY, PHOTO, RawServer, Wire, answer, client

from phota_async import DownloadError, OutcomeUnknownError, PhotaClient, RetryDetails, RetryPolicy

AT_ONCE = 10.0  # seconds, on a machine that is busy; what is not ended at once takes minutes


async def no_image_yet(wire: Wire) -> None:
    await wire.headers()
    await wire.send(answer(kind="image/png", length=len(IMAGE)))
    await wire.stall()


async def half_an_answer(wire: Wire) -> None:
    await wire.request()
    await wire.send(answer(b'{"images":["iVBO', length=5000))
    await wire.stall()


def on_answer(act: Callable[[], Awaitable[object]]) -> aiohttp.TraceConfig:
    """Act when the headers of an answer have come, before anything of its body is read."""

    async def on_end(_: aiohttp.ClientSession, __: SimpleNamespace, ___: aiohttp.TraceRequestEndParams) -> None:
        await act()

    trace = aiohttp.TraceConfig()
    trace.on_request_end.append(on_end)
    return trace


@pytest.mark.parametrize("turns", [0, 20], ids=["before it reads", "while it reads"])
async def test_closing_ends_a_download_that_stands_still(turns: int) -> None:
    begun, closed = asyncio.Event(), asyncio.Event()

    async def act() -> None:
        begun.set()
        if not turns:
            await closed.wait()

    async with RawServer(no_image_yet) as server, client(server, trace_configs=[on_answer(act)]) as phota:
        download = asyncio.create_task(phota.download(f"{server.url}/image.png"))
        await begun.wait()
        for _ in range(turns):
            await asyncio.sleep(0)
        await phota.aclose()
        closed.set()
        with pytest.raises(DownloadError, match="the client was closed"):
            await asyncio.wait_for(download, AT_ONCE)


async def test_a_close_that_is_itself_cancelled_ends_the_calls_in_flight() -> None:
    async with RawServer(half_an_answer) as server:
        phota = PhotaClient(KEY, base_url=server.url)
        call = asyncio.create_task(phota.enhance(PHOTO))
        await server.stalled()
        closing = asyncio.create_task(phota.aclose())
        await asyncio.sleep(0)
        closing.cancel()
        with suppress(asyncio.CancelledError):
            await closing
        with pytest.raises(OutcomeUnknownError, match="the client was closed") as caught:
            await asyncio.wait_for(call, AT_ONCE)
        assert caught.value.maybe_charged


async def test_a_call_that_is_cancelled_in_its_pause_says_what_may_have_been_charged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    paused = asyncio.Event()

    async def cut(wire: Wire) -> None:
        await wire.request()
        wire.reset()

    def on_retry(_: RetryDetails) -> None:
        paused.set()

    policy = RetryPolicy(initial_wait=60.0, max_wait=60.0, retry_unknown=True)
    async with RawServer(cut) as server, client(server, retry=policy, on_retry=on_retry) as phota:
        call = asyncio.create_task(phota.enhance(PHOTO))
        await paused.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
    assert "an earlier attempt of it may have been charged" in caplog.text
