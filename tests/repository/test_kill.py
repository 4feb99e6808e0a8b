# SPDX-License-Identifier: Apache-2.0
"""A process killed at any failpoint of the engine leaves a repository that is whole (I5)."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from seawall.core.errors import BankObjectMissingError
from seawall.repository import Repository
from tests.repository.banks import FolderBank
from tests.repository.conftest import NOW, PASSWORD, Restic, commit

pytestmark = pytest.mark.slow

PROJECT = Path(__file__).parents[2]
SAVE = [
    f"repository.{what}.{when}_put@{count}"
    for what, counts in (("pack", (1, 2, 4)), ("index", (1,)), ("snapshot", (1,)))
    for when in ("before", "after")
    for count in counts
]


def _killed(point: str, act: str, repository: Path, path: Path) -> None:
    name, _, count = point.partition("@")
    done = subprocess.run(
        [sys.executable, "-m", "tests.repository.crash_child", act, str(repository), str(path)],
        cwd=PROJECT,
        env={**os.environ, "SEAWALL_FAILPOINTS": f"{name}=kill@{count or 1}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr


def _content(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and not path.name.startswith(".seawall-restore-")
    }


def _all_whole(repository: Repository, scratch: Path) -> list[dict[str, bytes]]:
    """The content of every snapshot, oldest first; every one restores without a fault."""
    found = []
    for number, snapshot in enumerate(repository.snapshots()):
        target = scratch / str(number)
        assert repository.restore(snapshot.tree, target).faults == ()
        found.append(_content(target))
    return found


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with one snapshot of a small folder."""
    root = tmp_path_factory.mktemp("template")
    (root / "source").mkdir()
    (root / "source" / "first").write_bytes(b"first")
    made = Repository.init(FolderBank(root / "repository"), passwords=[PASSWORD], now=NOW)
    commit(made, root / "source")
    return root


@pytest.fixture
def repository_path(template: Path, tmp_path: Path) -> Path:
    shutil.copytree(template / "repository", tmp_path / "repository")
    return tmp_path / "repository"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Enough for several packs."""
    root = tmp_path / "source"
    root.mkdir()
    for number in range(9):
        (root / str(number)).write_bytes(os.urandom(6_000_000))
    return root


@pytest.mark.parametrize("point", SAVE)
def test_a_killed_save_leaves_the_repository_whole(
    point: str, repository_path: Path, source: Path, tmp_path: Path
) -> None:
    _killed(point, "save", repository_path, source)
    opened = Repository.open(FolderBank(repository_path), password=PASSWORD, now=NOW)
    expected = [{"first": b"first"}]
    if point.startswith("repository.snapshot.after"):
        expected.append(_content(source))
    assert _all_whole(opened, tmp_path / "after the kill") == expected
    commit(opened, source)
    assert _all_whole(opened, tmp_path / "after the next") == [*expected, _content(source)]


@pytest.mark.parametrize("point", SAVE)
def test_restic_finds_no_error_after_a_killed_save(
    point: str, restic: Restic, template: Path, source: Path, tmp_path: Path
) -> None:
    shutil.copytree(template / "repository", restic.repository)
    _killed(point, "save", restic.repository, source)
    assert "no errors were found" in restic.run("check", "--read-data")
    commit(Repository.open(FolderBank(restic.repository), password=PASSWORD, now=NOW), source)
    assert "no errors were found" in restic.run("check", "--read-data")


def test_what_was_indexed_before_the_kill_is_not_stored_again(repository_path: Path, source: Path) -> None:
    _killed("repository.snapshot.before_put", "save", repository_path, source)
    bank = FolderBank(repository_path)
    before = {info.key for info in bank.list("data/")}
    commit(Repository.open(bank, password=PASSWORD, now=NOW), source)
    assert {info.key for info in bank.list("data/")} == before


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_killed_forget_has_removed_the_snapshot_or_not(when: str, repository_path: Path) -> None:
    _killed(f"repository.snapshot.{when}_delete", "forget", repository_path, repository_path)
    opened = Repository.open(FolderBank(repository_path), password=PASSWORD, now=NOW)
    assert len(opened.snapshots()) == (1 if when == "before" else 0)


@pytest.mark.parametrize("what", ["key", "config"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_killed_init_opens_or_can_be_done_again(what: str, when: str, tmp_path: Path) -> None:
    bank = FolderBank(tmp_path / "repository")
    _killed(f"repository.{what}.{when}_put", "init", bank.root, tmp_path)
    try:
        Repository.open(bank, password=PASSWORD, now=NOW)
    except BankObjectMissingError:
        made = Repository.init(bank, passwords=[PASSWORD], now=NOW)
        assert Repository.open(bank, password=PASSWORD, now=NOW).id == made.id
        assert (what, when) != ("config", "after")
    else:
        assert (what, when) == ("config", "after")


@pytest.mark.parametrize(
    ("point", "slots"),
    [("key.before_put", 1), ("key.after_put", 2), ("key.before_delete", 2), ("key.after_delete", 1)],
)
def test_a_killed_change_of_key_slots_keeps_the_old_one(
    point: str, slots: int, repository_path: Path
) -> None:
    _killed(f"repository.{point}", "keys", repository_path, repository_path)
    opened = Repository.open(FolderBank(repository_path), password=PASSWORD, now=NOW)
    assert len(opened.keys()) == slots


@pytest.mark.parametrize(
    "point",
    [
        "repair.before_put",
        "repair.after_put",
        "index.before_put",
        "index.after_put",
        "index.before_delete",
        "index.after_delete",
    ],
)
def test_a_killed_repair_loses_nothing_more_and_can_be_done_again(
    point: str, repository_path: Path, tmp_path: Path
) -> None:
    source = tmp_path / "many"
    source.mkdir()
    for number in range(4):
        (source / str(number)).write_bytes(os.urandom(100_000))
    bank = FolderBank(repository_path)
    commit(Repository.open(bank, password=PASSWORD, now=NOW), source)
    largest = max(repository_path.glob("data/*/*"), key=lambda path: path.stat().st_size)
    content = bytearray(largest.read_bytes())
    content[50] ^= 1  # in the first blob; the others can be saved
    largest.write_bytes(content)
    _killed(f"repository.{point}", "repair", repository_path, source)
    again = Repository.open(bank, password=PASSWORD, now=NOW)
    again.remove_stale_locks(now=NOW + timedelta(hours=1))
    lock = again.lock(now=NOW, exclusive=True)
    again.repair(lock, clock=lambda: NOW, read_data=True)
    lock.release()
    again.refresh()
    commit(again, source)
    assert Repository.open(bank, password=PASSWORD, now=NOW).check(read_data=True) == []
    assert _all_whole(again, tmp_path / "restored")[-1] == _content(source)


@pytest.mark.parametrize("act", ["link", "rename", "fsync"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_killed_restore_leaves_whole_files_and_can_be_done_again(
    act: str, when: str, repository_path: Path, tmp_path: Path
) -> None:
    source, target = tmp_path / "many", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    for number in range(6):
        (source / str(number)).write_bytes(os.urandom(100_000))
        (target / str(number)).write_bytes(b"old")
    os.link(source / "0", source / "linked")
    old = _content(target)
    commit(Repository.open(FolderBank(repository_path), password=PASSWORD, now=NOW), source)
    _killed(
        f"repository.restore.{when}_{act}@{1 if act == 'link' else 3}", "restore", repository_path, target
    )
    wanted = _content(source)
    found = _content(target)
    assert all(content in (wanted[name], old.get(name)) for name, content in found.items())
    opened = Repository.open(FolderBank(repository_path), password=PASSWORD, now=NOW)
    assert opened.restore(opened.snapshots()[-1].tree, target).faults == ()
    assert _content(target) == wanted
    assert {path.name for path in target.iterdir()} == wanted.keys()


def test_a_second_repair_takes_no_damaged_pack_back(repository_path: Path, tmp_path: Path) -> None:
    """The first one leaves it on the bank and out of the index; its header is whole, its content is not."""
    source = tmp_path / "many"
    source.mkdir()
    for number in range(4):
        (source / str(number)).write_bytes(os.urandom(100_000))
    bank = FolderBank(repository_path)
    commit(Repository.open(bank, password=PASSWORD, now=NOW), source)
    largest = max(repository_path.glob("data/*/*"), key=lambda path: path.stat().st_size)
    content = bytearray(largest.read_bytes())
    content[50] ^= 1
    largest.write_bytes(content)
    for _ in range(2):
        again = Repository.open(bank, password=PASSWORD, now=NOW)
        lock = again.lock(now=NOW, exclusive=True)
        again.repair(lock, clock=lambda: NOW, read_data=True)
        lock.release()
    again.refresh()
    commit(again, source)
    assert Repository.open(bank, password=PASSWORD, now=NOW).check(read_data=True) == []
