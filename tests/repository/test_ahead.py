# SPDX-License-Identifier: Apache-2.0
"""What a restore needs is read ahead: in few requests, within bounds, and never in place of the truth."""

from __future__ import annotations

import os
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from seawall.core.errors import BankError
from seawall.repository import ahead
from seawall.repository.ahead import Ahead
from tests.repository.banks import DictBank
from tests.repository.conftest import commit, fresh


class FarBank(DictBank):
    """A bank that notes what is read of packs, and can be made to fail."""

    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()
        self.reads: list[tuple[str, int]] = []
        self.fails = False

    def get(self, key: str, *, offset: int = 0, length: int | None = None) -> bytes:
        if self.fails and key.startswith("data/"):
            raise BankError("the line is cut")
        found = super().get(key, offset=offset, length=length)
        with self.lock:
            if key.startswith("data/"):
                self.reads.append((key, len(found)))
        return found

    @property
    def packs(self) -> int:
        return sum(key.startswith("data/") for key in self.objects)

    @property
    def read_bytes(self) -> int:
        with self.lock:
            return sum(length for _, length in self.reads)


@pytest.fixture
def far() -> FarBank:
    return FarBank()


def _files(folder: Path, count: int, size: int) -> Path:
    for number in range(count):
        place = folder / f"folder-{number // 50}"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"file-{number}").write_bytes(os.urandom(size))
    return folder


def _content(folder: Path) -> dict[str, bytes]:
    return {str(one.relative_to(folder)): one.read_bytes() for one in folder.rglob("*") if one.is_file()}


def test_a_thousand_files_need_a_handful_of_requests(far: FarBank, tmp_path: Path) -> None:
    repository = fresh(far)
    source = _files(tmp_path / "source", 1000, 3000)
    _, tree = commit(repository, source)
    far.reads.clear()
    assert repository.restore(tree, tmp_path / "target").faults == ()
    assert _content(tmp_path / "target") == _content(source)
    assert len(far.reads) <= 4  # one for the trees, and what holds 3 MB of content


def test_what_is_there_already_is_not_read(far: FarBank, tmp_path: Path) -> None:
    repository = fresh(far)
    source = _files(tmp_path / "source", 100, 30_000)
    _, tree = commit(repository, source)
    repository.restore(tree, tmp_path / "target")
    (tmp_path / "target" / "folder-0" / "file-7").unlink()
    far.reads.clear()
    result = repository.restore(tree, tmp_path / "target")
    assert (result.bytes, result.faults) == (30_000, ())
    assert far.read_bytes < 100_000
    assert _content(tmp_path / "target") == _content(source)


def test_no_more_is_read_ahead_than_allowed(
    far: FarBank, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reach = replace(ahead._FAR, range_bytes=100_000, budget_bytes=400_000)
    monkeypatch.setattr(ahead, "_FAR", reach)
    repository = fresh(far)
    source = _files(tmp_path / "source", 100, 40_000)
    _, tree = commit(repository, source)
    node_of = {node.name: node for node in repository.nodes(tree)}
    files = [
        file
        for name in sorted(node_of)
        for file in repository.nodes(node_of[name].subtree.hex())  # type: ignore[union-attr]  # a folder
    ]
    far.reads.clear()
    taken = 0
    most = 0
    with Ahead(repository._reader) as reading:
        wanted = [reading.want(file.content, file.size) for file in files]
        reading.go()
        for file, one in zip(files, wanted, strict=True):
            content = b"".join(one)
            assert len(content) == file.size
            taken += len(content)
            most = max(most, far.read_bytes - taken)
    assert taken == 4_000_000
    assert most <= reach.budget_bytes + reach.range_bytes
    assert most > reach.range_bytes  # it is ahead indeed
    assert far.read_bytes < 4_100_000  # nothing twice


def test_files_that_are_dropped_make_room_for_the_others(
    far: FarBank, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ahead, "_FAR", replace(ahead._FAR, range_bytes=50_000, budget_bytes=100_000))
    repository = fresh(far)
    source = _files(tmp_path / "source", 40, 40_000)
    _, tree = commit(repository, source)
    files = list(repository.nodes(next(iter(repository.nodes(tree))).subtree.hex()))  # type: ignore[union-attr]  # a folder
    with Ahead(repository._reader) as reading:
        wanted = [reading.want(file.content, file.size) for file in files]
        reading.go()
        for one in wanted[1:-1]:
            one.drop()
            one.drop()
        assert len(b"".join(wanted[0])) == len(b"".join(wanted[-1])) == 40_000
        assert reading._wants == {}
        assert not reading._queue


def test_content_that_several_files_share_is_read_once(far: FarBank, tmp_path: Path) -> None:
    repository = fresh(far)
    (tmp_path / "source").mkdir()
    content = os.urandom(500_000)
    for number in range(30):
        (tmp_path / "source" / f"{number}").write_bytes(content)
    _, tree = commit(repository, tmp_path / "source")
    far.reads.clear()
    result = repository.restore(tree, tmp_path / "target")
    assert (result.items, result.bytes, result.faults) == (30, 15_000_000, ())
    assert far.read_bytes < 1_000_000
    assert set(_content(tmp_path / "target").values()) == {content}


def test_a_bank_that_fails_ends_the_restore_and_leaves_no_part_of_a_file(
    far: FarBank, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ahead, "_FAR", replace(ahead._FAR, range_bytes=200_000, budget_bytes=400_000))
    repository = fresh(far)
    source = _files(tmp_path / "source", 100, 200_000)
    _, tree = commit(repository, source)
    done: list[int] = []

    def cut(done_bytes: int, _: int) -> None:
        done.append(done_bytes)
        far.fails = True

    with pytest.raises(BankError, match="the line is cut"):
        repository.restore(tree, tmp_path / "target", progress=cut)
    assert done
    whole = _content(source)
    for name, content in _content(tmp_path / "target").items():
        assert content == whole[name]


def test_a_restore_keeps_few_folders_open(far: FarBank, tmp_path: Path) -> None:
    repository = fresh(far)
    for number in range(1500):
        (tmp_path / "source" / f"{number}").mkdir(parents=True)
        (tmp_path / "source" / f"{number}").chmod(0o500 if number % 2 else 0o750)
        os.utime(tmp_path / "source" / f"{number}", ns=(number, number))
    _, tree = commit(repository, tmp_path / "source")
    most = 0

    def count(*_: int) -> None:
        nonlocal most
        most = max(most, len(os.listdir("/proc/self/fd")))

    before = len(os.listdir("/proc/self/fd"))
    result = repository.restore(tree, tmp_path / "target", progress=count)
    assert (result.items, result.faults) == (1500, ())
    assert most - before <= 2 * 64 + 16
    assert len(os.listdir("/proc/self/fd")) == before
    for number in range(1500):
        found = (tmp_path / "target" / f"{number}").stat()
        assert (found.st_mode & 0o777, found.st_mtime_ns) == (0o500 if number % 2 else 0o750, number)


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_an_archive_of_a_large_file_needs_few_requests(far: FarBank, tmp_path: Path, kind: str) -> None:
    repository = fresh(far)
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "large").write_bytes(os.urandom(20_000_000))
    _, tree = commit(repository, tmp_path / "source")
    far.reads.clear()
    stream = repository.tar(tree) if kind == "tar" else repository.zip(tree)
    assert sum(map(len, stream)) >= 20_000_000
    assert len(far.reads) <= 10  # the tree, and two packs in parts of 4 MiB
    assert far.read_bytes < 21_000_000
