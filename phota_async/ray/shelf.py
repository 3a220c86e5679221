"""What the store holds of one photo: what is known of it, and its images as far as they are intact."""

from __future__ import annotations

import time

from attrs import evolve, frozen

from phota_async.ray import rules
from phota_async.ray.records import (
    Claim,
    Record,
    Stored,
    claims_in,
    read_claim,
    read_record,
    records_in,
    silent_name,
    written,
)
from phota_async.ray.rules import View
from phota_async.ray.store import Store
from phota_async.ray.threads import in_thread


@frozen
class Held:
    """What one request brought, as far as it is intact."""

    images: tuple[bytes, ...] = ()
    links: tuple[str, ...] = ()
    request_id: str | None = None


@frozen(eq=False)
class Shelf:
    """A photo's place in the store. All of it raises `StoreError` where the store cannot be used."""

    store: Store
    folder: str

    async def look(self) -> View:
        """Return what is known: one listing, and one reading for each object that tells something."""
        names = await self.store.names(self.folder)
        claims = [await self._claim(number, names) for number in sorted(claims_in(names))]
        records = [await self._record(number) for number in sorted(records_in(names))]
        return View(tuple(claims), tuple(records))

    async def _claim(self, number: int, names: list[str]) -> Claim:
        claim = read_claim(number, await self._get(f"claim-{number}.json"))
        if claim.state == "sent" and silent_name(number) in names:
            return read_claim(number, await self._get(silent_name(number)))
        return claim

    async def _record(self, number: int) -> Record:
        return read_record(number, await self._get(f"record-{number}.json"))

    async def whole(self, view: View) -> Held | None:
        """Return the newest that is paid for and intact, or None if there is none."""
        for record in reversed(view.records):
            images = await self._intact(record.images)
            links = () if rules.links_expired(record, time.time()) else record.links
            if len(images) == len(record.images) and (images or links):
                return Held(images, links, record.request_id)
        return None

    async def most(self, view: View) -> Held:
        """Return what the request with the most intact images brought; of several the newest."""
        most = Held()
        told: list[Claim | Record] = sorted((*view.claims, *view.records), key=lambda one: one.number)
        for one in told:
            images = await self._intact(one.images)
            if len(images) >= len(most.images):
                most = Held(images, (), one.request_id)
        return most

    async def give_up(self, claim: Claim, patience: float) -> None:
        """Write that an answer is not waited for any more, so that nobody else waits for it."""
        silent = evolve(claim, state="unknown", reason=rules.SILENT.format(patience=patience))
        await self.store.create(f"{self.folder}/{silent_name(claim.number)}", written(silent))

    async def _intact(self, stored: tuple[Stored, ...]) -> tuple[bytes, ...]:
        images: list[bytes] = []
        for one in stored:
            data = await self._get(one.name)
            if data is not None and await in_thread(one.holds, data):
                images.append(data)
        return tuple(images)

    async def _get(self, name: str) -> bytes | None:
        return await self.store.get(f"{self.folder}/{name}")
