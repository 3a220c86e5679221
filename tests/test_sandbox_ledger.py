"""What the sandbox's ledger says of the calls it has seen."""

import asyncio
import hashlib
import socket
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
from sandbox_calls import PHOTO_BYTES, encoded, photo, post, send
from yarl import URL

from phota_async.sandbox import Fault, Ledger, Sandbox
from phota_async.sandbox.delivery import break_off

DIGEST = hashlib.sha256(PHOTO_BYTES).hexdigest()


async def reached(box: Sandbox, condition: Callable[[Ledger], object]) -> bool:
    return await asyncio.to_thread(box.ledger.wait, condition)


async def test_a_call_is_on_record_with_all_that_it_asked_for() -> None:
    async with Sandbox(long_edge=16) as box:
        reply = await post(
            box,
            key="mine",
            prompt="soft",
            profile_ids=["me"],
            num_output_images=2,
            output_format="png",
            response_mode="urls",
        )
        (request,) = box.ledger.requests
    assert (request.method, request.path, request.key) == ("POST", "/v1/phota/enhance", "mine")
    assert request.request_id == reply.headers["X-Request-Id"]
    assert (request.status, request.delivered, request.charged_images) == (200, True, 2)
    assert (request.sha256, request.prompt, request.profile_ids) == (DIGEST, "soft", ("me",))
    assert (request.num_output_images, request.output_format, request.response_mode) == (2, "png", "urls")
    assert request.content_length == request.received > 1000
    assert (request.transfer_encoding, request.connection) == (None, None)
    assert (request.cookies, request.authorization, request.fault) == (False, False, None)
    assert request.ended is not None
    assert request.ended >= request.started
    assert "mine" not in repr(request)


async def test_headers_that_a_client_should_not_send_are_on_record() -> None:
    headers = {"X-API-Key": "k", "Cookie": "a=b", "Authorization": "Basic x", "Connection": "close"}
    async with Sandbox() as box:
        await send("POST", f"{box.url}/enhance", data=b"", headers=headers)
        (request,) = box.ledger.requests
    assert (request.cookies, request.authorization, request.connection) == (True, True, "close")
    assert (request.content_length, request.received, request.sha256) == (0, 0, None)


async def test_charges_are_counted_by_the_photo_that_was_sold() -> None:
    other = photo("PNG")
    async with Sandbox(long_edge=16) as box:
        await post(box)
        await post(box, num_output_images=2)
        await post(box, image=encoded(other), profile_ids=["me"])
        await post(box, image="?")
        assert box.ledger.charges == {DIGEST: 3, hashlib.sha256(other).hexdigest(): 1}
        assert (box.ledger.charged_images, box.ledger.spent_usd) == (4, 0.51)


async def test_a_call_whose_client_has_gone_is_charged_all_the_same() -> None:
    async with Sandbox(long_edge=16, latency=0.2, credits=1.0) as box:
        call = asyncio.create_task(post(box))
        assert await reached(box, lambda ledger: ledger.in_flight and ledger.requests[0].sha256)
        call.cancel()
        assert await reached(box, lambda ledger: ledger.requests[0].ended)
        assert (box.ledger.in_flight, box.ledger.charged_images) == (1, 0)
        assert await reached(box, lambda ledger: ledger.in_flight == 0)
        (request,) = box.ledger.requests
        assert (request.charged_images, request.delivered, request.status) == (1, False, None)
        assert box.credits == 0.88


async def test_a_charge_after_a_reset_counts_although_its_call_is_forgotten() -> None:
    async with Sandbox(long_edge=16, latency=0.1) as box:
        call = asyncio.create_task(post(box))
        assert await reached(box, lambda ledger: ledger.in_flight and ledger.requests[0].sha256)
        call.cancel()
        assert await reached(box, lambda ledger: ledger.requests[0].ended)
        box.ledger.reset()
        assert await reached(box, lambda ledger: ledger.in_flight == 0)
        assert (box.ledger.requests, box.ledger.charged_images) == ([], 1)


async def test_an_unreadable_photo_whose_client_has_gone_is_not_charged() -> None:
    async with Sandbox(long_edge=16, credits=1.0) as box:
        box.script(None)
        call = asyncio.create_task(post(box, image=encoded(photo("PNG")[:500])))
        assert await reached(box, lambda ledger: ledger.requests and ledger.requests[0].sha256)
        call.cancel()
        assert await reached(box, lambda ledger: ledger.in_flight == 0)
        assert (box.credits, box.ledger.charged_images) == (1.0, 0)


async def test_a_client_that_stops_reading_does_not_get_its_answer() -> None:
    async with Sandbox(long_edge=1024) as box:
        url = URL(box.url)
        connection = socket.create_connection((str(url.host), url.port or 0))
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**12)
        _, writer = await asyncio.open_connection(sock=connection, limit=2**10)
        body = f'{{"image": "{encoded(PHOTO_BYTES)}", "output_format": "png", "num_output_images": 4}}'
        writer.write(
            f"POST {url.path}/enhance HTTP/1.1\r\nHost: x\r\nX-API-Key: k\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
        )
        assert await reached(box, lambda ledger: ledger.charged_images == 4)
        writer.close()
        await asyncio.gather(writer.wait_closed(), return_exceptions=True)
        assert await reached(box, lambda ledger: ledger.in_flight == 0)
        (request,) = box.ledger.requests
    assert (request.charged_images, request.delivered, request.status) == (4, False, None)


async def test_a_reset_keeps_what_is_in_flight() -> None:
    async with Sandbox(long_edge=16) as box:
        await post(box, response_mode="urls")
        box.script(Fault(stall=float("inf"), charged=True))
        held = asyncio.create_task(post(box))
        assert await reached(box, lambda ledger: ledger.charged_images == 2)
        box.ledger.reset()
        assert (box.ledger.charged_images, box.ledger.spent_usd, box.ledger.downloads) == (0, 0.0, [])
        assert (len(box.ledger.requests), box.ledger.in_flight, box.ledger.widest) == (1, 1, 1)
        held.cancel()
        assert await reached(box, lambda ledger: ledger.in_flight == 0)
        box.ledger.reset()
        assert (box.ledger.requests, box.ledger.widest) == ([], 0)


def test_waiting_ends_when_the_time_is_up() -> None:
    assert not Ledger().wait(lambda ledger: ledger.in_flight == 1, timeout=0.01)


def test_the_ledger_may_be_read_from_other_threads() -> None:
    with Sandbox(long_edge=16) as box:
        waited: list[bool] = []
        waiter = threading.Thread(target=lambda: waited.append(box.ledger.wait(lambda ledger: bool(ledger.requests))))
        waiter.start()
        asyncio.run(post(box))
        waiter.join()
    assert waited == [True]


async def test_breaking_off_a_connection_that_is_gone_waits_for_the_end() -> None:
    gone = cast("Any", SimpleNamespace(transport=None))
    task = asyncio.create_task(break_off(gone))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
