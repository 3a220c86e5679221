"""Values from JSON held against a shape, by a converter that is loaded when it is first needed."""

from __future__ import annotations

from typing import TypeVar

T = TypeVar("T")


class ShapeError(ValueError):
    """A value has not the expected shape; the message holds paths such as ``$.counts``."""


def structure(value: object, shape: type[T]) -> T:
    """Return ``value``, fresh from JSON, as an instance of ``shape``.

    Raises:
        ShapeError: A type is not what the shape says.
    """
    # cattrs is no part of what importing the library costs; a client loads it in a thread when it opens.
    from phota_async.codec import converter  # noqa: PLC0415

    return converter.structure(value, shape)
