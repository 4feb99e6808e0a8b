# SPDX-License-Identifier: Apache-2.0
"""The index finds every blob that index files name, and reads only what is new."""

from __future__ import annotations

import hashlib
import os
import random
import resource
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seawall.core.errors import DamagedError
from seawall.repository import index
from seawall.repository.crypto import Key
from seawall.repository.index import Index
from seawall.repository.pack import BlobType, PackedBlob
from tests.repository.banks import DictBank

KEY = Key.random()


@pytest.fixture(params=["in memory", "on disk"], scope="module", autouse=True)
def _place(request: pytest.FixtureRequest) -> Iterator[None]:
    """Every test with segments of either kind."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "on disk":
            patch.setattr(index, "ON_DISK_FROM", 1)
        yield


def _id(number: int) -> bytes:
    return hashlib.sha256(b"%d" % number).digest()


def _pack(name: int, blobs: list[int], kind: BlobType = BlobType.DATA) -> tuple[bytes, list[PackedBlob]]:
    return _id(10**9 + name), [
        PackedBlob(_id(number), kind, 100 * at, 100, number % 7) for at, number in enumerate(blobs)
    ]


@given(st.lists(st.lists(st.integers(0, 200), max_size=60), max_size=12))
def test_every_entry_of_every_file_is_found(packs: list[list[int]]) -> None:
    bank, found = DictBank(), Index()
    for name, blobs in enumerate(packs):
        index.save_file(bank, KEY, [_pack(name, blobs)])
        found.refresh(bank, KEY)
    for number in range(201):
        places = {_id(10**9 + name) for name, blobs in enumerate(packs) if number in blobs}
        assert {place.pack_id for place in found.locations(_id(number), BlobType.DATA)} == places
        assert found.has(_id(number), BlobType.DATA) == bool(places)
        assert not found.has(_id(number), BlobType.TREE)
    assert len(found) == sum(map(len, packs)) == len(list(found))


def test_many_blobs_are_found_and_nothing_else() -> None:
    found = Index()
    found.add_file("x", [_pack(1, list(range(50_000))), _pack(2, list(range(50_000, 50_100)), BlobType.TREE)])
    assert all(found.pack_number(_id(number), BlobType.DATA) == 0 for number in range(0, 50_000, 7))
    assert all(found.pack_number(_id(number), BlobType.TREE) == 1 for number in range(50_000, 50_100))
    assert not any(found.has(_id(number), BlobType.DATA) for number in range(60_000, 61_000))
    place = found.find(_id(3), BlobType.DATA)
    assert place is not None
    assert place == index.Location(_id(10**9 + 1), PackedBlob(_id(3), BlobType.DATA, 300, 100, 3))


def test_only_new_files_are_read() -> None:
    class Counting(DictBank):
        reads = 0

        def get(self, key: str, *, offset: int = 0, length: int | None = None) -> bytes:
            self.reads += 1
            return super().get(key, offset=offset, length=length)

    bank, found = Counting(), Index()
    index.save_file(bank, KEY, [_pack(1, [1])])
    found.refresh(bank, KEY)
    index.save_file(bank, KEY, [_pack(2, [2])])
    before = bank.reads
    found.refresh(bank, KEY)
    found.refresh(bank, KEY)
    assert bank.reads == before + 1
    assert found.has(_id(1), BlobType.DATA) and found.has(_id(2), BlobType.DATA)


def test_what_a_prune_has_replaced_is_forgotten() -> None:
    bank, found = DictBank(), Index()
    old = index.save_file(bank, KEY, [_pack(1, [1]), _pack(2, [2])])
    found.refresh(bank, KEY)
    index.save_file(bank, KEY, [_pack(2, [2])])
    bank.delete("index/" + old)
    found.refresh(bank, KEY)
    assert not found.has(_id(1), BlobType.DATA)
    assert found.has(_id(2), BlobType.DATA)
    assert [found.is_named(number) for number in range(2)] == [False, True]  # numbers do not move
    assert found.packs == [_id(10**9 + 1), _id(10**9 + 2)]


def test_a_damaged_file_is_named_and_the_index_stays_as_it_was() -> None:
    bank, found = DictBank(), Index()
    index.save_file(bank, KEY, [_pack(1, [1])])
    found.refresh(bank, KEY)
    bad = index.save_file(bank, KEY, [_pack(2, [2])])
    bank.objects["index/" + bad] = bank.objects["index/" + bad][:-1] + b"x"
    with pytest.raises(DamagedError, match=bad[:16]):
        found.refresh(bank, KEY)
    assert found.has(_id(1), BlobType.DATA)
    assert not found.has(_id(2), BlobType.DATA)


def test_marks_count_what_a_pack_has_of_them() -> None:
    found = Index()
    found.add_file("x", [_pack(1, list(range(100))), _pack(2, [5, 6, 7]), _pack(3, [5], BlobType.TREE)])
    marks = index.Marks(found)
    assert marks.add(_id(5), BlobType.DATA, _id(10**9 + 2))
    assert not marks.add(_id(5), BlobType.DATA, _id(10**9 + 2))
    assert marks.add(_id(9), BlobType.DATA)
    assert marks.add(_id(5), BlobType.TREE)
    sizes, counts = marks.used_bytes()
    assert list(counts) == [1, 1, 1]
    assert list(sizes) == [100, 100, 100]
    assert marks.has(_id(5), BlobType.DATA) and not marks.has(_id(6), BlobType.DATA)
    with pytest.raises(KeyError):
        marks.add(_id(101), BlobType.DATA)
    with pytest.raises(KeyError):
        marks.add(_id(9), BlobType.DATA, _id(10**9 + 2))


def test_segments_of_any_sizes_merge_without_loss() -> None:
    """Ids with equal first bytes, and sizes around those at which the table of a segment grows."""
    noise = random.Random(5)
    known = Index()
    blobs: set[bytes] = set()
    for number, size in enumerate((1, 7, 8, 9, 300, 2000, 2047, 2048, 5000, 1, 2, 12000, 3)):
        fresh = [
            bytes((noise.choice((0, 7, 255, noise.randrange(256))),)) + noise.randbytes(31)
            for _ in range(size)
        ]
        packed = [PackedBlob(one, BlobType.DATA, 0, 40, 0) for one in fresh]
        known.add_file(f"{number:064}", [(noise.randbytes(32), packed)])
        blobs.update(fresh)
        assert len(known) == len(blobs)
    assert all(known.has(one, BlobType.DATA) for one in blobs)
    assert {one.blob.id for one in known} == blobs
    assert not any(known.has(noise.randbytes(32), BlobType.DATA) for _ in range(1000))


def test_a_segment_is_kept_in_memory_when_there_is_no_room_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index, "ON_DISK_FROM", 10)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    found = Index()
    found.add_file("x", [_pack(1, list(range(100)))])
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    found.add_file("y", [_pack(2, list(range(100, 200)))])
    assert os.listdir(tmp_path) == []  # its file has no name
    with _full_disk():
        found.add_file("z", [_pack(3, list(range(200, 300)))])
    assert all(found.pack_number(_id(number), BlobType.DATA) == number // 100 for number in range(300))


@contextmanager
def _full_disk() -> Iterator[None]:
    """No file may grow."""
    former = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, former[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, former)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_temporary_file_that_was_cut_off_is_an_error_and_no_unknown_blob(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index, "ON_DISK_FROM", 10)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    found = Index()
    found.add_file("x", [_pack(1, list(range(100)))])
    for number in os.listdir("/proc/self/fd"):
        place = f"/proc/self/fd/{number}"
        if os.path.lexists(place) and os.readlink(place).startswith(f"{tmp_path}/seawall-spool-"):
            os.truncate(place, 0)
    with pytest.raises(OSError, match="cut off"):
        found.has(_id(5), BlobType.DATA)


def test_an_index_file_that_cannot_be_read_leaves_nothing_of_those_before_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(index, "_LOADED_AT_ONCE", 1)
    bank, found = DictBank(), Index()
    for number in range(3):
        index.save_file(bank, KEY, [_pack(number, [number])])
    last = max(bank.objects)
    good = bank.objects[last]
    bank.objects[last] = good[:-1] + b"x"
    with pytest.raises(DamagedError):
        found.refresh(bank, KEY)
    assert len(found) == 0
    assert found.files == frozenset()
    assert not any(found.is_named(number) for number in range(3))
    bank.objects[last] = good
    found.refresh(bank, KEY)
    assert len(found) == 3
    assert {
        place.pack_id for number in range(3) for place in found.locations(_id(number), BlobType.DATA)
    } == {_id(10**9 + number) for number in range(3)}
