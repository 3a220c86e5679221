"""Answers in any spelling that JSON has. What json.loads says of one is what the decoder has to say of it."""

from __future__ import annotations

import base64
import json
import random
import re
from functools import cache

from hypothesis import strategies as st

from phota_async.codec.growing import RESERVED_FROM

IMAGES, LINKS, SUBJECTS = KNOWN = ("images", "download_urls", "known_subjects")

SPACE = st.sampled_from(["", "", "", " ", "\n  ", "\t", "\r\n"])
HEXADECIMAL = st.sampled_from(["\\u{:04x}", "\\u{:04X}"])
# Halves of characters among them, alone or in a pair.
UNITS = st.integers(0, 0xFFFF) | st.integers(0xD800, 0xDFFF) | st.integers(0x20, 0x7E)
ESCAPED = st.builds(str.format, HEXADECIMAL, UNITS) | st.sampled_from(
    [r"\"", r"\\", r"\/", r"\b", r"\f", r"\n", r"\r", r"\t", r"\ud83d\uDE00"]
)
PLAIN = st.characters(min_codepoint=0x20, exclude_categories=["Cs"], exclude_characters='"\\')


def quoted(letters: list[str]) -> str:
    return f'"{"".join(letters)}"'


def spelled(name: str) -> st.SearchStrategy[str]:
    """Write a name with some of its letters escaped."""
    letters = (st.sampled_from([letter, letter, f"\\u{ord(letter):04x}"]) for letter in name)
    return st.just(quoted([name])) | st.tuples(*letters).map(list).map(quoted)


STRINGS = st.lists(PLAIN | ESCAPED, max_size=8).map(quoted)
KEYS = STRINGS | st.sampled_from([*KNOWN, "counts", "Images", "image"]).flatmap(spelled)
NUMBERS = (
    st.integers().map(str)
    | st.floats().map(json.dumps)
    | st.from_regex(r"-?(0|[1-9][0-9]{0,20})(\.[0-9]{1,20})?([eE][-+]?[0-9]{1,3})?", fullmatch=True)
)
SCALARS = st.sampled_from(["true", "false", "null", "NaN", "-Infinity"]) | NUMBERS | STRINGS


def a_list(elements: st.SearchStrategy[str], least: int = 0) -> st.SearchStrategy[str]:
    def joined(before: str, after: str, parts: list[str]) -> str:
        return f"[{before}{f'{after},{before}'.join(parts)}{after}]"

    return st.builds(joined, SPACE, SPACE, st.lists(elements, min_size=least, max_size=4))


def an_object(keys: st.SearchStrategy[str], values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    member = st.builds("{}{}:{}{}".format, keys, SPACE, SPACE, values)
    return a_list(member).map(lambda text: f"{{{text[1:-1]}}}")


def nested(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return a_list(inner) | an_object(KEYS, inner)


VALUES = st.recursive(SCALARS, nested, max_leaves=8)
# More tokens than one turn takes.
MANY = SCALARS.map(lambda one: f"[{','.join([one] * 3000)}]")

# Around a group of three bytes, around what is gathered before it is decoded (4096 characters), around where it is
# put into its place.
SIZES = st.integers(1, 12) | st.sampled_from(
    [edge + beside for edge in (300, 3072, 6144, 15_360, RESERVED_FROM) for beside in range(-3, 4)]
)


@cache
def base64_of(size: int) -> str:
    return base64.b64encode(random.Random(size).randbytes(size)).decode()  # noqa: S311  (the same each time)


@st.composite
def images(draw: st.DrawFn) -> str:
    """Write an image as a JSON string, with some of its characters escaped."""
    text, form = base64_of(draw(SIZES)), draw(HEXADECIMAL)
    some = st.sets(st.integers(0, len(text) - 1), max_size=6)
    parts, end = list[str](), 0
    for place in sorted(draw(some | st.just(set(range(min(len(text), 1000)))))):
        one = text[place]
        parts += text[end:place], "\\/" if one == "/" else form.format(ord(one))
        end = place + 1
    return quoted([*parts, text[end:]])


def with_counts(others: str, counts: str) -> str:
    inside = others[1:-1]
    return f'{{{inside}{"," if inside.strip() else ""}"counts":{counts}}}'


UNKNOWN_KEYS = KEYS.filter(lambda key: json.loads(key) not in KNOWN)
COUNTS = st.just("null") | an_object(STRINGS, st.integers(0, 10**9).map(str))
GOOD = {
    IMAGES: a_list(images(), least=1),
    LINKS: a_list(STRINGS, least=1),
    SUBJECTS: st.just("null") | st.builds(with_counts, an_object(KEYS, VALUES), COUNTS),
}
NOTHING = st.sampled_from(["null", "null", "null", "[ ]"])
STRANGE = {IMAGES: VALUES | a_list(STRINGS, least=1) | GOOD[IMAGES], LINKS: VALUES | GOOD[LINKS], SUBJECTS: VALUES}


@st.composite
def members(draw: st.DrawFn) -> list[tuple[str, str]]:
    """Give the members of a valid answer in any order: of those that share a name only the last is good."""
    held = draw(st.sampled_from([[LINKS], [LINKS], [IMAGES], [IMAGES, LINKS]]))
    absent = draw(st.sets(st.sampled_from([name for name in KNOWN if name not in held]), max_size=1))
    good = {
        name: draw(GOOD[name] if name in held or name == SUBJECTS else NOTHING) for name in KNOWN if name not in absent
    }
    repeated = st.sampled_from([*good, *({IMAGES} & good.keys())])
    before = [(name, draw(STRANGE[name])) for name in draw(st.lists(repeated, max_size=3))]
    order = draw(st.permutations([*before, *good.items()]))
    for name, text in good.items():
        last = max(place for place, (other, _) in enumerate(order) if other == name)
        place = order.index((name, text))
        order[last], order[place] = order[place], order[last]
    known = [(draw(spelled(name)), text) for name, text in order]
    for other in draw(st.lists(st.tuples(UNKNOWN_KEYS, VALUES | MANY), max_size=3)):
        known.insert(draw(st.integers(0, len(known))), other)
    return known


@st.composite
def answers(draw: st.DrawFn) -> bytes:
    """Write a valid answer."""
    before, after = draw(SPACE), draw(SPACE)
    inside = f"{after},{before}".join(f"{key}{before}:{after}{text}" for key, text in draw(members()))
    mark = draw(st.sampled_from(["", "", "", "\ufeff"]))
    return f"{mark}{before}{{{before}{inside}{after}}}{after}".encode()


_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+"|[{}\[\],:]|[^\s{}\[\],:"]+')


def tokens_of(body: bytes) -> list[int]:
    """Return where the tokens of valid JSON begin."""
    return [match.start() for match in _TOKEN.finditer(body)]


@st.composite
def cuts(draw: st.DrawFn, body: bytes) -> list[bytes]:
    """Cut ``body`` anywhere, into single bytes, or within its escapes."""
    size = draw(st.sampled_from([0, 0, 0, 1, 2, 3, 7, 4096, 65_536]))
    if size and len(body) // size < 5000:
        return [body[start : start + size] for start in range(0, len(body), size)]
    anywhere = st.integers(0, len(body))
    if escapes := [match.start() for match in re.finditer(rb"\\", body)][:100]:
        anywhere |= st.sampled_from([min(place + beside, len(body)) for place in escapes for beside in range(7)])
    places = sorted(draw(st.lists(anywhere, max_size=12)))
    return [body[begin:end] for begin, end in zip([0, *places], [*places, len(body)], strict=True)]
