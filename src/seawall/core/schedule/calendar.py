# SPDX-License-Identifier: Apache-2.0
"""Calendar patterns: the times of an event of RFC 5545.

Rules of a day and longer live on the wall clock, shorter ones in real time. Rules are evaluated from where
they are asked about, never walked from DTSTART; those with COUNT are walked through once.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from seawall.core.errors import InvalidInputError
from seawall.core.schedule import event as events
from seawall.core.schedule.event import CalendarEvent, When, on_clock
from seawall.core.schedule.recurrence import next_on_clock, wall_rule
from seawall.core.schedule.rule import Rule
from seawall.core.schedule.steps import MOST_TO_COUNT, Steps, TooCostlyError, horizon
from seawall.core.schedule.zone import instants_of, next_in_real_time, next_on_wall, wall_at

FIELD = "properties.pattern"
_TICK = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True, eq=False)
class RuleTimes:
    """One rule on a clock."""

    rule: Rule
    phase: datetime
    """The wall time that it counts from."""
    phase_at: datetime
    """The instant of it: what rules below a day count from."""
    zone: ZoneInfo
    dst_gap: str
    dst_overlap: str

    def next(self, after: datetime, last: datetime, steps: Steps) -> datetime | None:
        """The first strictly after ``after`` that is not after ``last``, a wall time, and UNTIL."""
        if self.rule.count is not None:
            counted = _counted(self)
            place = bisect_right(counted, after)
            return counted[place] if place < len(counted) else None
        found = self._next(after, last, steps)
        until = self.rule.until_in(self.zone)
        return None if found is None or (until is not None and found > until) else found

    def walked(self) -> tuple[datetime, ...]:
        """All the times of a rule with COUNT."""
        steps = Steps(MOST_TO_COUNT)
        if not self.rule.is_sub_daily:
            return self._walked_on_wall(steps)
        found: list[datetime] = []
        at: datetime | None = self.phase_at - _TICK
        while len(found) < (self.rule.count or 0):
            assert at is not None
            at = self._next(at, horizon(at.year), steps)
            if at is None:
                break
            found.append(at)
        return tuple(found)

    def _walked_on_wall(self, steps: Steps) -> tuple[datetime, ...]:
        """COUNT counts what the rule says, also what the clock leaves out or shows twice."""
        times = wall_rule(self.rule, self.phase)
        found: set[datetime] = set()
        wall: datetime | None = self.phase - _TICK
        for _ in range(self.rule.count or 0):
            assert wall is not None
            wall = times.next_wall(wall, horizon(wall.year), steps)
            if wall is None:
                break
            found.update(instants_of(wall, self.zone, dst_gap=self.dst_gap, dst_overlap=self.dst_overlap))
        return tuple(sorted(found))

    def _next(self, after: datetime, last: datetime, steps: Steps) -> datetime | None:
        if not self.rule.is_sub_daily:
            times = wall_rule(self.rule, self.phase)
            return next_on_wall(
                after,
                self.zone,
                lambda wall: times.next_wall(wall, last, steps),
                dst_gap=self.dst_gap,
                dst_overlap=self.dst_overlap,
            )

        def on_this_clock(wall: datetime, offset: timedelta, end: datetime) -> datetime | None:
            phase = (self.phase_at + offset).replace(tzinfo=None)
            return next_on_clock(self.rule, phase, wall, min(end, last), steps)

        # Nothing is due before the phase: no years are walked through until then.
        return next_in_real_time(max(after, self.phase_at - _TICK), self.zone, on_this_clock, last.year)


@lru_cache(maxsize=1024)
def _counted(times: RuleTimes) -> tuple[datetime, ...]:
    return times.walked()


@dataclass(frozen=True, slots=True, eq=False)
class CalendarTimes:
    """An event in a zone."""

    event: CalendarEvent
    parts: tuple[RuleTimes, ...]
    dates: tuple[datetime, ...]
    """Instants that are due besides the rules, ascending."""
    left_out: frozenset[datetime]
    days_left_out: frozenset[date]
    zone: ZoneInfo
    """Whose clock it follows."""

    def next(self, after: datetime, steps: Steps) -> datetime | None:
        """The first instant strictly after ``after``; None when there is none within the horizon."""
        return self.next_until(after, horizon(after.year), steps)

    def next_until(self, after: datetime, last: datetime, steps: Steps) -> datetime | None:
        """The same, but it looks no further than ``last``, a wall time."""
        at = after
        while True:
            steps.take()
            found = [one for part in self.parts if (one := part.next(at, last, steps)) is not None]
            place = bisect_right(self.dates, at)
            if place < len(self.dates):
                found.append(self.dates[place])
            if not found:
                return None
            at = min(found)
            if not self._is_left_out(at):
                return at

    def _is_left_out(self, at: datetime) -> bool:
        if at in self.left_out:
            return True
        return bool(self.days_left_out) and wall_at(self.zone, at).date() in self.days_left_out


def check(pattern: str) -> CalendarEvent:
    """Read a pattern; ``InvalidInputError`` says what is wrong with it."""
    try:
        found = read(pattern)
    except ValueError as error:
        raise InvalidInputError.of(FIELD, pattern, str(error)) from error
    if len(found) != 1:
        raise InvalidInputError.of(FIELD, pattern, "must have exactly one VEVENT")
    return found[0]


@lru_cache(maxsize=4096)
def read(text: str) -> tuple[CalendarEvent, ...]:
    """The events of a text, as ``event.read`` has them; one object for each text."""
    return events.read(text)


@lru_cache(maxsize=4096)
def times(
    event: CalendarEvent, zone: ZoneInfo, start: datetime, dst_gap: str, dst_overlap: str
) -> CalendarTimes:
    """An event on the clock of its own zone, or of ``zone``; without DTSTART it counts from ``start``.

    ``ValueError`` when it is too costly to evaluate.
    """
    clock = event.zone or zone
    begin = event.begin
    if begin is None:
        phase_at = start.replace(microsecond=0)
        phase = wall_at(clock, phase_at)
    elif isinstance(begin, datetime) and begin.tzinfo is not None:
        phase_at, phase = begin, wall_at(clock, begin)
    else:
        phase = on_clock(begin)
        phase_at = phase.replace(tzinfo=clock).astimezone(UTC)
    parts = tuple(RuleTimes(one, phase, phase_at, clock, dst_gap, dst_overlap) for one in event.rules)
    dates: set[datetime] = set()
    for one in event.dates:
        dates.update(_instants(one, phase.time(), clock, dst_gap, dst_overlap))
    left_out: set[datetime] = set()
    for one in event.left_out:
        if isinstance(one, datetime):
            left_out.update(_instants(one, phase.time(), clock, "run_after", "twice"))
    days = frozenset(one for one in event.left_out if not isinstance(one, datetime))
    found = CalendarTimes(event, parts, tuple(sorted(dates)), frozenset(left_out), days, clock)
    try:
        for part in parts:
            if part.rule.count is not None:
                _counted(part)
    except TooCostlyError as error:
        raise ValueError("is too costly to evaluate: its COUNT spans too long a time") from error
    return found


def _instants(value: When, at: time, zone: ZoneInfo, dst_gap: str, dst_overlap: str) -> list[datetime]:
    if isinstance(value, datetime) and value.tzinfo is not None:
        return [value]
    return instants_of(on_clock(value, at), zone, dst_gap=dst_gap, dst_overlap=dst_overlap)
