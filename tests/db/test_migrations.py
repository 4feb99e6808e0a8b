# SPDX-License-Identifier: Apache-2.0
"""Migrations make what the code expects, on both databases, once, whoever starts at the same time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from seawall.core.errors import StateError
from seawall.db.migrations import current, revisions, upgrade
from seawall.db.session import Database
from seawall.db.tables import metadata, projects
from seawall.runtime.database_url import DatabaseUrl
from seawall.sdk.failpoints import FailpointError, arm
from seawall.sdk.testing.clock import FakeClock
from tests.support.databases import KINDS, place


@pytest.fixture(params=KINDS)
def where(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path | DatabaseUrl | None]:
    with place(request.param, tmp_path) as found:
        yield found


@pytest.fixture
def database(where: Path | DatabaseUrl | None) -> Iterator[Database]:
    made = Database(where, FakeClock())
    yield made
    made.close()


def _tables(connection: sa.Connection) -> dict[str, Any]:
    """Every column, key and index of a database, in the database's own words."""
    found = sa.inspect(connection)
    return {
        table: {
            "columns": {
                one["name"]: (str(one["type"]), one["nullable"], str(one.get("default")))
                for one in found.get_columns(table)
            },
            "key": found.get_pk_constraint(table),
            "references": sorted(found.get_foreign_keys(table), key=str),
            "unique": sorted(found.get_unique_constraints(table), key=str),
            "indexes": sorted(
                (
                    one["name"],
                    one["column_names"],
                    one["unique"],
                    sorted((name, str(value)) for name, value in one["dialect_options"].items()),
                )
                for one in found.get_indexes(table)
            ),
        }
        for table in sorted(found.get_table_names())
        if table != "alembic_version"
    }


@pytest.mark.parametrize("kind", KINDS)
def test_migrations_make_the_tables_of_the_code(kind: str, tmp_path: Path) -> None:
    with place(kind, tmp_path / "one") as one, place(kind, tmp_path / "two") as two:
        (tmp_path / "one").mkdir()
        (tmp_path / "two").mkdir()
        migrated, made = Database(one, FakeClock()), Database(two, FakeClock())
        assert upgrade(migrated)
        metadata.create_all(made.engine)
        found, expected = migrated.read(_tables), made.read(_tables)
        migrated.close()
        made.close()

    assert found.keys() == set(metadata.tables)
    assert found == expected


def test_a_database_is_upgraded_once(database: Database) -> None:
    assert database.read(current) is None
    assert upgrade(database)
    assert not upgrade(database)
    assert database.read(current) == revisions()[-1]


def test_several_may_start_at_once(where: Path | DatabaseUrl | None) -> None:
    """All of them find a whole database, and one of them has made it."""
    databases = [Database(where, FakeClock()) for _ in range(4)]
    start = threading.Barrier(len(databases))
    answers: list[bool] = []

    def run(one: Database) -> None:
        start.wait(20)
        answers.append(upgrade(one))

    threads = [threading.Thread(target=run, args=(one,)) for one in databases]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for one in databases:
        one.close()

    assert sorted(answers) == [False, False, False, True]


def test_an_upgrade_that_is_cut_off_leaves_the_former_tables(database: Database) -> None:
    arm("migrations.upgrade.before_commit=raise")
    with pytest.raises(FailpointError):
        upgrade(database)
    arm("")

    assert database.read(lambda c: sa.inspect(c).get_table_names()) == []
    assert upgrade(database)


def test_a_database_of_newer_code_is_refused_untouched(database: Database) -> None:
    upgrade(database)
    newer = "UPDATE alembic_version SET version_num = '9999'"
    database.write("test.newer", lambda tx: tx.connection.exec_driver_sql(newer))

    with pytest.raises(StateError, match="revision 9999"):
        upgrade(database)
    assert database.read(current) == "9999"
    assert database.read(lambda c: c.execute(sa.select(projects.c.row)).all()) == []
