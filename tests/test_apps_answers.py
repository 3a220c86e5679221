"""What a web backend makes of each error, and what becomes of its albums when something is in their way."""

from __future__ import annotations

import asyncio
import io
import json
import sys
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from importlib import import_module
from pathlib import Path
from typing import TypeAlias

import pytest
from anyio import to_thread
from app_process import PHOTO
from apps.albums import Albums
from apps.answers import LATEST, answer_to, document
from apps.limits import MAX_ALBUMS, MAX_SECONDS, refusal, seconds

import phota_async
from phota_async import (
    APIError,
    InsufficientCreditsError,
    OverloadedError,
    PhotaClient,
    PhotaError,
    RateLimitedError,
    ServerError,
)
from phota_async.sandbox import Fault, Ledger, Sandbox

Album: TypeAlias = AbstractAsyncContextManager[AsyncIterator[bytes]]

UPSTREAM = "words-of-upstream"
STATUSES = {
    "ImageError": 415,
    **dict.fromkeys(["BadRequestError", "InvalidRequestError", "ContentModerationError", "UnprocessableError"], 422),
    **dict.fromkeys(["OverloadedError", "RateLimitedError", "ServiceUnavailableError"], 503),
    **dict.fromkeys(["AuthenticationError", "InsufficientCreditsError"], 503),
    "DeadlineExceededError": 504,
}
ERRORS = [name for name in phota_async.__all__ if name.endswith("Error")]


def an_error(name: str) -> PhotaError:
    kind = getattr(phota_async, name)
    status = 504 if name == "GatewayError" else 503 if issubclass(kind, ServerError) else 418
    error: PhotaError = kind(status, UPSTREAM, UPSTREAM, "request-1") if issubclass(kind, APIError) else kind(UPSTREAM)
    return error


@pytest.mark.parametrize("name", ERRORS)
def test_each_error_has_an_answer_that_tells_nothing_of_upstream(name: str) -> None:
    error = an_error(name)
    answer = answer_to(error)
    assert answer.status == STATUSES.get(name, 502)
    assert UPSTREAM in str(error)
    assert UPSTREAM not in json.dumps([answer.text, dict(answer.headers), document(error)])


@pytest.mark.parametrize("name", ERRORS)
def test_nobody_is_asked_to_come_back_for_what_may_have_been_charged(name: str) -> None:
    error = an_error(name)
    error.maybe_charged = True  # as when an earlier attempt was
    assert answer_to(error).headers == {}


@pytest.mark.parametrize(("asked", "told"), [(None, "30"), (7.2, "8"), (1e308, str(LATEST))])
def test_who_may_come_back_is_told_when(asked: float | None, told: str) -> None:
    assert answer_to(RateLimitedError(429, retry_after=asked)).headers == {"Retry-After": told}
    assert answer_to(InsufficientCreditsError(402, retry_after=asked)).headers == {}


def test_a_deadline_is_bounded() -> None:
    assert (seconds(None), seconds("0.5"), seconds(f"{MAX_SECONDS}")) == (MAX_SECONDS, 0.5, MAX_SECONDS)
    for wrong in ("0", "-1", "nan", "soon", "", "inf", f"{MAX_SECONDS + 1}"):
        with pytest.raises(ValueError, match=r"timeout|float"):
            seconds(wrong)


def test_a_body_is_bounded() -> None:
    assert [refusal({"Content-Length": length}, 10) for length in ("10", "11")] == [None, 413]
    assert [refusal({"Content-Encoding": coding}, 10) for coding in ("identity", "gzip")] == [None, 415]
    assert refusal({}, 10) is None  # it is counted as it comes


def test_the_page_of_fastapi_knows_what_is_sent_and_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PHOTA_API_KEY", "key")
    paths = import_module("apps.fastapi_app").app.openapi()["paths"]
    del sys.modules["apps.fastapi_app"]  # it has read this test's environment
    for path, body, answer in (
        ("/enhance", "application/octet-stream", "image/png"),
        ("/album", "multipart/form-data", "text/event-stream"),
    ):
        route = paths[path]["post"]
        assert '"format": "binary"' in json.dumps(route["requestBody"]["content"][body])
        assert list(route["responses"]["200"]["content"]) == [answer]


# ---- albums


def one_in_flight(ledger: Ledger) -> bool:
    return ledger.in_flight == 1


def photos(count: int) -> list[io.BytesIO]:
    return [io.BytesIO(PHOTO) for _ in range(count)]


def images_in(folder: Path) -> list[Path]:
    return list(folder.rglob("*.png"))


async def all_of(events: Album) -> list[bytes]:
    async with events as news:
        return [one async for one in news]


def names(told: list[bytes]) -> list[str]:
    return [one.partition(b"\n")[0].removeprefix(b"event: ").decode() for one in told if one != b":\n\n"]


async def test_no_more_albums_than_that_are_under_way_and_those_that_end_give_their_places_back(
    phota_sandbox: Sandbox, tmp_path: Path
) -> None:
    phota_sandbox.script(Fault(stall=0.5))
    albums = Albums(PhotaClient("key", base_url=phota_sandbox.url, max_concurrency=1), tmp_path)
    async with albums, AsyncExitStack() as stack:
        # All at once, as posts may come, and none of them has read an event.
        begun = [stack.enter_async_context(albums.begin(photos(1))) for _ in range(MAX_ALBUMS)]
        refused = photos(1)
        *_, last = await asyncio.gather(*begun, all_of(albums.begin(refused)), return_exceptions=True)
        assert isinstance(last, OverloadedError)
        assert [photo.closed for photo in refused] == [True]
        assert await to_thread.run_sync(phota_sandbox.ledger.wait, one_in_flight)
    # All have left: the one in flight landed, and nothing else began.
    assert len(phota_sandbox.ledger.requests) == phota_sandbox.ledger.charged_images == len(images_in(tmp_path)) == 1
    async with albums:
        assert names(await all_of(albums.begin(photos(1)))) == ["album", "photo", "done"]


async def test_who_stops_begins_no_album_and_cancels_what_is_late(
    phota_sandbox: Sandbox, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    phota_sandbox.script(Fault(stall=1000, charged=True))
    async with AsyncExitStack() as stack:
        phota = PhotaClient("key", base_url=phota_sandbox.url, max_concurrency=1)
        albums = await stack.enter_async_context(Albums(phota, tmp_path, grace=0.2))
        async with albums.begin(photos(2)) as events:
            assert await to_thread.run_sync(phota_sandbox.ledger.wait, one_in_flight)
            albums.stop()
            refused = photos(1)
            with pytest.raises(OverloadedError):
                await all_of(albums.begin(refused))
            assert [photo.closed for photo in refused] == [True]
            await stack.aclose()
            told = [one async for one in events]
    assert names(told)[-1] == "done"
    assert caplog.text.count("cancelled while its request was in flight; it may have been charged") == 1
    assert len(phota_sandbox.ledger.requests) == 1


async def test_a_photo_of_an_album_has_a_deadline(phota_sandbox: Sandbox, tmp_path: Path) -> None:
    phota_sandbox.script(Fault(stall=1000))
    phota = PhotaClient("key", base_url=phota_sandbox.url, max_concurrency=1)
    async with Albums(phota, tmp_path, seconds=0.5) as albums:
        told = await all_of(albums.begin(photos(1)))
    assert b"It took too long." in told[1]


async def test_what_nobody_thought_of_takes_one_photo_down_and_is_logged(
    phota_sandbox: Sandbox, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    phota = PhotaClient("key", base_url=phota_sandbox.url, max_concurrency=1)
    async with Albums(phota, tmp_path / "a\0b") as albums:  # no name of a folder
        told = await all_of(albums.begin(photos(2)))
    assert names(told) == ["album", "photo", "photo", "done"]
    assert b'{"enhanced": 0, "failed": 2}' in told[-1]
    for number, request in enumerate(phota_sandbox.ledger.requests):
        assert f"{number} is paid for and cannot be kept (request {request.request_id})" in caplog.text
    assert len([record for record in caplog.records if record.exc_info]) == 2


async def test_while_there_is_no_news_a_comment_keeps_the_stream_alive(phota_sandbox: Sandbox, tmp_path: Path) -> None:
    phota_sandbox.script(Fault(stall=0.5))
    async with Albums(PhotaClient("key", base_url=phota_sandbox.url), tmp_path, quiet=0.05) as albums:
        told = await all_of(albums.begin(photos(1)))
    assert told[1] == told[2] == b":\n\n"
    assert names(told) == ["album", "photo", "done"]


async def test_an_image_that_cannot_be_kept_takes_only_its_own_album_down(
    phota_sandbox: Sandbox, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "kept"
    folder.write_bytes(b"no folder")
    async with Albums(PhotaClient("key", base_url=phota_sandbox.url, max_concurrency=1), folder) as albums:
        first = await all_of(albums.begin(photos(3)))
        await to_thread.run_sync(folder.unlink)
        second = await all_of(albums.begin(photos(1)))
    assert names(first) == ["album", *["photo"] * 3, "done"]
    assert b'{"enhanced": 0, "failed": 3}' in first[-1]
    assert b'{"enhanced": 1, "failed": 0}' in second[-1]
    assert f"0 is paid for and cannot be kept (request {phota_sandbox.ledger.requests[0].request_id})" in caplog.text
    assert "FileExistsError" in caplog.text or "NotADirectoryError" in caplog.text
    # One was paid for and lost, the next one may have begun by then, the third never did.
    assert 2 <= phota_sandbox.ledger.charged_images <= 3
