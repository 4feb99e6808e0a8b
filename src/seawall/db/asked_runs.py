# SPDX-License-Identifier: Apache-2.0
"""Runs of a scheduled operation that somebody asks for: by hand, and for due times that have passed (I1).

They have the lock that its scheduled runs have, so that one works at a time; they are no overlap for these,
nor are they replaced by them.
"""

from __future__ import annotations

from dataclasses import replace

import sqlalchemy as sa

from seawall.core.errors import NotFoundError
from seawall.core.states import RunKind
from seawall.db.runs import NewRun, scope_lock
from seawall.db.session import Tx
from seawall.db.tables import scheduled_operations, triggers

_table = scheduled_operations


def run_of(tx: Tx, operation_id: str, *, project_id: str, user_id: str, kind: RunKind) -> NewRun:
    """A run of the operation, due at ``tx.now``, for ``user_id``; its occurrence is for the caller to set."""
    query = (
        sa.select(_table, triggers.c.id.label("trigger_id"))
        .join(triggers, triggers.c.row == _table.c.trigger_row)
        .where(_table.c.id == operation_id, _table.c.project_id == project_id)
    )
    row = tx.connection.execute(query).first()
    if row is None:
        raise NotFoundError(f"there is no scheduled operation {operation_id}")
    run = NewRun(
        project_id=project_id,
        user_id=user_id,
        kind=kind,
        subject_type="scheduled_operation",
        subject_id=operation_id,
        occurrence="",
        operation_type=row.operation_type,
        definition=row.definition,
        expected_at=tx.now,
        scheduled_operation_id=operation_id,
        trigger_id=row.trigger_id,
        plan_id=row.plan_id,
        host=row.host,
        priority=row.priority,
        timeout_s=row.timeout_s,
        max_attempts=row.retry_max_attempts,
        retry_delay_s=row.retry_delay_s,
    )
    if row.overlap == "allow" and row.plan_id is None:
        return run
    return one_at_a_time(run)


def one_at_a_time(run: NewRun) -> NewRun:
    """The same with the lock of its scope, as ``db.due`` writes it."""
    scope = run.subject_id
    if run.operation_type == "retention":
        scope = run.definition.get("scheduled_operation_id") or scope
    return replace(run, lock_key=scope_lock(scope))
