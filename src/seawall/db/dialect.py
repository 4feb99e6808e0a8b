# SPDX-License-Identifier: Apache-2.0
"""What the two databases spell differently, in one place: everything else is the same SQL for both."""

from __future__ import annotations

from collections.abc import Iterable

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


def among(column: sa.ColumnElement[str], words: Iterable[str]) -> sa.ColumnElement[bool]:
    """``column IN (...)`` with the words in the statement, as they stand in the condition of a partial index.

    SQLite uses such an index only when it sees the words; as parameters it would look at every row. The words
    are ours (states), never somebody's input.
    """
    known = [str(word) for word in words]
    if not all(word.isidentifier() for word in known):
        raise ValueError(f"these are no words of ours: {known}")
    literals = [sa.literal_column(f"'{word}'", sa.Text) for word in known]
    # One word as in ``state = 'queued'``: a list of one is not seen to be the same.
    return column == literals[0] if len(literals) == 1 else column.in_(literals)
