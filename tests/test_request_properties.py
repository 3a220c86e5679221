"""The request's body: whatever the photo and the options, an independent decoder reads back what was asked for."""

from __future__ import annotations

import base64
import io
import json
import random
from collections.abc import Callable
from typing import Any

from examples import examples
from hypothesis import given
from hypothesis import strategies as st

from phota_async.codec.request import RequestBody
from phota_async.images import BLOCK_BYTES, RemotePhoto, open_photo
from phota_async.models import EnhanceOptions

PIECE = 144 * 1024
SIGNATURE = b"\x89PNG\r\n\x1a\n"

# Around a group of three bytes, a piece and a block.
SIZES = st.integers(len(SIGNATURE), 40) | st.sampled_from(
    [
        edge + beside
        for edge in (300, PIECE, 2 * PIECE, BLOCK_BYTES, BLOCK_BYTES + PIECE, 2 * BLOCK_BYTES)
        for beside in range(-3, 4)
    ]
)
WORDS = st.text(st.characters(exclude_categories=[]))  # halves of characters among them, which a shell may hand over
OPTIONS = st.builds(
    EnhanceOptions,
    prompt=st.none() | WORDS,
    profile_ids=st.lists(WORDS.filter(str.strip), max_size=3),
    num_output_images=st.integers(1, 4),
    output_format=st.sampled_from(["png", "jpg"]),
    response_mode=st.sampled_from(["bytes", "urls"]),
)


class Dripping(io.BytesIO):
    """A file that gives less than is asked for, as a pipe or an unbuffered file may."""

    most = 100_000

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(min(self.most, self.most if size is None or size < 0 else size))


class Unseekable(Dripping):
    def seekable(self) -> bool:
        return False


HELD: dict[str, Callable[[bytes], object]] = {
    "bytes": bytes,
    "bytearray": bytearray,
    "view": memoryview,
    "file": io.BytesIO,
    "dripping file": Dripping,
    "unseekable file": Unseekable,
}


def photo_of(size: int) -> bytes:
    return SIGNATURE + random.Random(size).randbytes(size - len(SIGNATURE))  # noqa: S311  (the same each time)


async def read_back(body: RequestBody) -> dict[str, Any]:
    pieces = [piece async for piece in body.pieces()]
    assert all(pieces)
    whole = b"".join(pieces)
    assert len(whole) == body.length
    assert whole.isascii()
    fields: dict[str, Any] = json.loads(whole)
    return fields


def asked(options: EnhanceOptions) -> dict[str, Any]:
    """Return what the service has to read, without what it assumes anyway."""
    fields: dict[str, Any] = {
        "output_format": options.output_format,
        "response_mode": options.response_mode,
        "num_output_images": options.num_output_images,
    }
    if options.prompt is not None:
        fields["prompt"] = options.prompt
    return fields | ({"profile_ids": list(options.profile_ids)} if options.profile_ids else {})


@examples(60)
@given(SIZES, st.sampled_from(sorted(HELD)), OPTIONS)
async def test_any_photo_and_any_options_are_read_back_as_they_were(
    size: int, kind: str, options: EnhanceOptions
) -> None:
    data = photo_of(size)
    body = RequestBody.of(await open_photo(HELD[kind](data)), options)
    for _ in range(2):  # once for each attempt
        fields = await read_back(body)
        assert base64.b64decode(fields.pop("image"), validate=True) == data
        assert fields == asked(options)


@examples(100)
@given(WORDS, OPTIONS)
async def test_any_url_goes_as_it_is(rest: str, options: EnhanceOptions) -> None:
    url = f"https://host/{rest}"
    assert await read_back(RequestBody.of(RemotePhoto(url), options)) == {"image": url, **asked(options)}
