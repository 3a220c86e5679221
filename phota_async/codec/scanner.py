"""A push scanner for JSON: bytes go in as they arrive, events come out, and no long string is ever held.

Each state is a method that takes the data and a position in it and returns the position behind what it took. The
scanner keeps the open brackets (one byte each), an escape or scalar that was cut by the end of the data, and nothing
else, whatever the document holds.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Protocol

TOKENS_A_TURN = 1000
"""How many tokens `Scanner.feed` takes before it stops early: about a millisecond."""

MAX_DEPTH = 2**20
"""More open brackets than this are refused; they cost a byte each."""

_KEY_BYTES = 256  # a longer key is none that matters
_SCALAR_BYTES = 1024  # a longer number is checked that far
_ESCAPED_SPAN = 64 * 1024  # how much of a string with escapes is taken as one token

_SPACE = re.compile(rb"[ \t\n\r]*")
_SHORT_KEY = re.compile(rb'"([^"\\]{0,64})"[ \t\n\r]*:')
_SCALAR_CHARACTERS = re.compile(rb"[-+.0-9A-Za-z]*")
_SCALAR = re.compile(rb"true|false|null|NaN|-?Infinity|-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?")
_LONG_NUMBER = re.compile(rb"-?[0-9][-+.0-9eE]*")
_WITH_ESCAPES = re.compile(rb'(?:[^"\\]++|\\["\\/bfnrt]|\\u[0-9a-fA-F]{4})*+')
_CUT_ESCAPE = re.compile(rb"\\(?:u[0-9a-fA-F]{0,3})?")

_QUOTE, _COMMA, _COLON = b'",:'
_OPEN_OBJECT, _CLOSE_OBJECT, _OPEN_LIST, _CLOSE_LIST = b"{}[]"


# Line breaks and other control characters are borne in a string, whether escapes stand beside them or not.
_UNESCAPE: Callable[[str], str] = json.JSONDecoder(strict=False).decode

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class NotJsonError(ValueError):
    """The bytes are not JSON; the message says what was wrong and where."""


class RunOnError(NotJsonError):
    """What follows a value is no part of JSON: the value at ``depth`` may have ended too early."""

    def __init__(self, message: str, depth: int) -> None:
        super().__init__(message)
        self.depth = depth


class Listener(Protocol):
    """Who is told what the scanner finds. ``depth`` counts the brackets around it."""

    def on_key(self, name: str, depth: int) -> None:
        """A member of an object begins."""

    def on_open(self, bracket: int, depth: int) -> None:
        """An object or a list (``bracket`` is the byte) begins, itself at ``depth``."""

    def on_string(self, depth: int) -> None:
        """A string value begins; `on_text` calls and one `on_end` follow."""

    def on_text(self, text: bytes) -> None:
        """A part of that string, with its escapes undone, in UTF-8."""

    def on_scalar(self, depth: int) -> None:
        """A number, true, false or null begins; `on_end` follows."""

    def on_end(self, depth: int) -> None:
        """The value at ``depth`` is complete."""

    keeps_raw: bool
    """Whether `on_raw` is wanted just now."""

    def on_raw(self, raw: bytes) -> None:
        """The bytes that the last event came from, as they stand, so that a listener can keep a value's text."""


class Scanner:
    """Walks one JSON document. Feed it until the end of the data, then `finish`."""

    def __init__(self, listener: Listener) -> None:
        """Tell ``listener`` what is found."""
        self._listener = listener
        self._brackets = bytearray()
        # A function, not a bound method: no reference cycle keeps an abandoned answer's images alive.
        self._step: Callable[[Scanner, bytes, int], int] = Scanner._start
        self._mark = 0  # how much of a byte order mark was seen
        self._cut = b""  # an escape that the end of the data cut
        self._token = bytearray()  # a key or a scalar so far
        self._in_key = False
        self._may_close = False
        self._offset = 0

    def feed(self, data: bytes) -> int:
        """Take ``data`` and return how many bytes of it were taken.

        It stops early after `TOKENS_A_TURN` tokens; the caller gives the event loop a turn and feeds the rest.

        Raises:
            NotJsonError: The bytes are not JSON.
        """
        held = len(self._cut)
        if held:
            data, self._cut = self._cut + data, b""
        position, tokens, length, listener = 0, 0, len(data), self._listener
        while position < length and tokens < TOKENS_A_TURN and not self._cut:
            begun = position
            position = self._step(self, data, position)
            if listener.keeps_raw:
                listener.on_raw(data[begun:position])
            tokens += 1
        taken = (length if self._cut else position) - held
        self._offset += taken
        return taken

    def finish(self) -> None:
        """Say that the data has ended.

        Raises:
            NotJsonError: The document is not complete.
        """
        if self._step == Scanner._scalar and not self._brackets:
            self._end_scalar()
        if self._step != Scanner._after or self._brackets:
            raise NotJsonError(f"the JSON ends too early, after {self._offset} bytes")

    # ---- states

    def _start(self, data: bytes, position: int) -> int:
        # json.loads takes UTF-8 with a byte order mark, which some proxies and servers write.
        if data[position] == _BYTE_ORDER_MARK[self._mark]:
            self._mark += 1
            if self._mark == len(_BYTE_ORDER_MARK):
                self._step = Scanner._value
            return position + 1
        if self._mark:
            raise self._wrong("half a byte order mark", position)
        self._step = Scanner._value
        return position

    def _value(self, data: bytes, position: int) -> int:
        position = _SPACE.match(data, position).end()  # type: ignore[union-attr]  # it matches nothing as well
        if position == len(data):
            return position
        byte = data[position]
        depth = len(self._brackets)
        if byte == _QUOTE:
            self._listener.on_string(depth)
            self._in_key, self._step = False, Scanner._string
            return self._string(data, position + 1)
        if byte in {_OPEN_OBJECT, _OPEN_LIST}:
            return self._open(byte, position)
        if byte == _CLOSE_LIST and self._may_close:
            return self._close(byte, position)
        self._listener.on_scalar(depth)
        self._token.clear()
        self._step = Scanner._scalar
        return position

    def _open(self, byte: int, position: int) -> int:
        if len(self._brackets) >= MAX_DEPTH:
            raise self._wrong("too many open brackets", position)
        self._listener.on_open(byte, len(self._brackets))
        self._brackets.append(byte)
        self._may_close = True
        self._step = Scanner._key if byte == _OPEN_OBJECT else Scanner._value
        return position + 1

    def _close(self, byte: int, position: int) -> int:
        opened = self._brackets.pop()
        if byte != opened + 2:  # in ASCII both closing brackets stand two behind their opening ones
            raise self._wrong("a bracket that closes nothing", position)
        self._step = Scanner._after
        self._listener.on_end(len(self._brackets))
        return position + 1

    def _key(self, data: bytes, position: int) -> int:
        position = _SPACE.match(data, position).end()  # type: ignore[union-attr]
        if position == len(data):
            return position
        byte = data[position]
        if byte == _CLOSE_OBJECT and self._may_close:
            return self._close(byte, position)
        if byte != _QUOTE:
            raise self._wrong("a key was expected", position)
        if whole := _SHORT_KEY.match(data, position):  # as nearly all are: here in one piece, without an escape
            self._listener.on_key(whole[1].decode(errors="replace"), len(self._brackets))
            self._may_close, self._step = False, Scanner._value
            return whole.end()
        self._token.clear()
        self._in_key, self._step = True, Scanner._string
        return position + 1

    def _colon(self, data: bytes, position: int) -> int:
        position = _SPACE.match(data, position).end()  # type: ignore[union-attr]
        if position == len(data):
            return position
        if data[position] != _COLON:
            raise self._wrong("a colon was expected", position)
        self._may_close, self._step = False, Scanner._value
        return position + 1

    def _after(self, data: bytes, position: int) -> int:
        position = _SPACE.match(data, position).end()  # type: ignore[union-attr]
        if position == len(data):
            return position
        byte = data[position]
        if not self._brackets:
            raise self._wrong("something follows the document", position)
        if byte == _COMMA:
            self._may_close = False
            self._step = Scanner._key if self._brackets[-1] == _OPEN_OBJECT else Scanner._value
            return position + 1
        if byte in {_CLOSE_OBJECT, _CLOSE_LIST}:
            return self._close(byte, position)
        raise RunOnError(str(self._wrong("a comma or a closing bracket was expected", position)), len(self._brackets))

    def _string(self, data: bytes, position: int) -> int:
        end = data.find(b'"', position)
        end = len(data) if end < 0 else end
        if data.find(b"\\", position, end) >= 0:
            return self._string_with_escapes(data, position)
        self._text(data[position:end])
        if end == len(data):
            return end
        self._end_string()
        return end + 1

    def _string_with_escapes(self, data: bytes, position: int) -> int:
        end = _WITH_ESCAPES.match(data, position, position + _ESCAPED_SPAN).end()  # type: ignore[union-attr]
        if end > position:
            # Only ASCII matters (base64, known keys); a character that the end of the data cut must not raise.
            text: str = _UNESCAPE(f'"{data[position:end].decode("ascii", "replace")}"')
            self._text(text.encode(errors="surrogatepass"))
            return end
        if _CUT_ESCAPE.fullmatch(data, position):
            self._cut = data[position:]
            return position
        raise self._wrong("a wrong escape in a string", position)

    def _text(self, text: bytes) -> None:
        if not self._in_key:
            self._listener.on_text(text)
        elif len(self._token) < _KEY_BYTES:
            self._token += text[:_KEY_BYTES]

    def _end_string(self) -> None:
        depth = len(self._brackets)
        if self._in_key:
            self._step = Scanner._colon
            self._listener.on_key(self._token.decode(errors="replace"), depth)
        else:
            self._step = Scanner._after
            self._listener.on_end(depth)

    def _scalar(self, data: bytes, position: int) -> int:
        end = _SCALAR_CHARACTERS.match(data, position).end()  # type: ignore[union-attr]
        room = _SCALAR_BYTES + 1 - len(self._token)
        self._token += data[position : min(end, position + room)]
        if end < len(data):
            self._end_scalar()
        return end

    def _end_scalar(self) -> None:
        token = bytes(self._token)
        self._token.clear()
        # The end of a longer number is not looked at.
        if not (_SCALAR if len(token) <= _SCALAR_BYTES else _LONG_NUMBER).fullmatch(token):
            raise self._wrong("a value was expected", 0)
        self._step = Scanner._after
        self._listener.on_end(len(self._brackets))

    def _wrong(self, what: str, position: int) -> NotJsonError:
        return NotJsonError(f"{what} near byte {self._offset + position}")
