"""Retry-After in every shape: what it is taken for, whether the call is made again, and that the client lives on."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from email.utils import format_datetime

import pytest
from hostile import Case, run
from raw_server import GOOD, IMAGE, answer, answering, good_body

from phota_async import (
    APIError,
    GatewayError,
    InsufficientCreditsError,
    InternalServerError,
    RateLimitedError,
    RetryPolicy,
    ServiceUnavailableError,
)

BOUND = 0.02  # seconds: a longer pause than this is raised at once, so none of these cases takes long
ATTEMPTS = 3
OPTIONS = {"retry": RetryPolicy(initial_wait=0, max_attempts=ATTEMPTS, max_retry_after=BOUND)}

RETRIED: dict[int, type[APIError]] = {
    429: RateLimitedError,
    500: InternalServerError,
    503: ServiceUnavailableError,
}
FINAL: dict[int, tuple[type[APIError], int]] = {402: (InsufficientCreditsError, 0), 502: (GatewayError, 1)}

# The header's lines, and the seconds that they are taken for; None for those that say nothing.
SHAPES: dict[str, tuple[list[str], float | None]] = {
    "seconds": (["7"], 7.0),
    "zero": (["0"], 0.0),
    "zeros in front": (["007"], 7.0),
    "space around": ([" \t5 "], 5.0),
    "a fraction": (["1.5"], 1.5),
    "a fraction within the bound": (["0.01"], 0.01),
    "a point and no fraction": (["3."], 3.0),
    "a fraction alone": ([".5"], None),
    "a comma": (["1,5"], None),
    "huge": (["9" * 18], float("9" * 18)),
    "beyond all clocks": (["9" * 400], None),
    "a long fraction": (["1." + "3" * 400], None),
    "negative": (["-1"], None),
    "negative zero": (["-0"], None),
    "a plus": (["+5"], None),
    "nan": (["nan"], None),
    "inf": (["inf"], None),
    "minus infinity": (["-Infinity"], None),
    "an exponent": (["1e3"], None),
    "hexadecimal": (["0x10"], None),
    "an underscore": (["1_000"], None),
    "other digits": (["٣"], None),
    "a superscript": (["²"], None),
    "a unit": (["5s"], None),
    "words": (["soon"], None),
    "a parameter": (["60;q=1"], None),
    "two in a line": (["60, 120"], None),
    "three numbers": (["0 0 0"], None),
    "empty": ([""], None),
    "long": (["x" * 5000], None),
    "bytes": (["\udcff\udcfe"], None),
    "true": (["true"], None),
    "null": (["null"], None),
    "a past date": (["Sun, 06 Nov 1994 08:49:37 GMT"], 0.0),
    "a past date of RFC 850": (["Sunday, 06-Nov-94 08:49:37 GMT"], 0.0),
    "a past date of asctime": (["Sun Nov  6 08:49:37 1994"], 0.0),
    "a past date with an offset": (["Sun, 06 Nov 1994 08:49:37 +0200"], 0.0),
    "a date of 1970": (["Thu, 01 Jan 1970 00:00:00 GMT"], 0.0),
    "a date that is none": (["Mon, 99 Foo 9999 99:99:99 GMT"], None),
    "a date of ISO 8601": (["1994-11-06T08:49:37Z"], None),
    "the longest of several": (["3", "9", "4"], 9.0),
    "several, one of them usable": (["soon", "6", "-1", ""], 6.0),
    "several, none usable": (["soon", "-1"], None),
    "seconds and a past date": (["0.01", "Sun, 06 Nov 1994 08:49:37 GMT"], 0.01),
}


def served(status: int, lines: list[str], body: bytes = b"{}") -> bytes:
    fields = "".join(f"Retry-After: {line}\r\n" for line in lines)
    head, rest = answer(body, status).split(b"\r\n", 1)
    return head + b"\r\n" + fields.encode("utf-8", "surrogateescape") + rest


def waited_for(seconds: float | None) -> bool:
    return seconds is None or seconds <= BOUND


@pytest.mark.parametrize(("lines", "seconds"), SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("status", RETRIED)
async def test_a_refusal_is_tried_again_unless_it_asks_for_too_long_a_pause(
    status: int, lines: list[str], seconds: float | None, caplog: pytest.LogCaptureFixture
) -> None:
    case = Case(
        serve=answering(served(status, lines)),
        ends=RETRIED[status],
        requests=ATTEMPTS if waited_for(seconds) else 1,
        charges=0,
        options=OPTIONS,
    )
    error = await run(case, caplog)
    assert isinstance(error, APIError)
    assert error.retry_after == seconds


@pytest.mark.parametrize(("lines", "seconds"), SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("status", FINAL)
async def test_it_is_told_with_an_answer_that_is_not_tried_again(
    status: int, lines: list[str], seconds: float | None, caplog: pytest.LogCaptureFixture
) -> None:
    ends, charges = FINAL[status]
    error = await run(Case(serve=answering(served(status, lines)), ends=ends, charges=charges, options=OPTIONS), caplog)
    assert isinstance(error, APIError)
    assert error.retry_after == seconds


@pytest.mark.parametrize("shape", ["seconds", "huge", "nan", "several, none usable"])
async def test_a_success_that_asks_for_a_pause_is_a_success(shape: str, caplog: pytest.LogCaptureFixture) -> None:
    await run(Case(serve=answering(served(200, SHAPES[shape][0], good_body())), ends=IMAGE, options=OPTIONS), caplog)


@pytest.mark.parametrize("status", RETRIED)
@pytest.mark.parametrize(
    ("seconds", "offset"), [(600, UTC), (600, timezone(timedelta(hours=-9))), (10**11, UTC)], ids=["UTC", "far", "huge"]
)
async def test_a_pause_until_a_date_is_counted_from_now(
    status: int, seconds: int, offset: timezone, caplog: pytest.LogCaptureFixture
) -> None:
    date = format_datetime((datetime.now(UTC) + timedelta(seconds=seconds)).astimezone(offset))
    case = Case(serve=answering(served(status, [date])), ends=RETRIED[status], charges=0, options=OPTIONS)
    error = await run(case, caplog)
    assert isinstance(error, APIError)
    assert error.retry_after is not None
    assert seconds - 100 < error.retry_after <= seconds


@pytest.mark.parametrize("date", ["Fri, 31 Dec 9999 23:59:59 GMT", "Fri, 31 Dec 9999 23:59:59 -2359"])
async def test_a_date_at_the_end_of_the_calendar_is_a_long_pause(date: str, caplog: pytest.LogCaptureFixture) -> None:
    case = Case(serve=answering(served(503, [date])), ends=ServiceUnavailableError, charges=0, options=OPTIONS)
    error = await run(case, caplog)
    assert isinstance(error, APIError)
    assert (error.retry_after or 0) > 10**9


@pytest.mark.parametrize("status", RETRIED)
async def test_a_short_pause_is_waited_out_and_the_call_made_again(
    status: int, caplog: pytest.LogCaptureFixture
) -> None:
    scripts = [answering(served(status, ["0.01"])), answering(GOOD)]
    await run(Case(serve=scripts, ends=IMAGE, requests=2, charges=1, options=OPTIONS), caplog)
