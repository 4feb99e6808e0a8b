# SPDX-License-Identifier: Apache-2.0
"""Crontab times against a walk through every real minute, in zones whose clocks change in odd ways."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

import pytest

from seawall.core.schedule import parse_time_properties, times_between

MINUTE = timedelta(minutes=1)
# (zone, a day before its gap, a day before its overlap); Lord Howe moves by half an hour, Troll by two hours
CHANGES = [
    ("Europe/Paris", "2026-03-28", "2026-10-24"),
    ("America/New_York", "2026-03-07", "2026-10-31"),
    ("Australia/Lord_Howe", "2026-10-03", "2026-04-04"),
    ("Antarctica/Troll", "2026-03-28", "2026-10-24"),
    ("Africa/Casablanca", "2026-03-21", "2026-02-14"),
    ("America/Havana", "2026-03-07", "2026-10-31"),
    ("Europe/Dublin", "2026-03-28", "2026-10-24"),
    ("Europe/Paris", "2100-03-27", "2100-10-30"),
    # once only: a day left out, half an hour by law, both ways
    ("Pacific/Apia", "2011-12-29"),
    ("America/Caracas", "2007-12-08"),
    ("America/Caracas", "2016-04-30"),
]
SPANS = [(zone, day) for zone, *days in CHANGES for day in days]


@lru_cache(maxsize=64)
def clock(zone: str, day: str) -> tuple[tuple[datetime, datetime, int], ...]:
    """(instant, wall time, fold) of every minute of three days."""
    first = datetime.fromisoformat(day).replace(tzinfo=UTC)
    walked = [first + MINUTE * number for number in range(3 * 1440 + 1)]
    local = [(at, at.astimezone(ZoneInfo(zone))) for at in walked]
    return tuple((at, wall.replace(tzinfo=None, fold=0), wall.fold) for at, wall in local)


def walked(
    zone: str, day: str, hours: set[int], minutes: set[int], *, gap: str, overlap: str, real: bool
) -> list[datetime]:
    """What is due, by the rules as they are written."""
    found, before = [], None
    for at, wall, fold in clock(zone, day):
        due = wall.hour in hours and wall.minute in minutes and (real or fold == 0 or overlap == "twice")
        if before is not None and not real and gap == "run_after":
            left_out = before + MINUTE
            while left_out < wall:
                due = due or (left_out.hour in hours and left_out.minute in minutes)
                left_out += MINUTE
        if due:
            found.append(at)
        before = wall
    return found


def due(zone: str, day: str, pattern: str, **rules: str) -> list[datetime]:
    first = datetime.fromisoformat(day).replace(tzinfo=UTC)
    given = {"format": "crontab", "pattern": pattern, "timezone": zone, **rules}
    one = parse_time_properties({**given, "start_time": f"{day} 00:00:00"}, now=first, min_interval_s=60)
    return times_between(one, first - timedelta(seconds=1), first + timedelta(days=3))


@pytest.mark.parametrize(("zone", "day"), SPANS)
@pytest.mark.parametrize("gap", ["run_after", "skip"])
@pytest.mark.parametrize("overlap", ["once", "twice"])
def test_patterns_of_the_wall_clock(zone: str, day: str, gap: str, overlap: str) -> None:
    for pattern, hours, minutes in (
        ("30 2 * * *", {2}, {30}),
        ("0 2 * * *", {2}, {0}),
        ("0 3 * * *", {3}, {0}),
        ("0,15,45 0-3 * * *", {0, 1, 2, 3}, {0, 15, 45}),
        ("*/20 1,2 * * *", {1, 2}, {0, 20, 40}),
        ("59 0,1,23 * * *", {0, 1, 23}, {59}),
    ):
        expected = walked(zone, day, hours, minutes, gap=gap, overlap=overlap, real=False)
        assert due(zone, day, pattern, dst_gap=gap, dst_overlap=overlap) == expected, pattern


@pytest.mark.parametrize(("zone", "day"), SPANS)
def test_patterns_in_real_hours(zone: str, day: str) -> None:
    for pattern, step, minutes in (
        ("0 * * * *", 1, {0}),
        ("15 */3 * * *", 3, {15}),
        ("0,45 */2 * * *", 2, {0, 45}),
        ("*/10 * * * *", 1, set(range(0, 60, 10))),
    ):
        hours = set(range(0, 24, step))
        expected = walked(zone, day, hours, minutes, gap="run_after", overlap="once", real=True)
        assert due(zone, day, pattern) == expected, pattern


@pytest.mark.parametrize(("zone", "day"), SPANS)
def test_each_span_has_one_change(zone: str, day: str) -> None:
    """Or the two tests above would show nothing."""
    offsets = [wall.replace(tzinfo=UTC) - at for at, wall, _ in clock(zone, day)]
    assert sum(earlier != later for earlier, later in zip(offsets, offsets[1:], strict=False)) == 1
