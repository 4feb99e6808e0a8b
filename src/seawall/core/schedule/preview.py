# SPDX-License-Identifier: Apache-2.0
"""The next times of a schedule, with what is unusual about each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from seawall.core.schedule.exclusions import Outcome
from seawall.core.schedule.occurrences import next_after, start_of
from seawall.core.schedule.time_properties import TimeSchedule, load_schedule
from seawall.core.schedule.words import duration
from seawall.core.schedule.zone import wall_at

MARKS = ("dst", "excluded", "delayed", "spread", "collision")
_TICK = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class PreviewedTime:
    """One due time."""

    at: datetime
    local: str
    """What the clocks of its zone show, with the zone's abbreviation."""
    note: str
    """What is unusual about it, in words; empty on ordinary days."""
    starts_at: datetime | None
    """With the delay of an exclusion and the trigger's offset, if known; None when it does not run."""
    marks: tuple[str, ...]
    """Of ``MARKS``: the same for machines."""


def preview(
    schedule: TimeSchedule,
    *,
    now: datetime,
    count: int,
    offset: timedelta | None = None,
    others: Mapping[str, TimeSchedule] | None = None,
) -> tuple[PreviewedTime, ...]:
    """The next ``count`` due times after ``now``; fewer when the schedule ends.

    ``offset`` is where in its spread the trigger fires, None when there is no trigger yet. ``others`` are
    schedules by name: which of them are due when one of these starts is said.
    """
    found: list[PreviewedTime] = []
    at = next_after(schedule, now)
    while at is not None and len(found) < count:
        following = next_after(schedule, at)
        found.append(_previewed(schedule, at, following, offset, others or {}))
        at = following
    return tuple(found)


def _previewed(
    schedule: TimeSchedule,
    at: datetime,
    following: datetime | None,
    offset: timedelta | None,
    others: Mapping[str, TimeSchedule],
) -> PreviewedTime:
    said: list[tuple[str, str]] = []
    clock = _clock_change(schedule, at)
    if clock:
        said.append(("dst", clock))
    outcome = start_of(schedule, at)
    starts_at: datetime | None = outcome.at + (offset or timedelta(0))
    if outcome.is_skipped:
        said.append(("excluded", f"left out: excluded by {outcome.name}"))
        starts_at = None
    else:
        if outcome.name:
            said.append(("delayed", f"delayed by {outcome.name} to {_local(schedule, outcome.at)}"))
        if following is not None and _replaces(schedule, outcome, following):
            said.append(
                ("collision", f"does not run: that of {_local(schedule, following)} does in its place")
            )
            starts_at = None
        else:
            said += _started(schedule, outcome, offset, others)
    marks = tuple(dict.fromkeys(mark for mark, _ in said))
    return PreviewedTime(at, _local(schedule, at), "; ".join(words for _, words in said), starts_at, marks)


def _started(
    schedule: TimeSchedule, outcome: Outcome, offset: timedelta | None, others: Mapping[str, TimeSchedule]
) -> list[tuple[str, str]]:
    said = []
    if offset is None and schedule.spread_s:
        said.append(("spread", f"starts up to {duration(schedule.spread_s)} later"))
    elif offset:
        said.append(("spread", f"starts {duration(int(offset.total_seconds()))} later"))
    said += [
        ("collision", f"starts together with {name}")
        for name, other in others.items()
        if _is_start(other, outcome.at)
    ]
    return said


def _replaces(schedule: TimeSchedule, outcome: Outcome, following: datetime) -> bool:
    """Whether a later due time is delayed to, or lies at, the same start."""
    at: datetime | None = following
    while at is not None and at <= outcome.at:
        other = start_of(schedule, at)
        if not other.is_skipped:
            return other.at == outcome.at
        at = next_after(schedule, at)
    return False


def _is_start(schedule: TimeSchedule, at: datetime) -> bool:
    if next_after(schedule, at - _TICK) != at:
        return False
    outcome = start_of(schedule, at)
    return not outcome.is_skipped and outcome.at == at


def _local(schedule: TimeSchedule, at: datetime) -> str:
    return at.astimezone(schedule.clock).strftime("%Y-%m-%d %H:%M:%S %Z")


def _clock_change(schedule: TimeSchedule, at: datetime) -> str:
    if schedule.every_s is not None:
        return ""
    zone = schedule.clock
    wall = wall_at(zone, at)
    first = wall.replace(tzinfo=zone, fold=0).astimezone(UTC)
    second = wall.replace(tzinfo=zone, fold=1).astimezone(UTC)
    if first != second:
        if at == first:
            return "the first of two such times: clocks go back"
        return "the second of two such times: clocks have gone back"
    before = wall_at(zone, at - timedelta(seconds=1))
    if wall - before <= timedelta(seconds=1) or schedule.dst_gap != "run_after":
        return ""
    # It lies at the end of a gap: moved there, unless it is due there anyway.
    unmoved = load_schedule({**schedule.normalised, "dst_gap": "skip"})
    if next_after(unmoved, at - _TICK) == at:
        return ""
    return "moved to the end of the time that clocks leave out"
