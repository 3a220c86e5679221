"""What a value that came out of JSON is, in terms that type checkers follow."""

from __future__ import annotations

from typing import Any, TypeGuard


def is_list(value: object) -> TypeGuard[list[Any]]:
    """Tell whether it was a list."""
    return isinstance(value, list)


def is_object(value: object) -> TypeGuard[dict[str, Any]]:
    """Tell whether it was an object."""
    return isinstance(value, dict)


def is_list_of(kinds: set[type], value: object) -> bool:
    """Tell whether it was a list of nothing but these; true is no number."""
    return is_list(value) and all(type(one) in kinds for one in value)
