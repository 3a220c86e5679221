"""The answer decoded as it arrives: images into bytes, the small rest through json and the strict converter.

Sans-IO: bytes in, values out. What is kept is what is decoded, a few KiB of text, and nothing of what travelled.
"""

from __future__ import annotations

import json
from typing import Any

from attrs import frozen

from phota_async.codec.base64_stream import Base64Stream
from phota_async.codec.scanner import NotJsonError, RunOnError, Scanner
from phota_async.codec.shapes import ShapeError, structure
from phota_async.codec.whole import Answer, decoded

__all__ = ["MAX_IMAGES", "MAX_KEPT_BYTES", "Answer", "AnswerDecoder", "AnswerError"]

MAX_KEPT_BYTES = 64 * 1024
"""How long the text of one small member (links, known subjects) may be."""

MAX_IMAGES = 256
"""How many images are taken, many times what can be asked for: each takes some hundred bytes, however short it is."""

_DECODE = json.JSONDecoder().decode

_IMAGES = "images"
_LINKS = "download_urls"
_SUBJECTS = "known_subjects"


class AnswerError(ValueError):
    """The answer does not keep the contract; the message names the place as a JSON path."""


class AnswerDecoder:
    """Feed it the body of a 200 as it arrives, then `finish` it."""

    def __init__(self) -> None:
        """Start with nothing."""
        self._walk = _Walk()
        self._scanner = Scanner(self._walk)
        self._begun = False
        self._whole: Answer | None = None
        self._first = b""  # what that was decoded from, in case more follows

    def feed(self, data: bytes) -> int:
        """Take ``data`` and return how much of it was taken; the caller feeds the rest after a turn of its loop.

        Raises:
            AnswerError: It is not JSON, or holds more images than `MAX_IMAGES`.
        """
        if not self._begun:
            self._begun, self._whole = bool(data), decoded(data)
            if self._whole is not None:
                self._first = data
                return len(data)
        try:
            if self._whole is not None and data:
                self._walk_first()
            return self._scanner.feed(data)
        except NotJsonError as error:
            problem = f"not JSON: {error}"
            if isinstance(error, RunOnError):
                self._walk.drop_ended(error.depth)
        raise AnswerError(problem)

    def _walk_first(self) -> None:
        data, self._first, self._whole = self._first, b"", None
        while data:
            data = data[self._scanner.feed(data) :]

    @property
    def intact(self) -> tuple[bytes, ...]:
        """Every image that is complete and undamaged by now."""
        if self._whole is not None:
            return self._whole.images
        return tuple(image.data for image in self._walk.complete if image and not image.problem)

    def finish(self) -> Answer:
        """Return what the answer held.

        Raises:
            AnswerError: It is cut short, is no object, holds an image that is no base64, or neither image nor link.
        """
        if self._whole is not None:
            return self._whole
        try:
            self._scanner.finish()
        except NotJsonError as error:
            problem = str(error)
        else:
            return self._walk.answer()
        raise AnswerError(problem)


@frozen(eq=False)
class _Subjects:
    counts: dict[str, int] | None = None


class _Walk:
    """Listens to the scanner: sends image strings to be decoded and keeps the text of the small members."""

    def __init__(self) -> None:
        self.keeps_raw = False
        self.complete: list[Base64Stream | None] = []  # None for an element that is no string
        self._current: Base64Stream | None = None
        self._member: str | None = None
        self._is_object = False
        self._in_images = False
        self._ending = False
        self._text = bytearray()
        self._kept: dict[str, bytes | None] = {}  # None for a text that was too long

    def drop_ended(self, depth: int) -> None:
        """Forget the value that has just ended there: what follows tells that it may have ended too early."""
        if depth == 2 and self._in_images:  # noqa: PLR2004  (as on_string)
            self.complete.pop()

    def on_open(self, bracket: int, depth: int) -> None:
        if depth == 0:
            self._is_object = bracket == ord("{")
        elif depth == 1:
            if self._member == _IMAGES and bracket == ord("["):
                self._forget()
                self._in_images = True
            else:
                self._keep()

    def on_key(self, name: str, depth: int) -> None:
        if depth == 1:
            self._member = name

    def on_string(self, depth: int) -> None:
        if depth == 2 and self._in_images:  # noqa: PLR2004  (an element of a member of the document)
            self._current = Base64Stream()
        elif depth == 1:
            self._keep()

    def on_text(self, text: bytes) -> None:
        if self._current is not None:
            self._current.feed(text)

    def on_scalar(self, depth: int) -> None:
        if depth == 1:
            self._keep()

    def on_end(self, depth: int) -> None:
        if depth == 1:
            self._in_images = False
            self._ending = self.keeps_raw
        elif depth == 2 and self._in_images:  # noqa: PLR2004
            if len(self.complete) == MAX_IMAGES:
                raise AnswerError(f"$.images holds more than {MAX_IMAGES} elements")
            if self._current is not None:
                self._current.finish()
            self.complete.append(self._current)
            self._current = None

    def on_raw(self, raw: bytes) -> None:
        if len(self._text) <= MAX_KEPT_BYTES:
            # White space before a value does not count: whether it is seen at all depends on how the data is cut.
            self._text += (raw if self._text else raw.lstrip())[: MAX_KEPT_BYTES + 1]
        if self._ending and self._member is not None:
            self._kept[self._member] = bytes(self._text) if len(self._text) <= MAX_KEPT_BYTES else None
            self.keeps_raw = self._ending = False

    def _keep(self) -> None:
        if self._is_object and self._member in {_IMAGES, _LINKS, _SUBJECTS}:
            if self._member == _IMAGES:
                self._forget()
            self._text.clear()
            self.keeps_raw = True

    def _forget(self) -> None:
        # The last of several members of one name counts, as in json.loads.
        self.complete = []
        self._kept.pop(_IMAGES, None)

    # ---- the end

    def answer(self) -> Answer:
        if not self._is_object:
            raise AnswerError("$ is not an object")
        notes: list[str] = []
        images = tuple(self._images(notes))
        links = self._links(notes, required=not images)
        if not images and not links:
            raise AnswerError("$ holds neither images nor links")
        return Answer(images, links, self._subjects(notes), tuple(notes))

    def _images(self, notes: list[str]) -> list[bytes]:
        if (self._kept.get(_IMAGES, b"null") or b"").strip() != b"null":
            raise AnswerError("$.images is not a list")
        images: list[bytes] = []
        for index, image in enumerate(self.complete):
            problem = "is not a string" if image is None else image.problem
            if image is None or problem:
                raise AnswerError(f"$.images[{index}] {problem}")
            if image.note:
                notes.append(f"$.images[{index}] came as {image.note}")
            images.append(image.data)
        return images

    def _links(self, notes: list[str], *, required: bool) -> tuple[str, ...]:
        try:
            links = self._value(_LINKS)
            return () if links in (None, []) else tuple(structure(links, list[str]))
        except ShapeError as error:
            problem = f"$.download_urls: {error}"
        if required:
            raise AnswerError(problem)
        notes.append(problem)
        return ()

    def _subjects(self, notes: list[str]) -> dict[str, int]:
        try:
            subjects = self._value(_SUBJECTS)
            return {} if subjects is None else structure(subjects, _Subjects).counts or {}
        except ShapeError as error:
            notes.append(f"$.known_subjects: {error}")
        return {}

    def _value(self, member: str) -> Any:
        text = self._kept.get(member, b"null")
        if text is None:
            raise ShapeError(f"longer than {MAX_KEPT_BYTES} bytes")
        try:
            return _DECODE(text.decode(errors="surrogatepass"))
        except (ValueError, RecursionError) as error:
            problem = str(error)
        raise ShapeError(problem)
