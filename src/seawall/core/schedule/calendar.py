# SPDX-License-Identifier: Apache-2.0
"""Calendar patterns: an RFC 5545 recurrence rule, bare or in a VEVENT.

dateutil evaluates the rule, with guards of ours: DTSTART is moved forward by whole intervals, for dateutil
walks from it every time; rules of a day and longer live on the wall clock, shorter ones in real time; what
could be evaluated only at great cost is refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from dateutil.rrule import rrule, rrulestr
from icalendar import Event

from seawall.core.errors import InvalidInputError
from seawall.core.schedule.zone import WallTimes, wall_at

FIELD = "properties.pattern"
_PERIODS = {
    "MINUTELY": timedelta(minutes=1),
    "HOURLY": timedelta(hours=1),
    "DAILY": timedelta(days=1),
    "WEEKLY": timedelta(weeks=1),
}
_KNOWN = {
    "FREQ", "INTERVAL", "COUNT", "UNTIL", "WKST", "BYMONTH", "BYMONTHDAY", "BYYEARDAY", "BYWEEKNO", "BYDAY",
    "BYHOUR", "BYMINUTE", "BYSECOND", "BYSETPOS",
}  # fmt: skip
# dateutil tries every minute or hour one after the other: these could make it try for years.
_TOO_COSTLY_BELOW_A_DAY = ("BYMONTH", "BYMONTHDAY", "BYYEARDAY", "BYWEEKNO", "BYSETPOS")
# With COUNT the rule must be walked from its start: at most this many steps.
_MAX_COUNT = 1000


@dataclass(frozen=True, slots=True)
class CalendarRule:
    """A checked rule."""

    parts: tuple[tuple[str, str], ...]
    """Without UNTIL and COUNT's upper bound checked."""
    frequency: str
    interval: int
    has_count: bool
    phase: datetime | date | None
    """The VEVENT's DTSTART: aware, or a naive wall time or date."""
    until: datetime | date | None

    @property
    def text(self) -> str:
        return ";".join(f"{name}={value}" for name, value in self.parts)

    @property
    def is_sub_daily(self) -> bool:
        return self.frequency in ("MINUTELY", "HOURLY")

    def phase_in(self, zone: ZoneInfo, start: datetime) -> datetime:
        """The wall time that the rule counts from."""
        if self.phase is None:
            return wall_at(zone, start).replace(microsecond=0)
        return _wall(self.phase, zone)

    def until_in(self, zone: ZoneInfo) -> datetime | None:
        """The last instant, inclusive."""
        if self.until is None:
            return None
        if isinstance(self.until, datetime):
            found = self.until if self.until.tzinfo else self.until.replace(tzinfo=zone)
            return found.astimezone(UTC)
        end_of_day = datetime(self.until.year, self.until.month, self.until.day, 23, 59, 59, tzinfo=zone)
        return end_of_day.astimezone(UTC)


def check(pattern: str) -> CalendarRule:
    """Read a pattern; ``InvalidInputError`` says what is wrong with it."""
    text = pattern.replace("\\n", "\n").strip()
    phase: datetime | date | None = None
    if text.upper().startswith("BEGIN:"):
        text, phase = _read_event(text, pattern)
    text = text.removeprefix("RRULE:").strip().rstrip(";")
    parts = {}
    for part in text.split(";"):
        name, equals, value = part.strip().partition("=")
        name = name.strip().upper()
        if not equals or name not in _KNOWN or name in parts:
            raise InvalidInputError.of(FIELD, pattern, f"{part!r} is not a part of a recurrence rule")
        parts[name] = value.strip().upper()
    return _checked(parts, phase, pattern)


def _checked(parts: dict[str, str], phase: datetime | date | None, pattern: str) -> CalendarRule:
    frequency = parts.get("FREQ", "")
    if frequency == "SECONDLY":
        raise InvalidInputError.of(FIELD, pattern, "must not be FREQ=SECONDLY")
    if frequency not in (*_PERIODS, "MONTHLY", "YEARLY"):
        raise InvalidInputError.of(
            FIELD, pattern, "must have FREQ=MINUTELY, HOURLY, DAILY, WEEKLY, MONTHLY or YEARLY"
        )
    if frequency in ("MINUTELY", "HOURLY"):
        for name in _TOO_COSTLY_BELOW_A_DAY:
            if name in parts:
                raise InvalidInputError.of(
                    FIELD, pattern, f"is too costly: {name} needs FREQ=DAILY or longer with BYHOUR, BYMINUTE"
                )
    until = _read_until(parts.pop("UNTIL", None), pattern)
    interval = _whole(parts.get("INTERVAL", "1"), "INTERVAL", 100_000, pattern)
    if "COUNT" in parts:
        _whole(parts["COUNT"], "COUNT", _MAX_COUNT, pattern)
    rule = CalendarRule(tuple(parts.items()), frequency, interval, "COUNT" in parts, phase, until)
    try:
        rrulestr(rule.text, dtstart=datetime(2024, 1, 1))  # noqa: DTZ001 - wall times are naive
    except (ValueError, TypeError, KeyError) as error:
        raise InvalidInputError.of(FIELD, pattern, f"is not a recurrence rule: {error}") from error
    return rule


def walls(rule: CalendarRule, zone: ZoneInfo, start: datetime) -> WallTimes:
    """The wall times of a rule of a day or longer."""
    phase = rule.phase_in(zone, start)

    def after(wall: datetime) -> Iterator[datetime]:
        yield from _rule(rule.text, _anchor(rule, phase, wall)).xafter(wall)

    return after


def next_wall(
    rule: CalendarRule, zone: ZoneInfo, start: datetime, wall: datetime, offset: timedelta
) -> datetime | None:
    """The next wall time of a rule below a day on a clock that stays at ``offset``; counted in real time."""
    phase = rule.phase_in(zone, start).replace(tzinfo=zone).astimezone(UTC)
    on_this_clock = (phase + offset).replace(tzinfo=None)
    found: datetime | None = _rule(rule.text, _anchor(rule, on_this_clock, wall)).after(wall)
    return found


def _anchor(rule: CalendarRule, phase: datetime, wall: datetime) -> datetime:
    """DTSTART as near before ``wall`` as whole intervals allow: the same rule, fewer steps."""
    period = _PERIODS.get(rule.frequency)
    if rule.has_count or period is None or wall <= phase:
        return phase
    step = period * rule.interval
    return phase + max((wall - phase) // step - 1, 0) * step


@lru_cache(maxsize=1024)
def _rule(text: str, anchor: datetime) -> rrule:
    found = rrulestr(text, dtstart=anchor)
    assert isinstance(found, rrule)
    return found


def _read_event(text: str, pattern: str) -> tuple[str, datetime | date | None]:
    try:
        event = Event.from_ical(text)
    except (ValueError, IndexError, KeyError) as error:
        raise InvalidInputError.of(FIELD, pattern, f"is not a VEVENT: {error}") from error
    if not isinstance(event, list) and event.name == "VCALENDAR" and len(event.subcomponents) == 1:
        # What Karbor's clients send; a calendar of several events, or with zones of its own, is refused.
        event = event.subcomponents[0]
    if isinstance(event, list) or event.name != "VEVENT":
        raise InvalidInputError.of(FIELD, pattern, "must be one VEVENT")
    for name in ("RDATE", "EXDATE", "EXRULE"):
        if name in event:
            raise InvalidInputError.of(FIELD, pattern, f"{name} is not supported")
    rule = event.get("RRULE")
    if rule is None or isinstance(rule, list):
        raise InvalidInputError.of(FIELD, pattern, "must have exactly one RRULE")
    begin = event.get("DTSTART")
    return rule.to_ical().decode(), None if begin is None else begin.dt


def _read_until(text: str | None, pattern: str) -> datetime | date | None:
    if text is None:
        return None
    for form in ("%Y%m%dT%H%M%SZ", "%Y%m%dT%H%M%S", "%Y%m%d"):
        try:
            found = datetime.strptime(text, form)  # noqa: DTZ007 - a wall time, or UTC by its Z
        except ValueError:
            continue
        if form.endswith("Z"):
            return found.replace(tzinfo=UTC)
        return found if "T" in form else found.date()
    raise InvalidInputError.of(FIELD, pattern, f"UNTIL={text} is not a date")


def _whole(text: str, name: str, most: int, pattern: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 7 or not 0 < int(text) <= most:
        raise InvalidInputError.of(FIELD, pattern, f"{name} must be a whole number from 1 to {most}")
    return int(text)


def _wall(value: datetime | date, zone: ZoneInfo) -> datetime:
    if isinstance(value, datetime):
        return wall_at(zone, value) if value.tzinfo else value
    return datetime(value.year, value.month, value.day)  # noqa: DTZ001 - a wall time is naive
