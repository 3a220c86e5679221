"""What is seen of a soak's calls from outside the client: requests that begin, pauses, and words in the log."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Generator
from contextlib import contextmanager
from types import SimpleNamespace

import aiohttp
from soak_books import CURRENT

from phota_async import RetryDetails


def watching() -> aiohttp.TraceConfig:
    """Count each request that goes into aiohttp for the call that makes it."""

    async def on_start(_: aiohttp.ClientSession, __: SimpleNamespace, given: aiohttp.TraceRequestStartParams) -> None:
        call = CURRENT.get()
        call.begun += given.method == "POST"
        call.fetched += given.method == "GET"
        task = asyncio.current_task()
        if given.method == "POST" and call.in_flight is not None and task is not None:
            asyncio.get_running_loop().call_later(call.in_flight, task.cancel)

    config = aiohttp.TraceConfig()
    config.on_request_start.append(on_start)
    return config


def on_retry(details: RetryDetails) -> None:
    call = CURRENT.get()
    call.met(details.error)
    if call.in_pause and (task := asyncio.current_task()) is not None:
        task.cancel()


class Listener(logging.Handler):
    """Hears what the client logs about the money of the call that the running task makes."""

    def __init__(self, wrong: list[str]) -> None:
        super().__init__(logging.INFO)
        self._wrong = wrong

    def emit(self, record: logging.LogRecord) -> None:
        told, call = record.getMessage(), CURRENT.get(None)
        if record.levelno >= logging.ERROR or record.name == "asyncio":
            self._wrong.append(f"logged: {told} {record.exc_info and record.exc_info[1]!r}")
        elif call is not None and record.levelno == logging.WARNING and "may have been charged" in told:
            call.maybe_charged = True
            call.paid_twice |= "an earlier attempt" in told

    @contextmanager
    def listening(self) -> Generator[None]:
        loggers = [logging.getLogger(name) for name in ("phota_async", "asyncio")]
        before = [logger.propagate for logger in loggers]
        for logger in loggers:
            logger.addHandler(self)
            logger.propagate = False
        try:
            yield
        finally:
            for logger, propagate in zip(loggers, before, strict=True):
                logger.removeHandler(self)
                logger.propagate = propagate
