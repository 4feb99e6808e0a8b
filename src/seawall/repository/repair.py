# SPDX-License-Identifier: Apache-2.0
"""Repair: the index made anew from what is on the bank, without what is lost.

Every pack that stands in no readable index file is read by its header; every pack that is gone is dropped,
and of packs known to be damaged only the blobs that can still be read are kept, copied to new packs. Then the
old index files go. No pack is deleted here: a prune does that, after its grace period.

What snapshots have lost is said by the check that follows. The next backup stores again what still stands at
its source, since the index no longer has it, and the old snapshots are whole again when it was all of it.

If the process dies anywhere, old and new index files stand side by side, which is harmless; begin again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from typing import Final

from seawall.core.errors import BankObjectMissingError, DamagedError, InvalidInputError
from seawall.repository import index
from seawall.repository.check import pack_bytes, pack_sizes
from seawall.repository.crypto import Key
from seawall.repository.locks import RepositoryLock
from seawall.repository.pack import (
    BlobType,
    PackBuilder,
    PackedBlob,
    check_blob,
    pack_key,
    parse_header,
    read_header,
    read_pack,
)
from seawall.sdk.bank import Bank
from seawall.sdk.failpoints import failpoint

_CONFIRM_EVERY: Final = 64

Packs = list[tuple[bytes, Sequence[PackedBlob]]]


@dataclass(slots=True)
class RepairResult:
    """What one repair did."""

    index_files_damaged: int = 0
    packs_found: int = 0
    """That no readable index file named."""
    packs_lost: int = 0
    """That an index file named and that are not on the bank."""
    packs_salvaged: int = 0
    blobs_salvaged: int = 0
    blobs_lost: int = 0
    notes: list[str] = field(default_factory=list)


class Repair:
    """One repair of one repository, under an exclusive lock that the caller holds.

    Memory holds a line for each pack and one index file's entries.
    """

    def __init__(self, bank: Bank, key: Key, lock: RepositoryLock, *, clock: Callable[[], datetime]) -> None:
        if not lock.exclusive:
            raise InvalidInputError.of("lock", "shared", "must be an exclusive one to repair")
        self._bank = bank
        self._key = key
        self._lock = lock
        self._clock = clock
        self._result = RepairResult()
        self._named: dict[bytes, tuple[int, int]] = {}
        """By the index: the length of each pack and how many blobs it has."""
        self._sizes: dict[bytes, int] = {}
        self._damaged: set[bytes] = set()
        self._settled: set[bytes] = set()
        self._builders = {kind: PackBuilder(kind) for kind in BlobType}
        self._batch: Packs = []
        self._batch_blobs = 0
        self._made: set[str] = set()

    def run(self, damaged: Iterable[bytes]) -> RepairResult:
        """Rebuild the index; ``damaged`` are packs that a check has found to be so."""
        self._damaged = set(damaged)
        there = [item.key.removeprefix(index.PREFIX) for item in self._bank.list(index.PREFIX)]
        files = [file_id for file_id in there if self._look(file_id)]
        self._sizes = pack_sizes(self._bank)
        for pack_id, (_, count) in self._named.items():
            if pack_id not in self._sizes:
                self._result.packs_lost += 1
                self._result.blobs_lost += count
        for file_id in files:
            self._confirm()
            for pack_id, blobs in index.load_file(self._bank, self._key, file_id):
                self._settle(pack_id, blobs)
        self._take_unnamed()
        for builder in self._builders.values():
            if builder.blobs:
                self._put(builder)
        self._save()
        for file_id in there:
            if file_id not in self._made:
                self._confirm()
                failpoint("repository.index.before_delete")
                self._bank.delete(index.PREFIX + file_id)
                failpoint("repository.index.after_delete")
        return self._result

    def _confirm(self) -> None:
        self._lock.keep(self._clock())

    def _look(self, file_id: str) -> bool:
        """Whether an index file can be read; what it names is then in ``_named``."""
        try:
            packs = index.load_file(self._bank, self._key, file_id)
        except DamagedError as error:
            self._result.index_files_damaged += 1
            self._result.notes.append(str(error))
            return False
        self._named.update((pack_id, (pack_bytes(blobs), len(blobs))) for pack_id, blobs in packs)
        return True

    def _settle(self, pack_id: bytes, blobs: Sequence[PackedBlob]) -> None:
        """Take in a pack as an index file names it; of several that name it otherwise the last one counts."""
        size = self._sizes.get(pack_id)
        if (
            size is None
            or pack_id in self._settled
            or self._named[pack_id] != (pack_bytes(blobs), len(blobs))
        ):
            return
        self._settled.add(pack_id)
        if pack_id in self._damaged or size != self._named[pack_id][0]:
            self._salvage(pack_id, blobs)
        else:
            self._keep(pack_id, blobs)

    def _take_unnamed(self) -> None:
        for number, pack_id in enumerate(sorted(self._sizes.keys() - self._named.keys())):
            if number % _CONFIRM_EVERY == 0:
                self._confirm()
            try:
                blobs = read_header(self._bank, self._key, pack_id, self._sizes[pack_id])
            except DamagedError as error:
                self._result.notes.append(f"{error}; nothing tells what it held")
                continue
            # A whole header says nothing of the rest: a former repair may have left this pack out.
            if pack_id in self._damaged or not self._is_whole(pack_id):
                self._salvage(pack_id, blobs)
            else:
                self._keep(pack_id, blobs)
                self._result.packs_found += 1

    def _is_whole(self, pack_id: bytes) -> bool:
        try:
            return sha256(read_pack(self._bank, pack_id)).digest() == pack_id
        except (BankObjectMissingError, DamagedError):
            return False

    # --- what can be read of damaged packs ---------------------------------------------------------

    def _salvage(self, pack_id: bytes, blobs: Sequence[PackedBlob]) -> None:
        """Copy what can be read out of a damaged pack."""
        self._confirm()
        try:
            content = read_pack(self._bank, pack_id)
        except (BankObjectMissingError, DamagedError):
            content = b""
        view = memoryview(content)
        self._result.packs_salvaged += 1
        for blob in self._true_blobs(pack_id, content, blobs):
            sealed = view[blob.offset : blob.offset + blob.length]
            try:
                check_blob(self._key, sealed, blob)
            except DamagedError as error:
                self._result.blobs_lost += 1
                self._result.notes.append(f"pack {pack_id.hex()[:16]}: {error}")
                continue
            self._result.blobs_salvaged += 1
            builder = self._builders[blob.type]
            builder.add(blob.id, bytes(sealed), blob.unpacked)
            if builder.full:
                self._builders[blob.type] = PackBuilder(blob.type)
                self._put(builder)

    def _true_blobs(
        self, pack_id: bytes, content: bytes, blobs: Sequence[PackedBlob]
    ) -> Sequence[PackedBlob]:
        """By the header, which is sealed, if it can be read; else by the index."""
        try:
            found = parse_header(self._key, content, len(content), f"pack {pack_id.hex()[:16]}")
        except DamagedError:
            return blobs
        return found if isinstance(found, list) else blobs

    def _put(self, builder: PackBuilder) -> None:
        pack_id, parts = builder.finish(self._key)
        failpoint("repository.repair.before_put")
        self._bank.put(pack_key(pack_id), parts)
        failpoint("repository.repair.after_put")
        self._keep(pack_id, builder.blobs)

    # --- the new index -----------------------------------------------------------------------------

    def _keep(self, pack_id: bytes, blobs: Sequence[PackedBlob]) -> None:
        self._batch.append((pack_id, blobs))
        self._batch_blobs += len(blobs)
        if self._batch_blobs >= index.MAX_FILE_BLOBS:
            self._save()

    def _save(self) -> None:
        if self._batch:
            self._confirm()
            self._made.add(index.save_file(self._bank, self._key, self._batch))
            self._batch, self._batch_blobs = [], 0
