"""Base64 in pieces: what is accepted, what is noted, what is refused, whatever the cuts."""

import base64
import binascii
import random
import tracemalloc
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phota_async.codec.base64_stream import Base64Stream

FUZZ = settings(derandomize=True, deadline=None, max_examples=200)
ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"


def streamed(pieces: Iterable[bytes]) -> Base64Stream:
    stream = Base64Stream()
    for piece in pieces:
        stream.feed(piece)
    stream.finish()
    return stream


def noise(size: int) -> bytes:
    return random.Random(size).randbytes(size)  # noqa: S311  (the same each time, and no secret)


def one_by_one(text: bytes) -> list[bytes]:
    return [text[place : place + 1] for place in range(len(text))]


def cut(text: bytes, seed: int) -> list[bytes]:
    chance = random.Random(seed)  # noqa: S311  (the same each time, and no secret)
    places = sorted(chance.choices(range(len(text) + 1), k=chance.randrange(8)))
    return [text[a:b] for a, b in zip([0, *places], [*places, len(text)], strict=True)]


@FUZZ
@given(st.binary(min_size=1, max_size=200), st.integers(0, 2**32))
def test_standard_base64_gives_its_bytes_without_a_note(data: bytes, seed: int) -> None:
    stream = streamed(cut(base64.b64encode(data), seed))
    assert (stream.data, stream.problem, stream.note) == (data, None, None)


@pytest.mark.parametrize("size", [1, 2, 3, 3071, 3072, 3073, 3074, 6144, 6145, 100_000])
def test_one_character_at_a_time_equals_all_at_once(size: int) -> None:
    data = noise(size)
    text = base64.b64encode(data)
    whole, dripped = streamed([text]), streamed(one_by_one(text))
    assert whole.data == dripped.data == data
    assert whole.note is None
    assert dripped.note is None


@pytest.mark.parametrize("size", [1, 2, 4, 5, 3073, 6146])
def test_missing_padding_is_accepted_and_noted(size: int) -> None:
    data = noise(size)
    stream = streamed([base64.b64encode(data).rstrip(b"=")])
    assert stream.data == data
    assert stream.note == "base64 without its padding"


@pytest.mark.parametrize("size", [3, 20, 3072, 10_000])
@pytest.mark.parametrize("drip", [False, True])
def test_the_url_safe_alphabet_is_accepted_and_noted(size: int, drip: bool) -> None:  # noqa: FBT001
    data = b"\xfb\xff\xfe" + noise(size)
    text = base64.urlsafe_b64encode(data)
    stream = streamed(one_by_one(text) if drip else [text])
    assert stream.data == data
    assert stream.note is not None


@pytest.mark.parametrize("size", [1, 2, 3, 56, 57, 58, 114, 1000, 5000, 57 * 54, 57 * 108])
@pytest.mark.parametrize("drip", [False, True])
def test_line_broken_base64_is_accepted_and_noted(size: int, drip: bool) -> None:  # noqa: FBT001
    data = noise(size)
    text = base64.encodebytes(data)
    stream = streamed(one_by_one(text) if drip else [text])
    assert (stream.data, stream.problem) == (data, None)
    assert stream.note is not None


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b" ", b"\t\n", b"\n\n\n\n", b"\n" * 9])
def test_white_space_behind_the_last_character_is_no_damage(end: bytes) -> None:
    stream = streamed([b"aGVsbG8=" + end])
    assert (stream.data, stream.problem) == (b"hello", None)


@pytest.mark.parametrize("prefix", [b"data:image/png;base64,", b"DATA:;base64,", b"data:image/png;name=a;base64,"])
@pytest.mark.parametrize("size", [1, 3, 4000, 10_000])
@pytest.mark.parametrize("drip", [False, True])
def test_a_data_uri_is_accepted_and_noted(prefix: bytes, size: int, drip: bool) -> None:  # noqa: FBT001
    data = noise(size)
    text = prefix + base64.b64encode(data)
    stream = streamed(one_by_one(text) if drip else [text])
    assert (stream.data, stream.problem) == (data, None)
    assert stream.note is not None


@pytest.mark.parametrize(
    "text",
    [b"a", b"aGVsb", b"aGVs*G8=", b"aGVs\xc3\xa9G8=", b"=", b"====", b"aGVsbG8==", b"data:aGVs", b"data:,", b"a=Vs"],
)
@pytest.mark.parametrize("drip", [False, True])
def test_what_is_no_base64_is_refused_and_leaves_no_pieces(text: bytes, drip: bool) -> None:  # noqa: FBT001
    stream = streamed(one_by_one(text) if drip else [text])
    assert stream.problem is not None
    assert not stream.data


@pytest.mark.parametrize("prefix", [b"data:,", b"data:a,", b"data:ab,", b"data:image/png;base64,"])
@pytest.mark.parametrize("size", [*range(1, 9), 3067, 3068, 3069, 3070, 5000, 5001, 5002])
@pytest.mark.parametrize("drip", [False, True])
def test_a_data_uri_may_lack_its_padding(prefix: bytes, size: int, drip: bool) -> None:  # noqa: FBT001
    text = prefix + base64.b64encode(noise(size)).rstrip(b"=")
    stream = streamed(one_by_one(text) if drip else [text])
    assert (stream.data, stream.problem) == (noise(size), None)


@pytest.mark.parametrize("prefix", [b"", b"data:,", b"data:a,", b"data:ab,", b"data:abc,"])
@pytest.mark.parametrize("text", [b"a", b"aGVsb", b"aGVsbG8gd", b"aGVs" * 2000 + b"b"])
def test_a_single_character_too_many_is_damage(prefix: bytes, text: bytes) -> None:
    stream = streamed([prefix + text])
    assert stream.problem is not None
    assert not stream.data


def test_a_data_uri_has_one_comma() -> None:
    assert streamed([b"data:a,aGVs,bG8="]).problem == "is not base64"


def test_a_data_uri_whose_comma_is_too_far_away_is_refused() -> None:
    assert streamed([b"data:" + b"a" * 300 + b",aGVsbG8="]).problem is not None


@pytest.mark.parametrize("text", [b"", b"\n", b" \r\n", b"data:image/png;base64,"])
def test_a_string_that_holds_nothing_is_refused(text: bytes) -> None:
    stream = streamed([text])
    assert stream.problem is not None
    assert not stream.data


@pytest.mark.parametrize("before", [4, 4092, 4096, 8188])
@pytest.mark.parametrize("after", [b"aGVs", b"a", b"aGVsbG8=", b"aGVs" * 2000])
@pytest.mark.parametrize("drip", [False, True])
def test_data_after_the_padding_is_refused(before: int, after: bytes, drip: bool) -> None:  # noqa: FBT001
    text = b"A" * (before - 4) + b"aGk=" + after
    stream = streamed(one_by_one(text) if drip else [text])
    assert stream.problem in {"goes on after its padding", "is not base64"}
    assert not stream.data


@pytest.mark.parametrize("place", [0, 1, 4095, 4096, 5000, 9999])
def test_damage_anywhere_takes_the_whole_image(place: int) -> None:
    text = bytearray(b"A" * 10_000)
    text[place] = ord("*")
    for stream in (streamed([bytes(text)]), streamed(one_by_one(bytes(text)))):
        assert stream.problem == "is not base64"
        assert not stream.data


def test_it_is_told_where_characters_follow_a_complete_string() -> None:
    assert streamed([b"A" * 40_000 + b"aGk=", b"aGk="]).problem == "goes on after its padding"


def test_nothing_is_given_before_the_string_has_ended() -> None:
    stream = Base64Stream()
    assert stream.data == b""
    stream.feed(b"A" * 10_000)
    assert stream.data == b""


def test_what_follows_damage_is_not_kept() -> None:
    stream = streamed([b"*" * 4096, *[b"A" * 4096] * 10])
    assert stream.problem == "is not base64"
    assert not stream.data


@FUZZ
@given(
    st.lists(st.sampled_from([*one_by_one(ALPHABET), b"=", b"\n", b"-", b"_", b"*", b"data:,", b"A" * 4094])).map(
        b"".join
    ),
    st.integers(0, 2**32),
)
def test_cuts_change_neither_the_bytes_nor_the_verdict(text: bytes, seed: int) -> None:
    whole, pieces = streamed([text]), streamed(cut(text, seed))
    assert whole.data == pieces.data
    assert (whole.problem is None) == (pieces.problem is None)


@FUZZ
@given(st.lists(st.sampled_from([*one_by_one(ALPHABET), b"="]), max_size=12).map(b"".join))
def test_the_verdict_on_short_strings_is_that_of_the_standard_library(text: bytes) -> None:
    padded = text if b"=" in text else text + b"=" * (-len(text) % 4)
    try:
        expected = base64.b64decode(padded, validate=True)
    except binascii.Error:
        expected = b""
    if b"=" in text and len(text) % 4:
        return  # half a padding is completed here, and refused there
    assert streamed([text]).data == expected


def test_a_dripping_answer_is_decoded_in_few_steps() -> None:
    stream = Base64Stream()
    tracemalloc.start()
    try:
        for character in one_by_one(b"A" * 100_000):
            stream.feed(character)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    stream.finish()
    assert len(stream.data) == 75_000
    assert held < 100_000


def test_a_string_that_begins_with_a_long_run_of_line_breaks_is_read() -> None:
    stream = streamed([b"\n" * 5000, b"aGVsbG8="])
    assert (stream.data, stream.problem) == (b"hello", None)
