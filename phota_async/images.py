"""Photos on their way in: opened, told by their first bytes, measured, and read in blocks, anew for each attempt.

Nothing is held open between blocks. A block is read in one hop to a thread that opens, checks, reads and closes, so
that a cancelled call leaks no file, a slow upload holds no descriptor, and a file that changes on the way is noticed.
"""

from __future__ import annotations

import inspect
import io
import os
import stat
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from anyio import to_thread
from attrs import field, frozen
from yarl import URL

from phota_async import formats
from phota_async.errors import ImageError, without_query

BLOCK_BYTES = 4 * 144 * 1024
"""How much is read at once. A multiple of 3, so that only the last block's base64 is padded."""

MAX_UNSEEKABLE_BYTES = 256 * 2**20
"""A stream that cannot be read twice is held in memory; one that goes on beyond this is refused."""

_SHOWN_NAME = 120


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


async def open_photo(image: object) -> Photo | RemotePhoto:
    """Look at a photo before anything is sent.

    Args:
        image: A path, bytes-like, a binary file object (read from where it stands), or an http(s) URL.

    Raises:
        ImageError: It is missing, unreadable, empty, of no accepted format, or no photo at all. The message names it.
    """
    if isinstance(image, URL) or (isinstance(image, str) and image.startswith(("http://", "https://"))):
        return _remote(image)
    if isinstance(image, str) and image[:5].lower() == "data:":
        raise ImageError("a data: URI is not accepted as a photo; decode it and pass its bytes")
    if isinstance(image, str | os.PathLike):
        return await _open_file(image)  # pyright: ignore[reportUnknownArgumentType]  (of str or of bytes)
    if callable(getattr(image, "read", None)):
        return await _open_stream(image)
    return _open_bytes(image)


async def photos_in(directory: Path) -> list[Path]:
    """Return the photos of a directory and of those below it, sorted by path; of a file, the file.

    A file counts by its first bytes; one that only has a photo's extension counts too, so that it fails in sight rather
    than being passed over. Hidden names are left out, links to directories are not followed.

    Raises:
        ImageError: The directory cannot be read.
    """
    return await to_thread.run_sync(_walk, directory)


def _walk(directory: Path) -> list[Path]:
    if directory.is_file():
        return [directory]
    found: list[Path] = []

    def stop(error: OSError) -> None:
        raise _unreadable(_shown(Path(error.filename)), error) from None

    for place, folders, names in os.walk(directory, onerror=stop):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += (Path(place, name) for name in names if not name.startswith(".") and _may_be_photo(Path(place, name)))
    return sorted(found)


def _may_be_photo(path: Path) -> bool:
    if path.suffix.lower() in formats.SUFFIXES:
        return True
    try:
        _look(path)
    except ImageError:
        return False
    return True


def _remote(image: URL | str) -> RemotePhoto:
    try:
        url = URL(image)
    except ValueError:
        url = URL()
    if url.scheme not in {"http", "https"} or not url.host:
        raise ImageError(f"not an http or https URL with a host: {without_query(str(image))[:_SHOWN_NAME]!r}")
    return RemotePhoto(str(url))


def _checked(name: str, head: bytes, size: int) -> None:
    if not size:
        raise ImageError(f"{name} is empty")
    if formats.media_type(head) is None:
        raise ImageError(f"{name} is not a JPEG, PNG, WebP or HEIC photo (told by its first bytes)")


# ---- bytes-like


@frozen
class _Bytes:
    name: str
    view: memoryview = field(repr=False)

    @property
    def size(self) -> int:
        return self.view.nbytes

    async def blocks(self) -> AsyncGenerator[memoryview, None]:
        for start in range(0, self.size, BLOCK_BYTES):
            yield self.view[start : start + BLOCK_BYTES]


def _open_bytes(image: object) -> _Bytes:
    try:
        view = memoryview(image).cast("B")  # type: ignore[arg-type]  # that is what this tries
    except TypeError:
        kind = type(image).__name__
        raise ImageError(
            f"a photo is a path, bytes, a binary file object or a URL; not {kind}, or not in one piece of memory"
        ) from None
    photo = _Bytes(f"the photo of {view.nbytes} bytes", view)
    _checked(photo.name, bytes(view[: formats.HEAD_BYTES]), photo.size)
    return photo


# ---- paths


@frozen
class _Stamp:
    """What tells that a file is still the one that was opened."""

    device: int
    inode: int
    size: int
    modified_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> _Stamp:
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


@frozen
class _File:
    path: Path
    stamp: _Stamp

    @property
    def name(self) -> str:
        return _shown(self.path)

    @property
    def size(self) -> int:
        return self.stamp.size

    async def blocks(self) -> AsyncGenerator[bytes, None]:
        for start in range(0, self.size, BLOCK_BYTES):
            yield await to_thread.run_sync(self._read, start)

    def _read(self, start: int) -> bytes:
        try:
            with self.path.open("rb", buffering=0) as file:
                file.seek(start)
                block = b"".join(_pieces(file, BLOCK_BYTES))
                unchanged = _Stamp.of(os.fstat(file.fileno())) == self.stamp
        except OSError as error:
            raise _unreadable(self.name, error) from None
        if not unchanged or len(block) != min(BLOCK_BYTES, self.size - start):
            raise ImageError(f"{self.name} changed while it was being sent")
        return block


async def _open_file(image: str | os.PathLike[Any]) -> _File:
    return await to_thread.run_sync(_look, Path(os.fsdecode(image)))


def _look(path: Path) -> _File:
    name = _shown(path)
    try:
        # Asked before opening: opening a named pipe would wait for its writer for ever.
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise ImageError(f"{name} is a directory; enhance_many takes a directory of photos")
        if not stat.S_ISREG(mode):
            raise ImageError(f"{name} is not a regular file")
        with path.open("rb", buffering=0) as file:
            head = file.read(formats.HEAD_BYTES)
            stamp = _Stamp.of(os.fstat(file.fileno()))
    except OSError as error:
        raise _unreadable(name, error) from None
    except ValueError as error:  # a NUL in the name
        if isinstance(error, ImageError):
            raise
        raise ImageError(f"{name!r} is not a path: {error}") from None
    _checked(name, head, stamp.size)
    return _File(path, stamp)


def _unreadable(name: str, error: OSError) -> ImageError:
    return ImageError(f"cannot read {name}: {error.strerror or error}")


def _shown(path: Path) -> str:
    text = str(path)
    return text if len(text) <= _SHOWN_NAME else f"{text[: _SHOWN_NAME - 1]}…"


# ---- file objects


@frozen
class _Seekable:
    name: str
    file: BinaryIO
    start: int
    size: int

    async def blocks(self) -> AsyncGenerator[bytes, None]:
        for offset in range(0, self.size, BLOCK_BYTES):
            yield await to_thread.run_sync(self._read, offset)

    def _read(self, offset: int) -> bytes:
        wanted = min(BLOCK_BYTES, self.size - offset)
        try:
            self.file.seek(self.start + offset)
            block = b"".join(_pieces(self.file, wanted))
        except (OSError, ValueError) as error:  # ValueError: the caller closed it
            raise ImageError(f"cannot read {self.name}: {error}") from None
        if len(block) != wanted:
            raise ImageError(f"{self.name} became shorter while it was being sent")
        return block


async def _open_stream(file: Any) -> Photo:
    name = f"file object {_stream_name(file)}"
    if isinstance(file, io.TextIOBase):
        raise ImageError(f"{name} is open as text; open it in binary mode")
    if inspect.iscoroutinefunction(file.read):
        raise ImageError(f"{name} reads asynchronously; pass `await file.read()`, or the plain file inside it")
    try:
        return await to_thread.run_sync(_measure, name, file)
    except (OSError, TypeError, ValueError) as error:
        if isinstance(error, ImageError):
            raise
        failure = ImageError(f"cannot read {name}: {error}")
    raise failure


def _measure(name: str, file: BinaryIO) -> Photo:
    if not getattr(file, "seekable", lambda: False)():
        data = b"".join(_pieces(file, MAX_UNSEEKABLE_BYTES + 1))
        if len(data) > MAX_UNSEEKABLE_BYTES:
            raise ImageError(f"{name} goes on beyond {MAX_UNSEEKABLE_BYTES} bytes and cannot be read twice")
        _checked(name, data[: formats.HEAD_BYTES], len(data))
        return _Bytes(name, memoryview(data))
    start = file.tell()
    head = b"".join(_pieces(file, formats.HEAD_BYTES))
    size = file.seek(0, os.SEEK_END) - start
    file.seek(start)
    _checked(name, head, size)
    return _Seekable(name, file, start, size)


def _pieces(file: SupportsRead, wanted: int) -> Iterator[bytes]:
    # An unbuffered file may answer with less than was asked for.
    while wanted > 0 and (piece := file.read(wanted)):
        if not isinstance(piece, bytes):
            raise TypeError(f"read() returned {type(piece).__name__}, not bytes")
        wanted -= len(piece)
        yield piece


def _stream_name(file: object) -> str:
    name = getattr(file, "name", None)
    return name[:_SHOWN_NAME] if isinstance(name, str) else f"<{type(file).__name__}>"
