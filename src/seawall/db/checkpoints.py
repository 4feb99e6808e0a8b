# SPDX-License-Identifier: Apache-2.0
"""Checkpoints: rows that say what is on the bank (I5).

A row is born ``protecting`` and moves only as ``core.states.CHECKPOINT`` allows, by compare-and-set: a move
that finds the row elsewhere changes nothing and answers False. Rows of deleted checkpoints stay, as history;
lists leave them out unless they are asked for by status. Whoever reads a checkpoint's bytes holds a lease of
``reader_lease(id)``; a delete begins only when nobody does.

A ``project_id`` of None means any project; with one, a foreign checkpoint is a ``NotFoundError`` (I11).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from uuid import uuid4

import sqlalchemy as sa

from seawall.core.errors import InvalidInputError, NotFoundError
from seawall.core.listing import ListQuery
from seawall.core.records import Checkpoint, Json, Page
from seawall.core.states import CHECKPOINT, RESTORABLE, CheckpointStatus, check_move
from seawall.db import keyset, leases, outbox
from seawall.db.dialect import insert as dialect_insert
from seawall.db.session import Connection, Tx
from seawall.db.tables import checkpoints

_FIELDS = tuple(Checkpoint.__slots__)
_DOCUMENTS = ("resources", "extra_info")
_DELETABLE = (*RESTORABLE, CheckpointStatus.ERROR)

_SORT = {
    # Rows are inserted when checkpoints are made; only recovery inserts old ones.
    **{name: checkpoints.c[name] for name in ("created_at", "ended_at", "id", "status", "plan_id")},
    "plan_name": checkpoints.c.plan_name,
}


def _instant(value: Any, *, field_name: str, is_end: bool) -> datetime:
    """An instant of a filter; a day alone begins at midnight UTC, and as an end it is the whole day."""
    if isinstance(value, datetime):
        return value if value.tzinfo else value.replace(tzinfo=UTC)
    try:
        text = str(value)
        if len(text) == 10:
            day = datetime.combine(date.fromisoformat(text), time(), UTC)
            return day + timedelta(days=1, microseconds=-1) if is_end else day
        found = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidInputError.of(field_name, value, "must be a day or an instant in ISO 8601") from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _from(value: Any) -> sa.ColumnElement[bool]:
    return checkpoints.c.created_at >= _instant(value, field_name="start_date", is_end=False)


def _until(value: Any) -> sa.ColumnElement[bool]:
    return checkpoints.c.created_at <= _instant(value, field_name="end_date", is_end=True)


_FILTERS: dict[str, keyset.Filter] = {
    "project_id": keyset.has_id(checkpoints.c.project_id),
    "provider_id": keyset.has_id(checkpoints.c.provider_id),
    "plan_id": keyset.has_id(checkpoints.c.plan_id),
    "scheduled_operation_id": keyset.has_id(checkpoints.c.scheduled_operation_id),
    "run_id": keyset.has_id(checkpoints.c.run_id),
    "status": keyset.equals(checkpoints.c.status),
    "pinned": keyset.equals(checkpoints.c.pinned),
    "start_date": _from,
    "end_date": _until,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class NewCheckpoint:
    """A checkpoint that is to be made."""

    project_id: str
    provider_id: str
    plan_id: str
    plan_name: str
    repository_id: str
    resources: Sequence[Json]
    scheduled_operation_id: str | None = None
    run_id: str | None = None
    """The run that makes it; at most one checkpoint has it."""
    extra_info: Json = field(default_factory=dict)
    id: str | None = None


def reader_lease(checkpoint_id: str) -> str:
    """The name of the lease that a reader of this checkpoint holds (see ``db.leases``)."""
    return f"checkpoint:{checkpoint_id}"


# --- making ------------------------------------------------------------------------------------


def insert(tx: Tx, new: NewCheckpoint) -> Checkpoint:
    """A new checkpoint, ``protecting``; the one that is there when its run has one already."""
    values = {
        "id": new.id or str(uuid4()),
        "project_id": new.project_id,
        "provider_id": new.provider_id,
        "plan_id": new.plan_id,
        "plan_name": new.plan_name,
        "scheduled_operation_id": new.scheduled_operation_id,
        "run_id": new.run_id,
        "repository_id": new.repository_id,
        "status": CheckpointStatus.PROTECTING,
        "resources": [dict(one) for one in new.resources],
        "items": 0,
        "read_bytes": 0,
        "added_bytes": 0,
        "extra_info": dict(new.extra_info),
        "pinned": False,
        "created_at": tx.now,
    }
    tx.connection.execute(
        dialect_insert(tx.connection, checkpoints)
        .values(**values)
        .on_conflict_do_nothing(index_elements=["run_id"])
    )
    if new.run_id is not None:
        there = by_run(tx.connection, new.run_id)
        if there is not None:
            if there.id == values["id"]:
                outbox.note_checkpoints(tx, [there.id])
            return there
    outbox.note_checkpoints(tx, [str(values["id"])])
    return get(tx.connection, str(values["id"]), project_id=None)


def insert_recovered(tx: Tx, checkpoint: Checkpoint) -> bool:
    """Put back what was read from a bank, as it is (I9); False when its id, or its run's, is there."""
    values = {name: getattr(checkpoint, name) for name in _FIELDS}
    values |= {"resources": list(checkpoint.resources), "extra_info": dict(checkpoint.extra_info)}
    statement = dialect_insert(tx.connection, checkpoints).values(**values).on_conflict_do_nothing()
    return tx.connection.execute(statement.returning(checkpoints.c.row)).first() is not None


def set_run(tx: Tx, checkpoint_id: str, run_id: str) -> None:
    """Say which run makes it; only while it is ``protecting``."""
    tx.connection.execute(
        checkpoints.update()
        .where(checkpoints.c.id == checkpoint_id, checkpoints.c.status == CheckpointStatus.PROTECTING)
        .values(run_id=run_id)
    )


# --- looking -----------------------------------------------------------------------------------


def get(
    connection: Connection, checkpoint_id: str, *, project_id: str | None, provider_id: str | None = None
) -> Checkpoint:
    """One checkpoint, deleted ones included."""
    query = _scoped(project_id, provider_id).where(checkpoints.c.id == checkpoint_id)
    row = connection.execute(query).first()
    if row is None:
        raise NotFoundError(f"there is no checkpoint {checkpoint_id}")
    return _record(row)


def page(
    connection: Connection, query: ListQuery, *, project_id: str | None, provider_id: str | None = None
) -> Page[Checkpoint]:
    """A page; deleted ones only when they are asked for by status."""
    scoped = _scoped(project_id, provider_id)
    if "status" not in query.filters:
        scoped = scoped.where(checkpoints.c.status != CheckpointStatus.DELETED)
    rows, marker = keyset.page(connection, scoped, _SORT, query, checkpoints.c.id, filters=_FILTERS)
    return Page(tuple(_record(row) for row in rows), marker)


def by_run(connection: Connection, run_id: str) -> Checkpoint | None:
    """The checkpoint that this run makes or has made."""
    row = connection.execute(sa.select(checkpoints).where(checkpoints.c.run_id == run_id)).first()
    return None if row is None else _record(row)


def in_scope(connection: Connection, *, plan_id: str, scheduled_operation_id: str | None) -> list[Checkpoint]:
    """What retention decides about: the checkpoints of a plan made by one scheduled operation (None: by
    hand), the newest first, but for deleted ones."""
    query = (
        sa.select(checkpoints)
        .where(
            checkpoints.c.plan_id == plan_id,
            checkpoints.c.scheduled_operation_id == scheduled_operation_id
            if scheduled_operation_id is not None
            else checkpoints.c.scheduled_operation_id.is_(None),
            checkpoints.c.status != CheckpointStatus.DELETED,
        )
        .order_by(checkpoints.c.created_at.desc(), checkpoints.c.row.desc())
    )
    return [_record(row) for row in connection.execute(query)]


def newest_good(connection: Connection, *, plan_id: str, repository_id: str) -> Checkpoint | None:
    """The newest restorable checkpoint of a plan in one repository: the parent of the next one."""
    query = (
        sa.select(checkpoints)
        .where(
            checkpoints.c.plan_id == plan_id,
            checkpoints.c.repository_id == repository_id,
            checkpoints.c.status.in_(RESTORABLE),
        )
        .order_by(checkpoints.c.created_at.desc(), checkpoints.c.row.desc())
        .limit(1)
    )
    row = connection.execute(query).first()
    return None if row is None else _record(row)


def failing(connection: Connection, *, limit: int = 100) -> list[Checkpoint]:
    """The newest ended checkpoint of each scope in which that one is in ``error``: the held scopes (I6)."""
    later = checkpoints.alias("later")
    is_newest = ~sa.exists().where(
        later.c.plan_id == checkpoints.c.plan_id,
        later.c.scheduled_operation_id.is_not_distinct_from(checkpoints.c.scheduled_operation_id),
        later.c.row > checkpoints.c.row,
        later.c.status.not_in((CheckpointStatus.PROTECTING, CheckpointStatus.DELETED)),
    )
    query = (
        sa.select(checkpoints)
        .where(checkpoints.c.status == CheckpointStatus.ERROR, is_newest)
        .order_by(checkpoints.c.row.desc())
        .limit(limit)
    )
    return [_record(row) for row in connection.execute(query)]


def of_repository(
    connection: Connection, repository_id: str, *, statuses: Collection[str] | None = None
) -> list[Checkpoint]:
    """All checkpoints of a repository, the oldest first; ``statuses`` of None are all but deleted ones."""
    wanted = (
        checkpoints.c.status.in_(statuses)
        if statuses is not None
        else checkpoints.c.status != CheckpointStatus.DELETED
    )
    query = (
        sa.select(checkpoints)
        .where(checkpoints.c.repository_id == repository_id, wanted)
        .order_by(checkpoints.c.created_at, checkpoints.c.row)
    )
    return [_record(row) for row in connection.execute(query)]


def failed_before(connection: Connection, before: datetime, *, limit: int = 100) -> list[Checkpoint]:
    """Checkpoints in ``error`` that ended before then and are not pinned: they may go by age (I6)."""
    query = (
        sa.select(checkpoints)
        .where(
            checkpoints.c.status == CheckpointStatus.ERROR,
            checkpoints.c.pinned.is_(False),
            sa.func.coalesce(checkpoints.c.ended_at, checkpoints.c.created_at)
            < sa.bindparam("before", before, type_=checkpoints.c.ended_at.type),
        )
        .order_by(checkpoints.c.row)
        .limit(limit)
    )
    return [_record(row) for row in connection.execute(query)]


def being_deleted(connection: Connection, *, limit: int = 100) -> list[Checkpoint]:
    """Checkpoints whose delete was begun, the oldest first."""
    query = (
        sa.select(checkpoints)
        .where(checkpoints.c.status == CheckpointStatus.DELETING)
        .order_by(checkpoints.c.row)
        .limit(limit)
    )
    return [_record(row) for row in connection.execute(query)]


# --- moving ------------------------------------------------------------------------------------


def move(tx: Tx, checkpoint_id: str, *, before: str | Collection[str], after: str, **values: Any) -> bool:
    """Compare-and-set of the status; False, and nothing changed, when it is in none of ``before``.

    ``StateError`` when the machine does not allow a move. ``values`` are columns set with it.
    """
    wanted = (before,) if isinstance(before, str) else tuple(before)
    for one in wanted:
        check_move(CHECKPOINT, one, after)
    done = tx.connection.execute(
        checkpoints.update()
        .where(checkpoints.c.id == checkpoint_id, checkpoints.c.status.in_(wanted))
        .values(status=after, **values)
    )
    if done.rowcount:
        outbox.note_checkpoints(tx, [checkpoint_id])
    return done.rowcount > 0


def finish(
    tx: Tx,
    checkpoint_id: str,
    *,
    status: str,
    snapshot_id: str,
    resources: Sequence[Mapping[str, Any]],
    items: int,
    read_bytes: int,
    added_bytes: int,
    reason: str | None,
    extra_info: Mapping[str, Any],
) -> bool:
    """Its snapshot is on the bank and was read back (I5): ``available`` or ``available_with_warnings``."""
    return move(
        tx,
        checkpoint_id,
        before=CheckpointStatus.PROTECTING,
        after=status,
        snapshot_id=snapshot_id,
        resources=[dict(one) for one in resources],
        items=items,
        read_bytes=read_bytes,
        added_bytes=added_bytes,
        reason=reason,
        extra_info=dict(extra_info),
        ended_at=tx.now,
    )


def fail(
    tx: Tx, checkpoint_id: str, reason: str, *, resources: Sequence[Mapping[str, Any]] | None = None
) -> bool:
    """No snapshot was made, and why."""
    more = {} if resources is None else {"resources": [dict(one) for one in resources]}
    return move(
        tx,
        checkpoint_id,
        before=CheckpointStatus.PROTECTING,
        after=CheckpointStatus.ERROR,
        reason=reason,
        ended_at=tx.now,
        **more,
    )


def retry(tx: Tx, checkpoint_id: str) -> bool:
    """Its run is tried again; only one that never had a snapshot."""
    found = _locked(tx, checkpoint_id)
    if found is None or found.snapshot_id is not None:
        return False
    return move(
        tx,
        checkpoint_id,
        before=CheckpointStatus.ERROR,
        after=CheckpointStatus.PROTECTING,
        reason=None,
        ended_at=None,
    )


def lose(tx: Tx, checkpoint_id: str, reason: str) -> bool:
    """Its snapshot is gone from the bank, or a user has said that it is no good."""
    return move(tx, checkpoint_id, before=RESTORABLE, after=CheckpointStatus.ERROR, reason=reason)


def begin_delete(tx: Tx, checkpoint_id: str) -> bool:
    """Move to ``deleting``, only while nobody reads it, and only when it is not pinned.

    True also when it is ``deleting`` already: a delete may be repeated.
    """
    found = _locked(tx, checkpoint_id)
    if found is None:
        raise NotFoundError(f"there is no checkpoint {checkpoint_id}")
    if found.status == CheckpointStatus.DELETING:
        return True
    if found.pinned or leases.held(tx.connection, reader_lease(checkpoint_id), tx.now):
        return False
    return move(tx, checkpoint_id, before=_DELETABLE, after=CheckpointStatus.DELETING)


def end_delete(tx: Tx, checkpoint_id: str) -> bool:
    """Its snapshot is gone from the bank."""
    return move(
        tx,
        checkpoint_id,
        before=CheckpointStatus.DELETING,
        after=CheckpointStatus.DELETED,
        deleted_at=tx.now,
    )


def fail_delete(tx: Tx, checkpoint_id: str, reason: str) -> bool:
    """Its delete failed; it may be tried again."""
    return move(
        tx,
        checkpoint_id,
        before=CheckpointStatus.DELETING,
        after=CheckpointStatus.ERROR,
        reason=reason,
    )


def set_pinned(tx: Tx, checkpoint_id: str, *, is_pinned: bool) -> bool:
    """Keep it whatever retention says, or no longer; False once its delete has begun."""
    done = tx.connection.execute(
        checkpoints.update()
        .where(
            checkpoints.c.id == checkpoint_id,
            checkpoints.c.status.not_in((CheckpointStatus.DELETING, CheckpointStatus.DELETED)),
        )
        .values(pinned=is_pinned)
    )
    return done.rowcount > 0


def set_verified(tx: Tx, checkpoint_id: str) -> bool:
    """It was verified now."""
    done = tx.connection.execute(
        checkpoints.update()
        .where(checkpoints.c.id == checkpoint_id, checkpoints.c.status.in_(RESTORABLE))
        .values(verified_at=tx.now)
    )
    return done.rowcount > 0


def acquire_reader(tx: Tx, checkpoint_id: str, holder: str, until: datetime) -> bool:
    """Hold it for reading, or hold it longer; False when it is not restorable (any more)."""
    found = _locked(tx, checkpoint_id)
    if found is None or found.status not in RESTORABLE:
        return False
    return leases.acquire(tx, reader_lease(checkpoint_id), holder, until, is_shared=True)


def _locked(tx: Tx, checkpoint_id: str) -> Checkpoint | None:
    """The row, kept as it is until this transaction ends: a reader and a delete never pass each other."""
    query = sa.select(checkpoints).where(checkpoints.c.id == checkpoint_id).with_for_update()
    row = tx.connection.execute(query).first()
    return None if row is None else _record(row)


def _scoped(project_id: str | None, provider_id: str | None) -> sa.Select[Any]:
    query = sa.select(checkpoints)
    if project_id is not None:
        query = query.where(checkpoints.c.project_id == project_id)
    if provider_id is not None:
        query = query.where(checkpoints.c.provider_id == provider_id)
    return query


def _record(row: sa.Row[Any]) -> Checkpoint:
    values = {name: row._mapping[name] for name in _FIELDS}
    values["resources"] = tuple(values["resources"])
    return Checkpoint(**values)
