# SPDX-License-Identifier: Apache-2.0
"""Service rows: one for each (host, binary) that ever started; its id is kept for good (M1)."""

from __future__ import annotations

import sqlalchemy as sa

from seawall.core.errors import NotFoundError
from seawall.core.records import Service
from seawall.db import outbox
from seawall.db.session import Tx
from seawall.db.tables import services


def find_or_create(tx: Tx, *, host: str, binary: str, version: str, pid: int) -> int:
    """The row of (host, binary), marked started now. Write transactions are one after the other, so two
    starts at once make one row."""
    values = {
        "version": version,
        "pid": pid,
        "started_at": tx.now,
        "heartbeat_at": tx.now,
        "stopped_at": None,
    }
    outbox.note_service(tx, outbox.SERVICE_UP, host=host, binary=binary)
    row = tx.connection.execute(
        sa.update(services)
        .where(services.c.host == host, services.c.binary == binary)
        .values(values)
        .returning(services.c.row)
    ).scalar_one_or_none()
    if row is not None:
        return int(row)
    created = tx.connection.execute(
        sa.insert(services).values(host=host, binary=binary, **values).returning(services.c.row)
    )
    return int(created.scalar_one())


def beat(tx: Tx, service_id: int) -> None:
    """It lives."""
    _update(tx, service_id, heartbeat_at=tx.now)


def stopped(tx: Tx, service_id: int) -> None:
    """It has stopped in order."""
    _update(tx, service_id, stopped_at=tx.now)
    service = get(tx.connection, service_id)
    outbox.note_service(tx, outbox.SERVICE_DOWN, host=service.host, binary=service.binary)


def enable(tx: Tx, service_id: int) -> None:
    """Let it take work again."""
    _update(tx, service_id, is_enabled=True, disabled_reason=None)


def disable(tx: Tx, service_id: int, reason: str) -> None:
    """Let it take no new work; ``reason`` is shown with it."""
    _update(tx, service_id, is_enabled=False, disabled_reason=reason)


def listed(connection: sa.Connection) -> list[Service]:
    """All of them, by host and binary."""
    rows = connection.execute(sa.select(services).order_by(services.c.host, services.c.binary))
    return [_record(row) for row in rows]


def get(connection: sa.Connection, service_id: int) -> Service:
    """One of them; ``NotFoundError`` when there is none."""
    row = connection.execute(sa.select(services).where(services.c.row == service_id)).one_or_none()
    if row is None:
        raise NotFoundError(f"there is no service {service_id}")
    return _record(row)


def _update(tx: Tx, service_id: int, **values: object) -> None:
    changed = tx.connection.execute(sa.update(services).where(services.c.row == service_id).values(values))
    if changed.rowcount != 1:
        raise NotFoundError(f"there is no service {service_id}")


def _record(row: sa.Row[tuple[object, ...]]) -> Service:
    values = row._mapping
    return Service(
        id=values["row"],
        host=values["host"],
        binary=values["binary"],
        version=values["version"],
        is_enabled=values["is_enabled"],
        disabled_reason=values["disabled_reason"],
        started_at=values["started_at"],
        heartbeat_at=values["heartbeat_at"],
        stopped_at=values["stopped_at"],
    )
