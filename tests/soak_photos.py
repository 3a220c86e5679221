"""Photos of which each shows a number that survives the sandbox, so that every image tells whose it is."""

from __future__ import annotations

import io

from PIL import Image

_CELLS = 8
_NUMBERS = 2**32


def scrambled(index: int) -> int:
    """Return a number of 32 bits that no other index has, and that looks like none of its neighbours."""
    return index * 2_654_435_761 % _NUMBERS


def photo_of(number: int, padding: bytes) -> bytes:
    """Make a photo of black and white cells that show a number and its complement."""
    bits = number << 32 | (~number % _NUMBERS)
    file = io.BytesIO()
    cells = bytes(255 * (bits >> place & 1) for place in range(_CELLS**2))
    Image.frombytes("L", (_CELLS, _CELLS), cells).save(file, "PNG")
    return file.getvalue() + padding


def shown(image: bytes) -> int | None:
    """Return the number that an image shows, or None."""
    with Image.open(io.BytesIO(image)) as opened:
        grey = opened.convert("L").tobytes()
        size = opened.width
    step = size // _CELLS
    places = (divmod(place, _CELLS) for place in range(_CELLS**2))
    cells = [grey[(row * step + step // 2) * size + column * step + step // 2] > 127 for row, column in places]
    bits = sum(cell << place for place, cell in enumerate(cells))
    number = bits >> 32
    return number if bits % _NUMBERS == ~number % _NUMBERS else None
