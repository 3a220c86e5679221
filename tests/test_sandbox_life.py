"""How a sandbox opens and closes, in async and in synchronous code, and without its extra."""

import asyncio
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import NoReturn, cast

import aiohttp
import pytest
from sandbox_calls import post, send
from yarl import URL

from phota_async import sandbox
from phota_async.sandbox import Fault, Ledger, Sandbox, serve_forever
from phota_async.sandbox.delivery import Call
from phota_async.sandbox.downloads import Downloads
from phota_async.sandbox.endpoint import Endpoint
from phota_async.sandbox.faults import Script
from phota_async.sandbox.links import Links
from phota_async.sandbox.service import EnhanceService

STALL = Fault(stall=float("inf"))


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def count(folder: Path) -> int:
    return len(list(folder.iterdir()))


async def in_flight(box: Sandbox, count: int) -> bool:
    return await asyncio.to_thread(box.ledger.wait, lambda ledger: ledger.in_flight == count)


async def test_closing_is_quick_and_leaves_nothing_behind(folders: Path) -> None:
    async with asyncio.TaskGroup() as group, Sandbox(long_edge=32) as box:
        box.script(STALL, Fault(slow=1.0), Fault(stall=float("inf"), charged=True))
        calls = [group.create_task(failing(box)) for _ in range(3)]
        assert await in_flight(box, 3)
        assert count(folders) == 1
        before = time.monotonic()
        await box.__aexit__(None, None, None)
        assert time.monotonic() - before < 1.0
    assert [await call for call in calls] == ["broken"] * 3
    assert count(folders) == 0
    assert all(request.status is None for request in box.ledger.requests)


async def failing(box: Sandbox) -> str:
    try:
        await post(box)
    except (OSError, aiohttp.ClientError):
        return "broken"
    return "answered"


async def test_closing_drops_what_is_being_made() -> None:
    async with Sandbox(long_edge=32, latency=60.0) as box:
        call = asyncio.create_task(failing(box))
        assert await asyncio.to_thread(box.ledger.wait, lambda ledger: ledger.requests and ledger.requests[0].sha256)
    assert await call == "broken"
    assert (box.ledger.charged_images, box.ledger.in_flight) == (0, 0)


async def test_closing_breaks_a_download_that_nobody_reads() -> None:
    async with Sandbox(long_edge=2048) as box:
        (link,) = (await post(box, response_mode="urls", output_format="png")).json["download_urls"]
        url = URL(link)
        connection = socket.create_connection((str(url.host), url.port or 0))
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**12)
        reader, writer = await asyncio.open_connection(sock=connection, limit=2**10)
        writer.write(f"GET {url.raw_path_qs} HTTP/1.1\r\nHost: {url.authority}\r\n\r\n".encode())
        assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
        before = time.monotonic()
    assert time.monotonic() - before < 1.0
    writer.close()
    await asyncio.gather(writer.wait_closed(), return_exceptions=True)


async def test_it_may_be_opened_again_but_not_twice_at_once() -> None:
    box = Sandbox(long_edge=16)
    for _ in range(2):
        async with box:
            assert (await post(box)).status == 200
            with pytest.raises(RuntimeError, match="open already"):
                async with box:
                    pass
    assert len(box.ledger.requests) == 2


def test_a_closed_sandbox_has_no_url() -> None:
    with pytest.raises(RuntimeError, match="not open"):
        _ = Sandbox().url


async def test_a_taken_port_is_an_error_of_the_system(folders: Path) -> None:
    async with Sandbox() as box:
        with pytest.raises(OSError, match="address"):
            async with Sandbox(port=URL(box.url).port or 0):
                pass
        assert count(folders) == 1


def test_a_taken_port_is_the_same_error_in_synchronous_code(folders: Path) -> None:
    with Sandbox() as box:
        with pytest.raises(OSError, match="address"), Sandbox(port=URL(box.url).port or 0):
            pass
        assert count(folders) == 1


async def test_an_ipv6_host_is_bracketed_in_the_url() -> None:
    if not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    async with Sandbox(host="::1") as box:
        assert box.url.startswith("http://[::1]:")


def test_synchronous_code_gets_a_server_in_a_thread(folders: Path) -> None:
    before = threading.active_count()
    with Sandbox(keys={"right"}) as box:
        box.script(Fault(status=503))
        request = urllib.request.Request(f"{box.url}/enhance", data=b"{}", method="POST")  # noqa: S310
        for status in (503, 401):
            with pytest.raises(urllib.error.HTTPError) as refused:
                urllib.request.urlopen(request)  # noqa: S310 - the sandbox's own URL
            assert refused.value.code == status
            refused.value.close()
        assert box.ledger.in_flight == 0
    assert threading.active_count() == before
    assert count(folders) == 0


def test_a_sandbox_in_a_thread_closes_with_calls_in_flight() -> None:
    ends: list[str] = []
    with Sandbox() as box:
        box.script(STALL)
        caller = threading.Thread(target=lambda: ends.append(asyncio.run(failing(box))))
        caller.start()
        assert box.ledger.wait(lambda ledger: ledger.in_flight == 1)
    caller.join()
    assert ends == ["broken"]


def test_the_fixture_serves_plain_tests(phota_sandbox: Sandbox) -> None:
    assert asyncio.run(post(phota_sandbox)).status == 200
    assert phota_sandbox.long_edge == 512


async def test_the_fixture_serves_async_tests(phota_sandbox: Sandbox) -> None:
    phota_sandbox.long_edge = 16
    assert (await post(phota_sandbox)).status == 200


async def test_serving_forever_ends_with_its_task() -> None:
    ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    box = Sandbox()
    serving = asyncio.create_task(serve_forever(box, ready=ready.set_result))
    assert (await send("GET", await ready)).status == 404
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving
    with pytest.raises(RuntimeError, match="not open"):
        _ = box.url


def test_without_pillow_the_error_names_the_extra() -> None:
    program = (
        "import sys; sys.modules['PIL'] = None\n"
        "import phota_async.sandbox.pytest_plugin\n"
        "try:\n    from phota_async.sandbox import Sandbox\n"
        "except ImportError as error: print(error)"
    )
    done = subprocess.run(  # noqa: S603 - our own interpreter and program
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert "needs PIL" in done.stdout
    assert "install phota-async[sandbox]" in done.stdout


def test_the_pytest_plugin_loads_nothing_of_the_server() -> None:
    program = (
        "import sys, phota_async.sandbox.pytest_plugin\n"
        "print(sorted({'PIL', 'pillow_heif', 'phota_async.sandbox.server'} & set(sys.modules)))"
    )
    done = subprocess.run(  # noqa: S603 - our own interpreter and program
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_the_public_names_are_these() -> None:
    assert sandbox.__all__ == [
        "DownloadRecord",
        "Fault",
        "Ledger",
        "RequestRecord",
        "Sandbox",
        "serve_forever",
    ]
    assert all(hasattr(sandbox, name) for name in sandbox.__all__)
    with pytest.raises(AttributeError, match="nothing"):
        _ = sandbox.__getattr__("nothing")


async def test_a_connection_that_breaks_while_written_to_is_no_defect_of_the_server(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Breaking:
        async def answer(self, call: Call) -> NoReturn:
            raise ConnectionResetError(call.id)

    ledger = Ledger()
    downloads = Downloads(ledger, Script(), Links(Path()))
    endpoint = Endpoint(ledger, cast("EnhanceService", Breaking()), downloads)
    port = await endpoint.start("127.0.0.1", 0)
    call = asyncio.create_task(send("POST", f"http://127.0.0.1:{port}/v1/phota/enhance"))
    ended = await asyncio.to_thread(ledger.wait, lambda book: book.requests and book.requests[0].ended)
    await endpoint.aclose()
    with pytest.raises(aiohttp.ClientError):
        await call
    assert ended
    assert caplog.records == []
