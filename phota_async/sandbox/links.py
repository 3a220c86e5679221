"""Signed links to finished images, and the folder that holds them."""

import hashlib
import hmac
import secrets
import time
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit

_PREFIX = "/files/"


class Links:
    """Names, signs and finds the files of one opened sandbox."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._secret = secrets.token_bytes(32)

    def new_file(self, extension: str) -> Path:
        """Reserve an unguessable name."""
        return self._folder / f"{secrets.token_hex(16)}.{extension}"

    def offer(self, file: Path, *, origin: str, lifetime: float) -> str:
        """Make a link that lives so many seconds, rounded down to the second."""
        expires = str(int(time.time() + lifetime))
        query = urlencode({"expires": expires, "signature": self._sign(file.name, expires)})
        return f"{origin}{_PREFIX}{file.name}?{query}"

    def find(self, name: str, *, expires: str, signature: str) -> Path | None:
        """Find the file of a link; None when the link was not signed here or has expired."""
        if not hmac.compare_digest(self._sign(name, expires).encode(), signature.encode(errors="replace")):
            return None
        return self._folder / name if int(expires) > time.time() else None

    def find_url(self, url: str, *, origin: str) -> Path | None:
        """Find the file of a whole link; None also when it leads elsewhere."""
        if not url.startswith(origin + _PREFIX):
            return None
        parts = urlsplit(url)
        query = parse_qs(parts.query)
        expires, signature = query.get("expires", [""])[0], query.get("signature", [""])[0]
        return self.find(parts.path.removeprefix(_PREFIX), expires=expires, signature=signature)

    def _sign(self, name: str, expires: str) -> str:
        message = f"{name}?{expires}".encode(errors="replace")
        return hmac.new(self._secret, message, hashlib.sha256).hexdigest()
