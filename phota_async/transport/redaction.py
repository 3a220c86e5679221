"""The key blanked out of what the service says: it may repeat what it was sent."""

from __future__ import annotations

import re


class Redaction:
    """Blanks out one key, as it is or in any spelling that JSON has for its characters.

    Attributes:
        reach: How many bytes such a spelling takes at most.
    """

    def __init__(self, key: str) -> None:
        """Blank out ``key``."""
        spellings = (
            rb"(?:\\?%b|\\u00%02x)" % (re.escape(one.encode()), ord(one)) if one != "\\" else rb"(?:\\\\?|\\u005c)"
            for one in key
        )
        # The method alone: a pattern shows what it looks for.
        self._replace = re.compile(b"".join(spellings), re.IGNORECASE).sub
        self.reach = len(r"\u0000") * len(key)

    def of_bytes(self, text: bytes) -> bytes:
        """Return ``text`` without the key."""
        return self._replace(b"***", text)

    def of_text(self, text: str) -> str:
        """Return ``text`` without the key."""
        return self.of_bytes(text.encode(errors="backslashreplace")).decode() if text else text
