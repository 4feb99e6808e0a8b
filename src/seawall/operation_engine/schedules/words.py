# SPDX-License-Identifier: Apache-2.0
"""The small rules that triggers and scheduled operations share."""

from __future__ import annotations

from seawall.core.errors import InvalidInputError

_LONGEST = 255


def checked_name(name: str) -> str:
    """A name that a person can read and find again; ``InvalidInputError`` otherwise."""
    if not isinstance(name, str) or not name.strip() or len(name) > _LONGEST or not name.isprintable():
        raise InvalidInputError.of(
            "name", name, f"must be 1 to {_LONGEST} printable characters, not only spaces"
        )
    return name


def whole_number(field: str, value: object, least: int, most: int) -> int:
    """A whole number within its limits; ``InvalidInputError`` names the field and both."""
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise InvalidInputError.of(field, value, f"must be a whole number from {least} to {most}")
    return value
