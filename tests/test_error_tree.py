"""The tree of errors: drawn as in the contract, pickled whole, one readable line each."""

from __future__ import annotations

import pickle
import traceback
from typing import Any

import pytest

import phota_async
from phota_async import (
    APIError,
    AuthenticationError,
    BadRequestError,
    ConnectionFailedError,
    ContentModerationError,
    DeadlineExceededError,
    DownloadError,
    EnhancedImage,
    GatewayError,
    ImageError,
    InsufficientCreditsError,
    InternalServerError,
    InvalidRequestError,
    JournalError,
    NotFoundError,
    OutcomeUnknownError,
    OverloadedError,
    PhotaError,
    ProfileNotFoundError,
    ProfileNotReadyError,
    RateLimitedError,
    ResponseFormatError,
    ServerError,
    ServiceUnavailableError,
    UnprocessableError,
    ValidationIssue,
)
from phota_async.errors import ACCOUNT_ERRORS, error_class, without_query

PARENTS: dict[type[PhotaError], tuple[type[BaseException], ...]] = {
    PhotaError: (Exception,),
    ImageError: (PhotaError, ValueError),
    ConnectionFailedError: (PhotaError,),
    OutcomeUnknownError: (PhotaError,),
    DeadlineExceededError: (PhotaError, TimeoutError),
    OverloadedError: (PhotaError,),
    JournalError: (PhotaError,),
    DownloadError: (PhotaError,),
    ResponseFormatError: (PhotaError,),
    APIError: (PhotaError,),
    BadRequestError: (APIError,),
    InvalidRequestError: (BadRequestError,),
    ContentModerationError: (BadRequestError,),
    AuthenticationError: (APIError,),
    InsufficientCreditsError: (APIError,),
    NotFoundError: (APIError,),
    ProfileNotFoundError: (NotFoundError,),
    ProfileNotReadyError: (NotFoundError,),
    UnprocessableError: (APIError,),
    RateLimitedError: (APIError,),
    ServerError: (APIError,),
    InternalServerError: (ServerError,),
    ServiceUnavailableError: (ServerError,),
    GatewayError: (ServerError,),
}
IMAGES = (EnhancedImage(b"\x89PNG\r\n\x1a\nrest"),)
ISSUES = (ValidationIssue(("body", 0), "wrong", "type_error"),)
SAMPLES: list[PhotaError] = [
    PhotaError("p"),
    PhotaError(),
    ImageError("a.jpg is empty"),
    ConnectionFailedError("c"),
    OutcomeUnknownError("o", "r-1", IMAGES),
    OutcomeUnknownError("o"),
    DeadlineExceededError("d", True),  # noqa: FBT003
    DeadlineExceededError("d"),
    OverloadedError("16 calls wait"),
    JournalError("another run is writing to out"),
    DownloadError("gone", "https://a.example/i.png", 403, True),  # noqa: FBT003
    DownloadError("gone"),
    ResponseFormatError("f", "r-2", IMAGES),
    UnprocessableError(422, None, "body.x: wrong", "r-4", None, b"{}", ISSUES),
    *(
        kind(status, "CODE", "its words", "r-3", 1.5, b"body")
        for kind, status in [
            (APIError, 418),
            (BadRequestError, 400),
            (InvalidRequestError, 400),
            (ContentModerationError, 400),
            (AuthenticationError, 401),
            (InsufficientCreditsError, 402),
            (NotFoundError, 404),
            (ProfileNotFoundError, 404),
            (ProfileNotReadyError, 404),
            (UnprocessableError, 422),
            (RateLimitedError, 429),
            (ServerError, 599),
            (InternalServerError, 500),
            (ServiceUnavailableError, 503),
            (GatewayError, 502),
        ]
    ),
]


def facts(error: PhotaError) -> dict[str, Any]:
    names = ["maybe_charged", "attempts", "request_id", "images", "outcome_unknown", "url", "transient", "errors"]
    names += ["status", "code", "detail", "retry_after", "body", "args"]
    return {name: getattr(error, name) for name in names if hasattr(error, name)}


def test_an_error_holds_what_it_was_given_and_nothing_else() -> None:
    assert facts(OutcomeUnknownError("o", "r-1", IMAGES)) == {
        "maybe_charged": True,
        "attempts": 0,
        "request_id": "r-1",
        "images": IMAGES,
        "args": ("o", "r-1", IMAGES),
    }
    assert facts(ResponseFormatError("f", "r-2", IMAGES)) == {
        "maybe_charged": True,
        "attempts": 0,
        "request_id": "r-2",
        "images": IMAGES,
        "args": ("f", "r-2", IMAGES),
    }
    late = {"attempts": 0, "request_id": None, "args": ("d",)}
    assert facts(DeadlineExceededError("d", True, IMAGES)) == {  # noqa: FBT003
        "maybe_charged": True,
        "outcome_unknown": True,
        "images": IMAGES,
        **late,
    }
    assert facts(DeadlineExceededError("d")) == {
        "maybe_charged": False,
        "outcome_unknown": False,
        "images": (),
        **late,
    }
    gone = {"maybe_charged": False, "attempts": 0, "request_id": None, "images": ()}
    assert facts(DownloadError("gone", "https://a.example/i", 403, True)) == {  # noqa: FBT003
        **gone,
        "url": "https://a.example/i",
        "status": 403,
        "transient": True,
        "args": ("gone", "https://a.example/i", 403, True),
    }
    assert facts(DownloadError("gone")) == {
        **gone,
        "url": "",
        "status": None,
        "transient": False,
        "args": ("gone", "", None, False),
    }


@pytest.mark.parametrize(("kind", "status"), [(APIError, 418), (UnprocessableError, 422), (ServerError, 503)])
def test_an_answers_error_holds_what_it_was_given_and_nothing_else(kind: type[APIError], status: int) -> None:
    given: dict[str, Any] = {
        "status": status,
        "code": "C",
        "detail": "words",
        "request_id": "r-3",
        "retry_after": 1.5,
        "body": b"body",
    }
    issues: dict[str, Any] = {"errors": ISSUES} if kind is UnprocessableError else {}
    held = {"maybe_charged": False, "attempts": 0, "images": (), **given, **issues}
    assert facts(kind(*given.values(), *issues.values())) == {**held, "args": (*given.values(), *issues.values())}
    nothing: dict[str, Any] = {"code": None, "detail": None, "request_id": None, "retry_after": None, "body": b""}
    empty = dict.fromkeys(issues, ())
    bare = {"maybe_charged": False, "attempts": 0, "images": (), "status": status, **nothing, **empty}
    assert facts(kind(status)) == {**bare, "args": (status, *nothing.values(), *empty.values())}


@pytest.mark.parametrize(("length", "shown"), [(300, "b" * 300), (301, f"{'b' * 299}…"), (302, f"{'b' * 299}…")])
def test_words_are_shown_up_to_a_bound(length: int, shown: str) -> None:
    assert str(BadRequestError(400, None, "b" * length)) == f"400 - the service refused the request: {shown}"


def test_the_tree_is_as_drawn() -> None:
    assert {kind: kind.__bases__ for kind in PARENTS} == PARENTS
    public = {getattr(phota_async, name) for name in phota_async.__all__}
    errors = {kind for kind in public if isinstance(kind, type) and issubclass(kind, BaseException)}
    assert errors == set(PARENTS)


def test_there_is_a_sample_of_every_kind() -> None:
    assert {type(error) for error in SAMPLES} == set(PARENTS)


@pytest.mark.parametrize("error", SAMPLES, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_every_fact_survives_pickling(error: PhotaError, protocol: int) -> None:
    error = pickle.loads(pickle.dumps(error))  # noqa: S301  (a copy, so that the samples stay as they are)
    error.attempts, error.maybe_charged = 3, True
    copy = pickle.loads(pickle.dumps(error, protocol))  # noqa: S301
    assert type(copy) is type(error)
    assert facts(copy) == facts(error)
    assert str(copy) == str(error)


@pytest.mark.parametrize("error", SAMPLES, ids=lambda error: type(error).__name__)
def test_every_error_is_one_readable_line(error: PhotaError) -> None:
    for line in (str(error), repr(error), traceback.format_exception_only(error)[-1].rstrip("\n")):
        assert line
        assert len(line.splitlines()) == 1


def test_the_line_tells_what_a_reader_wants_to_know() -> None:
    error = ServiceUnavailableError(503, "OVERLOADED", "try\n  again", "r-9", 2.0)
    assert str(error) == "503 OVERLOADED - the service is unavailable: try again (request r-9)"
    error.attempts = 1
    assert str(error).endswith("(request r-9)")
    error.attempts = 2
    assert str(error).endswith("(request r-9, after 2 attempts)")
    error.attempts, error.maybe_charged = 4, True
    assert str(error).endswith("(request r-9, after 4 attempts, may have been charged)")
    assert repr(error) == f"ServiceUnavailableError({str(error)!r})"
    assert str(APIError(418)) == "418 - the service refused the request"
    assert str(PhotaError()) == "PhotaError"
    assert str(PhotaError("p")) == "p"
    assert str(DownloadError("gone", "https://a.example/b")) == "gone: https://a.example/b"
    assert str(DownloadError("gone")) == "gone"
    long = DownloadError("gone", f"https://a.example/{'b' * 70_000}")
    assert str(long) == f"gone: https://a.example/{'b' * (299 - 18)}…"
    assert len(long.url) > 70_000


def test_a_long_detail_is_shortened_in_the_line_and_kept_beside_it() -> None:
    error = BadRequestError(400, None, "word " * 1000)
    assert len(str(error)) < 400
    assert str(error).endswith("…")
    assert error.detail == "word " * 1000


@pytest.mark.parametrize(
    ("error", "charged"),
    [
        (ImageError("i"), False),
        (ConnectionFailedError("c"), False),
        (OverloadedError("o"), False),
        (DownloadError("d"), False),
        (OutcomeUnknownError("o"), True),
        (ResponseFormatError("r"), True),
        (DeadlineExceededError("d"), False),
        (DeadlineExceededError("d", outcome_unknown=True), True),
        (APIError(302), False),
        (BadRequestError(400), False),
        (InsufficientCreditsError(402), False),
        (RateLimitedError(429), False),
        (InternalServerError(500), False),
        (ServiceUnavailableError(503), False),
        (GatewayError(502), True),
        (GatewayError(504), True),
        (ServerError(501), True),
    ],
    ids=repr,
)
def test_every_error_tells_whether_it_may_have_been_charged(error: PhotaError, charged: bool) -> None:  # noqa: FBT001
    assert error.maybe_charged is charged
    assert ("may have been charged" in str(error)) is charged


def test_nothing_was_attempted_before_someone_says_so() -> None:
    assert {error.attempts for error in SAMPLES} == {0}


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "INVALID_REQUEST", InvalidRequestError),
        (400, "?", BadRequestError),
        (403, "x", AuthenticationError),
        (404, "PROFILE_NOT_READY", ProfileNotReadyError),
        (500, "INVALID_REQUEST", InternalServerError),
        (505, None, ServerError),
        (304, None, APIError),
        (499, None, APIError),
        (600, None, APIError),
    ],
)
def test_an_answers_class(status: int, code: str | None, kind: type[APIError]) -> None:
    assert error_class(status, code) is kind


def test_account_errors_are_those_that_stop_a_batch() -> None:
    stopping = {status for status in range(300, 600) if issubclass(error_class(status, None), ACCOUNT_ERRORS)}
    assert stopping == {401, 402, 403}


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://a.example/b/c.png?signature=s#f", "https://a.example/b/c.png"),
        ("https://a.example/#secret", "https://a.example/"),
        ("https://a.example/b?c=1?d#e?f", "https://a.example/b"),
        ("https://user:pass@a.example/b?c", "https://a.example/b"),
        ("HTTP://user@a.example", "HTTP://a.example"),
        ("//user@a.example/b", "//a.example/b"),
        ("https://a.example/user@b", "https://a.example/user@b"),
        ("https://u:p@ss@a.example/", "https://a.example/"),
        ("not a url?x", "not a url"),
        ("", ""),
    ],
)
def test_what_is_shown_of_a_url_holds_no_secret(url: str, shown: str) -> None:
    assert without_query(url) == shown


def test_a_deadline_is_a_timeout_and_not_a_system_error_with_a_number() -> None:
    error = DeadlineExceededError("the deadline passed")
    assert isinstance(error, TimeoutError)
    assert error.errno is None
    assert DeadlineExceededError("the deadline passed", outcome_unknown=True).errno is None
    assert error.args[0] == "the deadline passed"
