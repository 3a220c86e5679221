"""The ways a request can take: TLS, proxies, kept sockets."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
import trustme
from attrs import define, field

from phota_async import (
    ConnectionFailedError,
    DeadlineExceededError,
    OverloadedError,
    PhotaClient,
    RateLimitedError,
    RetryPolicy,
)
from phota_async.codec.request import RequestBody
from phota_async.images import RemotePhoto, open_photo
from phota_async.models import EnhanceOptions
from phota_async.sandbox import Fault, Sandbox
from phota_async.transport.border import in_plain_words
from phota_async.transport.upload import Flight, Upload, keep_alive

ONCE = RetryPolicy(max_attempts=1)


@define
class Relay:
    """A TCP server that reads one request's head, answers what it must, and passes the rest on to the sandbox."""

    port: int
    answer: bytes = b""
    tls: ssl.SSLContext | None = None
    heads: list[bytes] = field(factory=list[bytes])
    url: str = ""

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[Relay]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self.tls)
        host, port = server.sockets[0].getsockname()
        self.url = f"{'https' if self.tls else 'http'}://{host}:{port}"
        async with server:
            yield self

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with AsyncExitStack() as stack:
            stack.callback(writer.close)
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError:  # a handshake that was refused
                return
            self.heads.append(head)
            there_reader, there = await asyncio.open_connection("127.0.0.1", self.port)
            stack.callback(there.close)
            if self.answer:
                writer.write(self.answer)
            else:
                there.write(head)
            await asyncio.wait(
                [asyncio.create_task(copy(reader, there)), asyncio.create_task(copy(there_reader, writer))]
            )


async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
        else:
            writer.close()
    except ConnectionError:
        writer.close()


@pytest.fixture
async def box() -> AsyncGenerator[Sandbox]:
    async with Sandbox(long_edge=64) as box:
        yield box


def port_of(url: str) -> int:
    return int(url.split(":")[2].split("/", maxsplit=1)[0])


def tls_contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    authority = trustme.CA()
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    # trustme also takes contexts of pyOpenSSL, which is not installed.
    authority.issue_cert("127.0.0.1").configure_cert(server)  # pyright: ignore[reportUnknownMemberType]
    authority.configure_trust(client)  # pyright: ignore[reportUnknownMemberType]
    return server, client


async def test_a_certificate_that_is_not_trusted_ends_before_anything_is_sent(box: Sandbox, photo: Path) -> None:
    server, _ = tls_contexts()
    async with Relay(port_of(box.url), tls=server).open() as relay, PhotaClient("key", base_url=relay.url) as phota:
        with pytest.raises(ConnectionFailedError, match=r"TLS: 127\.0\.0\.1 is not trusted") as caught:
            await phota.with_options(retry=ONCE).enhance(photo)
    assert (caught.value.maybe_charged, relay.heads, box.ledger.requests) == (False, [], [])


async def test_an_injected_session_brings_its_own_trust(box: Sandbox, photo: Path) -> None:
    server, client = tls_contexts()
    async with (
        Relay(port_of(box.url), tls=server).open() as relay,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=client)) as session,
        PhotaClient("key", base_url=f"{relay.url}/v1/phota", session=session) as phota,
    ):
        await phota.enhance(photo)
        await phota.aclose()
        assert not session.closed
    assert box.ledger.charged_images == 1
    assert box.ledger.requests[0].connection == "close"


async def test_a_plain_request_goes_through_the_proxy_that_is_asked_for(box: Sandbox, photo: Path) -> None:
    async with Relay(port_of(box.url)).open() as relay, PhotaClient("key", base_url=box.url, proxy=relay.url) as phota:
        await phota.enhance(photo)
    assert relay.heads[0].startswith(f"POST {box.url}/enhance HTTP/1.1\r\n".encode())
    assert box.ledger.charged_images == 1


@pytest.mark.parametrize("proxy", ["", None])
async def test_loopback_is_not_proxied_because_the_environment_says_so(
    proxy: str | None, box: Sandbox, photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    async with PhotaClient("key", base_url=box.url, proxy=proxy) as phota:
        await phota.enhance(photo)
    assert box.ledger.charged_images == 1


async def test_more_calls_than_a_pool_holds_are_in_flight_at_once(box: Sandbox, photo: Path) -> None:
    answers = [Fault(status=200, body=b'{"images":["aGVsbG8="]}', stall=4.0)] * 120
    box.script(*answers)
    async with PhotaClient("key", base_url=box.url, max_concurrency=120) as phota:
        batch = await phota.enhance_many([photo] * 120)
    assert len(batch.succeeded) == 120
    assert box.ledger.widest > 100


async def test_a_retry_after_beyond_the_bound_holds_no_other_call_longer(box: Sandbox, photo: Path) -> None:
    box.script(Fault(status=429, retry_after=100_000))
    policy = RetryPolicy(max_retry_after=0.2)
    async with PhotaClient("key", base_url=box.url, retry=policy) as phota:
        with pytest.raises(RateLimitedError):
            await phota.enhance(photo)
        await phota.enhance(photo, timeout=30)
    assert box.ledger.charged_images == 1


async def test_a_deadline_that_passes_with_images_here_hands_them_over(photo: Path) -> None:
    body = b'{"images":["aGVsbG8=","aGVs'
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + body

    async def stalling(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0]))
        writer.write(answer)
        await reader.read()
        writer.close()

    async with await asyncio.start_server(stalling, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with PhotaClient("key", base_url=f"http://127.0.0.1:{port}") as phota:
            with pytest.raises(DeadlineExceededError) as caught:
                await phota.enhance(photo, timeout=1)
    assert caught.value.outcome_unknown
    assert [image.data for image in caught.value.images] == [b"hello"]


async def test_a_refusal_whose_words_stall_is_known_to_be_uncharged(photo: Path) -> None:
    async def stalling(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0]))
        writer.write(b"HTTP/1.1 402 Payment Required\r\nContent-Length: 1000\r\n\r\n{")
        await reader.read()
        writer.close()

    async with await asyncio.start_server(stalling, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with PhotaClient("key", base_url=f"http://127.0.0.1:{port}") as phota:
            with pytest.raises(DeadlineExceededError) as caught:
                await phota.enhance(photo, timeout=1)
    assert not caught.value.maybe_charged


async def test_a_closed_session_is_told_in_our_words(box: Sandbox, photo: Path) -> None:
    session = aiohttp.ClientSession()
    await session.close()
    async with PhotaClient("key", base_url=box.url, session=session) as phota:
        with pytest.raises(OverloadedError, match="session given to the client is closed"):
            await phota.enhance(photo)


@pytest.mark.parametrize("photos", [None, 5])
async def test_what_cannot_be_iterated_is_no_batch(photos: object) -> None:
    async with PhotaClient("key") as phota:
        with pytest.raises(ValueError, match="photos must be"):
            await phota.enhance_many(photos)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def test_a_request_counts_as_sent_from_before_its_last_byte_is_handed_over() -> None:
    flight, seen = Flight(on_arrival=lambda: None), list[bool]()

    class Protocol:
        def force_close(self) -> None:
            """Do what aiohttp's does: nothing here."""

    class Writer:
        transport = None
        protocol = Protocol()

        async def write(self, _: bytes) -> None:
            seen.append(flight.whole)

    photo = await open_photo(b"\xff\xd8\xff" + b"x" * 200_000)
    body = RequestBody.of(photo, EnhanceOptions())
    await Upload(body, flight).write(Writer())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert seen == [False, True]


async def test_an_https_request_tunnels_through_the_proxy_with_the_key_inside(box: Sandbox, photo: Path) -> None:
    server, client = tls_contexts()
    async with AsyncExitStack() as stack:
        origin = await stack.enter_async_context(Relay(port_of(box.url), tls=server).open())
        tunnel = Relay(port_of(origin.url), answer=b"HTTP/1.1 200 Connection established\r\n\r\n")
        proxy = await stack.enter_async_context(tunnel.open())
        session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=client))
        await stack.enter_async_context(session)
        phota = PhotaClient("canary", base_url=f"{origin.url}/v1/phota", session=session, proxy=proxy.url)
        await stack.enter_async_context(phota)
        await phota.enhance(photo)
    assert proxy.heads[0].startswith(b"CONNECT 127.0.0.1:")
    assert b"canary" not in proxy.heads[0]
    assert b"canary" in origin.heads[0]
    assert box.ledger.charged_images == 1


async def test_a_proxy_that_refuses_is_no_charge(box: Sandbox, photo: Path) -> None:
    refusal = Relay(port_of(box.url), answer=b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
    async with refusal.open() as proxy:
        phota = PhotaClient("key", base_url="https://127.0.0.1:1", proxy=proxy.url, retry=ONCE)
        async with phota:
            with pytest.raises(ConnectionFailedError, match="the proxy refused to connect"):
                await phota.enhance(photo)


async def test_a_proxy_that_is_not_there_is_named(photo: Path) -> None:
    async with PhotaClient("key", base_url="https://127.0.0.1:1", proxy="127.0.0.1:1", retry=ONCE) as phota:
        with pytest.raises(ConnectionFailedError, match="cannot connect to the proxy: Connection refused"):
            await phota.enhance(photo)


async def test_sockets_are_probed_while_they_are_silent(box: Sandbox) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", port_of(box.url))
    keep_alive(writer.transport)
    connection: socket.socket = writer.get_extra_info("socket")
    assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
    found = [
        connection.getsockopt(socket.IPPROTO_TCP, option)
        for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
    ]
    assert found == [30, 15, 4]
    writer.close()
    await writer.wait_closed()


async def test_what_is_no_tcp_socket_is_left_alone(tmp_path: Path) -> None:
    async def close(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with await asyncio.start_unix_server(close, tmp_path / "socket"):
        _, writer = await asyncio.open_unix_connection(tmp_path / "socket")
        keep_alive(writer.transport)
        keep_alive(None)
        writer.close()
        await writer.wait_closed()


def test_the_body_never_exists_as_one_string() -> None:
    body = RequestBody(RemotePhoto("https://photos.example/a.jpg"), b"{", b"}")
    with pytest.raises(TypeError, match="in pieces only"):
        Upload(body, Flight(on_arrival=lambda: None)).decode()


def test_an_error_that_has_no_words_of_its_own_is_named_by_its_kind() -> None:
    assert in_plain_words(aiohttp.ClientError("secret")) == "the connection failed (ClientError)"
