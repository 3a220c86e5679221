"""The request's body: JSON whose one long string is base64, made while it is written, of a length known beforehand."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING

from attrs import field, frozen
from pybase64 import b64encode

from phota_async.images import Photo, RemotePhoto

if TYPE_CHECKING:
    from phota_async.models import EnhanceOptions

# 192 KiB of base64: about 30 µs of encoding between two turns of the event loop.
_PIECE_BYTES = 144 * 1024

_ENCODE = json.JSONEncoder(separators=(",", ":")).encode


@frozen(eq=False)
class RequestBody:
    """What one POST carries. `pieces` may be read again for each attempt."""

    photo: Photo | RemotePhoto
    _prefix: bytes = field(repr=False)
    _suffix: bytes = field(repr=False)

    @classmethod
    def of(cls, photo: Photo | RemotePhoto, options: EnhanceOptions) -> RequestBody:
        """Return the body that asks to enhance ``photo`` with ``options``."""
        rest = _ENCODE(_fields(options)).encode()
        if isinstance(photo, RemotePhoto):
            return cls(photo, b'{"image":' + json.dumps(photo.url).encode(), b"," + rest[1:])
        return cls(photo, b'{"image":"', b'",' + rest[1:])

    @property
    def length(self) -> int:
        """The exact number of bytes that `pieces` gives."""
        encoded = 0 if isinstance(self.photo, RemotePhoto) else 4 * ((self.photo.size + 2) // 3)
        return len(self._prefix) + encoded + len(self._suffix)

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """Give the body in pieces of at most about 192 KiB.

        Raises:
            ImageError: The photo changed after it was opened; the last piece was not given then.
        """
        if isinstance(self.photo, RemotePhoto):
            yield self._prefix + self._suffix
            return
        before, left = self._prefix, self.photo.size
        async for block in self.photo.blocks():
            view = memoryview(block)
            for start in range(0, len(view), _PIECE_BYTES):
                raw = view[start : start + _PIECE_BYTES]
                left -= len(raw)
                yield b"".join((before, b64encode(raw), b"" if left else self._suffix))
                before = b""


def _fields(options: EnhanceOptions) -> dict[str, object]:
    # output_format is always said: the service's default changed by date (release notes v0.2.0). The rest is left out
    # where it says what the service assumes anyway.
    fields: dict[str, object] = {
        "output_format": options.output_format,
        "response_mode": options.response_mode,
        "num_output_images": options.num_output_images,
    }
    if options.prompt is not None:
        fields["prompt"] = options.prompt
    if options.profile_ids:
        fields["profile_ids"] = list(options.profile_ids)
    return fields
