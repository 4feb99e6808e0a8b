# SPDX-License-Identifier: Apache-2.0
"""Protect, restore, expire and maintain over a real database, a real bank and real movers."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest

from demo.evidence import differences, photograph
from seawall.core.errors import CancelledError, SourceError
from seawall.db import checkpoints, repositories
from tests.protection.conftest import Side


@pytest.fixture
def source(tmp_path: Path) -> Path:
    made = tmp_path / "source"
    (made / "inner").mkdir(parents=True)
    for number in range(5):
        (made / "inner" / str(number)).write_bytes(os.urandom(2000))
    os.link(made / "inner" / "1", made / "hard")
    (made / "link").symlink_to("inner/1")
    (made / "odd\nname \udcff").write_bytes(b"odd")
    return made


def test_files_and_a_database_come_back_elsewhere_and_in_place(side: Side, source: Path) -> None:
    database = side.folder / "app.db"
    with sqlite3.connect(database) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE t (x)")
        connection.execute("INSERT INTO t VALUES (7)")
    connection.close()
    before = photograph(source)
    made = side.protect(side.plan(("directory", source), ("sqlite", database)))
    assert made.status == "available"
    target = side.folder / "target"
    side.engine.restore(side.context(), restore_id=side.ask(made, target).id)
    assert differences(before, photograph(target / "source")) == []
    (source / "inner" / "2").unlink()
    database.unlink()
    side.engine.restore(side.context(), restore_id=side.ask(made, None).id)
    assert differences(before, photograph(source)) == []
    with sqlite3.connect(database) as connection:
        assert connection.execute("SELECT x FROM t").fetchall() == [(7,)]
    connection.close()


def test_a_run_that_died_between_snapshot_and_row_adopts_its_snapshot(side: Side, source: Path) -> None:
    plan = side.plan(("directory", source))
    context = side.context()
    first = side.protect(plan, context)
    side.database.write(
        "test.undo", lambda tx: checkpoints.lose(tx, first.id, "as if the row had not been written")
    )
    side.database.write(
        "test.undo",
        lambda tx: checkpoints.move(tx, first.id, before="error", after="protecting", snapshot_id=None),
    )
    context.run_type = "resume"
    again = side.protect(plan, context)
    assert (again.id, again.snapshot_id, again.status) == (first.id, first.snapshot_id, "available")
    assert len(side.snapshots()) == 1


def test_a_missing_source_ends_in_error_and_a_retry_takes_the_checkpoint_up(side: Side, source: Path) -> None:
    plan = side.plan(("directory", source))
    source.rename(side.folder / "away")
    context = side.context()
    with pytest.raises(SourceError, match="source"):
        side.protect(plan, context)
    failed = side.database.read(lambda c: checkpoints.by_run(c, context.run_id))
    assert failed is not None
    assert failed.status == "error"
    assert str(source) in str(failed.reason)
    (side.folder / "away").rename(source)
    context.run_type = "resume"
    assert side.protect(plan, context).id == failed.id


def test_a_folder_that_holds_nothing_is_not_green(side: Side) -> None:
    empty = side.folder / "empty"
    empty.mkdir()
    made = side.protect(side.plan(("directory", empty)))
    assert made.status == "available_with_warnings"
    assert "holds nothing" in str(made.reason)


def test_a_cancel_makes_no_snapshot_and_says_so(side: Side, source: Path) -> None:
    context = side.context()
    context.is_cancelled = True
    with pytest.raises(CancelledError):
        side.protect(side.plan(("directory", source)), context)
    found = side.database.read(lambda c: checkpoints.by_run(c, context.run_id))
    assert found is not None
    assert (found.status, found.reason) == ("error", "it was cancelled")
    assert side.snapshots() == []


def test_retention_keeps_the_newest_and_relies_on_nothing_that_is_gone(side: Side, source: Path) -> None:
    plan = side.plan(("directory", source))
    made = [side.protect(plan) for _ in range(4)]
    done = side.engine.expire(
        side.context(), plan_id=plan.id, scheduled_operation_id=None, rules={"max_backups": 3}
    )
    assert done.deleted == (made[0].id,)
    next(path for path in side.snapshots() if path.name == made[3].snapshot_id).unlink()
    held = side.engine.expire(
        side.context(), plan_id=plan.id, scheduled_operation_id=None, rules={"max_backups": 1}
    )
    assert held.deleted == ()
    assert made[3].id in str(held.held_because)
    assert len(side.snapshots()) == 2


def test_maintenance_says_what_is_lost_and_a_delete_may_be_repeated(side: Side, source: Path) -> None:
    plan = side.plan(("directory", source))
    lost, kept = side.protect(plan), side.protect(plan)
    next(path for path in side.snapshots() if path.name == lost.snapshot_id).unlink()
    repository = side.database.read(repositories.listed)[0]
    done = side.engine.maintain(side.context(), repository_id=repository.id)
    assert done["lost"] == [lost.id]
    assert side.checkpoint(lost.id).status == "error"
    for _ in range(2):
        side.engine.delete(side.context(), checkpoint_id=kept.id)
    assert side.checkpoint(kept.id).status == "deleted"
    assert side.snapshots() == []
