# SPDX-License-Identifier: Apache-2.0
"""What the automatic clean-up reads and deletes (M6); in chunks, so that no transaction is long."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import takewhile

import sqlalchemy as sa

from seawall.core.records import Checkpoint, Json
from seawall.core.states import LIVE_RUN_STATES, CheckpointStatus, RunKind, RunState
from seawall.db import checkpoints as checkpoint_rows
from seawall.db.dialect import among
from seawall.db.session import Tx
from seawall.db.tables import (
    checkpoints,
    idempotency_keys,
    plans,
    repositories,
    run_logs,
    run_steps,
    runs,
    scheduled_operations,
    services,
)


@dataclass(frozen=True, slots=True)
class RetentionScope:
    """A scheduled operation whose rules may let checkpoints go (I6)."""

    row: int
    operation_id: str
    operation_type: str
    project_id: str
    user_id: str
    plan_id: str
    host: str | None
    definition: Json


@dataclass(frozen=True, slots=True)
class FailedCheckpoint:
    """A checkpoint in ``error``, and the host that its runs go to."""

    checkpoint: Checkpoint
    host: str | None


@dataclass(frozen=True, slots=True)
class DueRepository:
    """A repository that is to be maintained."""

    id: str
    project_id: str
    maintained_at: datetime | None


def retention_scopes(
    connection: sa.Connection, operation_types: tuple[str, ...], *, after_row: int, limit: int
) -> list[RetentionScope]:
    """Enabled operations of these types that work on a plan; a chunk in the order of their row keys."""
    operations = scheduled_operations
    query = (
        sa.select(
            operations.c.row,
            operations.c.id,
            operations.c.operation_type,
            operations.c.project_id,
            operations.c.user_id,
            operations.c.plan_id,
            operations.c.host,
            operations.c.definition,
        )
        .where(
            operations.c.enabled,
            operations.c.operation_type.in_(operation_types),
            operations.c.plan_id.is_not(None),
            operations.c.row > after_row,
        )
        .order_by(operations.c.row)
        .limit(limit)
    )
    return [RetentionScope(*row) for row in connection.execute(query)]


@dataclass(frozen=True, slots=True)
class Attempts:
    """What has become of the clean-up's runs of one kind of work for one subject."""

    is_live: bool
    """Whether one waits or works, or one of somebody else's for the same."""
    failures: int
    """How many in a row have not succeeded, up to ``MOST_ATTEMPTS``."""
    ended_at: datetime | None
    """When the newest one ended."""
    reason: str
    """Why the newest one failed."""


# So many are looked at: nobody waits longer after more failures than these.
MOST_ATTEMPTS = 8


def attempts(connection: sa.Connection, *, subject_id: str, operation_type: str, occurrence: str) -> Attempts:
    """Those whose occurrences begin so, the newest ones."""
    is_live = among(runs.c.state, LIVE_RUN_STATES)
    is_own = sa.and_(runs.c.kind == RunKind.SYSTEM, runs.c.occurrence.startswith(occurrence, autoescape=True))
    query = (
        sa.select(is_live, runs.c.state, runs.c.ended_at, runs.c.reason)
        .where(
            runs.c.subject_id == subject_id, runs.c.operation_type == operation_type, sa.or_(is_live, is_own)
        )
        .order_by(runs.c.row.desc())
        .limit(MOST_ATTEMPTS)
    )
    found = connection.execute(query).all()
    if any(is_live for is_live, *_ in found):
        return Attempts(True, 0, None, "")
    failed = list(takewhile(lambda one: one.state != RunState.SUCCESS, found))
    return Attempts(
        False,
        len(failed),
        found[0].ended_at if found else None,
        (failed[0].reason or failed[0].state) if failed else "",
    )


def failed_checkpoints(connection: sa.Connection, before: datetime) -> list[FailedCheckpoint]:
    """Checkpoints that have been in ``error`` since before then."""
    return _with_hosts(connection, checkpoint_rows.failed_before(connection, before))


def abandoned_deletes(connection: sa.Connection) -> list[FailedCheckpoint]:
    """Checkpoints in ``deleting`` while no run of their plan lives that could be deleting them."""
    live = runs.alias("live")
    busy = set(
        connection.execute(
            sa.select(live.c.plan_id).where(live.c.plan_id.is_not(None), among(live.c.state, LIVE_RUN_STATES))
        ).scalars()
    )
    found = [one for one in checkpoint_rows.being_deleted(connection) if one.plan_id not in busy]
    return _with_hosts(connection, found)


def _with_hosts(connection: sa.Connection, found: list[Checkpoint]) -> list[FailedCheckpoint]:
    query = sa.select(plans.c.id, plans.c.host).where(plans.c.id.in_({one.plan_id for one in found}))
    hosts: dict[str, str | None] = {row.id: row.host for row in connection.execute(query)}
    return [FailedCheckpoint(one, hosts.get(one.plan_id)) for one in found]


def due_repositories(
    connection: sa.Connection, *, now: datetime, every: timedelta, after_deletes: timedelta
) -> list[DueRepository]:
    """Repositories that were last maintained ``every`` ago, or ``after_deletes`` ago with deletes since."""
    since = sa.func.coalesce(repositories.c.maintained_at, repositories.c.created_at)
    has_deletes = sa.exists().where(
        checkpoints.c.repository_id == repositories.c.id,
        checkpoints.c.status == CheckpointStatus.DELETED,
        checkpoints.c.deleted_at > since,
    )
    kind = repositories.c.created_at.type
    query = sa.select(repositories.c.id, repositories.c.project_id, repositories.c.maintained_at).where(
        repositories.c.format_id.is_not(None),
        sa.or_(
            since <= sa.bindparam("daily", now - every, type_=kind),
            sa.and_(since <= sa.bindparam("soon", now - after_deletes, type_=kind), has_deletes),
        ),
    )
    return [DueRepository(*row) for row in connection.execute(query)]


def delete_old_runs(tx: Tx, *, before: datetime, limit: int) -> int:
    """Delete runs that ended before then, with their steps and logs; how many.

    Never the newest scheduled row of an operation that is there: a gap may still grow from it (I1). What is
    deleted cannot fire again, for ``fired_through`` of its trigger stays.
    """
    newer = runs.alias("newer")
    is_replaceable = sa.or_(
        runs.c.kind != RunKind.SCHEDULED,
        sa.exists().where(
            newer.c.subject_id == runs.c.subject_id,
            newer.c.kind == RunKind.SCHEDULED,
            newer.c.occurrence > runs.c.occurrence,
        ),
        sa.not_(sa.exists().where(scheduled_operations.c.id == runs.c.subject_id)),
    )
    chosen = list(
        tx.connection.execute(
            sa.select(runs.c.row)
            .where(runs.c.ended_at < before, is_replaceable)
            .order_by(runs.c.ended_at)
            .limit(limit)
        ).scalars()
    )
    if chosen:
        tx.connection.execute(run_steps.delete().where(run_steps.c.run_row.in_(chosen)))
        tx.connection.execute(run_logs.delete().where(run_logs.c.run_row.in_(chosen)))
        tx.connection.execute(runs.delete().where(runs.c.row.in_(chosen)))
    return len(chosen)


def delete_dead_services(tx: Tx, *, before: datetime) -> int:
    """Delete rows of services that have given no sign since then and hold no run; how many."""
    holds = sa.exists().where(runs.c.service_row == services.c.row, among(runs.c.state, LIVE_RUN_STATES))
    return tx.connection.execute(
        services.delete().where(services.c.heartbeat_at < before, sa.not_(holds))
    ).rowcount


def delete_old_idempotency_keys(tx: Tx, *, before: datetime) -> int:
    """Delete keys whose request is so old that nobody repeats it; how many."""
    return tx.connection.execute(
        idempotency_keys.delete().where(idempotency_keys.c.created_at < before)
    ).rowcount
