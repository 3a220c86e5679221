"""Content-Encoding undone in bounded steps: aiohttp's own decompression has no limit on what comes out."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Any

STEP_BYTES = 128 * 1024
"""How much comes out at once: well under a millisecond of work."""

_GZIP, _ZLIB, _RAW = 31, 15, -15  # zlib's window bits for each framing
_GZIP_MAGIC = b"\x1f\x8b"


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
        self._machine: Any = None  # zlib does not name its type
        self._whole = False  # a member has ended
        self._head = b""  # the first byte behind it, until a second one tells what follows
        self._ignoring = False

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
        more = bool(data) and not self._ignoring
        while more:
            if self._machine is None:
                data = self._begin(data)
            if self._machine is None:
                return
            piece = self._step(data)
            # A full piece may have left output behind even when all input is taken.
            data = self._machine.unconsumed_tail
            more = bool(data) or len(piece) == STEP_BYTES
            if self._machine.eof:
                data, self._machine, self._whole = self._machine.unused_data, None, True
                more = bool(data)
            if piece:
                yield piece

    def finish(self) -> None:
        """Say that the data has ended.

        Raises:
            EncodingError: The compressed data is cut short.
        """
        if self.expands and (self._machine is not None or not self._whole):
            raise EncodingError("the compressed answer is cut short")

    def _begin(self, data: bytes) -> bytes:
        """Begin a member if ``data`` holds one, and return what is to be unpacked."""
        if not self._whole:
            if self._encoding != "deflate":
                self._machine = zlib.decompressobj(_GZIP)
            else:
                # zlib-framed by the book (RFC 9110, section 8.4.1.2), raw from some servers.
                self._machine = zlib.decompressobj(_ZLIB if data[0] & 0x0F == zlib.DEFLATED else _RAW)
            return data
        # A gzip body may be several members in a row (RFC 1952, section 2.2); anything else behind one means nothing.
        head = (self._head + data)[: len(_GZIP_MAGIC)]
        if self._encoding == "deflate" or not _GZIP_MAGIC.startswith(head):
            self._ignoring = True
        elif len(head) < len(_GZIP_MAGIC):
            self._head = head
        else:
            data, self._head = self._head + data, b""
            self._machine = zlib.decompressobj(_GZIP)
        return data

    def _step(self, data: bytes) -> bytes:
        try:
            piece: bytes = self._machine.decompress(data, STEP_BYTES)
        except zlib.error as error:
            problem = f"the compressed answer is damaged: {error}"
        else:
            return piece
        raise EncodingError(problem)
