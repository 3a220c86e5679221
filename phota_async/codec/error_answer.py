"""An answer that is no success, as an error of the tree. Any body will do: JSON, HTML, nothing."""

from __future__ import annotations

import email.utils
import json
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, cast

from attrs import field, frozen

from phota_async.codec.shapes import ShapeError, structure
from phota_async.errors import APIError, UnprocessableError, ValidationIssue, error_class

MAX_BODY_BYTES = 64 * 1024
"""How much of an error's body is read."""

_SECONDS = re.compile(r"[0-9]{1,18}(?:\.[0-9]{0,18})?")


@frozen(eq=False)
class _Issue:
    msg: str
    loc: list[str | int] = field(factory=list[str | int])
    type: str = ""


def api_error(
    status: int,
    body: bytes,
    *,
    request_id: str | None,
    retry_after: Iterable[str] = (),
    now: datetime | None = None,
) -> APIError:
    """Return the error that an answer means.

    Args:
        status: Its HTTP status.
        body: Its body, or the beginning of it.
        request_id: Its ``X-Request-Id``; the body's own is used where that is missing.
        retry_after: Its ``Retry-After`` headers.
        now: What a date in them is compared with; the present if not given.
    """
    fields = _fields(body)
    code, detail = _text(fields.get("code")), fields.get("detail")
    kind = error_class(status, code)
    waits = [parse_retry_after(value, now=now or datetime.now(UTC)) for value in retry_after]
    wait = max((wait for wait in waits if wait is not None), default=None)
    told, request_id = _text(detail), request_id or _text(fields.get("request_id"))
    if kind is not UnprocessableError:
        return kind(status, code, told, request_id, wait, body)
    issues = _issues(detail)
    told = told or "; ".join(f"{'.'.join(map(str, issue.loc))}: {issue.msg}" for issue in issues) or None
    return UnprocessableError(status, code, told, request_id, wait, body, issues)


def parse_retry_after(value: str, *, now: datetime) -> float | None:
    """Return the seconds that a ``Retry-After`` asks for (RFC 9110, section 10.2.3), or None if it says nothing usable.

    A fraction is accepted though the RFC has whole seconds; a date in the past means now.
    """
    # float() strips as well, but leaves some that str.strip() takes for white space: "7\x1f" would raise.
    bare = value.strip()
    if _SECONDS.fullmatch(bare):
        return float(bare)
    return _seconds_until(value, now)


def _seconds_until(value: str, now: datetime) -> float | None:
    try:
        when = email.utils.parsedate_to_datetime(value)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return max(0.0, (when - now).total_seconds())


def _fields(body: bytes) -> dict[str, Any]:
    try:
        # Read as UTF-8 only (RFC 8259, section 8.1): json would guess UTF-16, where no key was looked for.
        fields: Any = json.loads(body[:MAX_BODY_BYTES].decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return {}
    return cast("dict[str, Any]", fields) if isinstance(fields, dict) else {}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _issues(detail: object) -> tuple[ValidationIssue, ...]:
    try:
        issues = structure(detail, list[_Issue])
    except ShapeError:
        return ()
    return tuple(ValidationIssue(tuple(issue.loc), issue.msg, issue.type) for issue in issues)
