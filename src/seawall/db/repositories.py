# SPDX-License-Identifier: Apache-2.0
"""Repository rows: one for each (provider, project, group), its secrets sealed under the install key (I10).

A ``project_id`` of None means any project; with one, a foreign repository is a ``NotFoundError`` (I11).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from seawall.core.errors import NotFoundError
from seawall.core.records import Repository
from seawall.db.dialect import insert as insert_into
from seawall.db.session import Tx
from seawall.db.tables import repositories

_FIELDS = tuple(one.name for one in fields(Repository))


@dataclass(frozen=True, slots=True, repr=False)
class SealedSecrets:
    """What opens a repository, sealed."""

    password: str
    recovery_key: str


def insert(tx: Tx, repository: Repository, secrets: SealedSecrets) -> Repository:
    """The repository of its provider, project and group: this one, or the one that is there already."""
    statement = insert_into(tx.connection, repositories).values(
        **{name: getattr(repository, name) for name in _FIELDS},
        sealed_password=secrets.password,
        sealed_recovery_key=secrets.recovery_key,
    )
    tx.connection.execute(
        statement.on_conflict_do_nothing(index_elements=["provider_id", "project_id", "group"])
    )
    found = find(
        tx.connection,
        provider_id=repository.provider_id,
        project_id=repository.project_id,
        group=repository.group,
    )
    if found is None:
        raise NotFoundError(f"there is no repository {repository.id}")
    return found


def find(connection: sa.Connection, *, provider_id: str, project_id: str, group: str) -> Repository | None:
    """The one of a provider, project and group, if there is one."""
    row = connection.execute(
        _selected().where(
            repositories.c.provider_id == provider_id,
            repositories.c.project_id == project_id,
            repositories.c.group == group,
        )
    ).first()
    return None if row is None else _record(row)


def get(connection: sa.Connection, repository_id: str, *, project_id: str | None) -> Repository:
    """One repository."""
    query = _selected().where(repositories.c.id == repository_id)
    if project_id is not None:
        query = query.where(repositories.c.project_id == project_id)
    row = connection.execute(query).first()
    if row is None:
        raise NotFoundError(f"there is no repository {repository_id}")
    return _record(row)


def listed(connection: sa.Connection) -> list[Repository]:
    """All of them, the oldest first."""
    return [_record(row) for row in connection.execute(_selected().order_by(repositories.c.row))]


def sealed(connection: sa.Connection, repository_id: str) -> SealedSecrets:
    """What opens a repository, sealed."""
    row = connection.execute(
        sa.select(repositories.c.sealed_password, repositories.c.sealed_recovery_key).where(
            repositories.c.id == repository_id
        )
    ).first()
    if row is None:
        raise NotFoundError(f"there is no repository {repository_id}")
    return SealedSecrets(row.sealed_password, row.sealed_recovery_key)


def set_format_id(tx: Tx, repository_id: str, format_id: str) -> None:
    """Remember the id that stands in its own config: what is found there later must be the same."""
    _update(tx, repository_id, format_id=format_id)


def maintained_at(connection: sa.Connection, repository_id: str) -> datetime | None:
    """When it was last maintained."""
    query = sa.select(repositories.c.maintained_at).where(repositories.c.id == repository_id)
    found: datetime | None = connection.execute(query).scalar_one_or_none()
    return found


def set_maintained(tx: Tx, repository_id: str) -> None:
    """It was maintained now."""
    _update(tx, repository_id, maintained_at=tx.now)


def acknowledge(tx: Tx) -> list[str]:
    """Somebody has said that the recovery kit is kept elsewhere; the ids of those for which that is new."""
    return list(
        tx.connection.execute(
            repositories.update()
            .where(repositories.c.kit_acknowledged_at.is_(None))
            .values(kit_acknowledged_at=tx.now)
            .returning(repositories.c.id)
        ).scalars()
    )


def _update(tx: Tx, repository_id: str, **values: Any) -> None:
    changed = tx.connection.execute(
        repositories.update().where(repositories.c.id == repository_id).values(**values)
    )
    if changed.rowcount != 1:
        raise NotFoundError(f"there is no repository {repository_id}")


def _selected() -> sa.Select[Any]:
    return sa.select(*(repositories.c[name] for name in _FIELDS))


def _record(row: sa.Row[Any]) -> Repository:
    return Repository(**row._mapping)
