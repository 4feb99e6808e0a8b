# SPDX-License-Identifier: Apache-2.0
"""Wall clocks and instants: what a time of day means on the days when clocks change.

Instants are aware UTC; wall times are naive. In the **gap** of spring a wall time does not exist:
``run_after`` takes the first instant after the gap, ``skip`` takes none. In the **overlap** of autumn it
exists twice: ``once`` takes the first, ``twice`` both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from seawall.core.schedule.steps import HORIZON_YEARS, LAST_YEAR

# No clock was ever moved further: whole days were left out (Samoa 2011) and repeated (Kwajalein 1969).
_NEAR = timedelta(hours=26)
_TICK = timedelta(microseconds=1)
_DAY = timedelta(days=1)

NextWall = Callable[[datetime], datetime | None]
"""The first naive wall time strictly after a naive wall time; None when there are no more."""
NextOnClock = Callable[[datetime, timedelta, datetime], datetime | None]
"""(wall, offset, last) -> the first wall time in (wall, last] on a clock that stays at ``offset``."""


@dataclass(frozen=True, slots=True)
class Change:
    """One change of a zone's clocks."""

    at: datetime
    """The first instant of the new offset."""
    before: timedelta
    after: timedelta


def offset_at(zone: ZoneInfo, instant: datetime) -> timedelta:
    """How far the zone's clocks are ahead of UTC at an instant."""
    return instant.astimezone(zone).utcoffset() or timedelta(0)


def wall_at(zone: ZoneInfo, instant: datetime) -> datetime:
    """What the clocks of the zone show."""
    return instant.astimezone(zone).replace(tzinfo=None, fold=0)


def changes_between(zone: ZoneInfo, first: datetime, last: datetime) -> Iterator[Change]:
    """The changes with first < at <= last."""
    for year in range(first.year, last.year + 1):
        for change in _changes_in(zone, year):
            if first < change.at <= last:
                yield change


def instants_of(wall: datetime, zone: ZoneInfo, *, dst_gap: str, dst_overlap: str) -> list[datetime]:
    """The instants that a wall time stands for: none, one or two."""
    first = wall.replace(tzinfo=zone, fold=0).astimezone(UTC)
    second = wall.replace(tzinfo=zone, fold=1).astimezone(UTC)
    if first == second:
        return [first]
    if wall_at(zone, first) != wall:
        # In a gap the two readings lie on the two sides of the change.
        return [_change_between(zone, second, first)] if dst_gap == "run_after" else []
    return [first, second] if dst_overlap == "twice" else [first]


def next_on_wall(
    after: datetime, zone: ZoneInfo, next_wall: NextWall, *, dst_gap: str, dst_overlap: str
) -> datetime | None:
    """The first instant strictly after ``after`` whose wall time is one of those of ``next_wall``."""
    # Near a change, an earlier wall time may be a later instant: by no more than the clocks move.
    wall: datetime | None = wall_at(zone, after) - _moved_near(zone, after)
    best: datetime | None = None
    stop: datetime | None = None
    while True:
        assert wall is not None
        wall = next_wall(wall)
        if wall is None or (stop is not None and wall > stop):
            return best
        for instant in instants_of(wall, zone, dst_gap=dst_gap, dst_overlap=dst_overlap):
            if instant > after and (best is None or instant < best):
                best = instant
        if best is not None and stop is None:
            moved = _moved_near(zone, best)
            if not moved:
                return best
            stop = wall + moved


def next_in_real_time(
    after: datetime, zone: ZoneInfo, next_wall: NextOnClock, last_year: int | None = None
) -> datetime | None:
    """The first instant strictly after ``after``, for patterns that run in every real hour.

    No later than in ``last_year``, or within the horizon.

    The pattern is followed on a clock that stays as it is, from change to change.
    """
    at = after
    for until, offset in _stretches(zone, after, last_year or after.year + HORIZON_YEARS):
        # The clock is at ``offset`` in [at, until); the first instant of a stretch belongs to it.
        last = (until - _TICK + offset).replace(tzinfo=None)
        wall = next_wall((at + offset).replace(tzinfo=None), offset, last)
        if wall is not None:
            return wall.replace(tzinfo=UTC) - offset
        at = until - _TICK
    return None


def _stretches(zone: ZoneInfo, after: datetime, last_year: int) -> Iterator[tuple[datetime, timedelta]]:
    """(end, offset) of the stretches without a change from ``after`` on; each ends with its year at last."""
    offset = offset_at(zone, after)
    for year in range(after.year, min(last_year, LAST_YEAR) + 1):
        for change in _changes_in(zone, year):
            if change.at > after:
                yield change.at, offset
                offset = change.after
        yield datetime(year + 1, 1, 1, tzinfo=UTC), offset


def _moved_near(zone: ZoneInfo, instant: datetime) -> timedelta:
    """The largest change of the clocks around an instant; 0 when there is none."""
    if zone.key == "UTC":
        return timedelta(0)
    near = [abs(one.after - one.before) for one in changes_between(zone, instant - _NEAR, instant + _NEAR)]
    return max(near, default=timedelta(0))


@lru_cache(maxsize=16_384)
def _changes_in(zone: ZoneInfo, year: int) -> tuple[Change, ...]:
    """The changes of one year UTC, as seen by steps of a day."""
    found = []
    at, end = datetime(year, 1, 1, tzinfo=UTC), datetime(year + 1, 1, 1, tzinfo=UTC)
    # The last instant before the year, so that a change at its very first one is found.
    before, offset = at - _DAY, offset_at(zone, at - timedelta(seconds=1))
    while at < end:
        current = offset_at(zone, at)
        if current != offset:
            found.append(Change(_change_between(zone, before, at), offset, current))
            offset = current
        before, at = at, at + _DAY
    last = end - timedelta(seconds=1)
    if offset_at(zone, last) != offset:
        found.append(Change(_change_between(zone, before, last), offset, offset_at(zone, last)))
    return tuple(found)


def _change_between(zone: ZoneInfo, before: datetime, after: datetime) -> datetime:
    """The instant of the one change in (before, after], to the second."""
    offset = offset_at(zone, before)
    low, high = int(before.timestamp()), int(after.timestamp())
    while high - low > 1:
        middle = (low + high) // 2
        if offset_at(zone, _EPOCH + timedelta(seconds=middle)) == offset:
            low = middle
        else:
            high = middle
    return _EPOCH + timedelta(seconds=high)


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
