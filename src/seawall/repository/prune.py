# SPDX-License-Identifier: Apache-2.0
"""Prune: give back the space of what no snapshot needs, and take nothing from whoever still writes (I12).

Under a shared lock it works in two phases, beside running backups:

1. Packs to go are taken out of the index: what they have in use is copied to new packs, an index without them
   is published, the former index files are deleted. Then the live locks are listed and a marker says which
   packs wait and for whom. Packs that stand in no index (of a writer that runs, or was killed) are marked
   likewise.
2. By a later prune: when the grace period is over and every lock that was live at the end of phase 1 has
   gone, no snapshot can need them that is not there yet. What the snapshots lack is named again first; the
   rest is deleted.

A writer that reuses a pack which phase 1 takes away names it again when it commits, and looks once more
after its snapshot; a prune looks for new snapshots after it has published. So one of them sees the other. A
foreign restic does not do that: phase 1 waits until none is at work, and what one has lost by a hair is
named again by the next prune, since it is still on the bank.

Under an exclusive lock nobody else writes: the packs are deleted at once, after the index is published.

If the process dies anywhere: new packs are durable before the index names them, the new index before the old
one goes, the index without a pack before the pack goes, packs before their marker. The next prune goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from seawall.core.errors import BankObjectMissingError, DamagedError, InvalidInputError
from seawall.repository import codec, index, locks, pending, snapshot
from seawall.repository.check import pack_sizes
from seawall.repository.crypto import OVERHEAD_BYTES, Key
from seawall.repository.index import Index
from seawall.repository.locks import RepositoryLock
from seawall.repository.pack import (
    MAX_BLOBS,
    TARGET_BYTES,
    BlobType,
    PackBuilder,
    PackedBlob,
    check_blob,
    opens,
    pack_key,
    parse_header,
    read_header,
    read_pack,
)
from seawall.repository.pending import Pending
from seawall.repository.reader import Reader
from seawall.repository.usage import Usage
from seawall.sdk.bank import Bank
from seawall.sdk.failpoints import failpoint

GRACE: Final = timedelta(days=1)
MAX_UNUSED: Final = 0.05
SMALL_BYTES: Final = TARGET_BYTES // 4
SMALL_PACKS: Final = 10
"""So many packs below ``SMALL_BYTES`` are merged."""
SMALL_FILE_BLOBS: Final = index.MAX_FILE_BLOBS // 10
SMALL_FILES: Final = 10
"""So many index files below ``SMALL_FILE_BLOBS`` are merged."""
_ENTRY_BYTES: Final = 41


@dataclass(slots=True)
class PruneResult:
    """What one prune did."""

    deleted_packs: int = 0
    deleted_bytes: int = 0
    waiting_packs: int = 0
    """Out of the index, still on the bank."""
    waiting_bytes: int = 0
    repacked_packs: int = 0
    rescued_packs: int = 0
    """Named again, because a snapshot needs them."""
    unused_bytes: int = 0
    """Left in packs that are mostly in use."""
    postponed: str = ""
    """Whose lock it was that put phase 1 off."""
    notes: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Plan:
    drop: set[bytes]
    repack: list[bytes]
    unused_bytes: int


class Prune:
    """One prune of one repository, under a lock that the caller holds."""

    def __init__(
        self,
        bank: Bank,
        key: Key,
        lock: RepositoryLock,
        *,
        clock: Callable[[], datetime],
        grace: timedelta,
        max_unused: float,
        check: Callable[[], None],
    ) -> None:
        if not lock.exclusive and grace <= timedelta(0):
            raise InvalidInputError.of("grace", str(grace), "must be more than 0 without an exclusive lock")
        if not lock.exclusive and lock.task != locks.PRUNE:
            raise InvalidInputError.of("lock", lock.task, f"must be exclusive or of the task {locks.PRUNE}")
        if not 0 <= max_unused <= 1:
            raise InvalidInputError.of("max_unused", max_unused, "must be between 0 and 1")
        self._bank = bank
        self._key = key
        self._lock = lock
        self._clock = clock
        self._grace = grace
        self._max_unused = max_unused
        self._check = check
        self._index = Index()
        self._reader = Reader(bank, key, self._index)
        self._sizes: dict[bytes, int] = {}
        self._snapshots: set[str] = set()
        self._builders = {kind: PackBuilder(kind) for kind in BlobType}
        self._result = PruneResult()

    def run(self) -> PruneResult:
        """Both phases: the second for what an earlier prune has marked, then the first.

        ``DamagedError`` when a snapshot, an index file or a tree cannot be read: what they need is then
        unknown and nothing is removed; ``LeaseLostError`` when the lock is lost.
        """
        live = {lock.holder for lock in self._live()}  # before the snapshots are listed: who is gone has his
        usage = self._survey()
        markers = list(pending.load_all(self._bank, self._key))
        waiting = self._phase_two(markers, live)
        self._phase_one(usage, waiting)
        return self._result

    def _live(self) -> list[locks.LockInfo]:
        found = locks.live_locks(self._bank, self._key, self._clock())
        return [lock for lock in found if lock.session != self._lock.session]

    def _confirm(self) -> None:
        """Raise when the work was taken over or the lock is lost; nothing may then be changed."""
        self._check()
        self._lock.keep(self._clock())

    # --- what is needed --------------------------------------------------------------------------

    def _survey(self) -> Usage:
        """What all snapshots need. Their order matters: snapshots, then index, then packs."""
        roots = self._new_roots()
        usage = self._whole_use(roots)
        trees = [blob_id for kind, blob_id in usage.missing if kind is BlobType.TREE]
        if trees:
            raise DamagedError(
                f"{len(trees)} trees that snapshots need are missing, first {trees[0].hex()[:16]}; "
                "nothing is pruned, since what they need is unknown"
            )
        if usage.missing:
            self._result.notes.append(f"{len(usage.missing)} data blobs that snapshots need are missing")
        return usage

    def _new_roots(self) -> list[bytes]:
        """The trees of snapshots that were not there when this was asked before."""
        roots = []
        for item in list(self._bank.list(snapshot.PREFIX)):
            snapshot_id = item.key.removeprefix(snapshot.PREFIX)
            if snapshot_id in self._snapshots:
                continue
            try:
                roots.append(bytes.fromhex(snapshot.load(self._bank, self._key, snapshot_id).tree))
            except BankObjectMissingError:
                continue  # forgotten since it was listed
            self._snapshots.add(snapshot_id)
        return roots

    def _use(self, roots: Sequence[bytes]) -> Usage:
        self._index.refresh(self._bank, self._key)
        self._sizes = pack_sizes(self._bank)
        usage = Usage(self._index, self._reader, self._sizes, self._confirm)
        usage.take(roots)
        return usage

    def _whole_use(self, roots: Sequence[bytes]) -> Usage:
        """As ``_use``, when all that is on the bank and in no index has been named again that is needed.

        More than one round: only a folder that is named again says what its files need.
        """
        usage = self._use(roots)
        while usage.missing and self._rescue(usage):
            usage = self._use(roots)
        return usage

    def _orphans(self) -> list[bytes]:
        return [pack_id for pack_id in self._sizes if self._index.number_of(pack_id) < 0]

    def _rescue(self, usage: Usage) -> int:
        """Name packs again that hold what snapshots lack, or copy it out of damaged ones; how many of both.

        Only what was read and found whole: a damaged copy in the index would keep backups from healing it.
        """
        whole: list[bytes] = []
        parts: list[tuple[PackedBlob, bytes]] = []
        for pack_id in self._orphans():
            try:
                blobs = read_header(self._bank, self._key, pack_id, self._sizes[pack_id])
                wanted = [blob for blob in blobs if (blob.type, blob.id) in usage.missing]
                content = read_pack(self._bank, pack_id) if wanted else b""
            except (DamagedError, BankObjectMissingError) as error:
                self._result.notes.append(str(error))
                continue
            if wanted and codec.content_id(content) == pack_id:
                whole.append(pack_id)
                usage.missing.difference_update((blob.type, blob.id) for blob in blobs)
                continue
            for blob in wanted:
                sealed = content[blob.offset : blob.offset + blob.length]
                if opens(self._key, sealed, blob):
                    parts.append((blob, sealed))
                    usage.missing.discard((blob.type, blob.id))
        self._confirm()
        self._index.republish(self._bank, self._key, whole)
        self._result.rescued_packs += len(whole)
        self._store(self._copy(parts))
        return len(whole) + len(parts)

    # --- phase two -------------------------------------------------------------------------------

    def _phase_two(self, markers: Sequence[Pending], live: set[str]) -> set[bytes]:
        """Delete what is due; the packs that still wait."""
        now = self._clock()
        due = [
            marker
            for marker in markers
            if self._lock.exclusive or (now >= marker.at + self._grace and not live & marker.holders)
        ]
        waiting = {pack_id for marker in markers if marker not in due for pack_id in marker.packs}
        waiting = {pack_id for pack_id in waiting if self._is_loose(pack_id)}
        self._result.waiting_packs = len(waiting)
        self._result.waiting_bytes = sum(self._sizes[pack_id] for pack_id in waiting)
        for marker in due:  # a pack that was named again and taken out again waits by its last marker
            self._delete_packs(
                pack_id for pack_id in marker.packs if self._is_loose(pack_id) and pack_id not in waiting
            )
            self._confirm()
            pending.remove(self._bank, marker)
        return waiting

    def _is_loose(self, pack_id: bytes) -> bool:
        return pack_id in self._sizes and self._index.number_of(pack_id) < 0

    def _delete_packs(self, packs: Iterable[bytes]) -> None:
        for pack_id in packs:
            self._confirm()
            failpoint("repository.pack.before_delete")
            self._bank.delete(pack_key(pack_id))
            failpoint("repository.pack.after_delete")
            self._result.deleted_packs += 1
            self._result.deleted_bytes += self._sizes.pop(pack_id)

    # --- phase one -------------------------------------------------------------------------------

    def _phase_one(self, usage: Usage, waiting: set[bytes]) -> None:
        foreign = self._foreign()
        if foreign:
            self._result.postponed = foreign
            return
        plan = self._plan(usage)
        plan.drop.update(self._repack(plan.repack, usage))
        self._result.unused_bytes = plan.unused_bytes
        self._publish(plan.drop)
        gone = plan.drop.union(self._orphans()) & self._sizes.keys() - waiting
        if self._lock.exclusive:
            self._delete_packs(pack_id for pack_id in sorted(gone) if self._index.number_of(pack_id) < 0)
            return
        foreign = self._foreign()
        if foreign:  # it came meanwhile and may have read the former index: it gets back what that named
            self._confirm()
            self._index.republish(self._bank, self._key, sorted(plan.drop & self._sizes.keys()))
            self._result.postponed = foreign
            return
        if gone:
            self._mark(gone)
        roots = self._new_roots()
        if roots:
            self._whole_use(roots)

    def _foreign(self) -> str:
        return next((str(lock) for lock in self._live() if lock.is_foreign), "")

    def _mark(self, packs: set[bytes]) -> None:
        holders = [lock.holder for lock in self._live()]
        self._confirm()
        pending.save(self._bank, self._key, packs, at=self._clock(), holders=holders)
        self._result.waiting_packs += len(packs)
        self._result.waiting_bytes += sum(self._sizes[pack_id] for pack_id in packs)

    def _plan(self, usage: Usage) -> _Plan:
        used, counts = usage.marks.used_bytes()
        drop: set[bytes] = set()
        partly: list[tuple[float, int, bytes]] = []
        small: list[bytes] = []
        total = unused = 0
        for number, pack_id in enumerate(self._index.packs):
            size = self._sizes.get(pack_id)
            if not self._index.is_named(number):
                continue
            if size is None:
                drop.add(pack_id)  # only the index still knows it; check has told what was lost with it
                continue
            if not counts[number]:
                drop.add(pack_id)
                continue
            rest = size - used[number] - counts[number] * _ENTRY_BYTES - OVERHEAD_BYTES - 4
            total += used[number]
            if rest > 0:
                unused += rest
                partly.append((rest / size, rest, pack_id))
            elif size < SMALL_BYTES and counts[number] < MAX_BLOBS // 2:
                small.append(pack_id)
        repack = []
        for _, rest, pack_id in sorted(partly, reverse=True):
            if unused <= self._max_unused * total:
                break
            repack.append(pack_id)
            unused -= rest
        if len(small) + sum(self._sizes[pack_id] < SMALL_BYTES for pack_id in repack) >= SMALL_PACKS:
            repack += small
        return _Plan(drop, repack, unused)

    def _repack(self, packs: Sequence[bytes], usage: Usage) -> set[bytes]:
        """Copy what these packs have in use to new ones, then in the index; which packs were copied."""
        made: list[tuple[bytes, Sequence[PackedBlob]]] = []
        copied: set[bytes] = set()
        for pack_id in packs:
            self._confirm()
            try:
                parts = self._used_parts(pack_id, usage)
            except (DamagedError, BankObjectMissingError) as error:
                self._result.notes.append(f"not repacked: {error}")
                continue
            made += self._copy(parts, finish=False)
            copied.add(pack_id)
        self._store(made + self._copy([]))
        self._result.repacked_packs = len(copied)
        return copied

    def _copy(
        self, parts: Iterable[tuple[PackedBlob, bytes]], *, finish: bool = True
    ) -> list[tuple[bytes, Sequence[PackedBlob]]]:
        """Add sealed blobs to new packs; those that are durable now, with ``finish`` all of them."""
        made = []
        for blob, sealed in parts:
            builder = self._builders[blob.type]
            builder.add(blob.id, sealed, blob.unpacked)
            if builder.full:
                self._builders[blob.type] = PackBuilder(blob.type)
                made.append(self._put(builder))
        if finish:
            made += [self._put(builder) for builder in self._builders.values() if builder.blobs]
            self._builders = {kind: PackBuilder(kind) for kind in BlobType}
        return made

    def _store(self, made: Sequence[tuple[bytes, Sequence[PackedBlob]]]) -> None:
        if made:
            self._confirm()
            self._index.add_file(index.save_file(self._bank, self._key, made), made)

    def _used_parts(self, pack_id: bytes, usage: Usage) -> list[tuple[PackedBlob, bytes]]:
        """The used blobs of a pack, sealed as they are, each found whole."""
        content = read_pack(self._bank, pack_id)
        view = memoryview(content)
        blobs = parse_header(self._key, content, len(content), f"pack {pack_id.hex()[:16]}")
        assert isinstance(blobs, list)  # the whole pack is given
        found = []
        for blob in blobs:
            if usage.marks.has(blob.id, blob.type, pack_id):
                sealed = view[blob.offset : blob.offset + blob.length]
                check_blob(self._key, sealed, blob)
                found.append((blob, bytes(sealed)))
        return found

    def _put(self, builder: PackBuilder) -> tuple[bytes, Sequence[PackedBlob]]:
        pack_id, parts = builder.finish(self._key)
        failpoint("repository.repack.before_put")
        self._bank.put(pack_key(pack_id), parts)
        failpoint("repository.repack.after_put")
        self._sizes[pack_id] = sum(map(len, parts))
        return pack_id, builder.blobs

    def _publish(self, drop: set[bytes]) -> None:
        """Replace the index files that name these packs, and small ones, by new ones without these packs."""
        if not drop and len(self._index.files) < SMALL_FILES:
            return
        small: list[str] = []
        old: list[str] = []
        fresh: list[tuple[bytes, Sequence[PackedBlob]]] = []
        kept: set[bytes] = set()
        for file_id in sorted(self._index.files):
            packs = index.load_file(self._bank, self._key, file_id)
            if not drop.isdisjoint(pack_id for pack_id, _ in packs) or not kept.isdisjoint(
                pack_id for pack_id, _ in packs
            ):
                old.append(file_id)
                fresh += [one for one in packs if one[0] not in drop and one[0] not in kept]
                fresh = self._save_index(fresh, index.MAX_FILE_BLOBS)
            elif sum(len(blobs) for _, blobs in packs) < SMALL_FILE_BLOBS:
                small.append(file_id)
            kept.update(pack_id for pack_id, _ in packs)
        if len(small) >= SMALL_FILES:
            for file_id in small:  # read once more: of many, all together would be much
                old.append(file_id)
                fresh += index.load_file(self._bank, self._key, file_id)
                fresh = self._save_index(fresh, index.MAX_FILE_BLOBS)
        self._save_index(fresh, 1)
        for file_id in old:
            self._confirm()
            failpoint("repository.index.before_delete")
            self._bank.delete(index.PREFIX + file_id)
            failpoint("repository.index.after_delete")
        self._index.refresh(self._bank, self._key)

    def _save_index(
        self, packs: list[tuple[bytes, Sequence[PackedBlob]]], least: int
    ) -> list[tuple[bytes, Sequence[PackedBlob]]]:
        """Store one index file if there are as many blobs; what is left to store."""
        if sum(len(blobs) for _, blobs in packs) < least:
            return packs
        self._confirm()
        index.save_file(self._bank, self._key, packs)
        return []
