# SPDX-License-Identifier: Apache-2.0
"""What is due becomes rows: the claim of a batch of triggers, and the settling of one (I1, I2).

Rows and advances are one transaction. If the process dies before its commit, the triggers are still due and
the next claim decides anew; after it, the rows are there and nothing of them is due any more.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from uuid import UUID

import orjson

from seawall.core.errors import InvalidInputError
from seawall.core.schedule import TimeSchedule, fixed_offset, load_schedule
from seawall.core.schedule.due import Decision, Gap, decide_due
from seawall.db import due
from seawall.db.due import Decided, DueTrigger
from seawall.db.tables import from_micros, to_micros
from seawall.runtime.logging import get_logger

if TYPE_CHECKING:
    from seawall.db.session import Tx

log = get_logger(__name__)

BATCH = 1000
# How many due times one claim decides about at the most, so that a long silence is settled in many short
# transactions. What is left stays due.
MOST_TIMES = 20_000
_TICK = timedelta(microseconds=1)
_NONE = timedelta(0)
_BEFORE_ALL = -(1 << 62)


@dataclass(frozen=True, slots=True)
class Claimed:
    """What a claim has done."""

    triggers: int
    runs: int
    """Rows for single due times, those that were skipped included."""
    quarantined: int
    is_more: bool
    """Whether something may still be due."""


@dataclass(slots=True)
class _Batch:
    now: datetime
    is_ending: bool = False
    plans: list[_Plan] = field(default_factory=list)
    known: dict[tuple[str, int], _Plan] = field(default_factory=dict)
    """Those of the plans that hold for every trigger with the same properties and the same last time."""
    gaps: list[list[tuple[int, Gap, timedelta]]] = field(default_factory=list)
    """In rounds: the first gap of each trigger, then the second of each, and so on."""
    times: int = 0
    faults: dict[int, str] = field(default_factory=dict)


def claim(tx: Tx, *, limit: int = BATCH) -> Claimed:
    """Make rows of what is due of up to ``limit`` triggers, and advance them."""
    found = due.due_triggers(tx.connection, tx.now, limit)
    batch = _Batch(tx.now)
    done = 0
    for trigger in found:
        if batch.times >= MOST_TIMES:
            break
        _decide(batch, trigger)
        done += 1
    inserted = _write(tx, batch)
    return Claimed(done, inserted, len(batch.faults), done < len(found) or len(found) == limit)


def settle(tx: Tx, trigger_id: str, *, is_ending: bool = False) -> int:
    """Make rows of all that is due of one trigger at ``tx.now``, before it or one of its operations changes.

    How many rows of runs that were (I2). A trigger that is not there, has ended or is quarantined has nothing
    due. ``is_ending``: its schedule is replaced or removed now, so what an exclusion holds back will never
    run, and becomes gaps.
    """
    inserted = 0
    while (trigger := due.one_trigger(tx.connection, trigger_id)) is not None:
        batch = _Batch(tx.now, is_ending=is_ending)
        following = _decide(batch, trigger)
        inserted += _write(tx, batch)
        if following is None or following > to_micros(tx.now):
            break
    return inserted


def leave(tx: Tx, trigger_id: str, operation_id: str) -> None:
    """Make gaps, for one operation that is removed or disabled now, of the due times that an exclusion holds
    back: for the others they stay held (I1). After ``settle``, in the same transaction."""
    trigger = due.one_trigger(tx.connection, trigger_id)
    if trigger is None or trigger.is_paused:
        return
    schedule = _schedule(trigger.properties)
    if not schedule.exclusions:
        return
    offset = fixed_offset(trigger.trigger_id, schedule.spread_s)
    through = from_micros(trigger.fired_through)
    while True:
        found = decide_due(schedule, fired_through=through, now=tx.now, offset=offset, is_ending=True)
        if found.fired_through == through:
            return
        through = found.fired_through
        rounds = [_gap_records(tx, [(trigger.row, gap, offset)]) for gap in found.gaps]
        owner = UUID(operation_id).hex
        due.apply(tx, Decided(gaps=[[{**one, "w": owner} for one in records] for records in rounds]))


@dataclass(frozen=True, slots=True)
class Given:
    """What became of a chunk of triggers without a next time."""

    scheduled: int
    ended: int
    last_row: int | None
    """Go on after it; None when that was the last chunk."""


def give_next_times(tx: Tx, *, after_row: int, limit: int) -> Given:
    """Give triggers without a next time one (M3); what was due of them meanwhile becomes rows."""
    found = due.without_next_time(tx.connection, after_row=after_row, limit=limit)
    batch = _Batch(tx.now)
    scheduled = sum(_decide(batch, trigger) is not None for trigger in found)
    _write(tx, batch)
    ended = len(found) - scheduled - len(batch.faults)
    return Given(scheduled, ended, found[-1].row if len(found) == limit else None)


def faults_of(stored: Iterable[tuple[int, str]]) -> dict[int, str]:
    """Row -> why its schedule no longer holds, of (row, properties)."""
    faults = {}
    for row, properties in stored:
        try:
            _schedule(properties)
        except Exception as error:  # noqa: BLE001 - whatever one schedule raises must not stop the others (M3)
            faults[row] = _reason(error)
            log.warning("trigger quarantined", trigger_row=row, reason=faults[row])
    return faults


def _reason(error: Exception) -> str:
    if isinstance(error, InvalidInputError):
        return str(error)
    return f"its schedule cannot be evaluated: {type(error).__name__}: {error}"


@lru_cache(maxsize=16_384)
def _schedule(properties: str) -> TimeSchedule:
    return load_schedule(orjson.loads(properties))


def _decide(batch: _Batch, trigger: DueTrigger) -> int | None:
    """Add to the batch what becomes of one trigger; its next time."""
    key = (trigger.properties, trigger.fired_through)
    plan = None if trigger.is_paused else batch.known.get(key)
    if plan is None:
        try:
            plan = _plan(batch.now, trigger, is_ending=batch.is_ending)
        except Exception as error:  # noqa: BLE001 - whatever one schedule raises must not stop the others (M3)
            batch.faults[trigger.row] = _reason(error)
            return None
        batch.plans.append(plan)
        if plan.is_shared and not trigger.is_paused:
            batch.known[key] = plan
    plan.rows.append(trigger.row)
    for position, gap in enumerate(plan.gaps):
        if position == len(batch.gaps):
            batch.gaps.append([])
        batch.gaps[position].append((trigger.row, gap, plan.offset))
    batch.times += plan.times
    following: int | None = plan.advance["n"]
    return following


@dataclass(frozen=True, slots=True)
class _Plan:
    """What becomes of a trigger, and of every other one of which the same holds."""

    runs: list[dict[str, Any]]
    gaps: list[Gap]
    advance: dict[str, Any]
    times: int
    offset: timedelta
    is_shared: bool
    """Whether it holds for others; not when each has its own offset."""
    rows: list[int] = field(default_factory=list)
    """Of these triggers."""


def _plan(now: datetime, trigger: DueTrigger, *, is_ending: bool) -> _Plan:
    schedule = _schedule(trigger.properties)
    offset = fixed_offset(trigger.trigger_id, schedule.spread_s) if schedule.spread_s else _NONE
    decisions, is_resumed = _decisions(now, trigger, schedule, offset, is_ending=is_ending)
    last = decisions[-1]
    following = last.next_run_at
    gaps = [gap for decision in decisions for gap in decision.gaps]
    return _Plan(
        [record for decision in decisions for record in _run_records(decision)],
        gaps,
        {
            "f": to_micros(last.fired_through),
            "n": None if following is None else to_micros(following),
            "u": is_resumed,
        },
        sum(len(decision.runs) for decision in decisions) + sum(gap.count for gap in gaps),
        offset,
        not schedule.spread_s,
    )


def _decisions(
    now: datetime, trigger: DueTrigger, schedule: TimeSchedule, offset: timedelta, *, is_ending: bool
) -> tuple[list[Decision], bool]:
    """(one or two decisions, whether the pause has ended by itself)."""
    through = from_micros(trigger.fired_through)
    if not trigger.is_paused:
        found = decide_due(schedule, fired_through=through, now=now, offset=offset, is_ending=is_ending)
        return [found], False
    until = None if trigger.paused_until is None else from_micros(trigger.paused_until)
    is_over = until is not None and until <= now
    paused_to = now if until is None or not is_over else until - _TICK
    paused = decide_due(
        schedule,
        fired_through=through,
        now=paused_to,
        offset=offset,
        is_paused=True,
        paused_reason=trigger.paused_reason or "",
    )
    has_more = paused.next_run_at is not None and paused.next_run_at <= paused_to
    if not is_over or has_more:
        return [paused], False
    after = decide_due(
        schedule, fired_through=paused.fired_through, now=now, offset=offset, is_ending=is_ending
    )
    return [paused, after], True


def _run_records(decision: Decision) -> Iterable[dict[str, Any]]:
    former: int | None = None
    last = len(decision.runs) - 1
    for position, run in enumerate(decision.runs):
        due_at = to_micros(run.due_at)
        yield {
            "e": due_at if run.expected_at == run.due_at else to_micros(run.expected_at),
            "b": due_at,
            "p": former,
            "l": int(position == last),
            "o": occurrence(run.nominal_at),
            "d": to_micros(run.deadline_at),
            "s": int(run.is_serial),
        }
        former = due_at


def occurrence(nominal_at: datetime) -> str:
    """The key of a due time: of one width, so that keys sort as their times do."""
    return nominal_at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _write(tx: Tx, batch: _Batch) -> int:
    decided = Decided(
        runs=[{"t": plan.rows, **run} for plan in batch.plans for run in plan.runs],
        gaps=[_gap_records(tx, gaps) for gaps in batch.gaps],
        advances=[{"t": plan.rows, **plan.advance} for plan in batch.plans],
    )
    inserted = due.apply(tx, decided)
    if batch.faults:
        due.quarantine(tx, batch.faults)
        for row, reason in batch.faults.items():
            log.warning("trigger quarantined", trigger_row=row, reason=reason)
    return inserted


def _gap_records(tx: Tx, gaps: list[tuple[int, Gap, timedelta]]) -> list[dict[str, Any]]:
    """A record for each gap; one more for each operation that was registered within it."""
    spans = [
        (row, to_micros(gap.first_at + offset), to_micros(gap.last_at + offset)) for row, gap, offset in gaps
    ]
    within = due.registrations_within(tx.connection, spans)
    records = []
    for (row, gap, offset), (_, first, last) in zip(gaps, spans, strict=True):
        record = {"t": row, "f": first, "l": last, "c": gap.count, "s": gap.state, "r": gap.reason}
        records.append({**record, "o": occurrence(gap.first_at), "a": _BEFORE_ALL, "b": first})
        if row in within:
            times = [to_micros(at + offset) for at in gap.times]
            starts = sorted({bisect_left(times, registered) for registered in within[row]})
            for start in starts:
                own = {"f": times[start], "c": len(times) - start, "o": occurrence(gap.times[start])}
                records.append({**record, **own, "a": times[start - 1], "b": times[start]})
    return records
