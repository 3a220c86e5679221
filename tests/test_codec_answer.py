"""The answer decoded as it arrives: what costs nothing, what is no answer, what of a damaged one is intact.

That it equals json and base64 of the whole, however it is spelled and cut, is held by test_decoder_properties.
"""

import base64
import inspect
import json
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phota_async import codec
from phota_async.codec.answer import MAX_KEPT_BYTES, Answer, AnswerDecoder, AnswerError

FUZZ = settings(derandomize=True, deadline=None, max_examples=150)

IMAGES = st.lists(st.binary(min_size=1, max_size=60), min_size=1, max_size=4)


def one_by_one(data: bytes) -> list[bytes]:
    return [data[place : place + 1] for place in range(len(data))]


def fed(pieces: list[bytes]) -> AnswerDecoder:
    decoder = AnswerDecoder()
    for piece in pieces:
        rest = piece
        while rest:
            taken = decoder.feed(rest)
            assert 0 < taken <= len(rest)
            rest = rest[taken:]
    return decoder


def decoded(*pieces: bytes) -> Answer:
    return fed(list(pieces)).finish()


def bytes_of(images: tuple[bytes, ...]) -> list[bytes]:
    return list(images)


def answer_with(*images: bytes, **more: Any) -> bytes:
    return json.dumps({"images": [base64.b64encode(image).decode() for image in images], **more}).encode()


# ---- what costs nothing


@pytest.mark.parametrize(
    ("text", "note"),
    [
        ("aGk", "$.images[0] came as base64 without its padding"),
        ("aGVs\\nbG8=", "$.images[0] came as base64 with line breaks"),
        ("-_-_", "$.images[0] came as base64 with line breaks, in the URL-safe alphabet"),
        ("data:image\\/png;base64,aGk=", "as a data: URI"),
    ],
)
def test_a_deviation_that_leaves_no_doubt_is_noted(text: str, note: str) -> None:
    answer = decoded(f'{{"images":["{text}"]}}'.encode())
    (told,) = answer.notes
    assert note in told
    assert bytes_of(answer.images)[0]


@pytest.mark.parametrize(
    "subjects",
    [
        "1",
        '"x"',
        "[]",
        "true",
        '{"counts":[]}',
        '{"counts":{"a":1.5}}',
        '{"counts":{"a":"1"}}',
        '{"counts":{"a":true}}',
        '{"counts":{"a":null}}',
        '{"counts":"x"}',
        '{"counts":{"a":NaN}}',
        "[" * 30_000 + "]" * 30_000,
        '{"counts":{"a":' + "9" * 5000 + "}}",
        '{"x":"\\ud800","counts":1}',
        '"\xff"',
        '"' + "x" * MAX_KEPT_BYTES + '"',
    ],
)
def test_odd_subjects_cost_a_note_and_not_the_image(subjects: str) -> None:
    body = f'{{"known_subjects":{subjects},"images":["aGk="]}}'.encode("latin-1")
    for pieces in ([body], one_by_one(body)):
        answer = decoded(*pieces)
        assert bytes_of(answer.images) == [b"hi"]
        assert answer.known_subjects == {}
        (note,) = answer.notes
        assert note.startswith("$.known_subjects")


@pytest.mark.parametrize("links", ["1", '"abcd"', '["a",1]', "{}", "[null]", '["' + "x" * MAX_KEPT_BYTES + '"]'])
def test_odd_links_cost_a_note_beside_an_image_and_everything_without_one(links: str) -> None:
    answer = decoded(f'{{"images":["aGk="],"download_urls":{links}}}'.encode())
    assert answer.download_urls == ()
    assert answer.notes[0].startswith("$.download_urls")
    with pytest.raises(AnswerError, match=r"^\$\.download_urls"):
        decoded(f'{{"download_urls":{links}}}'.encode())


@pytest.mark.parametrize("images", ["", '"images":[],', '"images":null,'])
@pytest.mark.parametrize(
    "subjects", ["", ',"known_subjects":null', ',"known_subjects":{}', ',"known_subjects":{"counts":{}}']
)
def test_links_alone_are_an_answer(images: str, subjects: str) -> None:
    answer = decoded(f'{{{images}"download_urls":["https://a.example/?s=1"]{subjects}}}'.encode())
    assert (answer.images, answer.download_urls, answer.notes) == ((), ("https://a.example/?s=1",), ())


def test_several_links_come_in_order() -> None:
    links = [f"https://a.example/{number}?signature={'s' * 700}" for number in range(4)]
    body = json.dumps({"known_subjects": {"counts": {"x": 2}}, "download_urls": links}).encode()
    for pieces in ([body], one_by_one(body)):
        answer = decoded(*pieces)
        assert list(answer.download_urls) == links
        assert answer.known_subjects == {"x": 2}


# ---- what is no answer


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ("", "ends too early"),
        ("[]", r"\$ is not an object"),
        ('["images"]', r"\$ is not an object"),
        ('[{"images":["aGk="]}]', r"\$ is not an object"),
        ("1", r"\$ is not an object"),
        ('"images"', r"\$ is not an object"),
        ("null", r"\$ is not an object"),
        ("{}", "neither images nor links"),
        ('{"images":[]}', "neither images nor links"),
        ('{"images":[],"download_urls":[]}', "neither images nor links"),
        ('{"images":null,"download_urls":null}', "neither images nor links"),
        ('{"x":{"images":["aGk="]}}', "neither images nor links"),
        ('{"images":"aGk="}', r"\$\.images is not a list"),
        ('{"images":{"0":"aGk="}}', r"\$\.images is not a list"),
        ('{"images":7}', r"\$\.images is not a list"),
        ('{"images":"' + "A" * 2 * MAX_KEPT_BYTES + '"}', r"\$\.images is not a list"),
        ('{"images":[1]}', r"\$\.images\[0\] is not a string"),
        ('{"images":["aGk=",null]}', r"\$\.images\[1\] is not a string"),
        ('{"images":[["aGk="]]}', r"\$\.images\[0\] is not a string"),
        ('{"images":[{"b64_json":"aGk="}]}', r"\$\.images\[0\] is not a string"),
        ('{"images":["aGk=",""]}', r"\$\.images\[1\] is empty"),
        ('{"images":["aG*="]}', r"\$\.images\[0\] is not base64"),
        ('{"images":["aGk=aGk="]}', r"\$\.images\[0\]"),
        ('{"images":["\\ud83d\\ude00aGk="]}', r"\$\.images\[0\] is not base64"),
        ('{"images":["aGk="', "ends too early"),
        ('{"images":["aGk="]', "ends too early"),
        ('{"images":["aGk="]}x', "not JSON: something follows"),
        ("<html>", "not JSON"),
    ],
)
def test_what_keeps_no_contract_is_refused_with_its_place(body: str, place: str) -> None:
    for pieces in ([body.encode()], one_by_one(body.encode())):
        with pytest.raises(AnswerError, match=place) as caught:
            decoded(*pieces)
        # Nothing of json or of the scanner hangs on what is raised.
        assert caught.value.__cause__ is None
        assert caught.value.__context__ is None


@pytest.mark.parametrize("first", ['"x"', "null", "7", "{}", '["AAAA"]', "[]", '["*"]', "[1]"])
def test_of_two_members_of_one_name_the_last_counts(first: str) -> None:
    answer = decoded(f'{{"images":{first},"images":["aGk="]}}'.encode())
    assert bytes_of(answer.images) == [b"hi"]


@pytest.mark.parametrize("last", ["null", "[]"])
def test_an_empty_member_that_repeats_images_counts_as_in_json(last: str) -> None:
    with pytest.raises(AnswerError, match="neither images nor links"):
        decoded(f'{{"images":["aGk="],"images":{last}}}'.encode())


def test_of_repeated_small_members_the_last_counts() -> None:
    body = b'{"download_urls":1,"known_subjects":{"counts":{"a":1}},"known_subjects":null,"download_urls":["b"]}'
    answer = decoded(body)
    assert (answer.download_urls, answer.known_subjects, answer.notes) == (("b",), {}, ())


# ---- what was intact


@pytest.mark.parametrize(
    "tail", ["", ",", ',"', ',"AAAA', ',"*"', ',"*"]}', ",1]}", ",null", ',"aGk=aGk="]}', "}", "]} x", ',"\\x']
)
def test_images_before_the_damage_stay_intact(tail: str) -> None:
    decoder = AnswerDecoder()
    with pytest.raises(AnswerError):  # noqa: PT012  (either may notice)
        decoder.feed(f'{{"images":["aGk=","aG8="{tail}'.encode())
        decoder.finish()
    assert bytes_of(decoder.intact) == [b"hi", b"ho"]


def test_images_after_a_damaged_one_stay_intact() -> None:
    decoder = fed([b'{"images":["*","aGk=",1,"","aG8="],"known_subjects":{}}'])
    with pytest.raises(AnswerError, match=r"\$\.images\[0\]"):
        decoder.finish()
    assert bytes_of(decoder.intact) == [b"hi", b"ho"]


@FUZZ
@given(IMAGES, st.data())
def test_a_cut_body_leaves_every_image_whose_string_had_ended(images: list[bytes], data: st.DataObject) -> None:
    body = answer_with(*images, known_subjects={"counts": {}})
    end = data.draw(st.integers(0, len(body) - 1))
    decoder = fed([body[:end]])
    with pytest.raises(AnswerError, match="ends too early"):
        decoder.finish()
    closed = [n for n in range(len(images)) if answer_with(*images[: n + 1])[:-2] in body[:end]]
    assert bytes_of(decoder.intact) == images[: len(closed)]


# ---- bounds


@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"images":', b"}")])
def test_an_unknown_member_may_nest_a_hundred_thousand_deep(opening: bytes, closing: bytes) -> None:
    deep = opening * 100_000 + b"0" + closing * 100_000
    answer = decoded(b'{"x":' + deep + b',"images":["aGk="]}')
    assert bytes_of(answer.images) == [b"hi"]


def held_by_the_codec() -> int:
    ours = tracemalloc.Filter(inclusive=True, filename_pattern=f"{Path(codec.__file__).parent}/*")
    return sum(one.size for one in tracemalloc.take_snapshot().filter_traces([ours]).statistics("filename"))


def test_nothing_of_what_travels_is_held() -> None:
    decoder, piece, held = AnswerDecoder(), b"A" * 16_384, list[int]()
    tracemalloc.start()
    try:
        for opening, closing in ((b'{"x":"', b'",'), (b'"known_subjects":"', b'",'), (b'"images":["', b'"]}')):
            decoder.feed(opening)
            for _ in range(20):
                decoder.feed(piece)
            held.append(held_by_the_codec())
            decoder.feed(closing)
    finally:
        tracemalloc.stop()
    (image,) = decoder.finish().images
    size = len(image)
    assert size == 20 * 16_384 * 3 // 4
    assert max(held[:2]) < 200_000
    assert held[2] < size + 200_000


def test_an_image_is_hidden_from_what_is_shown() -> None:
    assert "hi" not in repr(decoded(answer_with(b"hi" * 100, download_urls=["https://secret.example/"])))
    assert "secret" not in repr(decoded(answer_with(b"hi" * 100, download_urls=["https://secret.example/"])))


def test_a_caller_that_stands_deep_gets_its_images_all_the_same() -> None:
    body = b'{"images":["aW1hZ2U="],"x":' + b"[" * 100 + b"]" * 100 + b"}"

    def below(depth: int) -> tuple[bytes, ...]:
        return below(depth - 1) if depth else fed([body]).finish().images

    # json needs a level for each bracket, where the interpreter counts those of C as well.
    assert below(sys.getrecursionlimit() - len(inspect.stack()) - 60) == (b"image",)


def test_a_number_that_takes_long_to_read_is_left_to_the_walk() -> None:
    body = b'{"images":["aW1hZ2U="],"known_subjects":{"counts":{"a":%s}}}' % (b"1" * 21)
    assert fed([body]).finish().known_subjects == {"a": int("1" * 21)}
    assert fed([body.replace(b"1" * 21, b"1" * 20)]).finish().known_subjects == {"a": int("1" * 20)}
