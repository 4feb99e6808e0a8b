# SPDX-License-Identifier: Apache-2.0
"""Exclusions: calendars of times at which nothing starts; what is due then is left out, or waits for the end.

A span begins with an event of the calendar and ends, exclusively, when it has lasted. A bare rule of a day or
longer without a time of day means whole days.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from seawall.core.errors import FieldFault, InvalidInputError
from seawall.core.schedule import calendar
from seawall.core.schedule.calendar import CalendarTimes
from seawall.core.schedule.event import LONGEST, CalendarEvent, zone_of
from seawall.core.schedule.steps import MOST_IN_MONTH, Steps, TooCostlyError
from seawall.core.schedule.zone import wall_at

FIELD = "properties.exclusions"
ACTIONS = ("skip", "delay")
MOST = 10
_LONGEST_NAME = 100
_TICK = timedelta(microseconds=1)
_DAY = timedelta(days=1)
_PARTS = ("name", "calendar", "action", "timezone")


@dataclass(frozen=True, slots=True, eq=False)
class _Spans:
    """Where the spans of one event begin, and how long each is."""

    times: CalendarTimes
    days: int
    length: timedelta

    def end_of(self, begin: datetime) -> datetime:
        if not self.days:
            return begin + self.length
        zone = self.times.zone
        wall = wall_at(zone, begin) + timedelta(days=self.days)
        return wall.replace(tzinfo=zone).astimezone(UTC) + self.length


@dataclass(frozen=True, slots=True)
class Exclusion:
    """A checked exclusion."""

    name: str
    calendar: str
    action: str
    zone: ZoneInfo
    spans: tuple[_Spans, ...] = field(compare=False)

    def end_at(self, at: datetime) -> datetime | None:
        """Until when it covers an instant; None when it does not. Another span may begin at that end."""
        begins, ends = _merged(self.spans, at.year, at.month)
        place = bisect_right(begins, at) - 1
        return ends[place] if place >= 0 and at < ends[place] else None


class Outcome(NamedTuple):
    """What exclusions do to a due time."""

    at: datetime
    """When it starts: later than the due time when it is delayed."""
    is_skipped: bool = False
    name: str = ""
    """Of the exclusion that has moved it or left it out; empty when none has."""


def outcome_of(exclusions: tuple[Exclusion, ...], due_at: datetime) -> Outcome:
    """Left out, delayed or untouched. A delay that ends where another exclusion begins goes on from there.

    One that would be longer than 366 days leaves it out. ``InvalidInputError`` when it costs too much.
    """
    at, name = due_at, ""
    while True:
        ends = [(one, one.end_at(at)) for one in exclusions]
        covering = [(one, end) for one, end in ends if end is not None]
        if not covering:
            return Outcome(at, False, name)
        skipping = next((one for one, _ in covering if one.action == "skip"), None)
        if skipping is not None:
            return Outcome(due_at, True, skipping.name)
        delaying, at = max(covering, key=lambda pair: pair[1])
        name = name or delaying.name
        if at - due_at > LONGEST:
            return Outcome(due_at, True, name)


def covered_until(exclusions: tuple[Exclusion, ...], at: datetime) -> datetime:
    """The last end of the spans that cover an instant; the instant itself when none does."""
    return max((end for one in exclusions if (end := one.end_at(at)) is not None), default=at)


def read(
    value: object, *, zone: ZoneInfo, start: datetime, faults: list[FieldFault]
) -> tuple[Exclusion, ...]:
    """What a user has written under ``exclusions``; what is wrong is added to ``faults``."""
    if value is None:
        return ()
    if not isinstance(value, (list, tuple)) or len(value) > MOST:
        faults.append(FieldFault(FIELD, value, f"must be a list of at most {MOST} exclusions"))
        return ()
    found: list[Exclusion] = []
    for place, one in enumerate(value):
        where = f"{FIELD}[{place}]"
        try:
            exclusion = _read(where, one, zone, start)
            if exclusion.name in [other.name for other in found]:
                raise InvalidInputError.of(f"{where}.name", exclusion.name, "must not stand twice")
            found.append(exclusion)
        except InvalidInputError as error:
            faults.extend(error.fields)
    return tuple(found)


def _read(where: str, given: object, zone: ZoneInfo, start: datetime) -> Exclusion:
    if not isinstance(given, Mapping):
        raise InvalidInputError.of(where, given, f"must be an object of {', '.join(_PARTS)}")
    for part in given:
        if part not in _PARTS:
            raise InvalidInputError.of(
                f"{where}.{part}", given[part], f"is not known; known are {', '.join(_PARTS)}"
            )
    name, text, action = given.get("name"), given.get("calendar"), given.get("action", "skip")
    if not isinstance(name, str) or not name.strip() or len(name) > _LONGEST_NAME or not name.isprintable():
        raise InvalidInputError.of(
            f"{where}.name", name, f"must be 1 to {_LONGEST_NAME} printable characters"
        )
    if action not in ACTIONS:
        raise InvalidInputError.of(f"{where}.action", action, f"must be one of {', '.join(ACTIONS)}")
    if not isinstance(text, str):
        raise InvalidInputError.of(f"{where}.calendar", text, "is needed, as text")
    try:
        clock = zone if given.get("timezone") is None else zone_of(_text(given["timezone"]))
    except ValueError as error:
        raise InvalidInputError.of(f"{where}.timezone", given["timezone"], str(error)) from error
    try:
        spans = tuple(_spans_of(one, clock, start) for one in calendar.read(text))
    except ValueError as error:
        raise InvalidInputError.of(f"{where}.calendar", text, str(error)) from error
    return Exclusion(name, text, action, clock, spans)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("must be an IANA time zone like Europe/Paris")
    return value


def _spans_of(event: CalendarEvent, zone: ZoneInfo, start: datetime) -> _Spans:
    clock = event.zone or zone
    if event.is_long:
        return _Spans(calendar.times(event, zone, start, "run_after", "once"), event.days, event.length)
    is_whole_days = event.begin is None and all(
        not (rule.is_sub_daily or rule.hours or rule.minutes or rule.seconds) for rule in event.rules
    )
    if not is_whole_days:
        raise ValueError("must say how long it lasts: DTEND or DURATION, or whole days")
    midnight = wall_at(clock, start).replace(hour=0, minute=0, second=0, microsecond=0)
    first = midnight.replace(tzinfo=clock).astimezone(UTC)
    return _Spans(calendar.times(event, zone, first, "run_after", "once"), 1, timedelta(0))


@lru_cache(maxsize=4096)
def _merged(
    spans: tuple[_Spans, ...], year: int, month: int
) -> tuple[tuple[datetime, ...], tuple[datetime, ...]]:
    """(begins, ends) of the spans that touch a month, ascending, without overlaps."""
    first = datetime(year, month, 1, tzinfo=UTC)
    last = datetime(year + month // 12, month % 12 + 1, 1, tzinfo=UTC)
    found: list[tuple[datetime, datetime]] = []
    steps = Steps(MOST_IN_MONTH)
    try:
        for one in spans:
            # A day of a zone lasts up to two: where days are repeated.
            at = first - one.length - (one.days + 1) * _DAY - _TICK
            horizon = (last + _DAY).replace(tzinfo=None)
            while (begin := one.times.next_until(at, horizon, steps)) is not None and begin < last:
                found.append((begin, one.end_of(begin)))
                at = begin
    except TooCostlyError as error:
        raise InvalidInputError.of(FIELD, f"{year}-{month:02}", "are too costly to evaluate") from error
    begins: list[datetime] = []
    ends: list[datetime] = []
    for begin, end in sorted(found):
        if end <= begin:
            continue
        if ends and begin <= ends[-1]:
            ends[-1] = max(ends[-1], end)
        else:
            begins.append(begin)
            ends.append(end)
    return tuple(begins), tuple(ends)
