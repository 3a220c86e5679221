"""Nothing that is exported holds a key, a signed link, a proxy's password, a prompt, or a photo's name."""

from __future__ import annotations

import io
import json
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from canary import KEY, SIGNATURE
from opentelemetry.instrumentation.aiohttp_client import create_trace_config
from raw_server import BIG_PHOTO, GOOD, PHOTO, RawServer, answer, answering, client, stalling_once
from telemetry_capture import Observed, instrumentation, observing

from phota_async import ConnectionFailedError, DownloadError, PhotaClient, PhotaError, RetryPolicy, Timeout
from phota_async.sandbox import Fault, Sandbox

ONCE = RetryPolicy(max_attempts=1)
PROMPT = "prompt-5be2"
NAME = "photo-77d1"


@pytest.fixture
def observed() -> Iterator[Observed]:
    with observing() as opened:
        yield opened


async def test_calls_and_downloads_tell_no_secrets(
    box: Sandbox, photo: Path, tmp_path: Path, observed: Observed
) -> None:
    source = shutil.copy(photo, tmp_path / f"{NAME}.png")
    box.script(Fault(status=503, retry_after=0), Fault(status=400, detail=f"no: {PROMPT} {KEY}"))
    async with PhotaClient(
        KEY, base_url=box.url, retry=RetryPolicy(initial_wait=0), trace_configs=[instrumentation()]
    ) as phota:
        with pytest.raises(PhotaError):
            await phota.enhance(source, prompt=PROMPT, profile_ids=[f"profile-{NAME}"])
        result = await phota.enhance(source, prompt=PROMPT, response_mode="urls")
        await phota.download(result.download_urls[0])
        await phota.enhance_folder(source, tmp_path / "enhanced", prompt=PROMPT)
    told = observed.everything()
    assert told.count('"phota.enhance"') == 3
    assert told.count('"phota.download"') == 2
    signatures = [link.partition("signature=")[2] for link in result.download_urls]
    assert signatures[0]
    assert [secret for secret in (KEY, PROMPT, NAME, *signatures) if secret in told] == []


async def test_a_request_id_that_repeats_the_key_is_blanked(observed: Observed) -> None:
    good = answer(GOOD.partition(b"\r\n\r\n")[2], headers={"X-Request-Id": f"id-{KEY}"})
    refusal = answer(json.dumps({"detail": KEY}).encode(), 503, {"X-Request-Id": f"id-{KEY}"})
    async with (
        RawServer(answering(refusal), answering(good)) as server,
        client(server, trace_configs=[instrumentation()]) as phota,
    ):
        await phota.enhance(PHOTO)
    assert '"phota.request_id": "id-' in observed.everything()
    assert KEY not in observed.everything()


async def test_without_a_filter_of_urls_the_instrumentation_would_tell_links(observed: Observed) -> None:
    # Why README shows one. What changes here has to change there.
    image = answering(answer(PHOTO, kind="image/jpeg"))
    async with RawServer(image) as server, client(server, trace_configs=[create_trace_config()]) as phota:
        await phota.download(f"{server.url}/a.png?signature={SIGNATURE}")
    assert SIGNATURE in observed.everything()


# ---- errors of aiohttp repeat URLs, and the instrumentation exports what they say


async def test_an_answer_that_is_no_http_tells_no_link(observed: Observed) -> None:
    async with (
        RawServer(answering(f"what is {KEY}?\r\n\r\n".encode())) as server,
        client(server, retry=ONCE, trace_configs=[instrumentation()]) as phota,
    ):
        with pytest.raises(DownloadError, match="the answer is not HTTP"):
            await phota.download(f"{server.url}/a.png?signature={SIGNATURE}")
        with pytest.raises(PhotaError, match="the answer is not HTTP"):
            await phota.enhance(PHOTO)
    told = observed.everything()
    assert told.count('"exception.message": "the answer is not HTTP"') == 2
    assert SIGNATURE not in told
    assert KEY not in told


async def test_a_connection_that_takes_too_long_tells_no_link(observed: Observed) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listening:
        port = listening.getsockname()[1]
        url, configs = f"http://127.0.0.1:{port}", [instrumentation()]
        # Its queue of connections is full, so that one more is not made.
        with socket.create_connection(("127.0.0.1", port)):
            phota = PhotaClient(KEY, base_url=url, retry=ONCE, timeout=Timeout(connect=0.05), trace_configs=configs)
            async with phota:
                with pytest.raises(DownloadError, match="connecting took too long"):
                    await phota.download(f"{url}/a.png?signature={SIGNATURE}")
    assert '"exception.message": "connecting took too long"' in observed.everything()
    assert SIGNATURE not in observed.everything()


class Broken(io.BytesIO):
    """A photo whose source fails when some of it was read, and says so in its own words."""

    def read(self, size: int | None = -1, /) -> bytes:
        if self.tell():
            raise OSError(NAME)
        return super().read(size)

    def readinto(self, buffer: Any, /) -> int:
        if self.tell():
            raise OSError(NAME)
        return super().readinto(buffer)


async def test_a_photo_that_breaks_off_while_it_is_sent_tells_neither_its_source_nor_the_proxy(
    observed: Observed,
) -> None:
    async with RawServer(stalling_once) as proxy:
        password = f"http://user:{KEY}@127.0.0.1:{proxy.port}"
        options = {"base_url": "http://127.0.0.1:1/v1", "proxy": password, "retry": ONCE}
        async with client(proxy, key="key", trace_configs=[instrumentation()], **options) as phota:
            with pytest.raises(PhotaError, match=NAME):
                await phota.enhance(Broken(BIG_PHOTO))
    told = observed.everything()
    assert '"exception.message": "the connection failed (ClientConnectionError)"' in told
    assert [secret for secret in (KEY, NAME) if secret in told] == []


async def test_a_proxy_that_refuses_does_not_tell_its_password(observed: Observed) -> None:
    async with RawServer(answering(answer(status=407))) as proxy:
        password = f"http://user:{KEY}@127.0.0.1:{proxy.port}"
        options = {"base_url": "https://127.0.0.1:1/v1", "proxy": password, "retry": ONCE}
        async with client(proxy, key="key", trace_configs=[instrumentation()], **options) as phota:
            with pytest.raises(ConnectionFailedError, match="the proxy refused to connect"):
                await phota.enhance(PHOTO)
    assert "the proxy refused to connect (it answered 407)" in observed.everything()
    assert KEY not in observed.everything()
