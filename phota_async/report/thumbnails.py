"""Small pictures of photos, for worker threads: whatever the files hold, it ends in a JPEG or in a word of why not."""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, cast

import pillow_heif
from attrs import frozen
from PIL import Image, ImageCms, ImageOps

LONG_EDGE = 640
"""Of a thumbnail, in pixels."""

BUDGET = 72_000
"""Bytes for all thumbnails of one photo together: in base64 96,000."""

_MOST_PIXELS = 64_000_000  # to be decoded; a JPEG's are counted after it was scaled down in decoding
_QUALITY, _COARSER = 80, 66
_FAR_OVER = 1.5
_MAT = (128, 128, 128)
# A difference in shape that the eye does not find; the service rounds to whole blocks.
_SAME_SHAPE = 0.02


class UnusablePictureError(Exception):
    """No thumbnail can be made; the message says why, as the end of a sentence."""


@frozen(kw_only=True)
class Thumbnails:
    """JPEGs of one size, one for each file asked for, or None where it cannot be shown, with the notes that say why."""

    width: int = 0
    height: int = 0
    files: tuple[bytes | None, ...]
    notes: tuple[str, ...] = ()


def thumbnails(paths: Sequence[Path]) -> Thumbnails:
    """Return small pictures of one photo's files: its original, then the enhanced ones."""
    images: list[Image.Image | None] = []
    notes: list[str] = []
    for index, path in enumerate(paths):
        try:
            images.append(small(path))
        except UnusablePictureError as error:
            images.append(None)
            notes.append(f"The {_called(index, len(paths))} {error}.")
    found = [image for image in images if image is not None]
    if not found:
        return Thumbnails(files=(None,) * len(paths), notes=tuple(notes))
    aligned, encoded = _encoded(_aligned(found))
    made: Iterator[bytes] = iter(encoded)
    files = tuple(None if image is None else next(made) for image in images)
    return Thumbnails(width=aligned[0], height=aligned[1], files=files, notes=tuple(notes))


def size_of(thumbnail: Path) -> tuple[int, int] | None:
    """Return a thumbnail's width and height, or None if it is none."""
    with suppress(OSError), Image.open(thumbnail, formats=("JPEG",)) as image:
        return image.size
    return None


def small(path: Path) -> Image.Image:
    """Return a photo upright, in sRGB, at most `LONG_EDGE` long, without transparency; raises UnusablePictureError."""
    try:
        with open(path, "rb", opener=_open_regular) as file:
            return _plain(_shrunk(file))
    except FileNotFoundError:
        raise UnusablePictureError("is no longer there") from None
    except UnusablePictureError:
        raise
    except Exception:  # noqa: BLE001 - on broken files decoders raise nearly anything
        raise UnusablePictureError("cannot be shown: it is not a photo that can be read") from None


def _called(index: int, count: int) -> str:
    if not index:
        return "original"
    return "enhanced file" if count == 2 else f"enhanced file {index}"  # noqa: PLR2004  (the original and one)


def _open_regular(path: str, flags: int) -> int:
    # Opening a pipe would wait for someone to write to it.
    descriptor = os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise UnusablePictureError("is not a file")


def _shrunk(file: BinaryIO) -> Image.Image:
    image = _opened(file)
    image.draft("RGB" if image.mode == "YCbCr" else None, (LONG_EDGE, LONG_EDGE))
    _check_size(image.size)
    if image.mode.startswith("I;16"):  # grey of 16 bits, which conversion would cut off instead of scaling
        grey = image.convert("I").point(lambda value: value * (1 / 256))  # pyright: ignore[reportUnknownMemberType]
        image = grey.convert("L")
    if image.mode in {"1", "P"}:  # cannot be scaled smoothly
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    image.thumbnail((LONG_EDGE, LONG_EDGE), reducing_gap=2.0)
    return ImageOps.exif_transpose(image)


def _opened(file: BinaryIO) -> Image.Image:
    # Not annotated; and its opener is not registered, since that would change Pillow for the whole program.
    if pillow_heif.is_supported(file):  # pyright: ignore[reportUnknownMemberType]
        opened = pillow_heif.open_heif(file)  # pyright: ignore[reportUnknownMemberType]
        _check_size(opened.size)
        return opened.to_pillow()
    # What the service takes and gives, and nothing else: some of Pillow's other readers start programs.
    return Image.open(file, formats=("JPEG", "PNG", "WEBP"))


def _check_size(size: tuple[int, int]) -> None:
    if size[0] * size[1] > _MOST_PIXELS:
        raise UnusablePictureError("is too large to be shown here")


def _plain(image: Image.Image) -> Image.Image:
    profile: object = image.info.get("icc_profile")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        paper = Image.new("RGB", image.size, "white")
        paper.paste(image, mask=image.getchannel("A"))
        image = paper
    if isinstance(profile, bytes) and image.mode == "RGB":
        # Or a photo in a wider space would look duller than its enhanced image, for no fault of its own.
        with suppress(ImageCms.PyCMSError, OSError):
            source = ImageCms.ImageCmsProfile(BytesIO(profile))
            srgb = cast("Any", ImageCms.createProfile("sRGB"))  # pyright: ignore[reportUnknownMemberType]
            target = ImageCms.ImageCmsProfile(srgb)
            image = ImageCms.profileToProfile(image, source, target) or image
    return image.convert("RGB")


def _aligned(images: Sequence[Image.Image]) -> list[Image.Image]:
    """Give all images the first one's shape and the largest one's size."""
    edge = max(max(image.size) for image in images)
    return [_framed(image, _scaled(images[0].size, edge)) for image in images]


def _scaled(size: tuple[int, int], edge: float) -> tuple[int, int]:
    scale = edge / max(size)
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _framed(image: Image.Image, frame: tuple[int, int]) -> Image.Image:
    shape = (image.width * frame[1]) / (image.height * frame[0])
    if abs(shape - 1) < _SAME_SHAPE:
        return _resized(image, frame)
    # Nothing is cut off and nothing is stretched: what the service changed stays to be seen.
    return ImageOps.pad(image, frame, color=_MAT)


def _resized(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    if image.size == size:
        return image
    # Pillow's annotation names types of numpy, which is not needed here.
    return image.resize(size, Image.Resampling.LANCZOS)  # pyright: ignore[reportUnknownMemberType]


def _encoded(images: Sequence[Image.Image]) -> tuple[tuple[int, int], list[bytes]]:
    """Return the size and the JPEGs, smaller and coarser where they would not keep within the budget."""
    fitted, quality = images, _QUALITY
    while True:
        files = [_jpeg(image, quality) for image in fitted]
        over = sum(map(len, files)) / BUDGET
        if over <= 1:
            return fitted[0].size, files
        quality = _COARSER if over > _FAR_OVER else quality
        size = _scaled(fitted[0].size, max(fitted[0].size) * min(0.95, max(0.6, 0.97 / math.sqrt(over))))
        fitted = [_resized(image, size) for image in images]


def _jpeg(image: Image.Image, quality: int) -> bytes:
    file = BytesIO()
    # Only what is named is written: no metadata of the photo, no place, no profile.
    image.save(file, "JPEG", quality=quality, optimize=True, progressive=True, exif=b"", icc_profile=None)
    return file.getvalue()
