"""The values that callers hold: results, images, outcomes, batches. All are frozen."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypedDict, overload

from attrs import Attribute, field, frozen
from attrs.validators import instance_of
from yarl import URL

from phota_async import files, formats
from phota_async.errors import without_query

if TYPE_CHECKING:
    import os
    from pathlib import Path

_UNKNOWN_TYPE = "application/octet-stream"


def _bulk(data: bytes | bytearray) -> str:
    return f"<{len(data)} bytes>"


def _source(source: object) -> str:
    if isinstance(source, bytes | bytearray):
        return _bulk(source)
    text = str(source) if isinstance(source, URL) else source
    # A signed link's query is its secret.
    if isinstance(text, str) and text.startswith(("http://", "https://")):
        return without_query(text)
    return repr(source)


OUTPUT_FORMATS = ("png", "jpg")
RESPONSE_MODES = ("bytes", "urls")
MAX_OUTPUT_IMAGES = 4


def _text_or_none(_: object, attribute: Attribute[Any], value: object) -> None:
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{attribute.name} must be a string or None, not {value!r}")


def _few(_: object, attribute: Attribute[Any], value: object) -> None:
    if type(value) is not int or not 1 <= value <= MAX_OUTPUT_IMAGES:  # True is no count
        raise ValueError(f"{attribute.name} must be a whole number from 1 to {MAX_OUTPUT_IMAGES}, not {value!r}")


def _one_of(*words: str) -> Callable[[object, Attribute[Any], object], None]:
    def check(_: object, attribute: Attribute[Any], value: object) -> None:
        if value not in words:
            raise ValueError(f"{attribute.name} must be one of {', '.join(map(repr, words))}, not {value!r}")

    return check


def _ids(value: Iterable[str]) -> tuple[str, ...]:
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        raise ValueError(f"profile_ids must be a list of strings, not {value!r}")
    ids = tuple(value)
    if not all(isinstance(one, str) and one for one in ids):
        raise ValueError(f"profile_ids must hold strings that are not empty, not {ids!r}")
    return ids


@frozen(kw_only=True)
class EnhanceOptions:
    """What is asked of the service beside the photo. Bounds and words are those of its OpenAPI document, v0.5.0.

    Raises:
        ValueError: A value is out of bounds; the message names the field.
    """

    prompt: str | None = field(default=None, validator=_text_or_none)
    profile_ids: tuple[str, ...] = field(default=(), converter=_ids)
    num_output_images: int = field(default=1, validator=_few)
    output_format: str = field(default="png", validator=_one_of(*OUTPUT_FORMATS))
    response_mode: str = field(default="bytes", validator=_one_of(*RESPONSE_MODES))

    def identity(self) -> str:
        """Return what they go by in journals and stores: two that ask for the same images are the same text."""
        asked = {
            "prompt": self.prompt or None,
            "profile_ids": self.profile_ids,
            "num_output_images": self.num_output_images,
            "output_format": self.output_format,
        }
        return json.dumps(asked, sort_keys=True)


class FolderKeywords(TypedDict, total=False):
    """The options of a folder's calls as keywords; ``timeout`` is in seconds, for each photo."""

    prompt: str | None
    profile_ids: Iterable[str]
    num_output_images: int
    output_format: Literal["png", "jpg"]
    timeout: float | None


class EnhanceKeywords(FolderKeywords, total=False):
    """The options of a call as keywords."""

    response_mode: Literal["bytes", "urls"]


@frozen
class EnhancedImage:
    """One image as the service made it.

    Attributes:
        data: The encoded image, whole.
    """

    data: bytes = field(repr=_bulk, validator=instance_of(bytes))

    @property
    def media_type(self) -> str:
        """The type told from the bytes, such as ``image/png``; ``application/octet-stream`` if it is none known."""
        return formats.media_type(self.data[: formats.HEAD_BYTES]) or _UNKNOWN_TYPE

    @property
    def extension(self) -> str:
        """The file extension that fits the bytes, with its dot: ``.png``, ``.jpg``; ``.bin`` if none is known."""
        return formats.EXTENSIONS.get(self.media_type, ".bin")

    async def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the image and return where it is: whole under that name, or not at all.

        Args:
            path: A file name (a file that stands there is replaced), or a directory (one that exists, or a name that
                ends with a slash), in which the image gets a name made from its content. Missing parents are made.

        Raises:
            OSError: The disk is full, the place cannot be written to, and so on; nothing is left behind.
        """
        return await files.save(path, self.data, self.extension)


@frozen
class EnhanceResult:
    """What one paid call brought.

    Attributes:
        images: The images, in the service's order; empty with ``response_mode="urls"``.
        download_urls: Signed links, which live 24 hours; empty with ``response_mode="bytes"``.
        known_subjects: How often each known subject was recognised.
        request_id: The service's ``X-Request-Id``.
        attempts: How many requests it took.
        elapsed: Seconds from the call to the result, waiting included.
    """

    images: tuple[EnhancedImage, ...] = ()
    # A link is a bearer token while it lives.
    download_urls: tuple[str, ...] = field(default=(), repr=lambda urls: f"<{len(urls)} signed>")
    known_subjects: Mapping[str, int] = field(factory=dict[str, int], hash=False)
    request_id: str | None = None
    attempts: int = 1
    elapsed: float = 0.0


@frozen
class Outcome:
    """What became of one photo of a batch: exactly one of ``result`` and ``error`` is set.

    Attributes:
        index: The photo's place in the input, from 0.
        source: The photo as it was handed in.
        result: What the call brought, or None.
        error: Why it failed, or None.
        attempted: False when the batch had stopped before this photo's turn (`AuthenticationError`,
            `InsufficientCreditsError`, ``outcomes.stop()``, a client that was closed), or when ``photos`` raised
            instead of giving it; ``error`` tells which, and nothing was sent.
    """

    index: int
    source: Any = field(repr=_source)
    result: EnhanceResult | None = None
    error: Exception | None = None
    attempted: bool = True

    def __attrs_post_init__(self) -> None:
        if (self.result is None) == (self.error is None):
            raise ValueError("exactly one of result and error must be given")

    @property
    def ok(self) -> bool:
        """Whether there is a result."""
        return self.result is not None


@frozen
class BatchResult(Sequence[Outcome]):
    """The outcomes of a batch, in input order."""

    outcomes: tuple[Outcome, ...] = field(converter=tuple[Outcome, ...])

    @overload
    def __getitem__(self, index: int) -> Outcome: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Outcome, ...]: ...
    def __getitem__(self, index: int | slice) -> Outcome | tuple[Outcome, ...]:
        return self.outcomes[index]

    def __len__(self) -> int:
        return len(self.outcomes)

    @property
    def succeeded(self) -> tuple[Outcome, ...]:
        """The outcomes with a result."""
        return tuple(outcome for outcome in self.outcomes if outcome.ok)

    @property
    def failed(self) -> tuple[Outcome, ...]:
        """The outcomes with an error, those never attempted included."""
        return tuple(outcome for outcome in self.outcomes if not outcome.ok)

    @property
    def results(self) -> tuple[EnhanceResult, ...]:
        """Every result in input order.

        Raises:
            ExceptionGroup: Some failed; the results of the others are in `succeeded`.
        """
        self.raise_for_failures()
        return tuple(outcome.result for outcome in self.outcomes if outcome.result is not None)

    def raise_for_failures(self) -> None:
        """Do nothing when all succeeded.

        Raises:
            ExceptionGroup: The failures, each error once.
        """
        if errors := list(_distinct(outcome.error for outcome in self.failed)):
            raise ExceptionGroup(f"{len(self.failed)} of {len(self)} photos were not enhanced", errors)


def _distinct(errors: Iterable[Exception | None]) -> Iterable[Exception]:
    # Photos that were never attempted share the error that stopped their batch.
    return {id(error): error for error in errors if error is not None}.values()
