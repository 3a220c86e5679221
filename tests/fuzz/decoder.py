"""The answer's decoder against json and base64 of the whole, however the document is cut."""

from __future__ import annotations

import gc
import re
import sys
from collections.abc import Iterable
from io import BytesIO

from attrs import frozen

from fuzz.expectation import Accepted, Refused, expected
from fuzz.recipes import CUT_BYTES, cut, swollen
from phota_async.codec.answer import Answer, AnswerDecoder, AnswerError
from phota_async.codec.scanner import TOKENS_A_TURN

_LOOKED_AT = 64 * 1024  # so often, in bytes, is what is held looked at
_MEMBER_BYTES = 200 * 1024  # what one small member may hold: 64 KiB kept and 128 KiB being gathered
_OVERHEAD = 32 * 1024
_LONGEST_MESSAGE = 1100

# Where a number is wrong depends on the cuts, and so does in which way a string is no base64.
_CHANGING = re.compile(r"\d+|goes on after its padding|is not base64")


@frozen
class Ending:
    """How a document ended: with an answer, or with the words of an error; and what was intact then."""

    answer: tuple[object, ...] | None
    problem: str
    intact: tuple[bytes, ...]


def check(data: bytes, kind: type[AnswerDecoder] = AnswerDecoder) -> None:
    """Hold a decoder against what is expected of one document."""
    document = swollen(data[CUT_BYTES:])
    whole = ending_of([document], kind, turns=len(document) * 2 // TOKENS_A_TURN + 2)
    assert ending_of(cut(document, data[:CUT_BYTES]), kind) == whole, "how a document is cut changes what comes of it"
    match expected(document):
        case Refused(intact, is_json):
            assert whole.answer is None, f"taken though it keeps no contract: {whole.answer}"
            if is_json:
                assert list(whole.intact) == intact
            else:
                assert _in_order(whole.intact, intact), "an image that no whole string of the document holds"
        case Accepted() as wanted:
            assert whole.answer is not None, f"refused: {whole.problem}"
            assert whole.answer[:3] == (wanted.images, wanted.links, wanted.subjects)
            assert list(whole.intact) == wanted.images
            _check_notes(whole.answer[3:], wanted.notes)
        case None:
            pass


def ending_of(pieces: Iterable[bytes], kind: type[AnswerDecoder] = AnswerDecoder, turns: int | None = None) -> Ending:
    """Feed a decoder and tell how that ends."""
    decoder, fed, feeds = kind(), bytearray(), 0
    try:
        for piece in pieces:
            rest = piece
            while rest:
                taken = decoder.feed(rest)
                assert 0 < taken <= len(rest)
                rest, feeds = rest[taken:], feeds + 1
            fed += piece
            if len(fed) // _LOOKED_AT > (len(fed) - len(piece)) // _LOOKED_AT:
                _check_memory(decoder, fed)
        assert turns is None or feeds <= turns, f"{feeds} turns"
        answer = decoder.finish()
    except AnswerError as error:
        return Ending(None, _message(error), decoder.intact)
    return Ending(_facts(answer), "", decoder.intact)


def _facts(answer: Answer) -> tuple[object, ...]:
    return (list(answer.images), list(answer.download_urls), answer.known_subjects, *answer.notes)


def _message(error: AnswerError) -> str:
    assert error.__context__ is None, "what json or the scanner raised hangs on it"
    assert 0 < len(str(error)) < _LONGEST_MESSAGE, "a message that is no line"
    return _CHANGING.sub("", str(error))


def _check_notes(notes: tuple[object, ...], wanted: list[str]) -> None:
    assert len(notes) == len(wanted), f"{notes} where {wanted} were expected"
    for note, beginning in zip(map(str, notes), wanted, strict=True):
        assert note.startswith(beginning)
        assert len(note) < _LONGEST_MESSAGE


def _in_order(some: Iterable[bytes], of: Iterable[bytes]) -> bool:
    rest = iter(of)
    return all(one in rest for one in some)


def _check_memory(decoder: AnswerDecoder, fed: bytearray) -> None:
    """What is held is what can be decoded of what was fed, the small members, and a byte for each open bracket."""
    escaped = b"\\" in fed
    decoded = len(fed) * 3 // 4 if escaped or b"images" in fed else 0
    members = 3 if escaped else sum(name in fed for name in (b"images", b"download_urls", b"known_subjects"))
    allowed = decoded + members * _MEMBER_BYTES + fed.count(b"[") + fed.count(b"{") + _OVERHEAD
    held = _held(decoder)
    assert held <= allowed, f"{held} bytes are held of {len(fed)}, {allowed} would be in order"


def _held(decoder: AnswerDecoder) -> int:
    """Return the size of all text and bytes that hang on a decoder."""
    total, seen, waiting = 0, set[int](), gc.get_referents(decoder)
    while waiting:
        one = waiting.pop()
        if id(one) in seen or isinstance(one, type):
            continue
        seen.add(id(one))
        if isinstance(one, BytesIO):
            total += one.tell()
        elif isinstance(one, bytes | bytearray | str):
            total += sys.getsizeof(one)
        elif type(one).__module__.startswith("phota_async") or isinstance(one, list | dict | tuple):
            waiting += gc.get_referents(one)
    return total
