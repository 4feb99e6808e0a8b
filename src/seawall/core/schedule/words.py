# SPDX-License-Identifier: Apache-2.0
"""A schedule in words, for people."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime

from seawall.core.schedule import crontab
from seawall.core.schedule.crontab import CronFields
from seawall.core.schedule.event import CalendarEvent
from seawall.core.schedule.rule import Rule
from seawall.core.schedule.time_properties import TimeSchedule

# Python's Monday is 0.
_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October",
    "November", "December",
)  # fmt: skip
_ORDINALS = ("", "first", "second", "third", "fourth", "fifth")
_UNITS = {
    "MINUTELY": "minute",
    "HOURLY": "hour",
    "DAILY": "day",
    "WEEKLY": "week",
    "MONTHLY": "month",
    "YEARLY": "year",
}
# More times of a day than these are said as hours and minutes.
_MOST_TIMES = 6


def describe(schedule: TimeSchedule) -> str:
    """In words for people, with the zone and the exclusions."""
    zone = "" if schedule.format == "interval" else f" ({schedule.clock.key})"
    excluded = ""
    if schedule.exclusions:
        said = (f"{'not' if one.action == 'skip' else 'later'} in {one.name}" for one in schedule.exclusions)
        excluded = f", {', '.join(said)}"
    return f"{_pattern(schedule)}{zone}{excluded}"


def duration(seconds: int) -> str:
    """``hour``, ``2 days``, ``90 seconds``: in the largest unit that says it wholly."""
    for size, word in ((86_400, "day"), (3600, "hour"), (60, "minute")):
        if seconds % size == 0:
            return _several(seconds // size, word)
    return _several(seconds, "second")


def _several(count: int, word: str) -> str:
    return f"{count} {word}{'' if count == 1 else 's'}"


def _every(count: int, word: str) -> str:
    return f"every {word}" if count == 1 else f"every {count} {word}s"


def _pattern(schedule: TimeSchedule) -> str:
    if schedule.every_s is not None:
        every = duration(schedule.every_s).removeprefix("1 ")
        return f"every {every} from {schedule.start_at:%Y-%m-%d %H:%M:%S} UTC"
    if schedule.event is not None:
        return _event(schedule.event)
    return _crontab(crontab.read(schedule.fields))


# --- crontabs --------------------------------------------------------------------------------------


def _crontab(fields: CronFields) -> str:
    months = "" if len(fields.months) == 12 else _list(_MONTHS[one - 1] for one in fields.months)
    days = _cron_days(fields, months or "every month")
    if months and f" of {months}" not in days:
        days = f"{days} in {months}".lstrip()
    time = _cron_time(fields)
    if time.startswith("every"):
        return f"{time} {days}".rstrip()
    return f"{days if days and not days.startswith('in ') else f'every day {days}'.rstrip()} {time}"


def _cron_time(fields: CronFields) -> str:
    minutes, hours = fields.minutes, fields.hours
    step = _step(minutes, 60)
    if len(hours) == 24:
        if step:
            return _every(step, "minute")
        return f"every hour at minute {_list(map(str, minutes))}"
    hour_step = _step(hours, 24)
    if fields.is_hourly and hour_step:
        return f"{_every(hour_step, 'hour')} at minute {_list(map(str, minutes))}"
    if len(hours) * len(minutes) <= _MOST_TIMES:
        return f"at {_list(f'{hour:02}:{minute:02}' for hour in hours for minute in minutes)}"
    at = _every(step, "minute") if step else f"at minute {_list(map(str, minutes))}"
    return f"{at} of the hours {_list(_runs(hours, str))}"


def _cron_days(fields: CronFields, months: str) -> str:
    _, _, day, _, weekday = fields.text.split()
    by_day = []
    if day != "*" and fields.days:
        by_day.append(f"day {_list(_runs(_bits(fields.days), str))}")
    by_day += ["the last day"] * fields.is_last_day + ["the last working day"] * fields.is_last_workday
    by_week = []
    if weekday != "*" and fields.weekdays:
        by_week = _runs(sorted((one - 1) % 7 for one in _bits(fields.weekdays)), lambda one: _WEEKDAYS[one])
    nth = [f"the {_nth(number)} {_WEEKDAYS[(one - 1) % 7]}" for one, number in fields.nth_weekdays]
    of = "" if months == "every month" else f" of {months}"
    weeks = [f"every {_list(by_week)}{of}"] if by_week else []
    if nth:
        weeks.append(f"on {_list(nth)} of {months}")
    if not by_day:
        return " or ".join(weeks)
    days = f"on {_list(by_day)} of {months}"
    if not weeks or fields.is_either_day:
        return " or ".join([days, *weeks])
    return f"{days} if it is {_list([*by_week, *nth])}"


def _step(values: Sequence[int], of: int) -> int:
    """n, when these are 0, n, 2n ... of all; 0 otherwise."""
    step = of if len(values) == 1 else values[1] - values[0]
    return step if of % step == 0 and tuple(values) == tuple(range(0, of, step)) and step < of else 0


# --- rules -----------------------------------------------------------------------------------------


def _event(event: CalendarEvent) -> str:
    said = [_rule(one) for one in event.rules]
    begin = event.begin
    if begin is not None and event.rules:
        said[-1] += f" from {_when(begin)}"
    dates = [_when(one) for one in event.dates]
    if dates:
        said.append(f"on {_list(dates[:3])}" + (f" and {len(dates) - 3} more" if len(dates) > 3 else ""))
    left_out = f", but for {_several(len(event.left_out), 'time')} left out" if event.left_out else ""
    return " and ".join(said) + left_out


def _when(value: object) -> str:
    return value.strftime("%Y-%m-%d %H:%M:%S") if isinstance(value, datetime) else str(value)


def _rule(rule: Rule) -> str:
    said = [_every(rule.interval, _UNITS[rule.frequency])]
    if rule.weekdays:
        days = [
            f"the {_nth(number)} {_WEEKDAYS[day]}" if number else _WEEKDAYS[day]
            for number, day in rule.weekdays
        ]
        said.append(f"on {_list(days)}")
    if rule.month_days:
        said.append(f"on {_list(_place(one, 'day') for one in rule.month_days)}")
    if rule.year_days:
        said.append(f"on {_list(_place(one, 'day') for one in rule.year_days)} of the year")
    if rule.week_numbers:
        said.append(f"in {_list(_place(one, 'week') for one in rule.week_numbers)}")
    if rule.months:
        said.append(f"in {_list(_MONTHS[one - 1] for one in rule.months)}")
    said += _rule_time(rule)
    if rule.positions:
        said.append(f"(only the {_list(_nth(one) for one in rule.positions)} of these)")
    if rule.count is not None:
        said.append(f"for {_several(rule.count, 'time')}")
    if rule.until is not None:
        said.append(f"until {_when(rule.until)}")
    return " ".join(said)


def _rule_time(rule: Rule) -> list[str]:
    seconds = [] if rule.seconds in ((), (0,)) else [f"at second {_list(map(str, rule.seconds))}"]
    if rule.hours and rule.minutes and len(rule.hours) * len(rule.minutes) <= _MOST_TIMES:
        return [
            f"at {_list(f'{hour:02}:{minute:02}' for hour in rule.hours for minute in rule.minutes)}",
            *seconds,
        ]
    said = []
    if rule.minutes:
        said.append(f"at minute {_list(map(str, rule.minutes))}")
    if rule.hours:
        said.append(f"in the hours {_list(_runs(rule.hours, str))}")
    return said + seconds


# --- the small words -------------------------------------------------------------------------------


def _nth(number: int) -> str:
    if number == -1:
        return "last"
    ordinal = _ORDINALS[abs(number)] if abs(number) < len(_ORDINALS) else f"{abs(number)}th"
    return ordinal if number > 0 else f"{ordinal} from last"


def _place(number: int, word: str) -> str:
    return f"{word} {number}" if number > 0 else f"the {_nth(number)} {word}"


def _bits(bits: int) -> list[int]:
    return [one for one in range(bits.bit_length()) if bits >> one & 1]


def _runs(values: Sequence[int], word: Callable[[int], str]) -> list[str]:
    """Three or more in a row as the first to the last."""
    found: list[str] = []
    place = 0
    while place < len(values):
        end = place
        while end + 1 < len(values) and values[end + 1] == values[end] + 1:
            end += 1
        if end - place >= 2:
            found.append(f"{word(values[place])} to {word(values[end])}")
        else:
            found += [word(one) for one in values[place : end + 1]]
        place = end + 1
    return found


def _list(words: Iterable[str]) -> str:
    found = list(words)
    return found[0] if len(found) == 1 else f"{', '.join(found[:-1])} and {found[-1]}"
