"""What the sandbox has seen: every request, every charge, every download.

Only the server's loop writes. Readers may be in any thread: each property hands out a copy or a plain value.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from attrs import evolve, field, frozen

from .faults import Fault
from .validation import Order


@frozen(kw_only=True)
class RequestRecord:
    """One request that was not a download; replaced by a fuller one as the request goes on.

    `status` is None as long as no whole answer was sent, also when the connection was broken by a fault or by
    the client. `delivered` means that the whole answer was handed to the connection. `sha256` is that of the
    photo's bytes. `started` and `ended` are on the monotonic clock; `ended` is None while in flight.
    """

    method: str
    path: str
    request_id: str
    started: float
    ended: float | None = None
    status: int | None = None
    sha256: str | None = None
    num_output_images: int | None = None
    prompt: str | None = None
    profile_ids: tuple[str, ...] = ()
    output_format: str | None = None
    response_mode: str | None = None
    key: str | None = field(default=None, repr=False)
    content_length: int | None = None
    transfer_encoding: str | None = None
    connection: str | None = None
    received: int = 0
    cookies: bool = False
    authorization: bool = False
    charged_images: int = 0
    delivered: bool = False
    fault: Fault | None = None


@frozen(kw_only=True)
class DownloadRecord:
    """One request for a link; `status` is None when the connection was broken before an answer began.

    `carried_credentials` names the headers of the account that came along; there should be none.
    """

    path: str
    request_id: str
    status: int | None = None
    range: str | None = None
    carried_credentials: tuple[str, ...] = ()


class Ledger:
    """The book of one sandbox."""

    def __init__(self) -> None:
        self._watchers: list[Callable[[], None]] = []
        self._requests: dict[str, RequestRecord] = {}
        self._downloads: dict[str, DownloadRecord] = {}
        self._charges: dict[str, int] = {}
        self._cents = 0
        self._in_flight: frozenset[str] = frozenset()
        self._widest = 0

    def reset(self) -> None:
        """Forget everything but the requests that are in flight."""
        self._requests = {record.request_id: record for record in self.requests if record.ended is None}
        self._downloads, self._charges, self._cents = {}, {}, 0
        self._widest = len(self._in_flight)

    @property
    def requests(self) -> list[RequestRecord]:
        """All requests but downloads, in the order in which they came."""
        return list(self._requests.copy().values())

    @property
    def downloads(self) -> list[DownloadRecord]:
        """All requests for links, in the order in which they came."""
        return list(self._downloads.copy().values())

    @property
    def charges(self) -> Counter[str]:
        """Images charged, by the sha256 of the photo they were made from."""
        return Counter(self._charges.copy())

    @property
    def charged_images(self) -> int:
        """All images charged."""
        return sum(self.charges.values())

    @property
    def spent_usd(self) -> float:
        """The price of all images charged."""
        return self._cents / 100

    @property
    def in_flight(self) -> int:
        """Enhance calls being processed now, those included whose client has gone."""
        return len(self._in_flight)

    @property
    def widest(self) -> int:
        """The greatest number of enhance calls processed at once."""
        return self._widest

    @property
    def keys_on_downloads(self) -> list[DownloadRecord]:
        """Downloads that carried a credential of the account: a leak."""
        return [download for download in self.downloads if download.carried_credentials]

    def wait(self, condition: Callable[["Ledger"], object], *, timeout: float = 10.0) -> bool:
        """Block until the condition is true, and tell whether it came so; in async code call it in a thread."""
        reached = threading.Event()

        def look() -> None:
            if condition(self):
                reached.set()

        self._watchers.append(look)
        try:
            look()
            return reached.wait(timeout)
        finally:
            self._watchers.remove(look)

    def open(self, record: RequestRecord) -> None:
        """Note a request that has just come."""
        self._requests[record.request_id] = record
        self._changed()

    def update(self, request_id: str, **changes: Any) -> None:
        """Note what became known of a request; silent for one that a reset has forgotten."""
        if record := self._requests.get(request_id):
            self._requests[request_id] = evolve(record, **changes)
        self._changed()

    def note(self, request_id: str, order: Order | None, sha256: str | None) -> None:
        """Note what a request asked for."""
        if order is None:
            return
        self.update(
            request_id,
            sha256=sha256,
            num_output_images=order.num_output_images,
            prompt=order.prompt,
            profile_ids=order.profile_ids,
            output_format=order.output_format,
            response_mode=order.response_mode,
        )

    def close(self, request_id: str, *, status: int | None, delivered: bool) -> None:
        """Note how a request ended."""
        self.update(request_id, status=status, delivered=delivered, ended=time.monotonic())

    def enter(self, request_id: str) -> None:
        """Count a call as in flight."""
        self._in_flight |= {request_id}
        self._widest = max(self._widest, len(self._in_flight))
        self._changed()

    def leave(self, request_id: str) -> None:
        """Count it no more; harmless when repeated."""
        self._in_flight -= {request_id}
        self._changed()

    def charge(self, request_id: str, *, sha256: str, images: int, cents: int) -> None:
        """Note a sale."""
        self._charges[sha256] = self._charges.get(sha256, 0) + images
        self._cents += cents
        self.update(request_id, charged_images=images)

    def download(self, record: DownloadRecord) -> None:
        """Note a request for a link, or what became of it."""
        self._downloads[record.request_id] = record
        self._changed()

    def _changed(self) -> None:
        for look in tuple(self._watchers):
            look()
