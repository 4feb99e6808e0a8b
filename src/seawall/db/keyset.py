# SPDX-License-Identifier: Apache-2.0
"""Pages of a list, found by key: rows that come and go between two pages neither repeat nor hide others.

Every list has a total order: the asked keys, then the table's row key in the first key's direction. In every
order an empty value is greater than all others, whatever the database does with NULL by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from seawall.core.errors import FieldFault, InvalidInputError, NotFoundError
from seawall.core.listing import ListQuery

Filter = Callable[[Any], sa.ColumnElement[bool]]
"""What a row must satisfy, made of the value asked for."""


@dataclass(frozen=True, slots=True)
class _Key:
    column: sa.Column[Any]
    is_descending: bool

    def order(self) -> list[sa.ColumnElement[Any]]:
        parts: list[sa.ColumnElement[Any]] = [self.column]
        if self.column.nullable:
            parts.insert(0, self.column.is_(None))
        return [part.desc() if self.is_descending else part.asc() for part in parts]

    def equal(self, value: Any) -> sa.ColumnElement[bool]:
        return self.column.is_(None) if value is None else self.column == value

    def beyond(self, value: Any) -> sa.ColumnElement[bool]:
        """Rows that come after one with this value."""
        if self.is_descending:
            return self.column.is_not(None) if value is None else self.column < value
        if value is None:
            return sa.false()
        further = self.column > value
        return sa.or_(further, self.column.is_(None)) if self.column.nullable else further


def page(
    connection: sa.Connection,
    scoped: sa.Select[Any],
    columns: Mapping[str, sa.Column[Any]],
    query: ListQuery,
    id_column: sa.Column[Any],
    *,
    filters: Mapping[str, Filter] | None = None,
) -> tuple[list[sa.Row[Any]], str | None]:
    """The rows of one page and the marker of the next, None at the end.

    ``scoped`` selects what the caller may see, the id column included; its table has the key ``row``.
    ``columns`` are the sort keys by name, ``filters`` the fields that may be asked for. An unknown sort key
    or filter is an ``InvalidInputError``, an unknown marker a ``NotFoundError``. The marker's row need not
    pass the filters: what has changed since the last page never breaks the walk.
    """
    keys = _keys(columns, query, id_column.table.c["row"])
    wanted = scoped.where(*_conditions(filters or {}, query.filters))
    if query.marker is not None:
        wanted = wanted.where(_after(connection, scoped, keys, query.marker, id_column))
    ordered = wanted.order_by(*(part for key in keys for part in key.order()))
    rows = list(connection.execute(ordered.limit(query.limit + 1)))
    if len(rows) <= query.limit:
        return rows, None
    rows = rows[: query.limit]
    return rows, rows[-1]._mapping[id_column]


def equals(column: sa.Column[Any]) -> Filter:
    """A filter: the column has this value."""
    return lambda value: column == value


def has_id(column: sa.Column[Any]) -> Filter:
    """A filter: the column holds this id; text that is no id matches nothing."""

    def condition(value: Any) -> sa.ColumnElement[bool]:
        text = _id(value)
        return sa.false() if text is None else column == text

    return condition


def mentions(column: sa.Column[Any]) -> Filter:
    """A filter: the text of a document contains this."""
    return lambda value: sa.cast(column, sa.Text).contains(str(value), autoescape=True)


def _keys(
    columns: Mapping[str, sa.Column[Any]], query: ListQuery, row_key: sa.Column[Any]
) -> tuple[_Key, ...]:
    found: list[_Key] = []
    for name, direction in query.sort:
        if name not in columns:
            raise InvalidInputError.of("sort", name, f"must be one of {', '.join(sorted(columns))}")
        if direction not in ("asc", "desc"):
            raise InvalidInputError.of("sort", direction, "must be asc or desc")
        if all(key.column is not columns[name] for key in found):
            found.append(_Key(columns[name], direction == "desc"))
    if all(key.column is not row_key for key in found):
        found.append(_Key(row_key, found[0].is_descending if found else True))
    return tuple(found)


def _conditions(
    filters: Mapping[str, Filter], asked: Mapping[str, Any]
) -> tuple[sa.ColumnElement[bool], ...]:
    unknown = [name for name in asked if name not in filters]
    if unknown:
        rule = f"is no filter here; known are {', '.join(sorted(filters)) or 'none'}"
        raise InvalidInputError([FieldFault(name, asked[name], rule) for name in unknown])
    return tuple(filters[name](value) for name, value in asked.items())


def _after(
    connection: sa.Connection,
    scoped: sa.Select[Any],
    keys: tuple[_Key, ...],
    marker: str,
    id_column: sa.Column[Any],
) -> sa.ColumnElement[bool]:
    text = _id(marker)
    found = None
    if text is not None:
        picked = scoped.with_only_columns(*(key.column for key in keys), maintain_column_froms=True).where(
            id_column == text
        )
        found = connection.execute(picked).first()
    if found is None:
        raise NotFoundError(f"there is nothing with the marker {marker}")
    choices: list[sa.ColumnElement[bool]] = []
    same: list[sa.ColumnElement[bool]] = []
    for key, value in zip(keys, found, strict=True):
        choices.append(sa.and_(*same, key.beyond(value)))
        same.append(key.equal(value))
    return sa.or_(*choices)


def _id(value: Any) -> str | None:
    try:
        return str(UUID(str(value)))
    except ValueError:
        return None
