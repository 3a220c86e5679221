"""A signed link's query is its secret: no log, error or value shows it; who holds the link still has it whole."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from canary import SIGNATURE, shown
from raw_server import GOOD, PHOTO, RawServer, Script, answer, answering, client
from yarl import URL

from phota_async import APIError, DownloadError, ImageError, PhotaClient, RetryPolicy
from phota_async.errors import without_query

ONCE = RetryPolicy(max_attempts=1)
SIGNED = f"https://user:word@photos.example/a.jpg?signature={SIGNATURE}#{SIGNATURE}"


@pytest.fixture(autouse=True)
def everything_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, logger="phota_async")


@asynccontextmanager
async def failing(*scripts: Script) -> AsyncGenerator[tuple[PhotaClient, str]]:
    async with RawServer(*scripts) as server, client(server) as phota:
        yield phota, f"{server.url}/files/a.png?signature={SIGNATURE}"


@pytest.mark.parametrize("photo", [SIGNED, URL(SIGNED), f"https:///?s={SIGNATURE}", f"http://[::1?s={SIGNATURE}"])
async def test_a_signed_photo_shows_its_query_to_nobody(photo: str | URL, caplog: pytest.LogCaptureFixture) -> None:
    async with failing(answering(answer(b"{}", 500))) as (phota, _):
        with pytest.raises((APIError, ImageError)) as caught:
            await phota.enhance(photo)
        batch = await phota.enhance_many([photo])
    assert SIGNATURE not in shown(caught.value)
    assert SIGNATURE not in str(batch[0].error)
    assert SIGNATURE not in caplog.text


@pytest.mark.parametrize("photo", [SIGNED, URL(SIGNED)])
async def test_the_repr_of_an_outcome_shows_no_signed_query(photo: str | URL) -> None:
    async with failing(answering(answer(b"{}", 400))) as (phota, _):
        batch = await phota.enhance_many([photo])
    assert batch[0].source == photo
    assert SIGNATURE not in repr(batch)


@pytest.mark.parametrize("status", [302, 403, 404, 500])
async def test_a_failed_link_shows_its_query_to_nobody(status: int, caplog: pytest.LogCaptureFixture) -> None:
    there = {"Location": f"ftp://127.0.0.1/?signature={SIGNATURE}"}
    async with failing(answering(answer(b"", status, there))) as (phota, link):
        with pytest.raises(DownloadError) as caught:
            await phota.download(link)
    assert caught.value.url.endswith("/files/a.png")
    assert "/files/a.png" in str(caught.value)
    assert SIGNATURE not in shown(caught.value)
    assert SIGNATURE not in caplog.text


@pytest.mark.parametrize("answered", [b"", b"nonsense\r\n\r\n", GOOD[:-20], answer(b"x", length=5, kind="image/png")])
async def test_a_broken_link_shows_its_query_to_nobody(answered: bytes, caplog: pytest.LogCaptureFixture) -> None:
    async with failing(answering(answered)) as (phota, link):
        with pytest.raises(DownloadError) as caught:
            await phota.download(link)
    assert SIGNATURE not in shown(caught.value)
    assert SIGNATURE not in caplog.text


async def test_links_in_an_answer_are_shown_to_nobody(caplog: pytest.LogCaptureFixture) -> None:
    links = [f"https://cdn.example/a.png?signature={SIGNATURE}"]
    body = json.dumps({"images": [], "download_urls": links, "known_subjects": None}).encode()
    async with failing(answering(answer(body))) as (phota, _):
        result = await phota.enhance(PHOTO, response_mode="urls")
        batch = await phota.enhance_many([PHOTO], response_mode="urls")
    assert result.download_urls == tuple(links)
    assert SIGNATURE not in repr(result)
    assert SIGNATURE not in repr(batch)
    assert SIGNATURE not in caplog.text


@pytest.mark.parametrize(
    "link",
    [
        f"https://user:{SIGNATURE}@127.0.0.1/a.png?signature={SIGNATURE}#{SIGNATURE}",
        f"HTTPS://{SIGNATURE}@photos.invalid/a.png#{SIGNATURE}",
        f"https://photos.invalid/a.png?signature={SIGNATURE}",
        f"http://photos.invalid/a.png?signature={SIGNATURE}",
        f"//user:{SIGNATURE}@photos.invalid/a.png",
        f"https://[::1/a.png?signature={SIGNATURE}",
        f"file:///a.png?signature={SIGNATURE}",
    ],
)
async def test_a_link_that_is_not_followed_shows_no_secret(link: str, caplog: pytest.LogCaptureFixture) -> None:
    async with PhotaClient("key", base_url="https://api.invalid", retry=ONCE) as phota:
        with pytest.raises(DownloadError) as caught:
            await phota.download(link)
    assert caught.value.url == without_query(link)
    assert SIGNATURE not in shown(caught.value) + caplog.text


async def test_a_redirects_target_is_shown_to_nobody(caplog: pytest.LogCaptureFixture) -> None:
    there = f"http://user:{SIGNATURE}@10.0.0.1/{SIGNATURE}?signature={SIGNATURE}"
    async with failing(answering(answer(b"", 302, {"Location": there}))) as (phota, link):
        with pytest.raises(DownloadError, match="only https links") as caught:
            await phota.download(link)
    assert SIGNATURE not in shown(caught.value) + caplog.text


async def test_a_download_that_succeeds_at_last_logs_no_query(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    image = answer(b"\x89PNG\r\n\x1a\n" + bytes(100), kind="image/png")
    async with failing(answering(answer(b"", 503)), answering(image)) as (phota, link):
        path = await phota.download(link, to=tmp_path)
    assert "the server answered 503: http" in caplog.text
    assert SIGNATURE not in f"{caplog.text}{path}"


async def test_photos_and_images_are_not_in_a_repr() -> None:
    async with failing(answering(GOOD)) as (phota, _):
        batch = await phota.enhance_many([PHOTO])
    assert len(repr(batch)) < 1000
