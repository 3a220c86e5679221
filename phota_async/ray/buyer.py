"""A client that is told of each request before it begins."""

from __future__ import annotations

from phota_async.batch import Gate
from phota_async.call import Around, Call
from phota_async.client import PhotaClient
from phota_async.models import EnhanceOptions, EnhanceResult
from phota_async.transport.proxies import is_loopback


class Buyer(PhotaClient):
    """A client whose calls belong to batches and go through a store."""

    @property
    def stand_in(self) -> bool:
        """Whether a server stands in for the service, which is https and elsewhere."""
        url = self._settings.base_url
        return url.scheme == "http" or is_loopback(url.host or "")

    async def buy(self, photo: bytes, options: EnhanceOptions, gate: Gate, around: Around) -> EnhanceResult:
        """Enhance one photo.

        Args:
            photo: Its bytes.
            options: What is asked for.
            gate: Where its batch may be stopped.
            around: Entered before each request, when it has its slot, and left with what became of it.

        Raises:
            NotStartedError: The batch was stopped before the request began.
            PhotaError: As `PhotaClient.enhance`, and what ``around`` raises.
        """
        means = self._means(await self._homes.here())
        deadline = self._settings.timeout.overall
        return await Call(means, options, deadline, bounded=False, gate=gate, around=around).run(photo)
