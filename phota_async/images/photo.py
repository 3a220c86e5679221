"""What a photo is to the rooms that send it: a name, a size, and blocks that can be read anew for each attempt."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import Protocol

from attrs import frozen

from phota_async import formats
from phota_async.errors import ImageError, without_query

BLOCK_BYTES = 8 * 144 * 1024
"""How much is read at once. A multiple of 3, so that only the last block's base64 is padded."""

SHOWN_NAME = 120
"""How many characters of a name a message shows."""


class SupportsRead(Protocol):
    """What is read from."""

    def read(self, size: int, /) -> bytes | None:
        """Return at most ``size`` bytes; nothing at the end."""
        ...


class Photo(Protocol):
    """A photo that can be read from its beginning as often as an attempt needs it."""

    @property
    def name(self) -> str:
        """What to call it in messages."""
        ...

    @property
    def size(self) -> int:
        """Its length in bytes."""
        ...

    def blocks(self) -> AsyncGenerator[bytes | memoryview, None]:
        """Read it: blocks of `BLOCK_BYTES`, the last one shorter, ``size`` bytes together.

        A block may be overwritten by the next one.

        Raises:
            ImageError: It is no longer what it was when it was opened.
        """
        ...


@frozen
class RemotePhoto:
    """A photo that the service fetches by itself."""

    url: str

    @property
    def name(self) -> str:
        """The URL without its query."""
        return without_query(self.url)


def checked(name: str, head: bytes, size: int) -> None:
    """Look at a photo's first bytes and its size.

    Raises:
        ImageError: It is empty or of no accepted format.
    """
    if not size:
        raise ImageError(f"{name} is empty")
    if formats.media_type(head) is None:
        raise ImageError(f"{name} is not a JPEG, PNG, WebP or HEIC photo (told by its first bytes)")


def shown(path: Path) -> str:
    """Return a path as messages show it."""
    text = str(path)
    return text if len(text) <= SHOWN_NAME else f"{text[: SHOWN_NAME - 1]}…"


def pieces_of(file: SupportsRead, wanted: int) -> Iterator[bytes]:
    """Read ``wanted`` bytes, or what there is. Blocks: call it in a thread.

    Raises:
        TypeError: What is read is not bytes.
    """
    # An unbuffered file may answer with less than was asked for.
    while wanted > 0 and (piece := file.read(wanted)):
        if not isinstance(piece, bytes):
            raise TypeError(f"read() returned {type(piece).__name__}, not bytes")
        wanted -= len(piece)
        yield piece
