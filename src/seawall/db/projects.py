# SPDX-License-Identifier: Apache-2.0
"""Projects: whose things are whose (I11)."""

from __future__ import annotations

from uuid import uuid4

import sqlalchemy as sa

from seawall.core.errors import ConflictError, NotFoundError
from seawall.db.session import Tx
from seawall.db.tables import projects


def create(tx: Tx, name: str, *, project_id: str | None = None) -> str:
    """A new project; its id. ``project_id`` is given when one is brought back that has been before.

    ``ConflictError`` when the name or the id is taken.
    """
    made = project_id or str(uuid4())
    taken = sa.or_(projects.c.name == name, projects.c.id == made)
    if tx.connection.execute(sa.select(projects.c.row).where(taken)).first() is not None:
        raise ConflictError(f"there is already a project {name!r}, or one with the id {made}")
    tx.connection.execute(projects.insert().values(id=made, name=name, created_at=tx.now))
    return made


def find(connection: sa.Connection, name: str) -> str:
    """The id of the project of this name; ``NotFoundError`` when there is none."""
    found = connection.execute(sa.select(projects.c.id).where(projects.c.name == name)).scalar_one_or_none()
    if found is None:
        raise NotFoundError(f"there is no project {name!r}")
    return str(found)


def name_of(connection: sa.Connection, project_id: str) -> str:
    """The name of the project of this id; ``NotFoundError`` when there is none."""
    query = sa.select(projects.c.name).where(projects.c.id == project_id)
    found = connection.execute(query).scalar_one_or_none()
    if found is None:
        raise NotFoundError(f"there is no project {project_id}")
    return str(found)


def listed(connection: sa.Connection) -> dict[str, str]:
    """Id -> name of all projects, the oldest first."""
    query = sa.select(projects.c.id, projects.c.name).order_by(projects.c.row)
    return {row.id: row.name for row in connection.execute(query)}
