# SPDX-License-Identifier: Apache-2.0
"""Durations in words, and "every day at 02:00" as a trigger."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seawall.core.duration import every_at, parse_duration
from seawall.core.errors import InvalidInputError
from seawall.core.schedule import next_after, parse_time_properties

NOW = datetime(2026, 11, 24, 12, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "hours"),
    [
        ("36h", 36),
        ("7d", 168),
        ("1w", 168),
        ("90m", 1.5),
        ("30s", 30 / 3600),
        ("1d12h", 36),
        (" 1d 12 h ", 36),
    ],
)
def test_durations_are_numbers_with_units(text: str, hours: float) -> None:
    assert parse_duration(text, field="x") == timedelta(hours=hours)


@pytest.mark.parametrize("text", ["", "7", "d", "7y", "-1d", "1.5h", "0s", "0d0h", "99999w", "soon", "7D"])
def test_anything_else_is_refused_by_field_and_value(text: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        parse_duration(text, field="keep_within")
    assert [(fault.field, fault.value) for fault in caught.value.fields] == [("keep_within", text)]


@given(st.lists(st.tuples(st.integers(0, 500), st.sampled_from("smhdw")), min_size=1, max_size=5))
def test_the_parts_of_a_duration_add_up(parts: list[tuple[int, str]]) -> None:
    text = "".join(f"{count}{unit}" for count, unit in parts)
    units = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
    total = sum(count * units[unit] for count, unit in parts)
    if total == 0:
        with pytest.raises(InvalidInputError):
            parse_duration(text, field="x")
    else:
        assert parse_duration(text, field="x") == timedelta(seconds=total)


@pytest.mark.parametrize(
    ("every", "at", "expected"),
    [
        ("day", "02:00", "2026-11-25 02:00"),
        ("day", "13:05", "2026-11-24 13:05"),
        ("day", None, "2026-11-25 02:00"),
        ("hour", None, "2026-11-24 13:00"),
        ("hour", "00:45", "2026-11-24 12:45"),
        ("week", None, "2026-11-29 02:00"),
        ("month", "04:30", "2026-12-01 04:30"),
        ("15m", None, "2026-11-24 12:45"),
    ],
)
def test_every_at_makes_a_trigger_that_is_next_due_then(every: str, at: str | None, expected: str) -> None:
    properties = every_at(every, at=at, zone="UTC")
    one = parse_time_properties(properties, now=NOW, min_interval_s=60)
    assert next_after(one, NOW) == datetime.fromisoformat(expected).replace(tzinfo=UTC)


def test_every_at_is_in_the_users_own_zone() -> None:
    one = parse_time_properties(every_at("day", at="02:00", zone="Asia/Tokyo"), now=NOW, min_interval_s=60)
    assert next_after(one, NOW) == datetime(2026, 11, 24, 17, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("every", "at", "field"),
    [
        ("fortnight", None, "--every"),
        ("day", "25:00", "--at"),
        ("day", "2", "--at"),
        ("15m", "02:00", "--at"),
    ],
)
def test_what_cannot_be_meant_is_refused(every: str, at: str | None, field: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        every_at(every, at=at, zone="UTC")
    assert caught.value.fields[0].field == field
