"""Each way in which the sandbox can misbehave on purpose."""

import asyncio
import json
from typing import Any

import aiohttp
import pytest
from sandbox_calls import PHOTO, post, send
from yarl import URL

from phota_async.sandbox import Fault, Sandbox


async def exchange(box: Sandbox, body: bytes, *, length: int | None = None) -> tuple[bytes, bool]:
    """Send a request over a bare socket; return what came back and whether the connection was reset."""
    url = URL(box.url)
    reader, writer = await asyncio.open_connection(url.host, url.port)
    head = (
        f"POST {url.path}/enhance HTTP/1.1\r\nHost: {url.authority}\r\nX-API-Key: key\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body) if length is None else length}\r\n\r\n"
    )
    received = bytearray()
    try:
        writer.write(head.encode() + body)
        while piece := await reader.read(2**16):
            received += piece
    except ConnectionResetError:
        return bytes(received), True
    finally:
        writer.close()
        await asyncio.gather(writer.wait_closed(), return_exceptions=True)
    return bytes(received), False


def document(**fields: Any) -> bytes:
    return json.dumps({"image": PHOTO, **fields}).encode()


@pytest.mark.parametrize("status", [307, 400, 401, 402, 403, 404, 422, 429, 500, 502, 503, 504])
async def test_any_status_may_be_scripted(status: int) -> None:
    async with Sandbox(long_edge=32) as box:
        box.script(Fault(status=status))
        reply = await post(box)
        assert (box.ledger.charged_images, box.ledger.requests[0].status) == (0, status)
        assert (await post(box)).status == 200
    assert reply.status == status
    assert "detail" in reply.json


async def test_a_scripted_answer_may_say_anything() -> None:
    async with Sandbox(long_edge=32) as box:
        box.script(
            Fault(status=429, code="SLOW_DOWN", detail="too fast", retry_after=2.5, headers={"X-Note": "1"}),
            Fault(status=502, body=b"<html>", headers={"Content-Type": "text/html"}),
            Fault(status=422, detail="odd"),
            Fault(body=b'{"images": ["'),
        )
        limited, gateway, odd, broken = [await post(box) for _ in range(4)]
    assert limited.json == {
        "detail": "too fast",
        "code": "SLOW_DOWN",
        "request_id": limited.headers["X-Request-Id"],
    }
    assert (limited.headers["Retry-After"], limited.headers["X-Note"]) == ("2.5", "1")
    assert (gateway.status, gateway.headers["Content-Type"], gateway.body) == (502, "text/html", b"<html>")
    assert (odd.status, odd.json) == (422, {"detail": "odd"})
    assert (broken.status, broken.body) == (200, b'{"images": ["')


@pytest.mark.parametrize("status", [204, 304])
async def test_an_answer_without_a_body_may_be_scripted(status: int) -> None:
    async with Sandbox() as box:
        box.script(Fault(status=status))
        assert (await post(box)).body == b""
        assert box.ledger.requests[0].delivered


async def test_headers_may_be_added_to_a_good_answer() -> None:
    async with Sandbox(long_edge=32) as box:
        box.script(Fault(headers={"Content-Type": "text/plain"}, retry_after="Sun, 06 Nov 1994 08:49:37 GMT"))
        reply = await post(box)
    assert (reply.status, reply.headers["Content-Type"]) == (200, "text/plain")
    assert reply.headers["Retry-After"] == "Sun, 06 Nov 1994 08:49:37 GMT"


async def test_scripts_are_consumed_in_order_and_none_goes_well() -> None:
    async with Sandbox(long_edge=32) as box:
        box.script(Fault(status=503), None, Fault(status=429))
        statuses = [(await post(box)).status for _ in range(4)]
        assert [bool(request.fault) for request in box.ledger.requests] == [True, False, True, False]
    assert statuses == [503, 200, 429, 200]


async def test_a_charged_status_comes_after_the_sale() -> None:
    async with Sandbox(long_edge=32) as box:
        box.script(Fault(status=504, charged=True))
        reply = await post(box, num_output_images=2)
        (request,) = box.ledger.requests
    assert reply.status == 504
    assert (request.charged_images, request.status, request.delivered) == (2, 504, True)


async def test_a_charged_stall_ends_in_a_good_answer() -> None:
    async with Sandbox(long_edge=32) as box:
        box.script(Fault(stall=0.0, charged=True))
        assert (await post(box)).status == 200


async def test_a_refused_call_is_refused_before_its_charged_fault() -> None:
    async with Sandbox() as box:
        box.script(Fault(status=504, charged=True))
        assert (await post(box, image="?")).status == 400


async def test_a_reset_before_the_body_leaves_it_unread() -> None:
    async with Sandbox() as box:
        box.script(Fault(reset="before"))
        received, reset = await exchange(box, document())
        (request,) = box.ledger.requests
    assert (received, reset) == (b"", True)
    assert (request.received, request.status, request.charged_images) == (0, None, 0)


async def test_a_reset_during_the_body_comes_about_halfway() -> None:
    body = document(prompt="x" * 2**20)
    async with Sandbox() as box:
        box.script(Fault(reset="during"))
        received, reset = await exchange(box, body[: 3 * len(body) // 4], length=len(body))
        (request,) = box.ledger.requests
    assert (received, reset) == (b"", True)
    assert len(body) // 2 <= request.received < len(body)
    assert (request.status, request.sha256) == (None, None)


async def test_a_reset_during_an_empty_body_comes_all_the_same() -> None:
    async with Sandbox() as box:
        box.script(Fault(reset="during"))
        assert await exchange(box, b"") == (b"", True)


@pytest.mark.parametrize("charged", [False, True])
async def test_a_reset_after_the_body_may_come_before_or_after_the_sale(charged: bool) -> None:  # noqa: FBT001
    body = document()
    async with Sandbox(long_edge=32) as box:
        box.script(Fault(reset="after", charged=charged))
        received, reset = await exchange(box, body)
        (request,) = box.ledger.requests
    assert (received, reset) == (b"", True)
    assert (request.received, request.charged_images) == (len(body), int(charged))
    assert (request.status, request.delivered) == (None, False)


async def test_a_reset_in_the_answer_comes_halfway_and_after_the_sale() -> None:
    async with Sandbox(long_edge=32) as box:
        box.script(Fault(reset="answer"))
        received, reset = await exchange(box, document())
        (request,) = box.ledger.requests
    head, _, half = received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK")
    assert f"Content-Length: {2 * len(half)}".encode() in head or f": {2 * len(half) + 1}".encode() in head
    assert reset
    assert (request.charged_images, request.status, request.delivered) == (1, None, False)


@pytest.mark.parametrize("cut", [0, 10])
async def test_a_cut_answer_promises_more_than_it_sends(cut: int) -> None:
    async with Sandbox(long_edge=32) as box:
        box.script(Fault(cut=cut))
        received, reset = await exchange(box, document())
        (request,) = box.ledger.requests
    head, _, body = received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK")
    assert body == b'{"images": ["'[:cut]
    assert not reset
    assert (request.charged_images, request.status, request.delivered) == (1, None, False)


async def test_a_cut_beyond_the_end_cuts_nothing() -> None:
    async with Sandbox(long_edge=32) as box:
        box.script(Fault(cut=2**30))
        assert (await post(box)).status == 200


async def test_a_stall_holds_the_answer_back() -> None:
    async with Sandbox(long_edge=32) as box:
        box.script(Fault(stall=0.1))
        assert (await post(box)).status == 200
        (request,) = box.ledger.requests
    assert request.ended is not None
    assert request.ended - request.started >= 0.1


@pytest.mark.parametrize("charged", [False, True])
async def test_an_endless_stall_ends_when_the_client_gives_up(charged: bool) -> None:  # noqa: FBT001
    async with Sandbox(long_edge=32) as box:
        box.script(Fault(stall=float("inf"), charged=charged))
        call = asyncio.create_task(post(box))
        ready = await asyncio.to_thread(
            box.ledger.wait, lambda ledger: ledger.in_flight == 1 and ledger.charged_images == int(charged)
        )
        call.cancel()
        assert ready
        assert await asyncio.to_thread(box.ledger.wait, lambda ledger: ledger.in_flight == 0)
        (request,) = box.ledger.requests
    assert (request.status, request.delivered, request.charged_images) == (None, False, int(charged))


async def test_a_slow_answer_arrives_whole() -> None:
    async with Sandbox(long_edge=32) as box:
        quick = await post(box)
        box.script(Fault(slow=len(quick.body) * 10))
        slow = await post(box)
        request = box.ledger.requests[1]
    assert slow.body == quick.body
    assert request.ended is not None
    assert request.ended - request.started >= 0.05


async def test_a_share_of_calls_meets_faults_the_same_for_the_same_seed() -> None:
    async def statuses() -> list[int]:
        faults = [Fault(status=503), Fault(status=429)]
        async with Sandbox(long_edge=16, fault_rate=0.5, faults=faults, seed=3) as box:
            return [(await post(box)).status for _ in range(20)]

    first = await statuses()
    assert set(first) == {200, 429, 503}
    assert first == await statuses()


async def test_scripted_entries_go_before_drawn_faults() -> None:
    async with Sandbox(long_edge=16, fault_rate=1.0, faults=[Fault(status=503)]) as box:
        box.script(None)
        assert [(await post(box)).status for _ in range(2)] == [200, 503]
        box.fault_rate = 0.0
        assert (await post(box)).status == 200


async def test_calls_beyond_the_capacity_are_refused_and_leave_no_trace_in_the_width() -> None:
    async with Sandbox(long_edge=16, capacity=2) as box:
        box.script(Fault(stall=float("inf")), Fault(stall=float("inf")))
        held = [asyncio.create_task(post(box)) for _ in range(2)]
        assert await asyncio.to_thread(box.ledger.wait, lambda ledger: ledger.in_flight == 2)
        assert (await post(box)).status == 503
        box.capacity = 3
        assert (await post(box)).status == 200
        assert box.ledger.widest == 3
        for call in held:
            call.cancel()


async def test_a_chunked_body_may_be_reset_too() -> None:
    async with Sandbox() as box:
        box.script(Fault(reset="during"))

        async def pieces() -> Any:
            yield b'{"image": "'
            await asyncio.Event().wait()

        with pytest.raises(aiohttp.ClientConnectionError):
            await send("POST", f"{box.url}/enhance", data=pieces(), headers={"X-API-Key": "key"})
        assert box.ledger.requests[0].transfer_encoding == "chunked"


async def test_a_client_that_leaves_in_the_middle_of_its_body_is_let_go() -> None:
    async with Sandbox() as box:
        url = URL(box.url)
        _, writer = await asyncio.open_connection(url.host, url.port)
        writer.write(f"POST {url.path}/enhance HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n{{".encode())
        assert await asyncio.to_thread(box.ledger.wait, lambda ledger: ledger.in_flight == 1)
        writer.close()
        await writer.wait_closed()
        assert await asyncio.to_thread(box.ledger.wait, lambda ledger: ledger.in_flight == 0)
        assert box.ledger.requests[0].status is None


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("status", 99),
        ("status", 600),
        ("status", "503"),
        ("reset", "later"),
        ("cut", -1),
        ("cut", 1.5),
        ("stall", -0.1),
        ("slow", 0),
        ("slow", float("inf")),
    ],
)
def test_a_fault_that_cannot_be_is_refused_by_name(field: str, value: object) -> None:
    options: dict[str, Any] = {field: value}
    with pytest.raises(ValueError, match=f"^{field} must be"):
        Fault(**options)


def test_faults_are_values() -> None:
    headers = {"A": "1"}
    fault = Fault(status=503, headers=headers)
    headers["A"] = "2"
    assert fault == Fault(status=503, headers={"A": "1"})
    assert len({fault, Fault(status=503, headers={"A": "1"})}) == 1
