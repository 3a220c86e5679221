"""A batch as Ray Data gives it, and the rows that it gets back: a dict of columns each."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias, cast

from attrs import frozen

from phota_async.ray import rules
from phota_async.ray.desk import Served

Columns: TypeAlias = Mapping[str, Any]
"""Columns of equal length by name: lists, or arrays of NumPy."""

BYTES = "bytes"
_ONE_VALUE = str | bytes | bytearray | memoryview
"""What has a length and is no column."""

NEW = ("state", "image", "link", "number", "request_id", "spend_usd", "error", "key")


@frozen
class Photo:
    """A photo of a batch: its bytes and their SHA-256, as hexadecimal digits."""

    data: bytes
    sha256: str


def photos(batch: Columns) -> list[Photo | Served]:
    """Return the photos of a batch; for a row that holds no bytes what is said of it.

    Raises:
        ValueError: It is no dict of columns of equal length, has none that is called ``bytes``, or one with a name that
            is put into the rows.
    """
    given: object = batch
    if not isinstance(given, Mapping):
        raise ValueError(f"a batch must be a dict of columns (batch_format='numpy', the default), not {type(given)}")
    if BYTES not in batch:
        raise ValueError(f"the rows must have a column {BYTES!r}, as ray.data.read_binary_files gives; not {[*batch]}")
    if taken := [name for name in NEW if name in batch]:
        raise ValueError(f"the rows must not have the columns {taken}, which are put into them")
    lengths = {name: _length(name, column) for name, column in batch.items()}
    if wrong := {name: length for name, length in lengths.items() if length != lengths[BYTES]}:
        raise ValueError(f"the columns {wrong} are not as long as {BYTES!r}, which has {lengths[BYTES]} rows")
    return [_photo(value) for value in batch[BYTES]]


def _length(name: str, column: Any) -> int:
    kind = type(column).__name__
    try:
        if not isinstance(column, _ONE_VALUE):
            return len(column)
    except TypeError:
        pass
    raise ValueError(f"{name!r} must be a column: a list or an array, not one {kind}")


def _photo(value: object) -> Photo | Served:
    if not isinstance(value, bytes | bytearray | memoryview):
        return Served(state="failed", error=rules.NO_BYTES.format(kind=type(value).__name__))
    data = bytes(cast("bytes", value))  # a copy only of what may change
    return Photo(data, hashlib.sha256(data).hexdigest())


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
