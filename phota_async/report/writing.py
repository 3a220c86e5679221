"""The report on its way to the disk: one pass over the records, a few photos in memory at a time."""

from __future__ import annotations

import os
import stat
from base64 import b64encode
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import chain
from pathlib import Path
from tempfile import TemporaryFile
from typing import BinaryIO

from phota_async.files import Partial
from phota_async.records import FolderStatus, PhotoRecord
from phota_async.report.cards import Pictures, card
from phota_async.report.page import GENERATOR, bottom, top
from phota_async.report.shelf import Shelf, key_of
from phota_async.report.tally import Tally
from phota_async.report.thumbnails import Thumbnails, size_of, thumbnails

EMBEDDED = 24
"""So many photos are inside the page; those after them come from the folder beside it."""

_HEAD_BYTES = 4096
_BLOCK_BYTES = 2**18
# Decoding releases the interpreter; more threads than this only hold more photos.
_MOST_THREADS = 4


def write(folder: Path, records: Iterable[PhotoRecord], status: FolderStatus) -> Path:
    """Write the page and what it loads later; see `phota_async.report.write_report`."""
    target = folder / "report.html"
    _refuse_foreign(target)
    shelf, tally = Shelf(folder), Tally(status)
    ratios: set[int] = set()
    # The cards come first and the totals stand above them, so the cards wait on the disk.
    with TemporaryFile(dir=folder) as cards, Partial(target) as page:
        for record, pictures in _illustrated(records, shelf):
            tally.add(record)
            ratios.add(pictures.ratio)
            cards.write(card(record, pictures, folder).encode())
        _assemble(page, top(folder.absolute().name, tally, ratios), cards, bottom())
        page.finish()
    shelf.sweep()
    return target


def _refuse_foreign(target: Path) -> None:
    try:
        mode = target.lstat().st_mode
    except FileNotFoundError:
        return
    if stat.S_ISREG(mode):
        with target.open("rb") as file:
            if GENERATOR.encode() in file.read(_HEAD_BYTES):
                return
    raise FileExistsError(f"{target} was not written by phota-async and is left as it is: move it away first")


def _assemble(page: Partial, head: str, cards: BinaryIO, foot: str) -> None:
    cards.seek(0)
    offset = 0
    for block in chain([head.encode()], iter(lambda: cards.read(_BLOCK_BYTES), b""), [foot.encode()]):
        page.write(offset, block)
        offset += len(block)


def _illustrated(records: Iterable[PhotoRecord], shelf: Shelf) -> Iterator[tuple[PhotoRecord, Pictures]]:
    """Give each record with its pictures, in order; a few are worked on ahead."""
    threads = min(_MOST_THREADS, os.cpu_count() or 1)
    ahead: deque[tuple[PhotoRecord, Future[Pictures]]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for number, record in enumerate(records):
            work = _embedded if number < EMBEDDED else partial(_beside, shelf)
            ahead.append((record, pool.submit(work, record)))
            if len(ahead) > 2 * threads:
                first, pictures = ahead.popleft()
                yield first, pictures.result()
        for first, pictures in ahead:
            yield first, pictures.result()


def _embedded(record: PhotoRecord) -> Pictures:
    made = thumbnails(_paths(record))
    return _pictures(made, (data and f"data:image/jpeg;base64,{b64encode(data).decode()}" for data in made.files))


def _beside(shelf: Shelf, record: PhotoRecord) -> Pictures:
    paths = _paths(record)
    key = key_of(paths)
    there = [shelf.take(key, index) for index in range(len(paths))]
    size = size_of(there[0]) if there[0] else None
    if size and all(there):
        addresses = tuple(shelf.keep(key, index) for index in range(len(paths)))
        return Pictures(width=size[0], height=size[1], addresses=addresses)
    made = thumbnails(paths)
    return _pictures(made, (data and shelf.put(key, index, data) for index, data in enumerate(made.files)))


def _paths(record: PhotoRecord) -> tuple[Path, ...]:
    return (record.source, *record.outputs)


def _pictures(made: Thumbnails, addresses: Iterable[str | bytes | None]) -> Pictures:
    shown = tuple(address if isinstance(address, str) else None for address in addresses)
    return Pictures(width=made.width, height=made.height, addresses=shown, notes=made.notes)
