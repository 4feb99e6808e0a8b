# SPDX-License-Identifier: Apache-2.0
"""Who works on a repository sees the others, and the dead hold nothing for ever (I12)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest

from seawall.core.errors import BankError, ConflictError, LeaseLostError
from seawall.repository import Repository, codec, locks
from seawall.repository.locks import LockInfo, RepositoryLock
from seawall.sdk.bank import Bank, Chunks, ObjectInfo
from tests.repository.banks import DictBank, FolderBank
from tests.repository.conftest import NOW, PASSWORD, Restic, fresh


def _acquire(repository: Repository, *, exclusive: bool = False, **options: object) -> RepositoryLock:
    words: dict[str, object] = {"exclusive": exclusive, "now": NOW} | options
    return RepositoryLock.acquire(repository.bank, repository.key, **words)  # type: ignore[arg-type]


def _count(bank: Bank) -> int:
    return len(list(bank.list("locks/")))


def _foreign(repository: Repository, *, exclusive: bool, time: str = "2026-03-04T10:36:07.5+05:30") -> None:
    value = {"time": time, "exclusive": exclusive, "hostname": "far", "username": "ann", "pid": 7}
    sealed = repository.key.seal(json.dumps(value).encode())
    repository.bank.put("locks/" + codec.content_id(sealed).hex(), sealed)


def test_shared_locks_go_together(repository: Repository) -> None:
    first, second = _acquire(repository), _acquire(repository)
    assert _count(repository.bank) == 2
    assert first.session != second.session
    first.release()
    first.release()
    second.release()
    assert _count(repository.bank) == 0


@pytest.mark.parametrize(("held", "wanted"), [(True, True), (True, False), (False, True)])
def test_an_exclusive_lock_goes_with_no_other(repository: Repository, held: bool, wanted: bool) -> None:
    lock = _acquire(repository, exclusive=held)
    with pytest.raises(ConflictError, match=f"lock {lock.id[:8]} of .* process"):
        _acquire(repository, exclusive=wanted)
    assert _count(repository.bank) == 1
    lock.release()
    _acquire(repository, exclusive=wanted)


def test_of_a_task_there_is_one_beside_any_writers(repository: Repository) -> None:
    _acquire(repository)
    _acquire(repository, task=locks.PRUNE)
    _acquire(repository)
    with pytest.raises(ConflictError):
        _acquire(repository, task=locks.PRUNE)


@pytest.mark.parametrize("exclusive", [False, True])
def test_a_foreign_lock_is_read_and_respected(repository: Repository, exclusive: bool) -> None:
    _foreign(repository, exclusive=exclusive)
    (lock,) = locks.live_locks(repository.bank, repository.key, NOW)
    assert (lock.hostname, lock.pid, lock.is_foreign, lock.holder) == ("far", 7, True, "far/ann/7")
    assert lock.time == NOW.replace(microsecond=500_000)
    with pytest.raises(ConflictError, match="ann on far"):
        _acquire(repository, exclusive=not exclusive)


def test_a_lock_that_comes_between_is_seen_and_ours_is_taken_away() -> None:
    class Racing(DictBank):
        racing = False

        def put(self, key: str, content: bytes | Chunks, *, create_only: bool = False) -> None:
            super().put(key, content, create_only=create_only)
            if self.racing:
                self.racing = False
                _foreign(repository, exclusive=True)

    bank = Racing()
    repository = fresh(bank)
    bank.racing = True
    with pytest.raises(ConflictError, match="ann on far"):
        _acquire(repository)
    assert _count(bank) == 1


def test_a_lock_that_is_refreshed_while_others_list_is_not_missed(repository: Repository) -> None:
    held = _acquire(repository)

    class Between(DictBank):
        def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
            found = list(super().list(prefix))
            if len(calls) == 0:
                calls.append(1)
                held.refresh(NOW)  # the listing has the old object only, which is gone when it is read
            return iter(found)

    calls: list[int] = []
    bank = repository.bank
    assert isinstance(bank, DictBank)
    bank.__class__ = Between
    with pytest.raises(ConflictError):
        _acquire(repository, exclusive=True)


def test_waiting_ends_when_the_holder_does_or_the_deadline_comes(repository: Repository) -> None:
    held = _acquire(repository, exclusive=True)
    asked: list[LockInfo] = []

    def wait(lock: LockInfo) -> datetime | None:
        asked.append(lock)
        assert _count(repository.bank) == 1
        if len(asked) == 3:
            held.release()
        return NOW + timedelta(seconds=len(asked))

    lock = _acquire(repository, wait=wait)
    assert [one.id for one in asked] == [asked[0].id] * 3
    lock.release()
    _acquire(repository, exclusive=True)
    with pytest.raises(ConflictError):
        _acquire(repository, wait=lambda lock: None)


def test_a_refresh_is_a_new_object_and_then_the_old_one_goes(bank: DictBank, repository: Repository) -> None:
    lock = _acquire(repository)
    first = lock.id
    bank.acts.clear()
    lock.keep(NOW + timedelta(minutes=4))
    assert bank.acts == []
    lock.keep(NOW + timedelta(minutes=6))
    assert bank.acts == [("put", f"locks/{lock.id}"), ("delete", f"locks/{first}")]
    (found,) = locks.all_locks(bank, repository.key)
    assert (found.time, found.session) == (NOW + timedelta(minutes=6), lock.session)


def test_ours_expires_before_others_take_it_for_stale(repository: Repository) -> None:
    lock = _acquire(repository)
    (found,) = locks.all_locks(repository.bank, repository.key)
    assert not lock.is_expired(NOW + timedelta(minutes=25))
    assert lock.is_expired(NOW + timedelta(minutes=26))
    assert not found.is_stale(NOW + timedelta(minutes=30))
    assert found.is_stale(NOW + timedelta(minutes=31))
    with pytest.raises(LeaseLostError):
        lock.refresh(NOW + timedelta(minutes=26))
    assert lock.is_expired(NOW)


def test_a_lock_that_another_removed_is_lost(repository: Repository) -> None:
    lock = _acquire(repository)
    repository.bank.delete(f"locks/{lock.id}")
    with pytest.raises(LeaseLostError):
        lock.refresh(NOW + timedelta(minutes=1))
    assert lock.is_expired(NOW)
    assert _count(repository.bank) == 0


def test_stale_locks_are_in_nobodys_way_and_are_removed(repository: Repository) -> None:
    _foreign(repository, exclusive=True, time="2026-03-04T04:00:00Z")
    live = _acquire(repository)
    assert locks.remove_stale(repository.bank, repository.key, NOW) == 1
    assert [lock.id for lock in locks.all_locks(repository.bank, repository.key)] == [live.id]


def test_an_unreadable_lock_counts_as_held(bank: DictBank, repository: Repository) -> None:
    bank.put("locks/" + "ab" * 32, b"noise" * 20)
    with pytest.raises(ConflictError, match="abababab"):
        _acquire(repository)


def test_nothing_stays_when_the_bank_fails_in_the_middle() -> None:
    class Failing(DictBank):
        left = 99

        def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
            self.left -= 1
            if self.left < 0:
                raise BankError("gone")
            return super().list(prefix)

    bank = Failing()
    repository = fresh(bank)
    bank.left = 2
    with pytest.raises(BankError):
        _acquire(repository)
    assert not any(key.startswith("locks/") for key in bank.objects)


@pytest.mark.slow
def test_restic_reads_our_locks_and_removes_stale_ones(restic: Restic) -> None:
    ours = Repository.init(FolderBank(restic.repository), passwords=[PASSWORD], now=NOW)
    lock = _acquire(ours)
    assert f'"time": "{NOW.isoformat().replace("+00:00", "Z")}"' in restic.run("cat", "lock", lock.id)
    restic.run("check", code=1)
    restic.run("unlock")  # NOW is long ago for restic
    assert _count(ours.bank) == 0
    restic.run("check")
