# SPDX-License-Identifier: Apache-2.0
"""Intervals: every so many seconds, counted from the start."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from seawall.core.errors import InvalidInputError
from seawall.core.schedule.steps import LAST_YEAR, Steps

FIELD = "properties.pattern"
# A longer one is a mistake.
_MAX_S = 100 * 366 * 86_400


@dataclass(frozen=True, slots=True, eq=False)
class IntervalTimes:
    """start, start + every, ..."""

    start: datetime
    every_s: int

    def next(self, after: datetime, _steps: Steps) -> datetime | None:
        """The first strictly after ``after``."""
        if after < self.start:
            return self.start
        every = timedelta(seconds=self.every_s)
        found = self.start + ((after - self.start) // every + 1) * every
        return found if found.year <= LAST_YEAR else None


def check(pattern: str) -> int:
    """Whole seconds; ``InvalidInputError`` says what is wrong."""
    text = pattern.strip()
    if not text.isascii() or not text.isdigit() or len(text) > 10 or not 0 < int(text) <= _MAX_S:
        raise InvalidInputError.of(FIELD, pattern, f"must be a whole number of seconds from 1 to {_MAX_S}")
    return int(text)
