"""What enhanced files are called: the source's place and name, never outside the folder, told apart by numbers."""

from __future__ import annotations

import itertools
import os
import re
import unicodedata
from collections.abc import Iterator
from pathlib import PurePath

MAX_NAME_BYTES = 255
"""What common file systems allow."""

_PLAIN_LENGTH = 60
_ROOM = 16  # for a number and the extension


def stems(relative: PurePath) -> Iterator[PurePath]:
    """Give what the images of a source may be called, best first and without end; without extension.

    Args:
        relative: The source's path below the folder that was asked for, or its bare name.
    """
    parts = [part for part in relative.parts if part not in {"..", ".", relative.anchor}]
    stem, folder = _stem(parts.pop() if parts else ""), PurePath(*parts)
    yield folder / stem
    yield from (folder / f"{stem}-{number}" for number in itertools.count(2))


def numbered(stem: PurePath, extension: str, count: int) -> list[PurePath]:
    """Return the file names of ``count`` images of one source: the bare stem for one, ``-1``, ``-2`` for more."""
    if count == 1:
        return [stem.with_name(stem.name + extension)]
    return [stem.with_name(f"{stem.name}-{number}{extension}") for number in range(1, count + 1)]


def plainer(name: PurePath) -> PurePath:
    """Return a name that every file system takes: short, of ASCII letters, digits and signs that mean nothing."""
    stem = re.sub(r"[^A-Za-z0-9._ -]", "_", name.stem)[:_PLAIN_LENGTH].rstrip(" .")
    return name.with_name(f"{stem or 'photo'}{name.suffix}")


def folded(name: PurePath) -> str:
    """Return what two names share that a file system might take for the same.

    Neither case nor the way in which an accent is composed counts.
    """
    # What is no text stays what it is, in a form that a database takes.
    text = os.fsencode(name.as_posix()).decode("utf-8", "backslashreplace")
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())


def _stem(name: str) -> str:
    stem = PurePath(name).stem
    while len(os.fsencode(stem)) > MAX_NAME_BYTES - _ROOM:
        stem = stem[:-1]
    # The stem of "...jpg" is "..".
    return stem if stem.strip(".") else "photo"
