# SPDX-License-Identifier: Apache-2.0
"""The gate, beyond one backup: both programs keep each other's repositories in order (I9, I12)."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from seawall.core.errors import ConflictError
from seawall.repository import Repository, locks
from tests.repository import odd_tree
from tests.repository.banks import FolderBank
from tests.repository.conftest import NOW, PASSWORD, OpenLock, Restic, commit
from tests.repository.test_prune import run

pytestmark = pytest.mark.slow

PROJECT = Path(__file__).parents[2]


def _open(restic: Restic) -> Repository:
    return Repository.open(FolderBank(restic.repository), password=PASSWORD, now=NOW)


def _clean(restic: Restic) -> None:
    assert "no errors were found" in restic.run("check", "--read-data")
    assert _open(restic).check(read_data=True) == []


def _restored(restic: Restic, snapshot: str, source: Path, target: Path) -> None:
    """Both programs restore a snapshot of ``source`` as it was."""
    opened = _open(restic)
    tree = opened.snapshot(snapshot).tree
    node = opened.find(tree, str(source)) if opened.snapshot(snapshot).hostname != "host" else None
    assert opened.restore(node.subtree.hex() if node and node.subtree else tree, target / "ours").faults == ()
    restic.run("restore", snapshot, "--target", str(target / "theirs"))
    theirs = target / "theirs" / (str(source).lstrip("/") if node else "")
    for found in (odd_tree.describe(target / "ours"), odd_tree.describe(theirs)):
        assert found == odd_tree.describe(source)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    root = tmp_path / "odd"
    odd_tree.make(root)
    os.unlink(os.path.join(os.fsencode(root), b"odd link"))  # restic 0.14 loses such a target
    return root


def _snapshots(restic: Restic) -> list[str]:
    return [one["id"] for one in json.loads(restic.run("snapshots", "--json"))]


def test_restic_forgets_and_prunes_what_we_wrote(restic: Restic, source: Path, tmp_path: Path) -> None:
    ours = Repository.init(FolderBank(restic.repository), passwords=[PASSWORD], now=NOW)
    first, _ = commit(ours, source)
    (source / "more").write_bytes(os.urandom(3_000_000))
    commit(ours, source)
    (source / "more").write_bytes(os.urandom(2_000_000))
    last, _ = commit(ours, source)
    restic.run("forget", first, "--prune", "--max-unused", "0")
    restic.run("forget", "--keep-last", "1", "--prune", "--max-unused", "0")
    assert _snapshots(restic) == [last]
    _clean(restic)
    _restored(restic, last, source, tmp_path)


@pytest.mark.parametrize("exclusive", [False, True])
def test_we_forget_and_prune_what_restic_wrote(
    restic: Restic, source: Path, tmp_path: Path, exclusive: bool
) -> None:
    restic.run("init", "--repository-version", "2")
    for size in (3_000_000, 2_500_000, 2_000_000):
        (source / "more").write_bytes(os.urandom(size))
        restic.run("backup", str(source))
    opened = _open(restic)
    *old, last = [one.id for one in opened.snapshots()]
    for snapshot in old:
        opened.forget(snapshot)
    before = sum(item.size_bytes for item in opened.bank.list("data/"))
    for days in range(3):
        run(opened, NOW + timedelta(days=days), exclusive=exclusive, max_unused=0.0)
        _clean(restic)
    assert sum(item.size_bytes for item in opened.bank.list("data/")) < before - 5_000_000
    _restored(restic, last, source, tmp_path)


def test_each_goes_on_where_the_other_has_pruned(restic: Restic, source: Path, tmp_path: Path) -> None:
    ours = Repository.init(FolderBank(restic.repository), passwords=[PASSWORD], now=NOW)
    for days in range(3):
        first, _ = commit(ours, source)
        restic.run("backup", str(source))
        (source / f"new {days}").write_bytes(os.urandom(500_000))
        ours.forget(first)
        run(ours, NOW + timedelta(days=days), max_unused=0.0)
        restic.run("forget", "--keep-last", "1", "--group-by", "host", "--prune")
        ours.refresh()
    last, _ = commit(ours, source)
    _clean(restic)
    _restored(restic, last, source, tmp_path)


def test_a_lock_of_restic_keeps_our_prune_out_and_ours_keeps_restics(restic: Restic, source: Path) -> None:
    ours = Repository.init(FolderBank(restic.repository), passwords=[PASSWORD], now=NOW)
    commit(ours, source)
    held = ours.lock(now=datetime.now(UTC))  # noqa: TID251  # restic compares it with the real time
    restic.run("prune", code=1)
    restic.run("backup", str(source))
    held.release()
    restic.run("prune")
    with subprocess.Popen(
        [restic.program, "--no-cache", "backup", "--stdin"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        env={**os.environ, "RESTIC_PASSWORD": PASSWORD, "RESTIC_REPOSITORY": str(restic.repository)},
    ) as theirs:
        assert theirs.stdin is not None
        theirs.stdin.write(
            os.urandom(60_000_000)
        )  # more than a pipe holds: restic has begun, and its lock is there
        now = datetime.now(UTC)  # noqa: TID251  # as above
        assert [lock.is_foreign for lock in ours.locks()] == [True]
        with pytest.raises(ConflictError, match="in use"):
            ours.lock(now=now, exclusive=True)
        assert "shared lock" in run(ours, now).postponed
        theirs.stdin.close()
        assert theirs.wait() == 0
    assert run(ours, now).postponed == ""
    _clean(restic)


def _start(act: str, repository: Path, path: Path | str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.repository.crash_child", act, str(repository), str(path)]
    return subprocess.Popen(command, cwd=PROJECT)


def test_four_writers_at_once_all_succeed(restic: Restic, source: Path, tmp_path: Path) -> None:
    Repository.init(FolderBank(restic.repository), passwords=[PASSWORD], now=NOW)
    writers = [_start("save", restic.repository, source) for _ in range(4)]
    assert [one.wait() for one in writers] == [0] * 4
    assert len(_snapshots(restic)) == 4
    _clean(restic)
    opened = _open(restic)
    doubled = sum(item.size_bytes for item in opened.bank.list("data/"))
    run(opened, NOW, exclusive=True, max_unused=0.0)
    assert sum(item.size_bytes for item in opened.bank.list("data/")) <= doubled
    _clean(restic)
    _restored(restic, _snapshots(restic)[0], source, tmp_path)


def test_a_prune_while_others_back_up_harms_nothing(restic: Restic, source: Path) -> None:
    ours = Repository.init(FolderBank(restic.repository), passwords=[PASSWORD], now=NOW)
    ours.forget(commit(ours, source)[0])
    writers = [_start("save-locked", restic.repository, source) for _ in range(3)]
    rounds = 0
    while any(one.poll() is None for one in writers):
        at = NOW + timedelta(milliseconds=rounds)  # the grace period is over at once: only the locks protect
        run(ours, at, max_unused=0.0, grace=timedelta(microseconds=1))
        rounds += 1
    assert rounds
    assert [one.returncode for one in writers] == [0] * 3
    _clean(restic)
    assert len(_snapshots(restic)) == 3


def test_a_save_killed_at_random_points_harms_nothing(restic: Restic, source: Path) -> None:
    Repository.init(FolderBank(restic.repository), passwords=[PASSWORD], now=NOW)
    noise = random.Random(7)
    (source / "more").write_bytes(noise.randbytes(40_000_000))
    for _ in range(4):
        child = _start("save", restic.repository, source)
        try:
            child.wait(timeout=noise.uniform(0.5, 2.5))
        except subprocess.TimeoutExpired:
            child.send_signal(signal.SIGKILL)
            child.wait()
        for left in (restic.repository / "locks").glob("*"):
            left.unlink()
        _clean(restic)
    commit(_open(restic), source)
    _clean(restic)


@pytest.mark.parametrize("harm", ["flip", "truncate", "remove"])
def test_both_find_the_same_harm_and_a_repair_and_a_backup_mend_it(
    restic: Restic, source: Path, harm: str
) -> None:
    ours = Repository.init(FolderBank(restic.repository), passwords=[PASSWORD], now=NOW)
    commit(ours, source)
    packs = [path for path in (restic.repository / "data").rglob("*") if path.is_file()]
    pack = max(packs, key=os.path.getsize)
    content = bytearray(pack.read_bytes())
    if harm == "flip":
        content[1000] ^= 1
        pack.write_bytes(content)
    elif harm == "truncate":
        pack.write_bytes(content[: len(content) // 2])
    else:
        pack.unlink()
    restic.run("check", *(["--read-data"] if harm == "flip" else []), code=1)
    opened = _open(restic)
    assert opened.check(read_data=True) != []
    lock = opened.lock(now=NOW, exclusive=True)
    _, faults = opened.repair(lock, clock=lambda: NOW, read_data=True)
    lock.release()
    assert faults != []
    commit(opened, source)
    assert opened.check(read_data=True) == []
    for days in (0, 2):
        run(opened, NOW + timedelta(days=days))
    _clean(restic)


def test_a_writer_under_our_lock_and_restics_backup_go_together(restic: Restic, source: Path) -> None:
    ours = Repository.init(FolderBank(restic.repository), passwords=[PASSWORD], now=NOW)
    with ours.writer(OpenLock()) as writer:
        held = ours.lock(now=NOW, task=locks.PRUNE)
        restic.run("backup", str(source))
        tree = writer.save_path(source).tree_id
        writer.commit(tree, hostname="host", username="u", paths=[str(source)], tags=[], time=NOW)
        held.release()
    assert len(_snapshots(restic)) == 2
    _clean(restic)
