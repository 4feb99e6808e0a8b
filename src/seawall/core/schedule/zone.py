# SPDX-License-Identifier: Apache-2.0
"""Wall clocks and instants: what a time of day means on the days when clocks change.

Instants are aware UTC; wall times are naive. In the **gap** of spring a wall time does not exist:
``run_after`` takes the first instant after the gap, ``skip`` takes none. In the **overlap** of autumn it
exists twice: ``once`` takes the first, ``twice`` both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

# More than any change of a clock since zones are laws, but for days that were left out whole (Samoa 2011):
# those are gaps, and a gap needs no looking back.
_LOOK_BACK = timedelta(hours=3)
_SECOND = timedelta(seconds=1)

WallTimes = Callable[[datetime], Iterator[datetime]]
"""Naive wall times strictly after a naive wall time, ascending; ends when there are no more."""


def offset_at(zone: ZoneInfo, instant: datetime) -> timedelta:
    """How far the zone's clocks are ahead of UTC at an instant."""
    return instant.astimezone(zone).utcoffset() or timedelta(0)


def wall_at(zone: ZoneInfo, instant: datetime) -> datetime:
    """What the clocks of the zone show."""
    return instant.astimezone(zone).replace(tzinfo=None)


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
    after: datetime, zone: ZoneInfo, walls: WallTimes, *, dst_gap: str, dst_overlap: str
) -> datetime | None:
    """The first instant strictly after ``after`` whose wall time is one of ``walls``."""
    best: datetime | None = None
    stop: datetime | None = None
    for wall in walls(wall_at(zone, after) - _LOOK_BACK):
        if stop is not None and wall > stop:
            break
        for instant in instants_of(wall, zone, dst_gap=dst_gap, dst_overlap=dst_overlap):
            if instant > after and (best is None or instant < best):
                best = instant
        if best is not None and stop is None:
            if offset_at(zone, best - _LOOK_BACK) == offset_at(zone, best + _LOOK_BACK):
                break
            # Near a change, a later wall time may be an earlier instant.
            stop = wall + _LOOK_BACK
    return best


def next_in_real_time(
    after: datetime, zone: ZoneInfo, walls: Callable[[datetime, timedelta], datetime | None]
) -> datetime | None:
    """The first instant strictly after ``after``, for patterns that run in every real hour.

    ``walls(wall, offset)`` is the next wall time strictly after ``wall`` on a clock that stays at ``offset``.
    Where the zone changes its clocks, the search goes on from the change with the new offset.
    """
    at, offset = after, offset_at(zone, after)
    while True:
        wall = walls((at + offset).replace(tzinfo=None), offset)
        if wall is None:
            return None
        found = wall.replace(tzinfo=UTC) - offset
        change = _first_change(zone, at, found)
        if change is None:
            return found
        # One second earlier, so that a time at the very instant of the change is found.
        at, offset = change - _SECOND, offset_at(zone, change)


def _first_change(zone: ZoneInfo, after: datetime, until: datetime) -> datetime | None:
    """The first change of the zone's offset in (after + 1 s, until], as seen by steps of a day."""
    at = after + _SECOND
    offset = offset_at(zone, at)
    while at < until:
        following = min(at + timedelta(days=1), until)
        if offset_at(zone, following) != offset:
            return _change_between(zone, at, following)
        at = following
    return None


def _change_between(zone: ZoneInfo, before: datetime, after: datetime) -> datetime:
    """The instant of the one change in (before, after], to the second."""
    offset = offset_at(zone, before)
    low, high = int(before.timestamp()), int(after.timestamp())
    while high - low > 1:
        middle = (low + high) // 2
        if offset_at(zone, datetime.fromtimestamp(middle, UTC)) == offset:
            low = middle
        else:
            high = middle
    return datetime.fromtimestamp(high, UTC)
