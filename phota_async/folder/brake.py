"""What stops a run."""

from __future__ import annotations

import asyncio

from attrs import frozen

from phota_async.batch import Gate
from phota_async.errors import PhotaError
from phota_async.folder import rules
from phota_async.folder.rules import Action
from phota_async.folder.tally import Tally
from phota_async.records import StopCause


@frozen(eq=False)
class Brake:
    """Stops a run: nothing new starts, what is in flight lands. The first cause stays.

    Attributes:
        gate: Closed, so that calls that wait for a slot do not begin.
        tally: Who is told.
    """

    gate: Gate
    tally: Tally

    def stop(self, cause: StopCause, why: str, error: Exception | None = None) -> None:
        """Stop the run."""
        if self.tally.stopped_by is None:
            message = rules.stop_message(cause, why)
            self.gate.close(PhotaError(message))
            self.tally.stopped(cause, message, error)

    def holds(self, due: Action) -> bool:
        """Tell whether it keeps a photo from what it is due."""
        cause = self.tally.stopped_by
        # To fetch costs nothing, and the links of what is paid for may not live until the account is in order.
        return cause is not None and not (due is Action.FETCH and cause in {"account", "budget"})

    async def watch(self, asked: asyncio.Event) -> None:
        """Stop when the caller asks for it."""
        await asked.wait()
        self.stop("caller", "by request")
