# SPDX-License-Identifier: Apache-2.0
"""The snapshot is the commit point: nothing refers to what is not durable (I5, I12)."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

import pytest

from seawall.core.errors import (
    BankError,
    BankObjectMissingError,
    ConflictError,
    DamagedError,
    LeaseLostError,
    NotFoundError,
    StateError,
)
from seawall.repository import Repository, Writer
from seawall.sdk.bank import Chunks
from tests.repository.banks import DictBank
from tests.repository.conftest import NOW, OpenLock, commit, fresh


def _commit(writer: Writer, tree: str, **options: object) -> str:
    words: dict[str, object] = {"hostname": "h", "username": "u", "paths": ["/p"], "tags": [], "time": NOW}
    return writer.commit(tree, **(words | options))  # type: ignore[arg-type]


def test_packs_come_first_then_the_index_then_the_snapshot(tmp_path: Path) -> None:
    bank = DictBank()
    (tmp_path / "file").write_bytes(os.urandom(40_000_000))
    repository = fresh(bank)
    bank.acts.clear()
    commit(repository, tmp_path)
    kinds = [key.split("/")[0] for act, key in bank.acts]
    assert kinds == ["data"] * (len(kinds) - 2) + ["index", "snapshots"]
    assert len(kinds) >= 5


def test_a_snapshot_says_what_it_was_given(repository: Repository) -> None:
    with repository.writer(OpenLock()) as writer:
        tree = writer.save_nodes([writer.save_bytes("a", b"x")])
        made = _commit(writer, tree, tags=["seawall", "plan:1"], parent="ab" * 32, summary={"files_new": 1})
        other = _commit(writer, tree, tags=["seawall", "plan:2"], time=NOW + timedelta(days=1))
    found = repository.snapshot(made)
    assert (found.tree, found.time, found.hostname, found.paths) == (tree, NOW, "h", ("/p",))
    assert (found.parent, found.summary) == ("ab" * 32, {"files_new": 1})
    assert [one.id for one in repository.snapshots()] == [made, other]
    assert [one.id for one in repository.snapshots(["plan:2", "seawall"])] == [other]
    repository.forget(made)
    repository.forget(made)
    assert [one.id for one in repository.snapshots()] == [other]
    with pytest.raises(BankObjectMissingError):
        repository.snapshot(made)


def test_no_snapshot_is_written_when_the_check_raises(bank: DictBank, repository: Repository) -> None:
    def lost() -> None:
        raise LeaseLostError("taken over")

    with repository.writer(OpenLock()) as writer:
        tree = writer.save_nodes([])
        with pytest.raises(LeaseLostError, match="taken over"):
            _commit(writer, tree, check=lost)
    assert repository.snapshots() == []
    assert any(bank.list("index/"))


def test_no_snapshot_is_written_under_an_expired_lock(repository: Repository, lock: OpenLock) -> None:
    with repository.writer(lock) as writer:
        tree = writer.save_nodes([])
        lock.expired = True
        with pytest.raises(LeaseLostError, match="expired"):
            _commit(writer, tree)
    assert repository.snapshots() == []


def test_no_snapshot_is_written_when_a_reused_pack_is_gone(
    bank: DictBank, repository: Repository, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(b"content")
    _, tree = commit(repository, tmp_path)
    for key in [info.key for info in bank.list("data/")]:
        saved = bank.objects.pop(key)
        with repository.writer(OpenLock()) as writer:
            result = writer.save_path(tmp_path, parent_tree=tree)
            with pytest.raises(ConflictError, match="gone"):
                _commit(writer, result.tree_id)
        bank.objects[key] = saved
    assert len(repository.snapshots()) == 1


def test_no_snapshot_is_made_of_a_tree_that_was_never_saved(repository: Repository) -> None:
    with repository.writer(OpenLock()) as writer, pytest.raises(DamagedError, match="no index"):
        _commit(writer, "ab" * 32)


class FullBank(DictBank):
    """Refuses packs when told to, as a full disk."""

    full = False

    def put(self, key: str, content: bytes | Chunks, *, create_only: bool = False) -> None:
        if self.full and key.startswith("data/"):
            raise BankError("no space is left on the bank")
        super().put(key, content, create_only=create_only)


@pytest.mark.parametrize("size", [10, 60_000_000])
def test_an_error_of_the_bank_reaches_the_caller_and_ends_the_writer(tmp_path: Path, size: int) -> None:
    bank = FullBank()
    repository = fresh(bank)
    (tmp_path / "file").write_bytes(os.urandom(size))
    with repository.writer(OpenLock()) as writer:
        bank.full = True
        with pytest.raises(BankError, match="no space"):
            _commit(writer, writer.save_path(tmp_path).tree_id)
        bank.full = False
        with pytest.raises(StateError):
            writer.flush()
    assert repository.snapshots() == []
    commit(repository, tmp_path)


def test_a_snapshot_that_reads_back_differently_is_an_error() -> None:
    class Lying(DictBank):
        def get(self, key: str, *, offset: int = 0, length: int | None = None) -> bytes:
            content = super().get(key, offset=offset, length=length)
            return content[:-1] if key.startswith("snapshots/") else content

    repository = fresh(Lying())
    with repository.writer(OpenLock()) as writer:
        tree = writer.save_nodes([])
        with pytest.raises(DamagedError, match="reads back"):
            _commit(writer, tree)


def test_two_open_repositories_see_what_the_other_stored(bank: DictBank, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    one = fresh(bank)
    two = Repository(bank, one.key, one._config, "", NOW)
    _, tree = commit(one, tmp_path)
    assert not two.has_tree(tree)
    assert b"".join(two.read_file(two.find(tree, "file"))) == b"content"
    with two.writer(OpenLock()) as writer:
        assert writer.save_path(tmp_path).added_bytes == 0


def test_find_says_what_is_missing(repository: Repository, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    _, tree = commit(repository, tmp_path)
    for path in ("missing", "file/below"):
        with pytest.raises(NotFoundError):
            repository.find(tree, path)
    assert repository.find(tree, "/").subtree == bytes.fromhex(tree)
