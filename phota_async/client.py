"""The client: what a caller holds. It composes the rooms below, one set of them for each event loop."""

from __future__ import annotations

import asyncio
import os
import urllib.request
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import cached_property
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Literal, Self, TypeAlias, Unpack, overload

from attrs import evolve
from yarl import URL

from phota_async import batch, fetch
from phota_async.call import Around, Call, Means
from phota_async.homes import Home, Homes, Plan
from phota_async.images import photos_in
from phota_async.models import (
    BatchResult,
    EnhancedImage,
    EnhanceKeywords,
    EnhanceOptions,
    EnhanceResult,
    FolderKeywords,
)
from phota_async.records import FolderEvent, FolderReport, Price
from phota_async.retry import RetryDetails, RetryPolicy
from phota_async.settings import (
    DEFAULT_BASE_URL,
    KEY_VARIABLE,
    URL_VARIABLE,
    Key,
    Settings,
    proxies,
)
from phota_async.threads import in_thread
from phota_async.transport.post import Endpoint
from phota_async.transport.proxies import is_loopback
from phota_async.transport.session import Session, Timeout, TraceConfig, is_seconds

Photos: TypeAlias = Iterable[Any] | AsyncIterable[Any] | str | os.PathLike[str]


class _Unset:
    """Tells an argument that was left out from one that is None."""


_UNSET = _Unset()


class PhotaClient:
    """A client of the Phota image API. Build it once, anywhere, and share it between tasks.

    It opens its session on first use, one for each running event loop, and closes it in `aclose` or at the end of
    ``async with``; afterwards it may be used again.

    Args:
        api_key: The account's key; from the environment variable ``PHOTA_API_KEY`` if not given.
        base_url: Where the API is; from ``PHOTA_BASE_URL``, or the service's own address, if not given.
        max_concurrency: How many calls may be in flight at most (on each event loop). The width adapts below that.
        max_queue: How many calls may wait for a slot before `OverloadedError`; None for any number. With those in the
            pauses between their attempts, at most ``max_concurrency + max_queue`` calls are under way.
        timeout: Bounds in seconds.
        retry: What is tried again.
        max_response_bytes: How long an answer may be, as sent and as decompressed.
        proxy: An http or https proxy for everything, ``""`` for none; by default ``HTTPS_PROXY``, ``HTTP_PROXY``,
            ``ALL_PROXY`` and ``NO_PROXY`` are obeyed as curl does.
        allow_http: Whether the key may go over plain http to a host that is not loopback.
        session: An aiohttp session to send with, which stays yours to close; it belongs to one event loop. Keep it for
            this client: a connection that you have left in its pool may be taken for a paid request, and be stale.
        trace_configs: aiohttp's hooks, for the sessions that the client opens. They see the request's headers.
        on_retry: Called with `RetryDetails` before each pause. What it raises is logged.

    Raises:
        ValueError: A value is wrong, or there is no key; the message names the field.
    """

    def __init__(  # noqa: PLR0913  (each is a named bound or a seam of the public contract)
        self,
        api_key: str | None = None,
        *,
        base_url: str | URL | None = None,
        max_concurrency: int = 16,
        max_queue: int | None = None,
        timeout: Timeout = Timeout(),  # noqa: B008  (frozen)
        retry: RetryPolicy = RetryPolicy(),  # noqa: B008  (frozen)
        max_response_bytes: int = 512 * 2**20,
        proxy: str | URL | None = None,
        allow_http: bool = False,
        session: Session | None = None,
        trace_configs: Sequence[TraceConfig] = (),
        on_retry: Callable[[RetryDetails], object] | None = None,
    ) -> None:
        api_key = Key.of(os.environ.get(KEY_VARIABLE, "") if api_key is None else api_key)
        self._settings = Settings(
            api_key=api_key,
            base_url=base_url or os.environ.get(URL_VARIABLE) or DEFAULT_BASE_URL,
            timeout=timeout,
            retry=retry,
            max_response_bytes=max_response_bytes,
            on_retry=on_retry,
            allow_http=allow_http,
        )
        self._homes = Homes(
            Plan(
                max_concurrency=max_concurrency,
                max_queue=max_queue,
                proxies=proxies(proxy, urllib.request.getproxies_environment()),
                session=session,
                trace_configs=trace_configs,
            )
        )
        self._owner = True

    def __repr__(self) -> str:
        if "_homes" not in vars(self):
            return "<PhotaClient>"  # its settings were refused, and a traceback shows local variables
        plan = self._homes.plan
        return f"<PhotaClient {self._settings.base_url} max_concurrency={plan.max_concurrency}>"

    # ---- life

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Let the requests in flight land, send away the calls that wait for a slot, and close what was opened here.

        A copy made by `with_options` closes nothing: the session is the original's.
        """
        if self._owner:
            await self._homes.leave()
            await self._homes.sweep()

    def with_options(  # noqa: PLR0913  (one for each setting that may differ)
        self,
        *,
        api_key: str | _Unset = _UNSET,
        base_url: str | URL | _Unset = _UNSET,
        timeout: Timeout | _Unset = _UNSET,
        retry: RetryPolicy | _Unset = _UNSET,
        max_response_bytes: int | _Unset = _UNSET,
        allow_http: bool | _Unset = _UNSET,
        on_retry: Callable[[RetryDetails], object] | _Unset | None = _UNSET,
    ) -> Self:
        """Return a copy with some settings changed, which shares the session and the limiter.

        Raises:
            ValueError: A value is wrong; the message names the field.
        """
        api_key = api_key if isinstance(api_key, _Unset) else Key.of(api_key)
        changes = {name: value for name, value in locals().items() if name != "self" and value is not _UNSET}
        copy = type(self).__new__(type(self))
        copy._settings = evolve(self._settings, **changes)  # noqa: SLF001  (another one of this class)
        copy._homes, copy._owner = self._homes, False  # noqa: SLF001
        return copy

    # ---- calls

    async def enhance(  # noqa: PLR0913  (the endpoint's own options)
        self,
        image: str | os.PathLike[str] | bytes | bytearray | memoryview | IO[bytes] | URL,
        *,
        prompt: str | None = None,
        profile_ids: Iterable[str] = (),
        num_output_images: int = 1,
        output_format: Literal["png", "jpg"] = "png",
        response_mode: Literal["bytes", "urls"] = "bytes",
        timeout: float | None = None,
    ) -> EnhanceResult:
        """Enhance one photo. One call takes about 55 s and costs 0.12 USD an image (0.15 with a recognised profile).

        Args:
            image: A path, bytes-like, a binary file object (used by one call at a time), or an http(s) URL that the
                service fetches. JPEG, PNG, WebP or HEIC, told by the first bytes.
            prompt: What to do, in words.
            profile_ids: Profiles of people to recognise.
            num_output_images: From 1 to 4; each is paid for.
            output_format: ``"png"`` or ``"jpg"``.
            response_mode: ``"bytes"`` for images in the result, ``"urls"`` for signed links that live 24 hours.
            timeout: Seconds for the whole call: waiting for a slot, every attempt, every pause.

        Raises:
            ValueError: An option is wrong; the message names it.
            PhotaError: Anything else, see `phota_async.errors`; ``maybe_charged`` tells what it means for the money.
        """
        options = EnhanceOptions(
            prompt=prompt,
            profile_ids=profile_ids,
            num_output_images=num_output_images,
            output_format=output_format,
            response_mode=response_mode,
        )
        call = Call(self._means(await self._homes.here()), options, _deadline(timeout, self._settings))
        return await call.run(image)

    async def enhance_many(self, photos: Photos, **options: Unpack[EnhanceKeywords]) -> BatchResult:
        """Enhance many photos, at most ``max_concurrency`` at once, and return every outcome in input order.

        A photo that fails is an `Outcome` with an error, never the end of the batch; only an account's error (401,
        402, 403) keeps the rest from being started. All results are held in memory; see `enhance_stream` for more.

        Args:
            photos: A list, any iterable or async iterable of what `enhance` takes, or a directory (its photos, those in
                sub-folders included, sorted by path). An iterable is advanced on the event loop, as photos are needed:
                one that reads files on its way is better an async one.
            **options: The options of `enhance`; ``timeout`` is for each photo.

        Raises:
            ValueError: An option is wrong; the message names it.
            ImageError: The directory cannot be read.
        """
        enhance, gate = self._enhancer(options)(await self._homes.here())
        return await batch.gather(await _photos(photos), enhance, self._homes.plan.max_concurrency, gate)

    def enhance_stream(
        self, photos: Photos, **options: Unpack[EnhanceKeywords]
    ) -> AbstractAsyncContextManager[batch.Outcomes]:
        """Enhance many photos and give each `Outcome` as it completes; memory is bounded by ``max_concurrency``.

        ``async with phota.enhance_stream(photos) as outcomes: async for outcome in outcomes: ...``. Leaving the block
        early abandons what is in flight, which may have been charged; ``outcomes.stop()`` starts nothing new and lets
        it land. Arguments are those of `enhance_many`.
        """
        return self._stream(photos, self._enhancer(options))

    @overload
    async def download(self, url: str | URL) -> EnhancedImage: ...
    @overload
    async def download(self, url: str | URL, *, to: str | os.PathLike[str]) -> Path: ...
    async def download(self, url: str | URL, *, to: str | os.PathLike[str] | None = None) -> EnhancedImage | Path:
        """Fetch one signed link. Costs nothing; a transfer that breaks off is resumed.

        Args:
            url: A link from ``EnhanceResult.download_urls``.
            to: The file to write, whole or not at all (one that stands there is replaced), or a directory (one that
                exists, or a name that ends with a separator); without it the image is returned.

        Raises:
            DownloadError: The link has expired, leads to an address that is not public, or stays out of reach.
            DeadlineExceededError: ``Timeout.overall`` passed.
            OSError: The file cannot be written.
        """
        fetcher = self._fetcher(await self._homes.here())
        return await fetcher.image(url) if to is None else await fetcher.file(url, os.fspath(to))

    async def enhance_folder(  # noqa: PLR0913  (each is a rule of the public contract)
        self,
        source: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
        output: str | os.PathLike[str],
        *,
        include: Iterable[str] = (),
        exclude: Iterable[str] = (),
        overwrite: bool = False,
        retry_failed: bool = False,
        retry_unknown: bool = False,
        checksum: bool = False,
        max_cost_usd: float | None = None,
        price: Price = Price(),  # noqa: B008  (frozen)
        on_event: Callable[[FolderEvent], object] | None = None,
        stop: asyncio.Event | None = None,
        **options: Unpack[FolderKeywords],
    ) -> FolderReport:
        """Enhance a folder of photos into another, so that nothing that is paid for is lost or bought twice.

        What is bought is written to a journal in ``output`` before and after each request. Run the same call again
        after a crash, a stop or a failure: it goes on where the other ended. Memory is bounded by ``max_concurrency``,
        not by the number of photos.

        Args:
            source: A folder (its sub-folders included, and kept below ``output``), a photo, or several of either.
            output: Where the images go; made if it is missing. It may lie inside ``source``.
            include: Patterns such as ``"*.jpg"`` or ``"2024/*"`` of what counts; everything if there are none.
                Neither case counts, and ``*`` matches slashes too.
            exclude: Patterns of what does not count, folders included.
            overwrite: Enhance also what is done already (it is paid for again), and replace files that stand there.
                A run with it that was broken off is gone on with, not begun anew.
            retry_failed: Send again what failed in an earlier run.
            retry_unknown: Buy again what may have been charged, or was and is lost.
            checksum: Read every photo again instead of believing an unchanged size and time of modification.
            max_cost_usd: Stop before this run spends more. A request that may have been charged counts. Without
                ``profile_ids`` an image is reckoned at ``price.image`` until an answer says otherwise.
            price: What an image costs.
            on_event: Called with a `FolderEvent`, on the event loop, for each photo and when the run is walked, stopped
                and ended. What it raises is logged.
            stop: Set it to start nothing new; what is in flight lands, and the report tells the rest.
            **options: ``prompt``, ``profile_ids``, ``num_output_images``, ``output_format`` and ``timeout`` (for each
                photo) as in `enhance`.

        Returns:
            What the run came to. A photo's own failure is in it and raises nothing, and so is what stopped the run: an
            account's error (401, 402, 403), a disk that takes no more, the budget, ``stop``.

        Raises:
            ValueError: An option is wrong; the message names it.
            ImageError: ``source`` is missing or cannot be read, or is the output folder itself. (One of several that is
                missing is a failure of its own.)
            JournalError: Another run writes to ``output``, or its journal cannot be read.
            OSError: ``output`` cannot be written to.
        """
        await in_thread(import_module, "phota_async.folder")  # with SQLite: no part of importing the client
        from phota_async.folder import FolderJob, FolderMeans, run_folder  # noqa: PLC0415

        job = FolderJob.of(
            sources=source,
            output=output,
            options=_options({**options, "response_mode": "urls"}),
            include=include,
            exclude=exclude,
            overwrite=overwrite,
            retry_failed=retry_failed,
            retry_unknown=retry_unknown,
            checksum=checksum,
            max_cost_usd=max_cost_usd,
            price=price,
            on_event=on_event,
            stop=stop,
            stand_in=is_loopback(self._settings.base_url.host or ""),
        )
        deadline = _deadline(options.get("timeout"), self._settings)
        home, gate = await self._homes.here(), batch.Gate()
        means = self._means(home)

        def enhance(photo: object, around: Around) -> Awaitable[EnhanceResult]:
            return Call(means, job.options, deadline, bounded=False, gate=gate, around=around).run(photo)

        return await run_folder(
            job,
            FolderMeans(
                enhance=enhance,
                gate=gate,
                fetcher=self._fetcher(home),
                workers=self._homes.plan.max_concurrency,
                width=lambda: int(home.limiter.width),
            ),
        )

    # ---- inside

    def _enhancer(self, options: EnhanceKeywords) -> Callable[[Home], tuple[batch.Enhance, batch.Gate]]:
        """Check the options of a batch, and return what gives its calls once its loop is known."""
        asked = _options(options)
        deadline = _deadline(options.get("timeout"), self._settings)

        def on_loop(home: Home) -> tuple[batch.Enhance, batch.Gate]:
            means, gate = self._means(home), batch.Gate()

            def enhance(photo: object) -> Awaitable[EnhanceResult]:
                # Not counted against max_queue: a batch is bounded by its own workers.
                return Call(means, asked, deadline, bounded=False, gate=gate).run(photo)

            return enhance, gate

        return on_loop

    @asynccontextmanager
    async def _stream(
        self, photos: Photos, enhancer: Callable[[Home], tuple[batch.Enhance, batch.Gate]]
    ) -> AsyncGenerator[batch.Outcomes, None]:
        # One home for the whole of it: a client that is closed meanwhile ends the batch instead of opening another.
        enhance, gate = enhancer(await self._homes.here())
        workers = self._homes.plan.max_concurrency
        async with batch.stream(await _photos(photos), enhance, workers, gate) as outcomes:
            yield outcomes

    def _fetcher(self, home: Home) -> fetch.Fetcher:
        settings, plan = self._settings, home.plan
        source = fetch.Source(
            own=settings.base_url,
            proxy_for=plan.proxies.for_url,
            timeout=settings.timeout,
            max_bytes=settings.max_response_bytes,
            attempts=home.attempts,
            proxies=plan.proxies.places(),
        )
        session = home.downloads(settings.base_url)
        return fetch.Fetcher(session, source, settings.retry, settings.on_retry, home.telemetry)

    def _means(self, home: Home) -> Means:
        return Means(
            limiter=home.limiter,
            poster=home.poster,
            endpoint=self._endpoint,
            policy=self._settings.retry,
            on_retry=self._settings.on_retry,
            telemetry=home.telemetry,
        )

    @cached_property
    def _endpoint(self) -> Endpoint:
        settings = self._settings
        url = settings.base_url / "enhance"
        return Endpoint(
            url=url,
            key=settings.api_key,
            proxy=self._homes.plan.proxies.for_url(url),
            timeout=settings.timeout,
            max_response_bytes=settings.max_response_bytes,
        )


async def _photos(photos: Photos) -> Iterable[Any] | AsyncIterable[Any]:
    if isinstance(photos, bytes | bytearray | memoryview):
        raise ValueError("photos must be a list, an iterable or a directory; for one photo there is enhance()")
    if isinstance(photos, str | os.PathLike):
        return await photos_in(Path(photos))
    if not isinstance(photos, Iterable | AsyncIterable):
        raise ValueError(f"photos must be a list, an iterable or a directory, not {photos!r}")
    return photos


def _options(options: EnhanceKeywords) -> EnhanceOptions:
    return EnhanceOptions(**{name: value for name, value in options.items() if name != "timeout"})  # type: ignore[arg-type]


def _deadline(timeout: float | None, settings: Settings) -> float | None:
    if timeout is None:
        return settings.timeout.overall
    if not is_seconds(timeout):
        raise ValueError(f"timeout must be a positive number of seconds or None, not {timeout!r}")
    return timeout
