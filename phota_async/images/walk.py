"""Photos found in folders, one at a time: nothing is collected, so a million cost no more memory than ten."""

from __future__ import annotations

import fnmatch
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from attrs import frozen

from phota_async import formats
from phota_async.errors import ImageError
from phota_async.images.paths import look, unreadable
from phota_async.threads import in_thread

UNREADABLE = -1
"""The size of what could not be looked at; to open it tells why."""

_SUFFIXES = tuple(formats.SUFFIXES)


class Found(NamedTuple):
    """A photo on the disk: a tuple, because there may be very many."""

    path: str
    name: str
    size: int
    modified_ns: int


def _pattern(globs: Iterable[str]) -> re.Pattern[str] | None:
    names: list[object] = [None] if isinstance(globs, str) or not isinstance(globs, Iterable) else list(globs)
    parts = [fnmatch.translate(name.rstrip("/")) for name in names if isinstance(name, str)]
    if len(parts) != len(names):
        raise ValueError(f"include and exclude must be lists of patterns, not {globs!r}")
    return re.compile("|".join(parts), re.IGNORECASE) if parts else None


@frozen
class Filter:
    """Which names count. A pattern is matched against a name and against the path below the folder that was asked for.

    ``*`` matches any characters, slashes too; neither case counts. What a pattern leaves out as a folder is not looked
    into.
    """

    _wanted: re.Pattern[str] | None = None
    _unwanted: re.Pattern[str] | None = None

    @classmethod
    def of(cls, include: Iterable[str] = (), exclude: Iterable[str] = ()) -> Filter:
        """Return the filter of some patterns.

        Raises:
            ValueError: It is one string where a list belongs.
        """
        return cls(_pattern(include), _pattern(exclude))

    def wants(self, name: str, below: str) -> bool:
        """Tell whether a file counts."""
        wanted = self._wanted
        included = wanted is None or wanted.match(name) is not None or wanted.match(below) is not None
        return included and self.enters(name, below)

    def enters(self, name: str, below: str) -> bool:
        """Tell whether a folder is looked into."""
        unwanted = self._unwanted
        return unwanted is None or (unwanted.match(name) is None and unwanted.match(below) is None)


def walk(
    sources: Iterable[str | os.PathLike[str]],
    wanted: Filter = Filter(),
    passes_over: Callable[[str], bool] = lambda _: False,
    *,
    keeps_missing: bool = False,
) -> Iterator[Found]:
    """Give the photos of files and folders, those in sub-folders included. Blocks.

    A file counts by its first bytes; one that only has a photo's extension counts too, so that it fails in sight rather
    than being passed over, and so does a folder that cannot be read. Hidden names are left out, links to folders are
    not followed. A source that is a file counts whatever it is.

    Args:
        sources: Files and folders.
        wanted: Which names count below the sources.
        passes_over: Tells which sub-folders are left out.
        keeps_missing: Whether a source that cannot be looked at is given too, to fail in sight.

    Raises:
        ImageError: A source cannot be looked at.
    """
    for source in sources:
        try:
            yield from _of(os.fspath(source), wanted, passes_over)
        except ImageError:
            if not keeps_missing:
                raise
            yield Found(os.fspath(source), Path(source).name, UNREADABLE, 0)


def _of(path: str, wanted: Filter, passes_over: Callable[[str], bool]) -> Iterator[Found]:
    try:
        status = Path(path).stat()
    except (OSError, ValueError) as error:
        raise unreadable(Path(path), error) from None
    if stat.S_ISDIR(status.st_mode):
        yield from _below(path, wanted, passes_over)
    else:
        yield Found(path, Path(path).name, status.st_size, status.st_mtime_ns)


def _below(root: str, wanted: Filter, passes_over: Callable[[str], bool]) -> Iterator[Found]:
    everything = wanted == Filter()
    # A stack, because folders may lie deeper in each other than calls may.
    folders = [(root, "")]
    while folders:
        folder, prefix = folders.pop()
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    name = entry.name
                    if name.startswith("."):
                        continue
                    below = prefix + name
                    if entry.is_dir(follow_symlinks=False):
                        if wanted.enters(name, below) and not passes_over(entry.path):
                            folders.append((entry.path, f"{below}/"))
                    elif (everything or wanted.wants(name, below)) and (found := _found(entry, below)):
                        yield found
        except OSError as error:
            if not prefix:
                raise unreadable(Path(root), error) from None
            yield Found(folder, prefix.removesuffix("/"), UNREADABLE, 0)


def _found(entry: os.DirEntry[str], below: str) -> Found | None:
    # Path(...).suffix takes as long as all the rest together.
    if not entry.name.lower().endswith(_SUFFIXES) and not _is_photo(entry):
        return None
    try:
        status = entry.stat()
    except OSError:
        return Found(entry.path, below, UNREADABLE, 0)
    return Found(entry.path, below, status.st_size, status.st_mtime_ns)


def _is_photo(entry: os.DirEntry[str]) -> bool:
    try:
        look(Path(entry.path))
    except ImageError:
        return False
    return True


async def photos_in(directory: Path) -> list[Path]:
    """Return the photos of a directory and of those below it, sorted by path; of a file, the file. See `walk`.

    Raises:
        ImageError: The directory cannot be read.
    """
    return await in_thread(lambda: sorted(Path(found.path) for found in walk([directory])))
