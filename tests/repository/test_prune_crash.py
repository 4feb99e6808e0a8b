# SPDX-License-Identifier: Apache-2.0
"""Whatever is done in whatever order, and killed wherever: no snapshot ever lacks anything (I5, I12)."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from seawall.core.errors import ConflictError
from seawall.repository import Repository, Writer, locks
from seawall.repository.locks import LockInfo, RepositoryLock
from seawall.sdk.failpoints import FailpointError, arm
from tests.repository.banks import DictBank, FolderBank
from tests.repository.conftest import NOW, PASSWORD, Restic, fresh

PROJECT = Path(__file__).parents[2]
POINTS = [
    f"repository.{what}"
    for what in (
        "pack.before_put",
        "pack.after_put",
        "index.before_put",
        "index.after_put",
        "snapshot.before_put",
        "snapshot.after_put",
        "repack.before_put",
        "repack.after_put",
        "index.before_delete",
        "index.after_delete",
        "pending.before_put",
        "pending.after_put",
        "pack.before_delete",
        "pack.after_delete",
        "pending.before_delete",
        "pending.after_delete",
        "lock.before_put",
        "lock.after_put",
        "lock.before_delete",
        "lock.after_delete",
    )
]
GRACE = timedelta(hours=2)
FILES = st.lists(st.integers(0, 12), min_size=1, max_size=5)


class Life(RuleBasedStateMachine):
    """A repository with two writers and a pruner, each of whom may die at any failpoint."""

    def __init__(self) -> None:
        super().__init__()
        self.bank = DictBank()
        self.first = fresh(self.bank)
        self.now = NOW
        self.contents = [bytes([number]) * (number * 40 + 1) for number in range(13)]
        self.snapshots: dict[str, list[int]] = {}
        self.writers: list[tuple[Writer, RepositoryLock, list[int], list[object]]] = []

    def again(self) -> Repository:
        return Repository(self.bank, self.first.key, self.first._config, "", self.now)

    def _commit(self, writer: Writer, nodes: list[object], files: list[int]) -> None:
        tree = writer.save_nodes(nodes)  # type: ignore[arg-type]
        made = writer.commit(tree, hostname="h", username="u", paths=[], tags=[], time=self.now)
        self.snapshots[made] = files

    def _node(self, writer: Writer, at: int, number: int) -> object:
        return writer.save_bytes(str(at), self.contents[number])

    def _lock(self, opened: Repository) -> RepositoryLock:
        """Waits for a dead exclusive prune as a service would: until its lock is stale."""

        def wait(lock: LockInfo) -> datetime:
            self.pass_time(5)
            return self.now

        return opened.lock(now=self.now, wait=wait)

    @rule(files=FILES)
    def save(self, files: list[int]) -> None:
        opened = self.again()
        lock = self._lock(opened)
        with opened.writer(lock) as writer:
            self._commit(writer, [self._node(writer, at, one) for at, one in enumerate(files)], files)
        lock.release()

    @rule(files=FILES, flush=st.booleans())
    def begin(self, files: list[int], flush: bool) -> None:
        assume(len(self.writers) < 2)
        opened = self.again()
        lock = self._lock(opened)
        writer = opened.writer(lock)
        nodes = [self._node(writer, at, one) for at, one in enumerate(files)]
        if flush:
            writer.flush()
        self.writers.append((writer, lock, files, nodes))

    @precondition(lambda self: self.writers)
    @rule()
    def end(self) -> None:
        writer, lock, files, nodes = self.writers.pop(0)
        with writer:
            self._commit(writer, nodes, files)
        lock.release()

    @precondition(lambda self: self.writers)
    @rule()
    def die(self) -> None:
        writer, _, _, _ = self.writers.pop()
        writer.close()

    @precondition(lambda self: self.snapshots)
    @rule(data=st.data())
    def forget(self, data: st.DataObject) -> None:
        chosen = data.draw(st.sampled_from(list(self.snapshots)))
        self.again().forget(chosen)
        del self.snapshots[chosen]

    def _prune(self, exclusive: bool) -> None:
        opened = self.again()
        try:
            lock = opened.lock(now=self.now, exclusive=exclusive, task=locks.PRUNE)
        except ConflictError:
            return
        opened.prune(lock, clock=lambda: self.now, grace=GRACE, max_unused=0.0)
        lock.release()

    @rule(exclusive=st.booleans())
    def prune(self, exclusive: bool) -> None:
        self._prune(exclusive)

    @rule(exclusive=st.booleans(), point=st.sampled_from(POINTS), count=st.integers(1, 3))
    def prune_and_die(self, exclusive: bool, point: str, count: int) -> None:
        arm(f"{point}=raise@{count}")
        try:
            self._prune(exclusive)
        except FailpointError:
            pass
        finally:
            arm("")

    @rule(minutes=st.sampled_from([10, 35, 130]))
    def let_time_pass(self, minutes: int) -> None:
        self.pass_time(minutes)

    def pass_time(self, minutes: int) -> None:
        """Those who live refresh meanwhile."""
        until = self.now + timedelta(minutes=minutes)
        while self.now < until:
            self.now += timedelta(minutes=5)
            for _, lock, _, _ in self.writers:
                lock.refresh(self.now)

    @invariant()
    def every_snapshot_is_whole(self) -> None:
        opened = self.again()
        opened.refresh()
        assert opened.check(read_data=True) == []
        assert {one.id for one in opened.snapshots()} == set(self.snapshots)
        for snapshot_id, files in self.snapshots.items():
            for at, number in enumerate(files):
                node = opened.find(opened.snapshot(snapshot_id).tree, str(at))
                assert b"".join(opened.read_file(node)) == self.contents[number]

    def teardown(self) -> None:
        arm("")
        for writer, _, _, _ in self.writers:
            writer.close()


TestLife = Life.TestCase
TestLife.settings = settings(
    max_examples=25, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
)
TestLife.pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]  # type: ignore[attr-defined]


def _prune_points(exclusive: bool) -> list[str]:
    common = ["repack.before_put", "repack.after_put", "index.before_put@2", "index.after_put@2"]
    common += ["index.before_put", "index.after_put", "index.before_delete", "index.after_delete"]
    common += ["pack.before_delete", "pack.after_delete@2"]
    if exclusive:
        return common
    return [
        *common,
        "pending.before_put",
        "pending.after_put",
        "pending.before_delete",
        "pending.after_delete",
    ]


def _child(act: str, repository: Path, now: datetime, point: str) -> int:
    name, _, count = point.partition("@")
    environment = {**os.environ, "SEAWALL_FAILPOINTS": f"repository.{name}=kill@{count or 1}"}
    done = subprocess.run(
        [sys.executable, "-m", "tests.repository.crash_child", act, str(repository), now.isoformat()],
        cwd=PROJECT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode


def _used(path: Path) -> Repository:
    """A repository with packs that are unused, partly used and wholly used, and a marker that is due."""
    made = Repository.init(FolderBank(path), passwords=[PASSWORD], now=NOW)
    contents = [os.urandom(3000 + number) for number in range(9)]

    def save(*numbers: int) -> str:
        with made.writer(made.lock(now=NOW)) as writer:
            nodes = [writer.save_bytes(str(number), contents[number]) for number in numbers]
            tree = writer.save_nodes(nodes)
            return writer.commit(tree, hostname="h", username="u", paths=["/p"], tags=[], time=NOW)

    old = save(0, 1)
    made.forget(old)
    lock = made.lock(now=NOW, task=locks.PRUNE)
    made.prune(lock, clock=lambda: NOW)
    lock.release()
    save(2, 3)
    both = save(4, 5, 6, 7)
    save(4, 8)
    made.forget(both)
    return made


@pytest.mark.slow
@pytest.mark.timeout(400)  # some thirty processes of restic and ours
@pytest.mark.parametrize("exclusive", [False, True])
def test_a_prune_killed_anywhere_harms_nothing_and_restic_agrees(
    exclusive: bool, restic: Restic, tmp_path: Path
) -> None:
    template = tmp_path / "template"
    made = _used(template)
    act = "prune-exclusive" if exclusive else "prune"
    killed = 0
    later = NOW + timedelta(days=1, minutes=1)
    for point in _prune_points(exclusive):
        shutil.rmtree(restic.repository, ignore_errors=True)
        shutil.copytree(template, restic.repository)
        killed += _child(act, restic.repository, later, point) != 0
        bank = FolderBank(restic.repository)
        opened = Repository(bank, made.key, made._config, "", NOW)  # the same key: no scrypt for each point
        opened.refresh()
        assert opened.check(read_data=True) == [], point
        shutil.rmtree(restic.repository / "locks")  # of the dead, and by NOW long stale for restic
        assert "no errors were found" in restic.run("check", "--read-data"), point
        for days in (2, 4):
            lock = opened.lock(now=NOW + timedelta(days=days), task=locks.PRUNE)
            opened.prune(lock, clock=lambda days=days: NOW + timedelta(days=days), max_unused=0.0)  # type: ignore[misc]
            lock.release()
        assert opened.check(read_data=True) == [], point
        assert sum(item.size_bytes for item in bank.list("data/")) < 4 * 3100 + 3000, point
        assert list(bank.list("seawall/")) == [], point
    assert "no errors were found" in restic.run("check", "--read-data")
    assert killed >= len(_prune_points(exclusive)) - 2
