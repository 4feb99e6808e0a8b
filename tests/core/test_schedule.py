# SPDX-License-Identifier: Apache-2.0
"""Due times: what fires, what is refused, and what the clock changes do."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seawall.core.errors import InvalidInputError
from seawall.core.schedule import (
    TimeSchedule,
    describe,
    fixed_offset,
    load_schedule,
    next_after,
    parse_time_properties,
    preview,
    times_between,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def schedule(now: datetime = NOW, *, least_s: float = 60, **properties: Any) -> TimeSchedule:
    return parse_time_properties(properties, now=now, min_interval_s=least_s)


def crontab(pattern: str, zone: str = "UTC", now: datetime = NOW, **more: Any) -> TimeSchedule:
    return schedule(now, format="crontab", pattern=pattern, timezone=zone, **more)


def calendar(pattern: str, zone: str = "UTC", now: datetime = NOW, **more: Any) -> TimeSchedule:
    return schedule(now, format="calendar", pattern=pattern, timezone=zone, **more)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def between(one: TimeSchedule, first: str, last: str) -> list[str]:
    tick = timedelta(microseconds=1)
    return [at.strftime("%m-%d %H:%M") for at in times_between(one, utc(first) - tick, utc(last))]


# --- the three formats -----------------------------------------------------------------------------


def test_an_interval_counts_from_its_start() -> None:
    one = schedule(format="interval", pattern="3600", start_time="2026-01-01 00:30:00")
    assert between(one, "2026-01-01 00:00", "2026-01-01 03:00") == [
        "01-01 00:30",
        "01-01 01:30",
        "01-01 02:30",
    ]


def test_an_interval_without_a_start_counts_from_now_and_says_so() -> None:
    one = schedule(utc("2026-01-01 00:00:07"), format="interval", pattern=60)
    assert one.normalised["start_time"] == "2026-01-01 00:00:07"
    assert next_after(one, utc("2026-01-01 00:00:07")) == utc("2026-01-01 00:01:07")


def test_the_end_time_is_inclusive() -> None:
    one = schedule(
        format="interval", pattern="60", start_time="2026-01-01 00:01:00", end_time="2026-01-01 00:03:00"
    )
    assert len(times_between(one, NOW, utc("2027-01-01"))) == 3


def test_days_of_month_and_of_week_together_mean_either() -> None:
    one = crontab("0 0 13 * 5")
    assert between(one, "2026-01-01", "2026-01-31") == [
        "01-02 00:00", "01-09 00:00", "01-13 00:00", "01-16 00:00", "01-23 00:00", "01-30 00:00",
    ]  # fmt: skip


@pytest.mark.parametrize(("word", "fields"), [("@daily", "0 0 * * *"), ("@hourly", "0 * * * *")])
def test_crontab_words_are_known(word: str, fields: str) -> None:
    assert crontab(word).fields == fields


def test_a_rule_in_an_event_counts_from_its_start() -> None:
    event = "BEGIN:VEVENT\nDTSTART:20260101T100000\nRRULE:FREQ=DAILY;INTERVAL=2\nEND:VEVENT"
    assert between(calendar(event), "2026-01-01", "2026-01-06") == [
        "01-01 10:00",
        "01-03 10:00",
        "01-05 10:00",
    ]


def test_karbors_escaped_line_ends_are_read() -> None:
    event = r"BEGIN:VEVENT\nRRULE:FREQ=HOURLY;INTERVAL=6;\nEND:VEVENT"
    one = calendar(event, start_time="2026-01-01 00:00:00")
    assert between(one, "2026-01-01", "2026-01-01 13:00") == ["01-01 00:00", "01-01 06:00", "01-01 12:00"]


def test_the_last_weekday_of_a_month() -> None:
    one = calendar("RRULE:FREQ=MONTHLY;BYDAY=-1FR;BYHOUR=3;BYMINUTE=0;BYSECOND=0")
    assert between(one, "2026-01-01", "2026-03-31") == ["01-30 03:00", "02-27 03:00", "03-27 03:00"]


def test_until_and_count_end_a_rule() -> None:
    until = calendar("FREQ=DAILY;UNTIL=20260103T000000Z", start_time="2026-01-01 00:00:00")
    count = calendar("FREQ=DAILY;COUNT=3", start_time="2026-01-01 00:00:00")
    for one in (until, count):
        assert between(one, "2026-01-01", "2027-01-01") == ["01-01 00:00", "01-02 00:00", "01-03 00:00"]


def test_a_rule_that_began_years_ago_keeps_its_phase() -> None:
    start = datetime(2016, 3, 3, 5, tzinfo=UTC)
    one = calendar("FREQ=DAILY;INTERVAL=3", start_time="2016-03-03 05:00:00", now=start)
    at = next_after(one, utc("2026-11-24 12:00"))
    assert at is not None
    assert (at - start) % timedelta(days=3) == timedelta(0)


# --- clock changes ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gap", "found"),
    [("run_after", ["03-28 01:30", "03-29 01:00", "03-30 00:30"]), ("skip", ["03-28 01:30", "03-30 00:30"])],
)
def test_a_time_in_the_gap_of_spring(gap: str, found: list[str]) -> None:
    """Paris, 2026-03-29: 02:00 becomes 03:00, which is 01:00 UTC."""
    one = crontab("30 2 * * *", "Europe/Paris", dst_gap=gap)
    assert between(one, "2026-03-28", "2026-03-30 12:00") == found


@pytest.mark.parametrize(
    ("overlap", "found"),
    [
        ("once", ["10-24 00:30", "10-25 00:30", "10-26 01:30"]),
        ("twice", ["10-24 00:30", "10-25 00:30", "10-25 01:30", "10-26 01:30"]),
    ],
)
def test_a_time_in_the_overlap_of_autumn(overlap: str, found: list[str]) -> None:
    """Paris, 2026-10-25: 03:00 becomes 02:00; 02:30 comes at 00:30 and at 01:30 UTC."""
    one = crontab("30 2 * * *", "Europe/Paris", dst_overlap=overlap)
    assert between(one, "2026-10-24", "2026-10-26 12:00") == found


def test_two_times_in_the_overlap_stay_in_order() -> None:
    one = crontab("15,45 2 * * *", "Europe/Paris", dst_overlap="twice")
    assert between(one, "2026-10-25", "2026-10-25 12:00") == [
        "10-25 00:15", "10-25 00:45", "10-25 01:15", "10-25 01:45",
    ]  # fmt: skip


@pytest.mark.parametrize("zone", ["Europe/Paris", "America/New_York", "Australia/Lord_Howe", "Pacific/Apia"])
@pytest.mark.parametrize("pattern", ["0 * * * *", "0 */1 * * *"])
def test_hourly_patterns_run_in_every_real_hour(zone: str, pattern: str) -> None:
    one = crontab(pattern, zone)
    times = times_between(one, NOW, utc("2027-01-01"), limit=20_000)
    steps = {later - earlier for earlier, later in zip(times, times[1:], strict=False)}
    half = timedelta(minutes=30)
    assert steps <= ({timedelta(hours=1), half, 3 * half} if zone == "Australia/Lord_Howe" else {2 * half})


def test_hourly_rules_run_in_real_time_through_both_changes() -> None:
    one = calendar("FREQ=HOURLY;INTERVAL=5", "Europe/Paris", start_time="2026-01-01 00:00:00")
    times = times_between(one, NOW, utc("2027-01-01"), limit=20_000)
    assert {later - earlier for earlier, later in zip(times, times[1:], strict=False)} == {timedelta(hours=5)}


@pytest.mark.parametrize("zone", ["Europe/Paris", "America/New_York", "Australia/Lord_Howe"])
@pytest.mark.parametrize("minute", [0, 15, 30, 59])
def test_a_daily_time_runs_exactly_once_a_day_by_default(zone: str, minute: int) -> None:
    for hour in (0, 1, 2, 3, 12):
        one = crontab(f"{minute} {hour} * * *", zone)
        times = times_between(one, NOW, utc("2027-01-01"))
        days = [at.astimezone(one.zone).date() for at in times]
        assert len(days) == len(set(days))
        assert len(days) >= 364


# --- properties ------------------------------------------------------------------------------------

ZONES = st.sampled_from(["UTC", "Europe/Paris", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu"])
PATTERNS = st.one_of(
    st.builds(
        lambda minute, hour, day, week: ("crontab", f"{minute} {hour} {day} * {week}"),
        st.sampled_from(["0", "30", "15,45", "*/20"]),
        st.sampled_from(["*", "2", "1,3", "*/4", "23"]),
        st.sampled_from(["*", "1", "15,29"]),
        st.sampled_from(["*", "0", "1-5"]),
    ),
    st.sampled_from(
        [
            ("calendar", "FREQ=DAILY;BYHOUR=2;BYMINUTE=30;BYSECOND=0"),
            ("calendar", "FREQ=WEEKLY;BYDAY=MO,TH;BYHOUR=1;BYMINUTE=0;BYSECOND=0"),
            ("calendar", "FREQ=HOURLY;INTERVAL=7"),
            ("calendar", "FREQ=MINUTELY;INTERVAL=45"),
            ("calendar", "FREQ=MONTHLY;BYMONTHDAY=31;BYHOUR=2;BYMINUTE=0;BYSECOND=0"),
            ("interval", "5400"),
        ]
    ),
)
INSTANTS = st.integers(0, 365 * 86_400).map(lambda second: NOW + timedelta(seconds=second))


@given(PATTERNS, ZONES, INSTANTS, st.sampled_from(["once", "twice"]), st.sampled_from(["run_after", "skip"]))
def test_the_next_time_is_strictly_later_and_nothing_lies_between(
    pattern: tuple[str, str], zone: str, at: datetime, overlap: str, gap: str
) -> None:
    one = schedule(
        format=pattern[0], pattern=pattern[1], timezone=zone, dst_overlap=overlap, dst_gap=gap,
        start_time="2026-01-01 00:00:00",
    )  # fmt: skip
    found = next_after(one, at)
    assert found is not None
    assert found > at
    middle = at + (found - at) / 2
    assert next_after(one, middle) == found
    assert next_after(one, found - timedelta(microseconds=1)) == found


@given(PATTERNS, ZONES)
def test_a_stored_schedule_is_the_same_schedule(pattern: tuple[str, str], zone: str) -> None:
    one = schedule(format=pattern[0], pattern=pattern[1], timezone=zone)
    assert load_schedule(one.normalised) == one


@given(st.uuids(), st.integers(0, 3600))
def test_a_spread_is_fixed_and_within_its_bounds(trigger: object, spread: int) -> None:
    offset = fixed_offset(str(trigger), spread)
    assert offset == fixed_offset(str(trigger), spread)
    assert timedelta(0) <= offset <= timedelta(seconds=spread)


# --- refusals --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("properties", "field", "word"),
    [
        ({"format": "interval", "pattern": "59"}, "pattern", "60"),
        ({"format": "interval", "pattern": "0"}, "pattern", "'0'"),
        ({"format": "interval", "pattern": "-5"}, "pattern", "-5"),
        ({"format": "interval", "pattern": "1.5"}, "pattern", "1.5"),
        ({"format": "interval"}, "pattern", "needed"),
        ({"format": "interval", "pattern": ["60"]}, "pattern", "needed"),
        ({"pattern": "60"}, "format", "needed"),
        ({"format": "lunar", "pattern": "60"}, "format", "lunar"),
        ({"format": "crontab", "pattern": "0 0 31 2 *"}, "pattern", "never"),
        ({"format": "crontab", "pattern": "0 25 * * *"}, "pattern", "25"),
        ({"format": "crontab", "pattern": "0 0 * * * *"}, "pattern", "five"),
        ({"format": "calendar", "pattern": "RRULE:FREQ=SECONDLY"}, "pattern", "SECONDLY"),
        ({"format": "calendar", "pattern": "RRULE:FREQ=MONTHLY;BYMONTH=2;BYMONTHDAY=30"}, "pattern", "never"),
        ({"format": "calendar", "pattern": "RRULE:FREQ=YEARLY;BYYEARDAY=366;COUNT=999"}, "pattern", "costly"),
        ({"format": "calendar", "pattern": "RRULE:FREQ=DAILY;BYDAY=XX"}, "pattern", "XX"),
        ({"format": "calendar", "pattern": "tomorrow"}, "pattern", "tomorrow"),
        ({"format": "calendar", "pattern": "RRULE:FREQ=DAILY;BYSECOND=0,1"}, "pattern", "apart"),
        ({"format": "calendar", "pattern": "BEGIN:VEVENT\nEND:VEVENT"}, "pattern", "RRULE"),
        ({"format": "interval", "pattern": "60", "timezone": "Mars/Base"}, "timezone", "Mars/Base"),
        ({"format": "interval", "pattern": "60", "timezone": "../etc/passwd"}, "timezone", "IANA"),
        ({"format": "interval", "pattern": "60", "window": -1}, "window", "-1"),
        ({"format": "interval", "pattern": "60", "window": True}, "window", "True"),
        ({"format": "interval", "pattern": "60", "misfire": "panic"}, "misfire", "panic"),
        ({"format": "interval", "pattern": "60", "start_time": "soon"}, "start_time", "soon"),
        ({"format": "interval", "pattern": "60", "wnidow": 1}, "wnidow", "not known"),
        ({"format": "interval", "pattern": "60", "end_time": "2025-12-31 00:00:00"}, "end_time", "before"),
        (
            {
                "format": "interval",
                "pattern": "60",
                "start_time": "2025-01-01 00:00:00",
                "end_time": "2025-12-31 00:00:00",
            },
            "end_time",
            "nothing",
        ),
    ],
)
def test_what_is_refused_names_field_value_and_rule(
    properties: dict[str, Any], field: str, word: str
) -> None:
    with pytest.raises(InvalidInputError) as caught:
        parse_time_properties(properties, now=NOW, min_interval_s=60)
    assert any(fault.field == f"properties.{field}" for fault in caught.value.fields)
    assert word in str(caught.value)


def test_all_wrong_fields_are_named_at_once() -> None:
    with pytest.raises(InvalidInputError) as caught:
        schedule(format="x", pattern="y", window="z", timezone="w", more=1)
    assert len(caught.value.fields) == 4


# --- words -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("properties", "words"),
    [
        ({"format": "crontab", "pattern": "0 2 * * *", "timezone": "Europe/Paris"}, "every day at 02:00"),
        ({"format": "crontab", "pattern": "30 4 * * 1"}, "every Monday at 04:30"),
        ({"format": "crontab", "pattern": "0 3 1 * *"}, "on day 1 of every month at 03:00"),
        ({"format": "interval", "pattern": "3600"}, "every hour from"),
        ({"format": "interval", "pattern": "90"}, "every 90 seconds from"),
    ],
)
def test_a_schedule_is_said_in_words(properties: dict[str, Any], words: str) -> None:
    assert words in describe(schedule(**properties))


def test_a_preview_marks_what_clock_changes_do() -> None:
    spring = crontab("30 2 * * *", "Europe/Paris")
    notes = {one.at.day: one.note for one in preview(spring, now=utc("2026-03-28"), count=3)}
    assert "leave out" in notes[29]
    assert notes[28] == ""
    autumn = crontab("30 2 * * *", "Europe/Paris", dst_overlap="twice")
    found = preview(autumn, now=utc("2026-10-24 12:00"), count=2)
    assert "first" in found[0].note
    assert "second" in found[1].note
