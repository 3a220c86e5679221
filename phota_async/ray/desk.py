"""One batch at the desk: each photo is looked for in the store, waited for where another buys it, and else bought."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Literal, TypeAlias

from attrs import Factory, define, field, frozen

from phota_async.batch import Gate, NotStartedError
from phota_async.errors import ACCOUNT_ERRORS, ClientClosedError, PhotaError
from phota_async.models import EnhancedImage, EnhanceOptions
from phota_async.ray import rules
from phota_async.ray.buyer import Buyer
from phota_async.ray.purchase import Purchase
from phota_async.ray.rules import Action, View
from phota_async.ray.shelf import Held, Shelf
from phota_async.ray.store import Store, StoreError
from phota_async.ray.unwritten import Unwritten
from phota_async.ray.waiting import Waiting
from phota_async.records import Price, cost_usd, price_only

logger = logging.getLogger("phota_async")

State: TypeAlias = Literal["enhanced", "failed", "unknown", "not_attempted"]


@frozen(kw_only=True)
class Served:
    """What became of a photo.

    Attributes:
        state: ``enhanced``; ``failed`` (not charged); ``unknown`` (may have been charged, or was and is lost);
            ``not_attempted`` (something stopped the batch before its turn).
        images: Its images.
        links: Its signed links.
        request_id: The service's ``X-Request-Id``, or empty.
        cost_usd: What all that is known to be paid for it cost.
        error: Why it is not enhanced, or what is the matter though it is; or empty.
    """

    state: State
    images: tuple[bytes, ...] = ()
    links: tuple[str, ...] = ()
    request_id: str = ""
    cost_usd: float = 0.0
    error: str = ""


@define(eq=False)
class _Visit:
    """A photo at the desk: where it belongs, what it is, and how far it has come."""

    shelf: Shelf
    photo: bytes
    gate: Gate
    waiting: Waiting
    view: View = field(factory=View)
    contested: int = 0  # the claim that another worker was first to make


@frozen(kw_only=True, eq=False)
class Desk:
    """What photos are served with.

    Attributes:
        store: What all workers know.
        buyer: Makes the calls.
        options: What is asked for.
        by: Who buys.
        price: What an image costs.
        patience: Seconds that another worker's answer is waited for.
        retry_unknown: How often a photo is bought again, at most, though it may have been charged.
        width: How many photos are being bought at most, from the claim until all is written; and how many are looked
            for and read at most, since a store gives each reading so many seconds, however many share the line.
        unwritten: What is paid for and not in the store yet.
    """

    store: Store
    buyer: Buyer
    options: EnhanceOptions
    by: str
    price: Price = field(validator=price_only)
    patience: float
    retry_unknown: int
    width: int
    unwritten: Unwritten = field(init=False, default=Factory(lambda self: Unwritten(self.store), takes_self=True))
    _turns: asyncio.Semaphore = field(
        init=False, default=Factory(lambda self: asyncio.Semaphore(self.width), takes_self=True)
    )
    _looks: asyncio.Semaphore = field(
        init=False, default=Factory(lambda self: asyncio.Semaphore(self.width), takes_self=True)
    )

    async def begin(self, gate: Gate) -> None:
        """Begin a batch: write first what is paid for; while that fails, nothing more is bought."""
        try:
            await self.unwritten.catch_up()
        except StoreError as error:
            gate.close(error)

    async def end(self) -> None:
        """Write what is paid for, as far as the store takes it, and close what was opened."""
        try:
            await self.unwritten.catch_up()
        except StoreError as error:
            logger.error("paid for, and lost with its worker: %s", error)  # noqa: TRY400  (that is all there is to say)
        finally:
            await self.buyer.aclose()

    async def serve(self, folder: str, photo: bytes, gate: Gate) -> Served:
        """Give a photo what it is due.

        Args:
            folder: Its own in the store.
            photo: Its bytes.
            gate: Where its batch is stopped: by an account's error, or by a store that cannot be used.
        """
        visit = _Visit(Shelf(self.store, folder), photo, gate, Waiting(self.patience))
        try:
            while (served := await self._look(visit) or await self._act(visit)) is None:
                pass
        except NotStartedError as error:
            reason = error.reason
        except (StoreError, ClientClosedError) as error:
            gate.close(error)
            gate.closed_by = reason = error  # also after an account's error, which stops nobody from looking
        else:
            return served
        return Served(state="not_attempted", cost_usd=visit.view.cost_usd, error=str(reason))

    async def _look(self, visit: _Visit) -> Served | None:
        async with self._looks:
            # An account's error keeps nobody from what is paid for.
            if not isinstance(visit.gate.closed_by, ACCOUNT_ERRORS):
                visit.gate.enter()
            visit.view = await visit.shelf.look()
            return await self._found(visit.shelf, visit.view)

    async def _act(self, visit: _Visit) -> Served | None:
        """Do what is due to a photo that was not found; return None if it is to be looked for again."""
        shelf, gate, view, waiting = visit.shelf, visit.gate, visit.view, visit.waiting
        now = asyncio.get_running_loop().time
        if view.number < visit.contested and waiting.is_over(visit.contested, now()):
            raise StoreError(f"the store holds a claim in {shelf.folder} and does not show it")
        due = rules.action(view, self.retry_unknown)
        if due is Action.LEAVE and self.unwritten.is_empty:
            return await self._left(shelf, view)
        gate.enter()
        if due is Action.WAIT and not waiting.is_over(view.number, now()):
            await _pause(waiting, gate)
        elif not self.unwritten.is_empty:
            await self._catch_up(gate)  # it may be this photo that is kept
        elif due is Action.WAIT:
            await shelf.give_up(view.claims[-1], self.patience)
        else:
            return await self._bought(visit)
        return None

    async def _bought(self, visit: _Visit) -> Served | None:
        bought = await self._buy(visit.shelf, visit.photo, visit.view, visit.gate)
        if bought is None:
            visit.contested = visit.view.number + 1
            await _pause(visit.waiting, visit.gate)
        return bought

    async def _catch_up(self, gate: Gate) -> None:
        with gate.waiting():
            await self.unwritten.catch_up()

    # ---- what the store holds

    async def _found(self, shelf: Shelf, view: View) -> Served | None:
        held = await shelf.whole(view)
        if held is None:
            return None
        return Served(
            state="enhanced",
            images=held.images,
            links=held.links,
            request_id=held.request_id or "",
            cost_usd=view.cost_usd,
        )

    async def _left(self, shelf: Shelf, view: View) -> Served:
        async with self._looks:
            held = await shelf.most(view)
        return Served(
            state="unknown",
            images=held.images,
            request_id=held.request_id or "",
            cost_usd=view.cost_usd,
            error=rules.why_left(view),
        )

    # ---- what is bought

    @asynccontextmanager
    async def _turn(self, gate: Gate) -> AsyncGenerator[None, None]:
        """Wait for a turn: a photo's deadline begins with it, and what is not written yet is bounded by them.

        Raises:
            NotStartedError: The batch was stopped.
            StoreError: What is kept is not written.
        """
        with gate.waiting():
            await self._turns.acquire()
        try:
            if not self.unwritten.is_empty:
                await self._catch_up(gate)
            yield
        finally:
            self._turns.release()

    async def _buy(self, shelf: Shelf, photo: bytes, view: View, gate: Gate) -> Served | None:
        """Buy a photo; return None if another worker did something with it meanwhile."""
        purchase = Purchase(self.store, self.unwritten, shelf.folder, self.by, view, gate)
        async with self._turn(gate):
            try:
                result = await self.buyer.buy(photo, self.options, gate, purchase.request)
            except NotStartedError:
                if purchase.contested:
                    return None
                raise
            except PhotaError as error:
                if isinstance(error, StoreError | ClientClosedError) and not error.maybe_charged:
                    raise  # nothing was sent
                return await self._failed(shelf, purchase, error)
            paid_usd = cost_usd(result, self.price)
            await purchase.keep(result, paid_usd)
        return Served(
            state="enhanced",
            images=_bytes(result.images),
            links=result.download_urls,
            request_id=result.request_id or "",
            cost_usd=round(view.cost_usd + paid_usd, 6),
            error=rules.NOT_RECORDED.format(reason=purchase.problem) if purchase.problem else "",
        )

    async def _failed(self, shelf: Shelf, purchase: Purchase, error: PhotaError) -> Served | None:
        if purchase.contested:
            return None
        await purchase.settle(error)
        images, request_id = _bytes(error.images), error.request_id
        earlier = await self._earlier(shelf, purchase.view)
        if len(earlier.images) > len(images):
            images, request_id = earlier.images, earlier.request_id
        told = rules.NOT_SETTLED.format(error=error, reason=purchase.problem) if purchase.problem else str(error)
        return Served(
            state="unknown" if purchase.in_doubt else "failed",
            images=images,
            request_id=request_id or "",
            cost_usd=purchase.view.cost_usd,
            error=told,
        )

    async def _earlier(self, shelf: Shelf, view: View) -> Held:
        """Return the most that is left of earlier requests, as far as the store still gives it."""
        try:
            return await shelf.most(view)
        except StoreError:
            return Held()


async def _pause(waiting: Waiting, gate: Gate) -> None:
    with gate.waiting():
        await asyncio.sleep(waiting.pause())


def _bytes(images: tuple[EnhancedImage, ...]) -> tuple[bytes, ...]:
    return tuple(image.data for image in images)
