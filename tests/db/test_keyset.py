# SPDX-License-Identifier: Apache-2.0
"""Pages of a list, walked over a real table."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from seawall.core.errors import InvalidInputError, NotFoundError
from seawall.core.listing import ListQuery
from seawall.db import keyset
from seawall.db.session import Database, Tx
from seawall.db.tables import metadata, triggers
from seawall.sdk.testing.clock import FakeClock
from tests.support.databases import KINDS, opened

COLUMNS = {
    "name": triggers.c.name,
    "next_run_at": triggers.c.next_run_at,
    "created_at": triggers.c.created_at,
}
FILTERS = {"name": keyset.equals(triggers.c.name), "properties": keyset.mentions(triggers.c.properties)}
PROJECT = str(uuid4())


@pytest.fixture(params=KINDS)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    with opened(request.param, tmp_path, FakeClock()) as made:
        yield made


def _database() -> Database:
    made = Database(None, FakeClock())
    with made.engine.connect() as connection:
        metadata.create_all(connection)
    return made


def _add(database: Database, name: str, next_in_s: int | None = None) -> str:
    trigger_id = str(uuid4())

    def insert(tx: Tx) -> None:
        tx.connection.execute(
            triggers.insert().values(
                id=trigger_id,
                project_id=PROJECT,
                name=name,
                type="time",
                properties={"pattern": f"of {name}"},
                next_run_at=None if next_in_s is None else tx.now + timedelta(seconds=next_in_s),
                created_at=tx.now,
                updated_at=tx.now,
            )
        )

    database.write("test.add", insert)
    return trigger_id


def _page(database: Database, query: ListQuery) -> tuple[list[str], str | None]:
    scoped = sa.select(triggers).where(triggers.c.project_id == PROJECT)
    rows, marker = database.read(
        lambda connection: keyset.page(connection, scoped, COLUMNS, query, triggers.c.id, filters=FILTERS)
    )
    return [row.id for row in rows], marker


def _walk(database: Database, **asked: Any) -> list[str]:
    found: list[str] = []
    marker = None
    while True:
        ids, marker = _page(database, ListQuery(marker=marker, **asked))
        found += ids
        if marker is None:
            return found


@settings(max_examples=25, deadline=None)
@given(
    rows=st.lists(st.tuples(st.sampled_from("abc"), st.none() | st.integers(0, 3)), max_size=9),
    sort=st.lists(
        st.tuples(st.sampled_from(sorted(COLUMNS)), st.sampled_from(["asc", "desc"])), min_size=1, max_size=3
    ),
    limit=st.integers(1, 4),
)
def test_pages_of_any_size_make_the_whole_list(
    rows: list[tuple[str, int | None]], sort: list[tuple[str, str]], limit: int
) -> None:
    database = _database()
    try:
        ids = [_add(database, name, next_in_s) for name, next_in_s in rows]
        whole = _walk(database, sort=tuple(sort), limit=1000)
        assert sorted(whole) == sorted(ids)
        assert _walk(database, sort=tuple(sort), limit=limit) == whole
    finally:
        database.close()


def test_the_newest_come_first(database: Database) -> None:
    first, second = _add(database, "a"), _add(database, "b")
    assert _walk(database) == [second, first]


def test_an_empty_value_is_the_greatest(database: Database) -> None:
    none, soon = _add(database, "a"), _add(database, "b", 1)
    assert _walk(database, sort=(("next_run_at", "asc"),)) == [soon, none]
    assert _walk(database, sort=(("next_run_at", "desc"),), limit=1) == [none, soon]


def test_filters_narrow_the_list(database: Database) -> None:
    first, second = _add(database, "a"), _add(database, "b%")
    assert _walk(database, filters={"name": "a"}) == [first]
    assert _walk(database, filters={"properties": "of b%"}) == [second]


def test_a_marker_that_no_longer_passes_the_filter_still_goes_on(database: Database) -> None:
    first, second = _add(database, "a"), _add(database, "b")
    assert _page(database, ListQuery(marker=second, filters={"name": "a"})) == ([first], None)


@pytest.mark.parametrize("marker", ["5b1f0f6e-6f5e-4a43-9c0e-2f8d1a7c3b90", "nonsense"])
def test_an_unknown_marker_is_not_found(database: Database, marker: str) -> None:
    with pytest.raises(NotFoundError, match="marker"):
        _page(database, ListQuery(marker=marker))


def test_an_unknown_sort_key_names_the_known_ones(database: Database) -> None:
    with pytest.raises(
        InvalidInputError, match="sort: 'colour' must be one of created_at, name, next_run_at"
    ):
        _page(database, ListQuery(sort=(("colour", "asc"),)))


def test_an_unknown_filter_is_refused(database: Database) -> None:
    with pytest.raises(InvalidInputError, match="colour: 'red' is no filter here"):
        _page(database, ListQuery(filters={"colour": "red"}))
