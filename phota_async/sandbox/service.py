"""The enhance endpoint: a call is received, decided, paid for, made, answered; a fault may strike between."""

import asyncio
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from random import Random
from typing import TypeVar

from aiohttp import web
from attrs import evolve

from . import answers, rules
from .answers import Answer, Refusal
from .delivery import Call, break_off, deliver, read_body, until_cancelled
from .faults import NO_FAULT, Fault, Script, draw
from .ledger import Ledger
from .links import Links
from .photos import UnusablePhotoError, enhance
from .settings import Settings
from .submission import Submission, read_submission
from .validation import DEPRECATION_DATE, Order

Result = TypeVar("Result")


class EnhanceService:
    """Answers enhance calls; a new one each time that a sandbox is opened."""

    def __init__(self, settings: Settings, ledger: Ledger, script: Script, links: Links) -> None:
        self._settings = settings
        self._ledger = ledger
        self._script = script
        self._links = links
        self._random = Random(settings.seed)  # noqa: S311 - nothing secret
        self._workers = ThreadPoolExecutor(thread_name_prefix="phota-sandbox")
        self._sales: dict[str, asyncio.Task[Answer]] = {}

    async def aclose(self) -> None:
        """Drop what is being made and wait for the threads."""
        for sale in self._sales.values():
            sale.cancel()
        await asyncio.gather(*self._sales.values(), return_exceptions=True)
        await asyncio.to_thread(self._workers.shutdown, cancel_futures=True)

    async def answer(self, call: Call) -> web.StreamResponse:
        """Take one call through."""
        call = evolve(call, fault=self._next_fault())
        self._ledger.update(call.id, fault=None if call.fault is NO_FAULT else call.fault)
        capacity = self._settings.capacity
        if capacity is not None and self._ledger.in_flight >= capacity:
            await self._receive(call)
            return await self.refuse(call, rules.no_room(self._settings.retry_after))
        self._ledger.enter(call.id)
        try:
            answer = await self._decide(call, await self._receive(call))
            return await self._send(call, answer)
        except Refusal as refused:
            return await self.refuse(call, refused)
        finally:
            self._leave(call)

    async def refuse(self, call: Call, refused: Refusal) -> web.StreamResponse:
        """Answer with a refusal."""
        return await self._send(call, answers.refusal(refused, call.id))

    async def _receive(self, call: Call) -> Submission:
        if call.fault.reset == "before":
            await break_off(call.request)
        body = await read_body(call, lambda size: self._ledger.update(call.id, received=size))
        find = partial(self._links.find_url, origin=call.origin)
        submission = await self._in_thread(partial(read_submission, body, call.request.content_type, find))
        self._ledger.note(call.id, submission.order, submission.sha256)
        return submission

    async def _decide(self, call: Call, submission: Submission) -> Answer:
        if not call.fault.charged:
            await self._strike(call)
            if call.fault.replaces_answer:
                return answers.faulty(call.fault, call.id)
        order = rules.check(self._settings, call.request.headers.get("X-API-Key"), submission)
        answer = await self._buy(call, order, submission)
        if call.fault.charged:
            await self._strike(call)
            if call.fault.replaces_answer:
                self._discard(answer)
                return answers.faulty(call.fault, call.id)
        return answer

    async def _strike(self, call: Call) -> None:
        if call.fault.stall == math.inf:
            await until_cancelled()
        if call.fault.stall is not None:
            await asyncio.sleep(call.fault.stall)
        if call.fault.reset == "after":
            await break_off(call.request)

    async def _buy(self, call: Call, order: Order, submission: Submission) -> Answer:
        """Make the answer in a task of its own: once begun it is charged, also if the client has gone."""
        cents = rules.price(order)
        self._pay(cents)
        sale = asyncio.create_task(self._sell(call, order, submission, cents))
        self._sales[call.id] = sale
        sale.add_done_callback(lambda _: self._sales.pop(call.id))
        try:
            return await asyncio.shield(sale)
        except asyncio.CancelledError:
            sale.add_done_callback(self._unclaimed)
            raise

    async def _sell(self, call: Call, order: Order, submission: Submission, cents: int) -> Answer:
        clock = asyncio.get_running_loop().time
        ready = clock() + self._settings.latency
        files = [self._links.new_file(order.extension) for _ in range(order.num_output_images)]
        try:
            work = partial(enhance, submission.photo, files, long_edge=self._settings.long_edge)
            await self._in_thread(work)
            await asyncio.sleep(max(0.0, ready - clock()))
        except UnusablePhotoError as error:
            self._pay(-cents)
            raise rules.unusable(str(error)) from None
        self._ledger.charge(call.id, sha256=submission.sha256 or "", images=len(files), cents=cents)
        return await self._pack(call, order, files)

    async def _pack(self, call: Call, order: Order, files: list[Path]) -> Answer:
        known_subjects = {"counts": dict.fromkeys(order.profile_ids, 1)}
        headers = {} if order.output_format else {"X-Phota-Deprecation-Date": DEPRECATION_DATE}
        if order.response_mode == "bytes":
            target = self._links.new_file("json")
            return await self._in_thread(partial(answers.write_images, target, files, known_subjects, headers))
        lifetime = self._settings.link_lifetime
        links = [self._links.offer(file, origin=call.origin, lifetime=lifetime) for file in files]
        return answers.with_links(links, known_subjects, headers)

    async def _send(self, call: Call, answer: Answer) -> web.StreamResponse:
        def whole() -> None:
            self._ledger.leave(call.id)
            self._ledger.close(call.id, status=answer.status, delivered=True)

        try:
            return await deliver(call, answer, whole)
        finally:
            self._discard(answer)

    def _next_fault(self) -> Fault:
        scripted, fault = self._script.take()
        if not scripted:
            fault = draw(self._settings.faults, self._settings.fault_rate, self._random)
        return fault or NO_FAULT

    def _pay(self, cents: int) -> None:
        if self._settings.credits is not None:
            self._settings.credits = round(self._settings.credits - cents / 100, 6)

    def _leave(self, call: Call) -> None:
        sale = self._sales.get(call.id)
        if sale is None:
            self._ledger.leave(call.id)
        else:
            sale.add_done_callback(lambda _: self._ledger.leave(call.id))

    def _unclaimed(self, sale: asyncio.Task[Answer]) -> None:
        if not sale.cancelled() and sale.exception() is None:
            self._discard(sale.result())

    def _discard(self, answer: Answer) -> None:
        if isinstance(answer.body, Path):
            self._workers.submit(answer.body.unlink, missing_ok=True)

    async def _in_thread(self, work: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._workers, work)
