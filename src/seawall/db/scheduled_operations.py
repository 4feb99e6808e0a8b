# SPDX-License-Identifier: Apache-2.0
"""Scheduled operation rows.

A ``project_id`` of None means any project; with one, a foreign operation is a ``NotFoundError`` (I11).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from seawall.core.errors import NotFoundError
from seawall.core.listing import ListQuery
from seawall.core.records import Json, Page, ScheduledOperation
from seawall.db import keyset
from seawall.db.session import Tx
from seawall.db.tables import scheduled_operations, triggers

_table = scheduled_operations
_SORT = {
    name: _table.c[name]
    for name in ("id", "name", "operation_type", "enabled", "priority", "created_at", "updated_at")
}
_FILTERS: dict[str, keyset.Filter] = {
    "project_id": keyset.has_id(_table.c.project_id),
    "name": keyset.equals(_table.c.name),
    "operation_type": keyset.equals(_table.c.operation_type),
    "trigger_id": keyset.has_id(triggers.c.id),
    "operation_definition": keyset.mentions(_table.c.definition),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class NewOperation:
    """A scheduled operation to insert; it is registered from the transaction on."""

    id: str
    project_id: str
    user_id: str
    name: str
    description: str
    operation_type: str
    trigger_id: str
    definition: Json
    plan_id: str | None
    host: str | None
    enabled: bool
    overlap: str
    timeout_s: int
    priority: int
    retry_max_attempts: int
    retry_delay_s: int


def insert(tx: Tx, new: NewOperation) -> None:
    """Insert it. Its trigger must exist in its project; ``NotFoundError`` otherwise."""
    trigger_row = tx.connection.execute(
        sa.select(triggers.c.row).where(
            triggers.c.id == new.trigger_id, triggers.c.project_id == new.project_id
        )
    ).scalar_one_or_none()
    if trigger_row is None:
        raise NotFoundError(f"there is no trigger {new.trigger_id}")
    tx.connection.execute(
        _table.insert().values(
            id=new.id,
            project_id=new.project_id,
            user_id=new.user_id,
            name=new.name,
            description=new.description,
            operation_type=new.operation_type,
            trigger_row=trigger_row,
            definition=new.definition,
            plan_id=new.plan_id,
            host=new.host,
            enabled=new.enabled,
            registered_at=registered_at(tx),
            overlap=new.overlap,
            timeout_s=new.timeout_s,
            priority=new.priority,
            retry_max_attempts=new.retry_max_attempts,
            retry_delay_s=new.retry_delay_s,
            created_at=tx.now,
            updated_at=tx.now,
        )
    )


def registered_at(tx: Tx) -> datetime:
    """From when on due times belong to an operation that is registered now: from the next instant on, for
    what is due at this very one has been settled in the same transaction (I1, I2)."""
    return tx.now + timedelta(microseconds=1)


def get(connection: sa.Connection, operation_id: str, *, project_id: str | None) -> ScheduledOperation:
    """One operation."""
    query = _scoped(project_id).where(_table.c.id == operation_id)
    row = connection.execute(query).first()
    if row is None:
        raise NotFoundError(f"there is no scheduled operation {operation_id}")
    return _record(row)


def page(connection: sa.Connection, query: ListQuery, *, project_id: str | None) -> Page[ScheduledOperation]:
    """A page of the operations of a project."""
    rows, marker = keyset.page(connection, _scoped(project_id), _SORT, query, _table.c.id, filters=_FILTERS)
    return Page(tuple(_record(row) for row in rows), marker)


def with_types(connection: sa.Connection, operation_types: Collection[str]) -> list[ScheduledOperation]:
    """All enabled operations of these types, the oldest first."""
    query = _scoped(None).where(_table.c.enabled, _table.c.operation_type.in_(operation_types))
    return [_record(row) for row in connection.execute(query.order_by(_table.c.row))]


def update(tx: Tx, operation_id: str, **values: Any) -> None:
    """Set columns of an existing operation."""
    changed = tx.connection.execute(
        _table.update().where(_table.c.id == operation_id).values(**values, updated_at=tx.now)
    )
    if changed.rowcount != 1:
        raise NotFoundError(f"there is no scheduled operation {operation_id}")


def delete(tx: Tx, operation_id: str) -> None:
    """Remove it; its runs stay."""
    tx.connection.execute(_table.delete().where(_table.c.id == operation_id))


def _scoped(project_id: str | None) -> sa.Select[Any]:
    query = sa.select(_table, triggers.c.id.label("trigger_id")).join(
        triggers, triggers.c.row == _table.c.trigger_row
    )
    return query if project_id is None else query.where(_table.c.project_id == project_id)


def _record(row: sa.Row[Any]) -> ScheduledOperation:
    values = row._mapping
    return ScheduledOperation(
        id=values[_table.c.id],
        project_id=values["project_id"],
        user_id=values["user_id"],
        name=values["name"],
        description=values["description"],
        operation_type=values["operation_type"],
        trigger_id=values["trigger_id"],
        operation_definition=values["definition"],
        enabled=values["enabled"],
        overlap=values["overlap"],
        timeout_s=values["timeout_s"],
        priority=values["priority"],
        retry_max_attempts=values["retry_max_attempts"],
        retry_delay_s=values["retry_delay_s"],
        created_at=values["created_at"],
        updated_at=values["updated_at"],
    )
