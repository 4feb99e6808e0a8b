# SPDX-License-Identifier: Apache-2.0
"""Names in trees are those of Go's strconv.Quote, for every byte string."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seawall.core.errors import DamagedError
from seawall.repository.quoting import json_text, quote, unquote

# Left: the bytes of a name; right: what Go's strconv.Quote prints between its quotation marks.
GO = [
    (b"plain", "plain"),
    (b'a"b', 'a\\"b'),
    (b"a\\b", "a\\\\b"),
    (b"\x07\x08\x0c\n\r\t\x0b", "\\a\\b\\f\\n\\r\\t\\v"),
    (b"\x00\x01\x1f\x7f", "\\x00\\x01\\x1f\\x7f"),
    (b"\xff\xc3", "\\xff\\xc3"),
    (b"\xed\xa0\x80", "\\xed\\xa0\\x80"),
    ("ü日".encode(), "ü日"),
    ("\u00a0\u00ad\u200b\u202e\ufeff".encode(), "\\u00a0\\u00ad\\u200b\\u202e\\ufeff"),
    ("\x80".encode(), "\\u0080"),
    ("\U0001f600\U000e0001".encode(), "\U0001f600\\U000e0001"),
    ("\ufffd".encode(), "\ufffd"),
    (b"'<&>", "'<&>"),
]


@pytest.mark.parametrize(("name", "text"), GO)
def test_names_are_quoted_as_go_does(name: bytes, text: str) -> None:
    assert quote(name) == text
    assert unquote(text) == name


@given(st.binary())
def test_every_byte_string_comes_back(name: bytes) -> None:
    assert unquote(quote(name)) == name


@given(st.binary())
def test_a_quoted_name_is_valid_json_that_reads_back(name: bytes) -> None:
    assert json.loads(json_text(quote(name))) == quote(name)


@given(st.text())
def test_json_text_reads_back_and_escapes_what_go_escapes(text: str) -> None:
    literal = json_text(text)
    assert json.loads(literal) == text
    assert not set(literal) & set("<>&\u2028\u2029")


def test_bytes_that_are_no_text_become_the_replacement_character() -> None:
    assert json_text(b"a\xff\xfeb".decode("utf-8", "surrogateescape")) == '"a\ufffd\ufffdb"'


@pytest.mark.parametrize("text", ["\\", "a\\", "\\q", "\\x1", "\\u12", "\\ud800", "\\U00110000", "\ud800"])
def test_a_text_that_is_no_quoted_name_is_damage(text: str) -> None:
    with pytest.raises(DamagedError):
        unquote(text)
