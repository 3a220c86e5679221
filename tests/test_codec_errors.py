"""Error answers of any shape, Retry-After in every spelling, and the converter that takes JSON at its word."""

import json
import math
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from attrs import frozen
from hypothesis import given, settings
from hypothesis import strategies as st

from phota_async.codec.converter import ShapeError, structure
from phota_async.codec.error_answer import MAX_BODY_BYTES, api_error, parse_retry_after
from phota_async.errors import (
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
    ServerError,
    ServiceUnavailableError,
    UnprocessableError,
    ValidationIssue,
)

FUZZ = settings(derandomize=True, deadline=None, max_examples=200)
NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)


def body(**fields: Any) -> bytes:
    return json.dumps(fields).encode()


# ---- error answers


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, None, BadRequestError),
        (400, "INVALID_REQUEST", InvalidRequestError),
        (400, "CONTENT_MODERATION", ContentModerationError),
        (400, "PROFILE_NOT_FOUND", BadRequestError),
        (401, None, AuthenticationError),
        (402, "INSUFFICIENT_CREDITS", InsufficientCreditsError),
        (403, None, AuthenticationError),
        (404, "NOT_FOUND", NotFoundError),
        (404, "PROFILE_NOT_FOUND", ProfileNotFoundError),
        (404, "PROFILE_NOT_READY", ProfileNotReadyError),
        (422, None, UnprocessableError),
        (429, None, RateLimitedError),
        (500, None, InternalServerError),
        (501, None, ServerError),
        (502, None, GatewayError),
        (503, None, ServiceUnavailableError),
        (504, None, GatewayError),
        (599, None, ServerError),
        (302, None, APIError),
        (418, "TEAPOT", APIError),
        (600, None, APIError),
        (999, None, APIError),
    ],
)
def test_status_and_code_choose_the_class(status: int, code: str | None, kind: type[APIError]) -> None:
    error = api_error(status, body(detail="what it says", code=code), request_id="r-1")
    assert type(error) is kind
    assert (error.status, error.code, error.detail, error.request_id) == (status, code, "what it says", "r-1")
    assert error.body == body(detail="what it says", code=code)


def test_the_request_id_of_the_header_goes_before_that_of_the_body() -> None:
    assert api_error(500, body(request_id="b"), request_id="h").request_id == "h"
    assert api_error(500, body(request_id="b"), request_id=None).request_id == "b"
    assert api_error(500, body(request_id=7), request_id=None).request_id is None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<html>Bad Gateway</html>",
        b"null",
        b"[]",
        b'"x"',
        b"1",
        b"{",
        b"\xff\xfe\x00",
        b"\x00",
        b"{}",
        b"NaN",
        b"[" * 60_000,
        b'{"detail":' * 20_000,
        b'{"detail":' + b"9" * 5000 + b"}",
        b'{"detail":"\\ud800"}',
        b'{"detail":null,"code":1,"request_id":[]}',
        b'{"code":{"a":1}}',
        '{"detail":"x"}'.encode("utf-16"),
    ],
)
@pytest.mark.parametrize("status", [302, 400, 422, 500, 502])
def test_a_body_of_any_shape_is_an_error_of_that_status(data: bytes, status: int) -> None:
    error = api_error(status, data, request_id=None)
    assert error.status == status
    assert error.code is None
    assert "\n" not in str(error)


@FUZZ
@given(st.integers(300, 599), st.binary(max_size=80), st.lists(st.text(max_size=20)))
def test_arbitrary_bytes_and_headers_never_raise(status: int, data: bytes, retry_after: list[str]) -> None:
    error = api_error(status, data, request_id=None, retry_after=retry_after)
    assert error.status == status
    assert error.retry_after is None or math.isfinite(error.retry_after)


SHAPES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.fixed_dictionaries(
            {}, optional={"loc": inner, "msg": inner, "type": inner, "detail": inner, "code": inner}
        )
    ),
    max_leaves=8,
)


@FUZZ
@given(SHAPES, SHAPES, st.sampled_from([400, 404, 422, 500]))
def test_json_of_any_shape_never_raises(detail: Any, code: Any, status: int) -> None:
    error = api_error(status, body(detail=detail, code=code), request_id=None)
    assert error.detail is None or isinstance(error.detail, str)
    assert error.code is None or isinstance(error.code, str)
    assert len(str(error).splitlines()) == 1


def test_what_a_422_complains_about_is_told() -> None:
    detail: list[dict[str, Any]] = [
        {"loc": ["body", "num_output_images"], "msg": "too many", "type": "less_than_equal", "input": 9, "ctx": {}},
        {"loc": ["body", "profile_ids", 0], "msg": "no string", "type": "string_type"},
        {"msg": "bare"},
    ]
    error = api_error(422, body(detail=detail, code="INVALID"), request_id=None, retry_after=["5"])
    assert isinstance(error, UnprocessableError)
    assert (error.code, error.retry_after) == ("INVALID", 5.0)
    assert error.errors == (
        ValidationIssue(("body", "num_output_images"), "too many", "less_than_equal"),
        ValidationIssue(("body", "profile_ids", 0), "no string", "string_type"),
        ValidationIssue((), "bare", ""),
    )
    assert error.detail == "body.num_output_images: too many; body.profile_ids.0: no string; : bare"
    assert "body.num_output_images: too many" in str(error)


@pytest.mark.parametrize(
    "detail",
    [
        None,
        [],
        {},
        7,
        ["x"],
        [{}],
        [{"msg": 1}],
        [{"msg": "m", "loc": "body"}],
        [{"msg": "m", "loc": [1.5]}],
        [{"msg": "m", "loc": [True]}],
        [{"msg": "m", "type": None}],
        {"msg": "m"},
    ],
)
def test_a_422_of_another_shape_has_no_issues(detail: Any) -> None:
    error = api_error(422, body(detail=detail), request_id=None)
    assert isinstance(error, UnprocessableError)
    assert (error.errors, error.detail) == ((), None)


def test_a_422_in_plain_words_keeps_them() -> None:
    error = api_error(422, body(detail="the photo is too small"), request_id=None)
    assert isinstance(error, UnprocessableError)
    assert (error.errors, error.detail) == ((), "the photo is too small")


def test_no_more_of_a_body_is_parsed_than_its_bound() -> None:
    long = body(detail="d", filler="x" * MAX_BODY_BYTES)
    assert api_error(400, long, request_id=None).detail is None


@pytest.mark.parametrize("field", ["detail", "code", "request_id"])
def test_the_line_stays_short_and_printable_whatever_the_body_says(field: str) -> None:
    error = api_error(400, body(**{field: "a\x1b[2J\x00\n" + "x" * 50_000}), request_id=None)
    assert len(str(error)) < 1000
    assert str(error).isprintable()


# ---- Retry-After


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0),
        ("7", 7.0),
        (" 7 ", 7.0),
        ("007", 7.0),
        ("1.5", 1.5),
        ("1.", 1.0),
        ("86400", 86400.0),
        ("9" * 18, float("9" * 18)),
        (format_datetime(NOW + timedelta(seconds=90), usegmt=True), 90.0),
        ("Sun, 01 Mar 2026 12:00:05 GMT", 5.0),
        ("Sunday, 01-Mar-26 12:00:05 GMT", 5.0),
        ("Sun Mar  1 12:00:05 2026", 5.0),
        ("Sun, 01 Mar 2026 13:00:05 +0100", 5.0),
        ("Sun, 01 Mar 2026 12:00:05 -0000", 5.0),
        (format_datetime(NOW - timedelta(days=1), usegmt=True), 0.0),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
    ],
)
def test_seconds_fractions_and_dates_are_understood(value: str, seconds: float) -> None:
    assert parse_retry_after(value, now=NOW) == seconds


@pytest.mark.parametrize(
    "value",
    [
        "",
        " ",
        "-1",
        "-0.5",
        "nan",
        "inf",
        "-inf",
        "Infinity",
        "1e3",
        "1_0",
        "+5",
        "0x10",
        "soon",
        "5 s",
        "5, 6",
        "٣",
        ".5",
        "1.2.3",
        "Sun, 99 Mar 2026 12:00:05 GMT",
        "Sun, 01 Mar 2026 99:99:99 GMT",
        "Mar",
        "01 Mar",
        ":::",
        "\x00",
        "Sun, 01 Mar 2026 12:00:05 +99999999999",
        "Sun, 01 Mar 99999999999 12:00:05 GMT",
        "9" * 5000,
    ],
)
def test_what_says_nothing_usable_is_none(value: str) -> None:
    assert parse_retry_after(value, now=NOW) is None


DATE_LIKE = st.lists(
    st.sampled_from(
        ["Sun,", "01", "Mar", "2026", "12:00:05", "GMT", "+0100", "-9999", "99", "12:", ":", "0", "-", "AM"]
    )
    | st.text("0123456789:+- ,.()", max_size=8)
).map(" ".join)


@FUZZ
@given(st.text() | DATE_LIKE)
def test_any_value_gives_finite_seconds_from_0_or_none(value: str) -> None:
    seconds = parse_retry_after(value, now=NOW)
    assert seconds is None or (seconds >= 0 and math.isfinite(seconds))


@pytest.mark.parametrize(
    ("values", "seconds"), [([], None), (["5"], 5.0), (["5", "7"], 7.0), (["x", "3"], 3.0), (["x", ""], None)]
)
def test_of_several_headers_the_longest_usable_counts(values: list[str], seconds: float | None) -> None:
    assert api_error(429, b"", request_id=None, retry_after=values, now=NOW).retry_after == seconds


def test_a_date_is_compared_with_the_present_unless_told_otherwise() -> None:
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=1000), usegmt=True)
    wait = api_error(503, b"", request_id=None, retry_after=[soon]).retry_after
    assert wait is not None
    assert 900 < wait <= 1000


# ---- the converter


@frozen
class Shape:
    name: str
    numbers: list[int]
    counts: dict[str, int] | None = None


def test_json_of_the_right_shape_is_structured_and_unknown_keys_are_ignored() -> None:
    value: dict[str, Any] = {"name": "n", "numbers": [1, 2], "counts": {"a": 1}, "more": [{}]}
    assert structure(value, Shape) == Shape("n", [1, 2], {"a": 1})
    assert structure({"name": "n", "numbers": []}, Shape) == Shape("n", [])


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ({"name": 1, "numbers": []}, r"expected a string, got an integer @ \$\.name"),
        ({"name": None, "numbers": []}, r"expected a string, got null @ \$\.name"),
        ({"name": "n", "numbers": [1, True]}, r"expected an integer, got true or false @ \$\.numbers\[1\]"),
        ({"name": "n", "numbers": [1.7]}, r"expected an integer, got a number with a fraction @ \$\.numbers\[0\]"),
        ({"name": "n", "numbers": ["1"]}, r"expected an integer, got a string @ \$\.numbers\[0\]"),
        ({"name": "n", "numbers": "12"}, r"expected a list, got a string @ \$\.numbers"),
        ({"name": "n", "numbers": {}}, r"expected a list, got an object @ \$\.numbers"),
        ({"name": "n", "numbers": [], "counts": []}, r"expected an object, got a list @ \$\.counts"),
        ({"name": "n", "numbers": [], "counts": {"a": None}}, r"expected an integer, got null @ \$\.counts\['a'\]"),
        ([], r"expected an object, got a list @ \$"),
        ("n", r"expected an object, got a string @ \$"),
        ({"numbers": []}, "name"),
    ],
)
def test_another_shape_is_refused_with_its_path_and_nothing_is_coerced(value: Any, told: str) -> None:
    with pytest.raises(ShapeError, match=told) as caught:
        structure(value, Shape)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_several_faults_are_told_together() -> None:
    with pytest.raises(ShapeError, match=r"\$\.name.*; .*\$\.numbers"):
        structure({"name": 1, "numbers": 2}, Shape)


def test_a_list_of_words_and_numbers_takes_both_and_nothing_else() -> None:
    assert structure([1, "a"], list[str | int]) == [1, "a"]
    with pytest.raises(ShapeError, match="expected a string or an integer, got true or false"):
        structure([True], list[str | int])
