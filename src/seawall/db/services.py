# SPDX-License-Identifier: Apache-2.0
"""Service rows: one for each (host, binary) that ever started; its id is kept for good (M1).

``stopped_at`` is set while a service is known to be down: it has stopped in order, or it gave no sign for so
long that somebody noticed. Whoever sets or clears it tells it, in the same transaction.
"""

from __future__ import annotations

from datetime import datetime

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
    found = tx.connection.execute(
        sa.select(services.c.row, services.c.stopped_at).where(
            services.c.host == host, services.c.binary == binary
        )
    ).one_or_none()
    if found is not None and found.stopped_at is None:
        _tell(tx, outbox.SERVICE_DOWN, host, binary, "it had ended without stopping, and was started again")
    _tell(tx, outbox.SERVICE_UP, host, binary, "started")
    if found is not None:
        _update(tx, found.row, **values)
        return int(found.row)
    created = tx.connection.execute(
        sa.insert(services).values(host=host, binary=binary, **values).returning(services.c.row)
    )
    return int(created.scalar_one())


def beat(tx: Tx, service_id: int) -> None:
    """It lives; whoever had noticed that it gave no sign was too early, and is told."""
    is_up = services.c.stopped_at.is_(None)
    beating = sa.update(services).where(services.c.row == service_id, is_up).values(heartbeat_at=tx.now)
    if tx.connection.execute(beating).rowcount == 1:
        return
    _update(tx, service_id, heartbeat_at=tx.now, stopped_at=None)
    service = get(tx.connection, service_id)
    _tell(tx, outbox.SERVICE_UP, service.host, service.binary, "it gives signs again")


def stopped(tx: Tx, service_id: int) -> None:
    """It has stopped in order."""
    service = get(tx.connection, service_id)
    _update(tx, service_id, stopped_at=tx.now)
    if service.stopped_at is None:
        _tell(tx, outbox.SERVICE_DOWN, service.host, service.binary, "stopped")


def notice_dead(tx: Tx, *, before: datetime) -> list[str]:
    """Mark those down that have given no sign since then, and tell it: what is new of it, in words."""
    dead = tx.connection.execute(
        sa.update(services)
        .where(services.c.heartbeat_at < before, services.c.stopped_at.is_(None))
        .values(stopped_at=tx.now)
        .returning(services.c.host, services.c.binary, services.c.heartbeat_at)
    ).all()
    noticed = []
    for host, binary, heartbeat_at in dead:
        reason = f"it gives no sign: its last heartbeat was at {heartbeat_at.isoformat()}"
        _tell(tx, outbox.SERVICE_DOWN, host, binary, reason)
        noticed.append(f"{binary} on {host}: {reason}")
    return noticed


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


def _tell(tx: Tx, type: str, host: str, binary: str, reason: str) -> None:
    outbox.note_service(tx, type, host=host, binary=binary, reason=reason)


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
