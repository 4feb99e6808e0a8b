# SPDX-License-Identifier: Apache-2.0
"""The contract of banks. Subclass ``BankSuite`` in your tests and give it ``make_bank``."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from seawall.core.errors import BankObjectMissingError, ConflictError, InvalidInputError
from seawall.sdk.bank import Bank

SEGMENTS = st.text("abcXYZ019._-", min_size=1, max_size=8).filter(lambda one: one not in (".", ".."))
KEYS = st.lists(SEGMENTS, min_size=1, max_size=3).map("/".join)
BAD_KEYS = ("", "/", "a//b", "/a", "a/", ".", "..", "a/../b", "a/./b", "ä", "a b", "a\x00", "a~b", "a\\b")


class BankSuite:
    """What every bank must do."""

    examples = itertools.count()

    def make_bank(self, folder: Path) -> Bank:
        """An empty bank; ``folder`` is the test's own."""
        raise NotImplementedError

    @pytest.fixture
    def bank(self, tmp_path: Path) -> Iterator[Bank]:
        made = self.make_bank(tmp_path)
        yield made
        made.close()
        made.close()

    def test_what_was_put_is_read_back_whole_and_in_parts(self, bank: Bank) -> None:
        bank.put("a/b", [b"01", memoryview(b"23"), bytearray(b"45")])
        assert bank.get("a/b") == b"012345"
        assert bank.get("a/b", offset=2, length=3) == b"234"
        assert bank.get("a/b", offset=4, length=100) == b"45"
        assert bank.get("a/b", offset=100) == b""
        assert bank.get("a/b", length=0) == b""
        assert bank.size("a/b") == 6
        assert bank.exists("a/b")

    def test_an_empty_object_is_an_object(self, bank: Bank) -> None:
        bank.put("empty", b"")
        assert bank.get("empty") == b""
        assert [one.size_bytes for one in bank.list()] == [0]

    def test_a_put_replaces(self, bank: Bank) -> None:
        bank.put("a", b"old")
        bank.put("a", b"new and longer")
        assert bank.get("a") == b"new and longer"
        assert len(list(bank.list())) == 1

    def test_create_only_never_replaces(self, bank: Bank) -> None:
        bank.put("a", b"old", create_only=True)
        with pytest.raises(ConflictError):
            bank.put("a", b"new", create_only=True)
        assert bank.get("a") == b"old"
        assert len(list(bank.list())) == 1

    def test_what_is_missing_is_said_to_be(self, bank: Bank) -> None:
        bank.put("folder/a", b"")
        for key in ("missing", "folder/missing", "folder"):
            with pytest.raises(BankObjectMissingError):
                bank.get(key)
            with pytest.raises(BankObjectMissingError):
                bank.size(key)
            assert not bank.exists(key)

    def test_a_delete_may_be_repeated(self, bank: Bank) -> None:
        bank.put("a/b", b"x")
        bank.delete("a/b")
        bank.delete("a/b")
        bank.delete("never/was")
        assert list(bank.list()) == []
        bank.put("a/b", b"again")
        assert bank.get("a/b") == b"again"

    def test_a_list_has_every_key_of_the_prefix_in_order(self, bank: Bank) -> None:
        for key in ("b", "a/2", "a-1", "a/1", "ab/1", "a0"):
            bank.put(key, b"x")
        assert [one.key for one in bank.list()] == ["a-1", "a/1", "a/2", "a0", "ab/1", "b"]
        assert [one.key for one in bank.list("a/")] == ["a/1", "a/2"]
        assert [one.key for one in bank.list("a")] == ["a-1", "a/1", "a/2", "a0", "ab/1"]
        assert [one.key for one in bank.list("a/2")] == ["a/2"]
        assert list(bank.list("nothing/here")) == []

    @pytest.mark.parametrize("key", BAD_KEYS)
    def test_a_bad_key_is_refused(self, bank: Bank, key: str) -> None:
        for call in (lambda: bank.put(key, b""), lambda: bank.get(key), lambda: bank.delete(key)):
            with pytest.raises(InvalidInputError):
                call()
        assert list(bank.list()) == []

    def test_many_writers_at_once_lose_nothing(self, bank: Bank) -> None:
        content = {f"{number % 7}/{number}": bytes([number]) * 5000 for number in range(60)}
        with ThreadPoolExecutor(8) as pool:
            for done in [pool.submit(bank.put, key, value) for key, value in content.items()]:
                done.result()
        assert {one.key: bank.get(one.key) for one in bank.list()} == content

    def test_readers_never_see_a_part_of_an_object(self, bank: Bank) -> None:
        versions = [bytes([number]) * 100_000 for number in range(20)]
        bank.put("a", versions[0])
        with ThreadPoolExecutor(2) as pool:
            writes = [pool.submit(bank.put, "a", version) for version in versions]
            seen = [bank.get("a") for _ in range(50)]
            for one in writes:
                one.result()
        assert set(seen) <= set(versions)

    @settings(
        max_examples=25,
        deadline=None,
        # Every example has a place of its own in the bank, whichever subclass runs it.
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.differing_executors],
    )
    @given(content=st.dictionaries(KEYS, st.binary(max_size=200), max_size=8))
    def test_any_set_of_objects_is_kept(self, bank: Bank, content: dict[str, bytes]) -> None:
        kept: dict[str, bytes] = {}
        # A place of its own for every example: a bank need not forget folders that are empty.
        place = f"example{next(self.examples)}"
        for name, value in content.items():
            key = f"{place}/{name}"
            # A key cannot be below another key: file systems have no such thing.
            if not any(one.startswith(f"{key}/") or key.startswith(f"{one}/") for one in kept):
                bank.put(key, value)
                kept[key] = value
        assert {one.key: bank.get(one.key) for one in bank.list(f"{place}/")} == kept
        assert [one.key for one in bank.list(f"{place}/")] == sorted(kept)
