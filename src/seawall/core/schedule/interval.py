# SPDX-License-Identifier: Apache-2.0
"""Intervals: every so many seconds, counted from the start."""

from __future__ import annotations

from datetime import datetime, timedelta

from seawall.core.errors import InvalidInputError

FIELD = "properties.pattern"
# A longer one is a mistake, and datetimes end in the year 9999.
_MAX_S = 100 * 366 * 86_400


def check(pattern: str) -> int:
    """Whole seconds; ``InvalidInputError`` says what is wrong."""
    text = pattern.strip()
    if not text.isascii() or not text.isdigit() or len(text) > 10 or not 0 < int(text) <= _MAX_S:
        raise InvalidInputError.of(FIELD, pattern, "must be a whole number of seconds, 1 or more")
    return int(text)


def next_interval(start: datetime, every_s: int, after: datetime) -> datetime:
    """The first of start, start + every, ... strictly after ``after``."""
    if after < start:
        return start
    every = timedelta(seconds=every_s)
    return start + ((after - start) // every + 1) * every
