"""What an answer must come to, told by json and base64 of the whole document, and by the documented exceptions.

The decoder takes more than `json.loads` does in four places, and each is spelled out here: control characters in a
string, bytes that are no UTF-8 in a string, a number of more than 1024 characters (looked at that far only), and base64
whose meaning is beyond doubt. Nesting deeper than json follows is the fifth: there nothing is expected.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterable
from itertools import accumulate
from typing import Any, NamedTuple

from fuzz.json_shapes import is_list, is_list_of, is_object
from phota_async.codec.answer import MAX_IMAGES

_NUMBER_BYTES = 1024
_MEMBER_BYTES = 64 * 1024
_PREFIX_CHARACTERS = 256
_SAFE_DEPTH = 300  # far from where json meets the limit of recursion

_STRING = r'"(?:[^"\\]++|\\.)*+"?'  # or what is left of one: to look for an end from each quote takes too long
_STRINGS = re.compile(_STRING, re.DOTALL)
_STRINGS_OR_BRACKETS = re.compile(rf"{_STRING}|[\[\]{{}}]", re.DOTALL)
_STRINGS_OR_LONG_SCALARS = re.compile(rf"{_STRING}|[-+.0-9A-Za-z]{{{_NUMBER_BYTES + 1},}}", re.DOTALL)
_LONG_SCALAR = re.compile(rf"-?[0-9][-+.0-9eE]{{0,{_NUMBER_BYTES}}}")
_BASE64 = re.compile(r"[A-Za-z0-9+/]+={0,2}")
_JSON_SPACE = " \t\n\r"
_JSON_SPACES = re.compile(rf"[{_JSON_SPACE}]+")

_PADDING = "base64 without its padding"
_SPELLING = "base64 with line breaks, in the URL-safe alphabet, or as a data: URI"


class Refused(NamedTuple):
    """The document keeps no contract; `intact` is what must be left of it, or, where it is no JSON, may be."""

    intact: list[bytes]
    is_json: bool


class Accepted(NamedTuple):
    """What the document holds; a note must begin with what `notes` says."""

    images: list[bytes]
    links: list[str]
    subjects: dict[str, int]
    notes: list[str]


class _Number:
    """A number, whatever its digits: nothing but that matters."""

    def __init__(self, _digits: str) -> None:
        pass


class _Member(NamedTuple):
    value: Any
    raw: str


_READER = json.JSONDecoder(strict=False, parse_int=_Number, parse_float=_Number, parse_constant=_Number)


def expected(document: bytes) -> Accepted | Refused | None:
    """Return what must come of ``document``, or None where nesting is too deep for json to tell."""
    # What is no UTF-8 becomes a lone surrogate, which can be turned back.
    text = document.removeprefix(b"\xef\xbb\xbf").decode(errors="surrogateescape")
    if _depth(text) > _SAFE_DEPTH:
        return None
    readable = _STRINGS_OR_LONG_SCALARS.sub(_readable, text)
    try:
        root = _READER.decode(readable)
    except ValueError:
        return Refused(_images_among(_STRINGS.findall(text)), is_json=False)
    return _of_members(_members(readable, text)) if isinstance(root, dict) else Refused([], is_json=True)


def _depth(text: str) -> int:
    if text.count("[") + text.count("{") <= _SAFE_DEPTH:
        return 0
    steps = {"[": 1, "{": 1, "]": -1, "}": -1}
    return max(accumulate(steps.get(token, 0) for token in _STRINGS_OR_BRACKETS.findall(text)))


def _readable(token: re.Match[str]) -> str:
    # A long number keeps its length, so that places in the text stay what they are.
    found = token[0]
    is_long_number = found[0] != '"' and _LONG_SCALAR.fullmatch(found[: _NUMBER_BYTES + 1])
    return "1".ljust(len(found), "0") if is_long_number else found


def _members(readable: str, text: str) -> list[tuple[str, _Member]]:
    """Read the members of a document that is known to be an object."""
    members: list[tuple[str, _Member]] = []
    place = _beyond(readable, 0, "{")
    while readable[place] != "}":
        key, place = _READER.raw_decode(readable, place)
        begun = _beyond(readable, place, ":")
        value, ended = _READER.raw_decode(readable, begun)
        members.append((key, _Member(value, text[begun:ended])))
        place = _beyond(readable, ended, ",")
    return members


def _beyond(text: str, place: int, mark: str) -> int:
    """Return where the next token begins, behind white space and, if it stands there, ``mark``."""
    for wanted in (_JSON_SPACE, mark, _JSON_SPACE):
        longest = 1 if wanted == mark else len(text)
        while longest and place < len(text) and text[place] in wanted:
            place, longest = place + 1, longest - 1
    return place


def _of_members(members: list[tuple[str, _Member]]) -> Accepted | Refused:
    for name, member in members:
        elements = member.value
        if name == "images" and is_list(elements) and len(elements) > MAX_IMAGES:
            return Refused(_whole(map(image_in, elements[:MAX_IMAGES])), is_json=True)
    return _accepted(dict(members))  # the last of one name counts


def _accepted(members: dict[str, _Member]) -> Accepted | Refused:
    elements = members["images"].value if "images" in members else None
    images = [*map(image_in, elements)] if is_list(elements) else []
    intact = _whole(images)
    if not (elements is None or is_list(elements)) or len(intact) < len(images):
        return Refused(intact, is_json=True)
    links, subjects = _links(members), _subjects(members)
    if not intact and not links:
        return Refused(intact, is_json=True)
    notes = [f"$.images[{place}] came as {image.note}" for place, image in enumerate(images) if image and image.note]
    notes += ["$.download_urls: "] * (links is None) + ["$.known_subjects: "] * (subjects is None)
    return Accepted(intact, links or [], subjects or {}, notes)


def _whole(images: Iterable[Image | None]) -> list[bytes]:
    return [image.data for image in images if image]


def _links(members: dict[str, _Member]) -> list[str] | None:
    try:
        links = _small(members, "download_urls")
    except ValueError:
        return None
    if links is None:
        return []
    return links if is_list_of({str}, links) else None


def _subjects(members: dict[str, _Member]) -> dict[str, int] | None:
    try:
        subjects = _small(members, "known_subjects")
    except ValueError:
        return None
    if not is_object(subjects):
        return {} if subjects is None else None
    counts = subjects.get("counts")
    if not is_object(counts):
        return {} if counts is None else None
    return counts if is_list_of({int}, [*counts.values()]) else None


def _small(members: dict[str, _Member], name: str) -> Any:
    # These are strict: json.loads as it stands, of bytes that are UTF-8 and not too many.
    if name not in members:
        return None
    raw = members[name].raw.encode(errors="surrogateescape")
    if len(raw) > _MEMBER_BYTES:
        raise ValueError
    return json.loads(raw.decode(errors="surrogatepass"))


class Image(NamedTuple):
    """The bytes of a string that is an image, and how it deviates."""

    data: bytes
    note: str


def image_in(element: object) -> Image | None:
    """Return the image that an element of the list is, or None if it is none."""
    if not isinstance(element, str):
        return None
    text = element
    if text[:5].lower() == "data:":
        comma = text.find(",", 0, _PREFIX_CHARACTERS)
        text = text[comma + 1 :] if text[: max(0, comma)].isascii() else text
    text = _JSON_SPACES.sub("", text).replace("-", "+").replace("_", "/")
    padded = text + "=" * (-len(text) % 4)
    if not _BASE64.fullmatch(padded):
        return None
    try:
        data = base64.b64decode(padded)
    except binascii.Error:
        return None
    return Image(data, _SPELLING if text != element else _PADDING if padded != text else "")


def _images_among(tokens: list[str]) -> list[bytes]:
    found: list[bytes] = []
    for token in tokens:
        try:
            image = image_in(_READER.decode(token))
        except ValueError:
            continue
        found += [image.data] if image else []
    return found
