# SPDX-License-Identifier: Apache-2.0
"""Recurrence rules of RFC 5545: what one may say, and what is refused."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import product
from zoneinfo import ZoneInfo

FREQUENCIES = ("MINUTELY", "HOURLY", "DAILY", "WEEKLY", "MONTHLY", "YEARLY")
WEEKDAYS = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")
_MOST_INTERVAL = 100_000
# With COUNT a rule is walked from its start.
MOST_COUNT = 1000
_MOST_TIMES = 1440
_BYDAY = re.compile(r"([+-]?\d{1,2})?(MO|TU|WE|TH|FR|SA|SU)", re.ASCII)
_ANY = datetime(2000, 1, 1)  # noqa: DTZ001 - a wall time is naive
_UNTILS = ("%Y%m%dT%H%M%SZ", "%Y%m%dT%H%M%S", "%Y%m%d")
# part -> (least, most, whether negative ones count from the end)
_LISTS = {
    "BYMONTH": (1, 12, False),
    "BYMONTHDAY": (1, 31, True),
    "BYYEARDAY": (1, 366, True),
    "BYWEEKNO": (1, 53, True),
    "BYHOUR": (0, 23, False),
    "BYMINUTE": (0, 59, False),
    "BYSECOND": (0, 59, False),
    "BYSETPOS": (1, 366 * _MOST_TIMES, True),
}
_OTHERS = ("FREQ", "INTERVAL", "COUNT", "UNTIL", "WKST", "BYDAY")
# part -> the frequencies that it may stand with
_ONLY_WITH = {
    "BYWEEKNO": ("YEARLY",),
    "BYYEARDAY": ("YEARLY", "HOURLY", "MINUTELY"),
    "BYMONTHDAY": ("YEARLY", "MONTHLY", "DAILY", "HOURLY", "MINUTELY"),
}


@dataclass(frozen=True, slots=True, eq=False)
class Rule:
    """A checked rule. Compared by identity; empty means that the rule does not say."""

    text: str
    frequency: str
    interval: int = 1
    count: int | None = None
    until: datetime | date | None = None
    """Inclusive; aware, or a naive wall time or date."""
    week_start: int = 0
    """Monday is 0."""
    months: tuple[int, ...] = ()
    month_days: tuple[int, ...] = ()
    year_days: tuple[int, ...] = ()
    week_numbers: tuple[int, ...] = ()
    weekdays: tuple[tuple[int, int], ...] = ()
    """(n-th of its month or year, weekday); n = 0: all of them."""
    hours: tuple[int, ...] = ()
    minutes: tuple[int, ...] = ()
    seconds: tuple[int, ...] = ()
    positions: tuple[int, ...] = ()

    @property
    def is_sub_daily(self) -> bool:
        return self.frequency in ("MINUTELY", "HOURLY")

    @property
    def is_plain(self) -> bool:
        """Nothing but a frequency and an interval."""
        return not (
            self.months or self.month_days or self.year_days or self.week_numbers or self.weekdays
            or self.hours or self.minutes or self.seconds or self.positions
        )  # fmt: skip

    def until_in(self, zone: ZoneInfo) -> datetime | None:
        """The last instant, inclusive."""
        if self.until is None:
            return None
        if isinstance(self.until, datetime):
            found = self.until if self.until.tzinfo else self.until.replace(tzinfo=zone, fold=1)
            return found.astimezone(UTC)
        end_of_day = datetime(self.until.year, self.until.month, self.until.day, 23, 59, 59, tzinfo=zone)
        return end_of_day.astimezone(UTC)


def read(text: str) -> Rule:
    """A rule; ``ValueError`` says what is wrong with it."""
    parts: dict[str, str] = {}
    for part in text.strip().rstrip(";").split(";"):
        name, equals, value = (one.strip().upper() for one in part.partition("="))
        if not equals or not (name in _LISTS or name in _OTHERS):
            raise ValueError(f"{part[:40]!r} is not a part of a recurrence rule")
        if name in parts:
            raise ValueError(f"{name} must not stand twice")
        parts[name] = value
    frequency = parts.get("FREQ", "")
    if frequency == "SECONDLY":
        raise ValueError("must not be FREQ=SECONDLY")
    if frequency not in FREQUENCIES:
        raise ValueError("must have FREQ=MINUTELY, HOURLY, DAILY, WEEKLY, MONTHLY or YEARLY")
    _check_company(parts, frequency)
    lists = {name: _numbers(name, parts[name]) for name in _LISTS if name in parts}
    found = Rule(
        text=";".join(f"{name}={value}" for name, value in parts.items()),
        frequency=frequency,
        interval=_whole("INTERVAL", parts.get("INTERVAL", "1"), _MOST_INTERVAL),
        count=_whole("COUNT", parts["COUNT"], MOST_COUNT) if "COUNT" in parts else None,
        until=_until(parts["UNTIL"]) if "UNTIL" in parts else None,
        week_start=_weekday("WKST", parts.get("WKST", "MO")),
        months=lists.get("BYMONTH", ()),
        month_days=lists.get("BYMONTHDAY", ()),
        year_days=lists.get("BYYEARDAY", ()),
        week_numbers=lists.get("BYWEEKNO", ()),
        weekdays=_days(parts["BYDAY"], parts) if "BYDAY" in parts else (),
        hours=lists.get("BYHOUR", ()),
        minutes=lists.get("BYMINUTE", ()),
        seconds=lists.get("BYSECOND", ()),
        positions=lists.get("BYSETPOS", ()),
    )
    if len(times_of_day(found, _ANY)) > _MOST_TIMES:
        raise ValueError(f"is too costly: it names more than {_MOST_TIMES} times of a day")
    return found


def times_of_day(rule: Rule, phase: datetime) -> tuple[int, ...]:
    """The seconds of a day that a rule of a day or longer names; what it does not say is the phase's."""
    named = product(
        rule.hours or (phase.hour,), rule.minutes or (phase.minute,), rule.seconds or (phase.second,)
    )
    return tuple(hour * 3600 + minute * 60 + second for hour, minute, second in named)


def _check_company(parts: dict[str, str], frequency: str) -> None:
    for name, frequencies in _ONLY_WITH.items():
        if name in parts and frequency not in frequencies:
            raise ValueError(f"{name} must not stand with FREQ={frequency}")
    if "COUNT" in parts and "UNTIL" in parts:
        raise ValueError("must have COUNT or UNTIL, not both")
    if "BYSETPOS" in parts and not any(name.startswith("BY") for name in parts if name != "BYSETPOS"):
        raise ValueError("BYSETPOS needs another BY part to choose from")


def _numbers(name: str, text: str) -> tuple[int, ...]:
    least, most, has_negative = _LISTS[name]
    found = set()
    for word in text.split(","):
        number = _number(word)
        size = abs(number) if has_negative and number is not None else number
        if number is None or size is None or not least <= size <= most:
            sign = " or the same with a minus" if has_negative else ""
            raise ValueError(f"{name} {word[:20]!r} must be from {least} to {most}{sign}")
        found.add(number)
    return tuple(sorted(found))


def _number(word: str) -> int | None:
    digits = word[1:] if word[:1] in ("+", "-") else word
    return int(word) if digits.isascii() and digits.isdigit() and len(digits) <= 7 else None


def _whole(name: str, text: str, most: int) -> int:
    number = _number(text)
    if number is None or not 1 <= number <= most:
        raise ValueError(f"{name} {text[:20]!r} must be a whole number from 1 to {most}")
    return number


def _weekday(name: str, text: str) -> int:
    if text not in WEEKDAYS:
        raise ValueError(f"{name} {text[:20]!r} must be one of {', '.join(WEEKDAYS)}")
    return WEEKDAYS.index(text)


def _days(text: str, parts: dict[str, str]) -> tuple[tuple[int, int], ...]:
    found = set()
    is_monthly = parts["FREQ"] == "MONTHLY" or (parts["FREQ"] == "YEARLY" and "BYMONTH" in parts)
    most = 5 if is_monthly else 53
    for word in text.split(","):
        match = _BYDAY.fullmatch(word)
        if match is None:
            raise ValueError(f"BYDAY {word[:20]!r} must be one of {', '.join(WEEKDAYS)}, or 1MO, -1FR")
        if match[1] is not None:
            if parts["FREQ"] not in ("MONTHLY", "YEARLY") or "BYWEEKNO" in parts:
                raise ValueError(f"BYDAY {word!r}: a number goes with FREQ=MONTHLY or YEARLY, no BYWEEKNO")
            if not 1 <= abs(int(match[1])) <= most:
                raise ValueError(f"BYDAY {word!r} must have a number from 1 to {most}, or with a minus")
        found.add((int(match[1] or 0), WEEKDAYS.index(match[2])))
    return tuple(sorted(found))


def _until(text: str) -> datetime | date:
    found = _strptime(text)
    if found is None or not 1900 <= found.year <= 9900:
        raise ValueError(f"UNTIL {text[:20]!r} must be a date like 20301231 or 20301231T235959Z")
    return found


def _strptime(text: str) -> datetime | date | None:
    for form in _UNTILS:
        reader: Callable[[str, str], datetime] = datetime.strptime
        try:
            found = reader(text, form)
        except ValueError:
            continue
        if form.endswith("Z"):
            return found.replace(tzinfo=UTC)
        return found if "T" in form else found.date()
    return None


def read_time(text: str) -> datetime | date:
    """A DATE or DATE-TIME of RFC 5545: aware with Z, else naive. ``ValueError`` when it is neither."""
    found = _strptime(text.strip().upper())
    if found is None or len(text.strip()) < 8 or not 1900 <= found.year <= 9900:
        raise ValueError(f"{text[:20]!r} must be a date like 20301231 or a time like 20301231T020000Z")
    return found


_DURATION = re.compile(
    r"\+?P(?:(\d{1,5})W|(?:(\d{1,5})D)?(?:T(?:(\d{1,6})H)?(?:(\d{1,7})M)?(?:(\d{1,9})S)?)?)", re.ASCII
)


def read_duration(text: str) -> timedelta:
    """A positive DURATION of RFC 5545 (``PT8H``, ``P2D``); ``ValueError`` when it is anything else."""
    match = _DURATION.fullmatch(text.strip().upper())
    weeks, days, hours, minutes, seconds = (int(one or 0) for one in match.groups()) if match else (0,) * 5
    found = timedelta(weeks=weeks, days=days, hours=hours, minutes=minutes, seconds=seconds)
    if not found:
        raise ValueError(f"{text[:20]!r} must be a duration like PT8H or P2D")
    return found
