"""What is written to the store about one photo: claims and records. Each is one object, a JSON text.

::

    ab/abcd…-0123…/claim-1.json          request 1 begins, made only if there is none of that number ("sent");
                                         afterwards "refused" (not charged) or "unknown" (may have been charged)
    ab/abcd…-0123…/claim-1-silent.json   another worker has waited for its answer in vain
    ab/abcd…-0123…/claim-1-image-0.png   what it brought
    ab/abcd…-0123…/record-1.json         it is paid for; written last, so all that it names is there

An object has one writer: whoever made the claim, or whoever was first to give it up. None is ever removed or written
by another, so a worker that was taken for dead takes away nothing, and what it still writes counts.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from typing import Any, Literal, TypeAlias, TypeVar, cast, get_args

from attrs import Attribute, asdict, field, fields, frozen
from attrs.validators import in_, instance_of, optional

ClaimState: TypeAlias = Literal["sent", "refused", "unknown"]

DAMAGED = "what the store says of it is damaged"

_FAR = 1e15
"""Seconds and dollars are below it; the integers of JSON have no end, and a float has."""


def _number(_: object, attribute: Attribute[Any], value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < _FAR:
        raise ValueError(f"{attribute.name} must be a number, not {value!r}")


def _each(kind: type[object]) -> Callable[[object, Attribute[Any], tuple[object, ...]], None]:
    def validate(_: object, attribute: Attribute[Any], values: tuple[object, ...]) -> None:
        if not all(isinstance(value, kind) for value in values):
            raise ValueError(f"{attribute.name} must be {kind.__name__}s, not {values!r}")

    return validate


_TEXT = instance_of(str)
_TEXT_OR_NONE = optional(_TEXT)


@frozen
class Stored:
    """An image in the store.

    Attributes:
        name: Its object's name, below the photo's.
        sha256: Of its bytes, as hexadecimal digits.
    """

    name: str = field(validator=_TEXT)
    sha256: str = field(validator=_TEXT)

    @classmethod
    def of(cls, claim: int, number: int, data: bytes, extension: str) -> Stored:
        """Name an image that a claim brought. Takes its time: it is hashed."""
        return cls(f"claim-{claim}-image-{number}{extension}", hashlib.sha256(data).hexdigest())

    def holds(self, data: bytes) -> bool:
        """Tell whether this is what was stored. Takes its time."""
        return hashlib.sha256(data).hexdigest() == self.sha256


@frozen(kw_only=True)
class Claim:
    """One request for a photo, made by one worker.

    Attributes:
        number: From 1.
        by: Who made it: host and process.
        word: Tells it from all others.
        at: When, in seconds since 1970.
        state: What became of it.
        reason: Why there is no answer.
        request_id: The service's ``X-Request-Id``, or None.
        images: What came although the request failed.
    """

    number: int
    by: str = field(default="", validator=_TEXT)
    word: str = field(validator=_TEXT)
    at: float = field(validator=_number)
    state: ClaimState = field(default="sent", validator=in_(get_args(ClaimState)))
    reason: str = field(default="", validator=_TEXT)
    request_id: str | None = field(default=None, validator=_TEXT_OR_NONE)
    images: tuple[Stored, ...] = field(default=(), validator=_each(Stored))

    @property
    def name(self) -> str:
        """Its object's name, below the photo's."""
        return f"claim-{self.number}.json"


@frozen(kw_only=True)
class Record:
    """A request that is paid for.

    Attributes:
        number: The claim's.
        at: When, in seconds since 1970.
        request_id: The service's ``X-Request-Id``, or None.
        cost_usd: What it cost.
        images: Where its images are.
        links: Its signed links.
    """

    number: int
    at: float = field(validator=_number)
    request_id: str | None = field(default=None, validator=_TEXT_OR_NONE)
    cost_usd: float = field(default=0.0, validator=_number)
    images: tuple[Stored, ...] = field(default=(), validator=_each(Stored))
    links: tuple[str, ...] = field(default=(), validator=_each(str), repr=lambda links: f"<{len(links)} signed>")

    @property
    def name(self) -> str:
        """Its object's name, below the photo's."""
        return f"record-{self.number}.json"


T = TypeVar("T", Claim, Record)


def written(what: Claim | Record) -> bytes:
    """Return a claim or a record as it is stored."""
    return json.dumps(asdict(what), indent=1).encode()


def read_claim(number: int, content: bytes | None) -> Claim:
    """Read the claim of that number. One that cannot be read is one of which nothing is known."""
    return _read(Claim, number, content) or Claim(number=number, word="", at=0.0, state="unknown", reason=DAMAGED)


def read_record(number: int, content: bytes | None) -> Record:
    """Read the record of that number. One that cannot be read names no image: what it told of is lost."""
    return _read(Record, number, content) or Record(number=number, at=0.0)


def _read(kind: type[T], number: int, content: bytes | None) -> T | None:
    try:
        told: dict[str, Any] = {**_known(kind, json.loads(content or b"")), "number": number}
        told["images"] = tuple(Stored(**_known(Stored, one)) for one in _list(told["images"]))
        if "links" in told:
            told["links"] = tuple(_list(told["links"]))
        return kind(**told)
    except (TypeError, ValueError, KeyError, RecursionError):
        return None


def _known(kind: type[Any], told: object) -> dict[str, Any]:
    """Return those fields of an object that this version knows; a newer one may write more."""
    if not isinstance(told, dict):
        raise TypeError("not an object")
    names = {one.name for one in fields(kind)}
    return {name: value for name, value in cast("dict[str, Any]", told).items() if name in names}


def _list(told: Any) -> list[Any]:
    if not isinstance(told, list):
        raise TypeError("not a list")
    return told  # pyright: ignore[reportUnknownVariableType]


def silent_name(number: int) -> str:
    """Return the name of the object that gives up the claim of that number."""
    return f"claim-{number}-silent.json"


def claims_in(names: list[str]) -> set[int]:
    """Return the numbers of the claims among a photo's objects."""
    return _numbers(r"claim-(\d{1,9})\.json", names)


def records_in(names: list[str]) -> set[int]:
    """Return the numbers of the records among a photo's objects."""
    return _numbers(r"record-(\d{1,9})\.json", names)


def _numbers(pattern: str, names: list[str]) -> set[int]:
    found = (re.fullmatch(pattern, name) for name in names)
    return {int(one[1]) for one in found if one}
