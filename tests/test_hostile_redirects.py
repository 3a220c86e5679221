"""Redirects of the POST, of every kind and to every place: never followed, never charged, the key goes nowhere."""

from __future__ import annotations

import pytest
from hostile import Case, run
from raw_server import GOOD, IMAGE, KEY, RawServer, Script, Wire, answer, answering, good_body

from phota_async import APIError, RetryPolicy

STATUSES = [300, 301, 302, 303, 304, 305, 306, 307, 308, 399]
WITH_BODY = [status for status in STATUSES if status != 304]  # which has none; what follows it is another matter

# What the header says; {same} is the server itself, {other} another one.
PLACES: dict[str, list[str]] = {
    "the same place": ["http://{same}/enhance"],
    "the same origin": ["http://{same}/elsewhere"],
    "a path": ["/enhance"],
    "a relative path": ["enhance"],
    "the same host without a scheme": ["//{same}/enhance"],
    "another origin": ["http://{other}/enhance"],
    "another origin without a scheme": ["//{other}/enhance"],
    "another origin with a user": ["http://user:word@{other}/enhance"],
    "https": ["https://{other}/enhance"],
    "another name of this host": ["http://localhost:{port}/enhance"],
    "a link-local address": ["http://169.254.169.254/latest/meta-data/"],
    "no address": ["http:///enhance"],
    "a port that is none": ["http://127.0.0.1:99999/"],
    "brackets": ["http://[::1/"],
    "a file": ["file:///etc/passwd"],
    "a script": ["javascript:alert(1)"],
    "a data: URI": ["data:application/json,{{}}"],
    "nothing": [""],
    "no header": [],
    "two": ["http://{same}/a", "http://{other}/b"],
    "long": ["http://{other}/" + "a" * 7000],
    "not ASCII": ["http://{other}/ä\udcff"],
    "the key": ["http://{other}/?key=" + KEY],
}


def served(status: int, lines: list[str], body: bytes) -> bytes:
    fields = "".join(f"Location: {line}\r\n" for line in lines)
    head, rest = answer(body, status).split(b"\r\n", 1)
    return head + b"\r\n" + fields.encode("utf-8", "surrogateescape") + rest


def redirecting(status: int, lines: list[str], body: bytes, other: RawServer) -> Script:
    async def script(wire: Wire) -> None:
        await wire.request()
        own, others = wire.server.port, other.port
        hosts = {"same": f"127.0.0.1:{own}", "other": f"127.0.0.1:{others}", "port": str(others)}
        await wire.send(served(status, [line.format_map(hosts) for line in lines], body))

    return script


async def check(case: Case, status: int, other: RawServer, caplog: pytest.LogCaptureFixture) -> None:
    error = await run(case, caplog)
    assert isinstance(error, APIError)
    assert error.status == status
    assert other.connections == 0


@pytest.mark.parametrize(
    ("status", "place"),
    [
        *((status, place) for status in STATUSES for place in ("the same place", "another origin", "no header")),
        *(
            (status, place)
            for status in (301, 307)
            for place in PLACES
            if place not in {"the same place", "another origin", "no header"}
        ),
    ],
)
async def test_a_redirect_of_the_post_is_an_error_and_never_followed(
    status: int, place: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with RawServer(answering(GOOD)) as other:
        serve = redirecting(status, PLACES[place], b"", other)
        await check(Case(serve=serve, ends=APIError, charges=0, says=str(status)), status, other, caplog)


@pytest.mark.parametrize("status", WITH_BODY)
@pytest.mark.parametrize("body", [good_body(), b"<a href=x>", b"\x00" * 100], ids=["images", "HTML", "zeros"])
async def test_no_body_makes_a_redirect_a_success(status: int, body: bytes, caplog: pytest.LogCaptureFixture) -> None:
    async with RawServer(answering(GOOD)) as other:
        serve = redirecting(status, PLACES["another origin"], body, other)
        await check(Case(serve=serve, ends=APIError, charges=0, says=str(status)), status, other, caplog)


@pytest.mark.parametrize("status", [302, 307])
@pytest.mark.parametrize("place", ["the same place", "another origin"])
async def test_a_policy_that_names_a_redirect_repeats_the_post_where_it_was(
    status: int, place: str, caplog: pytest.LogCaptureFixture
) -> None:
    retry = RetryPolicy(initial_wait=0, max_attempts=3, statuses=frozenset({status}))
    async with RawServer(answering(GOOD)) as other:
        serve = redirecting(status, PLACES[place], b"", other)
        case = Case(serve=serve, ends=APIError, requests=3, charges=0, options={"retry": retry})
        await check(case, status, other, caplog)


async def test_a_success_that_names_another_place_is_a_success(caplog: pytest.LogCaptureFixture) -> None:
    async with RawServer(answering(GOOD)) as other:
        await run(Case(serve=redirecting(200, PLACES["another origin"], good_body(), other), ends=IMAGE), caplog)
        assert other.connections == 0
