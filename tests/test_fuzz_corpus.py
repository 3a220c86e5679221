"""What fuzzing keeps is replayed, what it found stays mended, and its expectations are shown to be able to fail."""

import base64
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from fuzz import decoder
from fuzz.decoder import ending_of
from fuzz.expectation import Accepted, Refused, expected
from fuzz.recipes import cut, swollen
from fuzz.targets import HERE, TARGETS, kept

from phota_async.codec.answer import MAX_KEPT_BYTES, Answer, AnswerDecoder
from phota_async.codec.error_answer import api_error, parse_retry_after

FINDINGS = [(target, path) for target in TARGETS for path in kept("findings", target)]


# ---- what is kept


@pytest.mark.parametrize("target", TARGETS)
def test_every_kept_input_meets_what_is_expected_of_it(target: str) -> None:
    inputs = kept("corpus", target)
    for path in inputs:
        TARGETS[target](path.read_bytes())
    assert inputs


@pytest.mark.parametrize(("target", "path"), FINDINGS, ids=lambda value: getattr(value, "name", value))
def test_what_was_found_once_does_not_come_back(target: str, path: Path) -> None:
    TARGETS[target](path.read_bytes())


def test_what_is_kept_stays_small() -> None:
    sizes = [path.stat().st_size for folder in ("corpus", "findings") for one in TARGETS for path in kept(folder, one)]
    assert len(sizes) < 200
    assert sum(sizes) < 300_000


def test_every_target_has_its_words() -> None:
    assert {path.stem for path in (HERE / "dictionaries").iterdir()} == set(TARGETS)


# ---- what was found, in words


def same_however_it_is_cut(body: bytes, *lengths: int) -> bool:
    place, pieces = 0, list[bytes]()
    for length in lengths:
        pieces.append(body[place : place + length])
        place += length
    return ending_of([*pieces, body[place:]]) == ending_of([body])


@pytest.mark.parametrize("prefix", ["data:im\\/\xe9,", "data:\\ud83d\\ude00,", "data:\\ud83d,", "data:\xe9\xe9,"])
def test_a_uri_whose_head_is_not_ascii_is_no_image_however_it_is_cut(prefix: str) -> None:
    body = f'{{"images":["{prefix}aGk="]}}'.encode()
    assert ending_of([body]).answer is None
    for place in range(len(body)):
        assert same_however_it_is_cut(body, place)


@pytest.mark.parametrize("before", ["\\n" * 4096, "data:," + "\\n" * 4096])
def test_a_uri_behind_line_breaks_or_another_uri_is_no_image_however_it_is_cut(before: str) -> None:
    body = f'{{"images":["{before}data:,aGk="]}}'.encode()
    assert ending_of([body]).answer is None
    assert same_however_it_is_cut(body, body.rindex(b"data:"))


@pytest.mark.parametrize("tail", ["e", "x", "-", "x" * 2000])
@pytest.mark.parametrize("digits", [1000, 1023, 1024, 1025, 2000])
def test_a_long_number_is_checked_equally_far_however_it_is_cut(digits: int, tail: str) -> None:
    body = b'{"x":%b,"images":["aGk="]}' % ("9" * digits + tail).encode()
    for length in (5, 500, 1028, 1029, 1030, 1031):
        assert same_however_it_is_cut(body, length, 700)


def test_white_space_before_a_small_member_does_not_count_however_it_is_cut() -> None:
    link = "x" * (MAX_KEPT_BYTES - 4)
    body = b'{"download_urls":%b["%b"]}' % (b" " * 5000, link.encode())
    assert ending_of([body]).answer is not None
    assert same_however_it_is_cut(body, 30)


@pytest.mark.parametrize("space", ["\x1c", "\x1d", "\x1e", "\x1f", "\x0b", "\x0c", "\x85", "\xa0", "\u2003"])
def test_odd_white_space_around_the_seconds_of_a_retry_after_raises_nothing(space: str) -> None:
    now = datetime(2026, 3, 1, tzinfo=UTC)
    assert parse_retry_after(f"7{space}", now=now) == 7
    assert parse_retry_after(f"{space}7", now=now) == 7


@pytest.mark.parametrize("letter", ["\U000f2980", "\u2028", "\x07", "\u0378", "x"])
def test_the_line_of_an_error_stays_short_also_where_its_letters_are_shown_as_escapes(letter: str) -> None:
    body = json.dumps({"code": letter * 200, "detail": f"it says {letter * 400}", "request_id": letter * 200}).encode()
    line = str(api_error(400, body, request_id=None))
    assert len(line) < 1000
    assert line.isprintable()
    assert "it says" in line


# ---- what is expected


def image_of(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4))


def answer_with(*texts: str, **more: object) -> bytes:
    return json.dumps({"images": [*texts], **more}).encode()


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        (answer_with("aGk=", "aG8"), Accepted([b"hi", b"ho"], [], {}, ["$.images[1] came as base64 without"])),
        (answer_with("aGk=", "*"), Refused([b"hi"], is_json=True)),
        (answer_with("aGk=", download_urls=["a"]), Accepted([b"hi"], ["a"], {}, [])),
        (answer_with("aGk=", download_urls="a"), Accepted([b"hi"], [], {}, ["$.download_urls: "])),
        (answer_with("aGk=", known_subjects={"counts": {"a": 2}}), Accepted([b"hi"], [], {"a": 2}, [])),
        (answer_with("aGk=", known_subjects={"counts": {"a": True}}), Accepted([b"hi"], [], {}, ["$.known_subjects"])),
        (answer_with(download_urls=[1]), Refused([], is_json=True)),
        (b"[]", Refused([], is_json=True)),
        (b'{"images":["aGk=","aG8', Refused([image_of("images"), b"hi"], is_json=False)),
        (b'{"images":["AAAA"],"images":["aGk="]}', Accepted([b"hi"], [], {}, [])),
        (b'\xef\xbb\xbf{"x":"\xff\n","images":["aGk="]}', Accepted([b"hi"], [], {}, [])),
        (b'{"x":%b.,"images":["aGk="]}' % (b"9" * 2000), Accepted([b"hi"], [], {}, [])),
        (b'{"x":%b.,"images":["aGk="]}' % (b"9" * 20), Refused([image_of("images"), b"hi"], is_json=False)),
    ],
)
def test_the_expectation_is_what_the_contract_says(body: bytes, wanted: Accepted | Refused) -> None:
    found = expected(body)
    assert type(found) is type(wanted)
    if isinstance(found, Accepted) and isinstance(wanted, Accepted):
        assert found[:3] == wanted[:3]
        assert all(map(str.startswith, found.notes, wanted.notes))
        assert len(found.notes) == len(wanted.notes)
    else:
        assert found == wanted


def test_nothing_is_expected_where_json_does_not_follow() -> None:
    assert expected(b'{"x":' + b"[" * 400 + b"]" * 400 + b"}") is None


class _Halving(AnswerDecoder):
    """A decoder that hands out half images."""

    def finish(self) -> Answer:
        answer = super().finish()
        return Answer(tuple(image[: len(image) // 2] for image in answer.images), (), {}, answer.notes)


class _Forgetting(AnswerDecoder):
    """A decoder that loses what was intact."""

    @property
    def intact(self) -> tuple[bytes, ...]:
        return ()


class _Hoarding(AnswerDecoder):
    """A decoder that holds what travels."""

    def __init__(self) -> None:
        super().__init__()
        self.travelled: list[bytes] = []

    def feed(self, data: bytes) -> int:
        self.travelled.append(data)
        return super().feed(data)


class _Reading(AnswerDecoder):
    """A decoder that reads a piece as if it were the whole."""

    def feed(self, data: bytes) -> int:
        super().feed(data.strip())
        return len(data)


@pytest.mark.parametrize(
    ("broken", "document"),
    [
        (_Halving, b'{"images":["aGk="]}'),
        (_Forgetting, b'{"images":["aGk="]}'),
        (_Reading, b'{"images":["aGk="],"download_urls":["a b"]}'),
        (_Hoarding, b'{"x":"-\x01\x00\xff\x01\x00\xff"}'),
    ],
)
def test_a_decoder_that_is_wrong_is_found_out(broken: type[AnswerDecoder], document: bytes) -> None:
    data = b"\x00\x00\x00\x00" + document
    decoder.check(data)
    with pytest.raises(AssertionError):
        decoder.check(data, broken)


def test_a_few_bytes_become_a_long_run() -> None:
    assert swollen(b"ab\x01\x11\x10c") == b"ab" + b"ab" * 2 + b"c"
    assert swollen(b"a\x01\x00\xc0") == b"a" * (1 + 4096)
    assert swollen(b"a\x01\x00") == b"a"


def test_pieces_hold_all_of_a_body() -> None:
    body = bytes(range(256)) * 20
    assert [len(piece) for piece in cut(body, bytes([0, 9, 200]))][:4] == [1, 10, 1024, 1]
    for lengths in (b"", b"\x00", b"\xff\x00"):
        assert b"".join(cut(body, lengths)) == body
