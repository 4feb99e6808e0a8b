# SPDX-License-Identifier: Apache-2.0
"""A folder or file of a snapshot comes out as a tar that any tar reads."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from seawall.core.errors import DamagedError
from seawall.repository import Repository
from seawall.repository.pack import BlobType, pack_key
from tests.repository import odd_tree
from tests.repository.banks import DictBank
from tests.repository.conftest import OpenLock, commit


def _members(repository: Repository, tree: str, path: str = "") -> dict[str, bytes | None]:
    content = io.BytesIO(b"".join(repository.tar(tree, path)))
    with tarfile.open(fileobj=content, mode="r:") as archive:
        found: dict[str, bytes | None] = {}
        for member in archive:
            file = archive.extractfile(member) if member.isreg() else None
            found[member.name] = file.read() if file is not None else None
        return found


def test_one_file_or_one_folder_is_streamed(repository: Repository, tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "file").write_bytes(b"x" * 700)
    (tmp_path / "a" / "big").write_bytes(os.urandom(3_000_000))
    _, tree = commit(repository, tmp_path)
    assert _members(repository, tree, "a/b/file") == {"file": b"x" * 700}
    assert _members(repository, tree, "a/b") == {"b": None, "b/file": b"x" * 700}
    assert set(_members(repository, tree)) == {"a", "a/b", "a/b/file", "a/big"}
    assert _members(repository, tree)["a/big"] == (tmp_path / "a" / "big").read_bytes()


@pytest.mark.skipif(shutil.which("tar") is None, reason="GNU tar is not installed")
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can restore owners and devices")
def test_tar_restores_everything_a_folder_can_hold(repository: Repository, tmp_path: Path) -> None:
    odd_tree.make(tmp_path / "odd")
    _, tree = commit(repository, tmp_path / "odd")
    (tmp_path / "out").mkdir()
    subprocess.run(
        ["tar", "-x", "-p", "--xattrs", "--numeric-owner", "-C", str(tmp_path / "out")],
        input=b"".join(repository.tar(tree)),
        check=True,
    )
    assert odd_tree.describe(tmp_path / "out") == odd_tree.describe(tmp_path / "odd")


def test_it_breaks_off_before_wrong_bytes(bank: DictBank, repository: Repository, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content" * 100)
    _, tree = commit(repository, tmp_path)
    place = repository.index.find(repository.find(tree, "file").content[0], BlobType.DATA)
    assert place is not None
    key = pack_key(place.pack_id)
    bank.objects[key] = bytes([bank.objects[key][0] ^ 1]) + bank.objects[key][1:]
    found: list[bytes] = []
    with pytest.raises(DamagedError):
        found.extend(repository.tar(tree))
    assert b"content" not in b"".join(found)


def test_a_size_that_is_not_true_and_a_hostile_name_are_refused(repository: Repository) -> None:
    with repository.writer(OpenLock()) as writer:
        short = writer.save_bytes("short", b"123")
        short.size = 5
        evil = writer.save_bytes("evil", b"123")
        evil.name = b"../evil"
        trees = [writer.save_tree([node.encode()]) for node in (short, evil)]
        writer.flush()
    for tree in trees:
        with pytest.raises(DamagedError):
            list(repository.tar(tree.hex()))
