"""A batch as Ray Data gives it, and the rows that it gets back: a dict of columns each."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from attrs import frozen

from phota_async.ray.desk import Served

Columns: TypeAlias = Mapping[str, Any]
"""Columns of equal length by name: lists, or arrays of NumPy."""

BYTES = "bytes"
NEW = ("state", "image", "link", "number", "request_id", "spend_usd", "error", "key")


@frozen
class Photo:
    """A photo of a batch: its bytes and their SHA-256, as hexadecimal digits."""

    data: bytes
    sha256: str


def photos(batch: Columns) -> list[Photo | None]:
    """Return the photos of a batch; None for a row that holds no bytes.

    Raises:
        ValueError: It is no dict, has no column ``bytes``, or one with a name that is put into the rows.
    """
    given: object = batch
    if not isinstance(given, Mapping):
        raise ValueError(f"a batch must be a dict of columns (batch_format='numpy', the default), not {type(given)}")
    if BYTES not in batch:
        raise ValueError(f"the rows must have a column {BYTES!r}, as ray.data.read_binary_files gives; not {[*batch]}")
    if taken := [name for name in NEW if name in batch]:
        raise ValueError(f"the rows must not have the columns {taken}, which are put into them")
    return [Photo(data, hashlib.sha256(data).hexdigest()) if isinstance(data, bytes) else None for data in batch[BYTES]]


def rows(batch: Columns, served: Sequence[tuple[str, Served]]) -> dict[str, Any]:
    """Return the rows of a batch: one for each image of a photo, one for a photo without any.

    What is not there is an empty text, so that a column has one type in all batches. An array stays one, of its type.

    Args:
        batch: What came.
        served: The key of each photo, and what became of it.
    """
    places = [(place, number) for place, (_, one) in enumerate(served) for number in range(_count(one))]
    columns = {name: _taken(column, [place for place, _ in places]) for name, column in batch.items() if name != BYTES}
    new = [_row(*served[place], number) for place, number in places]
    return {**columns, **{name: [row[name] for row in new] for name in NEW}}


def _taken(column: Any, places: list[int]) -> Any:
    # An array of NumPy takes all places at once, and so keeps its type; a list of its dates would have none.
    return column[places] if hasattr(column, "dtype") else [column[place] for place in places]


def _count(served: Served) -> int:
    return max(len(served.images), len(served.links), 1)


def _row(key: str, served: Served, number: int) -> dict[str, Any]:
    return {
        "state": served.state,
        "image": served.images[number] if number < len(served.images) else b"",
        "link": _text(served.links[number]) if number < len(served.links) else "",
        "number": number,
        "request_id": _text(served.request_id),
        "spend_usd": served.cost_usd / _count(served),
        "error": _text(served.error),
        "key": key,
    }


def _text(text: str) -> str:
    # JSON can spell halves of characters, which a column of text does not take.
    return text.encode(errors="replace").decode()
