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
    """One repair of one repository, under an exclusive lock that the caller holds."""

    def __init__(self, bank: Bank, key: Key, lock: RepositoryLock, *, clock: Callable[[], datetime]) -> None:
        if not lock.exclusive:
            raise InvalidInputError.of("lock", "shared", "must be an exclusive one to repair")
        self._bank = bank
        self._key = key
        self._lock = lock
        self._clock = clock
        self._result = RepairResult()
        self._packs: dict[bytes, Sequence[PackedBlob]] = {}

    def run(self, damaged: Iterable[bytes]) -> RepairResult:
        """Rebuild the index; ``damaged`` are packs that a check has found to be so."""
        files = self._take_files()
        sizes = pack_sizes(self._bank)
        bad = self._compare(sizes, set(damaged))
        fresh = self._salvage(bad, sizes)
        self._replace(files, [*self._packs.items(), *fresh])
        return self._result

    def _confirm(self) -> None:
        self._lock.keep(self._clock())

    def _take_files(self) -> list[str]:
        files = []
        for item in list(self._bank.list(index.PREFIX)):
            file_id = item.key.removeprefix(index.PREFIX)
            files.append(file_id)
            try:
                self._packs.update(index.load_file(self._bank, self._key, file_id))
            except DamagedError as error:
                self._result.index_files_damaged += 1
                self._result.notes.append(str(error))
        return files

    def _compare(self, sizes: dict[bytes, int], damaged: set[bytes]) -> dict[bytes, Sequence[PackedBlob]]:
        """Settle what is on the bank; the packs to read blob by blob, with what they should hold."""
        bad: dict[bytes, Sequence[PackedBlob]] = {}
        for pack_id in list(self._packs):
            if pack_id not in sizes:
                self._result.packs_lost += 1
                self._result.blobs_lost += len(self._packs.pop(pack_id))
            elif pack_id in damaged or sizes[pack_id] != pack_bytes(self._packs[pack_id]):
                bad[pack_id] = self._packs.pop(pack_id)
        for number, pack_id in enumerate(sorted(sizes.keys() - self._packs.keys() - bad.keys())):
            if number % _CONFIRM_EVERY == 0:
                self._confirm()
            try:
                blobs = read_header(self._bank, self._key, pack_id, sizes[pack_id])
            except DamagedError as error:
                self._result.notes.append(f"{error}; nothing tells what it held")
                continue
            # A whole header says nothing of the rest: a former repair may have left this pack out.
            if pack_id in damaged or not self._is_whole(pack_id):
                bad[pack_id] = blobs
            else:
                self._packs[pack_id] = blobs
                self._result.packs_found += 1
        return bad

    def _is_whole(self, pack_id: bytes) -> bool:
        try:
            return sha256(read_pack(self._bank, pack_id)).digest() == pack_id
        except (BankObjectMissingError, DamagedError):
            return False

    def _salvage(self, bad: dict[bytes, Sequence[PackedBlob]], sizes: dict[bytes, int]) -> Packs:
        """Copy what can be read out of damaged packs; the packs that hold it now."""
        builders = {kind: PackBuilder(kind) for kind in BlobType}
        made: Packs = []
        for pack_id, blobs in bad.items():
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
                builder = builders[blob.type]
                builder.add(blob.id, bytes(sealed), blob.unpacked)
                if builder.full:
                    builders[blob.type] = PackBuilder(blob.type)
                    made.append(self._put(builder))
        return made + [self._put(builder) for builder in builders.values() if builder.blobs]

    def _true_blobs(
        self, pack_id: bytes, content: bytes, blobs: Sequence[PackedBlob]
    ) -> Sequence[PackedBlob]:
        """By the header, which is sealed, if it can be read; else by the index."""
        try:
            found = parse_header(self._key, content, len(content), f"pack {pack_id.hex()[:16]}")
        except DamagedError:
            return blobs
        return found if isinstance(found, list) else blobs

    def _put(self, builder: PackBuilder) -> tuple[bytes, Sequence[PackedBlob]]:
        pack_id, parts = builder.finish(self._key)
        failpoint("repository.repair.before_put")
        self._bank.put(pack_key(pack_id), parts)
        failpoint("repository.repair.after_put")
        return pack_id, builder.blobs

    def _replace(self, files: Sequence[str], packs: Packs) -> None:
        made = set()
        batch: Packs = []
        count = 0
        for pack_id, blobs in packs:
            batch.append((pack_id, blobs))
            count += len(blobs)
            if count >= index.MAX_FILE_BLOBS:
                self._confirm()
                made.add(index.save_file(self._bank, self._key, batch))
                batch, count = [], 0
        if batch:
            self._confirm()
            made.add(index.save_file(self._bank, self._key, batch))
        for file_id in files:
            if file_id not in made:
                self._confirm()
                failpoint("repository.index.before_delete")
                self._bank.delete(index.PREFIX + file_id)
                failpoint("repository.index.after_delete")
