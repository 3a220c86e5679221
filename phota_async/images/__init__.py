"""Photos on their way in: opened, told by their first bytes, measured, and read in blocks, anew for each attempt."""

from __future__ import annotations

import os

from yarl import URL

from phota_async.errors import ImageError, without_query
from phota_async.images.paths import File, open_path
from phota_async.images.photo import BLOCK_BYTES, SHOWN_NAME, Photo, RemotePhoto
from phota_async.images.streams import open_bytes, open_stream
from phota_async.images.walk import photos_in

__all__ = ["BLOCK_BYTES", "File", "Photo", "RemotePhoto", "open_photo", "photos_in"]


async def open_photo(image: object) -> Photo | RemotePhoto:
    """Look at a photo before anything is sent.

    Args:
        image: A path, bytes-like, a binary file object (read from where it stands), or an http(s) URL.

    Raises:
        ImageError: It is missing, unreadable, empty, of no accepted format, or no photo at all. The message names it.
    """
    if isinstance(image, File):
        return image  # looked at, and held to what it was then
    if isinstance(image, URL) or (isinstance(image, str) and image.startswith(("http://", "https://"))):
        return _remote(image)
    if isinstance(image, str) and image[:5].lower() == "data:":
        raise ImageError("a data: URI is not accepted as a photo; decode it and pass its bytes")
    if isinstance(image, str | os.PathLike):
        return await open_path(image)  # pyright: ignore[reportUnknownArgumentType]  (of str or of bytes)
    if callable(getattr(image, "read", None)):
        return await open_stream(image)
    return open_bytes(image)


def _remote(image: URL | str) -> RemotePhoto:
    try:
        url = URL(image)
    except ValueError:
        url = URL()
    if url.scheme not in {"http", "https"} or not url.host:
        raise ImageError(f"not an http or https URL with a host: {without_query(str(image))[:SHOWN_NAME]!r}")
    # A str travels as it is: to quote it anew would break a signature.
    return RemotePhoto(image if isinstance(image, str) else str(url))
