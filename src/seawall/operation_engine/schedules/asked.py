# SPDX-License-Identifier: Apache-2.0
"""Runs of a scheduled operation that a user asks for: one now, or those of a past range (I1).

Each function is part of one write transaction. Neither changes the schedule: ``fired_through`` stays, and
rows that there are stay as they are.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from uuid import uuid4

from seawall.core.caller import Caller
from seawall.core.errors import InvalidInputError
from seawall.core.records import Backfill, ExcludedTime, Run
from seawall.core.schedule import fixed_offset, load_schedule, times_between
from seawall.core.schedule.due import decide_past
from seawall.core.states import RunKind
from seawall.db import asked_runs, audit, run_rows, runs, scheduled_operations, triggers
from seawall.operation_engine.claim import occurrence

if TYPE_CHECKING:
    from seawall.db.session import Tx

# So many due times one backfill makes up for; a longer range is asked for in parts.
MOST_BACKFILLED = 1000
# Behind everything that is scheduled, whose priorities are from -1000 to 1000: the past can wait.
_BEHIND = 2000
_TICK = timedelta(microseconds=1)


def run_now(tx: Tx, caller: Caller, operation_id: str, *, key: str | None) -> Run:
    """One run at once, of kind ``manual``; the same again for the same key.

    A disabled operation and a paused trigger may be run by hand. While a run of the operation works, this one
    waits for its end.
    """
    new = asked_runs.run_of(
        tx, operation_id, project_id=caller.project_id, user_id=caller.user_id, kind=RunKind.MANUAL
    )
    run_id = runs.insert(tx, replace(new, occurrence=key or str(uuid4())))
    audit.record(tx, caller, "run", "scheduled_operation", operation_id, {"run_id": run_id})
    return run_rows.get(tx.connection, run_id, project_id=caller.project_id)


def backfill(
    tx: Tx,
    caller: Caller,
    operation_id: str,
    *,
    start: datetime,
    end: datetime,
    is_dry: bool,
    key: str | None,
) -> Backfill:
    """A run of kind ``backfill`` for each due time from ``start`` to ``end``, both inclusive.

    They run one after the other, the oldest first, behind everything that is scheduled. What the trigger's
    exclusions leave out, or hold back until later than now, makes none and is answered; what they delayed is
    expected at the end of its delay. With ``is_dry`` nothing is made. ``InvalidInputError`` when the range is
    empty, lies in the future or is too long.
    """
    operation = scheduled_operations.get(tx.connection, operation_id, project_id=caller.project_id)
    trigger = triggers.get(tx.connection, operation.trigger_id, project_id=caller.project_id)
    if trigger.type != "time":
        raise InvalidInputError.of("trigger_id", trigger.id, "has no due times: it is fired by events")
    if start > end:
        raise InvalidInputError.of("start", start.isoformat(), "must not be later than the end")
    if end > tx.now:
        raise InvalidInputError.of("end", end.isoformat(), "must not lie in the future")
    schedule = load_schedule(trigger.properties)
    offset = fixed_offset(trigger.id, schedule.spread_s)
    nominal = times_between(schedule, start - offset - _TICK, end - offset, limit=MOST_BACKFILLED + 1)
    if len(nominal) > MOST_BACKFILLED:
        rule = f"makes a range of more than {MOST_BACKFILLED} due times; ask for it in parts"
        raise InvalidInputError.of("end", end.isoformat(), rule)
    due, left_out = decide_past(schedule, nominal, now=tx.now, offset=offset)
    times = tuple(one.expected_at for one in due)
    excluded = tuple(ExcludedTime(at + offset, reason) for at, reason in left_out)
    if is_dry:
        return Backfill(None, times, excluded)
    backfill_id = key or str(uuid4())
    new = asked_runs.one_at_a_time(
        asked_runs.run_of(
            tx, operation_id, project_id=caller.project_id, user_id=caller.user_id, kind=RunKind.BACKFILL
        )
    )
    behind = new.priority + _BEHIND
    runs.insert_all(
        tx,
        [
            replace(
                new,
                occurrence=f"{backfill_id}/{occurrence(one.nominal_at)}",
                expected_at=one.expected_at,
                priority=behind,
            )
            for one in due
        ],
    )
    details = {"backfill_id": backfill_id, "start": start.isoformat(), "end": end.isoformat()}
    counts = {"runs": len(times), "excluded": len(excluded)}
    audit.record(tx, caller, "backfill", "scheduled_operation", operation_id, {**details, **counts})
    return Backfill(backfill_id, times, excluded)
