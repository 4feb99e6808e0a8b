# SPDX-License-Identifier: Apache-2.0
"""Damage is found, and said down to the files it touches."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from seawall.core.errors import InvalidInputError
from seawall.repository import Repository, check
from seawall.repository.pack import BlobType, pack_key
from tests.repository import odd_tree
from tests.repository.banks import DictBank
from tests.repository.conftest import OpenLock, commit


def _paths(repository: Repository, **options: object) -> list[str]:
    return [fault.path for fault in repository.check(**options)]  # type: ignore[arg-type]


@pytest.fixture
def saved(repository: Repository, tmp_path: Path) -> tuple[str, str]:
    """Two snapshots of three files, the second with one more; their short ids."""
    source = tmp_path / "source"
    (source / "sub").mkdir(parents=True)
    for name in ("a", "sub/b", "c"):
        (source / name).write_bytes(os.urandom(200_000))
    first, _ = commit(repository, source)
    (source / "sub" / "d").write_bytes(os.urandom(300_000))
    second, _ = commit(repository, source)
    return first[:8], second[:8]


def _pack_of(repository: Repository, path: str, kind: BlobType = BlobType.DATA) -> str:
    node = repository.find(repository.snapshots()[-1].tree, path)
    blob = node.content[0] if kind is BlobType.DATA else node.subtree
    assert blob is not None
    place = repository.index.find(blob, kind)
    assert place is not None
    return pack_key(place.pack_id)


def _flip(bank: DictBank, repository: Repository, path: str) -> None:
    node = repository.find(repository.snapshots()[-1].tree, path)
    place = repository.index.find(node.content[0], BlobType.DATA)
    assert place is not None
    content = bytearray(bank.objects[pack_key(place.pack_id)])
    content[place.blob.offset + 20] ^= 1
    bank.objects[pack_key(place.pack_id)] = bytes(content)


def test_a_whole_repository_has_no_fault(repository: Repository, tmp_path: Path) -> None:
    odd_tree.make(tmp_path / "odd")
    commit(repository, tmp_path / "odd")
    notes: list[str] = []
    seen: list[tuple[int, int]] = []
    found = repository.check(
        read_data=True, progress=lambda done, packs: seen.append((done, packs)), note=notes.append
    )
    assert (found, notes) == ([], [])
    packs = list(repository.bank.list("data/"))
    assert seen[-1] == (sum(item.size_bytes for item in packs), len(packs))


def test_a_flipped_bit_is_seen_by_reading_and_named_by_file(
    bank: DictBank, repository: Repository, saved: tuple[str, str]
) -> None:
    pack = _pack_of(repository, "sub/b")
    _flip(bank, repository, "sub/b")
    assert repository.check() == []
    first, second = saved
    found = repository.check(read_data=True)
    assert [fault.path for fault in found[:2]] == [pack, pack]
    assert {fault.path for fault in found[2:]} == {f"snapshot {first}:/sub/b", f"snapshot {second}:/sub/b"}
    assert "damaged where it holds data blob" in found[-1].reason


def test_a_missing_pack_is_a_fault_of_each_file_in_it(
    bank: DictBank, repository: Repository, saved: tuple[str, str]
) -> None:
    pack = _pack_of(repository, "a")
    del bank.objects[pack]
    found = _paths(repository)
    assert found[0] == pack
    assert sorted(found[1:]) == sorted(
        f"snapshot {one}:/{name}" for one in saved for name in ("a", "c", "sub/b")
    )


def test_a_truncated_pack_harms_the_files_at_its_end(
    bank: DictBank, repository: Repository, saved: tuple[str, str]
) -> None:
    pack = _pack_of(repository, "a")
    bank.objects[pack] = bank.objects[pack][:450_000]
    found = _paths(repository)
    assert found[0] == pack
    assert {path.rpartition("/")[2] for path in found[1:]} == {"b"}  # a, c, then sub/b by order of the walk
    assert set(_paths(repository, read_data=True)) == set(found)


def test_a_missing_tree_is_a_fault_of_its_folder(
    bank: DictBank, repository: Repository, saved: tuple[str, str]
) -> None:
    del bank.objects[_pack_of(repository, "sub", BlobType.TREE)]
    assert f"snapshot {saved[1]}:" in _paths(repository)


@pytest.mark.parametrize("kind", ["index", "snapshots"])
def test_a_damaged_object_is_named(
    bank: DictBank, repository: Repository, saved: tuple[str, str], kind: str
) -> None:
    key = next(iter(bank.list(f"{kind}/"))).key
    bank.objects[key] = bank.objects[key][:-1] + b"\0"
    found = _paths(repository)
    assert found[0] == key
    assert len(found) == 1 if kind == "snapshots" else len(found) > 1


def test_what_nobody_names_is_noted_and_no_fault(
    bank: DictBank, repository: Repository, saved: tuple[str, str]
) -> None:
    with repository.writer(OpenLock()) as writer:
        writer.save_bytes("x", os.urandom(1000))
        writer._packer.drain()
        writer._packer._put(writer._packer._builders[BlobType.DATA])
    bank.put("data/odd", b"x")
    notes: list[str] = []
    assert repository.check(note=notes.append) == []
    assert "data/odd is no pack" in notes[0]
    assert notes[1].startswith("1 packs are in no index")


def test_a_header_that_disagrees_with_the_index_is_a_fault(
    bank: DictBank, repository: Repository, saved: tuple[str, str]
) -> None:
    pack = _pack_of(repository, "a")
    content = bank.objects[pack]
    bank.objects[pack] = content[:-60] + bytes(56) + content[-4:]
    found = repository.check(read_data=True)
    assert {fault.path for fault in found} == {pack}
    assert any("header" in fault.reason for fault in found)


def test_the_samples_of_one_round_see_every_pack_once(
    bank: DictBank, repository: Repository, saved: tuple[str, str]
) -> None:
    total = 0
    for part in range(5):
        done = [(0, 0)]
        repository.check(sample=(part, 5), progress=lambda size, packs, done=done: done.append((size, packs)))  # type: ignore[misc]
        total += done[-1][1]
    assert total == len(list(bank.list("data/")))
    _flip(bank, repository, "c")
    assert sum(bool(repository.check(sample=(part, 5))) for part in range(5)) == 1
    with pytest.raises(InvalidInputError, match="sample"):
        repository.check(sample=(5, 5))


def test_a_list_of_faults_comes_to_an_end(
    bank: DictBank, repository: Repository, saved: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check, "MAX_FAULTS", 3)
    del bank.objects[_pack_of(repository, "a")]
    found = repository.check()
    assert len(found) == 4
    assert "more than 3" in found[-1].reason
