"""What may go wrong on purpose, and in which order.

When a fault strikes:

  headers - reset="before" - body - reset="during" - [stall, reset="after", status or body]   charged=False
     - photo enhanced and charged -                  [stall, reset="after", status or body]   charged=True
     - answer written - slow, cut, reset="answer"
"""

import math
from collections import deque
from collections.abc import Mapping, Sequence
from random import Random
from types import MappingProxyType
from typing import Literal

from attrs import field, frozen

from .conditions import is_number, is_whole, or_none

Reset = Literal["before", "during", "after", "answer"]
_RESETS = ("before", "during", "after", "answer")
_FINAL_STATUSES = range(200, 600)


def _freeze(headers: Mapping[str, str]) -> Mapping[str, str]:
    return MappingProxyType(dict(headers))


def _no_headers() -> Mapping[str, str]:
    return {}


@frozen(kw_only=True)
class Fault:
    """One misbehaviour of the service; fields may be combined.

    `status`, `code` and `detail` make an answer; `body` is sent in place of its JSON. `headers` and
    `retry_after` (as Retry-After) are added to whatever is answered, a good answer included.
    `stall` is seconds of silence before answering (`math.inf`: until the client or the sandbox closes),
    `slow` the bytes a second of the answer, `cut` the bytes after which the answer ends although its
    Content-Length promises all. `reset` breaks the connection (RST): "before" the body was read, "during" it,
    "after" it, or in the middle of the "answer".
    With `charged` the fault comes after the photo was enhanced and paid for; a good answer that is cut or
    reset in its middle always was. Raises ValueError, naming the field, for a value that cannot be.
    """

    status: int | None = field(
        default=None,
        validator=or_none("a final status (200 to 599)", lambda v: is_whole(v) and v in _FINAL_STATUSES),
    )
    code: str | None = None
    detail: str | None = None
    headers: Mapping[str, str] = field(factory=_no_headers, converter=_freeze, hash=False)
    body: bytes | None = None
    retry_after: float | str | None = None
    reset: Reset | None = field(default=None, validator=or_none(f"one of {_RESETS}", _RESETS.__contains__))
    cut: int | None = field(default=None, validator=or_none("bytes, not negative", is_whole))
    stall: float | None = field(default=None, validator=or_none("seconds, not negative", is_number))
    slow: float | None = field(
        default=None, validator=or_none("bytes a second, finite", lambda v: is_number(v) and 0 < v < math.inf)
    )
    charged: bool = False

    @property
    def replaces_answer(self) -> bool:
        """Whether the answer is this fault's own and not the service's."""
        return self.status is not None or self.body is not None

    @property
    def disturbs_sending(self) -> bool:
        """Whether the answer is not simply sent."""
        return self.cut is not None or self.slow is not None or self.reset == "answer"


NO_FAULT = Fault()


class Script:
    """Faults in the order in which they are due; None stands for a request that goes well."""

    def __init__(self) -> None:
        self._due: deque[Fault | None] = deque()

    def extend(self, faults: Sequence[Fault | None]) -> None:
        """Add to the end; safe from any thread."""
        self._due.extend(faults)

    def take(self) -> tuple[bool, Fault | None]:
        """Tell whether an entry was due, and the entry."""
        return (True, self._due.popleft()) if self._due else (False, None)


def draw(faults: Sequence[Fault], rate: float, random: Random) -> Fault | None:
    """Draw a fault for the given share of calls, None for the rest."""
    if faults and random.random() < rate:
        return random.choice(faults)
    return None
