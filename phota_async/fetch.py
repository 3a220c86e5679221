"""Signed links fetched into memory or into a file: attempts of one download, and where its bytes are put."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from anyio import CancelScope
from attrs import define, field, frozen
from yarl import URL

from phota_async.codec.growing import Growing
from phota_async.errors import DeadlineExceededError, let_go
from phota_async.files import Partial, placed
from phota_async.models import EnhancedImage
from phota_async.naming import MAX_NAME_BYTES
from phota_async.retry import Retries, RetryDetails, RetryPolicy
from phota_async.threads import in_thread
from phota_async.transport.addresses import parsed
from phota_async.transport.download import Download, Sink, Source
from phota_async.transport.session import Session

if TYPE_CHECKING:
    from phota_async.telemetry import Telemetry, Watch

__all__ = ["Fetcher", "Source", "discarded"]


@define(eq=False)
class _Memory:
    """Keeps the bytes in pieces."""

    content: Growing = field(factory=Growing)

    async def write(self, offset: int, data: bytes) -> None:
        if not offset:
            self.content.clear()
        self.content.append(data)


@frozen(eq=False)
class _Disk:
    """Writes to a file that has not its name yet."""

    partial: Partial

    async def write(self, offset: int, data: bytes) -> None:
        await in_thread(self.partial.write, offset, data)


@frozen(eq=False)
class Fetcher:
    """Fetches links over one session."""

    session: Session
    source: Source
    policy: RetryPolicy
    on_retry: Callable[[RetryDetails], object] | None = None
    telemetry: Telemetry | None = None

    async def image(self, link: URL | str) -> EnhancedImage:
        """Fetch ``link`` into memory.

        Raises:
            DownloadError: It cannot be fetched.
            DeadlineExceededError: The overall time-out passed.
        """
        sink = _Memory()
        await self._fetch(link, sink)
        return EnhancedImage(sink.content.take())

    async def file(self, link: URL | str, path: str) -> Path:
        """Fetch ``link`` to a file name or into a directory, and return the file: whole, or not at all.

        Raises:
            DownloadError: It cannot be fetched.
            DeadlineExceededError: The overall time-out passed.
            OSError: The file cannot be written.
        """
        async with discarded(Partial(await in_thread(placed, path, lambda: _name(link)))) as partial:
            await self.into(link, partial)
            await in_thread(partial.finish)
        return partial.target

    async def into(self, link: URL | str, partial: Partial) -> None:
        """Fetch ``link`` into a file that has not its name yet; raises what `file` raises."""
        await self._fetch(link, _Disk(partial))

    async def _fetch(self, link: URL | str, sink: Sink) -> None:
        watch = None if self.telemetry is None else self.telemetry.download(parsed(link))
        try:
            with watch or nullcontext():
                await self._fetched(Download(self.session, self.source, link, sink), watch)
        except BaseException as error:
            let_go(error)
            raise

    async def _fetched(self, download: Download, watch: Watch | None) -> None:
        async def attempt(number: int) -> None:
            if watch is not None:
                watch.attempt(number)
            await download.attempt()

        on_retry = self.on_retry if watch is None else watch.on_retry(self.on_retry)
        overall = self.source.timeout.overall
        clock = asyncio.timeout(overall)
        try:
            async with clock:
                await Retries(self.policy, on_retry, clock.when()).run(attempt)
                return
        except TimeoutError:
            if not clock.expired():
                raise  # a network file system times out as well
            failure = DeadlineExceededError(f"the deadline of {overall:g} s passed during a download")
        raise failure


@asynccontextmanager
async def discarded(partial: Partial) -> AsyncGenerator[Partial, None]:
    """Remove what was not put in place, also when the block is cancelled."""
    try:
        yield partial
    finally:
        # A disk that does not let go of what was not placed is no reason to lose sight of what was.
        with CancelScope(shield=True), suppress(OSError):
            await in_thread(partial.discard)


def _name(link: URL | str) -> str:
    # Only the last part of the path: nothing that a link says leads out of the folder.
    name = re.sub(r"[^\w.-]", "_", re.split(r"[?#]", str(link))[0].rpartition("/")[2])
    # The end, because the extension is there.
    return os.fsencode(name)[-MAX_NAME_BYTES:].decode(errors="ignore").lstrip(".") or "image"
