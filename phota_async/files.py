"""Files that appear whole or not at all: written beside their place, flushed to the disk, then renamed."""

from __future__ import annotations

import hashlib
import os
import secrets
from pathlib import Path
from typing import Self

from anyio import to_thread

PARTIAL_SUFFIX = ".partial"
"""What a file is called until it is whole: a hidden name that ends with this."""


async def save(path: str | os.PathLike[str], data: bytes, extension: str) -> Path:
    """Write ``data`` to ``path`` atomically, in a thread, and return the file's path.

    Args:
        path: A file name, or a directory (it exists, or the name ends with a separator).
        data: What to write.
        extension: The extension of the name that is made up inside a directory.
    """
    return await to_thread.run_sync(_save, os.fspath(path), data, extension)


def _save(path: str, data: bytes, extension: str) -> Path:
    target = Path(path)
    if path.endswith(("/", os.sep)) or target.is_dir():
        # Named by content: saving twice gives one file, two images never share a name.
        target /= f"image-{hashlib.sha256(data).hexdigest()[:16]}{extension}"
    target.parent.mkdir(parents=True, exist_ok=True)
    with Partial(target) as partial:
        partial.write(0, data)
        partial.finish()
    return target


def placed(target: Path, name: str) -> Path:
    """Return where a file goes that is asked to go to ``target``; parents that are missing are made. Blocks.

    Args:
        target: A file name, or a directory that exists.
        name: What to call the file inside a directory.
    """
    if target.is_dir():
        return target / name
    target.parent.mkdir(parents=True, exist_ok=True)
    return target


class Partial:
    """A file on its way to ``target``: written in pieces, then `finish`-ed under its name or discarded.

    No handle is held between calls, so that each may run in a thread and an abandoned one leaks nothing. As a context
    manager it removes what `finish` did not put in place. All methods block: call them in a thread.
    """

    def __init__(self, target: Path) -> None:
        """Prepare to write ``target``; nothing is touched yet."""
        self.target = target
        # Short, because the target's own name may already have the 255 bytes that file systems allow.
        self._path = target.with_name(f".phota-{secrets.token_hex(8)}{PARTIAL_SUFFIX}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.discard()

    def write(self, offset: int, data: bytes) -> None:
        """Write ``data`` at ``offset`` bytes from the start, and drop whatever followed."""
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
        with open(descriptor, "wb", buffering=0) as file:  # noqa: PTH123  (a descriptor, opened without truncation)
            file.seek(offset)
            view = memoryview(data)
            while view:
                view = view[file.write(view) :]
            file.truncate()

    def finish(self) -> None:
        """Flush to the disk and put the file in place, replacing one that stands there (a link itself, not its aim)."""
        with self._path.open("rb+", buffering=0) as file:
            os.fsync(file.fileno())
        self._path.replace(self.target)

    def discard(self) -> None:
        """Remove what was written, if it is still there."""
        self._path.unlink(missing_ok=True)


async def existing(paths: list[Path]) -> set[Path]:
    """Return those of ``paths`` where something stands."""
    return await to_thread.run_sync(lambda: {path for path in paths if path.exists()})


async def writable(folder: Path) -> None:
    """Make ``folder`` where it is missing, and see that files can be written there.

    Raises:
        OSError: They cannot.
    """
    await to_thread.run_sync(_try_to_write, folder)


def _try_to_write(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with Partial(folder / "probe") as partial:
        partial.write(0, b"")
