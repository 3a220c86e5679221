"""The calls of a soak: every way into the client and every way out of it, drawn so that all can be drawn again."""

from __future__ import annotations

import asyncio
import io
import random
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from attrs import Factory, define, evolve, frozen
from soak_books import CURRENT, Belief
from soak_photos import photo_of, scrambled, shown

from phota_async import (
    DownloadError,
    EnhancedImage,
    EnhanceResult,
    PhotaClient,
    PhotaError,
    RetryPolicy,
    Timeout,
)

RETRY = RetryPolicy(max_attempts=4, initial_wait=0.02, max_wait=0.2)
REPEATING = evolve(RETRY, retry_unknown=True)
TIMEOUT = Timeout(connect=2.0, attempt=2.0)
DEADLINE = 1.5
LONGEST_DELAY = 0.5  # of a cancellation; about twice as long as a call takes
SHARE_IN_FLIGHT = 0.4  # of that time; the rest it waits for a slot
KEYS = 97
_PADDING = 3000


T = TypeVar("T")
Enhance: TypeAlias = Callable[[], Coroutine[Any, Any, EnhanceResult]]


# ---- acts


@frozen
class Act:
    """A call by itself, or a batch of several."""

    kind: str
    first: int
    size: int = 1

    @property
    def name(self) -> str:
        return f"{self.kind}-{self.first}"

    @property
    def key(self) -> str:
        """What its requests carry: one of few, because a client has few."""
        return f"key-{self.first % KEYS}"


def acts(seed: int, calls: int) -> Iterator[Act]:
    """Give acts that make so many calls in all: about three of five are calls by themselves."""
    rng, done = random.Random(f"{seed} acts"), 0  # noqa: S311  (nothing secret)
    while done < calls:
        kind = rng.choices(("single", "many", "stream"), (92, 4, 4))[0]
        act = Act(kind, done, 1 if kind == "single" else min(rng.randint(4, 12), calls - done))
        done += act.size
        yield act


@define
class Stage:
    """Plays acts with one client.

    Attributes:
        phota: The client.
        seed: Of everything that is drawn.
        folder: For files.
        wrong: What must not be.
        calls: What was made.
    """

    phota: PhotaClient
    seed: int
    folder: Path
    wrong: list[str]
    calls: list[Belief] = Factory(list[Belief])

    async def play(self, act: Act) -> None:
        rng = random.Random(f"{self.seed} {act.name}")  # noqa: S311  (nothing secret)
        play = {"single": self._single, "many": self._many, "stream": self._stream}[act.kind]
        try:
            await play(act, rng)
        except Exception as error:  # noqa: BLE001  (whatever else it is, it is a bug, and is told)
            self.wrong.append(f"{act}: {error!r}")

    # ---- a call by itself

    async def _single(self, act: Act, rng: random.Random) -> None:
        options = _options(rng)
        phota, repeats = self._copy(act, rng)
        call, photo = self._book(act, 0, rng, options, repeats=repeats)
        token = CURRENT.set(call)
        try:
            with given(photo, self.folder / act.name, rng) as image:
                result = await self._ended(call, rng, options, lambda: phota.enhance(image, **options))
            if result is not None:
                for link in result.download_urls:
                    await self._fetch(call, rng, phota, link)
        finally:
            CURRENT.reset(token)

    async def _ended(
        self, call: Belief, rng: random.Random, options: dict[str, Any], enhance: Enhance
    ) -> EnhanceResult | None:
        """Make the call as it is, or break it off: by a cancellation, by the caller's clock, by its deadline."""
        how = rng.choices(("left alone", "cancel", "flight", "clock", "deadline", "pause"), (938, 4, 10, 4, 4, 40))[0]
        delay = rng.choice((0.0, *(rng.uniform(0, LONGEST_DELAY) for _ in range(9))))
        if how == "deadline":
            options["timeout"] = max(delay, 0.001)
        call.in_pause = how == "pause"
        call.in_flight = delay * SHARE_IN_FLIGHT if how == "flight" else None
        try:
            if how == "clock":
                async with asyncio.timeout(delay):
                    result = await enhance()
            elif how in {"cancel", "flight", "pause"}:
                result = await _cancelled_after(delay if how == "cancel" else None, enhance)
            else:
                result = await enhance()
        except PhotaError as error:
            self._failed(call, error)
        except (asyncio.CancelledError, TimeoutError):
            call.cancelled()
        else:
            self._landed(call, result)
            return result
        return None

    async def _fetch(self, call: Belief, rng: random.Random, phota: PhotaClient, link: str) -> None:
        """Download a link into memory or into a file; a few are given up on."""
        target = self.folder / f"{call.number}.image" if rng.random() < 0.5 else None
        clock: AbstractAsyncContextManager[Any] = nullcontext()
        if rng.random() < 0.02:
            clock = asyncio.timeout(rng.uniform(0, 0.1))
        try:
            async with clock:
                data = await _downloaded(phota, link, target)
        except TimeoutError:
            call.unfetched += 1
        except DownloadError as error:
            call.met(error)
        else:
            self._check(call, [EnhancedImage(data)])

    # ---- batches

    async def _many(self, act: Act, rng: random.Random) -> None:
        booked: list[Belief] = []
        phota, repeats = self._copy(act, rng)
        options = _options(rng)
        photos = self._photos(act, rng, options, booked, repeats=repeats)
        delay = rng.uniform(0, LONGEST_DELAY) if rng.random() < 0.05 else None
        with suppress(asyncio.CancelledError):
            source = _in_turns(photos) if rng.random() < 0.5 else photos
            batch = await _cancelled_after(delay, lambda: phota.enhance_many(source, **options))
            for outcome, call in zip(batch, booked, strict=True):
                self._outcome(call, outcome)
        _left(booked)

    async def _stream(self, act: Act, rng: random.Random) -> None:
        booked: list[Belief] = []
        phota, repeats = self._copy(act, rng)
        options = _options(rng)
        photos = self._photos(act, rng, options, booked, repeats=repeats)
        until, stops = rng.choice((*[act.size] * 3, rng.randrange(act.size))), rng.random() < 0.5
        async with phota.enhance_stream(photos, **options) as outcomes:
            number = 0
            async for outcome in outcomes:
                self._outcome(booked[outcome.index], outcome)
                number += 1
                if number > until and stops:
                    outcomes.stop()
                elif number > until:
                    break
        _left(booked)

    def _photos(
        self, act: Act, rng: random.Random, options: dict[str, Any], booked: list[Belief], *, repeats: bool
    ) -> Iterator[bytes]:
        for place in range(act.size):
            call, photo = self._book(act, place, rng, options, repeats=repeats)
            booked.append(call)
            # It runs in the task of the worker that takes the photo, and so tells it whose requests it makes.
            CURRENT.set(call)
            yield photo

    # ---- what came of it

    def _outcome(self, call: Belief, outcome: Any) -> None:
        if outcome.result is not None:
            self._landed(call, outcome.result)
        else:
            self._failed(call, outcome.error, attempted=outcome.attempted)

    def _landed(self, call: Belief, result: EnhanceResult) -> None:
        call.landed(result)
        self._check(call, result.images)
        if len(result.images or result.download_urls) != call.asked:
            self.wrong.append(f"not as many images as were asked for: {call}")

    def _failed(self, call: Belief, error: Exception, *, attempted: bool = True) -> None:
        call.failed(error, attempted=attempted)
        self._check(call, getattr(error, "images", ()))
        if not isinstance(error, PhotaError):
            self.wrong.append(f"{error!r}: {call}")

    def _check(self, call: Belief, images: tuple[EnhancedImage, ...] | list[EnhancedImage]) -> None:
        for image in images:
            if shown(image.data) != call.number:
                self.wrong.append(f"an image that is not this call's: {call}")

    # ---- what is asked

    def _book(
        self, act: Act, place: int, rng: random.Random, options: dict[str, Any], *, repeats: bool
    ) -> tuple[Belief, bytes]:
        number = scrambled(act.first + place)
        photo = photo_of(number, rng.randbytes(rng.randrange(_PADDING)))
        if rng.random() < 0.01:
            photo = b"no photo " + photo
        asked = options.get("num_output_images", 1)
        self.calls.append(Belief.of(act.key, number, photo, asked, repeats=repeats))
        return self.calls[-1], photo

    def _copy(self, act: Act, rng: random.Random) -> tuple[PhotaClient, bool]:
        """Return a copy of the client that sends the act's key."""
        if repeats := rng.random() < 0.1:
            return self.phota.with_options(api_key=act.key, retry=REPEATING), repeats
        return self.phota.with_options(api_key=act.key), repeats


def _options(rng: random.Random) -> dict[str, Any]:
    chances = {
        "num_output_images": (0.1, 2),
        "output_format": (0.3, "jpg"),
        "response_mode": (0.2, "urls"),
        "profile_ids": (0.1, ["me"]),
        "timeout": (0.5, DEADLINE),
    }
    return {name: value for name, (chance, value) in chances.items() if rng.random() < chance}


@contextmanager
def given(photo: bytes, path: Path, rng: random.Random) -> Generator[Any]:
    """Give the photo as one of the things that `enhance` takes."""
    kinds: tuple[Callable[[bytes], Any], ...] = (bytes, bytearray, memoryview, io.BytesIO)
    kind = rng.choices(("memory", "path", "text", "file"), (7, 1, 1, 1))[0]
    if kind == "memory":
        yield rng.choice(kinds)(photo)
        return
    path.write_bytes(photo)
    try:
        with path.open("rb") as file:
            yield {"path": path, "text": str(path), "file": file}[kind]
    finally:
        path.unlink()


async def _cancelled_after(delay: float | None, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Await in a task of its own, which is cancelled after so many seconds, or by whoever else wants to."""
    task = asyncio.create_task(make())
    alarm = None if delay is None else asyncio.get_running_loop().call_later(delay, task.cancel)
    try:
        return await task
    finally:
        if alarm is not None:
            alarm.cancel()


async def _downloaded(phota: PhotaClient, link: str, target: Path | None) -> bytes:
    if target is None:
        return (await phota.download(link)).data
    path = await phota.download(link, to=target)
    try:
        return path.read_bytes()
    finally:
        path.unlink()


async def _in_turns(photos: Iterator[bytes]) -> AsyncIterator[bytes]:
    for photo in photos:
        await asyncio.sleep(0)
        yield photo


def _left(booked: list[Belief]) -> None:
    for call in booked:
        call.unseen += call.ending == "left"
