"""Answers that are no success: the class of the tree, its facts, and how many requests they lead to."""

from __future__ import annotations

import asyncio
import gzip
import json
import pickle
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from raw_server import GOOD, KEY, PHOTO, RawServer, Wire, answer, answering, chain, client

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
    PhotaError,
    ProfileNotFoundError,
    ProfileNotReadyError,
    RateLimitedError,
    ResponseFormatError,
    RetryPolicy,
    ServerError,
    ServiceUnavailableError,
    UnprocessableError,
    ValidationIssue,
)

ATTEMPTS = 3
RETRY = RetryPolicy(initial_wait=0, max_attempts=ATTEMPTS)


async def refused(data: bytes, *, retry: RetryPolicy = RETRY) -> tuple[APIError, int]:
    """Call against a server that always answers so; return the error and the number of requests."""
    async with RawServer(answering(data)) as server, client(server, retry=retry) as phota:
        with pytest.raises(APIError) as caught:
            await phota.enhance(PHOTO, timeout=20)
        assert server.connections == len(server.requests)
        return caught.value, len(server.requests)


def check(error: APIError, requests: int) -> None:
    """What holds of every such error."""
    assert error.attempts == requests
    line = str(error)
    assert str(error.status) in line
    assert line.isprintable()
    assert len(line) < 1000
    line.encode()
    assert KEY not in line + repr(error) + repr(error.__dict__)
    assert not any(type(one).__module__.startswith("aiohttp") for one in chain(error))
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301  (made in the line itself)
    assert type(copy) is type(error)
    assert copy.__dict__ == error.__dict__
    assert str(copy) == line


def told(code: str | None, detail: Any = "the reason", **more: Any) -> bytes:
    return json.dumps({"detail": detail, "request_id": "req-body", **({"code": code} if code else {}), **more}).encode()


TREE: list[tuple[int, str | None, type[APIError], bool, bool]] = [
    # status, code, class, retried, maybe charged
    (400, None, BadRequestError, False, False),
    (400, "INVALID_REQUEST", InvalidRequestError, False, False),
    (400, "CONTENT_MODERATION", ContentModerationError, False, False),
    (400, "SOMETHING_NEW", BadRequestError, False, False),
    (401, None, AuthenticationError, False, False),
    (402, None, InsufficientCreditsError, False, False),
    (403, None, AuthenticationError, False, False),
    (404, None, NotFoundError, False, False),
    (404, "NOT_FOUND", NotFoundError, False, False),
    (404, "PROFILE_NOT_FOUND", ProfileNotFoundError, False, False),
    (404, "PROFILE_NOT_READY", ProfileNotReadyError, False, False),
    (404, "CONTENT_MODERATION", NotFoundError, False, False),
    (405, None, APIError, False, False),
    (408, None, APIError, False, False),
    (413, None, APIError, False, False),
    (418, None, APIError, False, False),
    (422, None, UnprocessableError, False, False),
    (429, None, RateLimitedError, True, False),
    (499, None, APIError, False, False),
    (500, "INTERNAL_ERROR", InternalServerError, True, False),
    (501, None, ServerError, False, True),
    (502, None, GatewayError, False, True),
    (503, "SERVICE_UNAVAILABLE", ServiceUnavailableError, True, False),
    (504, None, GatewayError, False, True),
    (520, None, ServerError, False, True),
    (599, None, ServerError, False, True),
    (600, None, APIError, False, False),
    (999, None, APIError, False, False),
]


@pytest.mark.parametrize(("status", "code", "kind", "retried", "charged"), TREE)
async def test_a_status_is_told_by_its_class_and_facts(
    status: int,
    code: str | None,
    kind: type[APIError],
    *,
    retried: bool,
    charged: bool,
) -> None:
    error, requests = await refused(answer(told(code), status))
    check(error, requests)
    assert type(error) is kind
    assert (error.status, error.code, error.detail) == (status, code, "the reason")
    assert error.request_id == "req-body"
    assert error.body == told(code)
    assert error.retry_after is None
    assert error.maybe_charged is charged
    assert requests == (ATTEMPTS if retried else 1)
    assert (error.__cause__ is not None) is retried
    assert "the reason" in str(error)
    assert "req-body" in str(error)


def test_the_tree_is_the_contracts() -> None:
    assert issubclass(InvalidRequestError, BadRequestError)
    assert issubclass(ContentModerationError, BadRequestError)
    assert issubclass(ProfileNotFoundError, NotFoundError)
    assert issubclass(ProfileNotReadyError, NotFoundError)
    for kind in (InternalServerError, ServiceUnavailableError, GatewayError):
        assert issubclass(kind, ServerError)
    for child in (BadRequestError, AuthenticationError, InsufficientCreditsError, NotFoundError, UnprocessableError):
        assert child.__mro__[1] is APIError
    assert RateLimitedError.__mro__[1] is ServerError.__mro__[1] is APIError
    assert APIError.__mro__[1] is PhotaError


BODIES: dict[str, bytes] = {
    "empty": b"",
    "HTML": b"<html><h1>502 Bad Gateway</h1>\r\n</html>",
    "array": b"[1, 2]",
    "string": b'"no"',
    "number": b"17",
    "null": b"null",
    "no fields": b"{}",
    "null fields": b'{"detail": null, "code": null, "request_id": null}',
    "wrong types": b'{"detail": {"a": [1]}, "code": 5, "request_id": ["x"]}',
    "detail a list": b'{"detail": [1, null, {"loc": 5}]}',
    "detail in validation style": b'{"detail": [{"loc": ["body"], "msg": "m", "type": "t"}]}',
    "detail empty": b'{"detail": "", "code": ""}',
    "nested deep": b'{"detail":' * 30_000,
    "lists nested deep": b"[" * 60_000 + b"]" * 60_000,
    "huge": b'{"detail": "' + b"x" * 10_000_000 + b'"}',
    "huge HTML": b"<p>" * 3_000_000,
    "huge number": b'{"detail": ' + b"9" * 50_000 + b"}",
    "cut JSON": b'{"detail": "the rea',
    "binary": bytes(range(256)),
    "latin-1": '{"detail": "ä"}'.encode("latin-1"),
    "UTF-16": '{"detail": "ä"}'.encode("utf-16"),
    "lone surrogate": b'{"detail": "a\\ud800b"}',
    "control characters": b'{"detail": "a\\u001b[2J\\u0000\\r\\nb\\u202e"}',
    "long code": b'{"code": "' + b"C" * 30_000 + b'"}',
    "long request id": b'{"request_id": "' + b"r" * 30_000 + b'"}',
    "request id of two lines": b'{"request_id": "a\\nb\\u001b[2J"}',
    "code of two lines": b'{"code": "A\\nB"}',
    "duplicate members": b'{"detail": "first", "detail": "last"}',
}


@pytest.mark.parametrize("status", [400, 401, 404, 422, 502])
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
async def test_any_body_of_a_refusal_is_borne(body: bytes, status: int) -> None:
    error, requests = await refused(answer(body, status))
    check(error, requests)
    assert error.status == status
    assert requests == 1
    assert error.code is None or isinstance(error.code, str)
    assert error.detail is None or isinstance(error.detail, str)
    assert error.request_id is None or isinstance(error.request_id, str)
    assert len(error.body) <= 64 * 1024


@pytest.mark.parametrize("status", [401, 402, 500, 503, 504])
@pytest.mark.parametrize("length", [100, 10**9])
async def test_a_cut_body_of_a_refusal_is_still_a_refusal(status: int, length: int) -> None:
    error, requests = await refused(answer(told(None), status, {"X-Request-Id": "req-h"}, length=length + 100))
    check(error, requests)
    assert error.status == status
    assert error.detail == "the reason"
    assert error.request_id == "req-h"


@pytest.mark.parametrize("encoding", ["gzip", "br", "nonsense"])
async def test_a_compressed_refusal_is_a_refusal(encoding: str) -> None:
    error, requests = await refused(answer(gzip.compress(told(None)), 402, {"Content-Encoding": encoding}))
    check(error, requests)
    assert isinstance(error, InsufficientCreditsError)
    assert error.detail == ("the reason" if encoding == "gzip" else None)


async def test_a_compression_bomb_in_a_refusal_is_bounded() -> None:
    error, requests = await refused(answer(gzip.compress(b" " * 50_000_000), 503, {"Content-Encoding": "gzip"}))
    check(error, requests)
    assert len(error.body) <= 64 * 1024


async def test_the_rest_of_an_endless_refusal_is_not_waited_for() -> None:
    async def endless(wire: Wire) -> None:
        await wire.request()
        await wire.send(answer(b"x" * 200_000, 402, length=10**9))
        await wire.gone()

    async with RawServer(endless) as server, client(server) as phota:
        with pytest.raises(InsufficientCreditsError):
            await phota.enhance(PHOTO, timeout=5)
        await server.quiet()
        assert len(server.requests) == 1


async def test_a_refusal_in_chunks_is_read() -> None:
    data = b"HTTP/1.1 400 Bad Request\r\nTransfer-Encoding: chunked\r\n\r\n"
    data += b"".join(b"1\r\n%c\r\n" % byte for byte in told("CONTENT_MODERATION")) + b"0\r\n\r\n"
    error, _ = await refused(data)
    assert isinstance(error, ContentModerationError)
    assert error.detail == "the reason"


# ---- redirects


@pytest.mark.parametrize("status", [300, 301, 302, 303, 304, 305, 307, 308])
async def test_a_redirect_of_the_post_is_an_error_and_never_followed(status: int) -> None:
    async with RawServer(answering(GOOD)) as other:
        error, requests = await refused(answer(b"", status, {"Location": f"{other.url}/enhance"}))
        assert other.connections == 0
    check(error, requests)
    assert type(error) is APIError
    assert (error.status, requests) == (status, 1)
    assert not error.maybe_charged


# ---- 422


async def test_the_list_of_a_422_is_told_issue_by_issue() -> None:
    detail: list[dict[str, Any]] = [
        {"loc": ["body", "num_output_images"], "msg": "at most 4", "type": "less_than_equal", "input": 9, "ctx": {}},
        {"loc": ["body", "profile_ids", 0], "msg": "not a string", "type": "string_type"},
    ]
    error, requests = await refused(answer(json.dumps({"detail": detail}).encode(), 422))
    check(error, requests)
    assert isinstance(error, UnprocessableError)
    assert error.errors == (
        ValidationIssue(("body", "num_output_images"), "at most 4", "less_than_equal"),
        ValidationIssue(("body", "profile_ids", 0), "not a string", "string_type"),
    )
    assert "num_output_images" in str(error)
    assert error.request_id is None


@pytest.mark.parametrize("detail", ["a string", None, [], [1], [{"loc": "body", "msg": 1}], {"loc": []}])
async def test_any_other_detail_of_a_422_is_borne(detail: Any) -> None:
    error, requests = await refused(answer(json.dumps({"detail": detail}).encode(), 422))
    check(error, requests)
    assert isinstance(error, UnprocessableError)
    assert error.errors == ()


async def test_a_422_with_a_thousand_issues_prints_one_short_line() -> None:
    detail = [{"loc": ["body", "x" * 50, number], "msg": "wrong\n" * 5, "type": "t"} for number in range(300)]
    error, requests = await refused(answer(json.dumps({"detail": detail}).encode(), 422))
    check(error, requests)


# ---- request ids


async def test_the_request_id_of_the_header_comes_first() -> None:
    error, _ = await refused(answer(told(None), 402, {"X-Request-Id": "req-header"}))
    assert error.request_id == "req-header"


@pytest.mark.parametrize("value", ["x" * 5000, "a\tb", "ä", "\udcff"])
async def test_an_odd_request_id_is_borne(value: str) -> None:
    data = answer(told(None), 402).replace(
        b"\r\n\r\n", b"\r\nX-Request-Id: " + value.encode("utf-8", "surrogateescape") + b"\r\n\r\n", 1
    )
    error, requests = await refused(data)
    check(error, requests)


# ---- Retry-After


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7.0),
        ("0", 0.0),
        (" 5 ", 5.0),
        ("1.5", 1.5),
        ("-1", None),
        ("soon", None),
        ("", None),
        ("1e3", None),
        ("nan", None),
        ("inf", None),
        ("٣", None),
        ("9" * 400, None),
    ],
)
async def test_retry_after_is_read_in_seconds(value: str, seconds: float | None) -> None:
    error, requests = await refused(answer(b"{}", 402, {"Retry-After": value}))
    check(error, requests)
    assert error.retry_after == seconds


@pytest.mark.parametrize("seconds", [600, -600])
async def test_retry_after_is_read_as_a_date(seconds: int) -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)
    error, requests = await refused(answer(b"{}", 503, {"Retry-After": date}))
    assert error.retry_after is not None
    if seconds < 0:
        assert (error.retry_after, requests) == (0.0, ATTEMPTS)
    else:
        assert 590 < error.retry_after <= 600
        assert requests == 1


@pytest.mark.parametrize("value", ["Mon, 99 Foo 9999 99:99:99 GMT", "Fri, 31 Dec 9999 23:59:59 -2359", "0 0 0"])
async def test_a_date_that_is_none_is_borne(value: str) -> None:
    error, requests = await refused(answer(b"{}", 402, {"Retry-After": value}))
    check(error, requests)


async def test_a_huge_retry_after_is_raised_at_once_and_does_not_break_the_client() -> None:
    error, requests = await refused(answer(b"{}", 503, {"Retry-After": "9" * 18}))
    check(error, requests)
    assert requests == 1


# ---- policies


@pytest.mark.parametrize("status", [418, 404, 302])
async def test_other_statuses_are_retried_where_the_policy_names_them(status: int) -> None:
    retry = RetryPolicy(initial_wait=0, max_attempts=4, statuses=frozenset({status}))
    assert (await refused(answer(b"{}", status), retry=retry))[1] == 4
    assert (await refused(answer(b"{}", 503), retry=retry))[1] == 1


@pytest.mark.parametrize("status", [501, 502, 504, 520])
async def test_unknown_outcomes_are_repeated_where_the_policy_says_so(status: int) -> None:
    retry = RetryPolicy(initial_wait=0, max_attempts=4, retry_unknown=True)
    error, requests = await refused(answer(b"{}", status), retry=retry)
    assert requests == 4
    assert error.maybe_charged


async def test_a_format_error_is_never_bought_again_even_so() -> None:
    retry = RetryPolicy(initial_wait=0, retry_unknown=True)
    async with RawServer(answering(answer(b"{}"))) as server, client(server, retry=retry) as phota:
        with pytest.raises(ResponseFormatError):
            await phota.enhance(PHOTO)
        assert len(server.requests) == 1


async def test_the_chain_of_failures_is_kept_in_order() -> None:
    scripts = [answering(answer(told(None, f"number {number}"), 503)) for number in range(3)]
    async with RawServer(*scripts) as server, client(server, retry=RETRY) as phota:
        with pytest.raises(ServiceUnavailableError) as caught:
            await phota.enhance(PHOTO)
        assert len(server.requests) == 3
    errors = [error for error in chain(caught.value) if isinstance(error, APIError)]
    assert [error.detail for error in errors] == ["number 2", "number 1", "number 0"]
    assert [error.attempts for error in errors] == [3, 2, 1]
    assert "after 3 attempts" in str(caught.value)


async def test_calls_at_the_same_time_do_not_mix_their_attempts() -> None:
    async def by_photo(wire: Wire) -> None:
        request = await wire.request()
        same = sum(other.photo == request.photo for other in wire.server.requests)
        wanted = len(request.photo) - len(PHOTO)
        await wire.send(GOOD if same > wanted else answer(b"{}", 500))

    async with RawServer(by_photo) as server, client(server) as phota:
        results = await asyncio.gather(*[phota.enhance(PHOTO + bytes(number)) for number in (0, 1, 2, 3, 4)])
        assert [result.attempts for result in results] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("kind", [PhotaError, ResponseFormatError])
def test_errors_without_an_answer_survive_pickling(kind: type[PhotaError]) -> None:
    error = kind("what happened")
    error.attempts, error.maybe_charged = 2, True
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301  (made in the line itself)
    assert (str(copy), copy.__dict__) == (str(error), error.__dict__)
