"""Image formats, told by a file's first bytes and never by its extension."""

from __future__ import annotations

HEAD_BYTES = 64
"""How many of a file's first bytes `media_type` wants to see."""

EXTENSIONS = {"image/jpeg": ".jpg", "image/png": ".png", "image/webp": ".webp", "image/heic": ".heic"}
"""The formats that the service takes (its enhance page), with the extension that each is saved under."""

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".heic", ".heif"})
"""What photos of these formats are usually called."""

# Brands of ISO base media files that hold HEVC-coded stills (ISO/IEC 23008-12, annex B) or name the container alone.
_HEIF_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"})
_AVIF_BRANDS = frozenset({b"avif", b"avis"})


def media_type(head: bytes) -> str | None:
    """Return the media type of an image that begins with ``head``, or None for anything else.

    Args:
        head: The first `HEAD_BYTES` bytes, or all of a shorter file.
    """
    if head.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "image/webp"
    if head[4:8] == b"ftyp" and _is_heif(head):
        return "image/heic"
    return None


def _is_heif(head: bytes) -> bool:
    box = head[: max(16, int.from_bytes(head[:4], "big"))]
    # The minor version stands between the major brand and the compatible ones.
    brands = {box[8:12], *(box[i : i + 4] for i in range(16, len(box), 4))}
    return bool(brands & _HEIF_BRANDS) and not brands & _AVIF_BRANDS
