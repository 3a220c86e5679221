"""The errors: each a fact about the call, and what it means for the caller's money.

::

    PhotaError
     ├ ImageError(ValueError)               the photo cannot be used; nothing was sent
     ├ ConnectionFailedError                the request never reached the service whole
     ├ OutcomeUnknownError                  sent whole, no complete answer
     ├ DeadlineExceededError(TimeoutError)  the caller's own deadline passed
     ├ OverloadedError                      too many callers are already under way; nothing was sent
     │  └ ClientClosedError(RuntimeError)   the client was closed while a call waited
     ├ DownloadError                        a signed URL could not be fetched
     ├ ResponseFormatError                  a 200 that does not keep the contract
     ├ JournalError                         an output folder's journal is in use, damaged or not ours; nothing was sent
     └ APIError                             any other answer of the service
        ├ BadRequestError 400: InvalidRequestError, ContentModerationError
        ├ AuthenticationError 401, 403
        ├ InsufficientCreditsError 402
        ├ NotFoundError 404: ProfileNotFoundError, ProfileNotReadyError
        ├ UnprocessableError 422
        ├ RateLimitedError 429
        └ ServerError 5xx: InternalServerError 500, ServiceUnavailableError 503, GatewayError 502, 504

Every fact goes to ``super().__init__`` by position, so that errors survive pickling.
"""

from __future__ import annotations

import re
from contextlib import suppress
from typing import TYPE_CHECKING, ClassVar

from attrs import frozen

if TYPE_CHECKING:
    from phota_async.models import EnhancedImage

_OF_ONE_CALL = tuple(f"phota_async.{room}" for room in ("call", "retry", "fetch", "transport.", "codec.", "images."))
"""The rooms whose frames are over when an error leaves the call that they belong to."""

GONE = frozenset({401, 403, 404, 410})
"""How a server says that a link has expired."""

# How many characters of the service's own words the one line that an error prints may hold.
_SHOWN_DETAIL = 300
_SHOWN_WORD = 100


def let_go(error: BaseException | None) -> None:
    """Empty the frames of a call that its error, and those of its earlier attempts, came through.

    They hold the photo and what came of the answer, and lead back to the error: by variables of their own, by tenacity,
    and in a task by `asyncio.timeout`. All that would stay until Python's garbage collector comes by.
    """
    while error is not None:
        trace = error.__traceback__
        while trace is not None:
            # No others: whoever caught it may still be at work, and clearing a frame that waits would end it.
            if trace.tb_frame.f_globals.get("__name__", "").startswith(_OF_ONE_CALL):
                with suppress(RuntimeError):  # it still runs
                    trace.tb_frame.clear()
            trace = trace.tb_next
        error = error.__cause__


def charged_by(status: int) -> bool:
    """Whether an answer of this status may have been paid for.

    What is no status at all counts as a server's failure (RFC 9110, section 15), and of those 500 and 503 alone are the
    service's own refusals.
    """
    return not (300 <= status <= 499 or status in {500, 503})  # noqa: PLR2004


class PhotaError(Exception):
    """Anything that this library raises on purpose.

    Attributes:
        maybe_charged: Whether this call, in any of its attempts, may have been paid for.
        attempts: How many requests were begun before the library gave up; 0 when none was.
        request_id: The service's ``X-Request-Id``, where there was one.
        images: What had arrived intact of an answer that may be paid for.
    """

    maybe_charged: bool = False
    attempts: int = 0
    request_id: str | None = None
    images: tuple[EnhancedImage, ...] = ()

    def __str__(self) -> str:
        """Return one readable line; never a key, never a signed URL's query."""
        notes: list[str] = []
        if self.request_id:
            notes.append(f"request {_shortened(self.request_id, _SHOWN_WORD)}")
        if self.attempts > 1:
            notes.append(f"after {self.attempts} attempts")
        if self.maybe_charged:
            notes.append("may have been charged")
        line = f"{self._message()} ({', '.join(notes)})" if notes else self._message()
        return _readable(line)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"

    def _message(self) -> str:
        return str(self.args[0]) if self.args else type(self).__name__


class ImageError(PhotaError, ValueError):
    """The photo cannot be used: missing, unreadable, empty, or of no accepted format. Nothing was sent."""


class ConnectionFailedError(PhotaError):
    """The request never reached the service whole (name, refusal, TLS, a body cut short): not charged."""


class OutcomeUnknownError(PhotaError):
    """The request went out whole and no complete answer came back: it may have been charged.

    Attributes:
        images: What had arrived intact before the answer broke off.
    """

    maybe_charged = True

    def __init__(self, message: str, request_id: str | None = None, images: tuple[EnhancedImage, ...] = ()) -> None:
        super().__init__(message, request_id, images)
        self.request_id = request_id
        self.images = images


class DeadlineExceededError(PhotaError, TimeoutError):
    """The caller's deadline passed.

    Attributes:
        outcome_unknown: Whether a paid request was in flight at that moment.
        images: What had arrived intact by then.
    """

    def __init__(
        self,
        message: str,
        outcome_unknown: bool = False,  # noqa: FBT001, FBT002  (handed over by position, as pickle does)
        images: tuple[EnhancedImage, ...] = (),
    ) -> None:
        # One argument only: of two, OSError would make an errno and a strerror.
        super().__init__(message)
        self.outcome_unknown = outcome_unknown
        self.images = images
        self.maybe_charged = outcome_unknown


class OverloadedError(PhotaError):
    """``max_queue`` calls already wait for a slot, or with them too many are under way. Nothing was sent."""


class ClientClosedError(OverloadedError, RuntimeError):
    """The client was closed while a call waited, or the session given to it is closed. Nothing was sent."""


class DownloadError(PhotaError):
    """A signed URL could not be fetched. Fetching costs nothing and may be tried again.

    Attributes:
        url: The URL without its query, which holds the signature.
        status: The HTTP status, or None when no answer came or none was asked for.
        transient: Whether it is worth another try.
    """

    def __init__(
        self,
        message: str,
        url: str = "",
        status: int | None = None,
        transient: bool = False,  # noqa: FBT001, FBT002  (pickle hands it back by position)
    ) -> None:
        super().__init__(message, url, status, transient)
        self.url = url
        self.status = status
        self.transient = transient

    @property
    def expired(self) -> bool:
        """Whether the server does not know the link any more."""
        return self.status in GONE

    def _message(self) -> str:
        return f"{self.args[0]}: {_shortened(self.url, _SHOWN_DETAIL)}" if self.url else str(self.args[0])


class ResponseFormatError(PhotaError):
    """The service answered with success, but the answer does not keep the contract. It was most likely charged.

    Attributes:
        images: The images of the same answer that were intact.
    """

    maybe_charged = True

    def __init__(self, message: str, request_id: str | None = None, images: tuple[EnhancedImage, ...] = ()) -> None:
        super().__init__(message, request_id, images)
        self.request_id = request_id
        self.images = images


class JournalError(PhotaError):
    """The journal of an output folder cannot be used: another run has it, it is damaged, or a newer version wrote it.

    Nothing was sent, and the images in the folder were not touched. The message says what to do.
    """


class APIError(PhotaError):
    """The service answered with an error.

    Attributes:
        status: The HTTP status.
        code: The service's own code, such as ``PROFILE_NOT_FOUND``, or None.
        detail: The service's own words, or None.
        request_id: What to tell the service's support, or None.
        retry_after: Seconds that the service asked to wait, or None.
        body: The first bytes of the answer as they came (a key that it repeated is blanked out).
    """

    meaning: ClassVar[str] = "the service refused the request"

    def __init__(  # noqa: PLR0913, PLR0917  (the facts of an error answer; pickle hands them back by position)
        self,
        status: int,
        code: str | None = None,
        detail: str | None = None,
        request_id: str | None = None,
        retry_after: float | None = None,
        body: bytes = b"",
    ) -> None:
        super().__init__(status, code, detail, request_id, retry_after, body)
        self.status = status
        self.code = code
        self.detail = detail
        self.request_id = request_id
        self.retry_after = retry_after
        self.body = body
        self.maybe_charged = charged_by(status)

    def _message(self) -> str:
        words = [f"{self.status}", _shortened(self.code or "", _SHOWN_WORD), "-", self.meaning]
        if self.detail:
            words.append(f": {_shortened(self.detail, _SHOWN_DETAIL)}")
        return " ".join(filter(None, words)).replace(" : ", ": ")


class BadRequestError(APIError):
    """400: the request was understood and refused."""


class InvalidRequestError(BadRequestError):
    """400 INVALID_REQUEST: something in the request is wrong, often the photo."""

    meaning = "the request is invalid"


class ContentModerationError(BadRequestError):
    """400 CONTENT_MODERATION: the photo or the prompt was refused by moderation."""

    meaning = "refused by content moderation"


class AuthenticationError(APIError):
    """401 or 403: the key is missing, wrong, or may not do this."""

    meaning = "the API key was not accepted (check PHOTA_API_KEY)"


class InsufficientCreditsError(APIError):
    """402: the account's credits have run out."""

    meaning = "the account has no credits left"


class NotFoundError(APIError):
    """404: no such thing."""

    meaning = "not found"


class ProfileNotFoundError(NotFoundError):
    """404 PROFILE_NOT_FOUND: no profile of this account has that id."""

    meaning = "no such profile"


class ProfileNotReadyError(NotFoundError):
    """404 PROFILE_NOT_READY: the profile exists but is still being trained."""

    meaning = "the profile is not ready yet"


@frozen
class ValidationIssue:
    """One thing that a 422 complains about.

    Attributes:
        loc: Where, for example ``("body", "num_output_images")``.
        msg: What is wrong, in the service's words.
        type: The service's name for that kind of mistake.
    """

    loc: tuple[str | int, ...]
    msg: str
    type: str


class UnprocessableError(APIError):
    """422: the request does not fit the schema.

    Attributes:
        errors: What the service complains about, as a tuple of `ValidationIssue`.
    """

    meaning = "the request does not fit the service's schema"

    def __init__(  # noqa: PLR0913, PLR0917  (as APIError)
        self,
        status: int,
        code: str | None = None,
        detail: str | None = None,
        request_id: str | None = None,
        retry_after: float | None = None,
        body: bytes = b"",
        errors: tuple[ValidationIssue, ...] = (),
    ) -> None:
        super().__init__(status, code, detail, request_id, retry_after, body)
        self.args = (*self.args, errors)
        self.errors = errors


class RateLimitedError(APIError):
    """429: too many requests; `retry_after` says when to come back, if the service did."""

    meaning = "too many requests"


class ServerError(APIError):
    """5xx. Only 500 and 503 are the service's own refusals; behind any other the image may have been made."""

    meaning = "the service failed"


class InternalServerError(ServerError):
    """500: the service failed."""


class ServiceUnavailableError(ServerError):
    """503: the service has no capacity just now."""

    meaning = "the service is unavailable"


class GatewayError(ServerError):
    """502 or 504: something between here and the service gave up; the image may have been made."""

    meaning = "a gateway gave up waiting for the service"


# They are about the account, not the photo: a batch starts nothing new after one of them.
ACCOUNT_ERRORS = (AuthenticationError, InsufficientCreditsError)

_BY_CODE: dict[tuple[int, str | None], type[APIError]] = {
    (400, "INVALID_REQUEST"): InvalidRequestError,
    (400, "CONTENT_MODERATION"): ContentModerationError,
    (404, "PROFILE_NOT_FOUND"): ProfileNotFoundError,
    (404, "PROFILE_NOT_READY"): ProfileNotReadyError,
}
_BY_STATUS: dict[int, type[APIError]] = {
    400: BadRequestError,
    401: AuthenticationError,
    402: InsufficientCreditsError,
    403: AuthenticationError,
    404: NotFoundError,
    422: UnprocessableError,
    429: RateLimitedError,
    500: InternalServerError,
    502: GatewayError,
    503: ServiceUnavailableError,
    504: GatewayError,
}


def error_class(status: int, code: str | None) -> type[APIError]:
    """Return the class of the tree for an answer's status and code."""
    known = _BY_CODE.get((status, code)) or _BY_STATUS.get(status)
    if known is not None:
        return known
    return ServerError if 500 <= status <= 599 else APIError  # noqa: PLR2004  (the 5xx range)


def without_query(url: str) -> str:
    """Return what may be shown of a URL: no user, no query (a signed link's query is its secret), no fragment."""
    bare = re.split(r"[?#]", url, maxsplit=1)[0]
    return re.sub(r"^([a-z][a-z0-9+.-]*:)?//[^/]*@", r"\1//", bare, flags=re.IGNORECASE)


def _shortened(text: str, longest: int) -> str:
    # As it is shown: an escape is up to ten times as long as the letter that it stands for.
    line = _readable(" ".join(text.split())[: longest + 1])
    return line if len(line) <= longest else line[: longest - 1] + "…"


def _readable(text: str) -> str:
    # What a terminal would act on, or what cannot be printed at all, is shown as its escape.
    line = " ".join(text.split())
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in line)
