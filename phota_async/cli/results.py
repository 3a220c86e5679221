"""What goes to stdout: one line for each photo, as JSON where that is asked for."""

from __future__ import annotations

import json
import re
import sys
from io import StringIO
from typing import Any

from attrs import define, field

from phota_async.records import FolderEvent

_OF_A_PHOTO = frozenset({"enhanced", "skipped", "failed", "unknown", "not_attempted"})
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def printable(text: str) -> str:
    """Return a name or a message as a person may see it: on one line, and powerless over the terminal."""
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


@define
class Results:
    """Prints results.

    Attributes:
        as_json: Whether as JSON Lines. Else the paths of images are printed, unless a person is looking: a live bar
            tells them more.
    """

    as_json: bool
    _lost: OSError | None = field(init=False, default=None)

    @property
    def complaint(self) -> str | None:
        """What is to be said of results that could not be printed, or None; a reader that has gone needs none."""
        if self._lost is None or isinstance(self._lost, BrokenPipeError):
            return None
        return f"not all results could be printed: {self._lost.strerror}"

    def photo(self, event: FolderEvent) -> None:
        """Print what became of a photo."""
        if event.kind not in _OF_A_PHOTO:
            return
        if self.as_json:
            self.facts(**_facts(event))
        elif event.kind == "enhanced" and not sys.stdout.isatty():
            self.lines(*map(str, event.outputs))

    def facts(self, **facts: Any) -> None:
        """Print one line of JSON."""
        self.lines(json.dumps(facts))

    def lines(self, *lines: str) -> None:
        """Print lines as they are."""
        if self._lost:
            return
        try:
            print(*lines, sep="\n", flush=True)  # noqa: T201  (stdout is for results)
        except OSError as error:
            # Whoever read it has gone, or their disk is full. What is paid for is still worth landing.
            self._lost = error
            sys.stdout = StringIO()


def _facts(event: FolderEvent) -> dict[str, Any]:
    facts: dict[str, Any] = {"source": str(event.source), "status": event.kind}
    if event.outputs:
        facts["outputs"] = [str(path) for path in event.outputs]
    if event.request_id:
        facts["request_id"] = event.request_id
    if event.cost_usd:
        facts["cost_usd"] = event.cost_usd
    if event.download_urls:
        facts["download_urls"] = event.download_urls
    if event.kind in {"failed", "unknown"}:
        facts["error"] = f"{event.error_kind}: {event.reason}"
    elif event.reason:
        facts["reason"] = event.reason
    return facts
