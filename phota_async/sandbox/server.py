"""The sandbox itself: settings, ledger and scripts, served over a real socket for as long as it is open."""

import asyncio
import tempfile
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import NoReturn, Self

from anyio.from_thread import start_blocking_portal
from attrs import define, field

from .delivery import until_cancelled
from .downloads import Downloads
from .endpoint import PATH, Endpoint
from .faults import Fault, Script
from .ledger import Ledger
from .links import Links
from .service import EnhanceService
from .settings import Settings


@define(kw_only=True, eq=False)
class Sandbox(Settings):
    """A stand-in for the enhance endpoint, open inside `with` or `async with`.

    Used with `async with` it runs on the caller's asyncio loop; used with `with`, in a thread with a loop of
    its own. Finished images behind links stay in a temporary folder until it closes.
    Raises ValueError, naming the field, for an option that cannot be.
    """

    ledger: Ledger = field(init=False, factory=Ledger, repr=False)
    _script: Script = field(init=False, factory=Script, repr=False)
    _download_script: Script = field(init=False, factory=Script, repr=False)
    _url: str | None = field(init=False, default=None, repr=False)
    _exits: AsyncExitStack = field(init=False, factory=AsyncExitStack, repr=False)
    _thread: ExitStack = field(init=False, factory=ExitStack, repr=False)

    @property
    def url(self) -> str:
        """The base URL, to which clients add `/enhance`; RuntimeError while closed."""
        if self._url is None:
            raise RuntimeError("The sandbox is not open: use it in `with` or `async with`")
        return self._url

    def script(self, *faults: Fault | None) -> None:
        """Add what happens to the next enhance requests, one entry each; None lets one go well."""
        self._script.extend(faults)

    def script_downloads(self, *faults: Fault | None) -> None:
        """Add what happens to the next requests for links, one entry each."""
        self._download_script.extend(faults)

    async def __aenter__(self) -> Self:
        if self._url is not None:
            raise RuntimeError("The sandbox is open already")
        async with AsyncExitStack() as exits:
            self._url = await exits.enter_async_context(self._serving())
            self._exits = exits.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._url = None
        await self._exits.aclose()

    def __enter__(self) -> Self:
        with ExitStack() as thread:
            portal = thread.enter_context(start_blocking_portal())
            thread.enter_context(portal.wrap_async_context_manager(self))
            self._thread = thread.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.close()

    @asynccontextmanager
    async def _serving(self) -> AsyncGenerator[str]:
        async with AsyncExitStack() as exits:
            folder = await asyncio.to_thread(tempfile.TemporaryDirectory, prefix="phota-sandbox-")
            exits.push_async_callback(asyncio.to_thread, folder.cleanup)
            links = Links(Path(folder.name))
            service = EnhanceService(self, self.ledger, self._script, links)
            exits.push_async_callback(service.aclose)
            downloads = Downloads(self.ledger, self._download_script, links)
            endpoint = Endpoint(self.ledger, service, downloads)
            port = await endpoint.start(self.host, self.port)
            exits.push_async_callback(endpoint.aclose)
            host = f"[{self.host}]" if ":" in self.host else self.host
            yield f"http://{host}:{port}{PATH}"


async def serve_forever(sandbox: Sandbox, *, ready: Callable[[str], None]) -> NoReturn:
    """Open the sandbox, call `ready` with its URL, and serve until cancelled."""
    async with sandbox:
        ready(sandbox.url)
        await until_cancelled()
