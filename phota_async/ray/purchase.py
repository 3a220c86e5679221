"""One photo bought: claimed before each request, recorded after the answer."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import asynccontextmanager

from attrs import define, evolve, field

from phota_async.batch import Gate, NotStartedError, ended
from phota_async.errors import PhotaError
from phota_async.models import EnhancedImage, EnhanceResult
from phota_async.ray import rules
from phota_async.ray.records import Claim, ClaimState, Record, Stored, claims_in, read_claim, records_in, written
from phota_async.ray.rules import View
from phota_async.ray.store import Store, StoreError
from phota_async.ray.threads import in_thread
from phota_async.ray.unwritten import Unwritten

logger = logging.getLogger("phota_async")


@define(eq=False)
class Purchase:
    """The requests of one call for one photo. Used once.

    Attributes:
        store: Where they are written down.
        unwritten: Writes what is paid for.
        folder: The photo's, in the store.
        by: Who buys.
        view: What the store knew before.
        gate: Closed when what became of a request cannot be written.
        contested: Whether another worker did something with the photo meanwhile.
        in_doubt: Whether it may have been charged, now or before.
        problem: Why something of it is not written.
    """

    store: Store
    unwritten: Unwritten
    folder: str
    by: str
    view: View
    gate: Gate
    contested: bool = field(init=False, default=False)
    in_doubt: bool = field(init=False)
    problem: StoreError | None = field(init=False, default=None)
    _claim: Claim | None = field(init=False, default=None)

    def __attrs_post_init__(self) -> None:
        """Take over earlier doubts."""
        self.in_doubt = self.view.doubts > 0

    @asynccontextmanager
    async def request(self, _: Callable[[], bool]) -> AsyncGenerator[None, None]:
        """Claim the photo for one request, and write down what becomes of it if that is no answer.

        Raises:
            NotStartedError: Another worker was first.
            StoreError: The claim cannot be written.
        """
        claim = self._next()
        if claim.number > 1:
            await self._look_again(claim)
        await self._make(claim)
        self._claim = claim
        try:
            yield
        except PhotaError as error:
            await self.settle(error)
            raise

    async def settle(self, error: PhotaError) -> None:
        """Write down how the last request failed, if that is not done yet."""
        claim = self._claim
        if claim is None or claim.state != "sent":
            return
        state: ClaimState = "unknown" if error.maybe_charged else "refused"
        objects, images = await self._images(claim.number, error.images)
        settled = evolve(claim, state=state, reason=str(error), request_id=error.request_id, images=images)
        await self._write({**objects, self._path(claim.name): written(settled)})
        self._claim = settled
        self.in_doubt = self.in_doubt or error.maybe_charged

    async def keep(self, result: EnhanceResult, cost_usd: float) -> None:
        """Write an answer down: first its images, then the record that says it is paid for."""
        assert self._claim is not None  # noqa: S101  (no answer without a request)
        objects, images = await self._images(self._claim.number, result.images)
        record = Record(
            number=self._claim.number,
            at=time.time(),
            request_id=result.request_id,
            cost_usd=cost_usd,
            images=images,
            links=result.download_urls,
        )
        await self._write({**objects, self._path(record.name): written(record)})

    # ---- claims

    def _next(self) -> Claim:
        number = self.view.number if self._claim is None else self._claim.number
        return Claim(number=number + 1, by=self.by, word=uuid.uuid4().hex, at=time.time())

    async def _look_again(self, claim: Claim) -> None:
        # The view is as old as the wait for a turn and a slot; meanwhile a slow worker may have written its answer.
        names = await self.store.names(self.folder)
        if records_in(names) - self.view.recorded or max(claims_in(names), default=0) >= claim.number:
            self._contest()

    async def _make(self, claim: Claim) -> None:
        """Make a claim. It is waited for also when the call is cancelled, and taken back then: nothing is sent."""
        making = asyncio.create_task(self._create(claim))
        try:
            await ended(making)
        except asyncio.CancelledError:
            if making.exception() is None:
                self._claim = _refused(claim)
                await ended(asyncio.create_task(self._write({self._path(claim.name): written(self._claim)})))
            raise
        making.result()

    async def _create(self, claim: Claim) -> None:
        try:
            created = await self._created(claim)
        except BaseException:
            self.unwritten.doubt(self.folder, _refused(claim))
            raise
        if not created:
            self._contest()

    async def _created(self, claim: Claim) -> bool:
        path = self._path(claim.name)
        try:
            created = await self.store.create(path, written(claim))
        except StoreError as error:
            # It may be there, and only the answer lost: nothing else repeats a writing with a condition.
            logger.warning("%s; looked for", error)
            created = await self._create_once_more(claim)
        return created or read_claim(claim.number, await self.store.get(path)).word == claim.word

    async def _create_once_more(self, claim: Claim) -> bool:
        if claim.name in await self.store.names(self.folder):
            return False
        await asyncio.sleep(self.store.pauses[0])
        return await self.store.create(self._path(claim.name), written(claim))

    def _contest(self) -> None:
        self.contested = True
        raise NotStartedError(PhotaError("another worker has claimed this photo"))

    # ---- writing

    async def _images(self, claim: int, images: Iterable[EnhancedImage]) -> tuple[dict[str, bytes], tuple[Stored, ...]]:
        """Return the objects of images, and what is said of them."""
        objects: dict[str, bytes] = {}
        stored: list[Stored] = []
        for number, image in enumerate(images):
            one = await in_thread(Stored.of, claim, number, image.data, image.extension)
            objects[self._path(one.name)] = image.data
            stored.append(one)
        return objects, tuple(stored)

    async def _write(self, objects: dict[str, bytes]) -> None:
        try:
            await self.unwritten.write(objects)
        except StoreError as failure:
            logger.warning("%s; kept until the next batch", failure)
            self.problem = failure
            self.gate.close(failure)

    def _path(self, name: str) -> str:
        return f"{self.folder}/{name}"


def _refused(claim: Claim) -> Claim:
    return evolve(claim, state="refused", reason=rules.NOT_SENT)
