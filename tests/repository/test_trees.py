# SPDX-License-Identifier: Apache-2.0
"""Large trees are written and read piece by piece, and are the same blobs as small ones."""

from __future__ import annotations

import hashlib
import itertools
import os
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seawall.core.errors import DamagedError, InvalidInputError
from seawall.repository import Repository, nodes, trees
from seawall.repository.crypto import Key
from seawall.repository.nodes import Node
from seawall.repository.pack import (
    LARGE_BYTES,
    BlobType,
    PackedBlob,
    check_blob,
    open_blob,
    open_pieces,
    opens,
)
from seawall.repository.trees import GrowingTree, SealedTree
from tests.repository.banks import DictBank

KEY = Key.random()
NOW = datetime(2026, 1, 1, tzinfo=UTC)
NODES = st.builds(
    Node,
    st.binary(min_size=1, max_size=12),
    st.sampled_from([nodes.FILE, nodes.SYMLINK]),
    linktarget=st.sampled_from([b"", b'},{"name":"a","type":"b"', b"\xff\\"]),
    xattrs=st.lists(st.tuples(st.sampled_from(["user.a", 'user."}']), st.binary(max_size=9)), max_size=4),
    content=st.lists(st.binary(min_size=32, max_size=32), max_size=2),
)


def _cut(content: bytes, lengths: list[int]) -> Iterator[bytes]:
    start = 0
    for length in itertools.chain(lengths, itertools.repeat(97)):
        if start >= len(content):
            return
        yield content[start : start + length]
        start += length


@given(st.lists(NODES, max_size=20), st.lists(st.integers(1, 400), max_size=30))
def test_a_tree_in_any_pieces_has_its_nodes(entries: list[Node], lengths: list[int]) -> None:
    content = nodes.encode_tree(node.encode() for node in entries)
    expected = nodes.tree_entries(content, "tree")
    assert list(trees.entries(_cut(content, lengths), "tree")) == expected


@given(st.lists(NODES, max_size=9), st.lists(st.integers(1, 400), max_size=30))
def test_a_tree_that_is_written_otherwise_has_its_nodes(entries: list[Node], lengths: list[int]) -> None:
    value = orjson.loads(nodes.encode_tree(node.encode() for node in entries))
    for content in (
        orjson.dumps(value, option=orjson.OPT_INDENT_2),
        orjson.dumps({"before": 1, **value}),
        orjson.dumps({**value, "after": [{"name": "x"}]}),
        orjson.dumps({"nodes": [dict(reversed(one.items())) for one in value["nodes"]]}),
    ):
        assert list(trees.entries(_cut(content, lengths), "tree")) == value["nodes"]


@pytest.mark.parametrize(
    "content", [b"", b'{"nodes":[', b'{"nodes":[{"name":"a","type":"file"}', b'{"nodes":[]']
)
def test_a_tree_that_breaks_off_is_damage(content: bytes) -> None:
    with pytest.raises(DamagedError, match="tree 7"):
        list(trees.entries(_cut(content, [3]), "tree 7"))


def test_no_seam_of_many_attributes_takes_more_than_a_look_at_each() -> None:
    pairs = ",".join('{"name":"user.a","value":""}' for _ in range(20_000))
    content = b'{"nodes":[{"name":"a","type":"file","extended_attributes":[' + pairs.encode() + b"]}]}\n"
    (entry,) = trees.entries(_cut(content, [4096] * 200), "tree")
    assert len(entry["extended_attributes"]) == 20_000


def _many(count: int) -> list[str]:
    return [
        Node(b"%08d" % number, nodes.FILE, size=number, user="ä" * 40).encode() for number in range(count)
    ]


def _read(sealed: bytes) -> Callable[[int, int], bytes]:
    return lambda start, end: sealed[start:end]


def _grown(encoded: list[str]) -> SealedTree | bytes:
    found: list[SealedTree | bytes] = []

    def take(tree: SealedTree | bytes) -> bytes:
        found.append(tree)
        return b""

    tree = GrowingTree(KEY, 3, take, take)
    for node in encoded:
        tree.add(node)
    tree.save()
    (grown,) = found
    return grown


def test_a_large_tree_is_the_blob_that_it_would_be_as_a_whole() -> None:
    encoded = _many(30_000)
    grown = _grown(encoded)
    assert isinstance(grown, SealedTree)
    sealed = b"".join(grown.parts)
    blob = PackedBlob(grown.id, BlobType.TREE, 0, len(sealed), grown.unpacked)
    content = open_blob(KEY, sealed, blob)
    assert content == nodes.encode_tree(encoded)
    assert hashlib.sha256(content).digest() == grown.id
    assert b"".join(open_pieces(KEY, _read(sealed), blob)) == content
    check_blob(KEY, sealed, blob)


def test_a_small_tree_stays_whole() -> None:
    assert _grown(_many(3)) == nodes.encode_tree(_many(3))
    assert _grown([]) == nodes.encode_tree([])


def test_a_damaged_large_tree_is_found_before_anything_is_taken() -> None:
    grown = _grown(_many(30_000))
    assert isinstance(grown, SealedTree)
    damaged = bytearray(b"".join(grown.parts))
    blob = PackedBlob(grown.id, BlobType.TREE, 0, len(damaged), grown.unpacked)
    damaged[len(damaged) // 2] ^= 1
    sealed = bytes(damaged)
    with pytest.raises(DamagedError, match="wrong tag"):
        open_pieces(KEY, _read(sealed), blob)
    assert not opens(KEY, sealed, blob)
    with pytest.raises(DamagedError, match="are there"):
        check_blob(KEY, sealed[:-1], blob)


def test_a_large_tree_under_another_name_or_length_is_damage() -> None:
    grown = _grown(_many(30_000))
    assert isinstance(grown, SealedTree)
    sealed = b"".join(grown.parts)
    for blob_id, unpacked in (
        (bytes(32), grown.unpacked),
        (grown.id, grown.unpacked + 1),
        (grown.id, grown.unpacked - 1),
    ):
        blob = PackedBlob(blob_id, BlobType.TREE, 0, len(sealed), unpacked)
        with pytest.raises(DamagedError, match=r"another id|longer|shorter"):
            list(open_pieces(KEY, _read(sealed), blob))
        with pytest.raises(DamagedError):
            check_blob(KEY, sealed, blob)
    plain = KEY.seal(bytes(LARGE_BYTES + 5))
    blob = PackedBlob(hashlib.sha256(bytes(LARGE_BYTES + 5)).digest(), BlobType.TREE, 0, len(plain), 0)
    assert b"".join(open_pieces(KEY, _read(plain), blob)) == bytes(LARGE_BYTES + 5)


def test_more_than_a_reader_takes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trees, "MAX_TREE_BYTES", 8 * 1024 * 1024)
    with pytest.raises(InvalidInputError, match="more than a folder may have"):
        _grown(_many(40_000))


class Unlocked:
    def is_expired(self, now: datetime) -> bool:
        return False


def test_a_folder_of_many_files_is_stored_reused_checked_pruned_and_restored(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "inner").mkdir()
    for number in range(14_000):
        (source / f"{number:08}").write_bytes(b"%d" % (number % 10))
    (source / "inner" / os.fsdecode(b"\xff")).write_bytes(b"odd")
    (source / os.fsdecode(b"\xe4")).write_bytes(b"odd too")
    (source / "\ud7ff").write_bytes(b"a letter that sorts before the bytes above as text, and after as bytes")
    repository = Repository.init(DictBank(), passwords=["p"], now=NOW)
    ids = []
    parent = None
    for number in range(3):
        with repository.writer(Unlocked()) as writer:
            result = writer.save_path(source, parent_tree=parent)
            assert result.faults == ()
            assert result.items == 14_005
            if number:  # only the file whose mode was changed
                assert result.read_bytes == number - 1
            assert (result.tree_id == parent) == (number == 1)
            parent = result.tree_id
            ids.append(writer.commit(parent, hostname="h", username="u", paths=["/s"], tags=[], time=NOW))
            assert writer.adopt(parent) is None
        if number == 1:
            (source / "00000007").chmod(0o400)
    found = repository.index.find(bytes.fromhex(parent or ""), BlobType.TREE)
    assert found is not None
    assert found.blob.size > LARGE_BYTES  # else this test says nothing
    repository.forget(ids[0])
    repository.forget(ids[1])
    lock = repository.lock(now=NOW, exclusive=True)
    assert repository.prune(lock, clock=lambda: NOW, max_unused=0.0).deleted_packs
    assert repository.check(read_data=True) == []
    assert len(list(repository.nodes(parent or ""))) == 14_003
    assert repository.find(parent or "", "00013999").size == 1
    restored = repository.restore(parent or "", tmp_path / "target")
    assert restored.faults == ()
    assert sorted(os.listdir(b"%s" % os.fsencode(tmp_path / "target"))) == sorted(
        os.listdir(os.fsencode(source))
    )
    assert (tmp_path / "target" / "00000007").read_bytes() == b"7"
    assert (tmp_path / "target" / "inner" / os.fsdecode(b"\xff")).read_bytes() == b"odd"


def test_a_large_tree_is_read_without_room_for_temporary_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bank = DictBank()
    repository = Repository.init(bank, passwords=["p"], now=NOW)
    with repository.writer(Unlocked()) as writer:
        tree = writer.save_tree(_many(20_000))
        writer.flush()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    first = list(repository.nodes(tree.hex()))
    assert len(first) == 20_000
    assert os.listdir(tmp_path) == []
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    assert list(repository.nodes(tree.hex())) == first
    ((key, content),) = [(key, value) for key, value in bank.objects.items() if key.startswith("data/")]
    for damaged, words in ((content[:5000], "are there"), (b"x" + content[1:], "wrong tag")):
        bank.objects[key] = damaged
        with pytest.raises(DamagedError, match=words):
            repository.nodes(tree.hex())
