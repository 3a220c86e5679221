"""Content-Encoding undone in steps against zlib at one go, however the body is cut."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterable, Iterator

from fuzz.recipes import CUT_BYTES, cut, swollen
from phota_async.transport.inflate import STEP_BYTES, EncodingError, Inflater

_ENCODINGS = ("gzip", "x-gzip", "deflate", "identity")
_MEMBER_MARK = b"\x02"
_GZIP, _ZLIB, _RAW = 31, 15, -15  # window bits


def check(data: bytes) -> None:
    """Hold the inflater against what is expected of one body: a byte of choices, a pattern of cuts, the data."""
    choice = data[0] if data else 0
    encoding, cuts, rest = _ENCODINGS[choice % 4], data[1 : 1 + CUT_BYTES], data[1 + CUT_BYTES :]
    body = rest if choice & 4 else b"".join(_packed(encoding, rest, choice))
    whole = _inflated(encoding, [body])
    assert whole == _inflated(encoding, cut(body, cuts)), "how a body is cut changes what comes of it"
    assert whole == _expected(encoding, body)


def _packed(encoding: str, data: bytes, choice: int) -> Iterator[bytes]:
    """Give gzip members, each of one part of ``data``; what follows the last mark stands there as it is."""
    *parts, tail = data.split(_MEMBER_MARK)
    for part in parts:
        text = swollen(part)
        if encoding == "deflate":
            machine = zlib.compressobj(wbits=_RAW if choice & 8 else _ZLIB)
            yield machine.compress(text) + machine.flush()
        else:
            yield gzip.compress(text, mtime=0)
    yield tail


def _inflated(encoding: str, pieces: Iterable[bytes]) -> bytes | None:
    inflater = Inflater(encoding)
    steps: list[bytes] = []
    try:
        for piece in pieces:
            steps += inflater.feed(piece)
        inflater.finish()
    except EncodingError as error:
        _check_message(error)
        return None
    assert not inflater.expands or all(0 < len(step) <= STEP_BYTES for step in steps)
    return b"".join(steps)


def _check_message(error: EncodingError) -> None:
    assert error.__context__ is None, "what zlib raised hangs on it"
    assert 0 < len(str(error)) < 200


def _expected(encoding: str, body: bytes) -> bytes | None:
    """Unpack at one go; None for what is damaged or cut short."""
    if encoding == "identity":
        return body
    bits = _GZIP if encoding != "deflate" else _ZLIB if body[:1] and body[0] % 16 == zlib.DEFLATED else _RAW
    whole, rest, ended = b"", body, False
    while not ended:
        machine = zlib.decompressobj(bits)
        try:
            whole += machine.decompress(rest)
        except zlib.error:
            return None
        if not machine.eof:
            return None
        rest = machine.unused_data
        ended = bits != _GZIP or not rest.startswith(b"\x1f\x8b")
    return whole
