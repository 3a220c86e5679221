"""What a visitor is told: what to do about it, never the key, an address or the service's own words."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping
from typing import Any

from attrs import field, frozen

from phota_async import (
    AuthenticationError,
    BadRequestError,
    DeadlineExceededError,
    EnhancedImage,
    EnhanceResult,
    ImageError,
    InsufficientCreditsError,
    OverloadedError,
    PhotaClient,
    PhotaError,
    RateLimitedError,
    ResponseFormatError,
    ServiceUnavailableError,
    UnprocessableError,
)

logger = logging.getLogger("backend")

SOON = 30
"""Seconds until a visitor may come back when nobody says otherwise: about half of what a call takes."""

LATEST = 3600

EVENT_STREAM = {"Content-Type": "text/event-stream", "Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
"""The headers of server-sent events; the last one keeps nginx from holding them back."""


@frozen
class Answer:
    """An error as HTTP."""

    status: int
    text: str
    headers: Mapping[str, str] = field(factory=dict[str, str])


def answer_to(error: Exception) -> Answer:
    """Return what a visitor is told of an error; who runs the backend reads the rest in the log."""
    match error:
        case ImageError():
            return Answer(415, "This is not a JPEG, PNG, WebP or HEIC photo.")
        case BadRequestError() | UnprocessableError():
            return Answer(422, "This photo, or what was asked of it, is not accepted.")
        case OverloadedError() | RateLimitedError() | ServiceUnavailableError() if not error.maybe_charged:
            asked = getattr(error, "retry_after", None) or SOON
            return Answer(503, "Busy just now.", {"Retry-After": str(math.ceil(min(asked, LATEST)))})
        case AuthenticationError() | InsufficientCreditsError():
            return Answer(503, "Not available just now.")  # for us to mend, and nobody else's business
        case DeadlineExceededError():
            return Answer(504, "It took too long.")
        case _:
            return Answer(502, "The photo was not enhanced.")


def document(error: PhotaError) -> dict[str, Any]:
    """Return the body of the answer. The request id opens nothing, and helps whoever is asked about it."""
    return {"error": answer_to(error).text, "request_id": error.request_id}


async def image_of(phota: PhotaClient, result: EnhanceResult) -> EnhancedImage:
    """Return the image that was paid for, also where the service handed over its link instead.

    Raises:
        PhotaError: There is neither, or the link cannot be fetched.
    """
    if result.images:
        return result.images[0]
    if not result.download_urls:
        raise ResponseFormatError("the answer has neither an image nor a link", result.request_id)
    try:
        return await phota.download(result.download_urls[0])
    except PhotaError as error:
        error.request_id = result.request_id  # what the service can be asked about
        raise


def note(error: Exception) -> None:
    """Log an error: one line, with what it means for the money and without the key; a bug with its traceback."""
    ours = isinstance(error, AuthenticationError | InsufficientCreditsError)
    bug = None if isinstance(error, PhotaError | OSError) else error
    level = logging.ERROR if ours or bug else logging.WARNING
    logger.log(level, "%s: %s", type(error).__name__, error, exc_info=bug)


def event(name: str, data: object) -> bytes:
    """Return a server-sent event."""
    return f"event: {name}\ndata: {json.dumps(data)}\n\n".encode()
