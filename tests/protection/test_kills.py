# SPDX-License-Identifier: Apache-2.0
"""Whatever is killed in a protect, the run ends with one snapshot, and no lock stays behind (I4, I5, I12)."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from uuid import uuid4

import pytest

from demo.evidence import differences, photograph
from seawall.core.errors import CancelledError, ConflictError, MoverDiedError
from seawall.db import checkpoints
from seawall.sdk.testing.operation_suite import MemoryContext
from tests.protection.conftest import Side
from tests.protection.protect_child import run_context

BIG = 12_000_000


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """More than a step keeps in memory: its packs and index are durable before it is journaled."""
    made = tmp_path / "big"
    made.mkdir()
    for number in range(3):
        (made / str(number)).write_bytes(os.urandom(BIG // 3))
    return made


@pytest.fixture
def database(tmp_path: Path) -> Path:
    made = tmp_path / "app.db"
    with closing(sqlite3.connect(made)) as connection, connection:
        connection.execute("CREATE TABLE t AS SELECT 7 AS x")
    return made


@pytest.mark.parametrize(
    "point", ["repository.pack.before_put", "repository.index.after_put", "repository.snapshot.before_put"]
)
def test_a_mover_killed_in_the_middle_fails_the_attempt_and_the_next_one_makes_the_checkpoint(
    side: Side, source: Path, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    plan, context = side.plan(("directory", source)), side.context()
    monkeypatch.setenv("SEAWALL_FAILPOINTS", f"{point}=kill")
    with pytest.raises(MoverDiedError, match="signal 9"):
        side.protect(plan, context)
    monkeypatch.delenv("SEAWALL_FAILPOINTS")
    failed = side.database.read(lambda c: checkpoints.by_run(c, context.run_id))
    assert failed is not None
    assert (failed.status, side.snapshots(), side.locks()) == ("error", [], [])
    assert "signal 9" in str(failed.reason)
    _end_movers(side)
    context.run_type = "resume"
    made = side.protect(plan, context)
    assert (made.id, made.status, len(side.snapshots())) == (failed.id, "available", 1)
    assert not list(side.data.scratch.glob("*/lock.json"))


def _end_movers(side: Side) -> None:
    """Those that are warm were started with the failpoint."""
    for pid in side.pool.pids:
        os.kill(pid, signal.SIGKILL)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


def test_a_maintenance_waits_until_the_lock_of_its_killed_mover_is_gone(
    side: Side, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository_id = side.protect(side.plan(("directory", source))).repository_id
    _end_movers(side)
    monkeypatch.setenv("SEAWALL_FAILPOINTS", "repository.lock.after_put=kill")
    with pytest.raises(MoverDiedError, match="signal 9"):
        side.engine.maintain(side.context(), repository_id=repository_id)
    monkeypatch.delenv("SEAWALL_FAILPOINTS")
    _end_movers(side)
    figures = side.engine.maintain(side.context(), repository_id=repository_id)
    assert (figures["snapshots"], side.locks()) == (1, [])


class Doomed(MemoryContext):
    """A run that is cancelled while its mover holds the lock: right before the commit point."""

    def confirm_lease(self) -> None:
        raise CancelledError("it was cancelled")


def test_a_cancel_in_the_middle_leaves_no_lock(side: Side, source: Path) -> None:
    context = Doomed(project_id=side.project_id, clock=side.database.clock, scheduled_operation_id=None)
    with pytest.raises(CancelledError):
        side.protect(side.plan(("directory", source)), context)
    assert (side.snapshots(), side.locks()) == ([], [])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("point", "is_adopted"),
    [
        ("repository.lock.after_put", False),
        ("repository.pack.after_put", False),
        ("repository.index.after_put", False),
        ("test.journal.after_record", False),
        ("repository.snapshot.before_put", False),
        ("repository.snapshot.after_put", True),
        ("checkpoints.finish.before_commit", True),
        ("checkpoints.finish.after_commit", True),
    ],
)
def test_a_run_cut_anywhere_is_finished_by_another_process_with_one_snapshot(
    side: Side, source: Path, database: Path, point: str, *, is_adopted: bool
) -> None:
    plan, run_id = side.plan(("directory", source), ("sqlite", database)), str(uuid4())
    before = photograph(source)
    _cut(side, plan.id, run_id, point)
    journaled = (side.folder / "journal" / "resource:0").exists()
    assert len(side.snapshots()) == is_adopted
    side.pool.clear_scratch()
    assert side.locks() == [], "the lock of the dead mover stays"

    context = run_context(side, run_id)
    context.run_type = "resume"
    made = side.protect(plan, context)
    again = [text for _, text in context.lines if text.startswith(f"directory#{source}:")]
    assert (len(again) == 0) == (journaled or is_adopted), "what was journaled is not read again"
    assert made.status == "available"
    assert [path.name for path in side.snapshots()] == [made.snapshot_id]
    assert made.run_id == run_id
    target = side.folder / "target"
    side.engine.restore(side.context(), restore_id=side.ask(made, target).id)
    assert differences(before, photograph(target / "big")) == []
    assert side.locks() == []


def _cut(side: Side, plan_id: str, run_id: str, point: str) -> None:
    """Let another process begin the run, and end it with its movers at the failpoint."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.protection.protect_child", str(side.folder), plan_id, run_id],
        env={**os.environ, "SEAWALL_FAILPOINTS": f"{point}=killgroup"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        start_new_session=True,
    )
    assert done.returncode == -9, done.stderr[-2000:]


@pytest.mark.slow
def test_no_snapshot_is_made_upon_a_journaled_tree_whose_pack_is_gone(
    side: Side, source: Path, database: Path
) -> None:
    plan, run_id = side.plan(("directory", source), ("sqlite", database)), str(uuid4())
    _cut(side, plan.id, run_id, "test.journal.after_record")
    max(side.data.bank.rglob("data/*/*"), key=lambda path: path.stat().st_size).unlink()
    context = run_context(side, run_id)
    context.run_type = "resume"
    with pytest.raises(ConflictError, match="are gone"):
        side.protect(plan, context)
    assert any("done again" in text for _, text in context.lines)
    assert side.snapshots() == []
    failed = side.database.read(lambda c: checkpoints.by_run(c, run_id))
    assert failed is not None
    assert failed.status == "error"
