# SPDX-License-Identifier: Apache-2.0
"""Cipher, compression, packs and key slots: what is stored comes back, and damage is seen."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seawall.core.errors import ConflictError, DamagedError, InvalidInputError, StateError, WrongKeyError
from seawall.repository import Repository, codec, config, keys, pack
from seawall.repository.chunker import STREAM_AVERAGE_BYTES, Chunker, IterableReader
from seawall.repository.crypto import Key
from seawall.repository.pack import BlobType, PackBuilder
from tests.repository.banks import DictBank
from tests.repository.conftest import NOW

KEY = Key(bytes(range(32)), bytes(range(16)), bytes(range(16, 32)))


@given(st.binary())
def test_what_is_sealed_opens_again(message: bytes) -> None:
    sealed = KEY.seal(message)
    assert len(sealed) == len(message) + 32
    assert KEY.open(sealed, "it") == message


@given(st.binary(min_size=1, max_size=64), st.data())
def test_any_flipped_bit_is_seen(message: bytes, data: st.DataObject) -> None:
    sealed = bytearray(KEY.seal(message))
    sealed[data.draw(st.integers(0, len(sealed) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(DamagedError, match="it"):
        KEY.open(bytes(sealed), "it")


def test_short_sealed_data_is_damage() -> None:
    with pytest.raises(DamagedError):
        KEY.open(b"x" * 31, "it")


def test_a_key_works_in_many_threads_at_once() -> None:
    with ThreadPoolExecutor(4) as pool:
        messages = [bytes([number % 256]) * number for number in range(2000)]
        assert list(pool.map(lambda text: KEY.open(KEY.seal(text), "it"), messages)) == messages


@given(st.binary())
def test_compressed_content_comes_back(content: bytes) -> None:
    assert codec.decompress(codec.compress(content), "it", size=len(content)) == content


def test_a_frame_that_claims_too_much_is_refused_before_it_is_unpacked() -> None:
    with pytest.raises(DamagedError, match="claims"):
        codec.decompress(codec.compress(bytes(1000)), "it", size=999)


@given(st.dictionaries(st.text(), st.integers(-(2**53), 2**53)))
def test_objects_come_back(value: dict[str, object]) -> None:
    assert codec.unpack_object(codec.pack_object(value), "it") == value


def test_plain_json_objects_of_format_one_are_read() -> None:
    assert codec.unpack_object(b'{"a":1}', "it") == {"a": 1}


@pytest.mark.parametrize("content", [b"", b"\x02", b"\x07{}", b"[]", b"{", b"\x02{}"])
def test_bytes_that_are_no_object_are_damage(content: bytes) -> None:
    with pytest.raises(DamagedError):
        codec.unpack_object(content, "it")


@given(st.lists(st.binary(min_size=1), min_size=1, max_size=20), st.sampled_from(BlobType))
def test_a_pack_gives_back_its_blobs(contents: list[bytes], kind: BlobType) -> None:
    builder = PackBuilder(kind)
    for content in contents:
        sealed, unpacked = pack.seal_blob(KEY, content)
        builder.add(codec.content_id(content), sealed, unpacked)
    bank = DictBank()
    pack_id, parts = builder.finish(KEY)
    bank.put(pack.pack_key(pack_id), parts)
    stored = bank.get(pack.pack_key(pack_id))
    assert codec.content_id(stored) == pack_id
    blobs = pack.read_header(bank, KEY, pack_id, len(stored))
    assert blobs == builder.blobs
    found = [pack.open_blob(KEY, stored[blob.offset : blob.offset + blob.length], blob) for blob in blobs]
    assert found == contents


def test_a_header_larger_than_the_first_read_is_read_whole() -> None:
    builder = PackBuilder(BlobType.DATA)
    for number in range(1000):
        builder.add(codec.content_id(b"%d" % number), KEY.seal(b"x"), 0)
    bank = DictBank()
    pack_id, parts = builder.finish(KEY)
    bank.put(pack.pack_key(pack_id), parts)
    assert len(pack.read_header(bank, KEY, pack_id, bank.size(pack.pack_key(pack_id)))) == 1000


@pytest.mark.parametrize("cut", [1, 5, 40, 100])
def test_a_truncated_pack_is_damage(cut: int) -> None:
    builder = PackBuilder(BlobType.DATA)
    builder.add(codec.content_id(b"x"), KEY.seal(b"x"), 0)
    bank = DictBank()
    pack_id, parts = builder.finish(KEY)
    bank.put(pack.pack_key(pack_id), b"".join(parts)[:-cut])
    with pytest.raises(DamagedError):
        pack.read_header(bank, KEY, pack_id, bank.size(pack.pack_key(pack_id)))


@given(st.binary(max_size=2_000_000), st.lists(st.integers(1, 300_000), max_size=5))
def test_chunks_join_to_the_stream_however_it_arrives(content: bytes, cuts: list[int]) -> None:
    pieces, rest = [], content
    for cut in cuts:
        pieces.append(rest[:cut])
        rest = rest[cut:]
    chunks = [
        bytes(chunk) for chunk in Chunker(KEY, STREAM_AVERAGE_BYTES).cut(IterableReader([*pieces, rest]))
    ]
    assert b"".join(chunks) == content
    whole = [bytes(chunk) for chunk in Chunker(KEY, STREAM_AVERAGE_BYTES).cut(IterableReader([content]))]
    assert chunks == whole


def test_another_key_cuts_elsewhere() -> None:
    content = b"".join(codec.content_id(b"%d" % number) for number in range(100_000))
    cuts = [
        [len(chunk) for chunk in Chunker(key, STREAM_AVERAGE_BYTES).cut(IterableReader([content]))]
        for key in (KEY, Key(bytes(32), bytes(16), bytes(16)))
    ]
    assert cuts[0] != cuts[1]


def test_polynomials_are_told_apart() -> None:
    irreducible = [number for number in range(2, 64) if config.is_irreducible(number)]
    products = {
        _product(left, right) for left in range(2, 64) for right in range(2, 64) if left.bit_length() > 1
    }
    assert irreducible == [number for number in range(2, 64) if number not in products]
    assert config.is_irreducible(0x3DA3358B4DC173)  # a known one of degree 53
    assert config.random_polynomial().bit_length() == 54


def _product(left: int, right: int) -> int:
    product = 0
    for bit in range(right.bit_length()):
        if right >> bit & 1:
            product ^= left << bit
    return product


def test_every_key_slot_opens_the_repository_and_no_other_password_does(bank: DictBank) -> None:
    made = Repository.init(bank, passwords=["first", "second"], now=NOW)
    third = made.add_key("third")
    assert len(made.keys()) == 3
    for password in ("first", "second", "third"):
        assert Repository.open(bank, password=password, now=NOW).id == made.id
    made.remove_key(third)
    with pytest.raises(WrongKeyError):
        Repository.open(bank, password="third", now=NOW)
    for info in made.keys()[1:]:
        made.remove_key(info.id)
    with pytest.raises(StateError):
        made.remove_key(made.keys()[0].id)


def test_a_second_init_is_refused_and_changes_nothing(bank: DictBank) -> None:
    Repository.init(bank, passwords=["first"], now=NOW)
    before = dict(bank.objects)
    with pytest.raises(ConflictError):
        Repository.init(bank, passwords=["other"], now=NOW)
    del bank.objects["config"]
    bank.objects["index/x"] = b"what is left of a repository"
    with pytest.raises(ConflictError):
        Repository.init(bank, passwords=["other"], now=NOW)
    assert before.keys() - {"config"} <= bank.objects.keys()


def test_the_slots_of_a_killed_init_do_no_harm(bank: DictBank) -> None:
    stray = keys.add(bank, Key.random(), "same", hostname="h", now=NOW)
    made = Repository.init(bank, passwords=["same"], now=NOW)
    slots = made.keys()
    assert stray not in [info.id for info in slots]
    keys.add(bank, Key.random(), "same", hostname="h", now=NOW)
    assert Repository.open(bank, password="same", now=NOW).id == made.id


def test_an_init_without_a_password_is_refused(bank: DictBank) -> None:
    for words in ([], [""], ["a", ""]):
        with pytest.raises(InvalidInputError):
            Repository.init(bank, passwords=words, now=NOW)
    assert bank.objects == {}


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"{}", b'{"kdf":"scrypt","N":1073741824,"r":8,"p":1,"salt":"","data":""}']
)
def test_a_key_file_that_is_none_is_damage_and_costs_no_time(content: bytes) -> None:
    bank = DictBank()
    bank.put("keys/ab", content)
    with pytest.raises(DamagedError):
        keys.find_master(bank, "password", b"")
