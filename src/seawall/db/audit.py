# SPDX-License-Identifier: Apache-2.0
"""The audit log: who changed what, written in the transaction of the change itself (I11)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from seawall.core.caller import Caller
from seawall.core.records import Json
from seawall.db.session import Tx
from seawall.db.tables import audit

SYSTEM_USER = "system"
"""The user of what Seawall does by itself."""


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One change."""

    number: int
    """Grows with time; what a list goes on from."""
    at: datetime
    project_id: str | None
    user_id: str
    request_id: str
    action: str
    object_type: str
    object_id: str
    details: Json


def record(
    tx: Tx,
    caller: Caller | None,
    action: str,
    object_type: str,
    object_id: str,
    details: Mapping[str, Any] | None = None,
) -> None:
    """Write that ``caller`` (None: Seawall itself) did ``action`` to an object, as part of ``tx``.

    ``action`` is a verb such as ``create``. ``details`` must hold no secrets (I10).
    """
    tx.connection.execute(
        audit.insert().values(
            at=tx.now,
            project_id=caller.project_id if caller is not None else None,
            user_id=caller.user_id if caller is not None else SYSTEM_USER,
            request_id=caller.request_id if caller is not None else "",
            action=action,
            object_type=object_type,
            object_id=object_id,
            details=dict(details or {}),
        )
    )


def newest(
    connection: sa.Connection,
    *,
    project_id: str | None = None,
    object_id: str | None = None,
    before: int | None = None,
    limit: int = 100,
) -> list[AuditEntry]:
    """Entries, the newest first; ``before`` is the ``number`` of the last one already seen."""
    query = sa.select(audit).order_by(audit.c.row.desc()).limit(limit)
    if project_id is not None:
        query = query.where(audit.c.project_id == project_id)
    if object_id is not None:
        query = query.where(audit.c.object_id == object_id)
    if before is not None:
        query = query.where(audit.c.row < before)
    return [
        AuditEntry(
            number=row.row,
            at=row.at,
            project_id=row.project_id,
            user_id=row.user_id,
            request_id=row.request_id,
            action=row.action,
            object_type=row.object_type,
            object_id=row.object_id,
            details=row.details,
        )
        for row in connection.execute(query)
    ]
