"""What a visitor may ask for, and how much of it at once: a backend without bounds is one request away from its end."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from phota_async import OverloadedError

WIDTH = int(os.environ.get("ENHANCE_WIDTH", "24"))
"""How many calls of single photos may be in flight, in each process."""

ALBUM_WIDTH = int(os.environ.get("ENHANCE_ALBUM_WIDTH", "8"))
"""How many calls of all albums. A share of their own: otherwise a visitor with one photo waits behind theirs."""

QUEUE = int(os.environ.get("ENHANCE_QUEUE", "100"))
"""How many visitors may wait for one of them."""

FOLDER = Path(os.environ.get("ENHANCE_FOLDER", "enhanced"))
"""Where the images of albums are kept."""

MAX_SECONDS = 600.0

GRACE = float(os.environ.get("ENHANCE_GRACE", MAX_SECONDS))
"""Seconds in which calls land when the server stops; with fewer than a call takes, paid ones are lost."""

MAX_PHOTO_BYTES = 50 * 2**20
MAX_ALBUM_BYTES = 250 * 2**20
MAX_ALBUM_PHOTOS = 50
MAX_ALBUMS = 8
"""How many albums take turns: with a call of a minute, a photo of theirs has its turn within `MAX_SECONDS`."""

MAX_UPLOADS = 32
"""How many visitors may be sending at once: what they send is held before ``max_queue`` can speak."""

UPLOAD_SECONDS = float(os.environ.get("ENHANCE_UPLOAD_SECONDS", "60"))

_uploads = asyncio.Semaphore(MAX_UPLOADS)


@asynccontextmanager
async def one_upload() -> AsyncGenerator[None, None]:
    """Read what one visitor sends.

    Raises:
        OverloadedError: Too many are sending.
        TimeoutError: It takes too long.
    """
    if _uploads.locked():
        raise OverloadedError(f"{MAX_UPLOADS} visitors are sending")
    async with _uploads, asyncio.timeout(UPLOAD_SECONDS):
        yield


def seconds(asked: str | None) -> float:
    """Return how long a visitor is willing to wait.

    Raises:
        ValueError: That is no positive number, or more than `MAX_SECONDS`.
    """
    given = MAX_SECONDS if asked is None else float(asked)
    if not 0 < given <= MAX_SECONDS:
        raise ValueError(f"timeout must be a number of seconds, up to {MAX_SECONDS:g}")
    return given


def refusal(headers: Mapping[str, str], most: int) -> int | None:
    """Return the status that refuses a body before it is read, or None. (It is counted as it comes all the same.)"""
    if headers.get("Content-Encoding", "identity") != "identity":
        return 415  # it may inflate to anything
    return 413 if int(headers.get("Content-Length", 0)) > most else None
