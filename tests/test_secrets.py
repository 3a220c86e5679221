"""The key goes on the POST and nowhere else; a signed link's query is shown to nobody."""

from __future__ import annotations

import copy
import json
import logging
import pickle
import traceback
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import aiohttp
import pytest
from raw_server import (
    GOOD,
    KEY,
    PHOTO,
    RawServer,
    Script,
    answer,
    answering,
    chain,
    client,
    good_body,
    stalling_once,
)
from yarl import URL

from phota_async import (
    APIError,
    DeadlineExceededError,
    DownloadError,
    ImageError,
    PhotaClient,
    PhotaError,
    RetryPolicy,
    Timeout,
)

SIGNATURE = "sig-77ac01"
ONCE = RetryPolicy(max_attempts=1)


@pytest.fixture(autouse=True)
def everything_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, logger="phota_async")


def shown(error: BaseException) -> str:
    """Everything that a log, a crash report or a pickle could show of an error, except local variables."""
    parts: list[str] = []
    for one in chain(error):
        parts += [str(one), repr(one), repr(one.args), repr(vars(one)), *traceback.format_exception(one)]
    pickled = pickle.dumps(error)
    return "\n".join([*parts, pickled.decode("latin-1")])


# ---- the key


def test_the_key_is_in_no_repr() -> None:
    phota = PhotaClient(KEY)
    other = phota.with_options(timeout=Timeout(overall=5))
    for one in (phota, other, copy.copy(phota), *vars(phota).values(), *vars(other).values()):
        assert KEY not in repr(one)
        assert KEY not in str(one)


@pytest.mark.parametrize(
    "key", [f"{KEY}\n", f" {KEY}", f"{KEY}\x00", f"{KEY}é", f"{KEY}\x7f", f"{KEY} x", KEY.encode()]
)
def test_a_key_that_no_header_holds_is_refused_without_being_echoed(key: str) -> None:
    with pytest.raises(ValueError, match="api_key") as caught:
        PhotaClient(key)
    assert KEY not in shown(caught.value)
    with pytest.raises(ValueError, match="api_key") as caught:
        PhotaClient("good").with_options(api_key=key)
    assert KEY not in shown(caught.value)


def test_a_key_in_the_environment_is_refused_without_being_echoed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PHOTA_API_KEY", f"{KEY}\n")
    with pytest.raises(ValueError, match="api_key") as caught:
        PhotaClient()
    assert KEY not in shown(caught.value)


def test_a_bad_base_url_is_refused_without_its_secrets() -> None:
    for url in (f"https://user:{KEY}@h/v1", f"https://h/v1?token={KEY}", f"ftp://user:{KEY}@h/", f"http://h/?k={KEY}"):
        with pytest.raises(ValueError, match="base_url") as caught:
            PhotaClient("key", base_url=url)
        assert KEY not in shown(caught.value)


def test_a_bad_proxy_is_refused_without_its_secrets() -> None:
    with pytest.raises(ValueError, match="proxy") as caught:
        PhotaClient("key", proxy=f"socks5://user:{KEY}@h/")
    assert KEY not in shown(caught.value)


def test_a_proxys_password_is_in_no_repr() -> None:
    phota = PhotaClient("key", proxy=f"http://user:{KEY}@h:1/")
    for one in (phota, *vars(phota).values()):
        assert KEY not in repr(one)
    homes = vars(phota)["_homes"]
    assert KEY not in repr(homes.plan)


FAULTS: dict[str, bytes] = {
    "refusal": answer(b'{"detail":"no"}', 401),
    "refusal that echoes": answer(
        json.dumps({"detail": f"bad key {KEY}", "code": KEY, "request_id": KEY}).encode(), 401
    ),
    "HTML that echoes": answer(f"<p>X-API-Key: {KEY}</p>".encode(), 400),
    "422 that echoes": answer(
        json.dumps({"detail": [{"loc": ["header", KEY], "msg": f"bad {KEY}", "type": KEY}]}).encode(), 422
    ),
    "header that echoes": answer(b"{}", 402, {"X-Request-Id": KEY}),
    "success whose header echoes": answer(b"{}", 200, {"X-Request-Id": KEY}),
    "redirect that echoes": answer(b"", 302, {"Location": f"http://127.0.0.1/{KEY}"}),
    "reason that echoes": f"HTTP/1.1 400 {KEY}\r\nContent-Length: 0\r\n\r\n".encode(),
    "no HTTP": f"{KEY}\r\n\r\n".encode(),
    "bad header": f"HTTP/1.1 200 OK\r\nA B {KEY}\x00: x\r\n\r\n".encode(),
    "cut": answer(b'{"images":["', length=100),
    "bad chunk": f"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{KEY}\r\n".encode(),
    "not JSON": answer(KEY.encode()),
    "odd subjects": answer(b'{"images":[],"download_urls":[{"%s":1}]}' % KEY.encode()),
    "echo across the bound": answer(b"x" * (64 * 1024 - 5) + KEY.encode(), 400),
    "closed": b"",
}


@pytest.mark.parametrize("data", FAULTS.values(), ids=FAULTS.keys())
async def test_the_key_is_in_no_error_and_no_log(data: bytes, caplog: pytest.LogCaptureFixture) -> None:
    retry = RetryPolicy(initial_wait=0, max_attempts=2, statuses=frozenset({400, 401, 402, 422}), retry_unknown=True)
    async with RawServer(answering(data)) as server, client(server, retry=retry) as phota:
        with pytest.raises(PhotaError) as caught:
            await phota.enhance(PHOTO)
    assert KEY not in shown(caught.value)
    assert KEY[:5] not in shown(caught.value)
    assert KEY not in caplog.text
    assert not any(type(one).__module__.startswith("aiohttp") for one in chain(caught.value))


def plainly(text: str) -> str:
    return json.dumps(text)


def with_slashes_escaped(text: str) -> str:
    return json.dumps(text).replace("/", "\\/")


def with_all_escaped(text: str) -> str:
    return '"' + "".join(f"\\u{ord(letter):04x}" for letter in text) + '"'


@pytest.mark.parametrize("key", ['ca"na\\ry', "ca/na/ry", "<canary>&'", "can%61ry"])
@pytest.mark.parametrize(
    "spell",
    [plainly, with_slashes_escaped, with_all_escaped],
)
async def test_a_key_that_is_echoed_in_another_spelling_is_not_repeated(key: str, spell: Callable[[str], str]) -> None:
    body = f'{{"detail": {spell(key)}, "code": {spell(key)}}}'.encode()
    async with RawServer(answering(answer(body, 401))) as server, client(server, key=key) as phota:
        with pytest.raises(APIError) as caught:
            await phota.enhance(PHOTO)
    assert key not in (caught.value.detail or "")
    assert key not in (caught.value.code or "")
    assert key not in str(caught.value)


async def test_the_key_is_in_no_error_of_a_connection(caplog: pytest.LogCaptureFixture) -> None:
    for url in ("https://something.invalid", "http://127.0.0.1:1"):
        async with PhotaClient(KEY, base_url=url, retry=ONCE) as phota:
            with pytest.raises(PhotaError) as caught:
                await phota.enhance(PHOTO)
            assert KEY not in shown(caught.value)
            assert not any(type(one).__module__.startswith("aiohttp") for one in chain(caught.value))
    async with RawServer(stalling_once) as server, client(server) as phota:
        with pytest.raises(DeadlineExceededError) as late:
            await phota.enhance(PHOTO, timeout=0.1)
        assert KEY not in shown(late.value)
        server.abandon()
    assert KEY not in caplog.text


async def test_a_success_logs_no_key(caplog: pytest.LogCaptureFixture) -> None:
    odd = {"X-Request-Id": "req", "X-Phota-Deprecation-Date": "2026-05-08", "Content-Type": "text/plain"}
    body = good_body(known_subjects={"counts": {"ann": 1.5}})
    async with RawServer(answering(answer(body, headers=odd))) as server, client(server) as phota:
        result = await phota.enhance(PHOTO)
        assert KEY not in repr(result)
    assert KEY not in caplog.text


async def test_the_key_goes_on_the_post_only() -> None:
    image = answer(b"\x89PNG\r\n\x1a\n" + bytes(100), kind="image/png")
    async with RawServer(answering(GOOD), answering(image)) as server, client(server) as phota:
        await phota.enhance(PHOTO)
        await phota.download(f"{server.url}/a.png")
        post, get = server.begun
        assert post.headers["X-Api-Key"] == KEY
        assert KEY.encode() not in post.body
        assert KEY not in repr(get)


async def test_the_key_does_not_stay_in_an_injected_session() -> None:
    async with RawServer(answering(GOOD)) as server, aiohttp.ClientSession() as session:
        async with client(server, session=session) as phota:
            await phota.enhance(PHOTO)
        assert KEY not in repr(dict(session.headers))
        async with session.get(server.url) as response:
            await response.read()
        assert KEY not in repr(server.begun[-1])


# ---- signed links

SIGNED = f"https://user:word@photos.example/a.jpg?signature={SIGNATURE}#{SIGNATURE}"


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


async def test_photos_and_images_are_not_in_a_repr() -> None:
    async with failing(answering(GOOD)) as (phota, _):
        batch = await phota.enhance_many([PHOTO])
    assert len(repr(batch)) < 1000
