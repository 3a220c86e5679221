"""Links to finished images: signed, expiring, by range, and broken by script."""

import asyncio
import gc
import time
from typing import Any
from urllib.parse import parse_qs, urlsplit

import aiohttp
import pytest
from sandbox_calls import PHOTO, post, send
from yarl import URL

from phota_async.sandbox import Fault, Sandbox


async def make_link(box: Sandbox, **options: Any) -> str:
    reply = await post(box, response_mode="urls", output_format="png", **options)
    (link,) = reply.json["download_urls"]
    return str(link)


async def fetch(link: str, into: bytearray) -> None:
    headers = {"Range": f"bytes={len(into)}-"}
    async with aiohttp.ClientSession() as session, session.get(link, headers=headers) as answer:
        while piece := await answer.content.readany():
            into += piece


async def test_a_link_lives_as_long_as_it_says() -> None:
    async with Sandbox(long_edge=32) as box:
        link = await make_link(box)
        (expires,) = parse_qs(urlsplit(link).query)["expires"]
        assert 86000 < int(expires) - time.time() <= 86400
        assert (await send("GET", link)).status == 200
        box.link_lifetime = 0.0
        expired = await send("GET", await make_link(box))
    assert (expired.status, list(expired.json)) == (403, ["detail"])


@pytest.mark.parametrize(
    "query", [{"expires": "9999999999"}, {"signature": "0" * 64}, {"signature": "é"}, {"expires": ""}]
)
async def test_a_changed_link_is_refused(query: dict[str, str]) -> None:
    async with Sandbox(long_edge=32) as box:
        link = URL(await make_link(box))
        assert (await send("GET", str(link.update_query(query)))).status == 403
        assert (await send("GET", str(link.with_query(None)))).status == 403
        assert (await send("GET", str(link.with_name("other.png").with_query(link.query)))).status == 403


async def test_a_link_of_another_sandbox_is_refused() -> None:
    async with Sandbox(long_edge=32) as other, Sandbox() as box:
        link = URL(await make_link(other)).with_port(URL(box.url).port)
        assert (await send("GET", str(link))).status == 403


async def test_links_lead_to_where_the_client_says_it_reached_the_sandbox() -> None:
    async with Sandbox(long_edge=32) as box:
        reply = await send(
            "POST",
            f"{box.url}/enhance",
            json={"image": PHOTO, "response_mode": "urls"},
            headers={"X-API-Key": "key", "Host": "photos.test:8321"},
        )
    assert reply.json["download_urls"][0].startswith("http://photos.test:8321/files/")


@pytest.mark.parametrize("fault", [None, Fault(slow=1e9)], ids=["aiohttp's own", "ours"])
@pytest.mark.parametrize(
    ("asked", "status", "start", "stop"),
    [
        (None, 200, 0, None),
        ("bytes=0-", 206, 0, None),
        ("bytes=10-", 206, 10, None),
        ("bytes=10-19", 206, 10, 20),
        ("bytes=-10", 206, -10, None),
        ("bytes=10-99999999", 206, 10, None),
    ],
)
async def test_ranges_are_honoured(
    fault: Fault | None, asked: str | None, status: int, start: int, stop: int | None
) -> None:
    headers = {"Range": asked} if asked else {}
    async with Sandbox(long_edge=32) as box:
        link = await make_link(box)
        box.script_downloads(None, fault)
        whole = await send("GET", link)
        part = await send("GET", link, headers=headers)
        assert [(download.status, download.range) for download in box.ledger.downloads] == [
            (200, None),
            (status, asked),
        ]
    size = len(whole.body)
    expected = range(size)[start:stop]
    assert (part.status, part.body) == (status, whole.body[start:stop])
    assert part.headers["Accept-Ranges"] == "bytes"
    assert part.headers["ETag"] == whole.headers["ETag"]
    assert part.headers["Content-Type"] == "image/png"
    if asked:
        assert part.headers["Content-Range"] == f"bytes {expected[0]}-{expected[-1]}/{size}"


@pytest.mark.parametrize("fault", [None, Fault(slow=1e9)], ids=["aiohttp's own", "ours"])
@pytest.mark.parametrize("asked", ["bytes=99999999-", "bytes=x-y"])
async def test_ranges_beyond_the_file_are_416(fault: Fault | None, asked: str) -> None:
    async with Sandbox(long_edge=32) as box:
        link = await make_link(box)
        box.script_downloads(fault)
        reply = await send("GET", link, headers={"Range": asked})
        assert box.ledger.downloads[0].status == 416
    assert (reply.status, reply.body) == (416, b"")
    assert reply.headers["Content-Range"].startswith("bytes */")


async def test_a_download_cut_short_can_be_resumed() -> None:
    async with Sandbox(long_edge=64) as box:
        link = await make_link(box)
        whole = (await send("GET", link)).body
        box.script_downloads(Fault(cut=100), Fault(reset="answer"))
        begun = bytearray()
        for _ in range(2):
            with pytest.raises(aiohttp.ClientError):
                await fetch(link, begun)
        rest = await send("GET", link, headers={"Range": f"bytes={len(begun)}-"})
    assert len(begun) >= 100
    assert begun + rest.body == whole


@pytest.mark.parametrize("reset", ["before", "during", "after"])
async def test_a_download_may_be_reset(reset: Any) -> None:
    async with Sandbox(long_edge=32) as box:
        link = await make_link(box)
        # aiohttp's client repeats a GET once by itself.
        box.script_downloads(Fault(reset=reset), Fault(reset=reset))
        with pytest.raises(aiohttp.ClientConnectionError):
            await send("GET", link)
        assert box.ledger.downloads[0].status is None


async def test_a_download_may_answer_anything() -> None:
    async with Sandbox(long_edge=32) as box:
        link = await make_link(box)
        box.script_downloads(
            Fault(status=503, retry_after=3),
            Fault(status=302, headers={"Location": "http://127.0.0.1:1/"}, body=b""),
            Fault(body=b"not a photo", headers={"Content-Type": "text/html"}),
            Fault(stall=0.0, headers={"X-Note": "late"}),
        )
        replies = [await send("GET", link, allow_redirects=False) for _ in range(5)]
    assert [reply.status for reply in replies] == [503, 302, 200, 200, 200]
    assert replies[0].headers["Retry-After"] == "3"
    assert replies[1].headers["Location"] == "http://127.0.0.1:1/"
    assert (replies[2].headers["Content-Type"], replies[2].body) == ("text/html", b"not a photo")
    assert replies[3].headers["X-Note"] == "late"
    assert "X-Note" not in replies[4].headers


async def test_a_download_may_stall_until_its_client_gives_up() -> None:
    async with Sandbox(long_edge=32) as box:
        link = await make_link(box)
        box.script_downloads(Fault(stall=float("inf")))
        with pytest.raises(TimeoutError):
            await send("GET", link, timeout=aiohttp.ClientTimeout(total=0.05))
        assert box.ledger.downloads[0].status is None


async def test_credentials_on_downloads_are_noted() -> None:
    async with Sandbox(long_edge=32) as box:
        link = await make_link(box)
        await send("GET", link)
        assert box.ledger.keys_on_downloads == []
        await send("GET", link, headers={"x-api-key": "secret", "Cookie": "a=b", "Authorization": "Basic x"})
        (leak,) = box.ledger.keys_on_downloads
    assert leak.carried_credentials == ("X-API-Key", "Authorization", "Cookie")
    assert leak.path.startswith("/files/")


async def test_callers_who_go_away_while_a_file_is_opened_leave_none_open() -> None:
    async with Sandbox(long_edge=32) as box:
        link = URL(await make_link(box))
        asked = f"GET {link.raw_path_qs} HTTP/1.1\r\nHost: {link.host}\r\n\r\n".encode()
        for turns in list(range(20)) * 20:
            _, writer = await asyncio.open_connection(link.host, link.port)
            writer.write(asked)
            for _ in range(turns):
                await asyncio.sleep(0)
            writer.transport.abort()
        assert (await send("GET", str(link))).status == 200
    gc.collect()  # a file that is still open warns
