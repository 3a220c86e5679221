"""What a client opens: one home for each event loop, opened on first use, closed by who opened it."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterable
from contextlib import AsyncExitStack
from importlib import import_module
from typing import TYPE_CHECKING

from attrs import field, frozen
from yarl import URL

from phota_async.limiter import Limiter
from phota_async.settings import count_or_none, positive
from phota_async.threads import in_thread
from phota_async.transport.addresses import Place, place
from phota_async.transport.attempts import Attempts
from phota_async.transport.post import Poster
from phota_async.transport.proxies import Proxies
from phota_async.transport.session import (
    Session,
    TraceConfig,
    open_download_session,
    open_session,
    session_or_none,
    trace_configs_only,
)

if TYPE_CHECKING:
    from phota_async.telemetry import Telemetry

logger = logging.getLogger("phota_async")


def _listed(value: Iterable[TraceConfig]) -> tuple[TraceConfig, ...]:
    if not isinstance(value, Iterable):
        raise ValueError(f"trace_configs must be a list of aiohttp.TraceConfig, not {value!r}")
    return tuple(value)


@frozen(kw_only=True, eq=False)
class Plan:
    """How the rooms of each loop are furnished."""

    max_concurrency: int = field(validator=positive)
    max_queue: int | None = field(validator=count_or_none)
    proxies: Proxies
    session: Session | None = field(validator=session_or_none)
    trace_configs: tuple[TraceConfig, ...] = field(converter=_listed, validator=trace_configs_only)


class Home:
    """What a client has opened on one event loop."""

    def __init__(self, plan: Plan, telemetry: Telemetry | None) -> None:
        self.plan = plan
        self.telemetry = telemetry
        self.limiter = Limiter(plan.max_concurrency, plan.max_queue)
        self._opened = AsyncExitStack()
        if telemetry is not None:
            telemetry.follow(self.limiter)
            self._opened.callback(telemetry.leave, self.limiter)
        self.attempts = Attempts()
        self.poster = Poster(plan.session or self._own(open_session(plan.trace_configs)), self.attempts)
        self._downloads: Session | None = None
        # A proxy may well be a private host; what lies behind it is resolved by the proxy, out of reach of any check.
        self._own_places: set[Place] = plan.proxies.places()

    def downloads(self, own: URL) -> Session:
        """Return the session for signed links; never the injected one, which may carry the account's cookies.

        Args:
            own: The base URL of the client, or of the copy of it, that asks.
        """
        self._own_places.add(place(own))
        if self._downloads is None:
            self._downloads = self._own(open_download_session(self._own_places, self.plan.trace_configs))
        return self._downloads

    def _own(self, session: Session) -> Session:
        self._opened.push_async_callback(session.close)
        return session

    async def aclose(self) -> None:
        """Close what was opened here."""
        await self._opened.aclose()


def _load() -> Telemetry | None:
    """Load what importing the library leaves out, so that no first call loads it on its event loop.

    Returns:
        What calls are told to, where opentelemetry-api is installed.
    """
    for name in ("encodings.idna", "tenacity", "phota_async.codec.converter"):
        import_module(name)
    try:
        from phota_async.telemetry import TELEMETRY  # noqa: PLC0415  (no part of importing the library either)
    except ImportError:
        return None
    except Exception as error:  # noqa: BLE001  (whatever is installed there, calls are made)
        logger.warning("opentelemetry-api cannot be used, from 1.30 it can: %s", error)
        return None
    return TELEMETRY


class Homes:
    """The homes of one client, by event loop. Loops may run in several threads."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._by_loop: dict[asyncio.AbstractEventLoop, Home] = {}
        self._lock = threading.Lock()

    async def here(self) -> Home:
        """Return the running loop's home, opened if it is new."""
        loop = asyncio.get_running_loop()
        if loop not in self._by_loop:
            await self.sweep()
            telemetry = await in_thread(_load)
            with self._lock:
                self._by_loop[loop] = self._by_loop.get(loop) or Home(self.plan, telemetry)
        return self._by_loop[loop]

    async def sweep(self) -> None:
        """Close what belongs to loops that have ended, as after one `asyncio.run` and before the next."""
        with self._lock:
            homes = [self._by_loop.pop(loop) for loop in list(self._by_loop) if loop.is_closed()]
        for home in homes:
            await home.aclose()

    async def leave(self) -> None:
        """Let what is in flight on the running loop land, and close its home."""
        loop = asyncio.get_running_loop()
        home = self._by_loop.get(loop)
        if home is not None:
            try:
                # It stays the loop's home meanwhile, so that a call that comes too late is refused and opens no other.
                await home.limiter.drain()
            finally:
                with self._lock:
                    self._by_loop.pop(loop, None)
                try:
                    await home.attempts.end()
                finally:
                    await home.aclose()
