# SPDX-License-Identifier: Apache-2.0
"""What a claim does about the due times of one trigger (I1, design section 4).

Every due time in (fired_through, now] comes out exactly once: as a run, or inside one gap. A time is **on
time** while now <= expected + window; later it is a **misfire**:

* ``skip``: missed;
* ``run_latest``: the newest runs with a new deadline, the others are missed; none runs when a due time after
  them is on time;
* ``run_all``: the newest ``max_catchup`` run one after the other, the others are missed.

A due time that an exclusion delays is **held** until its delay ends: neither it nor a later one is decided
before. Of those that are delayed to the same end the newest runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from seawall.core.schedule.occurrences import next_after, next_run_at, start_of, times_between
from seawall.core.schedule.time_properties import TimeSchedule

# How many due times one decision accounts for. More (a minute's schedule after a year of silence) are settled
# by further decisions: the trigger stays due until it has caught up.
LIMIT = 2000
# How far a decision looks for the later ones that decide what becomes of its own, when all are excluded.
_MOST_LOOKED_AT = 10_000
_EXCLUDED = "skipped_excluded"


@dataclass(frozen=True, slots=True)
class DueRun:
    """A due time that runs."""

    nominal_at: datetime
    """The due time itself; the occurrence key."""
    due_at: datetime
    """With the trigger's offset in its spread. Operations that were registered later have no part in it."""
    expected_at: datetime
    """The same, after the delay of an exclusion."""
    deadline_at: datetime
    """Until when its first start is on time."""
    is_serial: bool = False
    """One after the other, whatever the overlap policy (``run_all``)."""


@dataclass(frozen=True, slots=True)
class Gap:
    """A stretch of due times that do not run."""

    first_at: datetime
    last_at: datetime
    """Nominal times, both inclusive."""
    count: int
    state: str
    reason: str
    times: tuple[datetime, ...] = ()
    """All of them: an operation that was registered in between counts only its own."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes rows, and how the trigger advances. All gaps lie before all runs."""

    runs: tuple[DueRun, ...]
    gaps: tuple[Gap, ...]
    fired_through: datetime
    next_run_at: datetime | None
    """May be past: then there is more to decide at once."""


@dataclass(frozen=True, slots=True)
class _Due:
    """A due time, when it starts, and why it does not (a state and a reason)."""

    nominal_at: datetime
    start_at: datetime
    state: str = ""
    reason: str = ""
    delayed_by: str = ""


def decide_due(
    schedule: TimeSchedule,
    *,
    fired_through: datetime,
    now: datetime,
    offset: timedelta = timedelta(0),
    is_paused: bool = False,
    paused_reason: str = "",
    is_ending: bool = False,
) -> Decision:
    """Account for every due time in (fired_through, now - offset] that is not held; ``fired_through`` only
    grows.

    ``is_ending``: the schedule is replaced or removed now, so what is held will never run and is accounted
    for as excluded.
    """
    if is_paused:
        times = times_between(schedule, fired_through, now - offset, limit=LIMIT)
        if not times:
            return Decision((), (), fired_through, next_run_at(schedule, fired_through, offset))
        reason = f"the trigger is paused: {paused_reason}" if paused_reason else "the trigger is paused"
        gap = Gap(times[0], times[-1], len(times), "skipped_paused", reason, tuple(times))
        return Decision((), (gap,), times[-1], next_run_at(schedule, times[-1], offset))
    looked_at, held_until = _looked_at(schedule, fired_through, now, offset, is_ending=is_ending)
    if not looked_at:
        nothing_until = held_until or next_run_at(schedule, fired_through, offset)
        return Decision((), (), fired_through, nothing_until)
    judged, runs = _judged(schedule, _one_of_each_start(looked_at), now, offset)
    gaps, through, is_whole = _first_stretch(judged[:LIMIT])
    is_all = is_whole and len(judged) <= LIMIT
    following = held_until if is_all and held_until else next_run_at(schedule, through, offset)
    kept = tuple(
        runs[one.nominal_at] for one in judged[:LIMIT] if one.nominal_at <= through and not one.state
    )
    return Decision(kept, gaps, through, following)


def decide_past(
    schedule: TimeSchedule, nominal: Sequence[datetime], *, now: datetime, offset: timedelta = timedelta(0)
) -> tuple[list[DueRun], list[tuple[datetime, str]]]:
    """(runs, (nominal time, reason) of those that exclusions leave out) of consecutive due times that have
    passed: what the schedule would have started by now, had nothing else kept it from it.

    Deadlines are left to the caller: a run that makes up for a due time is never late.
    """
    found = [_due(schedule, at) for at in nominal]
    judged = _one_of_each_start([*found, *_beyond(schedule, found)])[: len(found)]
    runs, excluded = [], []
    for one in judged:
        start = one.start_at + offset
        if one.state:
            excluded.append((one.nominal_at, one.reason))
        elif start > now:
            reason = f"delayed by {one.delayed_by} until {start.isoformat()}, which is still to come"
            excluded.append((one.nominal_at, reason))
        else:
            runs.append(DueRun(one.nominal_at, one.nominal_at + offset, start, now))
    return runs, excluded


def _beyond(schedule: TimeSchedule, found: Sequence[_Due]) -> list[_Due]:
    """What follows, up to the first that may run in the place of the last delayed ones."""
    waiting = next((one for one in reversed(found) if not one.state), None)
    beyond: list[_Due] = []
    at = None if waiting is None else next_after(schedule, found[-1].nominal_at)
    while waiting is not None and at is not None and at <= waiting.start_at:
        beyond.append(_due(schedule, at))
        if not beyond[-1].state or len(beyond) == _MOST_LOOKED_AT:
            break
        at = next_after(schedule, at)
    return beyond


def _looked_at(
    schedule: TimeSchedule, fired_through: datetime, now: datetime, offset: timedelta, *, is_ending: bool
) -> tuple[list[_Due], datetime | None]:
    """(due times in order, until when the next one is held): up to LIMIT, and then as many as may run
    instead of those."""
    found: list[_Due] = []
    wanted = schedule.max_catchup if schedule.misfire == "run_all" else 1
    beyond = 0
    while beyond < wanted and len(found) < _MOST_LOOKED_AT:
        after = found[-1].nominal_at if found else fired_through
        size = LIMIT if not found else wanted
        times = times_between(schedule, after, now - offset, limit=size)
        for at in times:
            one = _due(schedule, at)
            if not one.state and one.start_at + offset > now:
                if not is_ending:
                    return found, one.start_at + offset
                reason = f"delayed by {one.delayed_by} until after its schedule had ended"
                one = replace(one, state=_EXCLUDED, reason=reason)
            found.append(one)
            beyond += len(found) > LIMIT and not one.state
        if len(times) < size:
            break
    return found, None


def _due(schedule: TimeSchedule, at: datetime) -> _Due:
    """A due time with what the exclusions do to it."""
    outcome = start_of(schedule, at)
    if outcome.is_skipped:
        return _Due(at, outcome.at, _EXCLUDED, f"excluded by {outcome.name}")
    return _Due(at, outcome.at, delayed_by=outcome.name)


def _one_of_each_start(found: Sequence[_Due]) -> list[_Due]:
    """Of those that start at the same time the newest is left."""
    kept: list[_Due] = []
    later: datetime | None = None
    for one in reversed(found):
        if not one.state:
            if one.start_at == later:
                reason = f"delayed by {one.delayed_by}; a later one runs in its place"
                one = replace(one, state=_EXCLUDED, reason=reason)
            else:
                later = one.start_at
        kept.append(one)
    kept.reverse()
    return kept


def _judged(
    schedule: TimeSchedule, found: Sequence[_Due], now: datetime, offset: timedelta
) -> tuple[list[_Due], dict[datetime, DueRun]]:
    """What is missed is marked; what is left runs, as said by its due time."""
    candidates = [one for one in found if not one.state]
    late = [one for one in candidates if one.start_at + offset + schedule.window < now]
    on_time = candidates[len(late) :]
    caught: list[_Due] = []
    if schedule.misfire == "run_latest" and not on_time:
        caught = late[-1:]
    elif schedule.misfire == "run_all":
        caught = late[-schedule.max_catchup :]
    runs = {
        one.nominal_at: DueRun(
            one.nominal_at,
            one.nominal_at + offset,
            one.start_at + offset,
            now + schedule.window,
            is_serial=schedule.misfire == "run_all",
        )
        for one in caught
    }
    for one in on_time:
        start = one.start_at + offset
        runs[one.nominal_at] = DueRun(one.nominal_at, one.nominal_at + offset, start, start + schedule.window)
    reason = "it was not started within its window"
    if schedule.misfire != "skip" and runs:
        reason = "it was not started within its window; a later one runs"
    judged = [
        one if one.state or one.nominal_at in runs else replace(one, state="missed", reason=reason)
        for one in found
    ]
    return judged, runs


def _first_stretch(judged: Sequence[_Due]) -> tuple[tuple[Gap, ...], datetime, bool]:
    """(gaps before the runs, the last due time, whether that is all): a gap after a run is left to the next
    decision, which comes to the same: what becomes of a due time follows from later ones alone."""
    gaps: list[Gap] = []
    through = judged[0].nominal_at
    has_run = False
    for state, reason, times in _stretches(judged):
        if state and has_run:
            return tuple(gaps), through, False
        if state:
            gaps.append(Gap(times[0], times[-1], len(times), state, reason, times))
        has_run = has_run or not state
        through = times[-1]
    return tuple(gaps), through, True


def _stretches(judged: Sequence[_Due]) -> Iterator[tuple[str, str, tuple[datetime, ...]]]:
    """Consecutive ones of the same state and reason."""
    first = 0
    for place, one in enumerate(judged):
        following = judged[place + 1] if place + 1 < len(judged) else None
        if following is None or (following.state, following.reason) != (one.state, one.reason):
            yield one.state, one.reason, tuple(each.nominal_at for each in judged[first : place + 1])
            first = place + 1
