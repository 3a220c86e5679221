"""What did not become images: counted, told why, and the run stopped where it is not one photo's fault."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from attrs import frozen

from phota_async.errors import APIError, JournalError, PhotaError
from phota_async.folder.brake import Brake
from phota_async.folder.outputs import Outputs
from phota_async.folder.tally import Tally
from phota_async.journal import Item
from phota_async.records import FolderFailure


@frozen
class Facts:
    """What is known of an answer that did not become files."""

    request_id: str | None = None
    cost_usd: float = 0.0
    links: tuple[str, ...] = ()


@frozen(eq=False)
class Shortfalls:
    """Counts the photos that are not enhanced.

    Attributes:
        outputs: Where images would go.
        brake: What stops the run.
        tally: The counts.
    """

    outputs: Outputs
    brake: Brake
    tally: Tally

    def paths(self, names: Iterable[bytes]) -> tuple[Path, ...]:
        """Return the files of some names, if anybody is told of them."""
        return tuple(self.outputs.folder / os.fsdecode(name) for name in names) if self.tally.on_event else ()

    def leave(self, source: bytes, item: Item, cost_usd: float = 0.0) -> None:
        """Count a photo that stays as it is."""
        failure = FolderFailure(
            source=Path(os.fsdecode(source)),
            state="failed" if item.state == "failed" else "unknown",
            reason=item.reason or "",
            kind=item.kind or "PhotaError",
            request_id=item.request_id,
        )
        self.tally.lacks(failure, cost_usd)

    def lacks(
        self, source: bytes, error: Exception, reason: str, facts: Facts = Facts(), *, unknown: bool = False
    ) -> None:
        """Count a photo that met an error."""
        failure = FolderFailure(
            source=Path(os.fsdecode(source)),
            state="unknown" if unknown else "failed",
            reason=reason,
            kind=type(error).__name__,
            error=_slim(error),
            request_id=facts.request_id or getattr(error, "request_id", None),
            download_urls=facts.links,
        )
        self.tally.lacks(failure, facts.cost_usd)

    async def disk(
        self,
        source: bytes,
        error: OSError | JournalError,
        reason: str,
        facts: Facts | None = None,
        *,
        unknown: bool = False,
    ) -> None:
        """Count a photo that could not be written, or could not be begun; stop where the disk as a whole is to blame.

        Args:
            source: The photo.
            error: What the system says.
            reason: What is said of the photo.
            facts: What is known of its answer, or None if it has none.
            unknown: Whether what is paid for is lost.
        """
        if await self.stop_for(error) and facts is None:
            self.tally.passed_by(source)
        else:
            self.lacks(source, error, reason, facts or Facts(), unknown=unknown)

    async def stop_for(self, error: OSError | JournalError) -> bool:
        """Stop where the disk as a whole, or the journal, is to blame for ``error``; return whether it is."""
        if not await self.outputs.is_to_blame(error):
            return False
        words = "" if isinstance(error, JournalError) else "the output folder cannot be written to: "
        self.brake.stop("disk", f"{words}{error}", error)
        return True


def _slim(error: Exception) -> Exception:
    """Let go of what an error and those before it keep alive: a call's frames with all they hold, images, bodies."""
    link: BaseException | None = error
    while link is not None:
        link.__traceback__ = None
        if isinstance(link, PhotaError):
            facts: tuple[object, ...] = link.args
            link.args = tuple(
                () if isinstance(fact, tuple) else b"" if isinstance(fact, bytes) else fact for fact in facts
            )
            link.images = ()
            if isinstance(link, APIError):
                link.body = b""
        link = link.__cause__ or link.__context__
    return error
