"""How a fuzzer's bytes become an input: long runs out of a few bytes, and one body cut into pieces."""

from __future__ import annotations

import re
from collections.abc import Iterator

CUT_BYTES = 4
"""How many bytes in front tell how a body is cut."""

LONGEST = 144 * 1024
"""No run swells a body beyond this: every bound of the codec (64 KiB is the largest) is in reach twice."""

_MARK = 1  # this byte and two more stand for a run
_MOST_PIECES = 300

# What becomes a token for each byte or two takes long, and 2000 of them are all that a turn takes.
_TOKENS = re.compile(rb'[\[\]{},:"\\]')
_MOST_TOKENS = 3 * 1024


def swollen(data: bytes) -> bytes:
    """Replace each mark by a run of what stands before it.

    The byte behind the mark tells how many bytes are repeated (1 to 16), the next one how often, on a logarithmic
    scale (1 to 63,488 times): bounds of many KiB are in reach of an input of a few bytes.
    """
    first, *parts = data.split(bytes([_MARK]))
    body = bytearray(first)
    for part in parts:
        if len(part) >= 2:
            unit = body[-(part[0] % 16 + 1) :]
            times = ((16 + part[1] % 16) << part[1] // 16) >> 4
            room = _MOST_TOKENS if _TOKENS.search(unit) else LONGEST
            body += (unit * times)[: max(0, min(room, LONGEST - len(body)))]
        body += part[2:]
    return bytes(body)


def cut(body: bytes, lengths: bytes) -> Iterator[bytes]:
    """Give ``body`` in pieces whose lengths follow ``lengths``, round and round."""
    place = 0
    for number in range(_MOST_PIECES):
        if place >= len(body) or not lengths:
            break
        chosen = lengths[number % len(lengths)]
        length = chosen + 1 if chosen < 200 else (chosen - 199) * 1024
        yield body[place : place + length]
        place += length
    yield body[place:]
