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


# --- for statements that are written as text -------------------------------------------------------


def json_object(connection: sa.Connection) -> str:
    """The function that makes a JSON object of names and values."""
    return "json_build_object" if is_postgresql(connection) else "json_object"


def json_numbers(connection: sa.Connection, parameter: str) -> str:
    """The whole numbers in a JSON parameter, as a table ``j`` with the column ``value``."""
    if is_postgresql(connection):
        return (
            f"(SELECT CAST(value AS bigint) FROM json_array_elements_text(CAST(:{parameter} AS json))) AS j"
        )
    return f"json_each(:{parameter}) AS j"


def new_uuid(connection: sa.Connection) -> str:
    """A new random id, as it is stored."""
    if is_postgresql(connection):
        return "gen_random_uuid()"
    first, middle, last = (f"lower(hex(randomblob({size})))" for size in (6, 2, 8))
    return f"{first} || '4' || substr({middle}, 2) || '8' || substr({last}, 2)"


def uuid_text(connection: sa.Connection, column: str) -> str:
    """A stored id as everybody else writes it."""
    if is_postgresql(connection):
        return f"CAST({column} AS text)"
    parts = ((1, 8), (9, 4), (13, 4), (17, 4), (21, 12))
    return " || '-' || ".join(f"substr({column}, {start}, {length})" for start, length in parts)


def instant_text(connection: sa.Connection, column: str) -> str:
    """A stored instant as ``datetime.isoformat`` writes it: microseconds only where there are some."""
    if is_postgresql(connection):
        seconds = f"to_char(to_timestamp({column} / 1000000) AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS')"
        rest = f"lpad(CAST(mod({column}, 1000000) AS text), 6, '0')"
    else:
        seconds = f"strftime('%Y-%m-%dT%H:%M:%S', {column} / 1000000, 'unixepoch')"
        rest = f"printf('%06d', {column} % 1000000)"
    return f"{seconds} || CASE WHEN {column} % 1000000 = 0 THEN '' ELSE '.' || {rest} END || '+00:00'"
