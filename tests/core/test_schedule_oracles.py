# SPDX-License-Identifier: Apache-2.0
"""Due times against others' engines and against brute force: cronsim, dateutil, and a walk through days."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim
from dateutil.rrule import rrule, rruleset, rrulestr
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from seawall.core.errors import InvalidInputError
from seawall.core.schedule import TimeSchedule, load_schedule, times_between

NAIVE = datetime(2026, 1, 1, 9, 30)  # noqa: DTZ001 - what the oracles count from
ZONES = (
    "UTC", "Europe/Paris", "Europe/Dublin", "America/New_York", "America/Havana", "Australia/Lord_Howe",
    "Antarctica/Troll", "Africa/Casablanca", "Asia/Kathmandu", "America/Santiago",
)  # fmt: skip
FAR = timedelta(days=40_000)


def schedule(format: str, pattern: str, start: datetime = NAIVE, **more: Any) -> TimeSchedule:
    """Without the checks of a new one: what never fires, or too often, is also compared."""
    return load_schedule(
        {"format": format, "pattern": pattern, "start_time": f"{start:%Y-%m-%d %H:%M:%S}", **more}
    )


def first(one: TimeSchedule, after: datetime, count: int) -> list[datetime]:
    """The first due times after a naive UTC time, naive again."""
    aware = after.replace(tzinfo=UTC)
    return [at.replace(tzinfo=None) for at in times_between(one, aware, aware + FAR, limit=count)]


# --- crontabs ----------------------------------------------------------------------------------------


def field(low: int, high: int, *more: str) -> st.SearchStrategy[str]:
    number = st.integers(low, high)
    term = st.one_of(
        st.just("*"),
        number.map(str),
        st.tuples(number, number).map(lambda two: f"{min(two)}-{max(two)}"),
        st.integers(2, max((high - low) // 2, 2)).map(lambda step: f"*/{step}"),
        st.tuples(number, number, st.integers(1, 3)).map(
            lambda t: f"{low}-{max(t[0], t[1], low + 1)}/{t[2]}"
        ),
        *([st.sampled_from(more)] if more else []),
    )
    return st.lists(term, min_size=1, max_size=2).map(",".join)


CRONTABS = st.tuples(
    field(0, 59),
    field(0, 23),
    st.one_of(field(1, 31), st.sampled_from(["L", "LW", "*"])),
    field(1, 12, "JAN", "feb-APR"),
    st.one_of(field(0, 6), st.sampled_from(["5L", "1#2", "5#5", "MON-FRI", "7", "0L", "*"])),
).map(" ".join)
INSTANTS = st.integers(0, 80 * 365 * 1440).map(lambda minute: NAIVE + timedelta(minutes=minute))


@given(CRONTABS, INSTANTS)
@settings(max_examples=60, deadline=None)
def test_crontabs_are_due_as_cronsim_says(pattern: str, after: datetime) -> None:
    try:
        one = schedule("crontab", pattern)
    except InvalidInputError as error:
        assert "never" in str(error)
        return
    assert first(one, after, 4) == list(islice(CronSim(pattern, after), 4))


def test_leap_days_are_those_of_the_calendar() -> None:
    """2100 is none."""
    found = first(schedule("crontab", "0 0 29 2 *"), datetime(2090, 1, 1), 3)  # noqa: DTZ001 - naive UTC
    assert [at.year for at in found] == [2092, 2096, 2104]


# --- rules -------------------------------------------------------------------------------------------

DAYS = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")


def numbers(low: int, high: int, *, is_signed: bool = False) -> st.SearchStrategy[str]:
    number = st.integers(low, high)
    if is_signed:
        number = st.one_of(number, number.map(lambda one: -one))
    return st.lists(number, min_size=1, max_size=3, unique=True).map(lambda some: ",".join(map(str, some)))


@st.composite
def rules(draw: st.DrawFn) -> str:
    frequency = draw(st.sampled_from(["MINUTELY", "HOURLY", "DAILY", "WEEKLY", "MONTHLY", "YEARLY"]))
    parts = {"FREQ": frequency, "INTERVAL": str(draw(st.integers(1, 5)))}
    days = st.lists(st.sampled_from(DAYS), min_size=1, max_size=3, unique=True).map(",".join)
    choices: dict[str, st.SearchStrategy[str]] = {
        "BYMONTH": numbers(1, 12),
        "BYDAY": days,
        "BYHOUR": numbers(0, 23),
    }
    if frequency != "WEEKLY":
        choices["BYMONTHDAY"] = numbers(1, 31, is_signed=True)
    if frequency == "YEARLY":
        choices["BYYEARDAY"] = numbers(1, 366, is_signed=True)
    if frequency in ("MONTHLY", "YEARLY"):
        nth = st.tuples(st.sampled_from([-2, -1, 1, 2, 4]), st.sampled_from(DAYS))
        choices["BYDAY"] = st.one_of(days, nth.map(lambda two: f"{two[0]}{two[1]}"))
    if frequency not in ("MINUTELY", "HOURLY"):
        choices["BYMINUTE"] = numbers(0, 59)
    for name in draw(st.lists(st.sampled_from(sorted(choices)), max_size=3, unique=True)):
        parts[name] = draw(choices[name])
    if len(parts) > 2 and frequency not in ("MINUTELY", "HOURLY") and draw(st.booleans()):
        parts["BYSETPOS"] = draw(st.sampled_from(["1", "-1", "1,-1", "2"]))
    if frequency == "WEEKLY" and draw(st.booleans()):
        parts["WKST"] = draw(st.sampled_from(DAYS))
    return ";".join(f"{name}={value}" for name, value in parts.items())


@given(rules(), st.integers(0, 3 * 365 * 1440))
@settings(max_examples=120, deadline=None)
def test_rules_are_due_as_dateutil_says(rule: str, minutes: int) -> None:
    after = NAIVE + timedelta(minutes=minutes)
    if "WEEKLY" in rule and "BYSETPOS" in rule:
        # The week of DTSTART is a whole one here; dateutil's begins at DTSTART.
        after += timedelta(days=7)
    last = after + timedelta(days=900)
    start = NAIVE
    if rule.startswith(("FREQ=MINUTELY", "FREQ=HOURLY")):
        # dateutil walks from the start.
        start, last = after - timedelta(hours=17, minutes=11), after + timedelta(days=3)
    found = [at for at in first(schedule("calendar", rule, start), after, 5) if at <= last]
    if found:
        # dateutil would search to the year 9999 for what never comes, so it is asked for as many only.
        assert found == list(islice(rrulestr(rule, dtstart=start).xafter(after), len(found)))


@given(
    st.integers(1, 40),
    st.sampled_from(["DAILY;INTERVAL=3", "WEEKLY;BYDAY=MO,FR", "HOURLY;INTERVAL=7", "MONTHLY"]),
)
@settings(max_examples=40, deadline=None)
def test_a_count_counts_as_dateutil_does(count: int, rule: str) -> None:
    text = f"FREQ={rule};COUNT={count}"
    before = NAIVE - timedelta(days=1)
    assert first(schedule("calendar", text), before, 100) == list(rrulestr(text, dtstart=NAIVE))


@given(
    st.lists(
        st.sampled_from(["FREQ=DAILY", "FREQ=WEEKLY;BYDAY=TU,SA", "FREQ=MONTHLY"]), max_size=2, unique=True
    ),
    st.lists(st.integers(0, 60 * 24), max_size=5, unique=True),
    st.lists(st.integers(0, 60), max_size=5, unique=True),
)
@settings(max_examples=60, deadline=None)
def test_rules_dates_and_exceptions_together_are_as_dateutil_says(
    some: list[str], hours: list[int], days: list[int]
) -> None:
    added = [NAIVE + timedelta(hours=one) for one in hours]
    left_out = [NAIVE + timedelta(days=one) for one in days]
    oracle = rruleset()
    lines = [f"DTSTART:{NAIVE:%Y%m%dT%H%M%S}", *(f"RRULE:{one}" for one in some)]
    for one in some:
        rule = rrulestr(one, dtstart=NAIVE)
        assert isinstance(rule, rrule)
        oracle.rrule(rule)
    if not some:
        # Without a rule DTSTART is a date of its own.
        oracle.rdate(NAIVE)
    for at in added:
        oracle.rdate(at)
        lines.append(f"RDATE:{at:%Y%m%dT%H%M%SZ}")
    for at in left_out:
        oracle.exdate(at)
    if left_out:
        lines.append("EXDATE:" + ",".join(f"{at:%Y%m%dT%H%M%S}" for at in left_out))
    event = "\r\n".join(["BEGIN:VEVENT", *lines, "END:VEVENT"])
    before = NAIVE - timedelta(days=1)
    assert first(schedule("calendar", event), before, 50) == list(islice(oracle, 50))


# --- clocks ------------------------------------------------------------------------------------------


@given(
    st.sampled_from(ZONES),
    st.integers(0, 23),
    st.integers(0, 59),
    st.sampled_from(["run_after", "skip"]),
    st.sampled_from(["once", "twice"]),
    st.sampled_from([2015, 2026, 2037, 2099]),
)
@settings(max_examples=20, deadline=None)
def test_a_daily_rule_is_due_when_the_same_crontab_is(
    zone: str, hour: int, minute: int, gap: str, overlap: str, year: int
) -> None:
    """Through both changes of a year."""
    given_ = {"timezone": zone, "dst_gap": gap, "dst_overlap": overlap}
    start = datetime(year, 1, 1)  # noqa: DTZ001 - naive UTC
    cron = schedule("crontab", f"{minute} {hour} * * *", start, **given_)
    rule = f"FREQ=DAILY;BYHOUR={hour};BYMINUTE={minute};BYSECOND=0"
    assert first(schedule("calendar", rule, start, **given_), start, 370) == first(cron, start, 370)


@given(st.sampled_from(ZONES), st.integers(3, 11), st.sampled_from([2015, 2026, 2099]))
@settings(max_examples=8, deadline=None)
def test_rules_below_a_day_keep_real_time_through_a_year(zone: str, hours: int, year: int) -> None:
    start = datetime(year, 1, 1)  # noqa: DTZ001 - naive UTC
    found = first(
        schedule("calendar", f"FREQ=HOURLY;INTERVAL={hours}", start, timezone=zone), start, 9000 // hours
    )
    step = timedelta(hours=hours)
    assert found == [start + step * number for number in range(1, len(found) + 1)]


@given(st.sampled_from(ZONES), st.sets(st.integers(0, 23), min_size=1, max_size=3), st.integers(0, 364))
@settings(max_examples=40, deadline=None)
def test_hours_of_a_rule_below_a_day_are_those_of_the_clock(zone: str, hours: set[int], day: int) -> None:
    """By a walk through each real half hour of three days."""
    rule = f"FREQ=MINUTELY;INTERVAL=30;BYHOUR={','.join(map(str, sorted(hours)))}"
    start = datetime(2026, 1, 1)  # noqa: DTZ001 - naive UTC
    after = (start + timedelta(days=day)).replace(tzinfo=UTC)
    walked = [after + timedelta(minutes=30) * number for number in range(1, 145)]
    expected = [at for at in walked if at.astimezone(ZoneInfo(zone)).hour in hours]
    one = schedule("calendar", rule, start, timezone=zone)
    assert times_between(one, after, after + timedelta(days=3)) == expected


@pytest.mark.parametrize(
    ("zone", "pattern", "after", "expected"),
    [
        # Samoa left out 30 December 2011.
        ("Pacific/Apia", "0 12 30 * *", "2011-12-29 00:00", ["2011-12-30 10:00", "2012-01-29 22:00"]),
        ("Pacific/Apia", "0 12 * * *", "2011-12-29 12:00", ["2011-12-29 22:00", "2011-12-30 10:00"]),
        # Venezuela moved by half an hour on 1 May 2016, at 02:30.
        ("America/Caracas", "45 2 * * *", "2016-04-30 12:00", ["2016-05-01 07:00", "2016-05-02 06:45"]),
        # Turkey stayed on summer time in 2016.
        ("Europe/Istanbul", "0 9 30 10 *", "2015-10-01 00:00", ["2015-10-30 06:00", "2016-10-30 06:00"]),
        # Dublin's winter time is the one that is called daylight saving.
        ("Europe/Dublin", "30 1 * * *", "2026-10-24 12:00", ["2026-10-25 00:30", "2026-10-26 01:30"]),
    ],
)
def test_zones_that_were_changed_by_law(zone: str, pattern: str, after: str, expected: list[str]) -> None:
    at = datetime.fromisoformat(after)
    one = schedule("crontab", pattern, at, timezone=zone)
    assert [f"{found:%Y-%m-%d %H:%M}" for found in first(one, at, 2)] == expected


# --- exclusions --------------------------------------------------------------------------------------


@given(
    st.sampled_from(ZONES),
    st.integers(0, 23),
    st.integers(1, 30),
    st.lists(st.sampled_from(DAYS), min_size=1, max_size=4, unique=True),
    st.integers(0, 360),
)
@settings(max_examples=50, deadline=None)
def test_an_exclusion_covers_what_a_walk_through_its_days_covers(
    zone: str, hour: int, hours: int, days: list[str], day: int
) -> None:
    from seawall.core.schedule import start_of

    rule = f"DTSTART:20251201T{hour:02}0000\nDURATION:PT{hours}H\nRRULE:FREQ=WEEKLY;BYDAY={','.join(days)}"
    given_ = {"exclusions": [{"name": "x", "calendar": rule, "action": "delay"}], "timezone": zone}
    one = schedule("interval", "1800", datetime(2026, 1, 1), **given_)  # noqa: DTZ001 - naive UTC
    begins = []
    clock = ZoneInfo(zone)
    date = datetime(2026, 1, 1) + timedelta(days=day - 9)  # noqa: DTZ001 - a wall time
    for _ in range(16):
        wall = date.replace(hour=hour)
        begin = wall.replace(tzinfo=clock).astimezone(UTC)
        assume(begin.astimezone(clock).replace(tzinfo=None) == wall)
        if DAYS[date.weekday()] in days:
            begins.append(begin)
        date += timedelta(days=1)
    at = (datetime(2026, 1, 1) + timedelta(days=day)).replace(tzinfo=UTC)  # noqa: DTZ001 - then UTC
    for _ in range(48):
        end = at
        while covering := [b for b in begins if b <= end < b + timedelta(hours=hours)]:
            end = covering[-1] + timedelta(hours=hours)
            if end - at > timedelta(days=5):
                return
        assert start_of(one, at).at == end
        at += timedelta(hours=1)
