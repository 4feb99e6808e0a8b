# SPDX-License-Identifier: Apache-2.0
"""Plan rows. A deleted plan keeps its row: its checkpoints, and restores of them, still need what it says.

A ``project_id`` of None means any project; with one, a foreign plan is a ``NotFoundError`` (I11).
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import sqlalchemy as sa

from seawall.core.errors import NotFoundError
from seawall.core.listing import ListQuery
from seawall.core.records import Page, Plan
from seawall.core.states import LIVE_RUN_STATES
from seawall.db import keyset
from seawall.db.dialect import among
from seawall.db.session import Tx
from seawall.db.tables import plans, runs, scheduled_operations

_SORT = {name: plans.c[name] for name in ("id", "name", "status", "created_at", "updated_at")}
_FILTERS: dict[str, keyset.Filter] = {
    "project_id": keyset.has_id(plans.c.project_id),
    "provider_id": keyset.has_id(plans.c.provider_id),
    "name": keyset.equals(plans.c.name),
    "description": keyset.equals(plans.c.description),
    "status": keyset.equals(plans.c.status),
}
_FIELDS = tuple(one.name for one in fields(Plan))


def insert(tx: Tx, plan: Plan) -> None:
    """Insert it as it is, its instants included."""
    values = {name: getattr(plan, name) for name in _FIELDS}
    tx.connection.execute(plans.insert().values(**{**values, "resources": list(plan.resources)}))


def get(connection: sa.Connection, plan_id: str, *, project_id: str | None) -> Plan:
    """One plan that is not deleted."""
    query = _scoped(project_id).where(plans.c.id == plan_id)
    return _one(connection, query, plan_id)


def get_even_deleted(connection: sa.Connection, plan_id: str, *, project_id: str | None) -> Plan:
    """One plan, whether it is deleted or not."""
    query = sa.select(plans).where(plans.c.id == plan_id)
    if project_id is not None:
        query = query.where(plans.c.project_id == project_id)
    return _one(connection, query, plan_id)


def page(connection: sa.Connection, query: ListQuery, *, project_id: str | None) -> Page[Plan]:
    """A page of the plans of a project that are not deleted."""
    rows, marker = keyset.page(connection, _scoped(project_id), _SORT, query, plans.c.id, filters=_FILTERS)
    return Page(tuple(_record(row) for row in rows), marker)


def update(tx: Tx, plan_id: str, **values: Any) -> None:
    """Set columns of a plan that is not deleted.

    Its host is the host of the operations that are scheduled for it: both change together.
    """
    changed = tx.connection.execute(
        plans.update()
        .where(plans.c.id == plan_id, plans.c.deleted_at.is_(None))
        .values(**values, updated_at=tx.now)
    )
    if changed.rowcount != 1:
        raise NotFoundError(f"there is no plan {plan_id}")
    if "host" in values:
        tx.connection.execute(
            scheduled_operations.update()
            .where(scheduled_operations.c.plan_id == plan_id)
            .values(host=values["host"])
        )


def delete(tx: Tx, plan_id: str) -> None:
    """Mark it deleted; one that is deleted already is a ``NotFoundError``."""
    changed = tx.connection.execute(
        plans.update().where(plans.c.id == plan_id, plans.c.deleted_at.is_(None)).values(deleted_at=tx.now)
    )
    if changed.rowcount != 1:
        raise NotFoundError(f"there is no plan {plan_id}")


def operations_of(connection: sa.Connection, plan_id: str) -> list[str]:
    """The ids of the scheduled operations that use it."""
    query = sa.select(scheduled_operations.c.id).where(scheduled_operations.c.plan_id == plan_id)
    return list(connection.execute(query.order_by(scheduled_operations.c.row)).scalars())


def live_runs_of(connection: sa.Connection, plan_id: str) -> list[str]:
    """The ids of the runs that work on it, or wait to."""
    query = sa.select(runs.c.id).where(runs.c.plan_id == plan_id, among(runs.c.state, LIVE_RUN_STATES))
    return list(connection.execute(query.order_by(runs.c.row)).scalars())


def _scoped(project_id: str | None) -> sa.Select[Any]:
    query = sa.select(plans).where(plans.c.deleted_at.is_(None))
    return query if project_id is None else query.where(plans.c.project_id == project_id)


def _one(connection: sa.Connection, query: sa.Select[Any], plan_id: str) -> Plan:
    row = connection.execute(query).first()
    if row is None:
        raise NotFoundError(f"there is no plan {plan_id}")
    return _record(row)


def _record(row: sa.Row[Any]) -> Plan:
    values = {name: row._mapping[name] for name in _FIELDS}
    return Plan(**{**values, "resources": tuple(values["resources"])})
