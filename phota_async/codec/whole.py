"""A small answer that came in one piece, decoded by the libraries at once: walking it would take longer.

It takes only what is beyond doubt. Whatever deviates is left to the walk, which tells what is wrong or bears it.
"""

from __future__ import annotations

import json
from typing import Any

from attrs import field, frozen
from pybase64 import b64decode

MAX_WHOLE_BYTES = 64 * 1024
"""How long an answer may be to be decoded at once."""

MAX_MARKS = 128
"""How many commas and opening brackets it may hold. With that, it takes a fraction of a millisecond."""

_MAX_DIGITS = 20


def _short(digits: str) -> int:
    # The time it takes grows with the square of the length; the walk converts only what is asked for.
    if len(digits) > _MAX_DIGITS:
        raise ValueError
    return int(digits)


_DECODE = json.JSONDecoder(parse_int=_short).decode


@frozen(eq=False)
class Answer:
    """What a successful answer held.

    Attributes:
        images: The images, in the service's order.
        download_urls: The signed links.
        known_subjects: Counts by subject.
        notes: Deviations that cost nothing, for the log.
    """

    images: tuple[bytes, ...] = field(repr=False)
    download_urls: tuple[str, ...] = field(repr=False)
    known_subjects: dict[str, int]
    notes: tuple[str, ...] = ()


def decoded(body: bytes) -> Answer | None:
    """Return what ``body`` holds, or None where it is not whole, not small, or not plainly as the contract says."""
    if len(body) > MAX_WHOLE_BYTES or sum(map(body.count, (b"{", b"[", b","))) > MAX_MARKS or not body.isascii():
        return None
    try:
        document = _DECODE(body.decode("ascii"))
        images = tuple(_image(image) for image in _member(document, "images", list))
        links = tuple(_member(document, "download_urls", list))
        subjects = _member(_member(document, "known_subjects", dict), "counts", dict)
    except (ValueError, TypeError, RecursionError):
        return None
    if not (images or links) or not all(type(link) is str for link in links):
        return None
    return Answer(images, links, subjects) if all(type(count) is int for count in subjects.values()) else None


def _member(document: Any, name: str, kind: type) -> Any:
    value = _exactly(dict, document).get(name)
    return kind() if value is None else _exactly(kind, value)


def _exactly(kind: type, value: Any) -> Any:
    if type(value) is not kind:
        raise TypeError
    return value


def _image(text: Any) -> bytes:
    image: bytes = b64decode(_exactly(str, text), validate=True)
    if not image:
        raise TypeError
    return image
