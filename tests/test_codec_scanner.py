"""The scanner: it accepts the documents that json.loads accepts, tells what they hold, and never holds the loop."""

import json
import random
import tracemalloc
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phota_async.codec import scanner as scanner_module
from phota_async.codec.scanner import MAX_DEPTH, TOKENS_A_TURN, NotJsonError, Scanner

FUZZ = settings(derandomize=True, deadline=None, max_examples=150)


class Recorder:
    """Notes every event."""

    def __init__(self, *, keeps_raw: bool = False) -> None:
        self.keeps_raw = keeps_raw
        self.raw = bytearray()
        self.strings: list[bytes] = []
        self.keys: list[tuple[str, int]] = []
        self.begun: list[int] = []
        self.events = 0
        self.longest = 0

    def on_key(self, name: str, depth: int) -> None:
        self.events += 1
        self.keys.append((name, depth))

    def on_open(self, bracket: int, depth: int) -> None:
        assert bracket in b"[{"
        self.events += 1
        self.begun.append(depth)

    def on_string(self, depth: int) -> None:
        self.events += 1
        self.begun.append(depth)
        self.strings.append(b"")

    def on_text(self, text: bytes) -> None:
        self.strings[-1] += text
        self.longest = max(self.longest, len(text))

    def on_scalar(self, depth: int) -> None:
        self.events += 1
        self.begun.append(depth)

    def on_end(self, depth: int) -> None:
        assert self.begun.pop() == depth

    def on_raw(self, raw: bytes) -> None:
        self.raw += raw


def seeded(seed: int) -> random.Random:
    return random.Random(seed)  # noqa: S311  (the same each time, and no secret)


def cut(data: bytes, seed: int) -> list[bytes]:
    chance = seeded(seed)
    places = sorted(chance.choices(range(len(data) + 1), k=chance.randrange(12)))
    return [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True)]


def walk(scanner: Scanner, pieces: list[bytes]) -> None:
    for piece in pieces:
        rest = piece
        while rest:
            taken = scanner.feed(rest)
            assert 0 < taken <= len(rest)
            rest = rest[taken:]
    scanner.finish()


def accepts(pieces: list[bytes]) -> bool:
    try:
        walk(Scanner(Recorder()), pieces)
    except NotJsonError:
        return False
    return True


def json_accepts(data: bytes) -> bool:
    try:
        json.loads(data.decode(errors="replace"))
    except ValueError:
        return False
    return True


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)
TOKENS = st.sampled_from(
    [
        *'{}[],:" \n\t\r01-+.eE',
        "true",
        "false",
        "null",
        "NaN",
        "Infinity",
        "-Infinity",
        '"a"',
        '"a":',
        "12",
        "0.5",
        "\\n",
        "\\u00e9",
        "\\u12",
        "\\x",
        "é",
        '"\\/"',
        "tru",
        "nul",
        "[[",
        "]]",
        "{}",
        "[]",
        "1e5",
        "-0",
        "01",
        ".5",
    ]
)


@FUZZ
@given(VALUES, st.booleans(), st.sampled_from([None, 1]), st.integers(0, 2**32))
def test_what_json_writes_is_accepted_however_it_is_cut(
    value: Any,
    ascii_only: bool,  # noqa: FBT001
    indent: int | None,
    seed: int,
) -> None:
    data = json.dumps(value, ensure_ascii=ascii_only, indent=indent).encode("utf-8", "replace")
    assert accepts(cut(data, seed))


@FUZZ
@given(st.lists(TOKENS, max_size=14).map("".join).map(str.encode), st.integers(0, 2**32))
def test_it_agrees_with_json_on_heaps_of_tokens(data: bytes, seed: int) -> None:
    # A raw line break inside a string is the one thing that is open: see the next test.
    flat = data.translate(None, b"\n\t\r")
    assert accepts(cut(flat, seed)) == json_accepts(flat)


@FUZZ
@given(VALUES, st.integers(0, 2**32))
def test_it_agrees_with_json_on_damaged_documents(value: Any, seed: int) -> None:
    chance, data = seeded(seed), bytearray(json.dumps(value).encode())
    for _ in range(chance.randrange(1, 4)):
        place = chance.randrange(len(data) + 1)
        data[place : place + chance.randrange(3)] = bytes(
            chance.choices(b'{}[],:"\\ 019-.eEtfnu', k=chance.randrange(3))
        )
    assert accepts(cut(bytes(data), seed)) == json_accepts(bytes(data))


@pytest.mark.parametrize("control", [b"\n", b"\x00", b"\x1f"])
def test_the_verdict_on_a_control_character_in_a_string_does_not_hang_on_the_cuts(control: bytes) -> None:
    data = b'["' + control + b'a\\/b"]'
    verdicts = {accepts([data[:place], data[place:]]) for place in range(len(data))}
    assert len(verdicts) == 1


@pytest.mark.parametrize("length", [1024, 1025, 5000])
@pytest.mark.parametrize("drip", [False, True])
def test_a_long_run_of_letters_is_no_value(length: int, drip: bool) -> None:  # noqa: FBT001
    data = b'{"a":' + b"x" * length + b"}"
    assert not accepts([data[place : place + 1] for place in range(len(data))] if drip else [data])


@pytest.mark.parametrize("digits", [10, 1023, 1024, 1025, 100_000])
def test_a_long_number_is_a_number(digits: int) -> None:
    number = b"9" * digits
    assert accepts([number])
    assert accepts([b'{"a":', number[:7], number[7:], b"}"])


@pytest.mark.parametrize("end", [b".5", b"e5", b".5e-5"])
@pytest.mark.parametrize("digits", [1021, 1022, 1023, 1024])
def test_a_number_may_go_on_beyond_what_is_checked_of_it(digits: int, end: bytes) -> None:
    assert accepts([b"9" * digits + end])


@pytest.mark.parametrize("end", [b"x", b"e", b".", b"-"])
@pytest.mark.parametrize("digits", [1, 1022, 1023])
def test_a_number_with_a_wrong_end_is_none(digits: int, end: bytes) -> None:
    assert not accepts([b"9" * digits + end])
    assert not accepts([b"[", b"9" * digits, end, b"]"])


def test_a_long_number_with_a_letter_in_it_is_none() -> None:
    assert not accepts([b"9" * 1024 + b"x"])


@pytest.mark.parametrize(
    "data",
    [
        "",
        " ",
        "[",
        "{",
        '{"a"',
        '{"a":',
        '{"a":1',
        '{"a":1,',
        "[1",
        "[1,",
        '"a',
        '"\\',
        '"\\u00',
        "tru",
        "-",
        "1e",
        '{"',
    ],
)
def test_a_document_that_is_not_complete_is_refused_at_its_end(data: str) -> None:
    with pytest.raises(NotJsonError):
        walk(Scanner(Recorder()), [data.encode()])


@pytest.mark.parametrize(
    "data",
    [
        "[1,]",
        '{"a":1,}',
        "[,1]",
        "{,}",
        "[1 2]",
        '{"a" 1}',
        '{"a":}',
        "{1:2}",
        "[}",
        "{]",
        "[1}",
        '{"a":1]',
        "]",
        "}",
        ":",
        ",",
        "1 2",
        "[] []",
        "{}x",
        '"\\x"',
        '"\\u12g4"',
        "01",
        "+1",
        "1.",
        ".5",
        "-",
        "--1",
        "1e",
        "True",
        "-NaN",
        "'a'",
        "[1,,2]",
        "[[],]",
        "[{},]",
        '{"a":[],}',
        '{"a":{},}',
        "[[]1]",
        '{"a":1 "b":2}',
        "/**/1",
        "\ufeff",
        "\ufeff\ufeff1",
        "[\ufeff1]",
        "1\ufeff",
        "1,",
        "nan",
    ],
)
def test_what_breaks_the_structure_is_refused_with_the_place(data: str) -> None:
    with pytest.raises(NotJsonError, match=r"near byte \d+|after \d+ bytes"):
        walk(Scanner(Recorder()), [data.encode()])
    assert not accepts([bytes([byte]) for byte in data.encode()])


@pytest.mark.parametrize(
    "data", ["1", "-0", "1.5e-7", "NaN", "-Infinity", "true", "null", '"a"', "[]", " {} ", "[[],{}]"]
)
def test_any_value_may_be_the_document(data: str) -> None:
    assert accepts([data.encode()])
    assert accepts([bytes([byte]) for byte in data.encode()])


@FUZZ
@given(st.lists(st.text(st.characters(max_codepoint=127))), st.integers(0, 2**32))
def test_strings_are_told_with_their_escapes_undone(strings: list[str], seed: int) -> None:
    recorder = Recorder()
    walk(Scanner(recorder), cut(json.dumps(strings).encode(), seed))
    assert recorder.strings == [text.encode() for text in strings]


def test_a_long_string_full_of_escapes_is_told_in_spans() -> None:
    text = "a\\/\\u0041" * 50_000
    recorder = Recorder()
    walk(Scanner(recorder), [f'["{text}"]'.encode()])
    assert recorder.strings == [b"a/A" * 50_000]
    assert recorder.longest <= 64 * 1024


@FUZZ
@given(VALUES, st.sampled_from([None, 1]), st.integers(0, 2**32))
def test_the_raw_text_of_a_document_is_the_document(value: Any, indent: int | None, seed: int) -> None:
    data = json.dumps(value, indent=indent).encode() + b" \n"
    recorder = Recorder(keeps_raw=True)
    walk(Scanner(recorder), cut(data, seed))
    assert bytes(recorder.raw) == data
    assert not recorder.begun


def test_keys_are_told_with_their_depth_and_long_ones_by_their_beginning() -> None:
    recorder = Recorder()
    walk(Scanner(recorder), [b'{"a":{"\\u0062":1},"' + b"k" * 1000 + b'":[{"c":2}]}'])
    (first, second, long, last) = recorder.keys
    assert (first, second, last) == (("a", 1), ("b", 2), ("c", 3))
    assert long[0].startswith("k" * 256)


def test_a_key_that_is_no_text_is_walked() -> None:
    recorder = Recorder()
    walk(Scanner(recorder), [b'{"\xff":{"\\ud800":1}}'])
    assert [depth for _, depth in recorder.keys] == [1, 2]


@pytest.mark.slow
def test_a_hundred_thousand_open_brackets_are_walked() -> None:
    for opening, closing in ((b"[", b"]"), (b'{"a":', b"}")):
        assert accepts([opening * 100_000 + b"1" + closing * 100_000])


@pytest.mark.slow
def test_more_open_brackets_than_the_bound_are_refused() -> None:
    scanner, left = Scanner(Recorder()), MAX_DEPTH
    while left:
        left -= scanner.feed(b"[" * min(left, TOKENS_A_TURN))
    with pytest.raises(NotJsonError, match=f"^too many open brackets near byte {MAX_DEPTH}$"):
        scanner.feed(b"[")


@pytest.mark.parametrize("data", [b"[" + b"1," * 10_000, b"[" * 10_000, b"[" + b'"\\n",' * 10_000])
def test_one_feed_takes_a_bounded_number_of_tokens(data: bytes) -> None:
    recorder = Recorder()
    scanner = Scanner(recorder)
    while data:
        before = recorder.events
        taken = scanner.feed(data)
        assert taken > 0
        assert recorder.events - before <= TOKENS_A_TURN
        data = data[taken:]


def test_a_feed_stops_only_where_its_tokens_are_used_up() -> None:
    scanner = Scanner(Recorder())
    scanner.feed(b"[")
    assert scanner.feed(b"[" * TOKENS_A_TURN) == TOKENS_A_TURN
    assert scanner.feed(b"[" * (TOKENS_A_TURN + 1)) == TOKENS_A_TURN


@pytest.mark.parametrize("document", [b"[1]", b' {"a":1}', b"7", b'"x"'])
def test_a_byte_order_mark_before_the_document_is_passed_over(document: bytes) -> None:
    data = b"\xef\xbb\xbf" + document
    assert accepts([data])
    assert accepts([bytes([byte]) for byte in data])
    for cut_mark in (b"\xef", b"\xef\xbb"):
        assert not accepts([cut_mark + document])
        assert not accepts([cut_mark])


def test_long_strings_keys_and_numbers_are_not_held() -> None:
    class Deaf(Recorder):
        def on_text(self, text: bytes) -> None:
            pass

    scanner, piece = Scanner(Deaf()), b"7" * 16_384
    ours = tracemalloc.Filter(inclusive=True, filename_pattern=scanner_module.__file__)
    tracemalloc.start()
    try:
        for opening, closing in ((b'{"', b'":1,'), (b'"a":"', b'",'), (b'"b":', b"}")):
            scanner.feed(opening)
            for _ in range(100):
                scanner.feed(piece)
            held = tracemalloc.take_snapshot().filter_traces([ours]).statistics("filename")
            assert sum(one.size for one in held) < 50_000
            scanner.feed(closing)
    finally:
        tracemalloc.stop()
    scanner.finish()
