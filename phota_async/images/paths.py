"""Photos on the disk.

Nothing is held open between blocks. A block is read in one hop to a thread that opens, checks, reads and closes, so
that a cancelled call leaks no file, a slow upload holds no descriptor, and a file that changes on the way is noticed.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

from attrs import frozen

from phota_async import formats
from phota_async.errors import ImageError
from phota_async.images.photo import BLOCK_BYTES, Photo, checked, shown
from phota_async.threads import in_thread

_HASHED_AT_ONCE = 2**18


@frozen
class Stamp:
    """What tells that a file is still the one that was opened."""

    device: int
    inode: int
    size: int
    modified_ns: int
    changed_ns: int  # a modification time can be set back, this cannot

    @classmethod
    def of(cls, status: os.stat_result) -> Stamp:
        """Take it from a file's status."""
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


@frozen(eq=False)
class File:
    """A photo in a file, as it was when it was looked at; one that has changed since is not sent."""

    path: Path
    stamp: Stamp

    @property
    def name(self) -> str:
        """What to call it in messages."""
        return shown(self.path)

    @property
    def size(self) -> int:
        """Its length in bytes."""
        return self.stamp.size

    def sha256(self) -> bytes:
        """Hash what it holds. Blocks.

        Raises:
            ImageError: It is no longer what it was.
        """
        digest, buffer = hashlib.sha256(), memoryview(bytearray(min(_HASHED_AT_ONCE, self.size)))
        try:
            with self.path.open("rb", buffering=0) as file:
                while count := file.readinto(buffer):
                    digest.update(buffer[:count])
                unchanged = Stamp.of(os.fstat(file.fileno())) == self.stamp
        except OSError as error:
            raise unreadable(self.path, error) from None
        if not unchanged:
            raise ImageError(f"{self.name} changed while it was being read")
        return digest.digest()

    async def blocks(self) -> AsyncGenerator[memoryview, None]:
        """Read it, anew for each attempt; see `Photo`."""
        # One buffer for all blocks, and made here: what a worker thread allocates stays with that thread's arena.
        buffer = memoryview(bytearray(min(BLOCK_BYTES, self.size)))
        for start in range(0, self.size, BLOCK_BYTES):
            block = buffer[: self.size - start]
            await in_thread(self._read_into, block, start)
            yield block

    def _read_into(self, block: memoryview, start: int) -> None:
        filled = 0
        try:
            with self.path.open("rb", buffering=0) as file:
                file.seek(start)
                while count := file.readinto(block[filled:]):
                    filled += count
                unchanged = Stamp.of(os.fstat(file.fileno())) == self.stamp
        except OSError as error:
            raise unreadable(self.path, error) from None
        if not unchanged or filled != len(block):
            raise ImageError(f"{self.name} changed while it was being sent")


async def open_path(image: str | os.PathLike[Any]) -> Photo:
    """Look at a file.

    Raises:
        ImageError: It is missing, unreadable or holds no photo.
    """
    return await in_thread(look, Path(os.fsdecode(image)))


def look(path: Path) -> File:
    """Look at a file. Blocks.

    Raises:
        ImageError: It is missing, unreadable or holds no photo.
    """
    name = shown(path)
    try:
        # Asked before opening: opening a named pipe would wait for its writer for ever.
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            os.scandir(path).close()  # a folder that cannot be read says so
            raise ImageError(f"{name} is a directory; enhance_many takes a directory of photos")
        if not stat.S_ISREG(mode):
            raise ImageError(f"{name} is not a regular file")
        with path.open("rb", buffering=0) as file:
            head = file.read(formats.HEAD_BYTES)
            stamp = Stamp.of(os.fstat(file.fileno()))
    except OSError as error:
        raise unreadable(path, error) from None
    except ValueError as error:  # a NUL in the name
        if isinstance(error, ImageError):
            raise
        raise ImageError(f"{name!r} is not a path: {error}") from None
    checked(name, head, stamp.size)
    return File(path, stamp)


def unreadable(path: Path, error: OSError | ValueError) -> ImageError:
    """Return the error that tells why a path cannot be read."""
    return ImageError(f"cannot read {shown(path)}: {getattr(error, 'strerror', None) or error}")
