# SPDX-License-Identifier: Apache-2.0
"""Idempotency keys: a request sent twice with the same key is carried out once.

    reserve (commit) -> the request's own transaction (commit) -> answer (commit)

* A second request while the first runs finds the reservation and is refused; it never runs beside it.
* If the process dies between reserve and answer, the key stays reserved. Nobody knows from the key alone
  whether the request's own commit was reached, so it is not run again. The audit log knows: the reservation
  keeps the request id, and ``reserve`` tells what that request has made, if anything.
* A request that was refused with an error has changed nothing: ``release`` frees its key.

Keys are forgotten after ``KEEP``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from seawall.core.errors import ConflictError
from seawall.db.session import Database, Tx
from seawall.db.tables import audit, idempotency_keys

KEEP = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class Answer:
    """What was answered to the first request."""

    status: int
    body: Mapping[str, Any]


def reserve(tx: Tx, *, project_id: str, key: str, fingerprint: str, request_id: str) -> Answer | None:
    """Take the key for this request, or give the answer that its first one had.

    ``ConflictError`` when the key was used for another request, or the first one has no recorded outcome.
    """
    tx.connection.execute(idempotency_keys.delete().where(idempotency_keys.c.created_at < tx.now - KEEP))
    row = tx.connection.execute(
        sa.select(idempotency_keys).where(
            idempotency_keys.c.project_id == project_id, idempotency_keys.c.key == key
        )
    ).first()
    if row is None:
        tx.connection.execute(
            idempotency_keys.insert().values(
                project_id=project_id,
                key=key,
                fingerprint=fingerprint,
                status=None,
                answer={"request_id": request_id},
                created_at=tx.now,
            )
        )
        return None
    if row.fingerprint != fingerprint:
        raise ConflictError(
            f"Idempotency-Key {key!r} was used for another request", hint="use a new key for a new request"
        )
    if row.status is None:
        raise ConflictError(
            f"the request with Idempotency-Key {key!r} has no recorded outcome yet"
            + _made(tx, row.answer["request_id"]),
            hint="try again in a moment; if it stays so the server was stopped in the middle of the request: "
            "look at what is there, then use a new key",
        )
    return Answer(row.status, row.answer)


def answer(tx: Tx, *, project_id: str, key: str, status: int, body: Mapping[str, Any]) -> None:
    """Store what the request that reserved the key was answered."""
    tx.connection.execute(
        idempotency_keys.update()
        .where(
            idempotency_keys.c.project_id == project_id,
            idempotency_keys.c.key == key,
            idempotency_keys.c.status.is_(None),
        )
        .values(status=status, answer=dict(body))
    )


def release(tx: Tx, *, project_id: str, key: str) -> None:
    """Free a key whose request was refused and has changed nothing. May be repeated."""
    tx.connection.execute(
        idempotency_keys.delete().where(
            idempotency_keys.c.project_id == project_id,
            idempotency_keys.c.key == key,
            idempotency_keys.c.status.is_(None),
        )
    )


class IdempotencyKeys:
    """The API's port to the keys: each call is one commit."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def reserve(
        self, *, project_id: str, key: str, fingerprint: str, request_id: str
    ) -> tuple[int, Mapping[str, Any]] | None:
        # If the process dies after this commit, the key is reserved and nothing was done.
        found = self._database.write(
            "idempotency.reserve",
            lambda tx: reserve(
                tx, project_id=project_id, key=key, fingerprint=fingerprint, request_id=request_id
            ),
        )
        return None if found is None else (found.status, found.body)

    def answer(self, *, project_id: str, key: str, status: int, body: Mapping[str, Any]) -> None:
        # If the process dies before this commit, the key stays reserved: the request is never run twice.
        self._database.write(
            "idempotency.answer",
            lambda tx: answer(tx, project_id=project_id, key=key, status=status, body=body),
        )

    def release(self, *, project_id: str, key: str) -> None:
        self._database.write("idempotency.release", lambda tx: release(tx, project_id=project_id, key=key))


def _made(tx: Tx, request_id: str) -> str:
    """What the audit log says the cut-off request has made."""
    rows = tx.connection.execute(
        sa.select(audit.c.object_type, audit.c.object_id).where(audit.c.request_id == request_id)
    ).all()
    if not rows:
        return ", and it has made nothing so far"
    return ", but it has made " + ", ".join(f"{row.object_type} {row.object_id}" for row in rows)
