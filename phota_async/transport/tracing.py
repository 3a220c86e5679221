"""`trace_configs` of the program's own, kept from costing what is paid for."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any, TypeAlias

from aiohttp import TraceConfig

logger = logging.getLogger("phota_async")

_SIGNALS = tuple(name for name in dir(TraceConfig) if name.startswith("on_"))

Callback: TypeAlias = Callable[..., Awaitable[object]]


def harmless(config: TraceConfig) -> TraceConfig:
    """Return a config that tells ``config``'s callbacks the same. What one of them raises is logged.

    aiohttp calls them in the middle of a request: what they raise would end it, after the service was paid.
    """
    context: Any = config.trace_config_ctx  # any callable will do; the annotation asks for a class
    made: TraceConfig = TraceConfig(trace_config_ctx_factory=context)
    for name in _SIGNALS:
        callbacks: list[Callback] = getattr(config, name)
        getattr(made, name).extend(map(_guarded, callbacks))
    return made


def _guarded(callback: Callback) -> Callback:
    @wraps(callback)
    async def guarded(*args: Any) -> None:
        try:
            await callback(*args)
        except Exception:
            logger.exception("a callback of trace_configs raised")

    return guarded
