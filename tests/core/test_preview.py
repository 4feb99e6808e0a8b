# SPDX-License-Identifier: Apache-2.0
"""What a person is shown before a schedule is made: words, dates, and what is unusual about each."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from seawall.core.schedule import TimeSchedule, describe, parse_time_properties, preview

NOW = datetime(2026, 1, 1, tzinfo=UTC)
OFFICE = {
    "name": "office hours",
    "calendar": "DTSTART:20260101T080000Z\nDURATION:PT10H\nRRULE:FREQ=WEEKLY;BYDAY=MO,TU,WE,TH,FR",
    "action": "delay",
}
WEEKEND = {"name": "weekend", "calendar": "FREQ=WEEKLY;BYDAY=SA,SU"}


def schedule(format: str, pattern: str, **properties: Any) -> TimeSchedule:
    given = {"format": format, "pattern": pattern, **properties}
    return parse_time_properties(given, now=NOW, min_interval_s=60)


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("*/15 * * * *", "every 15 minutes"),
        ("0 */2 * * *", "every 2 hours at minute 0"),
        ("0 9,17 * * MON-FRI", "every Monday to Friday at 09:00 and 17:00"),
        ("0 0 L * *", "on the last day of every month at 00:00"),
        ("0 0 LW 3 *", "on the last working day of March at 00:00"),
        ("0 3 * * 5L", "on the last Friday of every month at 03:00"),
        ("0 3 * * 5#3", "on the third Friday of every month at 03:00"),
        ("0 0 13 * 5", "on day 13 of every month or every Friday at 00:00"),
        ("0 0 */15 * 1", "on day 1, 16 and 31 of every month if it is Monday at 00:00"),
        ("*/10 9-17 * * 0,6", "every 10 minutes of the hours 9 to 17 every Saturday and Sunday"),
        ("@yearly", "on day 1 of January at 00:00"),
    ],
)
def test_crontabs_in_words(pattern: str, words: str) -> None:
    assert describe(schedule("crontab", pattern)) == f"{words} (UTC)"


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        (
            "FREQ=WEEKLY;INTERVAL=2;BYDAY=MO,TH;BYHOUR=1;BYMINUTE=0",
            "every 2 weeks on Monday and Thursday at 01:00",
        ),
        ("FREQ=MONTHLY;BYDAY=-1FR;BYHOUR=3;BYMINUTE=0", "every month on the last Friday at 03:00"),
        (
            "FREQ=MONTHLY;BYDAY=MO,TU;BYSETPOS=-1",
            "every month on Monday and Tuesday (only the last of these)",
        ),
        ("FREQ=YEARLY;BYMONTH=3;BYMONTHDAY=-1;COUNT=4", "every year on the last day in March for 4 times"),
        ("FREQ=DAILY;UNTIL=20270101", "every day until 2027-01-01"),
        ("DTSTART:20270101T100000Z", "on 2027-01-01 10:00:00"),
    ],
)
def test_rules_in_words(pattern: str, words: str) -> None:
    assert describe(schedule("calendar", pattern)) == f"{words} (UTC)"


def test_words_name_the_zone_of_the_event_and_the_exclusions() -> None:
    event = "DTSTART;TZID=Asia/Tokyo:20260101T020000\nRRULE:FREQ=DAILY"
    said = describe(schedule("calendar", event, exclusions=[OFFICE, WEEKEND]))
    assert said == "every day from 2026-01-01 02:00:00 (Asia/Tokyo), later in office hours, not in weekend"


def test_what_is_left_out_delayed_and_replaced_is_marked() -> None:
    one = schedule("crontab", "0 */6 * * *", exclusions=[OFFICE, WEEKEND])
    found = preview(one, now=datetime(2026, 1, 2, 7, tzinfo=UTC), count=4)
    assert [(time.at.hour, time.starts_at and time.starts_at.hour, time.marks) for time in found] == [
        (12, None, ("delayed", "collision")),
        (18, 18, ()),
        (0, None, ("excluded",)),
        (6, None, ("excluded",)),
    ]
    assert "office hours" in found[0].note
    assert "in its place" in found[0].note
    assert "weekend" in found[2].note


def test_a_delayed_one_starts_at_the_end_of_the_exclusion() -> None:
    one = schedule("crontab", "30 12 * * *", exclusions=[OFFICE])
    found = preview(one, now=NOW, count=1)[0]
    assert (found.starts_at, found.marks) == (datetime(2026, 1, 1, 18, tzinfo=UTC), ("delayed",))


def test_a_spread_is_said_as_far_as_it_is_known() -> None:
    one = schedule("crontab", "0 2 * * *", spread=600)
    assert "up to 10 minutes" in preview(one, now=NOW, count=1)[0].note
    known = preview(one, now=NOW, count=1, offset=timedelta(seconds=90))[0]
    assert known.note == "starts 90 seconds later"
    assert known.starts_at == datetime(2026, 1, 1, 2, 1, 30, tzinfo=UTC)


def test_what_starts_together_is_named() -> None:
    hourly = schedule("crontab", "0 * * * *", exclusions=[OFFICE])
    daily = schedule("crontab", "0 7,9 * * *")
    found = preview(daily, now=NOW, count=2, others={"hourly": hourly})
    assert [time.note for time in found] == ["starts together with hourly", ""]


@pytest.mark.parametrize("pattern", ["30 2 * * *", "0 2 * * *"])
def test_only_what_is_moved_out_of_the_gap_is_called_moved(pattern: str) -> None:
    one = schedule("crontab", pattern, timezone="Europe/Paris")
    assert preview(one, now=datetime(2026, 3, 28, 12, tzinfo=UTC), count=1)[0].marks == ("dst",)
    late = schedule("crontab", "0 3 * * *", timezone="Europe/Paris")
    assert preview(late, now=datetime(2026, 3, 28, 12, tzinfo=UTC), count=1)[0].marks == ()
