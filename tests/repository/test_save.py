# SPDX-License-Identifier: Apache-2.0
"""Saving a path: what is stored, what is read again, what is left out, what is a fault."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from seawall.core.errors import InvalidInputError, SourceError
from seawall.repository import Repository, Writer
from seawall.repository.pack import BlobType
from seawall.sdk.protection import SourceFault
from tests.repository import odd_tree
from tests.repository.banks import DictBank
from tests.repository.conftest import OpenLock, commit, fresh

PROJECT = Path(__file__).parents[2]


def _content(repository: Repository, tree: str, path: str) -> bytes:
    return b"".join(repository.read_file(repository.find(tree, path)))


def test_content_comes_back(repository: Repository, tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "file").write_bytes(os.urandom(3_000_000))
    (tmp_path / "a" / "empty").write_bytes(b"")
    _, tree = commit(repository, tmp_path)
    assert _content(repository, tree, "a/b/file") == (tmp_path / "a" / "b" / "file").read_bytes()
    assert _content(repository, tree, "a/empty") == b""


def test_a_file_as_root_is_a_tree_of_one(repository: Repository, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    _, tree = commit(repository, tmp_path / "file")
    assert [node.name for node in repository.nodes(tree)] == [b"file"]
    assert _content(repository, tree, "file") == b"content"


def test_the_same_content_is_stored_once(bank: DictBank, repository: Repository, tmp_path: Path) -> None:
    content = os.urandom(1_000_000)
    for number in range(5):
        (tmp_path / str(number)).write_bytes(content)
    commit(repository, tmp_path)
    assert sum(info.size_bytes for info in bank.list("data/")) < 1_100_000


def test_figures_say_what_was_read_and_added(repository: Repository, tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(os.urandom(100_000))
    (tmp_path / "two").write_bytes((tmp_path / "one").read_bytes())
    seen: list[tuple[int, int]] = []
    with repository.writer(OpenLock()) as writer:
        first = writer.save_path(tmp_path, progress=lambda done, items: seen.append((done, items)))
        again = writer.save_path(tmp_path)
    assert (first.items, first.read_bytes) == (3, 200_000)
    assert 100_000 < first.added_bytes < 102_000
    assert seen[-1] == (200_000, 3)
    assert again.tree_id == first.tree_id
    assert again.added_bytes == 0


def test_an_unchanged_file_is_not_opened(repository: Repository, tmp_path: Path) -> None:
    odd_tree.make(tmp_path / "odd")
    _, tree = commit(repository, tmp_path / "odd")
    with repository.writer(OpenLock()) as writer:
        again = writer.save_path(tmp_path / "odd", parent_tree=tree)
    assert (again.read_bytes, again.tree_id) == (0, tree)


@pytest.mark.parametrize("change", ["content", "size", "time", "replaced"])
def test_a_changed_file_is_read(repository: Repository, tmp_path: Path, change: str) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"before")
    _, tree = commit(repository, tmp_path)
    found = file.stat()
    if change == "content":  # the old modification time is put back: the change time tells
        file.write_bytes(b"after!")
        os.utime(file, ns=(0, found.st_mtime_ns))
    elif change == "size":
        file.write_bytes(b"longer than before")
    elif change == "time":
        os.utime(file, ns=(0, 1))
    else:
        (tmp_path / "new").write_bytes(b"after!")
        os.utime(tmp_path / "new", ns=(0, found.st_mtime_ns))
        (tmp_path / "new").rename(file)
    with repository.writer(OpenLock()) as writer:
        again = writer.save_path(tmp_path, parent_tree=tree)
        writer.flush()
    assert again.read_bytes == file.stat().st_size
    assert _content(repository, again.tree_id, "file") == file.read_bytes()


def test_an_unchanged_file_with_a_lost_chunk_is_read_again(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    first, other = DictBank(), DictBank()
    repository = fresh(first)
    _, tree = commit(repository, tmp_path)
    trees_only = Repository(other, repository.key, repository._config, "", repository._opened)
    with trees_only.writer(OpenLock()) as writer:
        writer.save_tree([node.encode() for node in repository.nodes(tree)])
        writer.flush()
        assert trees_only.has_tree(tree)
        again = writer.save_path(tmp_path, parent_tree=tree)
        writer.flush()
    assert (again.read_bytes, again.tree_id) == (7, tree)
    assert _content(trees_only, tree, "file") == b"content"


def test_a_parent_that_is_gone_or_damaged_costs_only_reading(repository: Repository, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    with repository.writer(OpenLock()) as writer:
        assert writer.save_path(tmp_path, parent_tree="00" * 32).read_bytes == 7


def test_excluded_paths_are_left_out_with_all_beneath(repository: Repository, tmp_path: Path) -> None:
    for name in ("keep", "drop", "drop-not"):
        (tmp_path / name / "in").mkdir(parents=True)
    (tmp_path / "keep" / "file").write_bytes(b"x")
    excludes = [str(tmp_path / "drop"), str(tmp_path / "keep" / "file") + "/", "/elsewhere"]
    _, tree = commit(repository, tmp_path, excludes=excludes)
    assert [node.name for node in repository.nodes(tree)] == [b"drop-not", b"keep"]
    assert [node.name for node in repository.nodes(repository.find(tree, "keep").subtree.hex())] == [b"in"]  # type: ignore[union-attr]


@pytest.mark.parametrize("excluded", ["", "..", "../.."])
def test_a_root_within_an_exclude_is_refused(repository: Repository, tmp_path: Path, excluded: str) -> None:
    with repository.writer(OpenLock()) as writer, pytest.raises(SourceError, match="left out"):
        writer.save_path(tmp_path, excludes=[str(tmp_path / excluded)])


def test_a_root_that_is_missing_a_link_or_relative_is_refused(repository: Repository, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    with repository.writer(OpenLock()) as writer:
        for path in (tmp_path / "missing", tmp_path / "link", Path("relative")):
            with pytest.raises(SourceError, match=str(path)):
                writer.save_path(path)


def test_sockets_are_left_out_without_a_fault(repository: Repository, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(tmp_path / "socket"))
        _, tree = commit(repository, tmp_path)
    assert list(repository.nodes(tree)) == []


def test_symlinks_are_stored_and_never_followed(repository: Repository, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"outside")
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "link").symlink_to(tmp_path / "secret")
    (tmp_path / "root" / "up").symlink_to("..")
    _, tree = commit(repository, tmp_path / "root")
    assert [(node.name, node.type) for node in repository.nodes(tree)] == [
        (b"link", "symlink"),
        (b"up", "symlink"),
    ]


def test_a_file_that_shrinks_while_it_is_read_is_a_fault(repository: Repository, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(os.urandom(20_000_000))
    (tmp_path / "then").write_bytes(b"x")

    class Shrinking(Writer):
        def save_chunks(self, source, chunker):  # type: ignore[no-untyped-def]
            os.truncate(file, 5_000_000)
            return super().save_chunks(source, chunker)

    with Shrinking(repository.bank, repository.key, repository.index, OpenLock()) as writer:
        result = writer.save_path(tmp_path)
    reason = "only 5000000 of 20000000 bytes could be read: it shrank meanwhile"
    assert result.faults == (SourceFault(str(file), reason),)
    assert result.items == 3


def test_folders_nested_too_deeply_are_a_fault(repository: Repository, tmp_path: Path) -> None:
    here = os.open(tmp_path, os.O_RDONLY)
    for _ in range(300):
        os.mkdir("d", dir_fd=here)
        inner = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    os.close(here)
    with repository.writer(OpenLock()) as writer:
        result = writer.save_path(tmp_path)
    assert [fault.reason for fault in result.faults] == ["lies more than 250 folders deep"]


def test_streams_bytes_and_folders_make_a_tree(repository: Repository) -> None:
    parts = [os.urandom(300_000) for _ in range(5)]
    with repository.writer(OpenLock()) as writer:
        dump = writer.save_stream("dump.sql", iter(parts), mode=0o640)
        manifest = writer.save_bytes("manifest.json", b"{}")
        inner = writer.save_nodes([manifest, dump])
        tree = writer.save_nodes([writer.dir_node(".seawall", inner)])
        writer.flush()
    assert _content(repository, tree, ".seawall/dump.sql") == b"".join(parts)
    assert repository.find(tree, ".seawall/dump.sql").size == 1_500_000
    assert _content(repository, tree, ".seawall/manifest.json") == b"{}"
    assert repository.has_tree(tree)


def test_a_stream_whose_producer_fails_leaves_nothing_that_refers_to_it(repository: Repository) -> None:
    def failing() -> Iterator[bytes]:
        yield b"x" * 1000
        raise SourceError("the producer exited with 3")

    with repository.writer(OpenLock()) as writer, pytest.raises(SourceError, match="exited with 3"):
        writer.save_stream("dump", failing())


def test_two_entries_of_one_name_and_names_that_no_file_has_are_refused(repository: Repository) -> None:
    with repository.writer(OpenLock()) as writer:
        with pytest.raises(InvalidInputError, match="twice"):
            writer.save_nodes([writer.save_bytes("a", b"1"), writer.save_bytes("a", b"2")])
        for name in ("", ".", "..", "a/b", "a\0b"):
            with pytest.raises(InvalidInputError):
                writer.save_bytes(name, b"")


def test_hard_links_are_read_once(repository: Repository, tmp_path: Path) -> None:
    (tmp_path / "first").write_bytes(os.urandom(10_000))
    os.link(tmp_path / "first", tmp_path / "second")
    with repository.writer(OpenLock()) as writer:
        result = writer.save_path(tmp_path)
        writer.flush()
    first, second = repository.nodes(result.tree_id)
    assert result.read_bytes == 10_000
    assert (first.inode, first.device_id, first.links, first.content) == (
        second.inode,
        second.device_id,
        2,
        second.content,
    )
    assert repository.index.has(first.content[0], BlobType.DATA)


@pytest.mark.skipif(os.geteuid() != 0, reason="drops privileges in a child, which only root can")
def test_what_cannot_be_opened_is_a_fault_and_the_rest_is_stored(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "closed").mkdir(parents=True)
    (root / "open").write_bytes(b"x")
    (root / "secret").write_bytes(b"y")
    (root / "secret").chmod(0)
    (root / "closed").chmod(0)
    for folder in (tmp_path, *tmp_path.parents):  # nobody must reach the folder at all
        if folder.stat().st_uid == os.geteuid() and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o011)
    done = subprocess.run(
        [sys.executable, "-m", "tests.repository.unprivileged_child", str(root)],
        cwd=PROJECT,
        capture_output=True,
        check=True,
    )
    assert json.loads(done.stdout) == [
        2,
        [
            [str(root / "closed"), "Permission denied"],
            [str(root / "secret"), "Permission denied"],
        ],
    ]
