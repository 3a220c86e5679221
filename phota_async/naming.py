"""What enhanced files are called: the source's place and name, never outside the folder, never the same twice."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path, PurePath

from attrs import define, field

_MAX_NAME_BYTES = 255  # what common file systems allow
_ROOM = 16  # for a number and the extension


@define
class Names:
    """Gives each source a name of its own. The same sources in the same order get the same names.

    Two names are the same when a file system might take them for the same: neither case nor the way in which an accent
    is composed counts.
    """

    _taken: set[str] = field(factory=set[str])

    def stem_for(self, relative: PurePath) -> PurePath:
        """Return where the images of a source go, without extension, relative to the output folder.

        Args:
            relative: The source's path relative to the folder that was asked for, or its bare name.
        """
        parts = [part for part in relative.parts if part not in {"..", ".", relative.anchor}]
        name = parts.pop() if parts else ""
        stem, folder = _stem(name), PurePath(*parts)
        number, name = 1, stem
        while (key := _folded(folder / name)) in self._taken:
            number += 1
            name = f"{stem}-{number}"
        self._taken.add(key)
        return folder / name


def numbered(stem: Path, extension: str, count: int) -> list[Path]:
    """Return the file names of ``count`` images of one source: the bare stem for one, ``-1``, ``-2`` for more."""
    if count == 1:
        return [stem.with_name(stem.name + extension)]
    return [stem.with_name(f"{stem.name}-{number}{extension}") for number in range(1, count + 1)]


def _folded(path: PurePath) -> str:
    return unicodedata.normalize("NFC", path.as_posix()).casefold()


def _stem(name: str) -> str:
    stem = PurePath(name).stem
    while len(os.fsencode(stem)) > _MAX_NAME_BYTES - _ROOM:
        stem = stem[:-1]
    # The stem of "...jpg" is "..".
    return stem if stem.strip(".") else "photo"
