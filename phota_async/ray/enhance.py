"""The callable that Ray Data keeps in its actors."""

from __future__ import annotations

import asyncio
import os
import platform
import weakref
from collections.abc import Generator, Iterable
from contextlib import contextmanager, suppress
from typing import Any, Literal

from phota_async.batch import Gate
from phota_async.errors import ClientClosedError, PhotaError
from phota_async.models import EnhanceOptions
from phota_async.ray import rules
from phota_async.ray.buyer import Buyer
from phota_async.ray.desk import Desk, Served
from phota_async.ray.loop import Loop, awaited
from phota_async.ray.rows import Columns, Photo, photos, rows
from phota_async.ray.store import open_store
from phota_async.records import Price
from phota_async.retry import RetryPolicy
from phota_async.settings import KEY_VARIABLE
from phota_async.transport.session import Timeout, is_seconds

_AT_ONCE = 32  # photos whose tasks begin in one turn of the loop


class Enhance:
    """Enhances photos in batches of rows, and buys none twice, however often a batch is run.

    ``ray.data.read_binary_files(uri, include_paths=True).map_batches(Enhance, fn_constructor_kwargs={...})``. The rows
    need a column ``bytes``; their other columns are handed on, and these are added:

    - ``state``: ``enhanced``; ``failed`` (not charged); ``unknown`` (may have been charged, or was and is lost);
      ``not_attempted`` (an account's error or the store stopped the batch before).
    - ``image``: the image's bytes, or ``link``: its signed link, which lives 24 hours. Empty where there is none.
    - ``number``: which one of the photo's images it is, from 0; with ``num_output_images`` a photo has several rows.
    - ``request_id``, ``error``: texts, empty where there is none.
    - ``spend_usd``: what the image cost, also when it was bought earlier and found in the store. What is known to be
      paid for a photo, a second purchase included, is shared out over its rows.
    - ``key``: what the photo goes by. Rows with the same key and number were paid for once: what a job cost is the sum
      of ``spend_usd`` over the rows that differ in ``key`` or ``number``.

    The key of the account is read from the environment variable ``PHOTA_API_KEY`` of the worker, and from nowhere else:
    what an actor is constructed with travels and is shown. Batches may be run in several threads at once; they share
    ``max_concurrency``.

    Args:
        store: A directory that all workers share (an absolute path) or a URL such as ``s3://bucket/prefix``. It must be
            private, and stay until the rows are safe elsewhere: what is in it is not bought again. A directory is made
            where it is missing, for its user alone; the one it is in must be there.
        prompt: As in `PhotaClient.enhance`, like ``profile_ids``, ``num_output_images``, ``output_format`` and
            ``response_mode``. A photo that was bought in the other mode is handed over as it was bought.
        max_concurrency: How many calls of this worker may be in flight at most; the width adapts below that.
        base_url: As in `PhotaClient`, like ``timeout``, ``retry``, ``max_response_bytes``, ``proxy``, ``allow_http``.
        retry_unknown: How often at most a photo is bought again that may have been charged, or was and is lost: True
            is once. All that the store knows of is counted, whoever bought it, and what ``retry`` repeats as well.
        patience: Seconds that an answer is waited for that another worker has asked for, before it is taken for lost.
            By default as long as a request may take, and its writing.
        price: What an image costs.

    Raises:
        ValueError: A value is wrong, or there is no key; the message names it.
        StoreError: The store cannot be opened or written, or does not write an object only if there is none.
    """

    def __init__(  # noqa: PLR0913  (one for each option of the call, the client and the store)
        self,
        store: str | os.PathLike[str],
        *,
        prompt: str | None = None,
        profile_ids: Iterable[str] = (),
        num_output_images: int = 1,
        output_format: Literal["png", "jpg"] = "png",
        response_mode: Literal["bytes", "urls"] = "bytes",
        max_concurrency: int = 16,
        base_url: str | None = None,
        timeout: Timeout = Timeout(),  # noqa: B008  (frozen)
        retry: RetryPolicy = RetryPolicy(),  # noqa: B008  (frozen)
        max_response_bytes: int = 512 * 2**20,
        proxy: str | None = None,
        allow_http: bool = False,
        retry_unknown: bool | int = False,
        patience: float | None = None,
        price: Price = Price(),  # noqa: B008  (frozen)
    ) -> None:
        options = EnhanceOptions(
            prompt=prompt,
            profile_ids=profile_ids,
            num_output_images=num_output_images,
            output_format=output_format,
            response_mode=response_mode,
        )
        if patience is not None and not is_seconds(patience):
            raise ValueError(f"patience must be a positive number of seconds or None, not {patience!r}")
        with _key_by_its_variable():
            buyer = Buyer(
                base_url=base_url,
                max_concurrency=max_concurrency,
                timeout=timeout,
                retry=retry,
                max_response_bytes=max_response_bytes,
                proxy=proxy,
                allow_http=allow_http,
            )
        self._key = rules.keys(options, stand_in=buyer.stand_in)
        self._desk = Desk(
            store=open_store(store),
            buyer=buyer,
            options=options,
            by=f"{platform.node()} {os.getpid()}",
            price=price,
            patience=patience or rules.patience(timeout.attempt),
            retry_unknown=rules.times(retry_unknown),
            width=max_concurrency,
        )
        self._desk.store.probe()
        self._loop = Loop()
        self._gates = _Gates()
        # When the actor ends, and at the latest when its process exits: what is in flight lands and is recorded.
        self._closer = weakref.finalize(self, _close, self._loop, self._gates, self._desk)

    def __call__(self, batch: Columns) -> dict[str, Any]:
        """Enhance a batch, and return its rows in the order in which they came.

        Raises:
            ValueError: It is no dict of columns of equal length, or one is missing or stands in the way.
            ClientClosedError: The worker is closed, or was built in another process.
        """
        found, gate = photos(batch), Gate()
        try:
            served = awaited(self._loop.submit(self._serve(found, gate)))
        except BaseException:
            # Whoever interrupts: nothing new starts, and what is in flight lands and is recorded.
            with suppress(ClientClosedError):
                self._loop.submit(_stop(gate))
            raise
        return rows(batch, served)

    def close(self) -> None:
        """Start nothing new, let what is in flight land and be recorded, and close what was opened.

        It is of no use afterwards. Who is interrupted meanwhile is let go at once, and the process waits for it as it
        exits.
        """
        self._closer()

    async def _serve(self, found: list[Photo | Served], gate: Gate) -> list[tuple[str, Served]]:
        # A task for each photo, whose bytes are in memory all the same: one that waits for another worker's answer
        # keeps none from being bought. What is in flight is bounded by the client's width.
        self._gates.add(gate)
        await self._desk.begin(gate)
        tasks: dict[str, asyncio.Task[Served]] = {}
        keys = [self._key(photo.sha256) if isinstance(photo, Photo) else "" for photo in found]
        for key, photo in zip(keys, found, strict=True):
            if isinstance(photo, Photo) and key not in tasks:
                tasks[key] = asyncio.create_task(self._desk.serve(key, photo.data, gate))
                if len(tasks) % _AT_ONCE == 0:
                    await asyncio.sleep(0)  # which other batches need, and the answers to what is in flight
        # Not a group: a bug is not allowed to take down the neighbours, which are being paid for.
        await asyncio.gather(*tasks.values(), return_exceptions=True)
        self._gates.remove(gate)
        return [
            (key, photo if isinstance(photo, Served) else tasks[key].result())
            for key, photo in zip(keys, found, strict=True)
        ]


class _Gates:
    """Those of the batches that run. Used in the loop's thread only."""

    def __init__(self) -> None:
        self._open: set[Gate] = set()
        self._closed_by: PhotaError | None = None

    def add(self, gate: Gate) -> None:
        self._open.add(gate)
        if self._closed_by is not None:
            gate.close(self._closed_by)

    def remove(self, gate: Gate) -> None:
        self._open.remove(gate)

    def close(self) -> None:
        self._closed_by = PhotaError("the worker was closed before this photo's turn")
        for gate in self._open:
            gate.close(self._closed_by)


@contextmanager
def _key_by_its_variable() -> Generator[None]:
    """Call the account's key by the variable that it comes from; there is no argument of its name here."""
    try:
        yield
    except ValueError as error:
        words = str(error)
    else:
        return
    raise ValueError(words.replace("api_key must", f"{KEY_VARIABLE} must"))


def _close(loop: Loop, gates: _Gates, desk: Desk) -> None:
    loop.close(gates.close, desk.end())


async def _stop(gate: Gate) -> None:
    gate.close(PhotaError("the batch was interrupted before this photo's turn"))
