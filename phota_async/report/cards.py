"""One photo as a card of HTML: its pictures under a slider, what became of it, what it cost."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import quote

from attrs import frozen

from phota_async.records import PhotoRecord
from phota_async.report.tally import plain_reason
from phota_async.report.words import STATES, money, text

# A frame that is narrower holds no caption, one that is wider leaves no height; pictures beyond are laid on a mat.
_NARROWEST, _WIDEST = 62, 240
_NOTHING_TO_SHOW = 150


@frozen(kw_only=True)
class Pictures:
    """The pictures of one photo, all of one size.

    Attributes:
        width: In pixels.
        height: In pixels.
        addresses: Where each is: the original, then the enhanced ones; None for one that cannot be shown.
        notes: Why some cannot be shown, in plain words.
    """

    width: int = 0
    height: int = 0
    addresses: tuple[str | None, ...]
    notes: tuple[str, ...] = ()

    @property
    def ratio(self) -> int:
        """Width by height, in hundredths, as far as a frame goes."""
        if not self.height:
            return _NOTHING_TO_SHOW
        return max(_NARROWEST, min(_WIDEST, self._ratio))

    @property
    def matted(self) -> bool:
        """Whether the frame has another shape than the pictures."""
        return bool(self.height) and self._ratio != self.ratio

    @property
    def _ratio(self) -> int:
        return round(100 * self.width / self.height)


def card(record: PhotoRecord, pictures: Pictures, folder: Path) -> str:
    """Return the card; ``folder`` is where the page stands."""
    classes = f"card r{pictures.ratio}{' mat' if pictures.matted else ''}"
    return (
        f'<li class="{classes}" data-state="{record.state}">\n'
        f"{_pair(record, pictures)}"
        f'<div class="line"><h3 class="name"><bdi>{_name(record.name)}</bdi></h3>{_versions(record, pictures)}</div>\n'
        f"{_facts(record)}{_reason(record)}{_notes(pictures)}{_files(record, folder)}"
        "</li>\n"
    )


def _name(name: str) -> str:
    folder, slash, own = name.rpartition("/")
    return f'<span class="dir">{text(folder + slash)}</span>{text(own)}' if slash else text(own)


def _pair(record: PhotoRecord, pictures: Pictures) -> str:
    name, (before, *afters), shown = text(record.name), pictures.addresses, _shown(pictures)
    parts: list[str] = []
    if before:
        parts.append(_image("before", f"{name}, before", before, pictures))
    for number in shown:
        of = f" ({number} of {len(afters)})" if len(afters) > 1 else ""
        classes = "after on" if number == shown[0] else "after"
        parts.append(_image(classes, f"{name}, after{of}", afters[number - 1] or "", pictures))
    if before:
        parts.append('<span class="tag tag-before"></span>\n')
    if shown:
        parts.append('<span class="tag tag-after"></span>\n')
    if before and shown:
        parts.append(_slider(name))
    if not parts:
        parts.append('<p class="empty">No picture to show</p>\n')
    both = " both" if before and shown else ""
    return f'<div class="pair{both}">\n{"".join(parts)}</div>\n'


def _shown(pictures: Pictures) -> list[int]:
    """Return the numbers of the enhanced pictures that there are."""
    return [number for number, address in enumerate(pictures.addresses[1:], 1) if address]


def _image(classes: str, alt: str, address: str, pictures: Pictures) -> str:
    # What is in the page itself needs no waiting for.
    lazy = "" if address.startswith("data:") else ' loading="lazy"'
    size = f'width="{pictures.width}" height="{pictures.height}"'
    return f'<img class="{classes}" alt="{alt}" {size}{lazy} decoding="async" src="{text(address)}">\n'


def _slider(name: str) -> str:
    label = f'aria-label="Before and after: {name}" aria-valuetext="50% before, 50% after"'
    return f'<input class="slider" type="range" min="0" max="100" step="any" value="50" autocomplete="off" {label}>\n'


def _versions(record: PhotoRecord, pictures: Pictures) -> str:
    shown = _shown(pictures)
    if len(shown) < 2:  # noqa: PLR2004  (nothing to choose)
        return ""
    buttons = "".join(
        f'<button type="button" aria-pressed="{"true" if number == shown[0] else "false"}"'
        f' aria-label="Version {number}">{number}</button>'
        for number in shown
    )
    return f'<div class="versions" role="group" aria-label="Enhanced versions of {text(record.name)}">{buttons}</div>'


def _facts(record: PhotoRecord) -> str:
    facts = [f'<span class="state">{STATES[record.state].label}</span>']
    if record.cost_usd:
        facts.append(f'<span class="cost">{money(record.cost_usd)}</span>')
    if record.request_id:
        facts.append(f'<span class="id">request <code>{text(record.request_id)}</code></span>')
    return f'<p class="facts">{" ".join(facts)}</p>\n'


def _reason(record: PhotoRecord) -> str:
    reason = plain_reason(record)
    return f'<p class="reason"><bdi>{text(reason)}</bdi></p>\n' if reason else ""


def _notes(pictures: Pictures) -> str:
    return f'<p class="note">{" ".join(text(note) for note in pictures.notes)}</p>\n' if pictures.notes else ""


def _files(record: PhotoRecord, folder: Path) -> str:
    # Only what lies beside the page: with it, it may be moved or published, and names no other place.
    inside = [output.relative_to(folder) for output in record.outputs if output.is_relative_to(folder)]
    if not inside:
        return ""
    links = " ".join(f'<a href="{_address(path)}"><bdi>{text(path.name)}</bdi></a>' for path in inside)
    return f'<p class="files"><span class="quiet">Full size</span> {links}</p>\n'


def _address(path: Path) -> str:
    # From "./", so that no name can be read as a scheme.
    return text("./" + quote(os.fsencode(path.as_posix())))
