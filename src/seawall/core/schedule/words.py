# SPDX-License-Identifier: Apache-2.0
"""A schedule in words, and its next times with what is unusual about them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from seawall.core.schedule.occurrences import next_after
from seawall.core.schedule.time_properties import TimeSchedule
from seawall.core.schedule.zone import wall_at

_DAYS = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


@dataclass(frozen=True, slots=True)
class PreviewedTime:
    """One due time."""

    at: datetime
    local: str
    """What the clocks of its zone show, with the zone's abbreviation."""
    note: str
    """What the clock change does to it; empty on ordinary days."""


def preview(schedule: TimeSchedule, *, now: datetime, count: int) -> tuple[PreviewedTime, ...]:
    """The next ``count`` due times after ``now``; fewer when the schedule ends."""
    found: list[PreviewedTime] = []
    at = next_after(schedule, now)
    while at is not None and len(found) < count:
        local = at.astimezone(schedule.zone)
        found.append(PreviewedTime(at, local.strftime("%Y-%m-%d %H:%M:%S %Z"), _note(schedule, at)))
        at = next_after(schedule, at)
    return tuple(found)


def describe(schedule: TimeSchedule) -> str:
    """In words for people; a pattern that has no simple ones stands as it is."""
    zone = "" if schedule.format == "interval" else f" ({schedule.zone.key})"
    return f"{_pattern(schedule)}{zone}"


def _pattern(schedule: TimeSchedule) -> str:
    if schedule.every_s is not None:
        return f"every {_duration(schedule.every_s)} from {schedule.start_at:%Y-%m-%d %H:%M:%S} UTC"
    if schedule.event is not None:
        return "by " + " and ".join(f"the rule {one.text}" for one in schedule.event.rules)
    minute, hour, day, month, weekday = schedule.fields.split()
    if not minute.isdigit() or month != "*":
        return f"by the pattern {schedule.fields}"
    if hour == "*" and (day, weekday) == ("*", "*"):
        return f"every hour at minute {int(minute)}"
    if not hour.isdigit():
        return f"by the pattern {schedule.fields}"
    at = f"at {int(hour):02}:{int(minute):02}"
    if (day, weekday) == ("*", "*"):
        return f"every day {at}"
    if day == "*" and weekday.isdigit():
        return f"every {_DAYS[int(weekday)]} {at}"
    if weekday == "*" and day.isdigit():
        return f"on day {int(day)} of every month {at}"
    return f"by the pattern {schedule.fields}"


def _duration(seconds: int) -> str:
    for size, word in ((86_400, "day"), (3600, "hour"), (60, "minute")):
        if seconds % size == 0:
            count = seconds // size
            return word if count == 1 else f"{count} {word}s"
    return "second" if seconds == 1 else f"{seconds} seconds"


def _note(schedule: TimeSchedule, at: datetime) -> str:
    if schedule.every_s is not None:
        return ""
    wall = wall_at(schedule.zone, at)
    first = wall.replace(tzinfo=schedule.zone, fold=0).astimezone(UTC)
    second = wall.replace(tzinfo=schedule.zone, fold=1).astimezone(UTC)
    if first != second:
        return (
            "the first of two such times: clocks go back" if at == first else "the second of two such times"
        )
    before = wall_at(schedule.zone, at - timedelta(seconds=1))
    is_after_gap = wall - before > timedelta(seconds=1)
    is_moved = is_after_gap and schedule.fields and "*" not in schedule.fields.split()[1]
    return "moved to the end of the hour that clocks leave out" if is_moved else ""
