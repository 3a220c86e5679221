"""How long another worker's answer has been waited for."""

from __future__ import annotations

from attrs import define, field

_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.05, 5.0


@define(eq=False)
class Waiting:
    """Waiting for the answer to one claim after the other.

    Attributes:
        patience: Seconds that each of them is waited for.
    """

    patience: float
    _claim: int = field(init=False, default=0)
    _since: float = field(init=False, default=0.0)
    _pause: float = field(init=False, default=_SHORTEST_PAUSE)

    def is_over(self, claim: int, now: float) -> bool:
        """Tell whether the claim of this number has been waited for long enough; a new one has not."""
        if claim != self._claim:
            self._claim, self._since, self._pause = claim, now, _SHORTEST_PAUSE
        return now - self._since >= self.patience

    def pause(self) -> float:
        """Return the seconds until the next look: a little more each time, but not beyond patience."""
        pause, self._pause = self._pause, min(2 * self._pause, _LONGEST_PAUSE)
        return min(pause, max(self.patience / 4, _SHORTEST_PAUSE))
