"""Signed links: whole or not at all, resumed, never followed to where no link may lead, nothing of the account sent."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeAlias

import aiohttp
import pytest
from raw_server import (
    AT_ONCE,
    KEY,
    RawServer,
    Request,
    Script,
    Wire,
    answer,
    answering,
    chain,
    client,
)
from yarl import URL

from phota_async import (
    DeadlineExceededError,
    DownloadError,
    EnhancedImage,
    PhotaClient,
    RetryPolicy,
    Timeout,
)
from phota_async.sandbox import Fault, Sandbox

IMAGE = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 800
OTHER = b"\x89PNG\r\n\x1a\n" + bytes(reversed(range(256))) * 800
SIGNATURE = "sig-5f0c"
TAG: dict[str, Any] = {"ETag": '"one"'}

Fetch: TypeAlias = Callable[[PhotaClient, str], Coroutine[Any, Any, bytes]]


def png(body: bytes = IMAGE, status: int = 200, **headers: str) -> bytes:
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    return answer(body, status, fields, kind="image/png")


def cut(body: bytes, at: int, *, reset: bool = False, kind: str = "image/png", **headers: str) -> Script:
    """Promise the whole body and break off after so many bytes."""
    fields = {name.replace("_", "-"): value for name, value in headers.items()}

    async def script(wire: Wire) -> None:
        await wire.request()
        await wire.send(answer(body[:at], 200, fields, length=len(body), kind=kind))
        if reset:
            wire.reset()

    return script


def part(body: bytes, begin: int, *, total: int | None = None, end: int | None = None, **headers: str) -> Script:
    end = len(body) if end is None else end
    content_range = f"bytes {begin}-{end - 1}/{len(body) if total is None else total}"
    return answering(png(body[begin:end], 206, Content_Range=content_range, **headers))


def redirect(location: str, status: int = 302) -> Script:
    return answering(answer(b"", status, {"Location": location}))


def link(server: RawServer) -> str:
    return f"{server.url}/files/a.png?signature={SIGNATURE}"


async def files_in(folder: Path) -> list[str]:
    return await asyncio.to_thread(lambda: sorted(path.name for path in folder.iterdir()))


def free_of_credentials(request: Request) -> bool:
    sent = " ".join([request.target, *request.headers, *request.headers.values()])
    names = {"X-Api-Key", "Cookie", "Authorization", "Proxy-Authorization"}
    return KEY not in sent and not names & set(request.headers)


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


async def failed(fetch: Fetch, *scripts: Script, tmp_path: Path, max_attempts: int = 3) -> tuple[DownloadError, int]:
    retry = RetryPolicy(initial_wait=0, max_attempts=max_attempts)
    async with RawServer(*scripts) as server, client(server, retry=retry) as phota:
        with pytest.raises(DownloadError) as caught:
            await fetch(phota, link(server))
        assert await files_in(tmp_path) == []
        assert SIGNATURE not in str(caught.value)
        assert caught.value.url == link(server).partition("?")[0]
        assert not caught.value.maybe_charged
        assert not any(type(one).__module__.startswith("aiohttp") for one in chain(caught.value))
        return caught.value, server.connections


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


async def test_a_file_that_stands_there_is_replaced_only_by_a_whole_one(tmp_path: Path) -> None:
    target = tmp_path / "out.png"
    await asyncio.to_thread(target.write_bytes, b"old")
    async with RawServer(answering(answer(b"", 404)), answering(png())) as server, client(server) as phota:
        with pytest.raises(DownloadError):
            await phota.download(link(server), to=target)
        assert await asyncio.to_thread(target.read_bytes) == b"old"
        await phota.download(link(server), to=target)
        assert await asyncio.to_thread(target.read_bytes) == IMAGE
    assert await files_in(tmp_path) == ["out.png"]


async def test_links_of_the_sandbox_are_fetched_and_resumed(fetch: Fetch, phota_sandbox: Sandbox, photo: Path) -> None:
    async with PhotaClient("key", base_url=phota_sandbox.url, retry=AT_ONCE) as phota:
        result = await phota.enhance(photo, response_mode="urls")
        whole = await fetch(phota, result.download_urls[0])
        phota_sandbox.script_downloads(Fault(cut=1000), Fault(reset="answer"), None)
        assert await fetch(phota, result.download_urls[0]) == whole
    assert phota_sandbox.ledger.keys_on_downloads == []
    assert [record.range for record in phota_sandbox.ledger.downloads[1:3]] == [None, "bytes=1000-"]


# ---- what breaks off


@pytest.mark.parametrize("reset", [True, False], ids=["reset", "close"])
async def test_a_cut_transfer_is_resumed_where_it_broke(fetch: Fetch, *, reset: bool) -> None:
    scripts = [
        cut(IMAGE, 100_000, reset=reset, **TAG),
        part(IMAGE, 100_000, end=150_000, **TAG),
        part(IMAGE, 150_000, **TAG),
    ]
    async with RawServer(*scripts) as server, client(server) as phota:
        assert await fetch(phota, link(server)) == IMAGE
        ranges = [(request.headers.get("Range"), request.headers.get("If-Range")) for request in server.begun]
        assert ranges == [(None, None), ("bytes=100000-", '"one"'), ("bytes=150000-", '"one"')]
        assert all(free_of_credentials(request) for request in server.begun)


async def test_last_modified_serves_where_there_is_no_strong_tag(fetch: Fetch) -> None:
    date = "Wed, 21 Oct 2026 07:28:00 GMT"
    scripts = [cut(IMAGE, 1000, ETag='W/"weak"', Last_Modified=date), part(IMAGE, 1000)]
    async with RawServer(*scripts) as server, client(server) as phota:
        assert await fetch(phota, link(server)) == IMAGE
        assert server.begun[1].headers["If-Range"] == date


async def test_without_a_validator_it_begins_anew(fetch: Fetch) -> None:
    async with RawServer(cut(OTHER, 1000), answering(png())) as server, client(server) as phota:
        assert await fetch(phota, link(server)) == IMAGE
        assert "Range" not in server.begun[1].headers


@pytest.mark.parametrize("begin", [1, 3, 7, 8, 12])
async def test_a_cut_in_the_first_bytes_is_resumed_too(fetch: Fetch, begin: int) -> None:
    scripts = [cut(IMAGE, begin, kind="application/octet-stream", **TAG), part(IMAGE, begin), answering(png())]
    async with RawServer(*scripts) as server, client(server) as phota:
        assert await fetch(phota, link(server)) == IMAGE


async def test_a_server_that_sends_all_again_is_taken_from_the_beginning(fetch: Fetch) -> None:
    async with (
        RawServer(cut(OTHER, 5000, **TAG), answering(png(IMAGE, ETag='"two"'))) as server,
        client(server) as phota,
    ):
        assert await fetch(phota, link(server)) == IMAGE


LIES = {
    "another begin": part(IMAGE, 2000),
    "another total": part(IMAGE, 1000, total=len(IMAGE) + 1),
    "no range at all": answering(png(IMAGE[1000:], 206)),
    "an odd range": answering(png(IMAGE[1000:], 206, Content_Range="bytes */*")),
    "another version of the file": part(OTHER, 1000, ETag='"two"'),
    "not satisfiable": answering(answer(b"", 416, {"Content-Range": "bytes */5"})),
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES.keys())
async def test_a_range_that_was_not_asked_for_is_never_sewn_on(fetch: Fetch, lie: Script) -> None:
    async with RawServer(cut(IMAGE, 1000, **TAG), lie, answering(png())) as server, client(server) as phota:
        assert await fetch(phota, link(server)) == IMAGE
        assert server.connections == 3
        assert "Range" not in server.begun[2].headers


async def test_a_part_that_nobody_asked_for_is_refused(fetch: Fetch, tmp_path: Path) -> None:
    await failed(fetch, part(IMAGE, 1000), tmp_path=tmp_path)


async def test_a_transfer_that_breaks_again_and_again_is_an_error_in_the_end(fetch: Fetch, tmp_path: Path) -> None:
    error, connections = await failed(fetch, cut(IMAGE, 1000), tmp_path=tmp_path)
    assert connections == 3
    assert error.attempts == 3
    assert error.transient
    assert isinstance(error.__cause__, DownloadError)


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
async def test_a_busy_server_is_asked_again(fetch: Fetch, status: int) -> None:
    async with RawServer(answering(answer(b"", status)), answering(png())) as server, client(server) as phota:
        assert await fetch(phota, link(server)) == IMAGE


# ---- what fails


@pytest.mark.parametrize("status", [401, 403, 404, 410])
async def test_an_expired_link_is_told_at_once(fetch: Fetch, tmp_path: Path, status: int) -> None:
    error, connections = await failed(fetch, answering(answer(b"<xml/>", status)), tmp_path=tmp_path)
    assert connections == 1
    assert error.status == status
    assert "expired" in str(error)
    assert not error.transient


@pytest.mark.parametrize("status", [204, 400, 405, 418])
async def test_any_other_status_is_an_error(fetch: Fetch, tmp_path: Path, status: int) -> None:
    error, connections = await failed(fetch, answering(answer(b"", status)), tmp_path=tmp_path)
    assert (connections, error.status) == (1, status)


EMPTY_CHUNKS = b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"


@pytest.mark.parametrize(
    "data",
    [
        answer(b"<html>login</html>", kind="text/html"),
        answer(b"\x00" * 5000, kind="application/octet-stream"),
        answer(b"", kind="image/png"),
        answer(b"", kind="application/octet-stream"),
        EMPTY_CHUNKS,
    ],
    ids=["HTML", "zeros", "empty", "empty of no type", "empty chunks"],
)
async def test_what_is_no_image_is_refused(fetch: Fetch, tmp_path: Path, data: bytes) -> None:
    await failed(fetch, answering(data), tmp_path=tmp_path)


async def test_what_is_no_image_and_breaks_off_is_refused_in_our_words(fetch: Fetch, tmp_path: Path) -> None:
    await failed(fetch, cut(b"<html>" * 1000, 3000, kind="text/html", reset=True), tmp_path=tmp_path)


async def test_an_answer_without_a_length_is_refused(fetch: Fetch, tmp_path: Path) -> None:
    await failed(fetch, answering(b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\n\r\n" + IMAGE), tmp_path=tmp_path)


@pytest.mark.parametrize("framing", [f"Content-Length: {10**12}", "Transfer-Encoding: chunked"])
async def test_a_download_is_bounded_by_max_response_bytes(tmp_path: Path, framing: str) -> None:
    piece = IMAGE if "Length" in framing else b"%x\r\n%s\r\n" % (len(IMAGE), IMAGE)

    async def endless(wire: Wire) -> None:
        await wire.headers()
        await wire.send(f"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\n{framing}\r\n\r\n".encode())
        for _ in range(100):
            await wire.send(piece)

    retry = RetryPolicy(max_attempts=1)
    async with RawServer(endless) as server, client(server, max_response_bytes=2**20, retry=retry) as phota:
        with pytest.raises(DownloadError, match="longer"):
            await phota.download(link(server), to=tmp_path / "x.png")
    assert await files_in(tmp_path) == []


async def test_a_directory_as_the_target_gets_a_file_named_as_the_link(tmp_path: Path) -> None:
    async with RawServer(answering(png())) as server, client(server) as phota:
        saved = await phota.download(link(server), to=tmp_path)
    assert saved.parent == tmp_path
    assert await files_in(tmp_path) == [saved.name]
    assert await asyncio.to_thread(saved.read_bytes) == IMAGE


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


async def test_the_overall_timeout_bounds_a_download(fetch: Fetch, tmp_path: Path) -> None:
    async def half(wire: Wire) -> None:
        await wire.request()
        await wire.send(png()[:1000])
        await wire.gone()

    async with RawServer(half) as server, client(server, timeout=Timeout(overall=0.2)) as phota:
        with pytest.raises(DeadlineExceededError) as caught:
            await fetch(phota, link(server))
        assert not caught.value.maybe_charged
        await server.quiet()
    assert await files_in(tmp_path) == []


async def test_a_cancelled_download_leaves_nothing(fetch: Fetch, tmp_path: Path) -> None:
    async def half(wire: Wire) -> None:
        await wire.request()
        await wire.send(png(IMAGE * 10)[: 12 * len(IMAGE) // 2])
        await wire.gone()

    async with RawServer(half) as server, client(server) as phota:
        task = asyncio.create_task(fetch(phota, link(server)))
        await server.stalled()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await server.quiet()
    assert await files_in(tmp_path) == []


# ---- where a link leads


async def test_five_redirects_are_followed_and_six_are_not(fetch: Fetch, tmp_path: Path) -> None:
    async with RawServer(*[redirect("/next?n=1")] * 5, answering(png())) as server, client(server) as phota:
        assert await fetch(phota, link(server)) == IMAGE
        assert server.connections == 6
        assert all(free_of_credentials(request) for request in server.begun)
    await asyncio.to_thread((tmp_path / "out.png").unlink, missing_ok=True)
    error, connections = await failed(fetch, redirect("/next"), tmp_path=tmp_path)
    assert "redirect" in str(error)
    assert connections == 6


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_every_kind_of_redirect_is_followed(status: int) -> None:
    async with RawServer(redirect("b.png?x=%2F", status), answering(png())) as server, client(server) as phota:
        assert (await phota.download(link(server))).data == IMAGE
        assert server.begun[1].target == "/files/b.png?x=%2F"
        assert server.begun[1].method == "GET"


FORBIDDEN = [
    "file:///etc/passwd",
    "ftp://127.0.0.1/a.png",
    "data:image/png;base64,iVBORw0KGgo=",
    "gopher://127.0.0.1/",
    "javascript:alert(1)",
    "http://example.com/a.png",
    "http://127.0.0.1:{other}/a.png",
    "http://localhost:{port}/a.png",
    "https://127.0.0.1:{other}/a.png",
    "https://127.0.0.1:{port}/a.png",
    "https://127.1:{other}/",
    "https://0x7f.1:{other}/",
    "https://0177.0.0.1:{other}/",
    "https://2130706433:{other}/",
    "https://0:{other}/",
    "https://0.0.0.0:{other}/",
    "https://[::1]:{other}/",
    "https://[::]:{other}/",
    "https://[::ffff:127.0.0.1]:{other}/",
    "https://[::ffff:7f00:1]:{other}/",
    "https://[64:ff9b::7f00:1]:{other}/",
    "https://[2002:7f00:1::]:{other}/",
    "https://[::127.0.0.1]:{other}/",
    "https://[fe80::1%25lo]:{other}/",
    "https://[fc00::1]/",
    "https://10.0.0.1/",
    "https://192.168.0.1/",
    "https://172.16.0.1/",
    "https://100.64.0.1/",
    "https://169.254.169.254/latest/meta-data/",
    "https://224.0.0.1/",
    "https://255.255.255.255/",
    "https://localhost:{other}/a.png",
    "https://LOCALHOST:{other}/a.png",
    "https://127.0.0.1.:{other}/",
    "https://\uff11\uff12\uff17.0.0.1:{other}/",  # fullwidth digits
    "https://①②⑦.0.0.1:{other}/",
    "https://user:word@example.com/a.png",
    "http://user@127.0.0.1:{port}@169.254.169.254/",
    "https:///a.png",
    "//169.254.169.254/a.png",
    "https://[::1",
]


@pytest.mark.parametrize("address", FORBIDDEN)
@pytest.mark.parametrize("by", ["link", "redirect"])
async def test_a_link_leads_nowhere_that_is_not_public(address: str, by: str) -> None:
    target = ""

    async def leading(wire: Wire) -> None:
        await wire.request()
        await wire.send(answer(b"", 302, {"Location": target}))

    async def unwanted(wire: Wire) -> None:
        await wire.gone()

    once: dict[str, Any] = {"retry": RetryPolicy(max_attempts=1), "timeout": Timeout(connect=0.3)}
    async with RawServer(unwanted) as other, RawServer(leading) as server, client(server, **once) as phota:
        target = f"{address.format(other=other.port, port=server.port)}?signature={SIGNATURE}"
        with pytest.raises(DownloadError) as caught:
            await phota.download(link(server) if by == "redirect" else target)
        assert other.connections == 0
        assert server.connections == (1 if by == "redirect" else 0)
    assert not caught.value.transient  # it was refused, not tried in vain
    assert SIGNATURE not in str(caught.value)
    assert SIGNATURE not in caught.value.url
    assert not any(type(one).__module__.startswith("aiohttp") for one in chain(caught.value))


@pytest.mark.parametrize("odd", ["", "a.png", "/files/a.png", "C:\\a.png", "https://exa mple.com/", "https://h:99999/"])
async def test_what_is_no_link_is_a_download_error(odd: str) -> None:
    async with PhotaClient(KEY, retry=RetryPolicy(max_attempts=1)) as phota:
        with pytest.raises(DownloadError):
            await phota.download(odd)


async def test_a_copys_own_host_is_followed_by_name() -> None:
    async with RawServer(answering(png())) as server, PhotaClient(KEY, retry=RetryPolicy(max_attempts=1)) as phota:
        url = f"http://localhost:{server.port}"
        copy = phota.with_options(base_url=url)
        assert (await copy.download(f"{url}/a.png")).data == IMAGE


async def test_the_own_host_is_followed_by_name() -> None:
    async with RawServer(answering(png())) as server:
        url = f"http://localhost:{server.port}"
        async with PhotaClient(KEY, base_url=url, retry=RetryPolicy(max_attempts=1)) as phota:
            assert (await phota.download(f"{url}/a.png")).data == IMAGE


# ---- what goes along


async def test_nothing_of_an_injected_session_goes_along() -> None:
    headers = {"Authorization": "Bearer abc", "X-Mine": "1"}
    async with RawServer(answering(png(IMAGE, Set_Cookie="a=b"))) as server:
        jar = aiohttp.CookieJar(unsafe=True)
        async with aiohttp.ClientSession(headers=headers, cookies={"session": "s"}, cookie_jar=jar) as session:
            async with client(server, session=session) as phota:
                for _ in range(2):
                    await phota.download(link(server))
            assert not session.closed
        assert all(free_of_credentials(request) and "X-Mine" not in request.headers for request in server.begun)
