# SPDX-License-Identifier: Apache-2.0
"""Prune frees what nobody needs, and nothing that a snapshot or a writer may still use (I12)."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

import pytest

from seawall.core.errors import DamagedError, InvalidInputError, LeaseLostError
from seawall.repository import Repository, Writer, index, locks, pack, packer, prune
from seawall.repository.index import Index
from seawall.repository.pack import BlobType
from seawall.repository.prune import PruneResult
from seawall.sdk.bank import Chunks
from tests.repository.banks import DictBank
from tests.repository.conftest import NOW, OpenLock, fresh

DAY = timedelta(days=1)


def save(repository: Repository, files: Sequence[bytes], lock: object = None) -> str:
    """One snapshot of files with these contents."""
    with repository.writer(lock or OpenLock()) as writer:  # type: ignore[arg-type]
        return _commit(writer, files)


def _commit(writer: Writer, files: Sequence[bytes], time: datetime = NOW) -> str:
    tree = writer.save_nodes([writer.save_bytes(f"{at}", content) for at, content in enumerate(files)])
    return writer.commit(tree, hostname="h", username="u", paths=["/p"], tags=[], time=time)


def run(
    repository: Repository, now: datetime = NOW, *, exclusive: bool = False, **options: object
) -> PruneResult:
    """One prune under its own lock."""
    lock = repository.lock(now=now, exclusive=exclusive, task=locks.PRUNE)
    try:
        return repository.prune(lock, clock=lambda: now, **options)  # type: ignore[arg-type]
    finally:
        lock.release()


def packs(repository: Repository) -> set[str]:
    """Those on the bank."""
    return {item.key for item in repository.bank.list("data/")}


def named(repository: Repository) -> int:
    """How many packs the index files name now."""
    found = Index()
    found.refresh(repository.bank, repository.key)
    return len(found.packs)


def content(repository: Repository, snapshot: str, name: str) -> bytes:
    """What a file of a snapshot holds, read afresh."""
    repository.refresh()
    return b"".join(repository.read_file(repository.find(repository.snapshot(snapshot).tree, name)))


def whole(repository: Repository) -> bool:
    """Whether nothing is damaged by the strictest check."""
    return repository.check(read_data=True) == []


def test_what_no_snapshot_needs_goes_in_two_phases(bank: DictBank, repository: Repository) -> None:
    kept, gone = os.urandom(5000), os.urandom(9000)
    first = save(repository, [kept])
    second = save(repository, [gone])
    before = packs(repository)
    repository.forget(second)
    one = run(repository)
    assert (one.waiting_packs, one.deleted_packs, one.postponed) == (2, 0, "")
    assert one.waiting_bytes > 9000
    assert packs(repository) == before
    assert named(repository) == 2
    early = run(repository, NOW + DAY - timedelta(seconds=1))
    assert (early.waiting_packs, early.deleted_packs) == (2, 0)
    two = run(repository, NOW + DAY)
    assert (two.waiting_packs, two.deleted_packs, two.deleted_bytes) == (0, 2, one.waiting_bytes)
    assert len(packs(repository)) == 2
    assert not list(bank.list("seawall/"))
    assert content(repository, first, "0") == kept
    assert whole(repository)


def test_under_an_exclusive_lock_it_goes_at_once(repository: Repository) -> None:
    first = save(repository, [b"kept"])
    repository.forget(save(repository, [b"gone"]))
    result = run(repository, exclusive=True)
    assert (result.deleted_packs, result.waiting_packs) == (2, 0)
    assert len(packs(repository)) == 2
    assert content(repository, first, "0") == b"kept"
    repository.forget(first)
    run(repository, exclusive=True)
    assert packs(repository) == set()
    assert named(repository) == 0


def test_an_exclusive_prune_ends_what_waited(repository: Repository) -> None:
    repository.forget(save(repository, [b"gone"]))
    assert run(repository).waiting_packs == 2
    assert run(repository, exclusive=True).deleted_packs == 2
    assert list(repository.bank.list("seawall/")) == []


def test_without_a_lock_of_its_own_or_a_grace_it_is_refused(repository: Repository) -> None:
    with pytest.raises(InvalidInputError, match="grace"):
        run(repository, grace=timedelta(0))
    with pytest.raises(InvalidInputError, match="lock"):
        repository.prune(repository.lock(now=NOW), clock=lambda: NOW)
    with pytest.raises(InvalidInputError, match="max_unused"):
        run(repository, max_unused=2.0)


def test_a_lock_from_before_phase_one_holds_the_packs_however_often_refreshed(
    repository: Repository,
) -> None:
    repository.forget(save(repository, [b"gone"]))
    held = repository.lock(now=NOW)
    assert run(repository).waiting_packs == 2
    later = NOW
    while later < NOW + 2 * DAY:
        later += timedelta(minutes=20)
        held.refresh(later)
    assert run(repository, later).deleted_packs == 0
    held.release()
    new = repository.lock(now=later)
    assert run(repository, later).deleted_packs == 2
    new.release()


def test_a_dead_holder_counts_until_its_lock_is_stale(repository: Repository) -> None:
    repository.forget(save(repository, [b"gone"]))
    repository.lock(now=NOW)
    run(repository, grace=timedelta(minutes=10))
    assert run(repository, NOW + timedelta(minutes=29), grace=timedelta(minutes=10)).deleted_packs == 0
    assert run(repository, NOW + timedelta(minutes=31), grace=timedelta(minutes=10)).deleted_packs == 2


def test_phase_one_waits_for_a_foreign_program(bank: DictBank, repository: Repository) -> None:
    repository.forget(save(repository, [b"gone"]))
    held = repository.lock(now=NOW)
    key = f"locks/{held.id}"
    from seawall.repository import codec

    value = codec.unpack_object(repository.key.open(bank.objects[key], "lock"), "lock")
    bank.objects[key] = repository.key.seal(
        codec.pack_object({name: word for name, word in value.items() if "seawall" not in name})
    )
    result = run(repository)
    assert "shared lock" in result.postponed
    assert (result.waiting_packs, named(repository)) == (0, 2)


def test_a_writer_that_began_before_keeps_what_it_reuses(repository: Repository) -> None:
    shared = os.urandom(4000)
    old = save(repository, [shared])
    other = Repository(repository.bank, repository.key, repository._config, "", NOW)
    lock = other.lock(now=NOW)
    with other.writer(lock) as writer:
        node = writer.save_bytes("0", shared)
        assert writer.added_bytes == 0
        repository.forget(old)
        assert run(repository).waiting_packs == 2
        assert named(repository) == 0
        tree = writer.save_nodes([node])
        made = writer.commit(tree, hostname="h", username="u", paths=[], tags=[], time=NOW)
    lock.release()
    assert content(repository, made, "0") == shared
    assert whole(repository)
    run(repository, NOW + DAY)
    assert content(repository, made, "0") == shared
    assert whole(repository)


def test_a_writer_keeps_what_it_has_itself_stored_before(repository: Repository) -> None:
    with repository.writer(repository.lock(now=NOW)) as writer:
        node = writer.save_bytes("0", b"early")
        writer.flush()
        other = Repository(repository.bank, repository.key, repository._config, "", NOW)
        assert run(other).waiting_packs == 1
        made = writer.commit(
            writer.save_nodes([node]), hostname="h", username="u", paths=[], tags=[], time=NOW
        )
    assert content(repository, made, "0") == b"early"
    assert whole(repository)


def test_a_pack_that_was_named_again_and_taken_out_again_waits_anew(repository: Repository) -> None:
    shared = os.urandom(4000)
    old = save(repository, [shared])
    early = repository.lock(now=NOW)
    with repository.writer(early) as writer:
        node = writer.save_bytes("0", shared)
        repository.forget(old)
        other = Repository(repository.bank, repository.key, repository._config, "", NOW)
        run(other)
        tree = writer.save_nodes([node])
        made = writer.commit(tree, hostname="h", username="u", paths=[], tags=[], time=NOW)
    early.release()
    evening = NOW + timedelta(hours=20)
    late = Repository(repository.bank, repository.key, repository._config, "", NOW)
    held = late.lock(now=evening)
    with late.writer(held) as writer:
        writer.save_bytes("0", shared)
        repository.forget(made)
        assert run(repository, evening).waiting_packs == 2
        held.refresh(evening + timedelta(minutes=20))
        held.refresh(evening + timedelta(minutes=40))
        assert run(repository, evening + timedelta(minutes=50), grace=timedelta(hours=20)).deleted_packs == 0
        last = _commit(writer, [shared], evening + timedelta(minutes=51))
    assert content(repository, last, "0") == shared
    assert whole(repository)


class Meddling(DictBank):
    """Calls once when something is about to be put or deleted."""

    before: tuple[str, str, Callable[[], object]] | None = None

    def _meddle(self, act: str, key: str) -> None:
        if self.before is not None and self.before[0] == act and key.startswith(self.before[1]):
            call, self.before = self.before[2], None
            call()

    def put(self, key: str, content: bytes | Chunks, *, create_only: bool = False) -> None:
        self._meddle("put", key)
        super().put(key, content, create_only=create_only)

    def delete(self, key: str) -> None:
        self._meddle("delete", key)
        super().delete(key)


@pytest.mark.parametrize(
    "moment", [("put", "index/"), ("delete", "index/"), ("put", "seawall/"), ("put", "data/")]
)
def test_a_snapshot_that_comes_in_the_middle_of_phase_one_stays_whole(moment: tuple[str, str]) -> None:
    bank = Meddling()
    repository = fresh(bank)
    shared, kept = os.urandom(4000), os.urandom(100)
    old = save(repository, [shared, kept])
    save(repository, [os.urandom(100)])
    save(repository, [kept])
    other = Repository(bank, repository.key, repository._config, "", NOW)
    lock = other.lock(now=NOW)
    made = []
    with other.writer(lock) as writer:
        writer.save_bytes("0", shared)
        repository.forget(old)
        bank.before = (*moment, lambda: made.append(_commit(writer, [shared])))
        run(repository, max_unused=0.0)
    assert len(made) == 1
    assert content(repository, made[0], "0") == shared
    assert whole(repository)
    lock.release()
    run(repository, NOW + DAY)
    assert content(repository, made[0], "0") == shared
    assert whole(repository)


def test_what_a_foreign_snapshot_lost_by_a_hair_is_named_again(repository: Repository) -> None:
    """A writer that does not look after its snapshot, as a foreign program."""
    shared = os.urandom(4000)
    old = save(repository, [shared])
    tree = repository.snapshot(old).tree
    repository.forget(old)
    run(repository)
    from seawall.repository import snapshot

    made = snapshot.save(repository.bank, repository.key, snapshot.Snapshot("", NOW, tree), uid=0, gid=0)
    assert not whole(repository)
    result = run(repository, NOW + DAY)
    assert (result.rescued_packs, result.deleted_packs) == (2, 0)
    assert content(repository, made, "0") == shared
    assert whole(repository)


def test_partly_used_packs_are_repacked_when_too_much_is_unused(repository: Repository) -> None:
    kept, gone = os.urandom(5000), os.urandom(5000)
    both = save(repository, [kept, gone])
    first = save(repository, [kept])
    repository.forget(both)
    lazy = run(repository, max_unused=1.0)
    assert (lazy.repacked_packs, lazy.unused_bytes > 5000) == (0, True)
    result = run(repository, max_unused=0.05)
    assert (result.repacked_packs, result.unused_bytes) == (1, 0)
    run(repository, NOW + DAY)
    assert sum(item.size_bytes for item in repository.bank.list("data/")) < 6000
    assert content(repository, first, "0") == kept
    assert whole(repository)


def test_small_packs_and_small_index_files_are_merged(repository: Repository) -> None:
    contents = [os.urandom(100) for _ in range(prune.SMALL_PACKS)]
    made = [save(repository, [one]) for one in contents]
    result = run(repository, exclusive=True)
    assert result.repacked_packs == 2 * prune.SMALL_PACKS
    assert len(packs(repository)) == 2
    assert len(list(repository.bank.list("index/"))) == 1
    assert [content(repository, one, "0") for one in made] == contents
    assert whole(repository)
    again = run(repository, exclusive=True)
    assert (again.repacked_packs, again.deleted_packs) == (0, 0)


def test_a_damaged_copy_is_not_preferred_to_a_whole_one(bank: DictBank, repository: Repository) -> None:
    shared = os.urandom(4000)
    first = save(repository, [shared])
    other = Repository(bank, repository.key, repository._config, "", NOW)
    other._index = Index()
    writer = Writer(bank, repository.key, other._index, OpenLock())
    with writer:
        _commit(writer, [shared])
    blob = repository.find(repository.snapshot(first).tree, "0").content[0]
    repository.refresh()
    place = next(repository.index.locations(blob, BlobType.DATA))
    from seawall.repository.pack import pack_key

    broken = bytearray(bank.objects[pack_key(place.pack_id)])
    broken[place.blob.offset + 30] ^= 1
    bank.objects[pack_key(place.pack_id)] = bytes(broken)
    run(repository, exclusive=True, max_unused=0.0)
    assert content(repository, first, "0") == shared
    assert whole(repository)


@pytest.mark.parametrize("kind", ["index", "snapshots", "data"])
def test_nothing_is_removed_when_it_is_unknown_what_is_needed(
    bank: DictBank, repository: Repository, kind: str
) -> None:
    save(repository, [b"kept"])
    repository.forget(save(repository, [b"gone"]))
    victim = next(iter(bank.list(f"{kind}/"))).key
    if kind == "data":  # a tree
        tree = bytes.fromhex(repository.snapshots()[0].tree)
        place = repository.index.find(tree, BlobType.TREE)
        assert place is not None
        victim = f"data/{place.pack_id.hex()[:2]}/{place.pack_id.hex()}"
    bank.objects[victim] = bytes(len(bank.objects[victim]))
    before = set(bank.objects)
    with pytest.raises(DamagedError):
        run(repository, exclusive=True)
    assert set(bank.objects) == before


def test_a_pack_that_cannot_be_copied_stays(bank: DictBank, repository: Repository) -> None:
    kept, gone = os.urandom(5000), os.urandom(5000)
    both = save(repository, [kept, gone])
    save(repository, [kept])
    repository.forget(both)
    place = repository.index.find(
        repository.find(repository.snapshots()[0].tree, "0").content[0], BlobType.DATA
    )
    assert place is not None
    key = f"data/{place.pack_id.hex()[:2]}/{place.pack_id.hex()}"
    broken = bytearray(bank.objects[key])
    broken[place.blob.offset + 30] ^= 1
    bank.objects[key] = bytes(broken)
    result = run(repository, exclusive=True, max_unused=0.0)
    assert key in packs(repository)
    assert "not repacked" in result.notes[0]


def test_a_prune_that_has_lost_its_lock_changes_nothing_more(bank: DictBank, repository: Repository) -> None:
    repository.forget(save(repository, [b"gone"]))
    times = [NOW, NOW]

    def clock() -> datetime:
        return times.pop() if times else NOW + timedelta(hours=1)

    lock = repository.lock(now=NOW, exclusive=True)
    before = {key for key in bank.objects if not key.startswith("locks/")}
    with pytest.raises(LeaseLostError):
        repository.prune(lock, clock=clock)
    assert {key for key in bank.objects if not key.startswith("locks/")} == before


def test_a_marker_that_cannot_be_read_is_made_anew(bank: DictBank, repository: Repository) -> None:
    repository.forget(save(repository, [b"gone"]))
    run(repository)
    (marker,) = [key for key in bank.objects if key.startswith("seawall/")]
    bank.objects[marker] = b"noise"
    result = run(repository, NOW + DAY)
    assert (result.waiting_packs, result.deleted_packs) == (2, 0)
    assert run(repository, NOW + 2 * DAY).deleted_packs == 2


def test_an_adopted_tree_is_kept_like_a_reused_one(repository: Repository) -> None:
    with repository.writer(OpenLock()) as writer:
        tree = writer.save_nodes([writer.save_bytes("0", b"of a killed run")])
        writer.flush()
    other = Repository(repository.bank, repository.key, repository._config, "", NOW)
    with other.writer(other.lock(now=NOW)) as writer:
        assert writer.adopt(tree) is None
        assert "no index" in (writer.adopt("ab" * 32) or "")
        run(repository)
        made = writer.commit(tree, hostname="h", username="u", paths=[], tags=[], time=NOW)
    assert content(repository, made, "0") == b"of a killed run"
    assert whole(repository)


def test_big_indexes_are_split(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "MAX_FILE_BLOBS", 3)
    monkeypatch.setattr(prune, "SMALL_FILE_BLOBS", 100)
    made = [save(repository, [os.urandom(50), os.urandom(60)]) for _ in range(12)]
    repository.forget(made.pop())
    run(repository, exclusive=True)
    assert all(content(repository, one, "1") for one in made)
    assert whole(repository)


def test_packs_that_are_small_because_they_are_full_of_tiny_blobs_are_left_alone(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (pack, prune):
        monkeypatch.setattr(module, "MAX_BLOBS", 4)
    monkeypatch.setattr(packer, "BATCH_BLOBS", 4)
    made = save(repository, [os.urandom(50) for _ in range(4 * (prune.SMALL_PACKS + 2))])
    assert len(packs(repository)) == prune.SMALL_PACKS + 3
    result = run(repository, exclusive=True, max_unused=0.0)
    assert (result.repacked_packs, result.deleted_packs) == (0, 0)
    assert content(repository, made, "0")
    assert whole(repository)
