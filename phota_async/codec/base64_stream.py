"""Base64 decoded as it arrives: strict first; a spelling that leaves no doubt about the bytes is accepted and noted."""

from __future__ import annotations

import binascii

from pybase64 import b64decode

from phota_async.codec.growing import Growing

# Short pieces are gathered up to this many characters, so that a dripping answer does not become a million objects.
_GATHERED = 4096

_PREFIX_BYTES = 256  # as far as the comma of a data: URI may stand

# The URL-safe alphabet (RFC 4648, section 5) is put back to the standard one, line breaks (RFC 2045) are dropped.
_STANDARD = bytes.maketrans(b"-_", b"+/")
_PADDING = ord("=")
_SPACE = b" \t\r\n"


class Base64Stream:
    """Takes the characters of one base64 string in pieces; gives the bytes.

    Attributes:
        data: What the string held, once it has ended; empty when there is a problem.
        problem: Why the string is no base64, or None.
        note: How the string deviates from plain base64, or None.
    """

    def __init__(self) -> None:
        """Start with nothing."""
        self.data = b""
        self.problem: str | None = None
        self.note: str | None = None
        self._decoded = Growing()
        self._pending = bytearray()
        self._lenient = False
        self._padded = False

    def feed(self, text: bytes) -> None:
        """Take the next characters."""
        if self.problem is None and text:
            self._pending += _standard(text) if self._lenient else text
            if len(self._pending) >= _GATHERED:
                self._decode(len(self._pending) & ~3)

    def finish(self) -> None:
        """Say that the string has ended."""
        if self.problem is None and (self._is_uri() or _standard(self._pending) != bytes(self._pending)):
            self._turn_lenient()
        if self.problem is None and len(self._pending) % 4:
            # RFC 4648, section 3.2, allows padding to be left out where the length is known.
            self.note = self.note or "base64 without its padding"
            self._pending += b"=" * (-len(self._pending) % 4)
        if self.problem is None:
            self._decode(len(self._pending))
        self.data = self._decoded.take()
        if self.problem is None and not self.data:
            self.problem = "is empty"

    def _decode(self, whole: int) -> None:
        with memoryview(self._pending) as view:
            try:
                piece = b64decode(view[:whole], validate=True)
            except binascii.Error:
                piece = None
        if piece is None:
            self._decode_leniently()
        elif piece and self._padded:
            self._fail("goes on after its padding")
        elif piece:
            self._padded = self._pending[whole - 1] == _PADDING
            del self._pending[:whole]
            self._decoded.append(piece)

    def _decode_leniently(self) -> None:
        if self._lenient:
            self._fail("is not base64")
            return
        self._turn_lenient()
        self._decode(len(self._pending) & ~3)

    def _turn_lenient(self) -> None:
        text = bytes(self._pending)
        if self._is_uri():
            comma = text.find(b",", 0, _PREFIX_BYTES)
            # Of other characters it depends on the cuts how many bytes they are here; a URI has none (RFC 3986).
            text = text[comma + 1 :] if text[:comma].isascii() else text
        self._lenient = True
        self.note = "base64 with line breaks, in the URL-safe alphabet, or as a data: URI"
        self._pending[:] = _standard(text)

    def _is_uri(self) -> bool:
        return not (self._lenient or self._decoded) and bytes(self._pending[:5]).lower() == b"data:"

    def _fail(self, problem: str) -> None:
        self.problem = problem
        self._decoded.clear()
        self._pending.clear()


def _standard(text: bytes | bytearray) -> bytes:
    return bytes(text).translate(_STANDARD, _SPACE)
