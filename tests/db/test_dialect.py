# SPDX-License-Identifier: Apache-2.0
"""What the two databases spell differently."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from seawall.core.states import LIVE_RUN_STATES, RUNNING_STATES
from seawall.db.dialect import among, insert, is_postgresql
from seawall.db.session import Database, Tx
from seawall.db.tables import checkpoints, install, runs
from seawall.sdk.testing.clock import FakeClock
from tests.support.databases import KINDS, opened

ID = "0" * 32


@pytest.fixture(params=KINDS)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    with opened(request.param, tmp_path, FakeClock()) as made:
        yield made


def test_a_row_that_is_there_is_kept_or_replaced_as_said(database: Database) -> None:
    def put(tx: Tx, value: str, *, is_replacing: bool) -> None:
        statement = insert(tx.connection, install).values(name="one", value=value)
        if is_replacing:
            tx.connection.execute(
                statement.on_conflict_do_update(
                    index_elements=["name"], set_={"value": statement.excluded.value}
                )
            )
        else:
            tx.connection.execute(statement.on_conflict_do_nothing())

    def value(connection: sa.Connection) -> object:
        return connection.execute(sa.select(install.c.value)).scalar_one()

    database.write("test.put", lambda tx: put(tx, "first", is_replacing=False))
    database.write("test.put", lambda tx: put(tx, "second", is_replacing=False))
    assert database.read(value) == "first"
    database.write("test.put", lambda tx: put(tx, "third", is_replacing=True))
    assert database.read(value) == "third"


def test_only_words_may_stand_in_a_statement() -> None:
    with pytest.raises(ValueError, match="no words of ours"):
        among(runs.c.state, ["queued', 'x"])


QUERIES = {
    "ix_runs_live_operation": sa.select(runs.c.id).where(
        runs.c.scheduled_operation_id == ID, among(runs.c.state, LIVE_RUN_STATES)
    ),
    "ix_runs_leased": sa.select(runs.c.row).where(
        among(runs.c.state, RUNNING_STATES), runs.c.lease_until_at < FakeClock().now()
    ),
    "uq_runs_lock_key": sa.select(runs.c.row).where(
        among(runs.c.state, RUNNING_STATES), runs.c.lock_key == "one"
    ),
    "ix_runs_queued": sa.select(runs.c.row)
    .where(runs.c.state == "queued")
    .order_by(runs.c.priority, runs.c.expected_at),
    "ix_runs_ended_at": sa.select(runs.c.row)
    .where(runs.c.ended_at < FakeClock().now())
    .order_by(runs.c.ended_at),
    "uq_runs_subject_id_kind_occurrence": sa.select(runs.c.row).where(
        runs.c.subject_id == ID, runs.c.kind == "scheduled"
    ),
    "ix_checkpoints_error": sa.select(checkpoints.c.row)
    .where(checkpoints.c.status == "error")
    .order_by(checkpoints.c.created_at),
}


@pytest.mark.parametrize("index", sorted(QUERIES))
def test_a_frequent_query_is_answered_by_its_index(database: Database, index: str) -> None:
    """Its cost follows what it finds, not how many rows there are."""

    def plan(connection: sa.Connection) -> str:
        compiled = QUERIES[index].compile(connection, compile_kwargs={"literal_binds": True})
        if is_postgresql(connection):
            # A table this small is read whole whatever there is; without that choice the index is named.
            connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
            found = connection.exec_driver_sql(f"EXPLAIN {compiled}".replace("%", "%%"))
            return "\n".join(row[0] for row in found)
        return "\n".join(row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {compiled}"))

    found = database.read(plan)
    # SQLite names the index of a unique key by itself.
    wanted = "autoindex_runs" if index.startswith("uq_runs_subject") else index
    assert index in found or (database.url is None and wanted in found), found
