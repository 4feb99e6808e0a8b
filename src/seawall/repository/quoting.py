# SPDX-License-Identifier: Apache-2.0
"""File names in trees: any bytes, as the text that Go's ``strconv.Quote`` makes of them, within JSON.

``quote`` and ``unquote`` are exact inverses for every byte string. ``json_text`` writes a string literal with
the escapes that Go's encoder uses, so that others who write the same node get the same bytes.
"""

from __future__ import annotations

import re
from typing import Final

from seawall.core.errors import DamagedError

_PLAIN: Final = re.compile(r"[ !#-%'-;=?-\[\]-~]*")  # printable ASCII without " \ < > &
_LETTERS: Final = {7: "a", 8: "b", 9: "t", 10: "n", 11: "v", 12: "f", 13: "r", 34: '"', 92: "\\"}
_VALUES: Final = {letter: number for number, letter in _LETTERS.items()} | {"'": 39}
_ESCAPE: Final = re.compile(
    r"\\(?:([abfnrtv\\'\"])|x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-3][0-7]{2}))|\\"
)
_JSON_SHORT: Final = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
_JSON_ODD: Final = re.compile('[\x00-\x1f"\\\\<>&\u2028\u2029\ud800-\udfff]')


def _quote_letter(letter: str) -> str:
    number = ord(letter)
    if number in _LETTERS:
        return "\\" + _LETTERS[number]
    if 0xDC80 <= number <= 0xDCFF:  # a byte that is no UTF-8
        return f"\\x{number - 0xDC00:02x}"
    if letter.isprintable():
        return letter
    if number < 0x20 or number == 0x7F:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def quote(name: bytes) -> str:
    """The quoted text of a name, without the outer quotation marks."""
    text = name.decode("utf-8", "surrogateescape")
    if _PLAIN.fullmatch(text):
        return text
    return "".join(map(_quote_letter, text))


def _unquote_escape(match: re.Match[str]) -> str:
    letter, byte, short, long, octal = match.groups()
    if letter is not None:
        return chr(_VALUES[letter])
    if byte is not None or octal is not None:
        number = int(byte, 16) if byte is not None else int(octal, 8)
        return chr(number) if number < 0x80 else chr(0xDC00 + number)
    if short is None and long is None:
        raise DamagedError("a name in a tree has a backslash that begins no known escape")
    number = int(short or long, 16)
    if number > 0x10FFFF or 0xD800 <= number <= 0xDFFF:
        raise DamagedError(f"a name in a tree has an escape for U+{number:X}, which is no character")
    return chr(number)


def unquote(text: str) -> bytes:
    """The name that a quoted text stands for; ``DamagedError`` if it is not one."""
    if "\\" in text:
        text = _ESCAPE.sub(_unquote_escape, text)
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise DamagedError(f"a name in a tree cannot be encoded: {error}") from None


def _json_letter(match: re.Match[str]) -> str:
    letter = match[0]
    if "\ud800" <= letter <= "\udfff":
        return "\ufffd"
    return _JSON_SHORT.get(letter) or f"\\u{ord(letter):04x}"


def json_text(text: str) -> str:
    """A JSON string literal; bytes that are no UTF-8 (lone surrogates) become U+FFFD, as in Go."""
    if _PLAIN.fullmatch(text):
        return f'"{text}"'
    return f'"{_JSON_ODD.sub(_json_letter, text)}"'
