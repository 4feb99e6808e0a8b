# SPDX-License-Identifier: Apache-2.0
"""When things are due, by brute force: every day and hour is looked at. Shares nothing with the engine.

The rules are those of docs/schedules.md: a fixed time of day that does not exist runs at the first instant
after the gap, one that exists twice runs at the first of the two; a pattern with a wildcard or a step in its
hour field runs in every real hour; an interval counts real seconds from its start.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

ZONES = (
    "UTC", "Europe/Paris", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata", "America/St_Johns",
    "Pacific/Auckland", "America/Santiago",
)  # fmt: skip
_WEEKDAYS = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")


@dataclass(frozen=True, slots=True)
class Wanted:
    """A schedule in our own words, and as a user writes it."""

    zone: str
    properties: dict[str, Any]
    overlap: str
    spread_s: int = 0
    every_s: int = 0
    """Of an interval; 0 otherwise."""
    since: datetime | None = None
    minutes: tuple[int, ...] = ()
    hours: tuple[int, ...] = ()
    is_each_hour: bool = False
    """Whether it runs in real hours rather than at times of the day."""
    months: tuple[int, ...] = tuple(range(1, 13))
    days: tuple[int, ...] = ()
    """Of the month; empty is any."""
    weekdays: tuple[int, ...] = field(default=())
    """0 is Monday; empty is any."""


def due_times(wanted: Wanted, after: datetime, through: datetime) -> list[datetime]:
    """All due times with after < t <= through."""
    if wanted.every_s:
        return _interval(wanted, after, through)
    zone = ZoneInfo(wanted.zone)
    found = (
        _by_hours(wanted, zone, after, through)
        if wanted.is_each_hour
        else _by_days(wanted, zone, after, through)
    )
    return sorted(at for at in found if after < at <= through)


def _interval(wanted: Wanted, after: datetime, through: datetime) -> list[datetime]:
    assert wanted.since is not None
    found, at = [], wanted.since
    while at <= through:
        if at > after:
            found.append(at)
        at += timedelta(seconds=wanted.every_s)
    return found


def _by_hours(wanted: Wanted, zone: ZoneInfo, after: datetime, through: datetime) -> set[datetime]:
    found = set()
    at = after.replace(minute=0, second=0, microsecond=0)
    while at <= through:
        # By quarters: offsets of zones are whole quarters of an hour.
        for quarter in range(4):
            start = at + timedelta(minutes=15 * quarter)
            local = start.astimezone(zone)
            if local.hour in wanted.hours and _is_day(wanted, local):
                for minute in wanted.minutes:
                    if local.minute <= minute < local.minute + 15:
                        found.add(start + timedelta(minutes=minute - local.minute))
        at += timedelta(hours=1)
    return found


def _by_days(wanted: Wanted, zone: ZoneInfo, after: datetime, through: datetime) -> set[datetime]:
    found = set()
    day = after.replace(tzinfo=None, hour=0, minute=0, second=0, microsecond=0) - timedelta(days=2)
    while day.replace(tzinfo=UTC) <= through + timedelta(days=2):
        if _is_day(wanted, day):
            for hour in wanted.hours:
                for minute in wanted.minutes:
                    found.add(_instant(day.replace(hour=hour, minute=minute), zone))
        day += timedelta(days=1)
    return found


def _is_day(wanted: Wanted, day: datetime) -> bool:
    if day.month not in wanted.months:
        return False
    by_day = not wanted.days or day.day in wanted.days
    by_weekday = not wanted.weekdays or day.weekday() in wanted.weekdays
    if wanted.days and wanted.weekdays:
        return day.day in wanted.days or day.weekday() in wanted.weekdays
    return by_day and by_weekday


def _instant(local: datetime, zone: ZoneInfo) -> datetime:
    """The first instant of this wall time; of one that does not exist, the first after the gap."""
    at = local.replace(tzinfo=zone).astimezone(UTC)
    if at.astimezone(zone).replace(tzinfo=None) == local:
        return at
    # In a gap: minute by minute until the offset has changed.
    at = (local - timedelta(hours=3)).replace(tzinfo=zone).astimezone(UTC)
    before = at.astimezone(zone).utcoffset()
    while at.astimezone(zone).utcoffset() == before:
        at += timedelta(minutes=1)
    return at


# --- making them -------------------------------------------------------------------------------


def wanted_schedules(chance: random.Random, count: int, start: datetime) -> list[Wanted]:
    """A tenth hourly or denser, the rest daily to yearly, over all zones."""
    makers = (_daily, _weekly, _monthly, _either, _yearly, _long_interval, _rule)
    return [
        _hourly(chance, start) if number < count // 10 else chance.choice(makers)(chance, start)
        for number in range(count)
    ]


def _wanted(chance: random.Random, properties: dict[str, Any], **more: Any) -> Wanted:
    zone = more.pop("zone", None) or chance.choice(ZONES)
    spread_s = chance.choice((0, 0, 0, 600))
    given = {
        "timezone": zone,
        "start_time": "2026-02-01 00:00:00",
        "window": chance.choice((0, 1800, 7200)),
        "misfire": chance.choice(("skip", "run_latest", "run_all")),
        "max_catchup": chance.choice((1, 3, 10)),
        "spread": spread_s,
        **properties,
    }
    overlap = chance.choice(("skip", "queue_one", "cancel_running", "allow"))
    return Wanted(zone, given, overlap, spread_s, **more)


def _cron(chance: random.Random, pattern: str, **more: Any) -> Wanted:
    return _wanted(chance, {"format": "crontab", "pattern": pattern}, **more)


def _hourly(chance: random.Random, start: datetime) -> Wanted:
    minute = chance.randrange(60)
    kind = chance.choice(("hour", "hour", "hour", "hours", "half", "quarter", "interval"))
    if kind == "interval":
        return _interval_of(chance, start, chance.choice((1800, 3600, 3000)))
    if kind == "quarter" and chance.random() < 0.5:
        return _cron(
            chance, "*/15 * * * *", minutes=(0, 15, 30, 45), hours=tuple(range(24)), is_each_hour=True
        )
    if kind == "half":
        later = (minute % 30, minute % 30 + 30)
        return _cron(
            chance, f"{later[0]},{later[1]} * * * *", minutes=later, hours=tuple(range(24)), is_each_hour=True
        )
    if kind == "hours":
        step = chance.choice((2, 3, 4))
        return _cron(
            chance, f"{minute} */{step} * * *", minutes=(minute,), hours=tuple(range(0, 24, step)),
            is_each_hour=True,
        )  # fmt: skip
    return _cron(chance, f"{minute} * * * *", minutes=(minute,), hours=tuple(range(24)), is_each_hour=True)


def _daily(chance: random.Random, start: datetime) -> Wanted:
    minute, hour = chance.randrange(60), chance.choice((0, 1, 2, 2, 2, 3, chance.randrange(24)))
    return _cron(chance, f"{minute} {hour} * * *", minutes=(minute,), hours=(hour,))


def _weekly(chance: random.Random, start: datetime) -> Wanted:
    weekdays = tuple(sorted(chance.sample(range(7), chance.randint(1, 5))))
    names = ",".join(str((day + 1) % 7) for day in weekdays)
    hour = chance.randrange(24)
    return _cron(chance, f"30 {hour} * * {names}", minutes=(30,), hours=(hour,), weekdays=weekdays)


def _monthly(chance: random.Random, start: datetime) -> Wanted:
    days = tuple(sorted(chance.sample(range(1, 32), chance.randint(1, 3))))
    hour = chance.randrange(24)
    pattern = f"15 {hour} {','.join(map(str, days))} * *"
    return _cron(chance, pattern, minutes=(15,), hours=(hour,), days=days)


def _either(chance: random.Random, start: datetime) -> Wanted:
    """Day of the month and day of the week both restricted mean either."""
    day, weekday = chance.randint(1, 28), chance.randrange(7)
    return _cron(
        chance,
        f"45 2 {day} * {(weekday + 1) % 7}",
        minutes=(45,),
        hours=(2,),
        days=(day,),
        weekdays=(weekday,),
    )


def _yearly(chance: random.Random, start: datetime) -> Wanted:
    month, day = chance.randint(1, 12), chance.randint(1, 28)
    return _cron(chance, f"0 2 {day} {month} *", minutes=(0,), hours=(2,), days=(day,), months=(month,))


def _long_interval(chance: random.Random, start: datetime) -> Wanted:
    return _interval_of(chance, start, chance.choice((86_400, 100_000, 7 * 86_400, 1_000_000)))


def _interval_of(chance: random.Random, start: datetime, every_s: int) -> Wanted:
    since = datetime(2026, 2, 1, tzinfo=UTC) + timedelta(seconds=chance.randrange(86_400))
    properties = {
        "format": "interval", "pattern": str(every_s), "start_time": since.strftime("%Y-%m-%d %H:%M:%S")
    }  # fmt: skip
    return _wanted(chance, properties, zone="UTC", every_s=every_s, since=since)


def _rule(chance: random.Random, start: datetime) -> Wanted:
    hour, minute = chance.randrange(24), chance.randrange(60)
    clock = f"BYHOUR={hour};BYMINUTE={minute};BYSECOND=0"
    kind = chance.choice(("DAILY", "WEEKLY", "MONTHLY"))
    more: dict[str, Any] = {}
    rule = f"FREQ={kind};{clock}"
    if kind == "WEEKLY":
        weekday = chance.randrange(7)
        more["weekdays"] = (weekday,)
        rule += f";BYDAY={_WEEKDAYS[weekday]}"
    elif kind == "MONTHLY":
        day = chance.randint(1, 31)
        more["days"] = (day,)
        rule += f";BYMONTHDAY={day}"
    return _wanted(
        chance, {"format": "calendar", "pattern": f"RRULE:{rule}"}, minutes=(minute,), hours=(hour,), **more
    )
