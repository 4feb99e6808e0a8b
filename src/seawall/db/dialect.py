# SPDX-License-Identifier: Apache-2.0
"""What the two databases spell differently, in one place: everything else is the same SQL for both."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

Insert = sqlite.Insert | postgresql.Insert
"""An insert with ``on_conflict_do_nothing``, ``on_conflict_do_update`` and ``excluded``."""

POSTGRESQL = "postgresql"


def is_postgresql(connection: sa.Connection) -> bool:
    """Whether this is a connection to PostgreSQL; if not, it is SQLite."""
    return connection.dialect.name == POSTGRESQL


def insert(connection: sa.Connection, table: sa.Table) -> Insert:
    """An ``Insert`` into ``table`` that can say what happens to a row that is there already.

    ``rowcount`` of such a statement is not the same on both: count with ``returning``.
    """
    return postgresql.insert(table) if is_postgresql(connection) else sqlite.insert(table)
