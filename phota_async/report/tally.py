"""What the page says of all photos together, counted while they pass by one at a time."""

from __future__ import annotations

from collections import Counter, defaultdict

from attrs import define, field

from phota_async.records import FolderStatus, PhotoRecord, State

_MOST_REASONS = 200
OTHER_REASONS = "other reasons"


def plain_reason(record: PhotoRecord) -> str:
    """Return why a photo is not enhanced without the request's id, which the page shows by itself."""
    reason = record.reason or ""
    if record.request_id:
        note = f"request {record.request_id}"
        reason = reason.replace(f" ({note})", "").replace(f"({note}, ", "(")
    return reason


@define
class Tally:
    """Counts of a run; its size does not grow with the number of photos."""

    status: FolderStatus
    states: Counter[State] = field(factory=Counter[State])
    reasons: defaultdict[State, Counter[str]] = field(factory=lambda: defaultdict[State, Counter[str]](Counter))
    _landed: int = 0
    _last: float = 0.0

    def add(self, record: PhotoRecord) -> None:
        """Count one photo."""
        self.states[record.state] += 1
        reason = plain_reason(record)
        if reason:
            counted = self.reasons[record.state]
            counted[reason if reason in counted or len(counted) < _MOST_REASONS else OTHER_REASONS] += 1
        begun = self.status.begun
        if record.at is not None and begun is not None and record.at >= begun:
            self._last = max(self._last, record.at)
            self._landed += record.state == "enhanced"

    @property
    def photos(self) -> int:
        """All photos."""
        return self.states.total()

    @property
    def landed(self) -> int:
        """Photos that the last run itself enhanced."""
        return self._landed

    @property
    def seconds(self) -> float:
        """How long the last run worked, by the last photo that it wrote of where its end is not known; 0 if unknown."""
        end = self.status.ended or self._last
        return max(0.0, end - self.status.begun) if self.status.begun is not None else 0.0
