# SPDX-License-Identifier: Apache-2.0
"""What a source cannot give never makes a clean checkpoint, and what is in use is not harmed (I8)."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from seawall.core.errors import RunError
from seawall.db import repositories, restores
from seawall.protection.flow import tags_of
from tests.protection.conftest import Side

DEEP = 300


def test_single_files_that_cannot_be_read_are_warnings_with_their_paths(side: Side) -> None:
    source = side.folder / "source"
    Path(source, *["d"] * DEEP).mkdir(parents=True)
    (source / "good").write_text("good")
    context = side.context()
    plan = side.plan(("directory", source))
    made = side.protect(plan, context)
    assert made.status == "available_with_warnings"
    assert made.resources[0]["status"] == "available_with_warnings"
    assert made.resources[0]["fault_count"] == 1
    (fault,) = made.resources[0]["faults"]
    assert fault.startswith(f"{source}/d/d/d")
    assert str(made.reason).endswith(fault)
    assert ("warning", fault) in context.lines
    side.engine.restore(side.context(), restore_id=side.ask(made, side.folder / "target").id)
    assert (side.folder / "target" / "source" / "good").read_text() == "good"


def test_a_plan_that_excludes_everything_is_not_green(side: Side) -> None:
    source = side.folder / "source"
    source.mkdir()
    (source / "a").write_text("a")
    made = side.protect(
        side.plan(("directory", source), parameters={"directory": {"excludes": ["a"]}}), side.context()
    )
    assert (made.status, made.items) == ("available_with_warnings", 0)


def test_a_plan_without_resources_is_not_green(side: Side) -> None:
    made = side.protect(side.plan())
    assert made.status == "available_with_warnings"
    assert "no resources" in str(made.reason)


def test_a_second_snapshot_of_a_run_is_removed_and_the_first_stays(side: Side) -> None:
    source = side.folder / "source"
    source.mkdir()
    (source / "a").write_text("a")
    made = side.protect(side.plan(("directory", source)))
    repository = side.database.read(repositories.listed)[0]
    place = side.engine.place_of(repository.id)
    with side.pool.use(lambda: None) as mover:
        mover.call("begin", {"place": place})
        double = mover.call(
            "commit",
            {
                "resources": [{"folder": "directory-source", "tree_id": made.resources[0]["tree_id"]}],
                "manifest": "{}",
                "hostname": "here",
                "paths": [str(source)],
                "tags": tags_of(made),
                "time": "2026-01-01T00:00:00+00:00",
                "summary": {},
            },
        )["snapshot_id"]
        mover.call("end", {})
    assert len(side.snapshots()) == 2
    done = side.engine.maintain(side.context(), repository_id=repository.id)
    assert done["removed"] == [double]
    assert [path.name for path in side.snapshots()] == [made.snapshot_id]
    assert side.checkpoint(made.id) == made


@contextmanager
def _writer(path: Path, mode: str) -> Iterator[None]:
    """Somebody who moves money between two accounts all the time; the sum stays the same."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(f"PRAGMA journal_mode = {mode}")
        connection.execute("CREATE TABLE account (name, amount)")
        connection.execute("INSERT INTO account VALUES ('a', 5000), ('b', 5000)")
        connection.execute("CREATE TABLE entry (amount, padding)")
    must_end, has_written = threading.Event(), threading.Event()

    def write() -> None:
        with closing(sqlite3.connect(path, timeout=60, isolation_level=None)) as own:
            while not must_end.is_set():
                own.execute("BEGIN IMMEDIATE")
                own.execute("UPDATE account SET amount = amount - 1 WHERE name = 'a'")
                own.execute("INSERT INTO entry VALUES (1, randomblob(3000))")
                own.execute("UPDATE account SET amount = amount + 1 WHERE name = 'b'")
                own.execute("COMMIT")
                has_written.set()

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    assert has_written.wait(60)
    try:
        yield
    finally:
        must_end.set()
        thread.join(60)


@pytest.mark.parametrize("mode", ["WAL", "DELETE"])
def test_a_database_that_is_written_all_the_time_is_stored_as_one_state(side: Side, mode: str) -> None:
    path = side.folder / "bank.db"
    plan = side.plan(("sqlite", path))
    with _writer(path, mode):
        made = [side.protect(plan) for _ in range(3)]
    for number, one in enumerate(made):
        assert one.status == "available"
        target = side.folder / f"target-{number}"
        side.engine.restore(side.context(), restore_id=side.ask(one, target).id)
        with closing(sqlite3.connect(target / "bank.db")) as restored:
            assert restored.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            amounts = dict(restored.execute("SELECT name, amount FROM account").fetchall())
            (entries,) = restored.execute("SELECT count(*) FROM entry").fetchone()
        assert amounts == {"a": 5000 - entries, "b": 5000 + entries}


def test_a_database_in_use_is_replaced_only_when_that_was_asked_for(side: Side) -> None:
    path = side.folder / "app.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE t AS SELECT 1 AS x")
    made = side.protect(side.plan(("sqlite", path)))
    with closing(sqlite3.connect(path, isolation_level=None)) as user:
        user.execute("UPDATE t SET x = 2")
        refused = side.ask(made, None)
        with pytest.raises(RunError, match="in use"):
            side.engine.restore(side.context(), restore_id=refused.id)
        assert user.execute("SELECT x FROM t").fetchone() == (2,)
        row = side.database.read(lambda c: restores.get(c, refused.id, project_id=None))
        assert row.status == "fail"
        assert "in use" in str(row.reason)
        said = side.ask(made, None, sqlite={"replace_in_use": True})
        side.engine.restore(side.context(), restore_id=said.id)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT x FROM t").fetchone() == (1,)
