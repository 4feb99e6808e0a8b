# SPDX-License-Identifier: Apache-2.0
"""A budget of counted steps: no pattern can make an evaluation take for ever, on any machine.

Counted, not timed: the same pattern is refused everywhere or nowhere.
"""

from __future__ import annotations

from datetime import datetime

# One evaluation: every day of the horizon can be a period, and be looked at.
MOST = 80_000
# The spans of one exclusion in one month.
MOST_IN_MONTH = 40_000
# Finding all the times of a rule with COUNT, once.
MOST_TO_COUNT = 120_000
# What is not due within so many years is taken to be never due.
HORIZON_YEARS = 100
# datetimes end in the year 9999; nothing is due near there.
LAST_YEAR = 9900


class TooCostlyError(Exception):
    """The budget is used up. Never leaves this package: it becomes bad input of the pattern."""


class Steps:
    """What is left of a budget."""

    __slots__ = ("left",)

    def __init__(self, most: int = MOST) -> None:
        self.left = most

    def take(self, count: int = 1) -> None:
        """Use some; ``TooCostlyError`` when there is not enough left."""
        self.left -= count
        if self.left < 0:
            raise TooCostlyError("the evaluation takes too many steps")


def horizon(year: int) -> datetime:
    """The last wall time that an evaluation from a year on looks at."""
    return datetime(min(year + HORIZON_YEARS, LAST_YEAR), 12, 31, 23, 59, 59)  # noqa: DTZ001 - a wall time
