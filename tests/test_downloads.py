"""Signed links: fetched as they were signed, to where they were asked for, with nothing of the account."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeAlias

import aiohttp
import pytest
from hostile_downloads import IMAGE, SIGNATURE, free_of_credentials, link, png
from raw_server import AT_ONCE, RawServer, Wire, answering, client
from yarl import URL

from phota_async import DownloadError, EnhancedImage, PhotaClient, PhotaError, RetryPolicy
from phota_async.files import Partial
from phota_async.sandbox import Fault, Sandbox

Fetch: TypeAlias = Callable[[PhotaClient, str], Coroutine[Any, Any, bytes]]


async def files_in(folder: Path) -> list[str]:
    return await asyncio.to_thread(lambda: sorted(path.name for path in folder.iterdir()))


@pytest.fixture(params=["memory", "file"])
def fetch(request: pytest.FixtureRequest, tmp_path: Path) -> Fetch:
    """Download in either of the two ways; afterwards the folder holds the file, or nothing."""

    async def memory(phota: PhotaClient, url: str) -> bytes:
        return (await phota.download(url)).data

    async def file(phota: PhotaClient, url: str) -> bytes:
        target = tmp_path / "out.png"
        try:
            assert await phota.download(url, to=target) == target
        finally:
            left = await files_in(tmp_path)
            assert left in ([], ["out.png"])
        return await asyncio.to_thread(target.read_bytes)

    return memory if request.param == "memory" else file


# ---- what goes well


async def test_a_link_is_fetched(fetch: Fetch) -> None:
    async with RawServer(answering(png())) as server, client(server) as phota:
        assert await fetch(phota, link(server)) == IMAGE
        (request,) = server.begun
        assert request.method == "GET"
        assert request.target == f"/files/a.png?signature={SIGNATURE}"
        assert "Range" not in request.headers
        assert free_of_credentials(request)


@pytest.mark.parametrize(
    "query",
    ["s=a%2Fb%3D%3D", "s=a%2fb", "s=%7Ea", "s=a+b%20c", "s=a%2Bb", "a=1&&b=", "s=a;b", "s=a:b@c/d?e", "s=%E4", "s=%41"],
)
async def test_a_signed_query_is_sent_as_it_was_signed(query: str) -> None:
    async with RawServer(answering(png())) as server, client(server) as phota:
        await phota.download(f"{server.url}/a%2Fb/c.png?{query}")
        assert server.begun[0].target == f"/a%2Fb/c.png?{query}"


async def test_a_link_may_be_a_url_object(tmp_path: Path) -> None:
    async with RawServer(answering(png())) as server, client(server) as phota:
        image = await phota.download(URL(link(server)))
        assert isinstance(image, EnhancedImage)
        assert image.media_type == "image/png"
        assert await phota.download(URL(link(server)), to=str(tmp_path / "x.png")) == tmp_path / "x.png"


async def test_links_of_the_sandbox_are_fetched_and_resumed(fetch: Fetch, phota_sandbox: Sandbox, photo: Path) -> None:
    async with PhotaClient("key", base_url=phota_sandbox.url, retry=AT_ONCE) as phota:
        result = await phota.enhance(photo, response_mode="urls")
        whole = await fetch(phota, result.download_urls[0])
        phota_sandbox.script_downloads(Fault(cut=1000), Fault(reset="answer"), None)
        assert await fetch(phota, result.download_urls[0]) == whole
    assert phota_sandbox.ledger.keys_on_downloads == []
    assert [record.range for record in phota_sandbox.ledger.downloads[1:3]] == [None, "bytes=1000-"]


# ---- where the file goes


async def test_a_directory_as_the_target_gets_a_file_named_as_the_link(tmp_path: Path) -> None:
    async with RawServer(answering(png())) as server, client(server) as phota:
        saved = await phota.download(link(server), to=tmp_path)
    assert saved.parent == tmp_path
    assert await files_in(tmp_path) == [saved.name]
    assert await asyncio.to_thread(saved.read_bytes) == IMAGE


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/files/a.png", "a.png"),
        ("/files/", "image"),
        ("/..", "image"),
        ("/.hidden", "hidden"),
        ("/%2e%2e%2fa.png", "_2e_2e_2fa.png"),
        ("/a%00b%0a.png", "a_00b_0a.png"),
        ("/a:b\\c.png", "a_b_c.png"),
        ("/" + "x" * 300 + ".png", "x" * 251 + ".png"),
        ("/" + "\u00fc" * 300 + ".png", "\u00fc" * 125 + ".png"),
        ("/" + "x" * 40 + "." * 260, "image"),
    ],
)
async def test_the_name_of_a_link_is_made_one_that_a_folder_takes(path: str, name: str, tmp_path: Path) -> None:
    async with RawServer(answering(png())) as server, client(server) as phota:
        assert await phota.download(f"{server.url}{path}?signature={SIGNATURE}", to=tmp_path) == tmp_path / name
    assert await files_in(tmp_path) == [name]


async def test_a_name_that_ends_with_a_slash_is_a_directory_also_where_there_is_none(tmp_path: Path) -> None:
    async with RawServer(answering(png())) as server, client(server) as phota:
        saved = await phota.download(link(server), to=f"{tmp_path}/new/")
    assert saved.parent == tmp_path / "new"
    assert await asyncio.to_thread(saved.read_bytes) == IMAGE


async def test_a_disk_that_times_out_is_no_deadline_that_passed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def late(*_: object) -> None:
        raise TimeoutError(errno.ETIMEDOUT, "the server of these files is silent")

    monkeypatch.setattr(Partial, "write", late)
    async with RawServer(answering(png())) as server, client(server) as phota:
        with pytest.raises(TimeoutError, match="the server of these files is silent") as caught:
            await phota.download(link(server), to=tmp_path / "x.png")
    assert not isinstance(caught.value, PhotaError)


async def test_missing_folders_are_made(tmp_path: Path) -> None:
    async with RawServer(answering(png())) as server, client(server) as phota:
        saved = await phota.download(link(server), to=tmp_path / "a" / "b" / "x.png")
    assert saved == tmp_path / "a" / "b" / "x.png"
    assert await asyncio.to_thread(saved.read_bytes) == IMAGE


async def test_a_proxy_may_be_a_private_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refusal = b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n"
    async with RawServer(answering(refusal)) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url.replace("127.0.0.1", "localhost"))
        async with PhotaClient("key", retry=RetryPolicy(max_attempts=1)) as phota:
            with pytest.raises(DownloadError, match="the proxy refused to connect"):
                await phota.download("https://cdn.example.com/x.png", to=tmp_path)
        assert proxy.connections == 1


async def test_a_full_disk_fails_at_once() -> None:
    async with RawServer(answering(png())) as server, client(server) as phota:
        with pytest.raises(OSError, match=r"No such file|not permitted|denied|Invalid|read-only"):
            await phota.download(link(server), to="/proc/phota.png")
        assert server.connections == 1


async def test_a_cancelled_download_leaves_nothing(fetch: Fetch, tmp_path: Path) -> None:
    async def half(wire: Wire) -> None:
        await wire.request()
        await wire.send(png(IMAGE * 200)[:-1000])
        await wire.gone()

    async with RawServer(half) as server, client(server) as phota:
        task = asyncio.create_task(fetch(phota, link(server)))
        await server.stalled()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await server.quiet()
    assert await files_in(tmp_path) == []


# ---- what goes along


async def test_nothing_of_an_injected_session_goes_along() -> None:
    headers = {"Authorization": "Bearer abc", "X-Mine": "1"}
    async with RawServer(answering(png(IMAGE, 200, {"Set-Cookie": "a=b"}))) as server:
        jar = aiohttp.CookieJar(unsafe=True)
        async with aiohttp.ClientSession(headers=headers, cookies={"session": "s"}, cookie_jar=jar) as session:
            async with client(server, session=session) as phota:
                for _ in range(2):
                    await phota.download(link(server))
            assert not session.closed
        assert all(free_of_credentials(request) and "X-Mine" not in request.headers for request in server.begun)
