"""Photos on the disk.

Nothing is held open between blocks. A block is read in one hop to a thread that opens, checks, reads and closes, so
that a cancelled call leaks no file, a slow upload holds no descriptor, and a file that changes on the way is noticed.
"""

from __future__ import annotations

import os
import stat
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

from anyio import to_thread
from attrs import frozen

from phota_async import formats
from phota_async.errors import ImageError
from phota_async.images.photo import BLOCK_BYTES, Photo, checked, shown


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


@frozen(eq=False)
class _File:
    path: Path
    stamp: _Stamp

    @property
    def name(self) -> str:
        return shown(self.path)

    @property
    def size(self) -> int:
        return self.stamp.size

    async def blocks(self) -> AsyncGenerator[memoryview, None]:
        # One buffer for all blocks, and made here: what a worker thread allocates stays with that thread's arena.
        buffer = memoryview(bytearray(min(BLOCK_BYTES, self.size)))
        for start in range(0, self.size, BLOCK_BYTES):
            block = buffer[: self.size - start]
            await to_thread.run_sync(self._read_into, block, start)
            yield block

    def _read_into(self, block: memoryview, start: int) -> None:
        filled = 0
        try:
            with self.path.open("rb", buffering=0) as file:
                file.seek(start)
                while filled < len(block) and (count := file.readinto(block[filled:])):
                    filled += count
                unchanged = _Stamp.of(os.fstat(file.fileno())) == self.stamp
        except OSError as error:
            raise _unreadable(self.name, error) from None
        if not unchanged or filled != len(block):
            raise ImageError(f"{self.name} changed while it was being sent")


async def open_path(image: str | os.PathLike[Any]) -> Photo:
    """Look at a file.

    Raises:
        ImageError: It is missing, unreadable or holds no photo.
    """
    return await to_thread.run_sync(_look, Path(os.fsdecode(image)))


def _look(path: Path) -> _File:
    name = shown(path)
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
    checked(name, head, stamp.size)
    return _File(path, stamp)


def _unreadable(name: str, error: OSError) -> ImageError:
    return ImageError(f"cannot read {name}: {error.strerror or error}")


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
        raise _unreadable(shown(Path(error.filename)), error) from None

    if "\0" in str(directory):
        raise ImageError(f"{shown(directory)} is not a path: it holds a NUL")
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
