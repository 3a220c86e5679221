"""Retry-After in any spelling against `float`, the calendar and `email.utils`."""

from __future__ import annotations

import email.utils
import math
import re
from datetime import UTC, datetime

from phota_async.codec.error_answer import parse_retry_after

_NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
_SECONDS = re.compile(r"\s*([0-9]{1,18}(?:\.[0-9]{0,18})?)\s*")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
# RFC 9110, section 5.6.7, for years that email.utils does not take for short ones.
_DATE = re.compile(
    rf"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), ([0-9]{{2}}) ({'|'.join(_MONTHS)}) ([1-9][0-9]{{3}})"
    r" ([0-9]{2}):([0-9]{2}):([0-9]{2}) GMT"
)


def check(data: bytes) -> None:
    """Hold the parser against what is expected of one header."""
    value = data.decode(errors="surrogateescape")  # as aiohttp reads headers
    seconds = parse_retry_after(value, now=_NOW)
    assert seconds is None or (seconds >= 0 and math.isfinite(seconds))
    assert seconds == _expected(value)


def _expected(value: str) -> float | None:
    if plain := _SECONDS.fullmatch(value):
        return float(plain[1])
    if date := _DATE.fullmatch(value):
        return _until(date)
    try:
        when = email.utils.parsedate_to_datetime(value)
    except Exception:  # noqa: BLE001  (whatever it raises, the header says nothing usable)
        return None
    when = when if when.tzinfo else when.replace(tzinfo=UTC)
    return max(0.0, (when - _NOW).total_seconds())


def _until(date: re.Match[str]) -> float | None:
    day, year, hour, minute, second = map(int, date.group(1, 3, 4, 5, 6))
    try:
        when = datetime(year, _MONTHS.index(date[2]) + 1, day, hour, minute, second, tzinfo=UTC)
    except ValueError:
        return None
    return max(0.0, (when - _NOW).total_seconds())
