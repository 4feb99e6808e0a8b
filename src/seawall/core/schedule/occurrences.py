# SPDX-License-Identifier: Apache-2.0
"""The due times of a schedule: strictly ascending aware UTC instants within [start_at, end_at]."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta
from functools import lru_cache

from seawall.core.errors import InvalidInputError
from seawall.core.schedule.exclusions import Outcome, outcome_of
from seawall.core.schedule.steps import Steps, TooCostlyError
from seawall.core.schedule.time_properties import Times, TimeSchedule

_TICK = timedelta(microseconds=1)


def next_after(schedule: TimeSchedule, after: datetime) -> datetime | None:
    """The first due time strictly after an instant; None when there is no more.

    ``InvalidInputError`` when it is too costly to find.
    """
    if after < schedule.start_at:
        after = schedule.start_at - _TICK
    try:
        found = _next(schedule.times, after)
    except TooCostlyError as error:
        raise InvalidInputError.of(
            "properties.pattern", schedule.pattern, "is too costly to evaluate"
        ) from error
    end = schedule.end_at
    return None if found is None or (end is not None and found > end) else found


def next_run_at(schedule: TimeSchedule, after: datetime, offset: timedelta) -> datetime | None:
    """When there is next something to do: the first due time after an instant, with its delay and offset."""
    found = next_after(schedule, after)
    return None if found is None else start_of(schedule, found).at + offset


def start_of(schedule: TimeSchedule, due_at: datetime) -> Outcome:
    """What the exclusions of a schedule do to one of its due times."""
    return outcome_of(schedule.exclusions, due_at) if schedule.exclusions else Outcome(due_at)


def times_between(
    schedule: TimeSchedule, after: datetime, through: datetime, *, limit: int = 10_000
) -> list[datetime]:
    """Due times with after < t <= through, the first ``limit`` of them."""
    found: list[datetime] = []
    at = next_after(schedule, after)
    while at is not None and at <= through and len(found) < limit:
        found.append(at)
        at = next_after(schedule, at)
    return found


def count_between(
    schedule: TimeSchedule, after: datetime, through: datetime
) -> tuple[datetime, datetime, int] | None:
    """(first, last, count) of the due times with after < t <= through; None when there is none."""
    first = at = next_after(schedule, after)
    last, count = None, 0
    while at is not None and at <= through:
        last, count = at, count + 1
        at = next_after(schedule, at)
    return None if first is None or last is None else (first, last, count)


def fixed_offset(trigger_id: str, spread_s: int) -> timedelta:
    """Where in its spread a trigger fires: the same for ever, evenly spread over triggers."""
    if spread_s <= 0:
        return timedelta(0)
    digest = hashlib.sha256(trigger_id.encode()).digest()
    return timedelta(seconds=int.from_bytes(digest[:8], "big") % (spread_s + 1))


@lru_cache(maxsize=8192)
def _next(times: Times, after: datetime) -> datetime | None:
    # Triggers with the same pattern share one object, and so what is found here.
    return times.next(after, Steps())
