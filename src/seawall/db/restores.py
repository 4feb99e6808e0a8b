# SPDX-License-Identifier: Apache-2.0
"""Restores: what a user asked to bring back, and how it ended.

A row is born ``in_progress`` and ends once, by compare-and-set (``core.states.RESTORE``). A ``project_id`` of
None means any project; with one, a foreign restore is a ``NotFoundError`` (I11).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import sqlalchemy as sa

from seawall.core.errors import NotFoundError
from seawall.core.listing import ListQuery
from seawall.core.records import Json, Page, Restore
from seawall.core.states import RESTORE, RestoreStatus, check_move
from seawall.db import keyset
from seawall.db.session import Connection, Tx
from seawall.db.tables import restores

_FIELDS = tuple(Restore.__slots__)
_SORT = {name: restores.c[name] for name in ("created_at", "updated_at", "id", "status", "checkpoint_id")}
_FILTERS: dict[str, keyset.Filter] = {
    "project_id": keyset.has_id(restores.c.project_id),
    "provider_id": keyset.has_id(restores.c.provider_id),
    "checkpoint_id": keyset.has_id(restores.c.checkpoint_id),
    "run_id": keyset.has_id(restores.c.run_id),
    "status": keyset.equals(restores.c.status),
    "restore_target": keyset.equals(restores.c.restore_target),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRestore:
    """A restore that is asked for."""

    project_id: str
    provider_id: str
    checkpoint_id: str
    restore_target: str | None = None
    """The folder to restore into; None is where the resources came from."""
    parameters: Json = field(default_factory=dict)
    run_id: str | None = None
    id: str | None = None


def insert(tx: Tx, new: NewRestore) -> Restore:
    """A new restore, ``in_progress``."""
    restore_id = new.id or str(uuid4())
    tx.connection.execute(
        restores.insert().values(
            id=restore_id,
            project_id=new.project_id,
            provider_id=new.provider_id,
            checkpoint_id=new.checkpoint_id,
            restore_target=new.restore_target,
            parameters=dict(new.parameters),
            status=RestoreStatus.IN_PROGRESS,
            resources_status={},
            resources_reason={},
            run_id=new.run_id,
            created_at=tx.now,
            updated_at=tx.now,
        )
    )
    return get(tx.connection, restore_id, project_id=None)


def set_run(tx: Tx, restore_id: str, run_id: str) -> None:
    """Say which run carries it out; only while it is in progress."""
    tx.connection.execute(
        restores.update()
        .where(restores.c.id == restore_id, restores.c.status == RestoreStatus.IN_PROGRESS)
        .values(run_id=run_id, updated_at=tx.now)
    )


def get(connection: Connection, restore_id: str, *, project_id: str | None) -> Restore:
    """One restore."""
    row = connection.execute(_scoped(project_id).where(restores.c.id == restore_id)).first()
    if row is None:
        raise NotFoundError(f"there is no restore {restore_id}")
    return _record(row)


def page(connection: Connection, query: ListQuery, *, project_id: str | None) -> Page[Restore]:
    """A page of the restores of a project."""
    rows, marker = keyset.page(connection, _scoped(project_id), _SORT, query, restores.c.id, filters=_FILTERS)
    return Page(tuple(_record(row) for row in rows), marker)


def show(
    tx: Tx, restore_id: str, *, resources_status: Mapping[str, str], resources_reason: Mapping[str, str]
) -> bool:
    """How its resources stand while it works; False once it has ended."""
    done = tx.connection.execute(
        restores.update()
        .where(restores.c.id == restore_id, restores.c.status == RestoreStatus.IN_PROGRESS)
        .values(
            resources_status=dict(resources_status),
            resources_reason=dict(resources_reason),
            updated_at=tx.now,
        )
    )
    return done.rowcount > 0


def finish(
    tx: Tx,
    restore_id: str,
    *,
    status: str,
    reason: str | None,
    resources_status: Mapping[str, str] | None = None,
    resources_reason: Mapping[str, str] | None = None,
    result: Json | None = None,
) -> bool:
    """Compare-and-set of its end; False, and nothing changed, when it has ended already."""
    check_move(RESTORE, RestoreStatus.IN_PROGRESS, status)
    values: dict[str, Any] = {"status": status, "reason": reason, "result": result, "updated_at": tx.now}
    if resources_status is not None:
        values["resources_status"] = dict(resources_status)
    if resources_reason is not None:
        values["resources_reason"] = dict(resources_reason)
    done = tx.connection.execute(
        restores.update()
        .where(restores.c.id == restore_id, restores.c.status == RestoreStatus.IN_PROGRESS)
        .values(**values)
    )
    return done.rowcount > 0


def _scoped(project_id: str | None) -> sa.Select[Any]:
    query = sa.select(restores)
    return query if project_id is None else query.where(restores.c.project_id == project_id)


def _record(row: sa.Row[Any]) -> Restore:
    return Restore(**{name: row._mapping[name] for name in _FIELDS})
