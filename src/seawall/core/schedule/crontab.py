# SPDX-License-Identifier: Apache-2.0
"""Crontab patterns: five fields, Vixie's rule for days, and the ``@`` words.

A pattern with a wildcard or a step in its hour field runs in every real hour; any other is a wall-clock
time. Read and evaluated here, a month at a time, so that the work is counted; cronsim is the oracle of the
tests.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from calendar import monthrange
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache, partial
from zoneinfo import ZoneInfo

from seawall.core.errors import InvalidInputError
from seawall.core.schedule.steps import Steps, horizon
from seawall.core.schedule.zone import next_in_real_time, next_on_wall

ALIASES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
FIELD = "properties.pattern"
_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_DAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
_LONGEST = (0, 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_LAST = -1


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    low: int
    high: int
    names: tuple[str, ...] = ()
    """Of the values from ``low`` on."""


_MINUTE = _Field("minute", 0, 59)
_HOUR = _Field("hour", 0, 23)
_DAY = _Field("day of month", 1, 31)
_MONTH = _Field("month", 1, 12, _MONTHS)
_WEEKDAY = _Field("day of week", 0, 7, _DAYS)


@dataclass(frozen=True, slots=True, eq=False)
class CronFields:
    """A checked pattern. One object for each text: it is compared by identity."""

    text: str
    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: int
    """A bit for each day of the month."""
    months: tuple[int, ...]
    weekdays: int
    """A bit for each day of the week; Sunday is bit 0."""
    nth_weekdays: tuple[tuple[int, int], ...]
    """(weekday, n-th of its month); -1 is the last."""
    is_last_day: bool
    is_last_workday: bool
    is_either_day: bool
    """Day of month and day of week are both restricted: either is enough."""
    is_hourly: bool
    """It runs in every real hour."""

    def next_wall(self, wall: datetime, last: datetime, steps: Steps) -> datetime | None:
        """The first matching minute in (wall, last]."""
        year, month = wall.year, wall.month
        from_day = wall.day
        if month in self.months and _days_of(self, year, month) >> from_day & 1:
            found = self._later_today(wall)
            if found is not None:
                return found if found <= last else None
        while True:
            steps.take()
            if month in self.months:
                bits = _days_of(self, year, month) >> (from_day + 1)
                if bits:
                    day = from_day + 1 + ((bits & -bits).bit_length() - 1)
                    found = datetime(year, month, day, self.hours[0], self.minutes[0])  # noqa: DTZ001 - a wall time is naive
                    return found if found <= last else None
            month, from_day = month + 1, 0
            if month > 12:
                year, month = year + 1, 1
            if (year, month) > (last.year, last.month):
                return None

    def _later_today(self, wall: datetime) -> datetime | None:
        place = bisect_left(self.hours, wall.hour)
        if place < len(self.hours) and self.hours[place] == wall.hour:
            minute = bisect_right(self.minutes, wall.minute)
            if minute < len(self.minutes):
                return wall.replace(minute=self.minutes[minute], second=0, microsecond=0)
            place += 1
        if place == len(self.hours):
            return None
        return wall.replace(hour=self.hours[place], minute=self.minutes[0], second=0, microsecond=0)


@dataclass(frozen=True, slots=True, eq=False)
class CronTimes:
    """A pattern in a zone."""

    fields: CronFields
    zone: ZoneInfo
    dst_gap: str
    dst_overlap: str

    def next(self, after: datetime, steps: Steps) -> datetime | None:
        """The first instant strictly after ``after``; None when there is none within the horizon."""
        if self.fields.is_hourly:
            return next_in_real_time(after, self.zone, partial(_on_clock, self.fields, steps))
        last = horizon(after.year)
        return next_on_wall(
            after,
            self.zone,
            lambda wall: self.fields.next_wall(wall, last, steps),
            dst_gap=self.dst_gap,
            dst_overlap=self.dst_overlap,
        )


@lru_cache(maxsize=16_384)
def times(fields: str, zone: ZoneInfo, dst_gap: str, dst_overlap: str) -> CronTimes:
    """One object for the triggers that share a pattern, a zone and its rules."""
    return CronTimes(read(fields), zone, dst_gap, dst_overlap)


def check(pattern: str) -> str:
    """The five fields of a pattern; ``InvalidInputError`` says what is wrong with it."""
    text = pattern.strip()
    if text.startswith("@"):
        if text.lower() not in ALIASES:
            raise InvalidInputError.of(FIELD, pattern, f"is not one of {', '.join(ALIASES)}")
        text = ALIASES[text.lower()]
    fields = text.split()
    if len(fields) != 5:
        raise InvalidInputError.of(
            FIELD, pattern, "must have five fields: minute hour day-of-month month day-of-week"
        )
    text = " ".join(fields).upper()
    read(text)
    return text


@lru_cache(maxsize=16_384)
def read(text: str) -> CronFields:
    """The five fields read; ``InvalidInputError`` names the field, its value and the rule."""
    minute, hour, day, month, weekday = text.split()
    try:
        days, day_marks = _read_days(day)
        weekdays, nth = _read_weekdays(weekday)
        found = CronFields(
            text=text,
            minutes=tuple(sorted(_read(_MINUTE, minute))),
            hours=tuple(sorted(_read(_HOUR, hour))),
            days=sum(1 << one for one in days),
            months=tuple(sorted(_read(_MONTH, month))),
            weekdays=sum(1 << one for one in weekdays),
            nth_weekdays=tuple(sorted(nth)),
            is_last_day="L" in day_marks,
            is_last_workday="LW" in day_marks,
            is_either_day=not (day.startswith("*") or weekday.startswith("*")),
            is_hourly="*" in hour or "/" in hour,
        )
    except ValueError as error:
        raise InvalidInputError.of(FIELD, text, str(error)) from error
    if not found.is_either_day and not day_marks and min(days) > max(_LONGEST[one] for one in found.months):
        raise InvalidInputError.of(FIELD, text, f"never fires: no such month has a day {min(days)}")
    return found


def _on_clock(
    fields: CronFields, steps: Steps, wall: datetime, _offset: timedelta, last: datetime
) -> datetime | None:
    return fields.next_wall(wall, last, steps)


@lru_cache(maxsize=65_536)
def _days_of(fields: CronFields, year: int, month: int) -> int:
    """A bit for each day of a month on which the pattern matches."""
    first, length = monthrange(year, month)
    all_days = (2 << length) - 2
    by_day = fields.days & all_days
    if fields.is_last_day:
        by_day |= 1 << length
    if fields.is_last_workday:
        weekday = (first + length - 1) % 7
        by_day |= 1 << (length - max(weekday - 4, 0))
    by_week = 0
    for weekday in range(7):
        # The first such day of the month; Python's Monday is 0, a crontab's Sunday is 0.
        day = 1 + (weekday - 1 - first) % 7
        if fields.weekdays >> weekday & 1:
            by_week |= sum(1 << one for one in range(day, length + 1, 7))
    for weekday, nth in fields.nth_weekdays:
        days = range(1 + (weekday - 1 - first) % 7, length + 1, 7)
        if nth == _LAST or nth <= len(days):
            by_week |= 1 << (days[-1] if nth == _LAST else days[nth - 1])
    return (by_day | by_week) if fields.is_either_day else (by_day & by_week)


def _read_days(text: str) -> tuple[set[int], set[str]]:
    terms = text.split(",")
    marks = {term for term in terms if term in ("L", "LW")}
    if any(term.endswith("W") and term != "LW" for term in terms):
        raise ValueError(f"{_DAY.name} {text!r} must not use W, but for LW, the last working day")
    others = [term for term in terms if term not in marks]
    return (_read(_DAY, ",".join(others)) if others else set()), marks


def _read_weekdays(text: str) -> tuple[set[int], set[tuple[int, int]]]:
    plain, nth = [], set()
    for term in text.split(","):
        if term.endswith("L") and len(term) > 1:
            nth.add((_value(_WEEKDAY, term[:-1]) % 7, _LAST))
        elif "#" in term:
            day, _, number = term.partition("#")
            if number not in ("1", "2", "3", "4", "5"):
                raise ValueError(f"{_WEEKDAY.name} {term!r} must have a number from 1 to 5 after #")
            nth.add((_value(_WEEKDAY, day) % 7, int(number)))
        else:
            plain.append(term)
    return ({one % 7 for one in _read(_WEEKDAY, ",".join(plain))} if plain else set()), nth


def _read(field: _Field, text: str) -> set[int]:
    found: set[int] = set()
    for term in text.split(","):
        found.update(_read_term(field, term))
    return found


def _read_term(field: _Field, term: str) -> range:
    base, slash, step = term.partition("/")
    if "?" in term:
        raise ValueError(f"{field.name} {term!r} must not be ?; write * for any")
    if base == "*":
        low, high = field.low, 6 if field is _WEEKDAY else field.high
    elif "-" in base:
        first, _, last = base.partition("-")
        low, high = _value(field, first), _value(field, last)
        if field is _WEEKDAY and high == 0 < low:
            high = 7
        if high < low:
            raise ValueError(f"{field.name} {base!r} must not end before it begins")
    else:
        low = _value(field, base)
        high = field.high if slash else low
    if not slash:
        return range(low, high + 1)
    most = field.high - field.low + 1
    if not step.isascii() or not step.isdigit() or len(step) > 3 or not 1 <= int(step) <= most:
        raise ValueError(f"{field.name} {term!r} must have a step from 1 to {most}")
    return range(low, high + 1, int(step))


def _value(field: _Field, text: str) -> int:
    if text in field.names:
        return field.low + field.names.index(text)
    if text.isascii() and text.isdigit() and len(text) <= 3 and field.low <= int(text) <= field.high:
        return int(text)
    names = f" or {field.names[0]} to {field.names[-1]}" if field.names else ""
    raise ValueError(f"{field.name} {text!r} must be from {field.low} to {field.high}{names}")
