"""Albums: many photos of one visitor, who is told of each as it lands.

Each album is bought in a task of its own, not in the visitor's request, so that a visitor who leaves cancels nothing
that is being paid for: nothing new starts, and what is in flight lands and is kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import IO, Any, Self
from uuid import uuid4

from apps.answers import answer_to, event, image_of, logger, note
from apps.limits import GRACE, MAX_ALBUMS, MAX_SECONDS
from phota_async import Outcome, Outcomes, OverloadedError, PhotaClient, PhotaError


class Albums:
    """The albums under way in this process, with the folder that keeps their images. Lives as long as the backend."""

    def __init__(
        self,
        phota: PhotaClient,
        folder: Path,
        *,
        seconds: float = MAX_SECONDS,
        quiet: float = 15.0,
        grace: float = GRACE,
    ) -> None:
        """Buy with a client of their own, and keep the images in ``folder``.

        Args:
            phota: It is closed at the end.
            folder: Made if it is missing.
            seconds: How long a photo may take.
            quiet: Seconds without news until a comment keeps proxies awake.
            grace: Seconds from `stop` until what is in flight is cancelled.
        """
        self._phota, self._folder, self._seconds, self._quiet, self._grace = phota, folder, seconds, quiet, grace
        self._places = asyncio.Semaphore(MAX_ALBUMS)
        self._landing: dict[asyncio.Task[None], Outcomes] = {}
        self._until: float | None = None

    async def __aenter__(self) -> Self:
        self._until = None
        return self

    async def __aexit__(self, *_: object) -> None:
        left = self.stop() - asyncio.get_running_loop().time()
        if landing := list(self._landing):
            late = (await asyncio.wait(landing, timeout=max(left, 0.0)))[1]
            for one in late:
                one.cancel()  # the library logs each request that was in flight
            await asyncio.gather(*late, return_exceptions=True)
        await self._phota.aclose()

    def stop(self) -> float:
        """Begin nothing new, and let land what is in flight; return the loop's time until when."""
        if self._until is None:
            self._until = asyncio.get_running_loop().time() + self._grace
        for outcomes in self._landing.values():
            outcomes.stop()
        return self._until

    @asynccontextmanager
    async def begin(self, photos: Sequence[IO[bytes]]) -> AsyncGenerator[AsyncIterator[bytes], None]:
        """Buy an album, close its photos, and give its events; when they are left, nothing new starts.

        Raises:
            OverloadedError: Too many are under way, or the backend stops. (``max_queue`` does not count batches.)
        """
        album, news = uuid4().hex, asyncio.Queue[bytes | None]()
        async with AsyncExitStack() as stack:
            stack.callback(_close, photos)
            if self._places.locked() or self._until is not None:
                raise OverloadedError("no album may begin now")
            await stack.enter_async_context(self._places)
            outcomes = await stack.enter_async_context(self._phota.enhance_stream(photos, timeout=self._seconds))
            landing = asyncio.create_task(self._land(album, outcomes, news, stack.pop_all()))
        self._landing[landing] = outcomes
        landing.add_done_callback(self._landing.pop)
        if self._until is not None:
            outcomes.stop()  # it was told to meanwhile
        news.put_nowait(event("album", {"album": album, "photos": len(photos)}))
        try:
            yield self._events(news)
        finally:
            outcomes.stop()  # the visitor has gone, or all is told

    async def _events(self, news: asyncio.Queue[bytes | None]) -> AsyncGenerator[bytes, None]:
        while True:
            try:
                async with asyncio.timeout(self._quiet):
                    one = await news.get()
            except TimeoutError:
                one = b":\n\n"
            if one is None:
                return
            yield one

    async def _land(
        self, album: str, outcomes: Outcomes, news: asyncio.Queue[bytes | None], stack: AsyncExitStack
    ) -> None:
        good = bad = 0
        try:
            async with stack:
                async for outcome in outcomes:
                    told = await self._told(album, outcome, outcomes.stop)
                    good, bad = good + ("image" in told), bad + ("error" in told)
                    news.put_nowait(event("photo", told))
        except Exception:  # noqa: BLE001  (its stream's own bug)
            logger.exception("album %s ended early", album)
        finally:
            news.put_nowait(event("done", {"enhanced": good, "failed": bad}))
            news.put_nowait(None)

    async def _told(self, album: str, outcome: Outcome, stop: Callable[[], None]) -> dict[str, Any]:
        """Keep an image, and return what the visitor is told of its photo. Nothing of one photo's ends an album."""
        try:
            path = await self._kept(f"{album}/{outcome.index}", outcome)
        except Exception as error:  # noqa: BLE001
            note(error)
            if isinstance(error, OSError) and not isinstance(error, PhotaError):
                stop()  # the disk takes no more: nothing is bought that would be lost
            return {"index": outcome.index, "error": answer_to(error).text}
        return {"index": outcome.index, "image": f"/images/{album}/{path.name}"}

    async def _kept(self, name: str, outcome: Outcome) -> Path:
        if outcome.result is None:
            assert outcome.error is not None
            raise outcome.error
        request = outcome.result.request_id
        try:
            image = await image_of(self._phota, outcome.result)
            path = await image.save(self._folder / f"{name}{image.extension}")
        except BaseException:
            logger.warning("%s is paid for and cannot be kept (request %s)", name, request)
            raise
        logger.info("%s is kept (request %s)", name, request)
        return path


def _close(photos: Sequence[IO[bytes]]) -> None:
    for photo in photos:
        photo.close()
