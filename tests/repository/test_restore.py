# SPDX-License-Identifier: Apache-2.0
"""Restore brings everything back, stays within its target, and a damaged file harms no other."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from seawall.core.errors import DamagedError, InvalidInputError
from seawall.repository import Node, Repository, nodes
from seawall.repository.pack import BlobType, pack_key
from tests.repository import odd_tree
from tests.repository.banks import DictBank
from tests.repository.conftest import OpenLock, commit


def test_everything_a_folder_can_hold_comes_back(repository: Repository, tmp_path: Path) -> None:
    odd_tree.make(tmp_path / "odd")
    before = odd_tree.describe(tmp_path / "odd")
    _, tree = commit(repository, tmp_path / "odd")
    result = repository.restore(tree, tmp_path / "deep" / "target")
    assert result.faults == ()
    assert odd_tree.describe(tmp_path / "deep" / "target") == before
    assert result.items == len(before)


def test_a_second_restore_writes_nothing(repository: Repository, tmp_path: Path) -> None:
    odd_tree.make(tmp_path / "odd")
    before = odd_tree.describe(tmp_path / "odd")
    _, tree = commit(repository, tmp_path / "odd")
    repository.restore(tree, tmp_path / "target")
    inode = (tmp_path / "target" / "big").stat().st_ino
    again = repository.restore(tree, tmp_path / "target")
    assert (again.bytes, again.faults, again.items) == (0, (), len(before))
    assert (tmp_path / "target" / "big").stat().st_ino == inode
    assert odd_tree.describe(tmp_path / "target") == before


def test_holes_are_not_written(repository: Repository, tmp_path: Path) -> None:
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(50_000_000)
    _, tree = commit(repository, tmp_path)
    repository.restore(tree, tmp_path / "target")
    found = (tmp_path / "target" / "sparse").stat()
    assert (found.st_size, found.st_blocks) == (50_000_000, 0)


def _three(repository: Repository, source: Path) -> str:
    source.mkdir()
    for name in ("a", "b", "c"):
        (source / name).write_bytes(os.urandom(200_000))
    return commit(repository, source)[1]


def test_different_files_are_replaced_and_others_stay(repository: Repository, tmp_path: Path) -> None:
    tree = _three(repository, tmp_path / "source")
    target = tmp_path / "target"
    target.mkdir()
    (target / "a").write_bytes(b"other")
    (target / "b").write_bytes((tmp_path / "source" / "b").read_bytes())
    (target / "mine").write_bytes(b"mine")
    outside = tmp_path / "outside"
    outside.write_bytes(b"outside")
    (target / "c").symlink_to(outside)
    result = repository.restore(tree, target)
    assert (result.items, result.bytes, result.faults) == (3, 400_000, ())
    assert {path.name for path in target.iterdir()} == {"a", "b", "c", "mine"}
    assert outside.read_bytes() == b"outside"
    for name in ("a", "b", "c"):
        assert (target / name).read_bytes() == (tmp_path / "source" / name).read_bytes()
        assert (target / name).stat().st_mtime_ns == (tmp_path / "source" / name).stat().st_mtime_ns


def test_keep_leaves_what_is_there(repository: Repository, tmp_path: Path) -> None:
    tree = _three(repository, tmp_path / "source")
    target = tmp_path / "target"
    target.mkdir()
    (target / "a").write_bytes(b"other")
    result = repository.restore(tree, target, overwrite="keep")
    assert (target / "a").read_bytes() == b"other"
    assert (result.items, result.faults) == (2, ())


def test_a_further_name_outside_the_target_is_not_touched(repository: Repository, tmp_path: Path) -> None:
    tree = _three(repository, tmp_path / "source")
    target = tmp_path / "target"
    target.mkdir()
    (tmp_path / "outside").write_bytes((tmp_path / "source" / "a").read_bytes())
    (tmp_path / "outside").chmod(0o600)
    os.link(tmp_path / "outside", target / "a")
    before = (tmp_path / "outside").stat().st_mtime_ns
    repository.restore(tree, target)
    assert stat.S_IMODE((tmp_path / "outside").stat().st_mode) == 0o600
    assert (tmp_path / "outside").stat().st_mtime_ns == before


def test_a_symlink_in_place_of_a_folder_is_replaced_not_followed(
    repository: Repository, tmp_path: Path
) -> None:
    (tmp_path / "source" / "folder").mkdir(parents=True)
    (tmp_path / "source" / "folder" / "file").write_bytes(b"x")
    _, tree = commit(repository, tmp_path / "source")
    (tmp_path / "outside").mkdir()
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / "folder").symlink_to(tmp_path / "outside")
    assert repository.restore(tree, tmp_path / "target").faults == ()
    assert list((tmp_path / "outside").iterdir()) == []
    assert (tmp_path / "target" / "folder" / "file").read_bytes() == b"x"


def test_a_folder_in_place_of_a_file_is_a_fault(repository: Repository, tmp_path: Path) -> None:
    tree = _three(repository, tmp_path / "source")
    (tmp_path / "target" / "b" / "full").mkdir(parents=True)
    result = repository.restore(tree, tmp_path / "target")
    assert [(fault.path, fault.reason) for fault in result.faults] == [
        ("b", "a folder is in its place and is not replaced")
    ]
    assert (tmp_path / "target" / "b" / "full").is_dir()
    assert result.items == 2


@pytest.mark.parametrize("name", [b"..", b".", b"", b"a/../../evil", b"/evil", b"a\0b"])
def test_names_of_a_hostile_tree_lead_nowhere(repository: Repository, tmp_path: Path, name: bytes) -> None:
    with repository.writer(OpenLock()) as writer:
        good = writer.save_bytes("good", b"x")
        inner = writer.save_nodes([good])
        bad_file = writer.save_bytes("bad", b"evil")
        bad_file.name = name
        bad_folder = writer.dir_node("bad", inner)
        bad_folder.name = name
        tree = writer.save_tree([good.encode(), bad_file.encode(), bad_folder.encode()])
        writer.flush()
    (tmp_path / "target").mkdir()
    result = repository.restore(tree.hex(), tmp_path / "target")
    assert len(result.faults) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["target"]
    assert [path.name for path in (tmp_path / "target").iterdir()] == ["good"]


def test_chosen_paths_are_restored_and_nothing_else(repository: Repository, tmp_path: Path) -> None:
    for name in ("a/b/one", "a/b/two", "a/c/three", "d/four"):
        path = tmp_path / "source" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    _, tree = commit(repository, tmp_path / "source")
    target = tmp_path / "target"
    result = repository.restore(tree, target, include=["a/b/one", "/d/", "missing/x"])
    files = sorted(str(path.relative_to(target)) for path in target.rglob("*") if path.is_file())
    assert files == ["a/b/one", "d/four"]
    assert [str(fault) for fault in result.faults] == ["missing/x: is not in the tree"]
    for bad in ("", "/", "../x", "a/../../x"):
        with pytest.raises(InvalidInputError):
            repository.restore(tree, target, include=[bad])


def _damage(bank: DictBank, repository: Repository, node: Node) -> None:
    place = repository.index.find(node.content[0], BlobType.DATA)
    assert place is not None
    content = bytearray(bank.objects[pack_key(place.pack_id)])
    content[place.blob.offset + 20] ^= 1
    bank.objects[pack_key(place.pack_id)] = bytes(content)


def test_a_damaged_file_is_a_fault_and_the_rest_comes_back(
    bank: DictBank, repository: Repository, tmp_path: Path
) -> None:
    tree = _three(repository, tmp_path / "source")
    _damage(bank, repository, repository.find(tree, "b"))
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / "b").write_bytes(b"the old one")
    result = repository.restore(tree, tmp_path / "target")
    assert [fault.path for fault in result.faults] == ["b"]
    assert "not what was written" in result.faults[0].reason
    assert sorted(path.name for path in (tmp_path / "target").iterdir()) == ["a", "b", "c"]
    assert (tmp_path / "target" / "b").read_bytes() == b"the old one"
    assert (tmp_path / "target" / "c").read_bytes() == (tmp_path / "source" / "c").read_bytes()


def test_a_missing_pack_is_a_fault_of_each_file_in_it(
    bank: DictBank, repository: Repository, tmp_path: Path
) -> None:
    tree = _three(repository, tmp_path / "source")
    place = repository.index.find(repository.find(tree, "a").content[0], BlobType.DATA)
    assert place is not None
    bank.delete(pack_key(place.pack_id))
    result = repository.restore(tree, tmp_path / "target")
    assert [fault.path for fault in result.faults] == ["a", "b", "c"]
    assert all("is missing" in fault.reason for fault in result.faults)


def test_a_blob_that_is_damaged_in_one_pack_is_taken_from_another(
    bank: DictBank, repository: Repository, tmp_path: Path
) -> None:
    tree = _three(repository, tmp_path / "source")
    other = Repository(bank, repository.key, repository._config, "", repository._opened)
    with other.writer(OpenLock()) as writer:
        writer._index = type(repository.index)()  # a writer that ran at the same time knew nothing of ours
        writer._packer._index = writer._index
        writer.save_path(tmp_path / "source")
        writer.flush()
    _damage(bank, repository, repository.find(tree, "b"))
    repository.refresh()
    assert repository.restore(tree, tmp_path / "target").faults == ()


def test_a_damaged_root_tree_is_an_error(bank: DictBank, repository: Repository, tmp_path: Path) -> None:
    with pytest.raises(DamagedError):
        repository.restore("ab" * 32, tmp_path / "target")
    assert not (tmp_path / "target").exists()


def test_a_target_that_is_no_folder_is_refused(repository: Repository, tmp_path: Path) -> None:
    tree = _three(repository, tmp_path / "source")
    with pytest.raises(InvalidInputError, match="target"):
        repository.restore(tree, tmp_path / "source" / "a")
    with pytest.raises(InvalidInputError, match="overwrite"):
        repository.restore(tree, tmp_path / "target", overwrite="ask")  # type: ignore[arg-type]


def test_what_a_killed_restore_left_is_replaced(repository: Repository, tmp_path: Path) -> None:
    tree = _three(repository, tmp_path / "source")
    repository.restore(tree, tmp_path / "target")
    from seawall.repository.restore import _part_name

    (tmp_path / "target" / "a").unlink()
    (tmp_path / "target" / os.fsdecode(_part_name(b"a"))).write_bytes(b"half")
    repository.restore(tree, tmp_path / "target")
    assert sorted(path.name for path in (tmp_path / "target").iterdir()) == ["a", "b", "c"]


def test_kinds_that_we_do_not_know_are_faults(repository: Repository, tmp_path: Path) -> None:
    odd = Node(b"s", nodes.FIFO).encode().replace('"fifo"', '"socket"')
    with repository.writer(OpenLock()) as writer:
        tree = writer.save_tree([odd])
        writer.flush()
    result = repository.restore(tree.hex(), tmp_path / "target")
    assert [str(fault) for fault in result.faults] == ["s: is of the kind 'socket', which is not restored"]
    assert list((tmp_path / "target").iterdir()) == []


def test_if_changed_trusts_size_and_time_and_always_does_not(repository: Repository, tmp_path: Path) -> None:
    tree = _three(repository, tmp_path / "source")
    target = tmp_path / "target"
    repository.restore(tree, target)
    stamp = (target / "a").stat().st_mtime_ns
    (target / "a").write_bytes(b"x" * 200_000)
    os.utime(target / "a", ns=(stamp, stamp))
    (target / "b").write_bytes(b"another size")
    assert repository.restore(tree, target, overwrite="if-changed").bytes == 200_000
    assert (target / "a").read_bytes() == b"x" * 200_000
    assert repository.restore(tree, target, overwrite="always").bytes == 200_000
    assert (target / "a").read_bytes() == (tmp_path / "source" / "a").read_bytes()
    (target / "a").write_bytes(b"mine")
    assert repository.restore(tree, target, overwrite="never").bytes == 0
    assert (target / "a").read_bytes() == b"mine"


def test_a_dry_run_says_what_a_restore_then_does_and_writes_nothing(
    repository: Repository, tmp_path: Path
) -> None:
    odd_tree.make(tmp_path / "odd")
    _, tree = commit(repository, tmp_path / "odd")
    target = tmp_path / "target"
    everything = repository.restore(tree, target, dry_run=True)
    assert not target.exists()
    target.mkdir()
    (target / "big").write_bytes(b"other")
    (target / "plain.txt").write_bytes(b"")
    (target / "folder").symlink_to(tmp_path / "odd")
    before = odd_tree.describe(target)
    foreseen = repository.restore(tree, target, dry_run=True)
    assert odd_tree.describe(target) == before
    assert foreseen == everything
    done = repository.restore(tree, target)
    assert (done.items, done.faults) == (foreseen.items, foreseen.faults)
    assert odd_tree.describe(target) == odd_tree.describe(tmp_path / "odd")
    assert repository.restore(tree, target, dry_run=True).bytes == 0


def test_a_dry_run_tells_of_what_is_lost(bank: DictBank, repository: Repository, tmp_path: Path) -> None:
    tree = _three(repository, tmp_path / "source")
    repository.index.clear()
    repository.refresh()
    (file,) = list(bank.list("index/"))
    bank.delete(file.key)
    repository.refresh()
    with pytest.raises(DamagedError):
        repository.restore(tree, tmp_path / "target", dry_run=True)


def test_acls_come_back(repository: Repository, tmp_path: Path) -> None:
    """As the extended attributes that the kernel keeps them in: user 1 may read."""
    acl = bytes.fromhex(
        "0200000001000600ffffffff020004000100000004000400ffffffff10000400ffffffff20000400ffffffff"
    )
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "file").write_bytes(b"x")
    try:
        os.setxattr(tmp_path / "source" / "file", "system.posix_acl_access", acl)
    except OSError:
        pytest.skip("this file system has no ACLs")
    _, tree = commit(repository, tmp_path / "source")
    assert repository.restore(tree, tmp_path / "target").faults == ()
    assert os.getxattr(tmp_path / "target" / "file", "system.posix_acl_access") == acl
    assert odd_tree.describe(tmp_path / "target") == odd_tree.describe(tmp_path / "source")
