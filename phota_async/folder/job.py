"""What a folder run is asked for, checked when it is built."""

from __future__ import annotations

import asyncio
import inspect
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Self

from attrs import Attribute, field, frozen

from phota_async.images.walk import Filter
from phota_async.models import EnhanceOptions
from phota_async.records import FolderEvent, Price, price_only


def _paths(value: object) -> Iterable[str | os.PathLike[str]]:
    if isinstance(value, str | os.PathLike) and value != "":
        return (value,)  # pyright: ignore[reportUnknownVariableType]  (of str or of bytes)
    if value == "" or isinstance(value, bytes | bytearray) or not isinstance(value, Iterable):
        raise ValueError(f"source must be a path or a list of paths, not {value!r}")
    return value  # pyright: ignore[reportUnknownVariableType]


def _path(value: object) -> Path:
    if not isinstance(value, str | os.PathLike) or value == "":
        raise ValueError(f"output must be a path, not {value!r}")
    return Path(os.fsdecode(value))  # pyright: ignore[reportUnknownArgumentType]  (of str or of bytes)


def _flag(_: object, attribute: Attribute[bool], value: object) -> None:
    if not isinstance(value, bool):
        raise ValueError(f"{attribute.name} must be True or False, not {value!r}")


def _callable_or_none(_: object, attribute: Attribute[Any], value: object) -> None:
    if value is not None and (not callable(value) or inspect.iscoroutinefunction(value)):
        raise ValueError(f"{attribute.name} must be a plain function or None, not {value!r}")


def _event_or_none(_: object, attribute: Attribute[Any], value: object) -> None:
    if value is not None and not isinstance(value, asyncio.Event):
        raise ValueError(f"{attribute.name} must be an asyncio.Event or None, not {value!r}")


def _amount_or_none(_: object, attribute: Attribute[float | None], value: object) -> None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0):
        raise ValueError(f"{attribute.name} must be a number of US dollars, 0 or more, or None, not {value!r}")


@frozen(kw_only=True, eq=False)
class FolderJob:
    """What a folder run is asked for; see `PhotaClient.enhance_folder`.

    Attributes:
        listed: Whether ``sources`` is a list: what is missing of it is a photo's own failure then, not the run's.
        stand_in: Whether a server on this machine stands in for the service.
    """

    sources: Iterable[str | os.PathLike[str]] = field(converter=_paths)
    output: Path = field(converter=_path)
    options: EnhanceOptions
    wanted: Filter
    overwrite: bool = field(default=False, validator=_flag)
    retry_failed: bool = field(default=False, validator=_flag)
    retry_unknown: bool = field(default=False, validator=_flag)
    checksum: bool = field(default=False, validator=_flag)
    max_cost_usd: float | None = field(default=None, validator=_amount_or_none)
    price: Price = field(factory=Price, validator=price_only)
    on_event: Callable[[FolderEvent], object] | None = field(default=None, validator=_callable_or_none)
    stop: asyncio.Event | None = field(default=None, validator=_event_or_none)
    stand_in: bool = False
    listed: bool = False

    @classmethod
    def of(cls, *, include: Iterable[str] = (), exclude: Iterable[str] = (), **asked: Any) -> Self:
        """Return the job of some patterns and all the rest.

        Raises:
            ValueError: A value is wrong; the message names the field.
        """
        listed = not isinstance(asked["sources"], str | os.PathLike)
        return cls(wanted=Filter.of(include, exclude), listed=listed, **asked)
