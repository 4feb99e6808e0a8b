# SPDX-License-Identifier: Apache-2.0
"""The properties of a time trigger: what a user may write, and what is refused, by field, value and rule."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Protocol
from zoneinfo import ZoneInfo

import orjson

from seawall.core.errors import FieldFault, InvalidInputError
from seawall.core.schedule import calendar, crontab, exclusions, interval
from seawall.core.schedule.event import CalendarEvent
from seawall.core.schedule.exclusions import Exclusion
from seawall.core.schedule.steps import Steps

Json = dict[str, Any]

FORMATS = ("crontab", "calendar", "interval")
MISFIRES = ("run_latest", "skip", "run_all")
_CHOICES = {
    "dst_gap": ("run_after", "skip"),
    "dst_overlap": ("once", "twice"),
    "misfire": MISFIRES,
}
# name -> (default, least, most); seconds but for max_catchup
_NUMBERS = {
    "window": (1800, 0, 366 * 86_400),
    "spread": (0, 0, 86_400),
    "max_catchup": (10, 1, 1000),
}
_KNOWN = ("format", "pattern", "start_time", "end_time", "timezone", "exclusions", *_CHOICES, *_NUMBERS)
# How many of the first due times are looked at for one that comes too soon after another, and how far.
_SAMPLE = 50
_SAMPLED = timedelta(days=5 * 366)
# How many stretches without a run there may be at the beginning.
_MOST_EXCLUDED = 1000
_TICK = timedelta(microseconds=1)


class Times(Protocol):
    """The due times of a pattern, without regard to start and end."""

    def next(self, after: datetime, steps: Steps) -> datetime | None:
        """The first strictly after an instant; ``TooCostlyError`` when that takes too many steps."""
        ...

    def __hash__(self) -> int:
        """By identity: what was found is cached by it."""
        ...


@dataclass(frozen=True, slots=True)
class TimeSchedule:
    """A checked schedule. Equal ones are equal and hash alike: due times are cached by them."""

    format: str
    pattern: str
    zone: ZoneInfo
    start_at: datetime
    end_at: datetime | None
    """Inclusive."""
    window_s: int
    """How late a first start may be (seconds)."""
    dst_gap: str
    dst_overlap: str
    spread_s: int
    misfire: str
    max_catchup: int
    exclusions: tuple[Exclusion, ...]
    times: Times = field(compare=False)
    fields: str = ""
    """The five fields of a crontab pattern."""
    event: CalendarEvent | None = field(default=None, compare=False)
    every_s: int | None = None
    normalised: Json = field(default_factory=dict, compare=False)
    """What is stored: as given, with the start time that intervals count from."""

    @property
    def clock(self) -> ZoneInfo:
        """The zone that it follows: its own, or that of its DTSTART."""
        return self.zone if self.event is None else self.event.zone or self.zone

    @property
    def window(self) -> timedelta:
        return timedelta(seconds=self.window_s)


def parse_time_properties(
    properties: Mapping[str, Any], *, now: datetime, min_interval_s: float
) -> TimeSchedule:
    """Check everything a user has written.

    ``InvalidInputError`` names every wrong field at once where that is possible. ``min_interval_s`` is the
    least time between two due times. A naive start or end time is UTC; values may be Karbor's text ("1800").
    """
    from seawall.core.schedule.occurrences import next_after

    schedule = _read(properties, now)
    if schedule.end_at is not None and schedule.end_at < schedule.start_at:
        raise InvalidInputError.of(
            "properties.end_time", properties.get("end_time"), "must not be before start_time"
        )
    first = next_after(schedule, now)
    if first is None:
        if schedule.end_at is not None and next_after(replace(schedule, end_at=None), now) is not None:
            raise InvalidInputError.of(
                "properties.end_time", properties.get("end_time"), "leaves nothing that would ever be due"
            )
        raise InvalidInputError.of("properties.pattern", schedule.pattern, "never fires")
    _check_distance(schedule, first, min_interval_s)
    if schedule.exclusions:
        _check_exclusions(schedule, first)
    return schedule


def _check_distance(schedule: TimeSchedule, first: datetime, min_interval_s: float) -> None:
    from seawall.core.schedule.occurrences import next_after

    at = first
    for _ in range(_SAMPLE):
        following = next_after(schedule, at)
        if following is None or following - first > _SAMPLED:
            return
        if (following - at).total_seconds() < min_interval_s:
            raise InvalidInputError.of(
                "properties.pattern",
                schedule.pattern,
                f"fires {(following - at).total_seconds():g} s apart; the least is {min_interval_s:g} s",
            )
        at = following


def _check_exclusions(schedule: TimeSchedule, first: datetime) -> None:
    from seawall.core.schedule.occurrences import next_after, start_of

    at: datetime | None = first
    for _ in range(_MOST_EXCLUDED):
        if at is None or at - first > _SAMPLED:
            break
        if not start_of(schedule, at).is_skipped:
            return
        # On from the end of what covers it: a minute's schedule has thousands of times in one weekend.
        at = next_after(schedule, max(at, exclusions.covered_until(schedule.exclusions, at) - _TICK))
    names = ", ".join(one.name for one in schedule.exclusions)
    raise InvalidInputError.of("properties.exclusions", names, "leave nothing that would ever run")


def load_schedule(normalised: Mapping[str, Any]) -> TimeSchedule:
    """A stored schedule again. ``InvalidInputError`` when it no longer holds (a zone that is gone)."""
    return _load(orjson.dumps(normalised, option=orjson.OPT_SORT_KEYS))


@lru_cache(maxsize=4096)
def _load(content: bytes) -> TimeSchedule:
    # A stored schedule always has its start time: the epoch stands in for those of older versions.
    return _read(orjson.loads(content), datetime.fromtimestamp(0, UTC))


def _read(properties: Mapping[str, Any], now: datetime) -> TimeSchedule:
    faults = [
        FieldFault(f"properties.{name}", properties[name], f"is not known; known are {', '.join(_KNOWN)}")
        for name in properties
        if name not in _KNOWN
    ]
    values: Json = {}
    for name in ("format", "pattern"):
        value = properties.get(name)
        text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
        if not isinstance(text, str) or not text.strip():
            faults.append(FieldFault(f"properties.{name}", value, "is needed, as text"))
        values[name] = text
    if isinstance(values["format"], str) and values["format"] not in FORMATS:
        faults.append(
            FieldFault("properties.format", values["format"], f"must be one of {', '.join(FORMATS)}")
        )
    for reader in (_read_choices, _read_numbers, _read_times, _read_zone):
        reader(properties, values, faults)
    start = values["start_time"] or now.replace(microsecond=0)
    excluded: tuple[Exclusion, ...] = ()
    if "timezone" in values:
        excluded = exclusions.read(
            properties.get("exclusions"), zone=values["timezone"], start=start, faults=faults
        )
    if faults:
        raise InvalidInputError(faults)
    return _schedule(properties, values, start, excluded)


def _schedule(
    properties: Mapping[str, Any], values: Json, start: datetime, excluded: tuple[Exclusion, ...]
) -> TimeSchedule:
    normalised = {name: value for name, value in properties.items() if value is not None}
    normalised["start_time"] = properties.get("start_time") or start.strftime("%Y-%m-%d %H:%M:%S")
    pattern, zone = str(values["pattern"]), values["timezone"]
    rules = values["dst_gap"], values["dst_overlap"]
    fields, event, every_s = "", None, None
    times: Times
    if values["format"] == "crontab":
        fields = crontab.check(pattern)
        times = crontab.times(fields, zone, *rules)
    elif values["format"] == "calendar":
        event = calendar.check(pattern)
        try:
            times = calendar.times(event, zone, start, *rules)
        except ValueError as error:
            raise InvalidInputError.of("properties.pattern", pattern, str(error)) from error
    else:
        every_s = interval.check(pattern)
        times = interval.IntervalTimes(start, every_s)
    return TimeSchedule(
        format=values["format"],
        pattern=pattern,
        zone=zone,
        start_at=start,
        end_at=values["end_time"],
        window_s=values["window"],
        dst_gap=values["dst_gap"],
        dst_overlap=values["dst_overlap"],
        spread_s=values["spread"],
        misfire=values["misfire"],
        max_catchup=values["max_catchup"],
        exclusions=excluded,
        times=times,
        fields=fields,
        event=event,
        every_s=every_s,
        normalised=normalised,
    )


def _read_choices(properties: Mapping[str, Any], values: Json, faults: list[FieldFault]) -> None:
    for name, choices in _CHOICES.items():
        value = properties.get(name)
        values[name] = choices[0] if value is None else value
        if values[name] not in choices:
            faults.append(FieldFault(f"properties.{name}", value, f"must be one of {', '.join(choices)}"))


def _read_numbers(properties: Mapping[str, Any], values: Json, faults: list[FieldFault]) -> None:
    for name, (default, least, most) in _NUMBERS.items():
        value = properties.get(name)
        if value is None:
            values[name] = default
            continue
        try:
            number = int(value) if isinstance(value, (str, int)) and not isinstance(value, bool) else None
        except ValueError:
            number = None
        if number is None or not least <= number <= most:
            faults.append(
                FieldFault(f"properties.{name}", value, f"must be a whole number from {least} to {most}")
            )
        values[name] = number


def _read_times(properties: Mapping[str, Any], values: Json, faults: list[FieldFault]) -> None:
    for name in ("start_time", "end_time"):
        value = properties.get(name)
        values[name] = None
        if value is None or value == "":
            continue
        try:
            found = datetime.fromisoformat(value)
        except (ValueError, TypeError):
            faults.append(
                FieldFault(f"properties.{name}", value, "must be a time like 2030-01-31 02:00:00 (UTC)")
            )
            continue
        try:
            values[name] = found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
        except OverflowError:
            faults.append(FieldFault(f"properties.{name}", value, "lies outside the years 1 to 9999"))
            continue
        if name == "start_time" and not 1900 <= values[name].year <= 9000:
            faults.append(FieldFault(f"properties.{name}", value, "must lie in the years 1900 to 9000"))


def _read_zone(properties: Mapping[str, Any], values: Json, faults: list[FieldFault]) -> None:
    name = properties.get("timezone")
    try:
        values["timezone"] = ZoneInfo("UTC" if name is None else name)
    except (KeyError, ValueError, TypeError, OSError):
        faults.append(FieldFault("properties.timezone", name, "must be an IANA time zone like Europe/Paris"))
