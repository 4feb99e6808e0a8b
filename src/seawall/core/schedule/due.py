# SPDX-License-Identifier: Apache-2.0
"""What a claim does about the due times of one trigger (I1, design section 4).

Every due time in (fired_through, now] comes out exactly once: as a run, or inside one gap. A time is **on
time** while now <= expected + window; later it is a **misfire**:

* ``skip``: missed;
* ``run_latest``: the newest runs with a new deadline, the others are missed; none runs when a due time after
  them is on time;
* ``run_all``: the newest ``max_catchup`` run one after the other, the others are missed.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from seawall.core.schedule.occurrences import next_after, times_between
from seawall.core.schedule.time_properties import TimeSchedule

# How many due times one decision looks at. More (a minute's schedule after a year of silence) are settled by
# further decisions: the trigger stays due until it has caught up.
LIMIT = 2000


@dataclass(frozen=True, slots=True)
class DueRun:
    """A due time that runs."""

    nominal_at: datetime
    """The due time itself; the occurrence key."""
    expected_at: datetime
    """With the trigger's offset in its spread."""
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
    """What becomes rows, and how the trigger advances."""

    runs: tuple[DueRun, ...]
    gaps: tuple[Gap, ...]
    fired_through: datetime
    next_run_at: datetime | None
    """May be past: then there is more to decide at once."""


def decide_due(
    schedule: TimeSchedule,
    *,
    fired_through: datetime,
    now: datetime,
    offset: timedelta = timedelta(0),
    is_paused: bool = False,
    paused_reason: str = "",
) -> Decision:
    """Account for every due time in (fired_through, now - offset]. ``fired_through`` only grows."""
    times = times_between(schedule, fired_through, now - offset, limit=LIMIT + schedule.max_catchup)
    if not times:
        return Decision((), (), fired_through, _next_run(schedule, fired_through, offset))
    if len(times) == LIMIT + schedule.max_catchup:
        # There may be more: the newest are left for the next decision, for one of them may have to run.
        times = times[:LIMIT]
        is_last = False
    else:
        is_last = True
    through = times[-1]
    following = _next_run(schedule, through, offset)
    if is_paused:
        reason = f"the trigger is paused: {paused_reason}" if paused_reason else "the trigger is paused"
        return Decision((), _gap(times, "skipped_paused", reason), through, following)
    late = [at for at in times if at + offset + schedule.window < now]
    on_time = times[len(late) :]
    caught = _caught_up(schedule, late, has_later=bool(on_time) or not is_last)
    missed = late[: len(late) - len(caught)]
    reason = "it was not started within its window"
    if schedule.misfire != "skip" and (caught or on_time):
        reason = "it was not started within its window; a later one runs"
    runs = [
        DueRun(at, at + offset, now + schedule.window, is_serial=schedule.misfire == "run_all")
        for at in caught
    ]
    runs += [DueRun(at, at + offset, at + offset + schedule.window) for at in on_time]
    return Decision(tuple(runs), _gap(missed, "missed", reason), through, following)


def _caught_up(schedule: TimeSchedule, late: list[datetime], *, has_later: bool) -> list[datetime]:
    if schedule.misfire == "run_latest" and not has_later:
        return late[-1:]
    if schedule.misfire == "run_all":
        return late[-schedule.max_catchup :]
    return []


def _gap(times: list[datetime], state: str, reason: str) -> tuple[Gap, ...]:
    return (Gap(times[0], times[-1], len(times), state, reason, tuple(times)),) if times else ()


def _next_run(schedule: TimeSchedule, after: datetime, offset: timedelta) -> datetime | None:
    found = next_after(schedule, after)
    return None if found is None else found + offset
