"""Bytes that grow to a length nobody knows beforehand, and are then handed over without a copy."""

from __future__ import annotations

import io

RESERVED_BYTES = 33 * 2**20
"""Address space, not memory: a page of it counts only once it is written to.

More than 32 MiB, because from there on malloc (glibc's, whose bound moves up to that) maps a block of its own,
untouched, which also grows and shrinks in place.
"""

RESERVED_FROM = 256 * 1024
"""Up to here pieces are joined: copying them costs less than a mapping."""


class Growing:
    """Takes pieces, gives one `bytes`.

    Beyond `RESERVED_FROM` the pieces go straight into their place: `io.BytesIO` hands out its own buffer when nobody
    else holds it. To keep the pieces and join them at the end would hold all of them twice, and would hold the event
    loop for as long as it takes to touch that much fresh memory.
    """

    def __init__(self) -> None:
        """Start with nothing."""
        self._pieces: list[bytes] = []
        self._length = 0
        self._place: io.BytesIO | None = None

    def __len__(self) -> int:
        return self._length

    def append(self, piece: bytes) -> None:
        """Take the next piece."""
        self._length += len(piece)
        if self._place is not None:
            self._place.write(piece)
            return
        self._pieces.append(piece)
        if self._length > RESERVED_FROM:
            self._place = io.BytesIO(bytes(RESERVED_BYTES))
            self._place.writelines(self._pieces)
            self._pieces.clear()

    def take(self) -> bytes:
        """Return all of it, and be empty again."""
        if self._place is None:
            whole = b"".join(self._pieces)
        else:
            self._place.truncate()
            whole = self._place.getvalue()
        self.clear()
        return whole

    def clear(self) -> None:
        """Forget all of it."""
        self._pieces.clear()
        self._place, self._length = None, 0
