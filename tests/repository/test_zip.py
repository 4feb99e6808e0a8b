# SPDX-License-Identifier: Apache-2.0
"""A folder or file of a snapshot comes out as a zip that any program reads."""

from __future__ import annotations

import io
import os
import stat
import zipfile
from pathlib import Path

import pytest

from seawall.core.errors import DamagedError, StateError
from seawall.repository import Node, Repository, nodes, zipped
from seawall.repository.pack import BlobType, pack_key
from tests.repository.banks import DictBank
from tests.repository.conftest import OpenLock, commit


def _archive(repository: Repository, tree: str, path: str = "") -> zipfile.ZipFile:
    archive = zipfile.ZipFile(io.BytesIO(b"".join(repository.zip(tree, path))))
    assert archive.testzip() is None
    return archive


def test_files_folders_and_links_come_out(repository: Repository, tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "file").write_bytes(b"x" * 700)
    (tmp_path / "a" / "b" / "file").chmod(0o640)
    os.utime(tmp_path / "a" / "b" / "file", ns=(10**18, 10**18 + 7))
    (tmp_path / "a" / "big").write_bytes(big := os.urandom(3_000_000))
    (tmp_path / "a" / "link").symlink_to("b/file")
    (tmp_path / "empty").write_bytes(b"")
    os.mkfifo(tmp_path / "pipe")
    _, tree = commit(repository, tmp_path)
    archive = _archive(repository, tree)
    names = ["a/", "a/b/", "a/b/file", "a/big", "a/link", "empty"]
    assert archive.namelist() == names
    assert archive.read("a/big") == big
    assert archive.read("a/link") == b"b/file"
    assert stat.S_ISLNK(archive.getinfo("a/link").external_attr >> 16)
    info = archive.getinfo("a/b/file")
    assert (info.external_attr >> 16, info.date_time) == (stat.S_IFREG | 0o640, (2001, 9, 9, 1, 46, 40))
    assert _archive(repository, tree, "a/b").namelist() == ["b/", "b/file"]
    assert _archive(repository, tree, "a/b/file").read("file") == b"x" * 700


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (b"50% of it", "50% of it"),
        (b"..\\up", "..%5Cup"),
        (b"a\\100%", "a%5C100%25"),
        (b"latin \xe9", "latin %E9"),
        (b"line\nend", "line%0Aend"),
        ("größe".encode(), "größe"),
    ],
)
def test_a_name_that_is_no_plain_text_is_escaped(repository: Repository, name: bytes, shown: str) -> None:
    with repository.writer(OpenLock()) as writer:
        tree = writer.save_nodes([Node(name, nodes.FILE)])
        writer.flush()
    assert _archive(repository, tree).namelist() == [shown]


def test_it_breaks_off_before_wrong_bytes(bank: DictBank, repository: Repository, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(os.urandom(1000))
    _, tree = commit(repository, tmp_path)
    (blob_id,) = next(repository.nodes(tree)).content
    place = repository.index.find(blob_id, BlobType.DATA)
    assert place is not None
    key = pack_key(place.pack_id)
    content = bytearray(bank.objects[key])
    content[place.blob.offset + 50] ^= 1
    bank.objects[key] = bytes(content)
    given: list[bytes] = []
    with pytest.raises(DamagedError):
        given.extend(repository.zip(tree))
    assert not zipfile.is_zipfile(io.BytesIO(b"".join(given)))


def test_hostile_trees_and_too_many_entries_are_refused(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    with repository.writer(OpenLock()) as writer:
        blob = writer.save_whole(b"content")
        lie = writer.save_nodes([Node(b"a", nodes.FILE, size=3, content=[blob])])
        short = writer.save_nodes([Node(b"a", nodes.FILE, size=9, content=[blob])])
        up = writer.save_tree([Node(b"../a", nodes.FILE).encode()]).hex()
        twice = writer.save_tree([Node(b"a", nodes.FILE).encode()] * 2).hex()
        many = writer.save_nodes([Node(bytes((65 + at,)), nodes.FILE) for at in range(4)])
        writer.flush()
    for tree, words in (
        (lie, "expected 3"),
        (short, "expected 9"),
        (up, "no file can have"),
        (twice, "twice"),
    ):
        with pytest.raises(DamagedError, match=words):
            list(repository.zip(tree))
    monkeypatch.setattr(zipped, "MAX_ENTRIES", 3)
    with pytest.raises(StateError, match="too many for a zip"):
        list(repository.zip(many))
