"""The request's schema: bytes in, an order or violations out, worded as the service's framework does."""

import json
import re
import uuid
from collections.abc import Callable, Mapping
from typing import Any, cast

from attrs import field, frozen

FORMATS = ("png", "jpg")
MODES = ("bytes", "urls")
# The service announced jpg as its default from this date (release notes v0.2.0).
DEFAULT_FORMAT, DEPRECATION_DATE = "jpg", "2026-05-08"
_MOST_IMAGES = 4
_IMAGE = re.compile(rb'"image"\s*:\s*"')
_LONG = 2**18


@frozen(kw_only=True)
class Order:
    """A request that keeps the schema; `output_format` is None when the request did not name one."""

    image: str = field(repr=lambda image: f"<{len(image)} characters>")
    prompt: str | None = None
    profile_ids: tuple[str, ...] = ()
    num_output_images: int = 1
    output_format: str | None = None
    response_mode: str = "bytes"

    @property
    def extension(self) -> str:
        """The format that the images will have."""
        return self.output_format or DEFAULT_FORMAT


@frozen
class Violation:
    """One entry of a 422 answer's `detail`."""

    loc: tuple[str | int, ...]
    msg: str
    type: str

    def as_json(self) -> dict[str, Any]:
        """Shape it as the schema ValidationError."""
        return {"loc": list(self.loc), "msg": self.msg, "type": self.type}


def read_order(body: bytes | bytearray, content_type: str) -> Order | tuple[Violation, ...]:
    """Read a request body; the schema's fields are checked and unknown ones ignored."""
    if not body:
        return (Violation(("body",), "Field required", "missing"),)
    if content_type != "application/json":
        return (_NOT_AN_OBJECT,)
    try:
        document = _load(body)
    except (ValueError, RecursionError) as error:
        return (Violation(("body", getattr(error, "pos", 0)), "JSON decode error", "json_invalid"),)
    if not isinstance(document, dict):
        return (_NOT_AN_OBJECT,)
    return _check(cast("dict[str, Any]", document))


def _load(body: bytes | bytearray) -> object:
    """Parse JSON with a long image lifted out, since json.loads would hold the interpreter for 50 ms."""
    found = _IMAGE.search(body)
    end = body.find(b'"', found.end()) if found else -1
    if found is None or end - found.end() < _LONG or body.find(b"\\", found.end(), end) >= 0:
        return json.loads(body)
    token = uuid.uuid4().hex
    rest = cast("dict[str, object]", json.loads(body[: found.end()] + token.encode() + body[end:]))
    # What was lifted may be a part of something else, or of nothing.
    if not isinstance(rest, dict) or rest.get("image") != token:
        return json.loads(body)
    return {**rest, "image": str(memoryview(body)[found.end() : end], "ascii", "replace")}


def _check(document: Mapping[str, Any]) -> Order | tuple[Violation, ...]:
    violations: list[Violation] = []
    if "image" not in document:
        violations.append(Violation(("body", "image"), "Field required", "missing"))
    known = {name: document[name] for name in _CHECKS if name in document}
    for name, value in known.items():
        violations += _CHECKS[name](("body", name), value)
    if violations:
        return tuple(violations)
    if "profile_ids" in known:
        known["profile_ids"] = tuple(known["profile_ids"])
    if "num_output_images" in known:
        known["num_output_images"] = int(known["num_output_images"])
    return Order(**known)


_Where = tuple[str | int, ...]
_NOT_AN_OBJECT = Violation(
    ("body",),
    "Input should be a valid dictionary or object to extract fields from",
    "model_attributes_type",
)


def _string(where: _Where, value: object) -> list[Violation]:
    return [] if isinstance(value, str) else [Violation(where, "Input should be a valid string", "string_type")]


def _string_or_null(where: _Where, value: object) -> list[Violation]:
    return [] if value is None else _string(where, value)


def _strings(where: _Where, value: object) -> list[Violation]:
    if not isinstance(value, list):
        return [Violation(where, "Input should be a valid list", "list_type")]
    items = cast("list[object]", value)
    return [found for place, item in enumerate(items) for found in _string((*where, place), item)]


def _image_count(where: _Where, value: object) -> list[Violation]:
    # JSON has one kind of number, so 2.0 is an integer; true is not a number at all.
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value // 1:
        return [Violation(where, "Input should be a valid integer", "int_type")]
    if value < 1:
        return [Violation(where, "Input should be greater than or equal to 1", "greater_than_equal")]
    if value > _MOST_IMAGES:
        return [Violation(where, f"Input should be less than or equal to {_MOST_IMAGES}", "less_than_equal")]
    return []


def _one_of(choices: tuple[str, ...]) -> Callable[[_Where, object], list[Violation]]:
    expected = f"Input should be {' or '.join(map(repr, choices))}"

    def check(where: _Where, value: object) -> list[Violation]:
        return [] if value in choices else [Violation(where, expected, "literal_error")]

    return check


_CHECKS: Mapping[str, Callable[[_Where, object], list[Violation]]] = {
    "image": _string,
    "prompt": _string_or_null,
    "profile_ids": _strings,
    "num_output_images": _image_count,
    "output_format": _one_of(FORMATS),
    "response_mode": _one_of(MODES),
}
