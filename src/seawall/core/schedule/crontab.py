# SPDX-License-Identifier: Apache-2.0
"""Crontab patterns: five fields, Vixie's rule for days, and the ``@`` words.

cronsim evaluates the fields; the zone rules are ours. A pattern with a wildcard or a step in its hour field
runs in every real hour; any other is a wall-clock time.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import lru_cache

from cronsim import CronSim, CronSimError

from seawall.core.errors import InvalidInputError
from seawall.core.schedule.zone import WallTimes

ALIASES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_ANY = datetime(2024, 1, 1)  # noqa: DTZ001 - wall times are naive
FIELD = "properties.pattern"


def check(pattern: str) -> str:
    """The five fields of a pattern; ``InvalidInputError`` says what is wrong with it."""
    fields = ALIASES.get(pattern.strip().lower(), pattern).split()
    if len(fields) != 5:
        raise InvalidInputError.of(
            FIELD, pattern, "must have five fields: minute hour day-of-month month day-of-week"
        )
    text = " ".join(fields)
    try:
        CronSim(text, _ANY)
    except CronSimError as error:
        raise InvalidInputError.of(FIELD, pattern, f"is misspelt or never fires: {error}") from error
    return text


def is_hourly(fields: str) -> bool:
    """Whether it runs in every real hour."""
    hour = fields.split()[1]
    return "*" in hour or "/" in hour


def walls(fields: str) -> WallTimes:
    """The wall times of the pattern; they end when it never fires again (cronsim looks 50 years ahead)."""

    def after(wall: datetime) -> Iterator[datetime]:
        yield from CronSim(fields, wall)

    return after


def next_wall(fields: str, wall: datetime, _offset: timedelta) -> datetime | None:
    """The next wall time on a clock that never changes."""
    return _next(fields, wall.replace(second=0, microsecond=0))


@lru_cache(maxsize=4096)
def _next(fields: str, minute: datetime) -> datetime | None:
    # cronsim looks at minutes strictly after the one given.
    return next(iter(CronSim(fields, minute)), None)
