"""How many calls one client may have in flight, learnt from what the service bears: the rule alone, without a clock.

Several clients, in as many processes, may share a service that has less room than they ask for, and know nothing of
each other. Additive increase and multiplicative decrease shares it fairly (Chiu and Jain 1989; RFC 5681): all gain
alike, and who has more gives up more. So:

- A refusal leaves `CUT` of what the service bore, which is what was in flight beside the refused call; all that was in
  flight together tells one story and is cut by one share. Where less was borne than at the refusal before, somebody
  else took the room, or it is gone: then `YIELD` is left, as in the fast convergence of CUBIC (RFC 9438, 4.7). A client
  that is alone meets the same bound again and again, and keeps nearly all of it.
- A width that was not in use is not what was refused (RFC 7661): `UNUSED` of it is left, and no less than was borne.
- Each width's worth of successes adds one, whatever the width. Beyond what was borne at the last refusal the n-th
  further one adds n squared to that (as the convex region of CUBIC, whose width is a cubic of the time): room that
  comes back, or was never short, is found in few round trips.
"""

from __future__ import annotations

from attrs import define, field

CUT = 0.97
"""What a refusal leaves where as much was borne as at the one before."""

YIELD = 0.6
"""What it leaves where less was borne."""

UNUSED = 0.7
"""What it leaves of a width of which more might have been in flight; at most once for each round trip."""


@define(eq=False)
class Width:
    """The rule's state.

    Attributes:
        greatest: What it never exceeds, and begins with.
        value: What it is, from 1 on; a fraction counts for nothing.
    """

    greatest: int
    value: float = field(init=False)
    _borne: int = field(init=False, default=0)  # how many were in flight beside the call that was refused last
    _unrefused: float = field(init=False, default=0.0)  # widths' worths of successes beyond that, since then
    _left: float = field(init=False, default=CUT)
    _last_cut: float = field(init=False, default=float("-inf"))

    def __attrs_post_init__(self) -> None:
        self.value = float(self.greatest)

    def narrow(self, others: int, begun: float, now: float, *, in_use: bool = True) -> None:
        """Take in a refusal.

        Args:
            others: How many calls were in flight beside the refused one.
            begun: When that one began.
            now: The time.
            in_use: Whether the width kept more from being in flight.
        """
        is_first = begun >= self._last_cut  # of those that were in flight together
        if is_first:
            self._last_cut = now
        self._unrefused = 0.0
        if in_use:
            if is_first:
                self._left = YIELD if others < self._borne else CUT
            self.value = max(min(self.value, others * self._left), 1.0)
            # Of a burst that is refused the last one tells how much was borne.
            self._borne = others
        elif is_first:
            self.value = max(self.value * UNUSED, others, 1.0)

    def widen(self) -> None:
        """Take in a success."""
        step = 1 + int(self._unrefused) ** 2
        if self.value >= self._borne:
            self._unrefused += 1 / self.value
        self.value = min(self.value + step / self.value, float(self.greatest))
