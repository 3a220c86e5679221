"""Bytes that grow: the same as joined, and no more memory than they hold."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phota_async.codec.growing import RESERVED_BYTES, RESERVED_FROM, Growing

FUZZ = settings(derandomize=True, deadline=None, max_examples=100)

# Prints by how much the resident set grew while two images of 20 MB came in side by side, and what is left of it
# afterwards. They are the second two: what is freed moves malloc's bound, from which on a block grows in place.
MEASURE = """
from phota_async.codec.growing import Growing
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096
def two():
    pair = Growing(), Growing()
    for _ in range(100):
        for growing in pair:
            growing.append(piece)
    grown = resident() - before
    wholes = [growing.take() for growing in pair]
    taken = resident() - before
    assert wholes == [piece * 100] * 2
    return grown, taken
piece = b"x" * 200_000
before = resident()
two()
print(*two())
"""


@FUZZ
@given(st.lists(st.binary(max_size=100), max_size=50))
def test_what_comes_out_is_what_went_in(pieces: list[bytes]) -> None:
    growing = Growing()
    for piece in pieces:
        growing.append(piece)
    assert len(growing) == len(b"".join(pieces))
    assert growing.take() == b"".join(pieces)
    assert (len(growing), growing.take()) == (0, b"")


@pytest.mark.parametrize(
    "size",
    [
        RESERVED_FROM - 1,
        RESERVED_FROM,
        RESERVED_FROM + 1,
        RESERVED_BYTES - 1,
        RESERVED_BYTES,
        RESERVED_BYTES + 1,
        10**8,
    ],
)
def test_long_ones_come_out_whole(size: int) -> None:
    pattern = bytes(range(251)) * 400
    whole = (pattern * (size // len(pattern) + 1))[:size]
    growing = Growing()
    for start in range(0, size, 100_003):
        growing.append(whole[start : start + 100_003])
    assert growing.take() == whole


def test_what_was_taken_does_not_change_any_more() -> None:
    growing = Growing()
    growing.append(b"a" * 2 * RESERVED_FROM)
    first = growing.take()
    growing.append(b"b" * 2 * RESERVED_FROM)
    assert (first, growing.take()) == (b"a" * 2 * RESERVED_FROM, b"b" * 2 * RESERVED_FROM)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_no_more_memory_is_touched_than_is_held() -> None:
    done = subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, text=True, timeout=50, check=True)  # noqa: S603
    grown, taken = map(int, done.stdout.split())
    assert 40_000_000 <= grown <= 44_000_000
    assert 40_000_000 <= taken <= 44_000_000
