"""Photos in memory and behind file objects."""

from __future__ import annotations

import inspect
import io
import os
from collections.abc import AsyncGenerator
from typing import Any, BinaryIO

from attrs import field, frozen

from phota_async import formats
from phota_async.errors import ImageError
from phota_async.images.photo import BLOCK_BYTES, SHOWN_NAME, Photo, checked, pieces_of
from phota_async.threads import in_thread

MAX_UNSEEKABLE_BYTES = 256 * 2**20
"""A stream that cannot be read twice is held in memory; one that goes on beyond this is refused."""


@frozen(eq=False)
class _Bytes:
    name: str
    view: memoryview = field(repr=False)

    @property
    def size(self) -> int:
        return self.view.nbytes

    async def blocks(self) -> AsyncGenerator[memoryview, None]:
        for start in range(0, self.size, BLOCK_BYTES):
            yield self.view[start : start + BLOCK_BYTES]


def open_bytes(image: object) -> Photo:
    """Look at what may be bytes-like.

    Raises:
        ImageError: It is not, or holds no photo.
    """
    try:
        view = memoryview(image).cast("B")  # type: ignore[arg-type]  # that is what this tries
    except (TypeError, ValueError, BufferError):
        kind = type(image).__name__
        raise ImageError(
            f"a photo is a path, bytes, a binary file object or a URL; not {kind}, or not in one piece of memory"
        ) from None
    photo = _Bytes(f"the photo of {view.nbytes} bytes", view)
    checked(photo.name, bytes(view[: formats.HEAD_BYTES]), photo.size)
    return photo


@frozen(eq=False)
class _Seekable:
    name: str
    file: BinaryIO
    start: int
    size: int

    async def blocks(self) -> AsyncGenerator[bytes, None]:
        for offset in range(0, self.size, BLOCK_BYTES):
            yield await in_thread(self._read, offset)

    def _read(self, offset: int) -> bytes:
        wanted = min(BLOCK_BYTES, self.size - offset)
        try:
            self.file.seek(self.start + offset)
            block = b"".join(pieces_of(self.file, wanted))
        except Exception as error:  # noqa: BLE001  (a caller's file object may raise anything)
            raise _unreadable(self.name, error) from None
        if len(block) != wanted:
            raise ImageError(f"{self.name} became shorter while it was being sent")
        return block


async def open_stream(file: Any) -> Photo:
    """Look at a file object, from where it stands.

    Raises:
        ImageError: It cannot be read, or holds no photo.
    """
    name = f"file object {_stream_name(file)}"
    if isinstance(file, io.TextIOBase):
        raise ImageError(f"{name} is open as text; open it in binary mode")
    if inspect.iscoroutinefunction(file.read):
        raise ImageError(f"{name} reads asynchronously; pass `await file.read()`, or the plain file inside it")
    return await in_thread(_measured, name, file)


def _measured(name: str, file: BinaryIO) -> Photo:
    try:
        return _measure(name, file)
    except ImageError:
        raise
    except Exception as error:  # noqa: BLE001  (a caller's file object may raise anything)
        raise _unreadable(name, error) from None


def _unreadable(name: str, error: Exception) -> ImageError:
    return ImageError(f"cannot read {name}: {type(error).__name__}: {error}")


def _measure(name: str, file: BinaryIO) -> Photo:
    if not getattr(file, "seekable", lambda: False)():
        data = b"".join(pieces_of(file, MAX_UNSEEKABLE_BYTES + 1))
        if len(data) > MAX_UNSEEKABLE_BYTES:
            raise ImageError(f"{name} goes on beyond {MAX_UNSEEKABLE_BYTES} bytes and cannot be read twice")
        checked(name, data[: formats.HEAD_BYTES], len(data))
        return _Bytes(name, memoryview(data))
    start = file.tell()
    head = b"".join(pieces_of(file, formats.HEAD_BYTES))
    size = file.seek(0, os.SEEK_END) - start
    file.seek(start)
    checked(name, head, size)
    return _Seekable(name, file, start, size)


def _stream_name(file: object) -> str:
    name = getattr(file, "name", None)
    return name[:SHOWN_NAME] if isinstance(name, str) else f"<{type(file).__name__}>"
