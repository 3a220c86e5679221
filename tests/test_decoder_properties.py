"""The decoder says of any valid answer what json and base64 say of the whole, and of anything else that it is none."""

from __future__ import annotations

import base64
import json
import tracemalloc
from bisect import bisect_left
from collections.abc import Sequence
from itertools import repeat
from typing import Any

import pytest
from answer_texts import answers, cuts, tokens_of
from attrs import frozen
from examples import examples
from hypothesis import given
from hypothesis import strategies as st

from phota_async.codec.answer import MAX_IMAGES, MAX_KEPT_BYTES, AnswerDecoder, AnswerError
from phota_async.codec.scanner import TOKENS_A_TURN


@frozen
class End:
    """What became of some bytes: the images of an answer, or None, those that were intact, and all else."""

    images: tuple[bytes, ...] | None
    intact: tuple[bytes, ...]
    rest: tuple[object, ...] = ()


def fed(pieces: Sequence[bytes], tokens: Sequence[int] | None = None) -> AnswerDecoder:
    """Feed pieces, and see that no feed takes more ``tokens`` (where they begin) than one may."""
    decoder, offset = AnswerDecoder(), 0
    for piece in pieces:
        rest = piece
        while rest:
            taken = decoder.feed(rest)
            assert 0 < taken <= len(rest)
            if tokens is not None:
                assert bisect_left(tokens, offset + taken) - bisect_left(tokens, offset) <= TOKENS_A_TURN
            rest, offset = rest[taken:], offset + taken
    return decoder


def end_of(pieces: Sequence[bytes]) -> End:
    """Feed any bytes: whatever they are, only an AnswerError may come of them."""
    decoder = AnswerDecoder()
    images: tuple[bytes, ...] | None = None
    others: tuple[object, ...] = ()
    problem = None
    try:
        for piece in pieces:
            rest = piece
            while rest:
                rest = rest[decoder.feed(rest) :]
        answer = decoder.finish()
        images, others = answer.images, (answer.download_urls, answer.known_subjects, answer.notes)
    except AnswerError as error:
        problem = error
    # Nothing of json or of the scanner hangs on what is raised.
    assert problem is None or (problem.__cause__, problem.__context__) == (None, None)
    return End(images, decoder.intact, others)


@examples(100)
@given(st.data())
def test_a_valid_answer_equals_json_and_base64_however_it_is_spelled_and_cut(data: st.DataObject) -> None:
    body = data.draw(answers())
    expected: dict[str, Any] = json.loads(body)
    images: list[str] = expected.get("images") or []
    subjects: dict[str, Any] = expected.get("known_subjects") or {}
    decoder = fed(data.draw(cuts(body)), tokens_of(body))
    answer = decoder.finish()
    assert list(answer.images) == [base64.b64decode(image, validate=True) for image in images]
    assert list(answer.download_urls) == (expected.get("download_urls") or [])
    assert answer.known_subjects == (subjects.get("counts") or {})
    assert answer.notes == ()
    assert decoder.intact == answer.images


PARTS = st.sampled_from(
    [
        *(b'{"images":["', b'"]}', b'","', b"aGk=", b"aGk", b"A" * 4096, b"-_", b"*", b"=", b"\\u00", b"41", b"\\/"),
        *(b'{"download_urls":["', b'"known_subjects":{"counts":{"a":', b'"images":', b"null", b"1", b"NaN", b"-"),
        *(b"{", b"}", b"[", b"]", b",", b":", b'"', b" ", b"\n", b"\\", b"\x00"),
        *(b"\xff", b"\xed\xa0\x80", b"\xef\xbb\xbf"),
    ]
)
CHANGE = st.tuples(st.integers(0, 2**20), st.integers(0, 4), st.binary(max_size=2) | PARTS)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    body = bytearray(draw(answers()))
    for place, taken, put in draw(st.lists(CHANGE, min_size=1, max_size=4)):
        begin = place % (len(body) + 1)
        body[begin : begin + taken] = put
    return bytes(body)


ANY_BYTES = st.binary(max_size=200) | st.lists(PARTS, max_size=20).map(b"".join) | damaged()


def leniently(text: str) -> bytes:
    """Decode base64 as far as its spelling leaves no doubt, without the code under test."""
    plain = "".join(text.split()).translate(str.maketrans("-_", "+/"))
    return base64.b64decode(plain.rstrip("=") + "=" * (-len(plain.rstrip("=")) % 4), validate=True)


@examples(150)
@given(st.data())
def test_any_bytes_are_an_answer_that_json_reads_too_or_an_answer_error_however_they_are_cut(
    data: st.DataObject,
) -> None:
    body = data.draw(ANY_BYTES)
    end = end_of([body])
    assert end_of(data.draw(cuts(body))) == end
    if end.images is not None:
        text = body.removeprefix(b"\xef\xbb\xbf").decode(errors="replace")
        expected: list[str] = json.loads(text, strict=False).get("images") or []
        assert list(end.images) == [leniently(image) for image in expected]
        assert end.intact == end.images


# ---- bounds

LENGTH = 96 * 1024
LITTLE, TEXT, BRACKETS, MANY_IMAGES = 24_000, MAX_KEPT_BYTES + 24_000, 2 * LENGTH, 128_000

ENDLESS = {
    "a list of numbers": (LITTLE, b'{"x":[', b"0,"),
    "a list of objects": (LITTLE, b'{"x":[', b'{"images":["aGk="]},'),
    "a string": (LITTLE, b'{"x":"', b"AAAA"),
    "a string of escapes": (LITTLE, b'{"x":"', b"\\u0041"),
    "a key": (LITTLE, b'{"', b"k"),
    "a number": (LITTLE, b'{"x":', b"7"),
    "members": (LITTLE, b"{", b'"x":1,'),
    "members that are images": (LITTLE, b"{", b'"images":["","aGk="],'),
    "members that are no images": (LITTLE, b"{", b'"images":1,'),
    "members that are links": (LITTLE, b"{", b'"download_urls":["x"],'),
    "open brackets": (BRACKETS, b'{"x":', b"["),
    "white space": (LITTLE, b"", b" "),
    "links": (TEXT, b'{"download_urls":[', b'"x",'),
    "one link": (TEXT, b'{"download_urls":["', b"x"),
    "subjects": (TEXT, b'{"known_subjects":{"counts":{', b'"a":1,'),
    "images": (MANY_IMAGES, b'{"images":[', b'"AAAA",'),
    "empty images": (MANY_IMAGES, b'{"images":[', b'"",'),
    "images that are none": (MANY_IMAGES, b'{"images":[', b"1,"),
    "images that are lists": (MANY_IMAGES, b'{"images":[', b"[],"),
    "one damaged image": (LITTLE, b'{"images":["', b"*"),
    "one image of padding": (LITTLE, b'{"images":["', b"="),
    "one image of line breaks": (LITTLE, b'{"images":["', b"\\n"),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ENDLESS)
def test_what_never_ends_is_never_held(kind: str) -> None:
    allowed, opening, unit = ENDLESS[kind]
    piece = unit * (4096 // len(unit))
    problem: str | None = None
    tracemalloc.start()
    try:
        decoder = AnswerDecoder()
        try:
            for part in (opening, *repeat(piece, LENGTH // len(piece))):
                rest = part
                while rest:
                    rest = rest[decoder.feed(rest) :]
            decoder.finish()
        except AnswerError as error:
            problem = str(error)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert problem is not None
    assert len(problem) < 1000
    assert held < allowed


@pytest.mark.parametrize("more", [0, 1])
def test_more_images_than_anybody_asks_for_are_refused_and_the_first_ones_kept(more: int) -> None:
    body = json.dumps({"images": ["aGk="] * (MAX_IMAGES + more)}).encode()
    end = end_of([body])
    assert (end.images is None) == bool(more)
    assert end.intact == (b"hi",) * MAX_IMAGES


WRONG = {
    "links": b'"download_urls":[' + b"1," * 32_000 + b"1]",
    "subjects": b'"known_subjects":{"counts":{' + b",".join(b'"%d":""' % number for number in range(6500)) + b"}}",
    "a subject": b'"known_subjects":{"counts":{"' + b"k" * 60_000 + b'":""}}',
}


@pytest.mark.parametrize("kind", WRONG)
def test_of_a_thousand_things_that_are_wrong_only_the_first_few_are_told(kind: str) -> None:
    # To tell each of them held the event loop for a third of a second.
    answer = fed([b'{"images":["aGk="],' + WRONG[kind] + b"}"]).finish()
    assert answer.images == (b"hi",)
    (note,) = answer.notes
    assert len(note) < 1200
    assert note.count("expected") <= 10
