# SPDX-License-Identifier: Apache-2.0
"""Faults that core once had."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from seawall.core.errors import InvalidInputError
from seawall.core.graph import order
from seawall.core.schedule import (
    TimeSchedule,
    count_between,
    next_after,
    parse_time_properties,
    preview,
)
from seawall.core.schedule.due import decide_due

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def schedule(format: str, pattern: str, **properties: Any) -> TimeSchedule:
    given = {"format": format, "pattern": pattern, **properties}
    return parse_time_properties(given, now=NOW, min_interval_s=60)


@pytest.mark.parametrize(
    ("pattern", "more"),
    [
        ("FREQ=YEARLY;BYDAY=99MO", {}),
        ("FREQ=HOURLY;INTERVAL=2;BYHOUR=10", {"start_time": "2026-01-01 09:00:00"}),
    ],
)
def test_what_dateutil_cannot_evaluate_is_refused(pattern: str, more: dict[str, str]) -> None:
    with pytest.raises(InvalidInputError):
        schedule("calendar", pattern, **more)


def test_an_hourly_rule_with_hours_survives_the_clock_change() -> None:
    """It is accepted in winter and must not break the claim loop in summer."""
    one = schedule(
        "calendar",
        "FREQ=HOURLY;INTERVAL=2;BYHOUR=10,12,14",
        timezone="Europe/Paris",
        start_time="2026-01-01 09:00:00",
    )
    next_after(one, datetime(2026, 7, 1, tzinfo=UTC))


def test_run_all_runs_max_catchup_times_in_all() -> None:
    one = schedule(
        "interval", "60", start_time="2026-01-01 00:00:00", window=0, misfire="run_all", max_catchup=3
    )
    through, now, runs = NOW, NOW + timedelta(days=5, seconds=30), 0
    while True:
        found = decide_due(one, fired_through=through, now=now)
        runs, through = runs + len(found.runs), found.fired_through
        if found.next_run_at is None or found.next_run_at > now:
            break
    assert runs == 3


def test_a_count_is_the_whole_count() -> None:
    one = schedule("interval", "60", start_time="2026-01-01 00:00:00")
    through = NOW + timedelta(days=30)
    assert count_between(one, NOW, through) == (NOW + timedelta(minutes=1), through, 30 * 1440)


@pytest.mark.parametrize(
    ("format", "pattern", "more"),
    [
        ("interval", "9" * 5000, {}),
        ("calendar", "FREQ=DAILY;INTERVAL=" + "9" * 5000, {}),
        ("interval", "7200", {"start_time": "9999-12-31 23:00:00"}),
        ("crontab", "0 0 * * *", {"start_time": "9999-12-31 23:00:00"}),
        ("crontab", "0 0 * * *", {"start_time": "9999-12-31T23:00:00-10:00"}),
        ("crontab", "0 0 * * *", {"start_time": "0001-01-01T00:00:00+10:00"}),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_is_absurd_is_refused(format: str, pattern: str, more: dict[str, str]) -> None:
    with pytest.raises(InvalidInputError):
        schedule(format, pattern, **more)


def test_a_rule_is_checked_against_its_own_phase() -> None:
    schedule("calendar", "FREQ=HOURLY;INTERVAL=2;BYHOUR=9", start_time="2026-01-01 09:00:00")


def test_an_event_inside_a_calendar_is_read() -> None:
    """Karbor took both."""
    event = "BEGIN:VEVENT\nDTSTART:20260101T100000\nRRULE:FREQ=DAILY\nEND:VEVENT"
    schedule("calendar", f"BEGIN:VCALENDAR\nVERSION:2.0\nPRODID:x\n{event}\nEND:VCALENDAR")


def test_a_start_and_a_rule_on_two_lines_are_read() -> None:
    schedule("calendar", "DTSTART:20260101T100000\nRRULE:FREQ=DAILY")


def test_a_rule_runs_by_the_clock_of_its_dtstart_when_no_other_zone_is_given() -> None:
    event = "BEGIN:VEVENT\nDTSTART;TZID=America/New_York:20260101T020000\nRRULE:FREQ=DAILY\nEND:VEVENT"
    assert next_after(schedule("calendar", event), datetime(2026, 7, 1, tzinfo=UTC)) == datetime(
        2026, 7, 1, 6, tzinfo=UTC
    )


def test_a_time_that_is_at_the_end_of_the_gap_anyway_is_not_called_moved() -> None:
    one = schedule("crontab", "0 3 * * *", timezone="Europe/Paris")
    assert [time.note for time in preview(one, now=datetime(2026, 3, 28, 12, tzinfo=UTC), count=1)] == [""]


def test_a_dependency_that_is_no_list_is_refused() -> None:
    with pytest.raises(InvalidInputError):
        order([{"type": "directory", "id": "a", "extra_info": {"depends_on": 5}}])
