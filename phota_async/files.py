"""Files that appear whole or not at all: written beside their place, flushed to the disk, then renamed."""

from __future__ import annotations

import errno
import filecmp
import hashlib
import os
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path, PurePath
from typing import Self

from phota_async import formats
from phota_async.threads import in_thread

_BLOCK_BYTES = 2**20

PARTIAL_SUFFIX = ".partial"
"""What a file is called until it is whole: a hidden name that ends with this."""


async def save(path: str | os.PathLike[str], data: bytes, extension: str) -> Path:
    """Write ``data`` to ``path`` atomically, in a thread, and return the file's path.

    Args:
        path: A file name, or a directory (it exists, or the name ends with a separator).
        data: What to write.
        extension: The extension of the name that is made up inside a directory.
    """
    return await in_thread(_save, os.fspath(path), data, extension)


def _save(path: str, data: bytes, extension: str) -> Path:
    # Named by content: saving twice gives one file, two images never share a name.
    target = placed(path, lambda: f"image-{hashlib.sha256(data).hexdigest()[:16]}{extension}")
    with Partial(target) as partial:
        partial.write(0, data)
        partial.finish()
    return target


def placed(path: str, name: Callable[[], str]) -> Path:
    """Return where a file goes that is asked to go to ``path``; directories that are missing are made. Blocks.

    Args:
        path: A file name, or a directory (it exists, or the name ends with a separator).
        name: Gives what to call the file inside a directory.
    """
    target = Path(path)
    if path.endswith(("/", os.sep)) or target.is_dir():
        target /= name()
    target.parent.mkdir(parents=True, exist_ok=True)
    return target


def head_of(path: Path) -> bytes:
    """Return a file's first bytes, enough to tell an image's type. Blocks."""
    with path.open("rb", buffering=0) as file:
        return file.read(formats.HEAD_BYTES)


def is_image(path: Path) -> bool:
    """Tell whether a file, and not a link to one, begins as an image. Blocks."""
    return path.is_file() and not path.is_symlink() and formats.media_type(head_of(path)) is not None


class Partial:
    """A file on its way to ``target``: written in pieces, then `finish`-ed under its name or discarded.

    No handle is held between calls, so that each may run in a thread and an abandoned one leaks nothing. As a context
    manager it removes what `finish` did not put in place. All methods block: call them in a thread. Nobody can call a
    thread back: one that still writes when its caller was cancelled is waited for by `discard`, and a later one writes
    nothing.
    """

    def __init__(self, target: Path, mark: str = "") -> None:
        """Prepare to write ``target``; nothing is touched yet.

        Args:
            target: Where it goes.
            mark: A word in its name until then, by which `leftovers` finds it.
        """
        self.target = target
        # Short, because the target's own name may already have the 255 bytes that file systems allow.
        self._path = target.with_name(f".phota-{mark}{secrets.token_hex(8)}{PARTIAL_SUFFIX}")
        self._writing = threading.Lock()
        self._is_discarded = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.discard()

    def write(self, offset: int, data: bytes) -> None:
        """Write ``data`` at ``offset`` bytes from the start, and drop whatever followed."""
        with self._writing:
            if not self._is_discarded:
                self._write(offset, data)

    def _write(self, offset: int, data: bytes) -> None:
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
        with open(descriptor, "wb", buffering=0) as file:  # noqa: PTH123  (a descriptor, opened without truncation)
            file.seek(offset)
            view = memoryview(data)
            while view:
                view = view[file.write(view) :]
            file.truncate()

    def head(self) -> bytes:
        """Return the first bytes, enough to tell an image's type."""
        return head_of(self._path)

    def copy(self, original: Path) -> None:
        """Write what ``original`` holds."""
        with original.open("rb", buffering=0) as source:
            offset = 0
            while block := source.read(_BLOCK_BYTES):
                self.write(offset, block)
                offset += len(block)

    def finish(self) -> None:
        """Flush to the disk and put the file in place, replacing one that stands there (a link itself, not its aim)."""
        self._flush()
        self._path.replace(self.target)
        _remember(self.target.parent)

    def finish_new(self, target: Path) -> bool:
        """Flush to the disk and put the file at ``target``; return False if something else stands there already.

        A file with the same bytes is taken for this one: it was put there before a crash.
        """
        self._flush()
        try:
            # Unlike a rename, a link fails where something stands, also if it appeared this very moment.
            os.link(self._path, target)
        except FileExistsError:
            return _same(self._path, target)
        except OSError:  # the file system has no hard links
            if os.path.lexists(target):
                return _same(self._path, target)
            self._path.replace(target)
        _remember(target.parent)
        return True

    def _flush(self) -> None:
        with self._path.open("rb+", buffering=0) as file:
            os.fsync(file.fileno())

    def discard(self) -> None:
        """Remove what was written, if it is still there."""
        with self._writing:
            self._is_discarded = True
            self._path.unlink(missing_ok=True)


def _same(one: Path, other: Path) -> bool:
    # A link is never taken for an image: what it leads to may change, and may lie anywhere.
    return other.is_file() and not other.is_symlink() and filecmp.cmp(one, other, shallow=False)


def _remember(folder: Path) -> None:
    """Make the names in ``folder`` outlive a power failure, where the system can."""
    with suppress(OSError):  # Windows opens no folders
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def make_root(folder: Path) -> Path:
    """Make a folder, and those above it, where they are missing, and return it, absolute. Blocks."""
    folder.mkdir(parents=True, exist_ok=True)
    return folder.absolute()


def make_folders(root: Path, below: PurePath) -> Path:
    """Make the folders of ``below`` in ``root`` where they are missing, and return the innermost. Blocks.

    ``root`` itself is not made: it was there, and where it is gone, what it held is gone as well.

    Raises:
        OSError: One of them cannot be made, is no folder, or is a link: nothing is written through those. Or ``below``
            is not below, as somebody else's journal may have it.
    """
    if below.anchor or ".." in below.parts:
        raise NotADirectoryError(errno.ENOTDIR, "leads out of the output folder", str(below))
    place = root
    for part in below.parts:
        place /= part
        try:
            place.mkdir()
        except FileExistsError:
            if place.is_symlink():
                raise NotADirectoryError(
                    errno.ENOTDIR, "is a link; nothing is written through one", str(place)
                ) from None
            if not place.is_dir():
                raise NotADirectoryError(errno.ENOTDIR, "is in the way of a folder", str(place)) from None
    return place


def leftovers(folder: Path, mark: str) -> Iterator[Path]:
    """Give the files in ``folder`` that a `Partial` with that ``mark`` has left unfinished. Blocks."""
    return folder.glob(f".phota-{mark}*{PARTIAL_SUFFIX}")


def clear(root: Path, below: PurePath, mark: str) -> None:
    """Remove those in a folder below ``root``; not through a link. Blocks."""
    place = root
    for part in below.parts:
        place /= part
        if place.is_symlink():
            return
    for path in leftovers(place, mark):
        path.unlink(missing_ok=True)
