"""What a value must be, as attrs validators whose ValueError names the field."""

import math
from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING, Any, TypeGuard, cast

if TYPE_CHECKING:
    from attrs import Attribute

Validator = Callable[[object, "Attribute[Any]", Any], None]


def must(expected: str, holds: Callable[[Any], bool]) -> Validator:
    """Demand that a field's value holds."""

    def check(_: object, attribute: "Attribute[Any]", value: object) -> None:
        if not holds(value):
            raise ValueError(f"{attribute.name} must be {expected}, not {value!r}")

    return check


def or_none(expected: str, holds: Callable[[Any], bool]) -> Validator:
    """Demand the same of a field that may be None."""
    return must(f"None or {expected}", lambda value: value is None or holds(value))


def is_number(value: object) -> TypeGuard[float]:
    """Tell whether this is a number that is not negative; infinity is one."""
    return isinstance(value, int | float) and not isinstance(value, bool) and value >= 0


def is_finite(value: object) -> bool:
    """Tell whether this is a finite number that is not negative."""
    return is_number(value) and value < math.inf


def is_whole(value: object) -> TypeGuard[int]:
    """Tell whether this is a whole number that is not negative."""
    return isinstance(value, int) and is_number(value)


def is_text(value: object) -> TypeGuard[str]:
    """Tell whether this is a text that is not empty."""
    return isinstance(value, str) and value != ""


def all_texts(value: object) -> bool:
    """Tell whether this is a collection of texts, and not one text taken apart."""
    if not isinstance(value, Collection) or isinstance(value, str | bytes):
        return False
    return all(is_text(item) for item in cast("Iterable[object]", value))
