"""The work itself, for worker threads: photo bytes in, enhanced files out."""

import binascii
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import pillow_heif
from PIL import Image, ImageEnhance, ImageOps

# So much text is decoded in one call; between two calls other threads get the interpreter.
_PIECE = 2**16


class UnusablePhotoError(Exception):
    """The photo cannot be enhanced; the message says why."""


def decode_base64(text: str) -> BytesIO:
    """Decode strict base64; raises UnusablePhotoError."""
    photo = BytesIO()
    try:
        for start in range(0, len(text), _PIECE):
            photo.write(binascii.a2b_base64(text[start : start + _PIECE], strict_mode=True))
    except ValueError as error:
        raise UnusablePhotoError(f"image is not valid base64: {error}") from None
    return photo


def enhance(photo: BytesIO, targets: Sequence[Path], *, long_edge: int) -> None:
    """Write one enhanced image to each target, each a little different; raises UnusablePhotoError."""
    opened = _open(photo, long_edge)
    profile = opened.info.get("icc_profile") if opened.mode == "RGB" else None
    size = _fit(opened.size, long_edge)
    # Pillow's annotation names types of numpy, which is not needed here.
    image = opened.convert("RGB").resize(size, Image.Resampling.BICUBIC)  # pyright: ignore[reportUnknownMemberType]
    for variant, target in enumerate(targets):
        strength = 1.1 + 0.05 * variant
        enhanced = ImageEnhance.Sharpness(ImageEnhance.Contrast(image).enhance(strength)).enhance(strength)
        if target.suffix == ".png":
            enhanced.save(target, "PNG", compress_level=1, icc_profile=profile)
        else:
            enhanced.save(target, "JPEG", quality=90, icc_profile=profile)


def _open(photo: BytesIO, long_edge: int) -> Image.Image:
    try:
        return ImageOps.exif_transpose(_decode(photo, long_edge))
    except Exception as error:  # noqa: BLE001 - on broken files decoders raise nearly anything
        raise UnusablePhotoError(f"image is not a readable JPEG, PNG, WebP or HEIC photo: {error}") from None


def _decode(photo: BytesIO, long_edge: int) -> Image.Image:
    photo.seek(0)
    # Not annotated; and its opener is not registered, since that would change Pillow for the whole program.
    if pillow_heif.is_supported(photo):  # pyright: ignore[reportUnknownMemberType]
        return pillow_heif.read_heif(photo).to_pillow()  # pyright: ignore[reportUnknownMemberType]
    image = Image.open(photo, formats=("JPEG", "PNG", "WEBP"))
    # A JPEG is decoded at a fraction of its size where that is enough.
    image.draft(None, (long_edge, long_edge))
    image.load()
    return image


def _fit(size: tuple[int, int], long_edge: int) -> tuple[int, int]:
    scale = long_edge / max(size)
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
