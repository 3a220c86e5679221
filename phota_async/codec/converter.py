"""A cattrs converter that takes JSON at its word: no letters out of a string, no integer out of 1.7 or true."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeAlias, TypeVar, get_args, get_origin

import attrs
from cattrs import BaseConverter, BaseValidationError, Converter, IterableValidationError, transform_error
from cattrs.errors import IterableValidationNote
from cattrs.gen import make_dict_structure_fn

from phota_async.codec.shapes import ShapeError

__all__ = ["ShapeError", "structure"]

T = TypeVar("T")
StructureHook: TypeAlias = Callable[[Any, Any], Any]

_MAX_FAULTS = 10
"""How many faults of one list or object are told: 30,000 of them, which fit into 64 KiB, take a third of a second."""

_MAX_WORDS = 1000
"""How many characters they are told in."""

_JSON_NAMES: dict[type, str] = {
    str: "a string",
    int: "an integer",
    float: "a number with a fraction",
    bool: "true or false",
    list: "a list",
    dict: "an object",
    type(None): "null",
}


def structure(value: object, shape: type[T]) -> T:
    """Return ``value``, fresh from JSON, as an instance of ``shape``.

    Unknown keys are ignored.

    Raises:
        ShapeError: A type is not what the shape says.
    """
    try:
        return _CONVERTER.structure(value, shape)
    except (BaseValidationError, TypeError, ValueError) as error:
        problem = "; ".join(transform_error(error, format_exception=_told))
    raise ShapeError(problem if len(problem) <= _MAX_WORDS else f"{problem[: _MAX_WORDS - 1]}…")


def _told(error: BaseException, _shape: object) -> str:
    return str(error)


def _exactly(*kinds: type) -> StructureHook:
    def hook(value: Any, _: Any) -> Any:
        # type() rather than isinstance(): true is no number.
        if type(value) not in kinds:
            wanted = " or ".join(_JSON_NAMES[kind] for kind in kinds)
            raise TypeError(f"expected {wanted}, got {_JSON_NAMES[type(value)]}")
        return value

    return hook


def _only_from(kind: type, factory: Callable[[Any, BaseConverter], StructureHook]) -> Any:
    def strict(shape: Any, converter: BaseConverter) -> StructureHook:
        inner = factory(shape, converter)

        def hook(value: Any, kind_of: Any) -> Any:
            if type(value) is not kind:
                raise TypeError(f"expected {_JSON_NAMES[kind]}, got {_JSON_NAMES[type(value)]}")
            return inner(value, kind_of)

        return hook

    return strict


def _strict_converter() -> Converter:
    converter = Converter()
    converter.register_structure_hook(str, _exactly(str))
    converter.register_structure_hook(int, _exactly(int))
    converter.register_structure_hook(str | int, _exactly(str, int))
    converter.register_structure_hook_factory(_is(list), _only_from(list, _list))
    converter.register_structure_hook_factory(_is(dict), _only_from(dict, _mapping))
    converter.register_structure_hook_factory(attrs.has, _only_from(dict, make_dict_structure_fn))
    return converter


def _list(shape: Any, converter: BaseConverter) -> StructureHook:
    (kind,) = get_args(shape)
    inner = converter.get_structure_hook(kind)

    def hook(value: list[Any], _: Any) -> list[Any]:
        return [one for _, one in _each(enumerate(value), inner, kind, shape)]

    return hook


def _mapping(shape: Any, converter: BaseConverter) -> StructureHook:
    _, kind = get_args(shape)
    inner = converter.get_structure_hook(kind)
    return lambda value, _: dict(_each(value.items(), inner, kind, shape))


def _each(members: Iterable[tuple[Any, Any]], inner: StructureHook, kind: Any, shape: Any) -> list[tuple[Any, Any]]:
    # As in cattrs, which would collect the faults without end.
    good: list[tuple[Any, Any]] = []
    faults: list[Exception] = []
    for place, value in members:
        try:
            good.append((place, inner(value, kind)))
        except (BaseValidationError, TypeError, ValueError) as fault:
            fault.add_note(IterableValidationNote(f"at {place!r}", place, kind))
            faults.append(fault)
        if len(faults) == _MAX_FAULTS:
            break
    if faults:
        raise IterableValidationError(f"in {shape!r}", faults, shape)  # pyright: ignore[reportCallIssue]  (as shipped)
    return good


def _is(kind: type) -> Callable[[Any], bool]:
    return lambda shape: get_origin(shape) is kind


_CONVERTER = _strict_converter()
