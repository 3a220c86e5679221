"""Formats told by their first bytes."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phota_async.formats import EXTENSIONS, HEAD_BYTES, SUFFIXES, media_type

PHOTOS = Path(__file__).parent / "photos"


def box(major: bytes, *compatible: bytes, size: int | None = None) -> bytes:
    body = b"ftyp" + major + b"\x00\x00\x00\x00" + b"".join(compatible)
    return (size if size is not None else len(body) + 4).to_bytes(4, "big") + body


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"\xff\xd8\xff\xe0\x00\x10JFIF", "image/jpeg"),
        (b"\xff\xd8\xff\xe1", "image/jpeg"),
        (b"\xff\xd8\xff", "image/jpeg"),
        (b"\x89PNG\r\n\x1a\n\x00\x00", "image/png"),
        (b"RIFF\x24\x00\x00\x00WEBPVP8 ", "image/webp"),
        (box(b"heic"), "image/heic"),
        (box(b"heix", b"mif1"), "image/heic"),
        (box(b"mif1", b"heic"), "image/heic"),
        (box(b"mif1"), "image/heic"),
        (box(b"msf1", b"hevc"), "image/heic"),
        (box(b"MiHE", b"MiPr", b"heic"), "image/heic"),
        (box(b"heic", size=0), "image/heic"),
        (box(b"heic", b"mif1")[:12], "image/heic"),
        (box(b"isom", b"isom", b"heic") + b"\x00\x00\x00\x10meta", "image/heic"),
        (box(b"avif"), None),
        (box(b"avif", b"mif1", b"miaf"), None),
        (box(b"mif1", b"avif"), None),
        (box(b"avis", b"msf1"), None),
        (box(b"isom", b"mp42"), None),
        (box(b"qt  "), None),
        (box(b"isom", b"mp42", size=20) + b"heic", None),
        (box(b"isom", size=2) + b"heic", None),
        (b"\x00\x00\x00\x18ftyp", None),
        (b"GIF89a", None),
        (b"BM", None),
        (b"II*\x00", None),
        (b"RIFF\x24\x00\x00\x00AVI LIST", None),
        (b"WEBP", None),
        (b"\x89PNG\n\x1a\n", None),
        (b"\xff\xd8", None),
        (b"%PDF-1.7", None),
        (b"<svg xmlns=", None),
        (b"<!DOCTYPE html>", None),
        (b"{}", None),
        (b"", None),
    ],
)
def test_a_format_is_told_by_its_first_bytes(head: bytes, kind: str | None) -> None:
    assert media_type(head) == kind
    assert media_type(head.ljust(HEAD_BYTES, b"\x00")[:HEAD_BYTES]) == kind


@pytest.mark.parametrize("photo", sorted(PHOTOS.glob("*.*g")), ids=lambda path: path.name)
def test_real_photos_are_told(photo: Path) -> None:
    kind = media_type(photo.read_bytes()[:HEAD_BYTES])
    assert kind is not None
    assert EXTENSIONS[kind] == photo.suffix


@settings(derandomize=True, deadline=None, max_examples=200)
@given(st.binary(max_size=HEAD_BYTES))
def test_any_bytes_are_a_known_format_or_none(head: bytes) -> None:
    assert media_type(head) in {None, *EXTENSIONS}


def test_every_extension_is_one_that_photos_have() -> None:
    assert set(EXTENSIONS.values()) <= SUFFIXES
