"""The key goes to the API's origin, on the POST; nothing of the account goes anywhere else."""

from __future__ import annotations

from pathlib import Path

import aiohttp
import pytest
from canary import KEY
from raw_server import GOOD, PHOTO, RawServer, Request, answer, answering, client

from phota_async import APIError, ConnectionFailedError, DownloadError, PhotaClient, PhotaError, RetryPolicy

ONCE = RetryPolicy(max_attempts=1)
IMAGE = answer(b"\x89PNG\r\n\x1a\n" + bytes(100), kind="image/png")

# All that a download says, whoever asks for it.
OF_A_DOWNLOAD = {"Host", "Accept", "Accept-Encoding", "User-Agent", "Connection"}


def carries_nothing(request: Request) -> bool:
    return request.headers.keys() <= OF_A_DOWNLOAD and not request.body and KEY not in repr(request)


async def test_the_key_goes_on_the_post_only() -> None:
    async with RawServer(answering(GOOD), answering(IMAGE)) as server, client(server) as phota:
        await phota.enhance(PHOTO)
        await phota.download(f"{server.url}/a.png")
        post, get = server.begun
    assert post.headers["X-Api-Key"] == KEY
    others = {name: value for name, value in post.headers.items() if name != "X-Api-Key"}
    assert KEY not in f"{post.target}{others}"
    assert KEY.encode() not in post.body
    assert carries_nothing(get)


@pytest.mark.parametrize("status", [300, 301, 302, 303, 305, 307, 308])
async def test_a_redirect_of_the_post_is_not_followed(status: int) -> None:
    async with RawServer(answering(GOOD)) as elsewhere:
        there = {"Location": f"{elsewhere.url}/enhance", "Refresh": f"0; url={elsewhere.url}/enhance"}
        async with RawServer(answering(answer(b"", status, there))) as server, client(server) as phota:
            with pytest.raises(APIError, match=str(status)):
                await phota.enhance(PHOTO)
            assert (elsewhere.connections, server.connections) == (0, 1)


async def test_a_download_carries_nothing_through_all_its_redirects() -> None:
    cookie = {"Set-Cookie": "session=1; Path=/"}
    scripts = [answering(answer(b"", status, {"Location": "/b?s=1", **cookie})) for status in (301, 302, 303, 307, 308)]
    async with RawServer(*scripts, answering(IMAGE)) as server, client(server) as phota:
        await phota.download(f"{server.url}/a.png?signature=1")
        assert len(server.begun) == 6
        assert all(map(carries_nothing, server.begun))


async def test_a_redirect_to_another_port_of_the_apis_host_is_not_followed() -> None:
    async with RawServer(answering(IMAGE)) as elsewhere:
        away = answer(b"", 302, {"Location": f"{elsewhere.url}/a.png"})
        async with RawServer(answering(away)) as server, client(server) as phota:
            with pytest.raises(DownloadError, match="only https links"):
                await phota.download(f"{server.url}/a.png")
        assert elsewhere.connections == 0


async def test_the_key_does_not_stay_in_an_injected_session() -> None:
    async with RawServer(answering(GOOD)) as server, aiohttp.ClientSession() as session:
        async with client(server, session=session) as phota:
            await phota.enhance(PHOTO)
        assert KEY not in repr(dict(session.headers))
        async with session.get(server.url) as response:
            await response.read()
        assert KEY not in repr(server.begun[-1])


async def test_an_injected_sessions_own_secrets_go_on_no_download() -> None:
    secrets = {"Authorization": f"Bearer {KEY}", "X-Account": KEY}
    jar = aiohttp.CookieJar(unsafe=True)  # as names of hosts are none of its business here
    async with (
        RawServer(answering(GOOD), answering(IMAGE)) as server,
        aiohttp.ClientSession(headers=secrets, cookies={"session": KEY}, cookie_jar=jar) as session,
        client(server, key="another", session=session) as phota,
    ):
        await phota.enhance(PHOTO)
        await phota.download(f"{server.url}/a.png")
        assert KEY in server.begun[0].headers["Authorization"]
        assert KEY in server.begun[0].headers["Cookie"]
        assert carries_nothing(server.begun[1])


@pytest.mark.parametrize("link", [None, "https://photos.example/a.png?signature=1"])
async def test_a_proxy_is_asked_for_a_tunnel_and_told_nothing_else(link: str | None) -> None:
    async with RawServer(answering(answer(b"", 407))) as proxy:
        phota = PhotaClient(
            KEY, base_url="https://api.example", proxy=proxy.url.replace("//", "//user:word@"), retry=ONCE
        )
        async with phota:
            with pytest.raises((ConnectionFailedError, DownloadError), match="the proxy refused to connect"):
                await (phota.download(link) if link else phota.enhance(PHOTO))
        asked = proxy.begun[0]
    assert (asked.method, asked.target) == ("CONNECT", "photos.example:443" if link else "api.example:443")
    assert asked.headers.keys() - OF_A_DOWNLOAD == {"Proxy-Authorization"}
    assert KEY not in repr(asked)


async def test_plain_http_takes_the_key_past_a_proxy_only_where_it_is_allowed() -> None:
    with pytest.raises(ValueError, match="allow_http=True permits plain http"):
        PhotaClient(KEY, base_url="http://api.example")
    async with RawServer(answering(GOOD)) as proxy:
        phota = PhotaClient(KEY, base_url="http://api.example", proxy=proxy.url, allow_http=True)
        async with phota:
            await phota.enhance(PHOTO)
        assert proxy.begun[0].target == "http://api.example/enhance"
        assert proxy.begun[0].headers["X-Api-Key"] == KEY


@pytest.fixture
def netrc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login user password word\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))


@pytest.mark.usefixtures("netrc")
async def test_what_netrc_says_is_not_used() -> None:
    async with RawServer(answering(GOOD), answering(IMAGE)) as server, client(server) as phota:
        await phota.enhance(PHOTO)
        await phota.download(f"{server.url}/a.png")
        assert not any("Authorization" in request.headers for request in server.begun)


async def test_no_cookie_is_kept_for_the_next_call() -> None:
    cookie = answer(b"{}", 400, {"Set-Cookie": "session=1; Path=/"})
    async with RawServer(answering(cookie)) as server, client(server) as phota:
        for _ in range(2):
            with pytest.raises(PhotaError):
                await phota.enhance(PHOTO)
        assert not any("Cookie" in request.headers for request in server.begun)
