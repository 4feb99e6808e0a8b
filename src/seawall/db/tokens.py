# SPDX-License-Identifier: Apache-2.0
"""API tokens. Only their SHA-256 digests are stored (I10).

A token is 256 random bits, so its digest cannot be turned back. Whoever reads the database reads no token.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from seawall.core.caller import Caller, Role
from seawall.core.errors import InvalidInputError
from seawall.db.session import Database, Tx
from seawall.db.tables import tokens

PREFIX = "swl_"
ROLES = tuple(Role)
"""What each may do stands in ``api.policy``."""


@dataclass(frozen=True, slots=True)
class StoredToken:
    """What is known of a token; never the token itself."""

    name: str
    project_id: str
    user_id: str
    role: str
    created_at: datetime
    expires_at: datetime | None


def new_token() -> str:
    """A fresh token. It is shown once, to whoever asked for it."""
    return PREFIX + secrets.token_urlsafe(32)


def digest(token: str) -> str:
    """What is stored and looked up in place of a token."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def create(
    tx: Tx,
    *,
    token: str,
    name: str,
    project_id: str,
    user_id: str,
    role: str,
    expires_at: datetime | None = None,
) -> None:
    """Let ``token`` in. The same token again is an ``InvalidInputError``."""
    if role not in ROLES:
        raise InvalidInputError.of("role", role, f"must be one of {', '.join(ROLES)}")
    if expires_at is not None and expires_at <= tx.now:
        raise InvalidInputError.of("expires_at", expires_at.isoformat(), "must lie in the future")
    known = tx.connection.execute(sa.select(tokens.c.row).where(tokens.c.digest == digest(token))).first()
    if known is not None:
        raise InvalidInputError.of("token", "(hidden)", "is already in use")
    tx.connection.execute(
        tokens.insert().values(
            name=name,
            digest=digest(token),
            project_id=project_id,
            user_id=user_id,
            role=role,
            created_at=tx.now,
            expires_at=expires_at,
        )
    )


def find(connection: sa.Connection, token: str, now: datetime) -> StoredToken | None:
    """The token's row unless it is unknown or expired at ``now``."""
    row = connection.execute(sa.select(tokens).where(tokens.c.digest == digest(token))).first()
    if row is None or (row.expires_at is not None and row.expires_at <= now):
        return None
    return _stored(row)


def revoke(tx: Tx, *, project_id: str, name: str) -> int:
    """Let every token of this name in the project in no more; how many there were. May be repeated."""
    query = tokens.delete().where(tokens.c.project_id == project_id, tokens.c.name == name)
    return tx.connection.execute(query).rowcount


def list_all(connection: sa.Connection, *, project_id: str | None = None) -> list[StoredToken]:
    """All tokens, expired ones too, the oldest first."""
    query = sa.select(tokens).order_by(tokens.c.row)
    if project_id is not None:
        query = query.where(tokens.c.project_id == project_id)
    return [_stored(row) for row in connection.execute(query)]


class Tokens:
    """The API's question "who is this?", answered from the database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def authenticate(self, token: str) -> Caller | None:
        """The caller that a token stands for; None when it lets nobody in."""
        found = self._database.read(lambda c: find(c, token, self._database.now(c)))
        if found is None:
            return None
        return Caller(
            project_id=found.project_id,
            user_id=found.user_id,
            is_admin=found.role == Role.ADMIN,
            role=Role(found.role),
        )


def _stored(row: sa.Row[tuple[object, ...]]) -> StoredToken:
    values = row._mapping
    return StoredToken(
        name=values["name"],
        project_id=values["project_id"],
        user_id=values["user_id"],
        role=values["role"],
        created_at=values["created_at"],
        expires_at=values["expires_at"],
    )
