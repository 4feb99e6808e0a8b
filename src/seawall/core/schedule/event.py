# SPDX-License-Identifier: Apache-2.0
"""Events of RFC 5545 as people write and export them: a bare rule, a few lines, a VEVENT, a calendar.

Lines are taken apart by icalendar; what they mean is read here, strictly, for a calendar library leaves out
what it does not understand, and a date that is left out is a backup that nobody takes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from icalendar.parser import Contentline
from icalendar.timezone.windows_to_olson import WINDOWS_TO_OLSON

from seawall.core.schedule import rule as rules
from seawall.core.schedule.rule import Rule

When = datetime | date
"""Aware: an instant. Naive: what the event's clock shows. A date: a whole day."""

LONGEST_TEXT = 65_536
MOST_EVENTS = 500
MOST_DATES = 1000
MOST_RULES = 20
LONGEST = timedelta(days=366)
_BARE = re.compile(r"(RRULE|DTSTART|DTEND|DURATION|RDATE|EXDATE|EXRULE|RECURRENCE-ID)[;:]", re.IGNORECASE)
_REFUSED = {
    "EXRULE": "is no longer part of the standard; use EXDATE or an exclusion",
    "RECURRENCE-ID": "changes one time of another event; use EXDATE and RDATE",
}


@dataclass(frozen=True, slots=True, eq=False)
class CalendarEvent:
    """One event. Compared by identity."""

    rules: tuple[Rule, ...]
    begin: When | None
    """DTSTART."""
    zone: ZoneInfo | None
    """The TZID of DTSTART: whose clock the event follows. None: that of the trigger."""
    dates: tuple[When, ...]
    """RDATE."""
    left_out: tuple[When, ...]
    """EXDATE."""
    days: int
    """How long it lasts, on the clock of its zone ..."""
    length: timedelta
    """... and in real time after that. Both are 0 when it does not say."""

    @property
    def is_long(self) -> bool:
        """Whether it says how long it lasts."""
        return bool(self.days or self.length)


def read(text: str) -> tuple[CalendarEvent, ...]:
    """The events of a text; ``ValueError`` says what is wrong with it."""
    if len(text) > LONGEST_TEXT:
        raise ValueError(f"must have at most {LONGEST_TEXT} characters")
    lines = _lines(text)
    if not lines:
        raise ValueError("must be a recurrence rule, a VEVENT or a calendar")
    if not lines[0].upper().startswith("BEGIN:"):
        return (_event([line if _BARE.match(line) else f"RRULE:{line}" for line in lines]),)
    found = [_event(one) for one in _events(lines)]
    if not found:
        raise ValueError("must have a VEVENT")
    return tuple(found)


def zone_of(name: str) -> ZoneInfo:
    """A zone by its IANA name, or by the one that Windows has for it; ``ValueError`` when there is none."""
    try:
        return ZoneInfo(WINDOWS_TO_OLSON.get(name, name))
    except (KeyError, ValueError, TypeError, OSError):
        raise ValueError(f"{name[:60]!r} must be an IANA time zone like Europe/Paris") from None


def _lines(text: str) -> list[str]:
    if "\n" not in text:
        # Karbor's shell sends line ends as a backslash and an n.
        text = text.replace("\\r", "").replace("\\n", "\n")
    unfolded = re.sub(r"\r?\n[ \t]", "", text.strip())
    return [line.strip() for line in unfolded.splitlines() if line.strip()]


def _events(lines: list[str]) -> Iterator[list[str]]:
    """The lines of each VEVENT, without those of what stands inside it (alarms)."""
    inside: list[str] = []
    found: list[str] = []
    count = 0
    for line in lines:
        name, _, value = line.partition(":")
        name, value = name.strip().upper(), value.strip().upper()
        if name == "BEGIN":
            inside.append(value)
            if value in ("VTODO", "VJOURNAL") or len(inside) > 4:
                raise ValueError(f"must be made of VEVENTs; {value[:40]} is none")
            if value == "VEVENT":
                found, count = [], count + 1
                if count > MOST_EVENTS:
                    raise ValueError(f"must have at most {MOST_EVENTS} events")
        elif name == "END":
            if not inside or inside.pop() != value:
                raise ValueError(f"has an {line[:40]!r} without its BEGIN")
            if value == "VEVENT":
                yield found
        elif inside and inside[-1] == "VEVENT":
            found.append(line)
    if inside:
        raise ValueError(f"has no END:{inside[-1][:40]}")


@dataclass(slots=True)
class _Draft:
    rules: list[Rule] = field(default_factory=list)
    begin: When | None = None
    zone: ZoneInfo | None = None
    end: When | None = None
    end_zone: ZoneInfo | None = None
    duration: timedelta | None = None
    is_in_days: bool = False
    dates: list[When] = field(default_factory=list)
    left_out: list[When] = field(default_factory=list)


def _event(lines: list[str]) -> CalendarEvent:
    draft = _Draft()
    seen = set()
    for line in lines:
        name = re.split("[;:]", line, maxsplit=1)[0].strip().upper()
        if name in _REFUSED:
            raise ValueError(f"{name} {_REFUSED[name]}")
        reader = _READERS.get(name)
        if reader is None:
            continue
        if name in seen and name in _ONCE:
            raise ValueError(f"{name} must not stand twice")
        seen.add(name)
        parameters, value = _parts(line)
        try:
            reader(draft, parameters, value)
        except ValueError as error:
            message = str(error)
            raise ValueError(message if name == "RRULE" else f"{name} {message}") from error
    return _finished(draft)


def _parts(line: str) -> tuple[dict[str, str], str]:
    try:
        _, parameters, value = Contentline(line).parts()  # type: ignore[no-untyped-call]  # icalendar has no types here
        return {name.upper(): str(one) for name, one in parameters.items()}, str(value).strip()
    except (ValueError, TypeError, IndexError, KeyError) as error:
        raise ValueError(f"has a line that is none of a calendar: {line[:60]!r}") from error


def _finished(draft: _Draft) -> CalendarEvent:
    if draft.begin is None and not draft.rules and not draft.dates:
        raise ValueError("must have an RRULE, or a DTSTART")
    if max(len(draft.dates), len(draft.left_out)) > MOST_DATES:
        raise ValueError(f"must have at most {MOST_DATES} dates in RDATE and in EXDATE")
    if len(draft.rules) > MOST_RULES:
        raise ValueError(f"must have at most {MOST_RULES} rules")
    if not draft.rules and draft.begin is not None:
        draft.dates.append(draft.begin)
    days, length = _length(draft)
    return CalendarEvent(
        tuple(draft.rules),
        draft.begin,
        draft.zone,
        tuple(draft.dates),
        tuple(draft.left_out),
        days,
        length,
    )


def _length(draft: _Draft) -> tuple[int, timedelta]:
    if draft.duration is not None and draft.end is not None:
        raise ValueError("must have DTEND or DURATION, not both")
    if draft.duration is not None:
        found = draft.duration
        days, length = (found.days, timedelta(seconds=found.seconds)) if draft.is_in_days else (0, found)
    elif draft.end is None:
        is_date = draft.begin is not None and not isinstance(draft.begin, datetime)
        days, length = int(is_date), timedelta(0)
    else:
        days, length = _from_begin_to_end(draft)
    if timedelta(days=days) + length > LONGEST:
        raise ValueError(f"must last at most {LONGEST.days} days")
    return days, length


def _from_begin_to_end(draft: _Draft) -> tuple[int, timedelta]:
    begin, end = draft.begin, draft.end
    if isinstance(begin, datetime) and isinstance(end, datetime):
        first, last = (_instant(begin, draft.zone), _instant(end, draft.end_zone or draft.zone))
        if (first.tzinfo is None) != (last.tzinfo is None):
            raise ValueError("DTSTART and DTEND must both have a time zone, or none")
        days, length = 0, last - first
    elif begin is None or isinstance(begin, datetime) or isinstance(end, datetime) or end is None:
        raise ValueError("DTEND must be of the same kind as DTSTART")
    else:
        days, length = (end - begin).days, timedelta(0)
    if days < 0 or length < timedelta(0) or not (days or length):
        raise ValueError("DTEND must be after DTSTART")
    return days, length


def _instant(value: datetime, zone: ZoneInfo | None) -> datetime:
    return value if value.tzinfo or zone is None else value.replace(tzinfo=zone).astimezone(UTC)


# --- the properties --------------------------------------------------------------------------------


def _read_rule(draft: _Draft, _parameters: dict[str, str], value: str) -> None:
    draft.rules.append(rules.read(value))


def _read_begin(draft: _Draft, parameters: dict[str, str], value: str) -> None:
    draft.begin, draft.zone = _time(parameters, value)


def _read_end(draft: _Draft, parameters: dict[str, str], value: str) -> None:
    draft.end, draft.end_zone = _time(parameters, value)


def _read_duration(draft: _Draft, _parameters: dict[str, str], value: str) -> None:
    draft.duration = rules.read_duration(value)
    draft.is_in_days = not value.upper().startswith(("PT", "+PT"))


def _read_dates(draft: _Draft, parameters: dict[str, str], value: str) -> None:
    draft.dates += _times(draft, parameters, value)


def _read_left_out(draft: _Draft, parameters: dict[str, str], value: str) -> None:
    draft.left_out += _times(draft, parameters, value)


def _times(draft: _Draft, parameters: dict[str, str], value: str) -> Iterator[When]:
    if parameters.get("VALUE", "").upper() == "PERIOD" or "/" in value:
        raise ValueError("must be dates or times; PERIOD is not supported")
    words = value.split(",")
    if len(words) > MOST_DATES:
        raise ValueError(f"must have at most {MOST_DATES} dates")
    for word in words:
        found, zone = _time(parameters, word)
        if isinstance(found, datetime) and zone is not None and zone is not draft.zone:
            # In the zone of DTSTART it stays what the clock shows; in another one it is an instant.
            found = found.replace(tzinfo=zone).astimezone(UTC)
        yield found


def _time(parameters: dict[str, str], value: str) -> tuple[When, ZoneInfo | None]:
    found = rules.read_time(value)
    name = parameters.get("TZID")
    if name is None or not isinstance(found, datetime) or found.tzinfo is not None:
        return found, None
    return found, zone_of(name)


_READERS: dict[str, Callable[[_Draft, dict[str, str], str], None]] = {
    "RRULE": _read_rule,
    "DTSTART": _read_begin,
    "DTEND": _read_end,
    "DURATION": _read_duration,
    "RDATE": _read_dates,
    "EXDATE": _read_left_out,
}
_ONCE = ("DTSTART", "DTEND", "DURATION")


def on_clock(value: When, at: time = time()) -> datetime:
    """A wall time: a date's is at ``at``. For what has no zone of its own."""
    return value if isinstance(value, datetime) else datetime.combine(value, at)
