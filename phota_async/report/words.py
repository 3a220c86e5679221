"""Values as the page shows them. All that is not the page's own words passes through `text`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from html import escape
from types import MappingProxyType

from attrs import frozen

from phota_async.records import LINK_HOURS, State

_MINUTE = 60
_HOUR = 3600
# Emoji and several scripts are spelt with these two; other format characters can make a name look like another one.
_JOINERS = "\u200c\u200d"
_BYTES = range(0xDC80, 0xDD00)  # how Python holds a byte of a file name that is no UTF-8


@frozen
class StateWords:
    """A state in plain words.

    Attributes:
        label: What it is called.
        meaning: What it means for the photo and for the money.
        advice: What to do about it.
    """

    label: str
    meaning: str = ""
    advice: str = ""


STATES: Mapping[State, StateWords] = MappingProxyType(
    {
        "enhanced": StateWords("Enhanced"),
        "failed": StateWords(
            "Failed", "Not charged.", "Run the same command again with --retry-failed to try them once more."
        ),
        "unknown": StateWords(
            "Outcome unknown",
            "These may have been charged: each was sent, and no image came back.",
            "They are left alone unless you run again with --retry-unknown, which buys them again.",
        ),
        "answered": StateWords(
            "Paid, not fetched",
            "Paid for; the images wait to be fetched.",
            f"Run the same command again within {LINK_HOURS} hours of the answer: fetching costs nothing.",
        ),
        "not_attempted": StateWords(
            "Not attempted", "Never sent, not charged.", "Run the same command again to go on with them."
        ),
    }
)
"""In the order in which the page names them."""


def text(value: str) -> str:
    """Return ``value`` for HTML, for attributes too; what does not show as itself is shown as its escape."""
    if not value.isprintable():
        value = "".join(_visible(one) for one in value)
    return escape(value)


def _visible(one: str) -> str:
    if one.isprintable() or one in _JOINERS:
        return one
    if one.isspace() and one >= "\xa0" and one not in "\u2028\u2029":
        return " "  # one of the wider or narrower spaces; screenshots are named with them
    if ord(one) in _BYTES:
        return f"\\x{ord(one) - 0xDC00:02x}"
    return one.encode("unicode_escape").decode()


def money(amount: float) -> str:
    """Return US dollars and cents."""
    return f"${amount:,.2f}"


def photos(count: int) -> str:
    """Return so many photos."""
    return f"{count:,} photo{'' if count == 1 else 's'}"


def duration(seconds: float) -> str:
    """Return how long something took, in the two units that matter."""
    whole = round(seconds)
    if whole < _HOUR:
        parts = (whole // _MINUTE, "min"), (whole % _MINUTE, "s")
    else:
        parts = (whole // _HOUR, "h"), (whole % _HOUR // _MINUTE, "min")
    return " ".join(f"{number} {unit}" for number, unit in parts if number) or "0 s"


def rate(count: int, seconds: float) -> str:
    """Return how many a minute."""
    a_minute = count * _MINUTE / seconds
    return f"{a_minute:.1f}" if a_minute < 10 else f"{a_minute:,.0f}"  # noqa: PLR2004  (a digit where it says something)


def moment(seconds: float) -> str:
    """Return a ``<time>`` in this machine's zone."""
    at = datetime.fromtimestamp(seconds).astimezone()
    return f'<time datetime="{at.isoformat(timespec="seconds")}">{at.day} {at:%B %Y, %H:%M}</time>'
