"""The folder beside the page for the thumbnails that it loads later: kept while their photos stay as they are."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path, PurePath

from phota_async.files import Partial, leftovers, make_folders

FILES = "report-files"
"""The folder's name."""

_MARK = "report-"
_NAME = re.compile(r"[0-9a-f]{32}-\d+\.jpg")
_FORM = "1"  # counts up when thumbnails are made in another way


def key_of(paths: Sequence[Path]) -> str:
    """Return a name for one photo's thumbnails, another one whenever one of its files changes."""
    digest = hashlib.sha256(_FORM.encode())
    for path in paths:
        digest.update(b"\0" + os.fsencode(path) + b"\0" + _version(path))
    return digest.hexdigest()[:32]


def _version(path: Path) -> bytes:
    try:
        found = path.stat()
    except OSError:
        return b"gone"
    return f"{found.st_size} {found.st_mtime_ns}".encode()


class Shelf:
    """Thumbnails beside a page. Only files with names of its own making are ever replaced or removed."""

    def __init__(self, root: Path) -> None:
        """See what is there; the folder itself is made when the first thumbnail comes.

        Raises:
            OSError: Something else stands in the folder's place, or a link, through which nothing is written.
        """
        self._root = root
        self._folder = root / FILES
        self._made = False
        # Also where a link leads nowhere.
        if os.path.lexists(self._folder):
            self._make()
        self._unused = self._present() if self._made else set[str]()

    def take(self, key: str, index: int) -> Path | None:
        """Return the thumbnail of that name if it is there already."""
        name = _name(key, index)
        if name not in self._unused:
            return None
        return self._folder / name

    def keep(self, key: str, index: int) -> str:
        """Return the address of a thumbnail that is there, and spare it from `sweep`."""
        self._unused.discard(_name(key, index))
        return f"{FILES}/{_name(key, index)}"

    def put(self, key: str, index: int, data: bytes) -> str:
        """Write a thumbnail, in place of one of the same name, and return its address."""
        if not self._made:
            self._make()
        with Partial(self._folder / _name(key, index), _MARK) as partial:
            partial.write(0, data)
            partial.finish()
        return self.keep(key, index)

    def sweep(self) -> None:
        """Remove thumbnails that no page shows any more, and the folder if nothing is left in it."""
        if not self._made:
            return
        for stale in (*(self._folder / name for name in self._unused), *leftovers(self._folder, _MARK)):
            stale.unlink(missing_ok=True)
        with suppress(OSError):  # something is in it
            self._folder.rmdir()

    def _make(self) -> None:
        make_folders(self._root, PurePath(FILES))
        self._made = True

    def _present(self) -> set[str]:
        with os.scandir(self._folder) as entries:
            return {one.name for one in entries if _NAME.fullmatch(one.name) and one.is_file(follow_symlinks=False)}


def _name(key: str, index: int) -> str:
    return f"{key}-{index}.jpg"
