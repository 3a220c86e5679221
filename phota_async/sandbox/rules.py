"""Who may buy what, looked at in this order: key, schema, prompt, profiles, credits, photo."""

from collections.abc import Mapping

from .answers import Refusal, unprocessable
from .settings import Settings
from .submission import Submission
from .validation import Order

# USD cents an output image (release notes v0.6.0).
_CENTS, _CENTS_WITH_PROFILE = 12, 15


def price(order: Order) -> int:
    """Tell the price of an order in cents."""
    return order.num_output_images * (_CENTS_WITH_PROFILE if order.profile_ids else _CENTS)


def check(settings: Settings, key: str | None, submission: Submission) -> Order:
    """Return the order that the submission holds, or raise the Refusal it deserves."""
    if not key or (settings.keys is not None and key not in settings.keys):
        raise Refusal(401, "Missing or invalid API key")
    if submission.order is None:
        raise unprocessable(submission.violations)
    _check_prompt(settings, submission.order)
    _check_profiles(settings.profiles, submission.order)
    if settings.credits is not None and price(submission.order) > round(settings.credits * 100, 6):
        raise Refusal(402, "Insufficient credits")
    if submission.flaw is not None:
        raise unusable(submission.flaw)
    return submission.order


def no_room(retry_after: float | str | None) -> Refusal:
    """Refuse a call beyond the capacity."""
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    return Refusal(503, "The service is at capacity", "SERVICE_UNAVAILABLE", headers)


def unusable(flaw: str) -> Refusal:
    """Refuse a photo that cannot be read."""
    return Refusal(400, flaw, "INVALID_REQUEST")


def _check_prompt(settings: Settings, order: Order) -> None:
    prompt = (order.prompt or "").lower()
    if any(word.lower() in prompt for word in settings.moderated_words):
        raise Refusal(400, "The prompt was refused by content moderation", "CONTENT_MODERATION")


def _check_profiles(profiles: Mapping[str, str] | None, order: Order) -> None:
    if profiles is None:
        return
    for profile in order.profile_ids:
        if profile not in profiles:
            raise Refusal(404, f"Profile {profile} was not found", "PROFILE_NOT_FOUND")
        if profiles[profile] != "READY":
            raise Refusal(404, f"Profile {profile} is {profiles[profile]}, not READY", "PROFILE_NOT_READY")
