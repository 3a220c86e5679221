"""What is wrong with an answer is told in words of ours, with its place, however the answer was cut."""

from __future__ import annotations

import pytest
from attrs import frozen

from phota_async.codec.answer import MAX_KEPT_BYTES, Answer, AnswerDecoder, AnswerError
from phota_async.codec.converter import ShapeError, structure


def decoded(*pieces: bytes) -> Answer:
    decoder = AnswerDecoder()
    for piece in pieces:
        rest = piece
        while rest:
            rest = rest[decoder.feed(rest) :]
    return decoder.finish()


@pytest.mark.parametrize(
    ("pieces", "told"),
    [
        ((b"\xef\xbb", b"{}"), "not JSON: half a byte order mark near byte 2"),
        ((b"<html>",), "not JSON: a value was expected near byte 0"),
        ((b'{"a":[1, ', b" ,2]}"), "not JSON: a value was expected near byte 9"),
        ((b'{"a":', b"tru", b"}"), "not JSON: a value was expected near byte 8"),
        ((b'{"a":', b"]"), "not JSON: a value was expected near byte 5"),
        ((b"{ ", b" 1:2}"), "not JSON: a key was expected near byte 3"),
        ((b'{"a":1,', b" }"), "not JSON: a key was expected near byte 8"),
        ((b'{"a" ', b" 1}"), "not JSON: a colon was expected near byte 6"),
        ((b'{"a"', b":[1}"), "not JSON: a bracket that closes nothing near byte 7"),
        ((b'{"a":1', b" 2}"), "not JSON: a comma or a closing bracket was expected near byte 7"),
        ((b'{"a":1}', b" x"), "not JSON: something follows the document near byte 8"),
        ((b'{"a', b'\\/b\\x":1}'), "not JSON: a wrong escape in a string near byte 6"),
        ((b'{"a":', b'"\\u'), "the JSON ends too early, after 8 bytes"),
        ((b'{"a":', b" [2,"), "the JSON ends too early, after 9 bytes"),
        ((b"[]",), "$ is not an object"),
        ((b"{}",), "$ holds neither images nor links"),
        ((b'{"images":7}',), "$.images is not a list"),
        ((b'{"images":["aGk=",7]}',), "$.images[1] is not a string"),
        ((b'{"images":["aGk=",""]}',), "$.images[1] is empty"),
        ((b'{"images":["aGk=","*"]}',), "$.images[1] is not base64"),
        ((b'{"images":["' + b"A" * 40_000 + b"aGk=", b'aGk="]}'), "$.images[0] goes on after its padding"),
        ((b'{"images":[' + b"1," * 256 + b"1]}",), "$.images holds more than 256 elements"),
        ((b'{"download_urls":"a"}',), "$.download_urls: expected a list, got a string @ $"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(pieces: tuple[bytes, ...], told: str) -> None:
    with pytest.raises(AnswerError) as caught:
        decoded(*pieces)
    assert str(caught.value) == told


@pytest.mark.parametrize(
    ("member", "told"),
    [
        (b'"known_subjects":[]', "$.known_subjects: expected an object, got a list @ $"),
        (
            b'"known_subjects":{"counts":{"a":1.5}}',
            "$.known_subjects: expected an integer, got a number with a fraction @ $.counts['a']",
        ),
        (
            b'"known_subjects":"\xff"',
            "$.known_subjects: 'utf-8' codec can't decode byte 0xff in position 1: invalid start byte",
        ),
        (b'"download_urls":["a",null]', "$.download_urls: expected a string, got null @ $[1]"),
    ],
)
def test_what_costs_nothing_is_noted_with_its_place(member: bytes, told: str) -> None:
    assert decoded(b'{"images":["aGk="],' + member + b"}").notes == (told,)


@pytest.mark.parametrize("space", [b"", b" \n"])
@pytest.mark.parametrize("dripped", [0, 8])
@pytest.mark.parametrize("more", [0, 1])
def test_the_text_of_a_small_member_may_be_as_long_as_its_bound(more: int, dripped: int, space: bytes) -> None:
    link = "x" * (MAX_KEPT_BYTES - len('[""]') + more)
    body = b'{"images":["aGk="],"download_urls":' + space + f'["{link}"]}}'.encode()
    whole = len(body) - dripped
    answer = decoded(body[:whole], *(body[place : place + 1] for place in range(whole, len(body))))
    if more:
        assert (answer.download_urls, answer.notes) == ((), ("$.download_urls: longer than 65536 bytes",))
    else:
        assert (answer.download_urls, answer.notes) == ((link,), ())


@pytest.mark.parametrize("length", [MAX_KEPT_BYTES - 1, MAX_KEPT_BYTES, 2 * MAX_KEPT_BYTES])
def test_a_small_member_that_is_one_long_string_is_told_by_its_length(length: int) -> None:
    text = b'"' + b"x" * length + b'"'
    answer = decoded(b'{"images":["aGk="],"known_subjects":' + text + b"}")
    assert answer.notes == ("$.known_subjects: longer than 65536 bytes",)


# ---- the converter


@frozen
class Counted:
    counts: dict[str, int]


@pytest.mark.parametrize("faults", [1, 9, 10, 11, 30])
def test_the_first_ten_faults_are_told(faults: int) -> None:
    with pytest.raises(ShapeError) as caught:
        structure([0, *["x"] * faults], list[int])
    told = [f"expected an integer, got a string @ $[{place}]" for place in range(1, min(faults, 10) + 1)]
    assert str(caught.value) == "; ".join(told)


@pytest.mark.parametrize(("length", "cut"), [(999, False), (1000, False), (1001, True), (2000, True)])
def test_what_is_told_of_a_shape_ends_after_a_thousand_characters(length: int, cut: bool) -> None:  # noqa: FBT001
    words = "expected an integer, got null @ $.counts['{}']"
    key = "k" * (length - len(words) + len("{}"))
    with pytest.raises(ShapeError) as caught:
        structure({"counts": {key: None}}, Counted)
    whole = words.format(key)
    assert str(caught.value) == (f"{whole[:999]}…" if cut else whole)
