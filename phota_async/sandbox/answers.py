"""What the service answers: errors in the shapes of the schema, and the 200 that is written to disk."""

import binascii
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import field, frozen

from .faults import Fault
from .validation import Violation

# The codes that the schema names for a status; a bare scripted status says the first of them.
_CODES = {400: "INVALID_REQUEST", 404: "NOT_FOUND", 500: "INTERNAL_ERROR", 503: "SERVICE_UNAVAILABLE"}
_UNPROCESSABLE = 422
# Three bytes become four characters, so pieces of the text join without padding between them.
_PIECE = 3 * 2**18
_JSON = {"Content-Type": "application/json"}


@frozen(kw_only=True)
class Answer:
    """An answer ready to be sent: bytes, or part of a file, opened for each piece so that none stays open."""

    status: int
    body: bytes | Path = field(repr=False)
    size: int
    offset: int = 0
    headers: Mapping[str, str]

    def read(self, start: int, size: int) -> bytes:
        """Read a piece of the body; blocks."""
        if isinstance(self.body, bytes):
            return self.body[start : start + size]
        with self.body.open("rb") as file:
            file.seek(self.offset + start)
            return file.read(size)


class Refusal(Exception):  # noqa: N818 - an answer of the service, not a defect of ours
    """The service says no."""

    def __init__(
        self, status: int, detail: object, code: str | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(status, detail, code, headers)
        self.status, self.detail, self.code, self.headers = status, detail, code, headers or {}


def unprocessable(violations: Iterable[Violation]) -> Refusal:
    """Refuse a body that breaks the schema."""
    return Refusal(_UNPROCESSABLE, [violation.as_json() for violation in violations])


def refusal(refused: Refusal, request_id: str) -> Answer:
    """Write the refusal; bodies with a code repeat the request id, as the schema has it."""
    document: dict[str, Any] = {"detail": refused.detail}
    if refused.code is not None:
        document |= {"code": refused.code, "request_id": request_id}
    return _json(refused.status, document, refused.headers)


def faulty(fault: Fault, request_id: str) -> Answer:
    """Write the answer of a fault that has its own."""
    status = fault.status or 200
    if fault.body is not None:
        return Answer(status=status, body=fault.body, size=len(fault.body), headers=_JSON)
    detail: object = fault.detail or f"scripted {status}"
    if status == _UNPROCESSABLE and fault.detail is None:
        detail = [Violation(("body",), "scripted 422", "value_error").as_json()]
    return refusal(Refusal(status, detail, fault.code or _CODES.get(status)), request_id)


def write_images(
    target: Path, images: Sequence[Path], known_subjects: Mapping[str, Any], headers: Mapping[str, str]
) -> Answer:
    """Write the images as base64 into an answer on disk, a piece at a time, and remove them; blocks."""
    with target.open("wb") as body:
        body.write(b'{"images": [')
        for place, image in enumerate(images):
            body.write(b', "' if place else b'"')
            with image.open("rb") as file:
                while piece := file.read(_PIECE):
                    body.write(binascii.b2a_base64(piece, newline=False))
            body.write(b'"')
            image.unlink()
        rest = json.dumps({"download_urls": [], "known_subjects": known_subjects})
        body.write(b"], " + rest[1:].encode())
        return Answer(status=200, body=target, size=body.tell(), headers={**_JSON, **headers})


def with_links(links: Sequence[str], known_subjects: Mapping[str, Any], headers: Mapping[str, str]) -> Answer:
    """Name the links, and no images."""
    return _json(200, {"images": [], "download_urls": links, "known_subjects": known_subjects}, headers)


def _json(status: int, document: Mapping[str, Any], headers: Mapping[str, str] = _JSON) -> Answer:
    body = json.dumps(document).encode()
    return Answer(status=status, body=body, size=len(body), headers={**_JSON, **headers})
