"""Content-Encoding undone: the same bytes, in bounded steps, and every damage noticed."""

import gzip
import random
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phota_async.transport.inflate import STEP_BYTES, EncodingError, Inflater

FUZZ = settings(derandomize=True, deadline=None, max_examples=150)


def noise(size: int) -> bytes:
    return random.Random(size).randbytes(size)  # noqa: S311  (the same each time, and no secret)


def raw_deflate(data: bytes) -> bytes:
    machine = zlib.compressobj(wbits=-15)
    return machine.compress(data) + machine.flush()


PACKED: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "deflate": zlib.compress,
    "identity": bytes,
    "": bytes,
}


def pieces(data: bytes, size: int) -> Iterator[bytes]:
    return (data[start : start + size] for start in range(0, len(data), size))


def inflated(encoding: str, data: bytes, size: int = 1000) -> bytes:
    inflater = Inflater(encoding)
    whole = b"".join(piece for part in pieces(data, size) for piece in inflater.feed(part))
    inflater.finish()
    return whole


@FUZZ
@given(st.sampled_from(sorted(PACKED)), st.binary(max_size=3000), st.integers(1, 500))
def test_what_was_packed_comes_out_however_it_is_cut(encoding: str, data: bytes, size: int) -> None:
    assert inflated(encoding, PACKED[encoding](data), size) == data


@FUZZ
@given(st.binary(max_size=3000), st.integers(1, 500))
def test_deflate_without_its_frame_is_understood(data: bytes, size: int) -> None:
    assert inflated("deflate", raw_deflate(data), size) == data


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
@pytest.mark.parametrize("size", [STEP_BYTES - 1, STEP_BYTES, STEP_BYTES + 1, 3 * STEP_BYTES, 10_000_000])
def test_what_swells_comes_out_in_bounded_steps(encoding: str, size: int) -> None:
    inflater = Inflater(encoding)
    steps = list(inflater.feed(PACKED[encoding](bytes(size))))
    inflater.finish()
    assert sum(map(len, steps)) == size
    assert max(map(len, steps)) <= STEP_BYTES
    assert all(steps)


def test_the_end_of_what_swells_is_not_left_behind_when_all_input_is_taken() -> None:
    # Without a frame there is no trailer behind the last symbol that would bring the rest out.
    for size in range(STEP_BYTES - 3, STEP_BYTES + 1300, 7):
        assert len(inflated("deflate", raw_deflate(bytes(size)), 10_000)) == size


def test_plain_data_passes_as_it_is() -> None:
    data = noise(3 * STEP_BYTES)
    inflater = Inflater("identity")
    assert list(inflater.feed(data)) == [data]
    inflater.finish()


@pytest.mark.parametrize(
    ("encoding", "expands"), [("", False), (" Identity ", False), ("GZIP", True), ("Deflate", True)]
)
def test_names_are_read_without_regard_to_case(encoding: str, expands: bool) -> None:  # noqa: FBT001
    assert Inflater(encoding).expands is expands


@pytest.mark.parametrize("encoding", ["br", "zstd", "compress", "gzip, gzip", "gzip,deflate", "x" * 500])
def test_an_encoding_that_was_not_asked_for_is_refused(encoding: str) -> None:
    with pytest.raises(EncodingError, match="not asked for") as caught:
        Inflater(encoding)
    assert len(str(caught.value)) < 120


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
@pytest.mark.parametrize("kept", [0, 1, 5, 0.5, -1])
def test_a_cut_body_is_noticed(encoding: str, kept: float) -> None:
    data = PACKED[encoding](noise(5000))
    end = int(len(data) * kept) if kept == 0.5 else int(kept)
    with pytest.raises(EncodingError, match="cut short"):
        inflated(encoding, data[:end])


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
@pytest.mark.parametrize("place", [0, 300, -2])
def test_a_damaged_body_is_noticed(encoding: str, place: int) -> None:
    data = bytearray(PACKED[encoding](b"some text that packs well, " * 200 + noise(800)))
    data[place] ^= 0xFF
    with pytest.raises(EncodingError, match=r"damaged|cut short") as caught:
        inflated(encoding, bytes(data))
    assert caught.value.__context__ is None


@FUZZ
@given(st.sampled_from(["gzip", "deflate"]), st.binary(max_size=300), st.integers(1, 50))
def test_arbitrary_bytes_end_in_bytes_or_an_encoding_error(encoding: str, data: bytes, size: int) -> None:
    with suppress(EncodingError):
        inflated(encoding, data, size)


def test_what_follows_the_end_of_the_packed_data_is_not_taken_for_data() -> None:
    assert inflated("gzip", gzip.compress(b"data") + b"\x00" * 50) == b"data"


@pytest.mark.parametrize("size", [1, 2, 3, 17, 1000])
def test_several_gzip_members_in_a_row_are_one_body(size: int) -> None:
    data = gzip.compress(b"first ") + gzip.compress(b"") + gzip.compress(b"second")
    assert inflated("gzip", data, size) == b"first second"


@pytest.mark.parametrize("size", [1, 2, 3, 1000])
@pytest.mark.parametrize(
    "tail", [b"\x1f", b"\x1fx", b"\x1f\x1f\x8b", b"\r\n", b"\x00" * 50, b"x" + gzip.compress(b"y")]
)
def test_what_follows_the_last_member_means_nothing(tail: bytes, size: int) -> None:
    assert inflated("gzip", gzip.compress(b"data") + tail, size) == b"data"
    assert inflated("deflate", zlib.compress(b"data") + tail, size) == b"data"


@pytest.mark.parametrize("size", [1, 1000])
def test_a_cut_later_member_is_noticed(size: int) -> None:
    with pytest.raises(EncodingError, match="cut short"):
        inflated("gzip", gzip.compress(b"data") + gzip.compress(b"more")[:-1], size)


def test_many_large_members_come_out_in_bounded_steps() -> None:
    member = gzip.compress(bytes(3 * STEP_BYTES))
    steps = list(Inflater("gzip").feed(member * 20))
    assert sum(map(len, steps)) == 60 * STEP_BYTES
    assert max(map(len, steps)) <= STEP_BYTES


@pytest.mark.parametrize("encoding", ["", "gzip", "deflate"])
def test_an_empty_piece_holds_nothing(encoding: str) -> None:
    inflater = Inflater(encoding)
    assert b"".join(inflater.feed(b"")) == b""
    assert b"".join(inflater.feed(PACKED[encoding](b"data"))) == b"data"
    inflater.finish()


@FUZZ
@given(st.lists(st.binary(max_size=300), min_size=1, max_size=4), st.integers(1, 50))
def test_several_members_are_one_body_however_they_are_cut(members: list[bytes], size: int) -> None:
    assert inflated("gzip", b"".join(map(gzip.compress, members)), size) == b"".join(members)


@pytest.mark.parametrize("size", [1, 2, 1000])
@pytest.mark.parametrize("behind", [b"\x00" * 50, b"\x1f", b"\x1f\x00 more", b"text"])
def test_what_follows_is_dropped_however_it_is_cut(behind: bytes, size: int) -> None:
    assert inflated("gzip", gzip.compress(b"data") + behind, size) == b"data"
    assert inflated("deflate", zlib.compress(b"data") + behind, size) == b"data"


def test_a_second_member_that_is_cut_is_noticed() -> None:
    with pytest.raises(EncodingError, match="cut short"):
        inflated("gzip", gzip.compress(b"one") + gzip.compress(b"two")[:-1])
