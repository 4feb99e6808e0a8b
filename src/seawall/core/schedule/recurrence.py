# SPDX-License-Identifier: Apache-2.0
"""The times of one recurrence rule, found period by period from the one that is asked for.

No rule is walked from its start (but for one with COUNT, which is short), and each day that is looked at is
counted, so that no rule can make an evaluation take for ever. What RFC 5545 leaves open: a rule without
BYDAY, BYMONTHDAY and the like takes its day from its phase, BYWEEKNO alone takes the weekday of its phase,
and a WEEKLY rule's first week is a whole one for BYSETPOS.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from calendar import isleap, monthrange
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from functools import lru_cache

from seawall.core.schedule.rule import Rule, times_of_day
from seawall.core.schedule.steps import LAST_YEAR, Steps

_DAY = timedelta(days=1)
_TICK = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True, eq=False)
class WallRule:
    """A rule of a day or longer with its phase: naive wall times."""

    rule: Rule
    phase: datetime
    times: tuple[int, ...]
    """Seconds of the day, ascending."""

    def next_wall(self, wall: datetime, last: datetime, steps: Steps) -> datetime | None:
        """The first wall time in (wall, last]."""
        wall = max(wall, self.phase - _TICK)
        period = _period_of(self.rule, self.phase, wall.date())
        while True:
            steps.take()
            first = _first_day(self.rule, self.phase, period)
            if first is None or first > last.date():
                return None
            days, cost = _days_in(self.rule, first)
            steps.take(cost)
            found = self._first_later(days, wall) if days else None
            if found is not None:
                return found if found <= last else None
            period = _following(self.rule, self.phase, period, first)

    def _first_later(self, days: tuple[int, ...], wall: datetime) -> datetime | None:
        if self.rule.positions:
            return self._first_position(days, wall)
        place = bisect_left(days, wall.toordinal())
        if place < len(days) and days[place] == wall.toordinal():
            time = bisect_right(self.times, _second_of(wall))
            if time < len(self.times):
                return _wall(days[place], self.times[time])
            place += 1
        return _wall(days[place], self.times[0]) if place < len(days) else None

    def _first_position(self, days: tuple[int, ...], wall: datetime) -> datetime | None:
        # The set of a period is days x times in order: a position needs no list of them.
        size = len(days) * len(self.times)
        places = {one - 1 if one > 0 else size + one for one in self.rule.positions}
        for place in sorted(one for one in places if 0 <= one < size):
            day, time = divmod(place, len(self.times))
            found = _wall(days[day], self.times[time])
            if found > wall:
                return found
        return None


@lru_cache(maxsize=16_384)
def wall_rule(rule: Rule, phase: datetime) -> WallRule:
    """A rule with what it takes from its phase."""
    return WallRule(_completed(rule, phase), phase, times_of_day(rule, phase))


def next_on_clock(
    rule: Rule, phase: datetime, wall: datetime, last: datetime, steps: Steps
) -> datetime | None:
    """The first time in (wall, last] of a rule below a day, on a clock that never changes."""
    wall = max(wall, phase - _TICK)
    is_hourly = rule.frequency == "HOURLY"
    origin = phase.replace(minute=0 if is_hourly else phase.minute, second=0, microsecond=0)
    step = timedelta(hours=rule.interval) if is_hourly else timedelta(minutes=rule.interval)
    within = _within(rule, phase)
    number = max((wall - origin) // step, 0)
    while (base := origin + number * step) <= last:
        steps.take()
        wanted = _wanted(rule, base, last, steps)
        if wanted is None:
            return None
        if wanted > base:
            number = max(number + 1, -((origin - wanted) // step))
            continue
        for seconds in within:
            found = base + timedelta(seconds=seconds)
            if found > wall:
                return found if found <= last else None
        number += 1
    return None


def _within(rule: Rule, phase: datetime) -> tuple[int, ...]:
    """Seconds from the start of each period."""
    if rule.frequency == "HOURLY":
        found = times_of_day(replace(rule, hours=(0,)), phase)
    else:
        found = rule.seconds or (phase.second,)
    if not rule.positions:
        return found
    places = {one - 1 if one > 0 else len(found) + one for one in rule.positions}
    return tuple(found[one] for one in sorted(places) if 0 <= one < len(found))


def _wanted(rule: Rule, base: datetime, last: datetime, steps: Steps) -> datetime | None:
    """The first moment from ``base`` on that the filters of a rule below a day let through, or ``base``."""
    day = base.date()
    if not _is_day(rule, day):
        while day <= last.date() and not _is_day(rule, day):
            steps.take()
            day = _skip_month(rule, day) or day + _DAY
        return datetime(day.year, day.month, day.day) if day <= last.date() else None  # noqa: DTZ001 - wall
    if rule.hours and base.hour not in rule.hours:
        place = bisect_right(rule.hours, base.hour)
        midnight = base.replace(hour=0, minute=0)
        if place == len(rule.hours):
            return midnight + _DAY
        return midnight.replace(hour=rule.hours[place])
    if rule.frequency == "MINUTELY" and rule.minutes and base.minute not in rule.minutes:
        place = bisect_right(rule.minutes, base.minute)
        if place == len(rule.minutes):
            return base.replace(minute=0) + timedelta(hours=1)
        return base.replace(minute=rule.minutes[place])
    return base


def _completed(rule: Rule, phase: datetime) -> Rule:
    """The rule with the days that it takes from its phase."""
    if rule.weekdays or rule.month_days or rule.year_days:
        return rule
    if rule.frequency == "WEEKLY" or rule.week_numbers:
        return replace(rule, weekdays=((0, phase.weekday()),))
    if rule.frequency == "MONTHLY":
        return replace(rule, month_days=(phase.day,))
    if rule.frequency == "YEARLY":
        return replace(rule, months=rule.months or (phase.month,), month_days=(phase.day,))
    return rule


def _period_of(rule: Rule, phase: datetime, day: date) -> int:
    """The number of the period that a day lies in, or of the one before it."""
    if rule.frequency == "DAILY":
        number = day.toordinal() - phase.toordinal()
    elif rule.frequency == "WEEKLY":
        number = (_week_of(rule, day) - _week_of(rule, phase.date())) // 7
    elif rule.frequency == "MONTHLY":
        number = (day.year - phase.year) * 12 + day.month - phase.month
    else:
        number = day.year - phase.year
    return max(number // rule.interval, 0)


def _first_day(rule: Rule, phase: datetime, period: int) -> date | None:
    """Where a period begins; None when that is past all dates."""
    number = period * rule.interval
    if rule.frequency in ("DAILY", "WEEKLY"):
        start = phase.toordinal() if rule.frequency == "DAILY" else _week_of(rule, phase.date())
        found = start + number * (1 if rule.frequency == "DAILY" else 7)
        return date.fromordinal(found) if found < _LAST_ORDINAL else None
    months = phase.year * 12 + (phase.month - 1 + number if rule.frequency == "MONTHLY" else number * 12)
    year, month = divmod(months, 12)
    return date(year, month + 1, 1) if year <= LAST_YEAR else None


def _following(rule: Rule, phase: datetime, period: int, first: date) -> int:
    """The next period that can have a day: months that the rule leaves out are not walked through."""
    if rule.frequency == "DAILY":
        skipped = _skip_month(rule, first)
        if skipped is not None and skipped.year <= LAST_YEAR:
            days = skipped.toordinal() - phase.toordinal()
            return max(period + 1, -(-days // rule.interval))
    return period + 1


def _skip_month(rule: Rule, day: date) -> date | None:
    """The first of the next month that the rule names, when it does not name that of ``day``."""
    if not rule.months or day.month in rule.months:
        return None
    place = bisect_right(rule.months, day.month)
    return date(day.year, rule.months[place], 1) if place < len(rule.months) else (
        date(day.year + 1, rule.months[0], 1)
    )  # fmt: skip


@lru_cache(maxsize=65_536)
def _days_in(rule: Rule, first: date) -> tuple[tuple[int, ...], int]:
    """(the ordinals of the days of the period that begins at ``first``, how many were looked at)."""
    start = first.toordinal()
    if rule.frequency == "DAILY":
        days = range(start, start + 1)
    elif rule.frequency == "WEEKLY":
        days = range(start, start + 7)
    elif rule.frequency == "MONTHLY":
        if rule.months and first.month not in rule.months:
            return (), 0
        days = range(start, start + monthrange(first.year, first.month)[1])
    elif rule.months:
        found: list[int] = []
        cost = 0
        for month in rule.months:
            begin = date(first.year, month, 1).toordinal()
            length = monthrange(first.year, month)[1]
            found += [one for one in range(begin, begin + length) if _is_day(rule, date.fromordinal(one))]
            cost += length
        return tuple(found), cost
    else:
        days = range(start, start + 365 + isleap(first.year))
    return tuple(one for one in days if _is_day(rule, date.fromordinal(one))), len(days)


def _is_day(rule: Rule, day: date) -> bool:
    """Whether all the filters of the rule let a day through."""
    if rule.months and day.month not in rule.months:
        return False
    if rule.month_days:
        length = monthrange(day.year, day.month)[1]
        if day.day not in rule.month_days and day.day - length - 1 not in rule.month_days:
            return False
    if rule.year_days:
        number, length = day.timetuple().tm_yday, 365 + isleap(day.year)
        if number not in rule.year_days and number - length - 1 not in rule.year_days:
            return False
    if rule.weekdays and not _is_weekday(rule, day):
        return False
    return not rule.week_numbers or _is_week(rule, day)


def _is_weekday(rule: Rule, day: date) -> bool:
    weekday = day.weekday()
    if (0, weekday) in rule.weekdays:
        return True
    if rule.frequency == "MONTHLY" or rule.months:
        place, length = day.day, monthrange(day.year, day.month)[1]
    else:
        place, length = day.timetuple().tm_yday, 365 + isleap(day.year)
    from_start = (place - 1) // 7 + 1
    from_end = -((length - place) // 7 + 1)
    return (from_start, weekday) in rule.weekdays or (from_end, weekday) in rule.weekdays


def _is_week(rule: Rule, day: date) -> bool:
    """Whether a day lies in one of the numbered weeks: week 1 has four days or more in its year."""
    week = _week_of(rule, day)
    year = date.fromordinal(week + 3).year
    first, following = _first_week(rule, year), _first_week(rule, year + 1)
    number, count = (week - first) // 7 + 1, (following - first) // 7
    return number in rule.week_numbers or number - count - 1 in rule.week_numbers


def _first_week(rule: Rule, year: int) -> int:
    return _week_of(rule, date(year, 1, 4))


def _week_of(rule: Rule, day: date) -> int:
    """The ordinal of the first day of the week of a day."""
    return day.toordinal() - (day.weekday() - rule.week_start) % 7


def _wall(ordinal: int, second: int) -> datetime:
    day = date.fromordinal(ordinal)
    return datetime(day.year, day.month, day.day) + timedelta(seconds=second)  # noqa: DTZ001 - a wall time


def _second_of(wall: datetime) -> int:
    return wall.hour * 3600 + wall.minute * 60 + wall.second


_LAST_ORDINAL = date(LAST_YEAR, 12, 31).toordinal()
