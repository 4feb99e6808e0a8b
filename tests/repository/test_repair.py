# SPDX-License-Identifier: Apache-2.0
"""What can be saved is saved, what is lost is said, and the next backup heals what its source still has."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

import pytest

from seawall.core.errors import InvalidInputError
from seawall.repository import Repository, index
from seawall.repository.pack import BlobType, pack_key
from seawall.repository.repair import RepairResult
from tests.repository.banks import DictBank, FolderBank
from tests.repository.conftest import NOW, PASSWORD, Restic, commit, fresh
from tests.repository.test_prune import content, run


def _repair(repository: Repository, *, read_data: bool = True) -> tuple[RepairResult, list[str]]:
    lock = repository.lock(now=NOW, exclusive=True)
    try:
        result, faults = repository.repair(lock, clock=lambda: NOW, read_data=read_data)
    finally:
        lock.release()
    return result, [fault.path for fault in faults]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    root = tmp_path / "source"
    (root / "sub").mkdir(parents=True)
    for name in ("a", "b", "sub/c"):
        (root / name).write_bytes(os.urandom(200_000))
    return root


def _pack(repository: Repository, path: str, kind: BlobType = BlobType.DATA) -> tuple[str, int]:
    """Where the first blob of a file (or the tree of a folder) lies."""
    node = repository.find(repository.snapshots()[-1].tree, path)
    place = repository.index.find(node.content[0] if kind is BlobType.DATA else node.subtree or b"", kind)
    assert place is not None
    return pack_key(place.pack_id), place.blob.offset


def _flip(bank: DictBank, key: str, at: int) -> None:
    changed = bytearray(bank.objects[key])
    changed[at] ^= 1
    bank.objects[key] = bytes(changed)


def test_a_whole_repository_stays_as_it_is(repository: Repository, source: Path) -> None:
    commit(repository, source)
    result, faults = _repair(repository)
    assert (result, faults) == (RepairResult(), [])
    assert repository.check(read_data=True) == []


@pytest.mark.parametrize("loss", ["missing", "damaged"])
def test_the_index_is_made_anew_from_the_packs(bank: DictBank, source: Path, loss: str) -> None:
    repository = fresh(bank)
    commit(repository, source)
    (source / "new").write_bytes(os.urandom(1000))
    commit(repository, source)
    for number, key in enumerate([item.key for item in bank.list("index/")]):
        if loss == "missing":
            bank.delete(key)
        elif number == 0:
            _flip(bank, key, 40)
    again = Repository(bank, repository.key, repository._config, "", NOW)
    assert again.check() != []
    result, faults = _repair(again)
    assert faults == []
    assert result.index_files_damaged == (loss == "damaged")
    assert result.packs_found == (4 if loss == "missing" else 2)
    assert again.check(read_data=True) == []


def test_a_damaged_blob_is_dropped_and_the_next_backup_heals_it(
    bank: DictBank, repository: Repository, source: Path
) -> None:
    snapshot, tree = commit(repository, source)
    key, at = _pack(repository, "b")
    _flip(bank, key, at + 50)
    result, faults = _repair(repository)
    assert (result.packs_salvaged, result.blobs_salvaged, result.blobs_lost) == (1, 2, 1)
    assert faults == [f"snapshot {snapshot[:8]}:/b"]
    assert content(repository, snapshot, "a") == (source / "a").read_bytes()
    commit(repository, source, parent_tree=tree)
    assert repository.check(read_data=True) == []
    assert content(repository, snapshot, "b") == (source / "b").read_bytes()
    for days in (0, 1):
        run(repository, NOW + timedelta(days=days))
    assert not bank.exists(key)
    assert repository.check(read_data=True) == []


def test_a_missing_pack_is_said_and_healed(bank: DictBank, repository: Repository, source: Path) -> None:
    snapshot, tree = commit(repository, source)
    bank.delete(_pack(repository, "a")[0])
    result, faults = _repair(repository, read_data=False)
    assert (result.packs_lost, result.blobs_lost) == (1, 3)
    assert sorted(faults) == [f"snapshot {snapshot[:8]}:/{name}" for name in ("a", "b", "sub/c")]
    commit(repository, source, parent_tree=tree)
    assert repository.check(read_data=True) == []


def test_a_missing_tree_is_said_and_healed(bank: DictBank, repository: Repository, source: Path) -> None:
    snapshot, tree = commit(repository, source)
    bank.delete(_pack(repository, "sub", BlobType.TREE)[0])
    _, faults = _repair(repository, read_data=False)
    assert faults == [f"snapshot {snapshot[:8]}:"]
    commit(repository, source, parent_tree=tree)
    assert repository.check(read_data=True) == []


def test_of_a_truncated_pack_the_beginning_is_saved(
    bank: DictBank, repository: Repository, source: Path
) -> None:
    snapshot, _ = commit(repository, source)
    key, _ = _pack(repository, "a")
    bank.objects[key] = bank.objects[key][:450_000]
    result, faults = _repair(repository, read_data=False)
    assert (result.blobs_salvaged, result.blobs_lost) == (2, 1)
    assert len(faults) == 1
    assert content(repository, snapshot, "a") == (source / "a").read_bytes()


def test_a_prune_does_not_bring_back_what_was_found_damaged(
    bank: DictBank, repository: Repository, source: Path
) -> None:
    snapshot, tree = commit(repository, source)
    key, at = _pack(repository, "b")
    _flip(bank, key, at + 50)
    _repair(repository)
    assert run(repository).rescued_packs == 0
    commit(repository, source, parent_tree=tree)
    assert repository.check(read_data=True) == []
    assert content(repository, snapshot, "b") == (source / "b").read_bytes()


def test_a_prune_copies_what_is_needed_out_of_a_damaged_pack(
    bank: DictBank, repository: Repository, source: Path
) -> None:
    snapshot, _ = commit(repository, source)
    key, at = _pack(repository, "b")
    repository.forget(snapshot)
    run(repository)
    stored = {name: bytes(value) for name, value in bank.objects.items()}
    other, _ = commit(repository, source)
    for name in set(bank.objects) - set(stored):
        if name.startswith(("index/", "data/")):
            bank.delete(name)  # as if a foreign program had relied on what was pruned
    _flip(bank, key, at + 50)
    result = run(repository)
    assert result.rescued_packs == 1
    assert "1 data blobs" in result.notes[-1]
    assert content(repository, other, "a") == (source / "a").read_bytes()
    assert [fault.path for fault in repository.check(read_data=True)] == [f"snapshot {other[:8]}:/b"]


def test_it_works_alone(repository: Repository) -> None:
    with pytest.raises(InvalidInputError, match="exclusive"):
        repository.repair(repository.lock(now=NOW), clock=lambda: NOW)


@pytest.mark.slow
def test_restic_finds_no_error_in_what_was_repaired_and_healed(restic: Restic, source: Path) -> None:
    bank = FolderBank(restic.repository)
    commit(Repository.init(bank, passwords=[PASSWORD], now=NOW), source)
    (file,) = (restic.repository / "index").iterdir()
    file.write_bytes(b"noise")
    pack = max(
        (path for path in (restic.repository / "data").rglob("*") if path.is_file()), key=os.path.getsize
    )
    pack.write_bytes(pack.read_bytes()[:300_000])
    opened = Repository.open(bank, password=PASSWORD, now=NOW, read_index=False)
    result, faults = _repair(opened)
    assert (result.index_files_damaged, result.packs_found) == (1, 1)
    assert len(faults) == 3  # nothing tells what the truncated pack held
    commit(opened, source)
    assert "no errors were found" in restic.run("check", "--read-data")


def test_many_index_files_are_made_anew_one_at_a_time(
    bank: DictBank, repository: Repository, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index, "MAX_FILE_BLOBS", 4)
    for number in range(6):
        (source / f"more{number}").write_bytes(os.urandom(2000))
        commit(repository, source)
    files = [item.key for item in bank.list("index/")]
    bank.delete(files[0])
    key, at = _pack(repository, "more3")
    _flip(bank, key, at + 50)
    bank.delete(_pack(repository, "more4")[0])
    result, faults = _repair(repository)
    assert (result.packs_lost, result.packs_salvaged, result.blobs_lost) == (1, 1, 2)
    assert {path.rpartition("/")[2] for path in faults} == {"more3", "more4"}
    kept = [item.key for item in bank.list("index/")]
    assert len(kept) > 2
    assert not set(kept) & set(files)
    assert all(
        len([blob for _, blobs in index.load_file(bank, repository.key, one[6:]) for blob in blobs]) <= 8
        for one in kept
    )
    commit(repository, source)
    assert repository.check(read_data=True) == []


def test_of_a_pack_that_index_files_name_otherwise_one_entry_is_kept(
    bank: DictBank, repository: Repository, source: Path
) -> None:
    commit(repository, source)
    ((name, content_of),) = [(item.key, bank.objects[item.key]) for item in bank.list("index/")]
    named = index.load_file(bank, repository.key, name[6:])
    index.save_file(bank, repository.key, [(pack_id, blobs[:-1]) for pack_id, blobs in named])
    assert bank.objects[name] == content_of
    assert repository.check() != []
    _, faults = _repair(repository)
    assert faults == []
    assert repository.check(read_data=True) == []
