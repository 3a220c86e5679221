"""From a request's bytes to an order and a photo: work for a thread, since bodies are megabytes."""

import hashlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

from attrs import field, frozen

from .photos import UnusablePhotoError, decode_base64
from .validation import Order, Violation, read_order


@frozen(kw_only=True)
class Submission:
    """An order, or the violations in its place; and its photo, or the flaw in its place."""

    order: Order | None = None
    violations: tuple[Violation, ...] = ()
    photo: BytesIO = field(factory=BytesIO, repr=False)
    sha256: str | None = None
    flaw: str | None = None


def read_submission(body: bytearray, content_type: str, find: Callable[[str], Path | None]) -> Submission:
    """Read a body; `find` gives the file behind a link of this sandbox."""
    order = read_order(body, content_type)
    if not isinstance(order, Order):
        return Submission(violations=order)
    try:
        photo = _photo(order.image, find)
    except UnusablePhotoError as error:
        return Submission(order=order, flaw=str(error))
    return Submission(order=order, photo=photo, sha256=hashlib.sha256(photo.getbuffer()).hexdigest())


def _photo(image: str, find: Callable[[str], Path | None]) -> BytesIO:
    if not image.lower().startswith(("http://", "https://")):
        return decode_base64(image)
    file = find(image)
    if file is None:
        raise UnusablePhotoError("image is a link that the sandbox does not serve; it fetches none from elsewhere")
    return BytesIO(file.read_bytes())
