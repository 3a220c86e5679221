"""A run's photos: found on the disk, written to the journal, and sorted by what each is due. All of it blocks."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import chain, takewhile
from pathlib import Path
from typing import NamedTuple

from attrs import frozen

from phota_async.errors import ImageError
from phota_async.folder.job import FolderJob
from phota_async.folder.rules import Action, Again, action
from phota_async.images.paths import File, look
from phota_async.images.walk import UNREADABLE, walk
from phota_async.journal import NAME, Journal, Key, Row, photos, walks
from phota_async.journal.runs import Run

_READ_BYTES = 2**26
"""How much is read again before others have their turn."""


@frozen
class Due:
    """A photo, and what it is due."""

    row: Row
    action: Action


@frozen
class Page:
    """Some photos of a run, in the order of their paths.

    Attributes:
        had: Those that have all that they are due, with their images: no more than that, because they may be very many.
        due: The others.
    """

    had: Mapping[bytes, Sequence[bytes]]
    due: Sequence[Due]


def find(journal: Journal, job: FolderJob) -> int:
    """Write the photos that a job asks for to the journal, and return how many there are.

    Raises:
        ImageError: The source cannot be read, or is the output folder itself.
        ValueError: One of the sources is no path.
    """
    absolute = (_absolute(source, journal.folder) for source in job.sources)
    walked = walk(absolute, job.wanted, _passing_over(journal.folder), keeps_missing=job.listed)
    # Whoever cancels a run closes its journal; the walk, in its thread, would go on for nobody.
    return walks.found(journal, takewhile(lambda _: not journal.is_closed, walked))


def _absolute(source: object, output: Path) -> str:
    if not isinstance(source, str | os.PathLike):
        raise ValueError(f"source must be a path or a list of paths, and one of them is {source!r}")
    path, same = Path(os.fsdecode(source)).absolute(), False  # pyright: ignore[reportUnknownArgumentType]  (of str or of bytes)
    with suppress(OSError, ValueError):  # one that cannot be looked at is told by the walk
        same = path.samefile(output)
    if same:
        raise ImageError(f"the output folder {output} is the source itself; choose another one, it may lie inside")
    return str(path)


def _passing_over(output: Path) -> Callable[[str], bool]:
    # A run that is only foreseen does not make it.
    status = output.stat() if output.exists() else None

    def passes_over(folder: str) -> bool:
        # What was enhanced is not enhanced again: not the output folder, whatever it is called here, nor another's.
        try:
            inner = os.stat(folder, follow_symlinks=False)  # noqa: PTH116  (once for each folder of a large tree)
        except OSError:
            return False  # what is the matter with it is told by the walk
        same = status is not None and (inner.st_dev, inner.st_ino) == (status.st_dev, status.st_ino)
        return same or os.path.lexists(f"{folder}{os.sep}{NAME}")

    return passes_over


def sorted_out(journal: Journal, run: Run, again: Again) -> Iterator[Page]:
    """Give the photos of a run, page by page, with what each is due as far as can be told without reading it."""
    root, after = _root(journal.folder), b""
    while bought := journal.ask(photos.bought_after(after, run)):
        had = {source: files for source, files in bought.items() if files and _in_place(root, files)}
        rows = journal.ask(photos.page_after(after, run)) if len(had) < len(bought) else []
        yield Page(had, [Due(row, _due(row, again, root)) for row in rows if row.source not in had])
        after = next(reversed(bought))


def to_be_fetched(journal: Journal, run: Run, again: Again) -> Iterator[Page]:
    """Give those that are paid for and wait to be fetched."""
    root = _root(journal.folder)
    for page in photos.pages(journal, run, answered=True):
        yield Page({}, [Due(row, _due(row, again, root)) for row in page])


def read_again(journal: Journal, run: Run, again: Again) -> Iterator[Page]:
    """Do as `sorted_out`, and believe of a photo only its bytes: all of them are read."""
    root, size = _root(journal.folder), 0
    page: list[Due] = []
    for row in chain.from_iterable(photos.pages(journal, run)):
        known = row if _is_unchanged(row) else row._replace(sha256=None, item=None)
        page.append(Due(known, _due(known, again, root)))
        size += row.size
        if size >= _READ_BYTES:
            yield Page({}, page)
            page, size = [], 0
    yield Page({}, page)


def _is_unchanged(row: Row) -> bool:
    if row.sha256 is None:
        return False
    try:
        # The bytes alone; where they have changed, the photo is looked at in its turn.
        with open(row.source, "rb", buffering=0) as file:  # noqa: PTH123  (once for each of very many)
            return hashlib.file_digest(file, "sha256").digest() == row.sha256
    except OSError:
        return False


def _due(row: Row, again: Again, root: bytes) -> Action:
    # A photo that was bought under another name is looked at more closely later.
    if row.item is None or (row.item.state == "done" and not row.files):
        return Action.SEND
    return action(row.item, again, in_place=_in_place(root, row.files))


def in_place(folder: Path, files: Sequence[bytes]) -> bool:
    """Tell whether images are where they were put."""
    return _in_place(_root(folder), files)


def _root(folder: Path) -> bytes:
    return os.fsencode(folder) + b"/"


def _in_place(root: bytes, files: Sequence[bytes]) -> bool:
    for name in files:  # noqa: SIM110  (quicker)
        # To ask for access is quicker than to look, but says no where a link leads nowhere.
        if not os.access(root + name, os.F_OK) and not os.path.lexists(root + name):
            return False
    return True


class Images(NamedTuple):
    """Images that are in place, and the photo that they were written for."""

    source: bytes
    files: list[bytes]


def images_of(journal: Journal, key: Key, source: bytes, bought_as: bytes) -> Images | None:
    """Return the images of an item that are in place: those of ``source``, else of ``bought_as``, else of any photo."""
    for holder in _holders(journal, key, source, bought_as):
        files = journal.ask(photos.files_of(holder, key))
        if files and in_place(journal.folder, files):
            return Images(holder, files)
    return None


def _holders(journal: Journal, key: Key, *likely: bytes) -> Iterator[bytes]:
    yield from likely
    yield from journal.ask(photos.holders(key))


def identify(row: Row) -> tuple[File, bytes, bool]:
    """Look at a photo: return it, the SHA-256 of its bytes, and whether that is news to the journal.

    Raises:
        ImageError: It cannot be used.
    """
    path = Path(os.fsdecode(row.source))
    file = look(path)
    if (
        row.sha256 is not None
        and row.size != UNREADABLE
        and (file.size, file.stamp.modified_ns) == (row.size, row.modified_ns)
    ):
        return file, row.sha256, False
    return file, file.sha256(), True
