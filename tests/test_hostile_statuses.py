"""Every status of the tree with every kind of body: its class, its facts, how many requests, and what is charged."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from typing import Any

import pytest
from attrs import evolve
from hostile import Case, run
from raw_server import KEY, Wire, answer, answering, encoded

from phota_async import (
    APIError,
    AuthenticationError,
    BadRequestError,
    ContentModerationError,
    GatewayError,
    InsufficientCreditsError,
    InternalServerError,
    InvalidRequestError,
    NotFoundError,
    ProfileNotFoundError,
    ProfileNotReadyError,
    RateLimitedError,
    RetryPolicy,
    ServerError,
    ServiceUnavailableError,
    UnprocessableError,
    ValidationIssue,
)

ATTEMPTS = 2
RETRY = RetryPolicy(initial_wait=0, max_attempts=ATTEMPTS)
RETRIED = {429, 500, 503}
MAX_BODY_BYTES = 64 * 1024

STATUSES: dict[int, type[APIError]] = {
    400: BadRequestError,
    401: AuthenticationError,
    402: InsufficientCreditsError,
    403: AuthenticationError,
    404: NotFoundError,
    405: APIError,
    408: APIError,
    409: APIError,
    413: APIError,
    415: APIError,
    418: APIError,
    421: APIError,
    422: UnprocessableError,
    425: APIError,
    429: RateLimitedError,
    431: APIError,
    451: APIError,
    499: APIError,
    500: InternalServerError,
    501: ServerError,
    502: GatewayError,
    503: ServiceUnavailableError,
    504: GatewayError,
    505: ServerError,
    507: ServerError,
    511: ServerError,
    520: ServerError,
    599: ServerError,
    600: APIError,
    999: APIError,
}

CODES: dict[tuple[int, str], type[APIError]] = {
    (400, "INVALID_REQUEST"): InvalidRequestError,
    (400, "CONTENT_MODERATION"): ContentModerationError,
    (400, "SOMETHING_NEW"): BadRequestError,
    (400, "content_moderation"): BadRequestError,
    (401, "CONTENT_MODERATION"): AuthenticationError,
    (404, "NOT_FOUND"): NotFoundError,
    (404, "PROFILE_NOT_FOUND"): ProfileNotFoundError,
    (404, "PROFILE_NOT_READY"): ProfileNotReadyError,
    (404, "CONTENT_MODERATION"): NotFoundError,
    (422, "PROFILE_NOT_READY"): UnprocessableError,
    (500, "INTERNAL_ERROR"): InternalServerError,
    (502, "CONTENT_MODERATION"): GatewayError,
    (503, "SERVICE_UNAVAILABLE"): ServiceUnavailableError,
}


def told(code: str | None = None, detail: Any = "the reason") -> bytes:
    return json.dumps({"detail": detail, "request_id": "req-body", **({"code": code} if code else {})}).encode()


def bomb(data: bytes) -> tuple[bytes, Mapping[str, str]]:
    return gzip.compress(data), {"Content-Encoding": "gzip"}


BODIES: dict[str, tuple[bytes, Mapping[str, str]]] = {
    "JSON": (told(), {}),
    "HTML": (b"<html><h1>502 Bad Gateway</h1>\r\n</html>", {"Content-Type": "text/html"}),
    "empty": (b"", {}),
    "an array": (b"[1, 2]", {}),
    "null fields": (b'{"detail": null, "code": null, "request_id": null}', {}),
    "huge": (b'{"detail": "' + b"x" * 4_000_000 + b'"}', {}),
    "a bomb of JSON": bomb(b'{"detail": "' + b"x" * 16_000_000 + b'"}'),
    "a bomb of space": bomb(b" " * 16_000_000),
    "a success": (b'{"images": ["%s"]}' % encoded(b"image").encode(), {}),
}

ODD_BODIES: dict[str, bytes] = {
    "string": b'"no"',
    "number": b"17",
    "null": b"null",
    "no fields": b"{}",
    "wrong types": b'{"detail": {"a": [1]}, "code": 5, "request_id": ["x"]}',
    "detail a list": b'{"detail": [1, null, {"loc": 5}]}',
    "detail in validation style": b'{"detail": [{"loc": ["body"], "msg": "m", "type": "t"}]}',
    "detail empty": b'{"detail": "", "code": ""}',
    "nested deep": b'{"detail":' * 100_000 + b"1" + b"}" * 100_000,
    "lists nested deep": b"[" * 100_000 + b"]" * 100_000,
    "lists nested within the bound": b"[" * 30_000 + b"]" * 30_000,
    "huge HTML": b"<p>" * 3_000_000,
    "huge number": b'{"detail": ' + b"9" * 50_000 + b"}",
    "cut JSON": b'{"detail": "the rea',
    "binary": bytes(range(256)),
    "zeros": bytes(1000),
    "latin-1": '{"detail": "ä"}'.encode("latin-1"),
    "UTF-16": '{"detail": "ä"}'.encode("utf-16"),
    "a byte order mark": b"\xef\xbb\xbf" + told(),
    "lone surrogate": b'{"detail": "a\\ud800b", "code": "\\udfff", "request_id": "\\ud800"}',
    "control characters": b'{"detail": "a\\u001b[2J\\u0000\\r\\nb\\u202e"}',
    "long code": b'{"code": "' + b"C" * 30_000 + b'"}',
    "long request id": b'{"request_id": "' + b"r" * 30_000 + b'"}',
    "request id of two lines": b'{"request_id": "a\\nb\\u001b[2J"}',
    "code of two lines": b'{"code": "A\\nB"}',
    "duplicate members": b'{"detail": "first", "detail": "last"}',
    "the key": json.dumps({"detail": f"no {KEY}", "code": KEY, "request_id": KEY, KEY: KEY}).encode(),
}


def refusal(status: int, data: bytes, says: str = "") -> Case:
    """The case of a server that always answers so."""
    refused = 300 <= status < 500 or status in RETRIED
    return Case(
        serve=answering(data),
        ends=STATUSES[status],
        requests=ATTEMPTS if status in RETRIED else 1,
        charges=0 if refused else 1,
        options={"retry": RETRY},
        says=says or str(status),
    )


async def met(case: Case, caplog: pytest.LogCaptureFixture) -> APIError:
    """Run a case that ends in an answer's error, and check what holds of every such error."""
    error = await run(case, caplog)
    assert isinstance(error, APIError)
    assert len(error.body) <= MAX_BODY_BYTES
    for fact in (error.code, error.detail, error.request_id):
        assert fact is None or isinstance(fact, str)
    assert isinstance(error.__cause__, APIError) == (case.requests > 1)
    return error


@pytest.mark.parametrize(("body", "headers"), BODIES.values(), ids=BODIES)
@pytest.mark.parametrize("status", STATUSES)
async def test_a_status_is_told_by_its_class_whatever_its_body(
    status: int, body: bytes, headers: Mapping[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    error = await met(refusal(status, answer(body, status, headers)), caplog)
    assert (error.status, error.code, error.retry_after) == (status, None, None)
    if body == told():
        assert (error.detail, error.request_id, error.body) == ("the reason", "req-body", body)
        assert "the reason" in str(error)
        assert "req-body" in str(error)


@pytest.mark.parametrize(("status", "code"), CODES)
async def test_a_code_tells_the_kind_of_its_own_status_only(
    status: int, code: str, caplog: pytest.LogCaptureFixture
) -> None:
    case = evolve(refusal(status, answer(told(code), status)), ends=CODES[status, code])
    error = await met(case, caplog)
    assert (error.status, error.code, error.detail) == (status, code, "the reason")


@pytest.mark.parametrize("status", [400, 422, 502])
@pytest.mark.parametrize("body", ODD_BODIES.values(), ids=ODD_BODIES)
async def test_any_body_of_a_refusal_is_borne(body: bytes, status: int, caplog: pytest.LogCaptureFixture) -> None:
    error = await met(refusal(status, answer(body, status)), caplog)
    assert error.status == status


@pytest.mark.parametrize("status", [401, 402, 500, 502, 503, 504])
@pytest.mark.parametrize("missing", [1, 100, 10**9])
async def test_a_cut_body_of_a_refusal_is_still_a_refusal(
    status: int, missing: int, caplog: pytest.LogCaptureFixture
) -> None:
    cut = answer(told(), status, {"X-Request-Id": "req-h"}, length=len(told()) + missing)
    error = await met(refusal(status, cut), caplog)
    assert (error.detail, error.request_id) == ("the reason", "req-h")


@pytest.mark.parametrize("status", [402, 502, 503])
@pytest.mark.parametrize("encoding", ["gzip", "br", "nonsense", KEY])
async def test_a_compressed_refusal_is_a_refusal(status: int, encoding: str, caplog: pytest.LogCaptureFixture) -> None:
    data = answer(gzip.compress(told()), status, {"Content-Encoding": encoding})
    error = await met(refusal(status, data), caplog)
    assert error.detail == ("the reason" if encoding == "gzip" else None)


@pytest.mark.parametrize("status", [402, 502, 503])
async def test_the_rest_of_an_endless_refusal_is_not_waited_for(status: int, caplog: pytest.LogCaptureFixture) -> None:
    async def endless(wire: Wire) -> None:
        await wire.request()
        await wire.send(answer(b"x" * 200_000, status, length=10**9))
        await wire.gone()

    await met(evolve(refusal(status, b""), serve=endless), caplog)


async def test_a_refusal_in_chunks_is_read(caplog: pytest.LogCaptureFixture) -> None:
    data = b"HTTP/1.1 402 Payment Required\r\nTransfer-Encoding: chunked\r\n\r\n"
    data += b"".join(b"1\r\n%c\r\n" % byte for byte in told()) + b"0\r\n\r\n"
    assert (await met(refusal(402, data), caplog)).detail == "the reason"


# ---- 422


async def test_the_list_of_a_422_is_told_issue_by_issue(caplog: pytest.LogCaptureFixture) -> None:
    detail: list[dict[str, Any]] = [
        {"loc": ["body", "num_output_images"], "msg": "at most 4", "type": "less_than_equal", "input": 9, "ctx": {}},
        {"loc": ["body", "profile_ids", 0], "msg": "not a string", "type": "string_type"},
    ]
    data = answer(json.dumps({"detail": detail}).encode(), 422)
    error = await met(refusal(422, data, says="num_output_images"), caplog)
    assert isinstance(error, UnprocessableError)
    assert error.errors == (
        ValidationIssue(("body", "num_output_images"), "at most 4", "less_than_equal"),
        ValidationIssue(("body", "profile_ids", 0), "not a string", "string_type"),
    )
    assert error.request_id is None


@pytest.mark.parametrize("detail", ["a string", None, [], [1], [{"loc": "body", "msg": 1}], {"loc": []}])
async def test_any_other_detail_of_a_422_is_borne(detail: Any, caplog: pytest.LogCaptureFixture) -> None:
    error = await met(refusal(422, answer(json.dumps({"detail": detail}).encode(), 422)), caplog)
    assert isinstance(error, UnprocessableError)
    assert error.errors == ()


async def test_a_422_with_hundreds_of_issues_prints_one_short_line(caplog: pytest.LogCaptureFixture) -> None:
    detail = [{"loc": ["body", "x" * 50, number], "msg": "wrong\n" * 5, "type": "t"} for number in range(300)]
    error = await met(refusal(422, answer(json.dumps({"detail": detail}).encode(), 422)), caplog)
    assert isinstance(error, UnprocessableError)
    assert len(error.errors) == len(detail)


# ---- request ids


async def test_the_request_id_of_the_header_comes_first(caplog: pytest.LogCaptureFixture) -> None:
    error = await met(refusal(402, answer(told(), 402, {"X-Request-Id": "req-header"})), caplog)
    assert error.request_id == "req-header"


@pytest.mark.parametrize(
    ("value", "kept"),
    [("x" * 5000, "x" * 128), ("a\tb", "ab"), ("ä", "ä"), ("\udcff", "req-body"), (f"id-{KEY}", "id-***")],
    ids=["long", "tab", "not ASCII", "not UTF-8", "the key"],
)
async def test_an_odd_request_id_is_borne(value: str, kept: str, caplog: pytest.LogCaptureFixture) -> None:
    head, body = answer(told(), 402).split(b"\r\n\r\n", 1)
    line = b"X-Request-Id: " + value.encode("utf-8", "surrogateescape")
    error = await met(refusal(402, head + b"\r\n" + line + b"\r\n\r\n" + body), caplog)
    assert error.request_id == kept
