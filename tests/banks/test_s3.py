# SPDX-License-Identifier: Apache-2.0
"""A bucket of a real server keeps the contract of banks, and says what is wrong with it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from seawall.core.errors import (
    BankDeniedError,
    BankError,
    BankObjectMissingError,
    ConflictError,
    InvalidInputError,
)
from seawall.protection.banks import s3
from seawall.protection.banks.s3 import S3Bank
from seawall.repository import Repository
from seawall.sdk.bank import Bank, SubBank, probed
from seawall.sdk.testing.bank_suite import BankSuite
from tests.support.s3_server import S3Server, keys_in, write_keys

NOW = datetime(2026, 1, 1, tzinfo=UTC)


class TestS3Bank(BankSuite):
    @pytest.fixture(autouse=True)
    def _server(self, s3_server: S3Server) -> None:
        self.server = s3_server

    def make_bank(self, folder: Path) -> Bank:
        return S3Bank(**self.server.options())


class TestS3BankWithoutConditions(TestS3Bank):
    """With a server that is known to ignore conditions, the key is looked for instead."""

    def make_bank(self, folder: Path) -> Bank:
        return S3Bank(**self.server.options(conditional_create=False))


@pytest.fixture
def bank(s3_server: S3Server) -> Iterator[S3Bank]:
    made = S3Bank(**s3_server.options())
    yield made
    made.close()


def test_a_large_object_goes_up_in_parts(bank: S3Bank, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3, "_MULTIPART_FROM", 6 << 20)
    monkeypatch.setattr(s3, "_PART_BYTES", 5 << 20)
    content = os.urandom(12 << 20)
    bank.put("large", content)
    assert bank.size("large") == len(content)
    assert bank.get("large") == content
    assert bank.get("large", offset=(5 << 20) - 2, length=4) == content[(5 << 20) - 2 : (5 << 20) + 2]


def test_a_list_goes_on_past_the_first_page(bank: S3Bank) -> None:
    from concurrent.futures import ThreadPoolExecutor

    keys = [f"many/{number:04}" for number in range(1100)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: bank.put(key, b""), keys))
    assert [one.key for one in bank.list("many/")] == keys


def test_the_store_is_asked_for_its_features(s3_server: S3Server) -> None:
    bank = S3Bank(**s3_server.options())
    before, after = bank.features, probed(bank)
    assert before.object_lock == "unknown"
    assert (after.conditional_create, after.object_lock) == (True, "off")
    assert bank.features == after
    assert list(bank.list()) == []
    locked = s3_server.make_bucket(f"{s3_server.bucket}-lock", object_lock=True)
    assert probed(S3Bank(**s3_server.options(bucket=locked))).object_lock == "on"


def test_wrong_keys_are_said_and_not_shown(s3_server: S3Server, tmp_path: Path) -> None:
    access, secret = keys_in(s3_server.key_file)
    wrong = write_keys(tmp_path / "keys", access, "x" * len(secret))
    bank = S3Bank(**s3_server.options(key_file=str(wrong)))
    with pytest.raises(BankDeniedError, match="403 SignatureDoesNotMatch") as raised:
        bank.put("a", b"x")
    assert not raised.value.retryable
    assert "xxx" not in str(raised.value)


def test_keys_can_be_exchanged_while_the_bank_is_open(s3_server: S3Server, tmp_path: Path) -> None:
    access, secret = keys_in(s3_server.key_file)
    path = write_keys(tmp_path / "keys", access, "x" * len(secret))
    bank = S3Bank(**s3_server.options(key_file=str(path)))
    with pytest.raises(BankDeniedError):
        bank.put("a", b"x")
    write_keys(path, access, secret)
    with pytest.raises(BankError, match="others by now") as raised:
        bank.put("a", b"x")
    assert raised.value.retryable
    bank.put("a", b"x")
    assert bank.get("a") == b"x"


def test_a_missing_bucket_is_no_missing_object(s3_server: S3Server) -> None:
    bank = S3Bank(**s3_server.options(bucket="seawall-never-made"))
    for call in (lambda: bank.get("a"), lambda: bank.put("a", b"x"), lambda: list(bank.list())):
        with pytest.raises(BankDeniedError, match="there is no bucket seawall-never-made"):
            call()


def test_a_server_that_is_down_may_come_back(s3_server: S3Server) -> None:
    bank = S3Bank(**s3_server.options(endpoint="http://127.0.0.1:9"))
    with pytest.raises(BankError) as raised:
        bank.get("a")
    assert raised.value.retryable


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o622])
def test_a_key_file_that_others_can_open_is_refused(tmp_path: Path, mode: int) -> None:
    path = write_keys(tmp_path / "keys", "a", "b")
    path.chmod(mode)
    with pytest.raises(InvalidInputError, match="chmod 600"):
        S3Bank(bucket="any", key_file=str(path)).get("a")


def test_a_key_file_without_the_section_is_refused(tmp_path: Path) -> None:
    path = write_keys(tmp_path / "keys", "a", "top-secret")
    with pytest.raises(InvalidInputError, match="has no other in the section") as raised:
        S3Bank(bucket="any", key_file=str(path), key_profile="other").get("a")
    assert "top-secret" not in str(raised.value)
    path.write_text("top-secret")
    with pytest.raises(InvalidInputError, match="key_file") as raised:
        S3Bank(bucket="any", key_file=str(path)).get("a")
    assert "top-secret" not in str(raised.value)


def test_plain_http_has_to_be_permitted() -> None:
    with pytest.raises(InvalidInputError, match="allow_http"):
        S3Bank(endpoint="http://storage", bucket="any", key_file="/keys")


def test_relative_paths_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="key_file"):
        S3Bank(bucket="any", key_file="keys")


def test_a_repository_lives_in_a_bucket(bank: S3Bank) -> None:
    place = SubBank(bank, "repository")
    made = Repository.init(place, passwords=["one"], now=NOW)
    lock = made.lock(now=NOW)
    with made.writer(lock) as writer:
        tree = writer.save_nodes([writer.save_bytes("file", b"content" * 1000)])
        writer.commit(tree, hostname="h", username="u", paths=["/p"], tags=[], time=NOW)
    lock.release()
    opened = Repository.open(place, password="one", now=NOW)
    (found,) = opened.snapshots()
    assert b"".join(opened.read_file(opened.find(found.tree, "file"))) == b"content" * 1000
    assert opened.check(read_data=True) == []
    with pytest.raises(ConflictError):
        Repository.init(place, passwords=["two"], now=NOW)
    with pytest.raises(BankObjectMissingError):
        bank.get("repository/none")
