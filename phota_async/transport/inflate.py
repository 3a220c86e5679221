"""Content-Encoding undone in bounded steps: aiohttp's own decompression has no limit on what comes out."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

STEP_BYTES = 128 * 1024
"""How much comes out at once: well under a millisecond of work."""

_GZIP, _ZLIB, _RAW = 31, 15, -15  # zlib's window bits for each framing


class EncodingError(ValueError):
    """The body is compressed in a way that is not known, or damaged."""


class Inflater:
    """Undoes ``Content-Encoding`` piece by piece."""

    def __init__(self, encoding: str) -> None:
        """Prepare for an encoding.

        Raises:
            EncodingError: It is none of identity, gzip and deflate.
        """
        self._encoding = encoding.strip().lower() or "identity"
        if self._encoding not in {"identity", "gzip", "x-gzip", "deflate"}:
            raise EncodingError(f"the answer is compressed as {encoding.strip()[:40]!r}, which was not asked for")
        self._machine = None if self._encoding == "deflate" else zlib.decompressobj(_GZIP)

    @property
    def expands(self) -> bool:
        """Whether more may come out than goes in."""
        return self._encoding != "identity"

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Give what ``data`` holds, in steps of at most `STEP_BYTES` when it is compressed.

        Raises:
            EncodingError: The data is damaged.
        """
        if not self.expands:
            yield data
            return
        if self._machine is None:
            # "deflate" is zlib-framed by the book (RFC 9110, section 8.4.1.2), raw from some servers.
            self._machine = zlib.decompressobj(_ZLIB if data[0] & 0x0F == zlib.DEFLATED else _RAW)
        more = True
        while more:
            try:
                piece = self._machine.decompress(data, STEP_BYTES)
            except zlib.error as error:
                problem = f"the compressed answer is damaged: {error}"
                break
            data = self._machine.unconsumed_tail
            # A full piece may have left output behind even when all input is taken.
            more = bool(data) or len(piece) == STEP_BYTES
            if piece:
                yield piece
        else:
            return
        raise EncodingError(problem)

    def finish(self) -> None:
        """Say that the data has ended.

        Raises:
            EncodingError: The compressed data is cut short.
        """
        if self.expands and (self._machine is None or not self._machine.eof):
            raise EncodingError("the compressed answer is cut short")
