"""The request's body: its pieces are one JSON document of the length that was promised."""

import base64
import json
import random
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from attrs import frozen

from phota_async.codec.request import RequestBody
from phota_async.images import BLOCK_BYTES, RemotePhoto
from phota_async.models import EnhanceOptions

PIECE = 144 * 1024


@frozen
class Plain:
    """A photo of any size and any bytes."""

    data: bytes
    name: str = "plain"

    @property
    def size(self) -> int:
        return len(self.data)

    async def blocks(self) -> AsyncGenerator[bytes, None]:
        for start in range(0, self.size, BLOCK_BYTES):
            yield self.data[start : start + BLOCK_BYTES]


def noise(size: int) -> bytes:
    return random.Random(size).randbytes(size)  # noqa: S311  (the same each time, and no secret)


async def written(body: RequestBody) -> list[bytes]:
    return [piece async for piece in body.pieces()]


async def read_back(body: RequestBody) -> dict[str, Any]:
    whole = b"".join(await written(body))
    assert len(whole) == body.length
    fields: dict[str, Any] = json.loads(whole)
    return fields


@pytest.mark.parametrize(
    "size",
    [
        *range(1, 8),
        *(PIECE + beside for beside in range(-3, 4)),
        *(2 * PIECE + beside for beside in range(-2, 3)),
        *(BLOCK_BYTES + beside for beside in range(-3, 4)),
        *(2 * BLOCK_BYTES + beside for beside in (-1, 0, 1)),
        BLOCK_BYTES + PIECE + 1,
    ],
)
async def test_pieces_joined_are_the_photo_as_json_of_exactly_the_promised_length(size: int) -> None:
    photo = Plain(noise(size))
    fields = await read_back(RequestBody.of(photo, EnhanceOptions()))
    assert base64.b64decode(fields["image"], validate=True) == photo.data


async def test_a_body_may_be_read_again_for_each_attempt() -> None:
    body = RequestBody.of(Plain(noise(BLOCK_BYTES + 5)), EnhanceOptions())
    assert await written(body) == await written(body)


async def test_no_piece_is_longer_than_about_192_kib() -> None:
    body = RequestBody.of(Plain(bytes(2 * BLOCK_BYTES + 7)), EnhanceOptions(prompt="p"))
    pieces = await written(body)
    assert max(map(len, pieces)) <= PIECE * 4 // 3 + 512
    assert all(pieces)


@pytest.mark.parametrize(
    "prompt", ["", '"', "\\", "a\nb\x00c", "naïve 🌄", "\ud83d", chr(0xDC80), "\u2028", '","image":"']
)
@pytest.mark.parametrize("remote", [False, True])
async def test_prompts_that_could_break_json_do_not(prompt: str, remote: bool) -> None:  # noqa: FBT001
    photo = RemotePhoto("https://example.com/a.jpg") if remote else Plain(b"x")
    body = RequestBody.of(photo, EnhanceOptions(prompt=prompt))
    assert b"".join(await written(body)).isascii()
    assert (await read_back(body))["prompt"] == prompt


@pytest.mark.parametrize(
    "url", ["https://example.com/a.jpg?x=1&y=%22", 'http://example.com/"\\', "https://bücher.example/ä"]
)
async def test_a_url_goes_as_it_is(url: str) -> None:
    fields = await read_back(RequestBody.of(RemotePhoto(url), EnhanceOptions()))
    assert fields["image"] == url


@pytest.mark.parametrize("photo", [Plain(b"x"), RemotePhoto("https://example.com/a.jpg")])
async def test_what_the_service_may_assume_by_date_is_always_said(photo: Plain | RemotePhoto) -> None:
    fields = await read_back(RequestBody.of(photo, EnhanceOptions()))
    del fields["image"]
    assert fields == {"output_format": "png", "response_mode": "bytes", "num_output_images": 1}


async def test_every_option_is_sent() -> None:
    options = EnhanceOptions(
        prompt="soften", profile_ids=["a", "b"], num_output_images=4, output_format="jpg", response_mode="urls"
    )
    body = RequestBody.of(Plain(b"abc"), options)
    assert b" " not in b"".join(await written(body))
    fields = await read_back(body)
    assert fields == {
        "image": "YWJj",
        "prompt": "soften",
        "profile_ids": ["a", "b"],
        "num_output_images": 4,
        "output_format": "jpg",
        "response_mode": "urls",
    }


def test_a_body_does_not_show_its_bulk() -> None:
    assert "secret words" not in repr(
        RequestBody.of(RemotePhoto("https://a.example/"), EnhanceOptions(prompt="secret words"))
    )
