"""The page around the cards: its head with the policy, totals, what went wrong, the filter. Text in, text out."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Iterator
from hashlib import sha256
from importlib.resources import files

from phota_async.records import State
from phota_async.report.tally import OTHER_REASONS, Tally
from phota_async.report.words import STATES, duration, moment, money, photos, rate, text
from phota_async.version import __version__

GENERATOR = '<meta name="generator" content="phota-async report">'
"""What tells our page from a file that happens to have its name."""

_SHOWN_REASONS = 12
# No request is ever made for it.
_ICON = (
    "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E"
    "%3Cpath fill='%23999' d='M1 2h7v12H1z'/%3E%3Cpath fill='%23c65d21' d='M8 2h7v12H8z'/%3E%3C/svg%3E"
)


def top(folder: str, tally: Tally, ratios: Iterable[int]) -> str:
    """Return everything above the first card."""
    style, script = _own("page.css") + _ratio_rules(ratios), _own("page.js")
    return (
        '<!DOCTYPE html>\n<html lang="en" dir="ltr">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_policy(style, script)}">\n{GENERATOR}\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="referrer" content="no-referrer">\n<meta name="robots" content="noindex">\n'
        f'<meta name="color-scheme" content="light dark">\n<link rel="icon" href="{_ICON}">\n'
        f"<title>{text(folder)}: enhanced photos</title>\n"
        f"<style>{style}</style>\n<script>{script}</script>\n</head>\n<body>\n"
        '<a class="skip" href="#photos">Skip to the photos</a>\n'
        f"{_header(folder, tally)}<main>\n{_attention(tally)}{_filter(tally)}"
        '<h2 class="aside" id="photos" tabindex="-1">Photos</h2>\n<ul class="photos" role="list">\n'
    )


def bottom() -> str:
    """Return everything below the last card."""
    return (
        '</ul>\n<p class="none" hidden>No photo matches.</p>\n</main>\n'
        f"<footer>Written by phota-async {text(__version__)}. Nothing on this page leaves it: it loads only itself and "
        "the folder beside it.</footer>\n</body>\n</html>\n"
    )


def _own(name: str) -> str:
    return files("phota_async.report").joinpath(name).read_text("utf-8")


def _ratio_rules(ratios: Iterable[int]) -> str:
    """Give each shape of picture a class: style attributes would need a weaker policy."""
    return "".join(f".r{ratio}{{--ratio:{ratio / 100}}}\n" for ratio in sorted(ratios))


def _policy(style: str, script: str) -> str:
    # Of 'self' and file: the one holds where the page is served, the other where it is opened from the disk.
    return (
        f"default-src 'none'; img-src 'self' file: data:; style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )


def _hash(content: str) -> str:
    return f"sha256-{b64encode(sha256(content.encode()).digest()).decode()}"


def _header(folder: str, tally: Tally) -> str:
    status = tally.status
    message = f'<p class="message"><bdi>{text(status.message)}</bdi></p>\n' if status.message else ""
    return (
        f'<header>\n<p class="eyebrow">Enhanced photos</p>\n<h1><bdi>{text(folder)}</bdi></h1>\n'
        f'{_when(tally)}<dl class="totals">\n{"".join(_totals(tally))}</dl>\n{_bar(tally)}{message}</header>\n'
    )


def _when(tally: Tally) -> str:
    status = tally.status
    if status.begun is None:
        return ""
    words = [moment(status.begun)]
    if tally.seconds:
        words.append(duration(tally.seconds))
    if status.running:
        words.append("a run is at work now: this is where it stood when the page was written")
    elif status.ended is None:
        words.append("the run did not come to its end")
    return f'<p class="when">{" · ".join(words)}</p>\n'


def _totals(tally: Tally) -> Iterator[str]:
    enhanced = tally.states["enhanced"]
    yield _total("Enhanced", f'{enhanced:,} <span class="quiet">of {photos(tally.photos)}</span>')
    # What a local stand-in enhanced is reckoned like the real thing, and costs nothing.
    spent = "Not charged (local stand-in)" if tally.status.stand_in else "Spent, in all runs"
    yield _total(spent, money(tally.status.spent_usd))
    if tally.landed and tally.seconds:
        yield _total("Photos a minute", rate(tally.landed, tally.seconds))


def _total(label: str, value: str) -> str:
    return f"<div><dt>{label}</dt><dd>{value}</dd></div>\n"


def _bar(tally: Tally) -> str:
    """Draw the states' shares; the same is said in words above."""
    left, parts = 0.0, list[str]()
    for state in STATES:
        if tally.states[state]:
            width = 1000 * tally.states[state] / tally.photos
            parts.append(f'<rect data-state="{state}" x="{left:.2f}" width="{width:.2f}" height="1"/>')
            left += width
    if not parts:
        return ""
    return (
        f'<svg class="bar" viewBox="0 0 1000 1" preserveAspectRatio="none" aria-hidden="true">{"".join(parts)}</svg>\n'
    )


def _attention(tally: Tally) -> str:
    groups = [_group(tally, state) for state, words in STATES.items() if words.meaning and tally.states[state]]
    if not groups:
        return ""
    missing = tally.photos - tally.states["enhanced"]
    return (
        f'<details class="attention" open>\n<summary><h2>{photos(missing)} not enhanced</h2></summary>\n'
        f'<div class="groups">\n{"".join(groups)}</div>\n</details>\n'
    )


def _group(tally: Tally, state: State) -> str:
    words, counted, count = STATES[state], tally.reasons[state], f"{tally.states[state]:,}"
    reasons = "".join(
        f'<li>{_why(state, reason)} <span class="quiet">{photos(times)}</span></li>\n'
        for reason, times in counted.most_common(_SHOWN_REASONS)
    )
    more = len(counted) - _SHOWN_REASONS
    rest = f'<p class="quiet">and {more} more reasons, told with each photo</p>\n' if more > 0 else ""
    listed = f'<ul class="reasons">\n{reasons}</ul>\n{rest}' if reasons else ""
    return (
        f'<div class="group" data-state="{state}">\n<h3>{words.label} <span class="quiet">{count}</span></h3>\n'
        f"<p>{words.meaning} {words.advice}</p>\n{listed}</div>\n"
    )


def _why(state: State, reason: str) -> str:
    if reason == OTHER_REASONS:  # no single text to look for
        return text(reason)
    return f'<button type="button" class="why" data-state="{state}"><bdi>{text(reason)}</bdi></button>'


def _filter(tally: Tally) -> str:
    boxes = "".join(
        f'<label class="choice" data-state="{state}"><input type="checkbox" name="state" value="{state}" '
        f'autocomplete="off"><span>{words.label}</span> <span class="count">{tally.states[state]:,}</span></label>\n'
        for state, words in STATES.items()
        if tally.states[state]
    )
    return (
        '<form class="filter" role="search" aria-label="Filter the photos">\n'
        f'<fieldset><legend class="aside">Show only</legend>\n{boxes}</fieldset>\n'
        '<label class="find"><span class="aside">Find by name, reason or request id</span>'
        '<input type="search" autocomplete="off" spellcheck="false" placeholder="Name, reason, request id"></label>\n'
        f'<output aria-live="polite">{photos(tally.photos)}</output>\n'
        '<button type="reset" hidden>Show all</button>\n</form>\n'
    )
