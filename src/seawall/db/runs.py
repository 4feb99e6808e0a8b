# SPDX-License-Identifier: Apache-2.0
"""The life of runs: inserted, claimed under a lease, ended once (I1, I3, I4).

    queued --claim--> in_progress --record--> success | failed | cancelled
       ^                  |  ^
       |                  |  +--(cancelling)
       +--hand_back, take_over, retry

Every move is a compare-and-set on state and **fence**, upon rows that are locked before they are looked at:
on PostgreSQL many processes may write at the same time (``locks_rows``). A claim raises the fence; whoever
works with an older one can record nothing any more. What users see and cancel is in ``run_rows``; what is due
is in ``due``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import sqlalchemy as sa

from seawall.core.records import Json
from seawall.core.states import LIVE_RUN_STATES, RUNNING_STATES, RunState
from seawall.db import events
from seawall.db.dialect import among, is_postgresql
from seawall.db.dialect import insert as dialect_insert
from seawall.db.session import Tx
from seawall.db.tables import run_logs, run_steps, runs, to_micros

# The fourth time that a run loses its process it is given up (I4).
MAX_TAKE_OVERS = 3
DAY_S = 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRun:
    """A run to be inserted. Unique by (subject_id, kind, occurrence)."""

    project_id: str
    user_id: str
    kind: str
    subject_type: str
    subject_id: str
    occurrence: str
    operation_type: str
    definition: Json
    expected_at: datetime
    scheduled_operation_id: str | None = None
    trigger_id: str | None = None
    plan_id: str | None = None
    host: str | None = None
    lock_key: str | None = None
    """At most one run of a lock key works at a time."""
    state: str = RunState.QUEUED
    reason: str | None = None
    priority: int = 0
    """Smaller is claimed sooner."""
    deadline_at: datetime | None = None
    """Until when the first start is on time; None is for ever."""
    timeout_s: int = DAY_S
    max_attempts: int = 1
    retry_delay_s: int = 60
    gap_first_at: datetime | None = None
    gap_last_at: datetime | None = None
    gap_count: int | None = None
    id: str | None = None


@dataclass(frozen=True, slots=True)
class ClaimedRun:
    """A run that this process works on, until its lease ends."""

    row: int
    id: str
    fence: int
    project_id: str
    user_id: str
    kind: str
    operation_type: str
    definition: Json
    scheduled_operation_id: str | None
    trigger_id: str | None
    expected_at: datetime
    triggered_at: datetime
    deadline_at: datetime | None
    started_at: datetime
    timeout_s: int
    attempt: int
    take_overs: int
    max_attempts: int
    retry_delay_s: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt ended."""

    row: int
    fence: int
    state: str
    """success | failed | cancelled, or queued: tried again at ``not_before_at``."""
    reason: str | None = None
    result: Json | None = None
    error: Json | None = None
    progress: Json | None = None
    not_before_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Held:
    """What the database says of a run that this process holds."""

    row: int
    fence: int
    is_mine: bool
    is_cancelling: bool


def scope_lock(thing_id: str) -> str:
    """The lock key of all that must not work at once on one thing: a scheduled operation (its protects and
    the retention of what they made, I6), a repository. Claims write the same text (``db.due``)."""
    return thing_id.replace("-", "")


# --- inserting ---------------------------------------------------------------------------------


def insert(tx: Tx, run: NewRun) -> str:
    """The id of the run; of the one that is there already when this occurrence was inserted before."""
    insert_all(tx, [run])
    query = sa.select(runs.c.id).where(
        runs.c.subject_id == run.subject_id,
        runs.c.kind == run.kind,
        runs.c.occurrence == run.occurrence,
    )
    return str(tx.connection.execute(query).scalar_one())


def insert_all(tx: Tx, new: Sequence[NewRun]) -> None:
    """Insert those that are not there yet, in one statement."""
    if not new:
        return
    rows = [_values(one, tx.now) for one in new]
    tx.connection.execute(dialect_insert(tx.connection, runs).on_conflict_do_nothing(), rows)


def _values(run: NewRun, now: datetime) -> dict[str, Any]:
    is_ended = run.state != RunState.QUEUED
    return {
        "id": run.id or str(uuid4()),
        "project_id": run.project_id,
        "user_id": run.user_id,
        "kind": run.kind,
        "subject_type": run.subject_type,
        "subject_id": run.subject_id,
        "occurrence": run.occurrence,
        "operation_type": run.operation_type,
        "definition": run.definition,
        "scheduled_operation_id": run.scheduled_operation_id,
        "trigger_id": run.trigger_id,
        "plan_id": run.plan_id,
        "host": run.host,
        "lock_key": run.lock_key,
        "state": run.state,
        "reason": run.reason,
        "priority": run.priority,
        "expected_at": run.expected_at,
        "triggered_at": now,
        "deadline_at": run.deadline_at,
        "timeout_s": run.timeout_s,
        "ended_at": now if is_ended else None,
        "attempt": 0,
        "take_overs": 0,
        "max_attempts": run.max_attempts,
        "retry_delay_s": run.retry_delay_s,
        "fence": 0,
        "gap_first_at": run.gap_first_at,
        "gap_last_at": run.gap_last_at,
        "gap_count": run.gap_count,
    }


# --- claiming ----------------------------------------------------------------------------------

_CLAIMED = tuple(name for name in ClaimedRun.__slots__ if name != "row")


def _may_start(now: datetime) -> tuple[sa.ColumnElement[bool], ...]:
    """Queued, not put off, in time, and no run of its lock key works."""
    running = runs.alias("running")
    is_locked = sa.exists().where(
        running.c.lock_key == runs.c.lock_key, among(running.c.state, RUNNING_STATES)
    )
    return (
        runs.c.state == RunState.QUEUED,
        sa.or_(runs.c.not_before_at.is_(None), runs.c.not_before_at <= now),
        sa.or_(runs.c.started_at.is_not(None), runs.c.deadline_at.is_(None), runs.c.deadline_at >= now),
        sa.or_(runs.c.lock_key.is_(None), sa.not_(is_locked)),
    )


def claim(
    tx: Tx,
    *,
    service_row: int,
    host: str,
    limit: int,
    lease_until: datetime,
    only: Collection[str] | None = None,
    never: Collection[str] = (),
) -> list[ClaimedRun]:
    """Take up to ``limit`` queued runs that may run here now, in order of priority and due time.

    At most one of each lock key; ``only`` these operation types, ``never`` those. A run whose deadline passed
    before its first start is left to ``reap``.
    """
    if limit <= 0:
        return []
    query = (
        sa.select(runs.c.row, runs.c.lock_key)
        .where(
            *_may_start(tx.now),
            sa.or_(runs.c.host.is_(None), runs.c.host == host),
            *([] if only is None else [runs.c.operation_type.in_(only)]),
            *([runs.c.operation_type.not_in(never)] if never else []),
        )
        .order_by(runs.c.priority, runs.c.expected_at)
        .limit(limit)
        # What another process is claiming at this moment is not waited for.
        .with_for_update(skip_locked=True, of=runs)
    )
    chosen: dict[int, str | None] = {}
    for row, lock_key in tx.connection.execute(query):
        if lock_key is None or lock_key not in chosen.values():
            chosen[row] = lock_key
    granted = _lock_keys(tx.connection, {key for key in chosen.values() if key is not None})
    chosen = {row: key for row, key in chosen.items() if key is None or key in granted}
    if not chosen:
        return []
    claimed = tx.connection.execute(
        runs.update()
        # Looked at once more: now that its lock key is held, no other run of it can begin.
        .where(runs.c.row.in_(chosen), *_may_start(tx.now))
        .values(
            state=RunState.IN_PROGRESS,
            service_row=service_row,
            lease_until_at=lease_until,
            started_at=sa.func.coalesce(
                runs.c.started_at, sa.bindparam("now", tx.now, type_=runs.c.started_at.type)
            ),
            attempt=runs.c.attempt + 1,
            fence=runs.c.fence + 1,
            not_before_at=None,
        )
        .returning(runs.c.row, *(runs.c[name] for name in _CLAIMED))
    )
    found = {row.row: ClaimedRun(**row._mapping) for row in claimed}
    events.after_started(tx, [row for row, one in found.items() if one.started_at == tx.now])
    return [found[row] for row in chosen if row in found]


# The first half of the number that stands for a lock key on PostgreSQL.
_LOCK_SPACE = 0x5EA


def _lock_keys(connection: sa.Connection, keys: Collection[str]) -> Collection[str]:
    """Those of which no other process begins a run until this transaction ends.

    Two processes that claim two runs of one key would both find that none works, and the second would run
    into the unique index. On SQLite nobody else writes at the same time.
    """
    if not keys or not is_postgresql(connection):
        return keys
    query = sa.text(
        "SELECT key FROM unnest(CAST(:keys AS text[])) AS key"
        " WHERE pg_try_advisory_xact_lock(:space, hashtext(key))"
    )
    found = connection.execute(query, {"keys": sorted(keys), "space": _LOCK_SPACE})
    return set(found.scalars())


# What is waiting is counted up to here: a doorbell is rung for each worker at most.
_MOST_COUNTED = 10_000


def waiting(connection: sa.Connection, now: Callable[[sa.Connection], datetime]) -> dict[str | None, int]:
    """Host, or None for any -> how many runs it might claim now, of the first ten thousand queued ones."""
    first = (
        sa.select(runs.c.host)
        .where(*_may_start(now(connection)))
        .order_by(runs.c.priority, runs.c.expected_at)
        .limit(_MOST_COUNTED)
        .subquery()
    )
    query = sa.select(first.c.host, sa.func.count()).group_by(first.c.host)
    return {row[0]: row[1] for row in connection.execute(query)}


# --- holding -----------------------------------------------------------------------------------


def extend(tx: Tx, held: Collection[tuple[int, int]], *, lease_until: datetime) -> list[Held]:
    """Extend the leases of (row, fence) pairs that are still ours, and say of each how it stands."""
    found = look(tx.connection, held, is_locking=True)
    mine = [one.row for one in found if one.is_mine]
    if mine:
        tx.connection.execute(runs.update().where(runs.c.row.in_(mine)).values(lease_until_at=lease_until))
    return found


def look(
    connection: sa.Connection, held: Collection[tuple[int, int]], *, is_locking: bool = False
) -> list[Held]:
    """How runs stand that this process believes to hold; ``is_locking`` keeps them so until the commit."""
    query = sa.select(runs.c.row, runs.c.fence, runs.c.state).where(runs.c.row.in_([row for row, _ in held]))
    if is_locking:
        query = query.order_by(runs.c.row).with_for_update()
    now = {row: (fence, state) for row, fence, state in connection.execute(query)}
    answers = []
    for row, fence in held:
        there, state = now.get(row, (None, None))
        is_mine = there == fence and state in RUNNING_STATES
        answers.append(Held(row, fence, is_mine, is_mine and state == RunState.CANCELLING))
    return answers


def cancelling(connection: sa.Connection, *, service_row: int) -> list[tuple[int, int]]:
    """(row, fence) of the runs of this process that must stop: few, however many it holds."""
    query = sa.select(runs.c.row, runs.c.fence).where(
        runs.c.service_row == service_row, among(runs.c.state, [RunState.CANCELLING])
    )
    return [(row, fence) for row, fence in connection.execute(query)]


def has_lease(connection: sa.Connection, *, row: int, fence: int, now: datetime) -> bool:
    """Whether this fence holds the run and its lease has not ended (I3)."""
    query = sa.select(runs.c.row).where(
        runs.c.row == row,
        runs.c.fence == fence,
        among(runs.c.state, RUNNING_STATES),
        runs.c.lease_until_at > now,
    )
    return connection.execute(query).first() is not None


def set_progress(tx: Tx, progress: Mapping[int, tuple[int, Json]]) -> None:
    """Row -> (fence, progress), for those still held."""
    rows = [{"b_row": row, "b_fence": fence, "b_doc": doc} for row, (fence, doc) in progress.items()]
    if rows:
        tx.connection.execute(
            runs.update()
            .where(
                runs.c.row == sa.bindparam("b_row"),
                runs.c.fence == sa.bindparam("b_fence"),
                among(runs.c.state, RUNNING_STATES),
            )
            .values(progress=sa.bindparam("b_doc", type_=runs.c.progress.type)),
            rows,
        )


# A document that may be absent: NULL then, not the JSON null that ``coalesce`` would take for a value.
_OPTIONAL = sa.JSON(none_as_null=True)


# --- ending ------------------------------------------------------------------------------------


def record(tx: Tx, outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Record outcomes, each by compare-and-set; those that were not ours any more are answered (I3)."""
    lost = []
    keys = [(one.row, one.fence) for one in outcomes]
    held = {one.row: one for one in look(tx.connection, keys, is_locking=True)}
    ready, ended = [], []
    for one in outcomes:
        if not held[one.row].is_mine:
            lost.append(one)
            continue
        is_again = one.state == RunState.QUEUED
        # A cancel that came while the work failed wins over trying again.
        state = RunState.CANCELLED if is_again and held[one.row].is_cancelling else one.state
        if state != RunState.QUEUED:
            ended.append(one.row)
        ready.append(
            {
                "b_row": one.row,
                "b_state": state,
                "b_reason": one.reason,
                "b_result": one.result,
                "b_error": one.error,
                "b_progress": one.progress,
                "b_ended": None if state == RunState.QUEUED else tx.now,
                "b_not_before": one.not_before_at,
            }
        )
    if ready:
        tx.connection.execute(
            runs.update()
            .where(runs.c.row == sa.bindparam("b_row"))
            .values(
                state=sa.bindparam("b_state"),
                reason=sa.bindparam("b_reason"),
                result=sa.bindparam("b_result", type_=_OPTIONAL),
                error=sa.bindparam("b_error", type_=_OPTIONAL),
                progress=sa.func.coalesce(sa.bindparam("b_progress", type_=_OPTIONAL), runs.c.progress),
                ended_at=sa.bindparam("b_ended", type_=runs.c.ended_at.type),
                not_before_at=sa.bindparam("b_not_before", type_=runs.c.not_before_at.type),
                service_row=None,
                lease_until_at=None,
            ),
            ready,
        )
        events.after_ended(tx, ended)
    return lost


def hand_back(tx: Tx, held: Collection[tuple[int, int]]) -> None:
    """Give up runs in order: somebody else goes on with them at once. This is no take-over."""
    for one in look(tx.connection, held, is_locking=True):
        if one.is_mine:
            _requeue(tx, runs.c.row == one.row, is_take_over=False)


def take_back(tx: Tx, *, service_row: int) -> int:
    """At the start of a service: what its former process had claimed is queued again (M4)."""
    return _take_over(tx, runs.c.service_row == service_row)


def reap(tx: Tx, *, host: str) -> int:
    """Settle what nobody works on; how many runs that were.

    * leases that have ended: taken over, by a process that may run them (I4);
    * runs bound to another host that has not come back until their timeout: ``host_unavailable``;
    * queued runs whose deadline passed before their first start: ``dropped_out_of_window``.
    """
    may_run = sa.or_(runs.c.host.is_(None), runs.c.host == host)
    count = _take_over(tx, sa.and_(runs.c.lease_until_at < tx.now, may_run))
    count += _fail_absent(tx, host)
    dropped = tx.connection.execute(
        runs.update()
        .where(
            among(runs.c.state, [RunState.QUEUED]),
            runs.c.started_at.is_(None),
            runs.c.deadline_at < tx.now,
        )
        .values(
            state=RunState.DROPPED_OUT_OF_WINDOW,
            reason="it was queued in time but not started within its window",
            ended_at=tx.now,
        )
        .returning(runs.c.row)
    )
    rows = dropped.scalars().all()
    events.after_ended(tx, rows)
    return count + len(rows)


def _take_over(tx: Tx, condition: sa.ColumnElement[bool]) -> int:
    orphans = tx.connection.execute(
        sa.select(runs.c.row, runs.c.state, runs.c.take_overs)
        .where(condition, among(runs.c.state, RUNNING_STATES))
        # Whoever holds one is taking it over, or is alive after all.
        .with_for_update(skip_locked=True)
    ).all()
    for row, state, take_overs in orphans:
        if state == RunState.CANCELLING:
            _end(tx, row, RunState.CANCELLED, "cancelled; the process that ran it is gone", None)
        elif take_overs >= MAX_TAKE_OVERS:
            message = f"the process that ran it died {take_overs + 1} times"
            _end(tx, row, RunState.FAILED, message, "crashed_repeatedly")
        else:
            _requeue(tx, runs.c.row == row, is_take_over=True)
    return len(orphans)


def _fail_absent(tx: Tx, host: str) -> int:
    lasting = sa.func.coalesce(runs.c.started_at, runs.c.expected_at)
    # Instants are stored as microseconds; the sum is made of the stored numbers, as wide as those are.
    timeout = sa.cast(runs.c.timeout_s, sa.BigInteger) * sa.literal(1_000_000, sa.BigInteger)
    until = sa.type_coerce(lasting, sa.BigInteger) + timeout
    is_idle = sa.or_(
        among(runs.c.state, [RunState.QUEUED]),
        sa.and_(among(runs.c.state, RUNNING_STATES), runs.c.lease_until_at < tx.now),
    )
    is_over = until < to_micros(tx.now)
    absent = (
        sa.select(runs.c.row)
        # Live and bound, in the words of the index: those that wait unbound are never looked at.
        .where(among(runs.c.state, LIVE_RUN_STATES), runs.c.host.is_not(None))
        .where(is_idle, runs.c.host != host, is_over)
        .with_for_update(skip_locked=True)
    )
    rows = tx.connection.execute(absent).scalars().all()
    for row in rows:
        message = "the host that it is bound to did not come back until its timeout"
        _end(tx, row, RunState.FAILED, message, "host_unavailable")
    return len(rows)


def _end(tx: Tx, row: int, state: str, message: str, code: str | None) -> None:
    tx.connection.execute(
        runs.update()
        .where(runs.c.row == row)
        .values(
            state=state,
            reason=message,
            error=None if code is None else {"code": code, "message": message},
            ended_at=tx.now,
            service_row=None,
            lease_until_at=None,
            fence=runs.c.fence + 1,
        )
    )
    events.after_ended(tx, [row])


def _requeue(tx: Tx, condition: sa.ColumnElement[bool], *, is_take_over: bool) -> None:
    moved = tx.connection.execute(
        runs.update()
        .where(condition)
        .values(
            state=sa.case((runs.c.state == RunState.CANCELLING, RunState.CANCELLED), else_=RunState.QUEUED),
            ended_at=sa.case(
                (
                    runs.c.state == RunState.CANCELLING,
                    sa.bindparam("b_now", tx.now, type_=runs.c.ended_at.type),
                ),
                else_=None,
            ),
            service_row=None,
            lease_until_at=None,
            fence=runs.c.fence + 1,
            # A run that was handed back in order has not had its attempt.
            attempt=runs.c.attempt if is_take_over else runs.c.attempt - 1,
            take_overs=runs.c.take_overs + (1 if is_take_over else 0),
        )
        .returning(runs.c.row, runs.c.state)
    )
    events.after_ended(tx, [row for row, state in moved if state == RunState.CANCELLED])


# --- journal and log ---------------------------------------------------------------------------


def steps(connection: sa.Connection, rows: Collection[int]) -> dict[int, dict[str, Json]]:
    """Row -> step -> what was journaled."""
    found: dict[int, dict[str, Json]] = {row: {} for row in rows}
    query = sa.select(run_steps.c.run_row, run_steps.c.step, run_steps.c.data).where(
        run_steps.c.run_row.in_(rows)
    )
    for row, step, data in connection.execute(query):
        found[row][step] = data
    return found


def record_step(tx: Tx, *, row: int, fence: int, step: str, data: Json) -> bool:
    """Journal a step; False, and nothing written, when the run was taken over (I3)."""
    if not look(tx.connection, [(row, fence)], is_locking=True)[0].is_mine:
        return False
    statement = dialect_insert(tx.connection, run_steps).values(run_row=row, step=step, data=data, at=tx.now)
    tx.connection.execute(
        statement.on_conflict_do_update(
            index_elements=["run_row", "step"], set_={"data": data, "at": statement.excluded.at}
        )
    )
    return True


def add_log(tx: Tx, lines: Sequence[tuple[int, datetime, str, str]]) -> None:
    """(run row, instant, level, text) each."""
    if lines:
        rows = [{"run_row": row, "at": at, "level": level, "text": text} for row, at, level, text in lines]
        tx.connection.execute(run_logs.insert(), rows)


def retry_at(claimed: ClaimedRun, now: datetime) -> datetime | None:
    """When a failed attempt may be tried again; None when it may not. Bounded by the timeout (I4).

    An attempt that lost its process is not one that failed.
    """
    if claimed.attempt - claimed.take_overs >= claimed.max_attempts:
        return None
    at = now + timedelta(seconds=claimed.retry_delay_s)
    return at if at < claimed.started_at + timedelta(seconds=claimed.timeout_s) else None
