# SPDX-License-Identifier: Apache-2.0
"""What a turn of the dispatcher asks, and what a claim writes, costs what it finds, not what there is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from seawall.db import due
from seawall.db import runs as run_rows
from seawall.db.session import Tx
from seawall.operation_engine import claim
from tests.engine.ground import Ground
from tests.support.databases import postgresql_database


def plans(tx: Tx, statements: list[tuple[str, Any]]) -> list[str]:
    """How SQLite means to carry them out."""
    found = []
    for statement, parameters in statements:
        rows = tx.connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
        found += [f"{row[3]}: {statement}" for row in rows.all()]
    return found


def make_due(ground: Ground) -> None:
    """Operations of every policy, for which there is something to write."""
    for misfire in ("skip", "run_latest", "run_all"):
        for overlap in ("skip", "queue_one", "cancel_running", "allow"):
            ground.operation(ground.trigger(window=0, misfire=misfire), overlap=overlap)
    ground.go_to(600)


def test_no_statement_of_a_turn_or_a_claim_looks_at_every_row(ground: Ground) -> None:
    make_due(ground)
    statements: list[tuple[str, Any]] = []

    def look(tx: Tx) -> list[str]:
        @sa.event.listens_for(tx.connection, "before_cursor_execute")
        def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
            if not statement.startswith("EXPLAIN"):
                statements.append((statement, parameters))

        due.next_due_at(tx.connection)
        claim.claim(tx)
        run_rows.claim(tx, service_row=1, host="here", limit=8, lease_until=tx.now)
        run_rows.reap(tx, host="here")
        return plans(tx, list(statements))

    found = ground.database.write("test.look", look)
    # What the statement brings itself is looked at whole, and an index whose condition leaves out all but the
    # live ones.
    scans = [
        one for one in found if one.startswith(("SCAN runs", "SCAN scheduled", "SCAN triggers", "SCAN o"))
    ]
    assert [one for one in scans if " USING " not in one.partition(":")[0]] == []
    assert any("gap_count + g.c" in one for one, _ in statements)


# A table that is read whole, by itself or to be hashed or sorted, or for a condition that is looked up in it;
# and a statement that is compiled, which takes longer than its rows.
_TOO_MUCH = re.compile(r"Seq Scan on \w*\.?(runs|scheduled_operations|triggers)\b|hashed SubPlan|JIT:")


def test_postgresql_looks_up_what_a_claim_needs_and_nothing_else(tmp_path: Path) -> None:
    with postgresql_database() as url:
        ground = Ground(tmp_path, where=url)
        try:
            make_due(ground)
            found = ground.database.write("test.look", explained_claim, locks_rows=True)
        finally:
            ground.close()

    assert {statement for statement, plan in found if _TOO_MUCH.search(plan)} == set()
    assert any("INSERT INTO runs" in statement for statement, _ in found)


def explained_claim(tx: Tx) -> list[tuple[str, str]]:
    """Each statement of a claim that looks for something, and how PostgreSQL means to carry it out."""
    found = []

    @sa.event.listens_for(tx.connection, "before_cursor_execute")
    def explain(connection: sa.Connection, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if statement.lstrip().startswith(("SELECT triggers", "WITH", "INSERT", "UPDATE")):
            rows = connection.exec_driver_sql(f"EXPLAIN (VERBOSE) {statement}", parameters).scalars()
            found.append((statement, "\n".join(rows)))

    tx.connection.exec_driver_sql("SET LOCAL jit_above_cost = 0")
    claim.claim(tx)
    return found
