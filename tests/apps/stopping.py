"""Hearing at once that the process is to stop; uvicorn tells an app only after the last open answer."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def when_told_to_stop(act: Callable[[], object]) -> Generator[None, None, None]:
    """Call ``act`` in the running loop at SIGTERM and SIGINT, before what the server does about them."""
    loop, theirs = asyncio.get_running_loop(), {}
    if threading.current_thread() is threading.main_thread():  # not under Starlette's TestClient
        theirs = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def heard(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(act)
        if callable(handler := theirs[signal.Signals(number)]):
            handler(number, frame)

    for number, handler in theirs.items():
        if callable(handler):  # the server's
            signal.signal(number, heard)
    try:
        yield
    finally:
        for number, handler in theirs.items():
            if callable(handler):
                signal.signal(number, handler)
