# SPDX-License-Identifier: Apache-2.0
"""Whatever a person writes into a trigger is taken or refused by field and rule, in bounded steps."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from seawall.core.errors import InvalidInputError
from seawall.core.schedule import describe, load_schedule, next_after, parse_time_properties, preview

NOW = datetime(2026, 1, 1, tzinfo=UTC)
GOOD = {
    "crontab": ["0 2 * * *", "*/5 1-3,7 L JAN-MAR MON#2", "@daily", "0 0 29 2 5L", "30 2 LW * *"],
    "calendar": [
        "FREQ=DAILY;BYHOUR=2;BYMINUTE=30",
        "DTSTART;TZID=Europe/Paris:20260101T100000\nRRULE:FREQ=WEEKLY;INTERVAL=2;BYDAY=MO,TH;WKST=SU\n"
        "RDATE:20260105T120000Z\nEXDATE;TZID=Europe/Paris:20260112T100000",
        "BEGIN:VCALENDAR\nBEGIN:VEVENT\nDTSTART;VALUE=DATE:20260101\nDURATION:P1D\n"
        "RRULE:FREQ=YEARLY;BYWEEKNO=-1,20;BYDAY=FR;COUNT=9\nEND:VEVENT\nEND:VCALENDAR",
        "FREQ=MONTHLY;BYDAY=-1FR,2MO;BYSETPOS=-1;UNTIL=20300101T000000Z",
        "FREQ=HOURLY;INTERVAL=7;BYMONTHDAY=-1;BYMINUTE=5,9",
    ],
    "interval": ["3600", "60"],
}
PIECES = [
    "*",
    "/",
    ",",
    "-",
    "#",
    "L",
    "W",
    "?",
    "@",
    "0",
    "7",
    "9999999999",
    "-1",
    "\n",
    "\r\n ",
    ":",
    ";",
    "=",
    "\\n",
    "FREQ=",
    "MINUTELY",
    "YEARLY",
    "INTERVAL=100000",
    "COUNT=1000",
    "UNTIL=99991231",
    "BYDAY=53MO",
    "BYSETPOS=-366",
    "BYYEARDAY=366",
    "BYMONTHDAY=31",
    "BYMONTH=2",
    "BYHOUR=3",
    "DTSTART:00010101T000000",
    "DTSTART:98990101",
    "TZID=Mars/Base",
    "BEGIN:VEVENT",
    "END:VEVENT",
    "RDATE;VALUE=PERIOD:1/2",
    "DURATION:P999W",
    "٤",
    "\x00",
    "é",
]


@st.composite
def broken(draw: st.DrawFn) -> tuple[str, str]:
    """A pattern with a few of its characters cut, doubled or replaced."""
    format = draw(st.sampled_from(sorted(GOOD)))
    text = draw(st.one_of(st.sampled_from(GOOD[format]), st.text(max_size=40)))
    for _ in range(draw(st.integers(0, 4))):
        place, length = draw(st.integers(0, len(text))), draw(st.integers(0, 6))
        text = text[:place] + draw(st.sampled_from(PIECES)) + text[place + length :]
    return format, text


def outcome(call: Callable[[], Any]) -> str:
    """The one error that may come, in words; anything else fails the test."""
    try:
        call()
    except InvalidInputError as error:
        assert all(fault.field.startswith("properties") and fault.rule for fault in error.fields)
        return str(error)
    return ""


@given(
    broken(),
    st.sampled_from(["UTC", "Europe/Paris", "Australia/Lord_Howe"]),
    st.sampled_from([None, "1900-01-01", "2026-01-01 03:00:00", "9000-01-01"]),
)
@example(("calendar", "FREQ=YEARLY;BYYEARDAY=366;BYDAY=MO;COUNT=1000"), "UTC", None)
@example(("calendar", "FREQ=MINUTELY;INTERVAL=99991;BYMONTH=2;BYMONTHDAY=30"), "Europe/Paris", None)
@example(("calendar", "FREQ=HOURLY;INTERVAL=2;BYHOUR=1;BYMONTH=2"), "UTC", "2026-01-01")
@example(("calendar", "FREQ=WEEKLY;BYMONTH=2;BYSETPOS=366"), "UTC", None)
@example(("crontab", "0 0 31 2,4,6 *"), "UTC", None)
@settings(max_examples=250, deadline=None)
def test_a_pattern_is_taken_or_refused(pattern: tuple[str, str], zone: str, start: str | None) -> None:
    given_ = {"format": pattern[0], "pattern": pattern[1], "timezone": zone, "start_time": start}

    def use() -> None:
        one = parse_time_properties(given_, now=NOW, min_interval_s=60)
        assert describe(one)
        assert preview(one, now=NOW, count=3)
        assert load_schedule(one.normalised) == one
        next_after(one, datetime(2090, 1, 1, tzinfo=UTC))

    outcome(use)


ANYTHING = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=12)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=5,
)
NAMES = (
    "format",
    "pattern",
    "start_time",
    "end_time",
    "timezone",
    "exclusions",
    "dst_gap",
    "dst_overlap",
    "misfire",
    "window",
    "spread",
    "max_catchup",
    "unknown",
)


@given(st.dictionaries(st.sampled_from(NAMES), ANYTHING, max_size=4))
@settings(max_examples=150, deadline=None)
def test_any_value_of_any_property_is_taken_or_refused(properties: dict[str, Any]) -> None:
    whole = {"format": "crontab", "pattern": "0 2 * * *", **properties}
    outcome(lambda: parse_time_properties(whole, now=NOW, min_interval_s=60))


@given(
    st.lists(
        st.fixed_dictionaries(
            {},
            optional={
                "name": st.one_of(st.sampled_from(["a", "b"]), ANYTHING),
                "calendar": st.one_of(broken().map(lambda two: two[1]), ANYTHING),
                "action": st.one_of(st.sampled_from(["skip", "delay"]), ANYTHING),
                "timezone": st.one_of(st.sampled_from(["Asia/Tokyo", "UTC"]), ANYTHING),
                "more": ANYTHING,
            },
        ),
        max_size=3,
    )
)
@settings(max_examples=150, deadline=None)
def test_any_exclusion_is_taken_or_refused(exclusions: list[dict[str, Any]]) -> None:
    given_ = {"format": "crontab", "pattern": "0 */3 * * *", "exclusions": exclusions}

    def use() -> None:
        preview(parse_time_properties(given_, now=NOW, min_interval_s=60), now=NOW, count=5)

    outcome(use)


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("BEGIN:VEVENT\nRRULE:FREQ=DAILY", "no END"),
        ("DTSTART:20260101\nEXRULE:FREQ=DAILY", "EXRULE"),
        ("DTSTART;TZID=Mars/Base:20260101T000000\nRRULE:FREQ=DAILY", "Mars/Base"),
        ("DTSTART:20260101T000000\nDTSTART:20260101T000000", "twice"),
        ("RDATE;VALUE=PERIOD:20260101T000000Z/PT1H", "PERIOD"),
        ("FREQ=DAILY;COUNT=2;UNTIL=20300101", "not both"),
        ("FREQ=DAILY;BYDAY=2MO", "MONTHLY"),
        ("FREQ=WEEKLY;BYMONTHDAY=3", "BYMONTHDAY"),
        ("FREQ=DAILY;BYHOUR=24", "BYHOUR"),
        ("FREQ=DAILY;FREQ=DAILY", "twice"),
        ("BEGIN:VEVENT\nDTSTART:20260101\nEND:VEVENT\n" * 2, "exactly one"),
        ("BEGIN:VTODO\nDTSTART:20260101\nEND:VTODO", "VTODO"),
        ("DTSTART:20260101T000000\nDTEND:20250101T000000\nRRULE:FREQ=DAILY", "after DTSTART"),
        ("X" * 70_000, "65536"),
    ],
)
def test_refusals_of_calendars_say_what_is_wrong(pattern: str, words: str) -> None:
    given_ = {"format": "calendar", "pattern": pattern}
    assert words in outcome(lambda: parse_time_properties(given_, now=NOW, min_interval_s=60))


@pytest.mark.parametrize(
    ("exclusion", "field", "words"),
    [
        ({"name": "a", "calendar": "FREQ=HOURLY"}, "calendar", "how long"),
        ({"name": "a", "calendar": "FREQ=DAILY;BYHOUR=3"}, "calendar", "how long"),
        ({"name": "a", "calendar": "DTSTART:20260101T000000Z"}, "calendar", "how long"),
        ({"name": "a", "calendar": "FREQ=DAILY", "action": "x"}, "action", "skip, delay"),
        ({"name": "", "calendar": "FREQ=DAILY"}, "name", "printable"),
        ({"name": "a", "calendar": "FREQ=DAILY", "timezone": "x"}, "timezone", "IANA"),
        ({"name": "a", "calendar": "FREQ=DAILY", "x": 1}, "x", "not known"),
        ({"name": "a", "calendar": "DTSTART:20260101\nDURATION:P400D"}, "calendar", "366"),
    ],
)
def test_refusals_of_exclusions_name_the_field(exclusion: dict[str, Any], field: str, words: str) -> None:
    given_ = {"format": "crontab", "pattern": "0 2 * * *", "exclusions": [exclusion]}
    said = outcome(lambda: parse_time_properties(given_, now=NOW, min_interval_s=60))
    assert f"properties.exclusions[0].{field}" in said
    assert words in said


def test_exclusions_that_leave_nothing_are_refused() -> None:
    everything = {"name": "always", "calendar": "FREQ=DAILY"}
    given_ = {"format": "crontab", "pattern": "0 2 * * *", "exclusions": [everything]}
    assert "nothing" in outcome(lambda: parse_time_properties(given_, now=NOW, min_interval_s=60))


def test_an_exclusion_that_is_too_costly_is_refused() -> None:
    rule = {
        "name": "a",
        "calendar": "DTSTART:20250101T000000\nDURATION:PT10S\nRRULE:FREQ=MINUTELY;BYSECOND=7,9",
    }
    given_ = {"format": "crontab", "pattern": "0 2 * * *", "exclusions": [rule]}
    assert "costly" in outcome(lambda: parse_time_properties(given_, now=NOW, min_interval_s=60))
