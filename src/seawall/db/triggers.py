# SPDX-License-Identifier: Apache-2.0
"""Trigger rows as users see and change them. What is due of them is ``db.due``'s business.

A ``project_id`` of None means any project; with one, a foreign trigger is a ``NotFoundError`` (I11).
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa

from seawall.core.errors import NotFoundError
from seawall.core.listing import ListQuery
from seawall.core.records import Json, Page, Trigger
from seawall.db import events, keyset
from seawall.db.session import Tx
from seawall.db.tables import scheduled_operations, triggers

_SORT = {name: triggers.c[name] for name in ("id", "name", "type", "next_run_at", "created_at", "updated_at")}
_FILTERS: dict[str, keyset.Filter] = {
    "project_id": keyset.has_id(triggers.c.project_id),
    "name": keyset.equals(triggers.c.name),
    "type": keyset.equals(triggers.c.type),
    "properties": keyset.mentions(triggers.c.properties),
}


def insert(
    tx: Tx,
    *,
    trigger_id: str,
    project_id: str,
    name: str,
    type: str,
    properties: Json,
    next_run_at: datetime | None,
) -> None:
    """A new trigger: nothing before ``tx.now`` is ever due."""
    tx.connection.execute(
        triggers.insert().values(
            id=trigger_id,
            project_id=project_id,
            name=name,
            type=type,
            properties=properties,
            next_run_at=next_run_at,
            fired_through_at=tx.now,
            created_at=tx.now,
            updated_at=tx.now,
        )
    )


def get(connection: sa.Connection, trigger_id: str, *, project_id: str | None) -> Trigger:
    """One trigger."""
    query = sa.select(triggers).where(triggers.c.id == trigger_id)
    if project_id is not None:
        query = query.where(triggers.c.project_id == project_id)
    row = connection.execute(query).first()
    if row is None:
        raise NotFoundError(f"there is no trigger {trigger_id}")
    return _record(row)


def page(connection: sa.Connection, query: ListQuery, *, project_id: str | None) -> Page[Trigger]:
    """A page of the triggers of a project."""
    scoped = sa.select(triggers)
    if project_id is not None:
        scoped = scoped.where(triggers.c.project_id == project_id)
    rows, marker = keyset.page(connection, scoped, _SORT, query, triggers.c.id, filters=_FILTERS)
    return Page(tuple(_record(row) for row in rows), marker)


def update(tx: Tx, trigger_id: str, **values: Any) -> None:
    """Set columns of an existing trigger. ``fired_through_at`` may only grow (I1): the caller sees to it."""
    changed = tx.connection.execute(
        triggers.update().where(triggers.c.id == trigger_id).values(**values, updated_at=tx.now)
    )
    if changed.rowcount != 1:
        raise NotFoundError(f"there is no trigger {trigger_id}")


def delete(tx: Tx, trigger_id: str) -> None:
    """Remove a trigger that no operation uses; its runs stay."""
    events.delete(tx, trigger_id)
    tx.connection.execute(triggers.delete().where(triggers.c.id == trigger_id))


def users_of(connection: sa.Connection, trigger_id: str) -> list[str]:
    """The ids of the scheduled operations that use it."""
    query = (
        sa.select(scheduled_operations.c.id)
        .join(triggers, triggers.c.row == scheduled_operations.c.trigger_row)
        .where(triggers.c.id == trigger_id)
        .order_by(scheduled_operations.c.row)
    )
    return list(connection.execute(query).scalars())


def _record(row: sa.Row[Any]) -> Trigger:
    values = row._mapping
    return Trigger(
        id=values["id"],
        project_id=values["project_id"],
        name=values["name"],
        type=values["type"],
        properties=values["properties"],
        next_run_at=values["next_run_at"],
        fired_through_at=values["fired_through_at"],
        quarantine_reason=values["quarantine_reason"],
        created_at=values["created_at"],
        updated_at=values["updated_at"],
        paused_at=values["paused_at"],
        paused_reason=values["paused_reason"],
        paused_until_at=values["paused_until_at"],
    )
