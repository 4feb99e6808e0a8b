# SPDX-License-Identifier: Apache-2.0
"""The due times of a schedule: strictly ascending aware UTC instants within [start_at, end_at]."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta
from functools import lru_cache, partial

from seawall.core.schedule import calendar, crontab, interval
from seawall.core.schedule.time_properties import TimeSchedule
from seawall.core.schedule.zone import next_in_real_time, next_on_wall

_TICK = timedelta(microseconds=1)


@lru_cache(maxsize=8192)
def next_after(schedule: TimeSchedule, after: datetime) -> datetime | None:
    """The first due time strictly after an instant; None when there is no more."""
    after = max(after, schedule.start_at - _TICK)
    found = _next(schedule, after)
    end = schedule.last_at
    return None if found is None or (end is not None and found > end) else found


def times_between(
    schedule: TimeSchedule, after: datetime, through: datetime, *, limit: int = 10_000
) -> list[datetime]:
    """Due times with after < t <= through, the first ``limit`` of them."""
    found: list[datetime] = []
    at = next_after(schedule, after)
    while at is not None and at <= through and len(found) < limit:
        found.append(at)
        at = next_after(schedule, at)
    return found


def count_between(
    schedule: TimeSchedule, after: datetime, through: datetime, *, limit: int = 10_000
) -> tuple[datetime, datetime, int] | None:
    """(first, last, count) of the due times with after < t <= through; None when there is none."""
    found = times_between(schedule, after, through, limit=limit)
    return (found[0], found[-1], len(found)) if found else None


def fixed_offset(trigger_id: str, spread_s: int) -> timedelta:
    """Where in its spread a trigger fires: the same for ever, evenly spread over triggers."""
    if spread_s <= 0:
        return timedelta(0)
    digest = hashlib.sha256(trigger_id.encode()).digest()
    return timedelta(seconds=int.from_bytes(digest[:8], "big") % (spread_s + 1))


def _next(schedule: TimeSchedule, after: datetime) -> datetime | None:
    if schedule.every_s is not None:
        return interval.next_interval(schedule.start_at, schedule.every_s, after)
    if schedule.rule is not None:
        if schedule.rule.is_sub_daily:
            step = partial(calendar.next_wall, schedule.rule, schedule.zone, schedule.start_at)
            return next_in_real_time(after, schedule.zone, step)
        walls = calendar.walls(schedule.rule, schedule.zone, schedule.start_at)
    else:
        if crontab.is_hourly(schedule.fields):
            return next_in_real_time(after, schedule.zone, partial(crontab.next_wall, schedule.fields))
        walls = crontab.walls(schedule.fields)
    return next_on_wall(
        after, schedule.zone, walls, dst_gap=schedule.dst_gap, dst_overlap=schedule.dst_overlap
    )
