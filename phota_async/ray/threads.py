"""Work for a thread, which is done also where no thread can be had."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from phota_async import threads

T = TypeVar("T")


async def in_thread(function: Callable[..., T], *given: object) -> T:
    """Call a function in a thread, or in place where none can be started: under a limit, or as the interpreter exits.

    It is called a second time if it raises a RuntimeError itself.
    """
    try:
        return await threads.in_thread(function, *given)
    except RuntimeError:
        return function(*given)
