# SPDX-License-Identifier: Apache-2.0
"""The gate: restic checks and restores what we write, and we read what restic writes (I9)."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from seawall.repository import Repository, codec, nodes
from tests.repository import odd_tree
from tests.repository.banks import FolderBank
from tests.repository.conftest import NOW, PASSWORD, OpenLock, Restic, commit

pytestmark = pytest.mark.slow


@pytest.fixture
def ours(restic: Restic) -> Repository:
    """A repository made by us, where the ``restic`` fixture looks."""
    return Repository.init(FolderBank(restic.repository), passwords=["other", PASSWORD], now=NOW)


def _change(root: Path) -> None:
    with (root / "big").open("r+b") as file:
        file.seek(1_000_000)
        file.write(os.urandom(5000))
    (root / "new").write_bytes(os.urandom(50_000))
    (root / "plain.txt").unlink()


def test_restic_checks_and_restores_what_we_write(restic: Restic, ours: Repository, tmp_path: Path) -> None:
    source = tmp_path / "odd"
    odd_tree.make(source)
    _, tree = commit(ours, source)
    _change(source)
    snapshot, _ = commit(ours, source, parent_tree=tree)
    assert "no errors were found" in restic.run("check", "--read-data")
    restic.run("restore", snapshot, "--target", str(tmp_path / "out"))
    restored, wanted = odd_tree.describe(tmp_path / "out"), odd_tree.describe(source)
    for odd in (b"odd link",):  # restic 0.14 has no raw link targets: it writes U+FFFD
        restored.pop(odd)
        wanted.pop(odd)
    assert restored == wanted


def test_restic_lists_our_snapshots_with_tags_and_times(
    restic: Restic, ours: Repository, tmp_path: Path
) -> None:
    (tmp_path / "source").mkdir()
    snapshot, tree = commit(ours, tmp_path / "source")
    (listed,) = json.loads(restic.run("snapshots", "--json"))
    assert listed["id"] == snapshot
    assert listed["tree"] == tree
    assert listed["tags"] == ["seawall"]
    assert listed["time"] == "2026-03-04T05:06:07.890123Z"
    assert listed["hostname"] == "host"


def test_streams_and_nested_folders_are_dumped_by_restic(restic: Restic, ours: Repository) -> None:
    content = os.urandom(2_000_000)
    with ours.writer(OpenLock()) as writer:
        dump = writer.save_nodes([writer.save_stream("dump.sql", [content[:7], content[7:]])])
        manifest = writer.save_nodes([writer.save_bytes("checkpoint.json", b"{}")])
        tree = writer.save_nodes([writer.dir_node("0-database", dump), writer.dir_node(".seawall", manifest)])
        writer.commit(
            tree, hostname="h", username="u", paths=["/x"], tags=[], time=NOW, summary={"files_new": 2}
        )
    assert restic.run("dump", "latest", "/.seawall/checkpoint.json") == "{}"
    listed = restic.run("ls", "latest")
    assert "/0-database/dump.sql" in listed
    assert "no errors were found" in restic.run("check", "--read-data")


def test_we_restore_what_restic_writes(restic: Restic, tmp_path: Path) -> None:
    source = tmp_path / "odd"
    odd_tree.make(source)
    os.unlink(os.path.join(os.fsencode(source), b"odd link"))  # restic 0.14 loses such a target
    restic.run("init", "--repository-version", "2")
    restic.run("backup", str(source))
    opened = Repository.open(FolderBank(restic.repository), password=PASSWORD, now=NOW)
    (snapshot,) = opened.snapshots()
    tree = opened.find(snapshot.tree, str(source)).subtree
    assert tree is not None
    result = opened.restore(tree.hex(), tmp_path / "target")
    assert result.faults == ()
    assert odd_tree.describe(tmp_path / "target") == odd_tree.describe(source)


def test_a_tree_of_restic_reads_and_writes_back_to_the_same_bytes(restic: Restic, tmp_path: Path) -> None:
    odd_tree.make(tmp_path / "odd")
    os.unlink(os.path.join(os.fsencode(tmp_path / "odd"), b"odd link"))
    restic.run("init", "--repository-version", "2")
    restic.run("backup", str(tmp_path / "odd"), zone="UTC")
    opened = Repository.open(FolderBank(restic.repository), password=PASSWORD, now=NOW)
    (snapshot,) = opened.snapshots()
    tree = opened.find(snapshot.tree, str(tmp_path / "odd")).subtree
    assert tree is not None
    for node in opened.nodes(tree.hex()):
        _same_bytes(opened, node.subtree)
    _same_bytes(opened, tree)


def _same_bytes(opened: Repository, tree: bytes | None) -> None:
    if tree is not None:
        written = nodes.encode_tree(node.encode() for node in opened.nodes(tree.hex()))
        assert codec.content_id(written) == tree


def test_both_take_turns_on_one_repository(restic: Restic, ours: Repository, tmp_path: Path) -> None:
    source = tmp_path / "odd"
    odd_tree.make(source)
    commit(ours, source)
    restic.run("backup", str(source))
    _change(source)
    commit(ours, source)
    restic.run("backup", str(source))
    restic.run("forget", "--keep-last", "1", "--group-by", "host", "--prune")
    ours.refresh()
    commit(ours, source)
    assert "no errors were found" in restic.run("check", "--read-data")
    _, tree = commit(ours, source)
    assert ours.restore(tree, tmp_path / "target").faults == ()
    assert odd_tree.describe(tmp_path / "target") == odd_tree.describe(source)


def test_restic_opens_with_a_key_that_we_add_and_we_with_one_of_restic(
    restic: Restic, ours: Repository, tmp_path: Path
) -> None:
    (tmp_path / "password").write_text("made by restic\n")
    restic.run("key", "add", "--new-password-file", str(tmp_path / "password"))
    assert len(ours.keys()) == 3
    opened = Repository.open(FolderBank(restic.repository), password="made by restic", now=NOW)
    assert opened.id == ours.id
    assert json.loads(restic.run("cat", "config"))["id"] == ours.id


def test_a_flipped_byte_is_found_by_restic_and_by_us(
    restic: Restic, ours: Repository, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for number in range(5):
        (source / str(number)).write_bytes(os.urandom(100_000))
    _, tree = commit(ours, source)
    pack = max((restic.repository / "data").rglob("*"), key=lambda path: path.stat().st_size)
    content = bytearray(pack.read_bytes())
    content[250_000] ^= 4
    pack.chmod(0o600)
    pack.write_bytes(content)
    restic.run("check", "--read-data", code=1)
    result = ours.restore(tree, tmp_path / "target")
    assert [fault.path for fault in result.faults] == ["2"]
