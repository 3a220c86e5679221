"""Plain aiohttp with a connection for each call, which is what the library makes."""

from __future__ import annotations

from functools import partial

from benchmarks.clients import aiohttp

opened = partial(aiohttp.opened, force_close=True)
