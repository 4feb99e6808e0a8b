# SPDX-License-Identifier: Apache-2.0
"""Runs as users see and cancel them. Claiming, journaling and ending them is ``db.runs``'s business.

A ``project_id`` of None means any project; with one, a foreign run is a ``NotFoundError`` (I11).
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from seawall.core.errors import NotFoundError, StateError
from seawall.core.listing import ListQuery
from seawall.core.records import LogLine, Page, Run
from seawall.core.states import CheckpointStatus, RestoreStatus, RunState
from seawall.db import events, keyset, outbox
from seawall.db.session import Tx
from seawall.db.tables import checkpoints, restores, run_logs, runs

MAX_LOG_LINES = 1000

# Rows are inserted when runs are made, so the row key is the order of their creation, and the cheapest one.
_SORT = {
    "created_at": runs.c.row,
    **{
        name: runs.c[name]
        for name in ("id", "state", "kind", "expected_at", "triggered_at", "started_at", "ended_at")
    },
}
_FILTERS: dict[str, keyset.Filter] = {
    "project_id": keyset.has_id(runs.c.project_id),
    "operation_id": keyset.has_id(runs.c.scheduled_operation_id),
    "scheduled_operation_id": keyset.has_id(runs.c.scheduled_operation_id),
    "plan_id": keyset.has_id(runs.c.plan_id),
    "trigger_id": keyset.has_id(runs.c.trigger_id),
    "subject_id": keyset.has_id(runs.c.subject_id),
    "subject_type": keyset.equals(runs.c.subject_type),
    "kind": keyset.equals(runs.c.kind),
    "state": keyset.equals(runs.c.state),
    "operation_type": keyset.equals(runs.c.operation_type),
}


def _one_of(column: sa.Column[Any]) -> keyset.Filter:
    return lambda values: column.in_(tuple(values))


def _names(key: str) -> keyset.Filter:
    """Runs whose definition or result says this id: their subject is something else."""

    def condition(value: Any) -> sa.ColumnElement[bool]:
        documents = (runs.c.definition, runs.c.result)
        return sa.or_(*(document[key].as_string() == str(value).lower() for document in documents))

    return condition


_FILTERS |= {
    "operation_types": _one_of(runs.c.operation_type),
    "states": _one_of(runs.c.state),
    "checkpoint_id": _names("checkpoint_id"),
    "restore_id": _names("restore_id"),
}
_FIELDS = tuple(name for name in Run.__slots__ if name in runs.c)


def page(connection: sa.Connection, query: ListQuery, *, project_id: str | None) -> Page[Run]:
    """A page of the runs of a project."""
    rows, marker = keyset.page(connection, _scoped(project_id), _SORT, query, runs.c.id, filters=_FILTERS)
    return Page(tuple(_record(row) for row in rows), marker)


def get(connection: sa.Connection, run_id: str, *, project_id: str | None) -> Run:
    """One run."""
    row = connection.execute(_scoped(project_id).where(runs.c.id == run_id)).first()
    if row is None:
        raise NotFoundError(f"there is no run {run_id}")
    return _record(row)


def log(connection: sa.Connection, run_id: str, *, after: int, project_id: str | None) -> list[LogLine]:
    """The lines of a run's log but for the first ``after``, at most ``MAX_LOG_LINES``."""
    get(connection, run_id, project_id=project_id)
    query = (
        sa.select(run_logs.c.at, run_logs.c.level, run_logs.c.text)
        .join(runs, runs.c.row == run_logs.c.run_row)
        .where(runs.c.id == run_id)
        .order_by(run_logs.c.row)
        .offset(after)
        .limit(MAX_LOG_LINES)
    )
    return [LogLine(row.at, row.level, row.text) for row in connection.execute(query)]


def cancel(tx: Tx, run_id: str, *, project_id: str | None) -> Run:
    """Cancel a run that waits at once; ask one that works to stop. May be repeated while it stops.

    ``StateError`` when it has ended. What a cancelled run was to make is ended with it.
    """
    run = get(tx.connection, run_id, project_id=project_id)
    if run.state == RunState.QUEUED:
        _end_waiting(tx, runs.c.id == run_id, "cancelled by the user")
    elif run.state == RunState.IN_PROGRESS:
        tx.connection.execute(
            runs.update()
            .where(runs.c.id == run_id, runs.c.state == RunState.IN_PROGRESS)
            .values(state=RunState.CANCELLING, cancel_requested_at=tx.now)
        )
    elif run.state != RunState.CANCELLING:
        raise StateError(f"run {run_id} has already ended: {run.state}")
    return get(tx.connection, run_id, project_id=project_id)


def cancel_waiting(
    tx: Tx, *, reason: str, operation_id: str | None = None, trigger_id: str | None = None
) -> int:
    """Cancel the runs of an operation, or of a trigger, that have never started; how many there were."""
    if operation_id is not None:
        mine = runs.c.scheduled_operation_id == operation_id
    else:
        mine = runs.c.trigger_id == trigger_id
    return _end_waiting(tx, sa.and_(mine, runs.c.started_at.is_(None)), reason)


def end_interrupted(tx: Tx) -> dict[str, list[str]]:
    """End the restores and checkpoints whose run has ended without ending them: ids by kind.

    A run that is cancelled while it waits, or that crashed too often, calls nobody who could. Its own outcome
    is never touched here.
    """
    ended = (
        sa.select(runs.c.id)
        .where(runs.c.ended_at.is_not(None), runs.c.id == restores.c.run_id)
        .correlate(restores)
    )
    failed_restores = (
        tx.connection.execute(
            restores.update()
            .where(restores.c.status == RestoreStatus.IN_PROGRESS, ended.exists())
            .values(
                status=RestoreStatus.FAIL,
                reason="its run ended without finishing it",
                updated_at=tx.now,
            )
            .returning(restores.c.id)
        )
        .scalars()
        .all()
    )
    ended = (
        sa.select(runs.c.id)
        .where(runs.c.ended_at.is_not(None), runs.c.id == checkpoints.c.run_id)
        .correlate(checkpoints)
    )
    failed_checkpoints = (
        tx.connection.execute(
            checkpoints.update()
            .where(checkpoints.c.status == CheckpointStatus.PROTECTING, ended.exists())
            .values(
                status=CheckpointStatus.ERROR,
                reason="its run ended without finishing it",
                ended_at=tx.now,
            )
            .returning(checkpoints.c.id)
        )
        .scalars()
        .all()
    )
    outbox.note_checkpoints(tx, failed_checkpoints)
    found = {"restore": list(failed_restores), "checkpoint": list(failed_checkpoints)}
    return {kind: ids for kind, ids in found.items() if ids}


def _end_waiting(tx: Tx, condition: sa.ColumnElement[bool], reason: str) -> int:
    done = tx.connection.execute(
        runs.update()
        .where(condition, runs.c.state == RunState.QUEUED)
        .values(state=RunState.CANCELLED, reason=reason, ended_at=tx.now)
        .returning(runs.c.row)
    )
    rows = done.scalars().all()
    if rows:
        end_interrupted(tx)
        events.after_ended(tx, rows)
    return len(rows)


def _scoped(project_id: str | None) -> sa.Select[Any]:
    query = sa.select(runs)
    return query if project_id is None else query.where(runs.c.project_id == project_id)


def _record(row: sa.Row[Any]) -> Run:
    values = row._mapping
    return Run(**{name: values[name] for name in _FIELDS})
