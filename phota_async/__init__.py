"""phota_async: an asyncio-first client for the Phota image API.

Paid work is never lost and never bought twice unasked, the event loop is never held for more than a few milliseconds,
and memory is bounded by what is decoded, not by what travels.
"""

from phota_async.batch import Outcomes
from phota_async.client import PhotaClient
from phota_async.errors import (
    APIError,
    AuthenticationError,
    BadRequestError,
    ConnectionFailedError,
    ContentModerationError,
    DeadlineExceededError,
    DownloadError,
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
from phota_async.models import BatchResult, EnhancedImage, EnhanceResult, Outcome
from phota_async.records import FolderEvent, FolderFailure, FolderProgress, FolderReport, Price
from phota_async.retry import RetryDetails, RetryPolicy
from phota_async.transport.session import Timeout
from phota_async.version import __version__

__all__ = [
    "APIError",
    "AuthenticationError",
    "BadRequestError",
    "BatchResult",
    "ConnectionFailedError",
    "ContentModerationError",
    "DeadlineExceededError",
    "DownloadError",
    "EnhanceResult",
    "EnhancedImage",
    "FolderEvent",
    "FolderFailure",
    "FolderProgress",
    "FolderReport",
    "GatewayError",
    "ImageError",
    "InsufficientCreditsError",
    "InternalServerError",
    "InvalidRequestError",
    "JournalError",
    "NotFoundError",
    "Outcome",
    "OutcomeUnknownError",
    "Outcomes",
    "OverloadedError",
    "PhotaClient",
    "PhotaError",
    "Price",
    "ProfileNotFoundError",
    "ProfileNotReadyError",
    "RateLimitedError",
    "ResponseFormatError",
    "RetryDetails",
    "RetryPolicy",
    "ServerError",
    "ServiceUnavailableError",
    "Timeout",
    "UnprocessableError",
    "ValidationIssue",
    "__version__",
]
