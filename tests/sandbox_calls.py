"""A plain client for the sandbox's own tests: aiohttp, small photos, whole answers."""

import base64
import io
import json
from pathlib import Path
from typing import Any

import aiohttp
import pillow_heif
from attrs import frozen
from multidict import CIMultiDictProxy
from PIL import Image

from phota_async.sandbox import Sandbox

PHOTOS = Path(__file__).parent / "photos"
_ORIENTATION = 0x0112


@frozen
class Reply:
    """An answer that came whole."""

    status: int
    headers: CIMultiDictProxy[str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def image(self, place: int = 0) -> Image.Image:
        return Image.open(io.BytesIO(base64.b64decode(self.json["images"][place], validate=True)))


async def send(method: str, url: str, **options: Any) -> Reply:
    async with aiohttp.ClientSession() as session, session.request(method, url, **options) as answer:
        return Reply(answer.status, answer.headers, await answer.read())


async def post(box: Sandbox, *, key: str = "key", **document: Any) -> Reply:
    body = json.dumps({"image": PHOTO, **document}).encode()
    headers = {"X-API-Key": key, "Content-Type": "application/json"}
    return await send("POST", f"{box.url}/enhance", data=io.BytesIO(body), headers=headers)


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def photo(kind: str, *, orientation: int | None = None) -> bytes:
    """Make a photo of 96 x 64 pixels."""
    file = io.BytesIO()
    with Image.open(PHOTOS / "rocket.jpg") as image:
        image.thumbnail((96, 96))
        exif = Image.Exif()
        if orientation is not None:
            exif[_ORIENTATION] = orientation
        if kind == "HEIC":
            picture = pillow_heif.from_pillow(image)
            # pillow_heif is not annotated.
            picture.save(file, exif=exif.tobytes(), quality=60)  # pyright: ignore[reportUnknownMemberType]
        else:
            image.save(file, kind, exif=exif)
    return file.getvalue()


PHOTO_BYTES = photo("JPEG")
PHOTO = encoded(PHOTO_BYTES)
