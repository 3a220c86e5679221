"""Error answers with any status, body and headers: always an error of the tree, of one line, that pickles."""

from __future__ import annotations

import json
import math
import pickle
from typing import Any

import phota_async as public
from fuzz.json_shapes import is_list, is_list_of, is_object
from fuzz.recipes import swollen
from phota_async.codec.error_answer import MAX_BODY_BYTES, api_error
from phota_async.errors import APIError, UnprocessableError

_HEADER_MARK = b"\x02"
_DEEP = 300

_BY_STATUS: dict[int, type[APIError]] = {
    400: public.BadRequestError,
    401: public.AuthenticationError,
    402: public.InsufficientCreditsError,
    403: public.AuthenticationError,
    404: public.NotFoundError,
    422: public.UnprocessableError,
    429: public.RateLimitedError,
    500: public.InternalServerError,
    502: public.GatewayError,
    503: public.ServiceUnavailableError,
    504: public.GatewayError,
}
_BY_CODE: dict[tuple[int, object], type[APIError]] = {
    (400, "INVALID_REQUEST"): public.InvalidRequestError,
    (400, "CONTENT_MODERATION"): public.ContentModerationError,
    (404, "PROFILE_NOT_FOUND"): public.ProfileNotFoundError,
    (404, "PROFILE_NOT_READY"): public.ProfileNotReadyError,
}


def check(data: bytes) -> None:
    """Hold one error answer against what is expected: two bytes of status, a body, and headers behind a mark."""
    status = 300 + int.from_bytes(data[:2]) % 300
    packed, *headers = data[2:].split(_HEADER_MARK)
    body = swollen(packed)
    words = [header.decode(errors="surrogateescape") for header in headers]
    error = api_error(status, body, request_id=words[0] if words else None, retry_after=words[1:])
    _check_facts(error, status, body, words)
    _check_line(error)
    _check_pickle(error)


def _check_facts(error: APIError, status: int, body: bytes, words: list[str]) -> None:
    assert (error.status, error.body) == (status, body)
    assert error.retry_after is None or (error.retry_after >= 0 and math.isfinite(error.retry_after))
    assert error.maybe_charged is (status >= 500 and status not in {500, 503})
    if body.count(b"[") + body.count(b"{") > _DEEP:
        return  # json itself may or may not follow that deep
    fields = _fields(body)
    said = {name: _words(fields.get(name)) for name in ("code", "detail", "request_id")}
    fallback = public.ServerError if status >= 500 else APIError
    assert type(error) is _BY_CODE.get((status, said["code"]), _BY_STATUS.get(status, fallback))
    assert error.code == said["code"]
    assert error.request_id == ((words and words[0]) or said["request_id"])
    issues = _issues(fields.get("detail")) if status == 422 else []
    assert error.detail == (said["detail"] or "; ".join(f"{'.'.join(loc)}: {msg}" for loc, msg, _ in issues) or None)
    if isinstance(error, UnprocessableError):
        assert [([*map(str, one.loc)], one.msg, one.type) for one in error.errors] == issues


def _check_line(error: APIError) -> None:
    for line in (str(error), repr(error)):
        assert 0 < len(line) < 1000
        assert line.isprintable()


def _check_pickle(error: APIError) -> None:
    again = pickle.loads(pickle.dumps(error))  # noqa: S301  (made a line before)
    assert type(again) is type(error)
    assert (again.args, vars(again), str(again)) == (error.args, vars(error), str(error))


def _fields(body: bytes) -> dict[str, Any]:
    try:
        fields: Any = json.loads(body[:MAX_BODY_BYTES].decode().removeprefix("\ufeff"))
    except ValueError:
        return {}
    return fields if is_object(fields) else {}


def _words(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _issues(detail: object) -> list[tuple[list[str], str, str]]:
    """Read what a 422 complains about: all of it has its shape, or it says nothing."""
    if not is_list(detail):
        return []
    issues: list[tuple[list[str], str, str]] = []
    for one in detail:
        fields = one if is_object(one) else {}
        loc, msg, kind = fields.get("loc", []), fields.get("msg"), fields.get("type", "")
        if not (is_list_of({str, int}, loc) and isinstance(msg, str) and isinstance(kind, str)):
            return []
        issues.append(([*map(str, loc)], msg, kind))
    return issues
