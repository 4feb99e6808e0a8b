# SPDX-License-Identifier: Apache-2.0
"""Packer: turns new blobs into durable packs and index files, with bounded memory.

The caller's thread reads, cuts and hashes; two worker threads compress, seal and store. What is under way is
bounded by the number and size of batches. Order of everything: a pack is durable before an index file names
it, and ``flush`` returns only when both are. An error of a worker is raised by the next call; nothing that
was handed over since the last ``flush`` may then be relied on, and the packer takes no more.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

from seawall.core.errors import StateError
from seawall.repository import codec, index
from seawall.repository.crypto import Key
from seawall.repository.index import Index
from seawall.repository.pack import BlobType, PackBuilder, PackedBlob, pack_key, seal_blob
from seawall.repository.trees import SealedTree
from seawall.sdk.bank import Bank
from seawall.sdk.failpoints import failpoint

WORKERS: Final = 2
BATCH_BYTES: Final = 2 * 1024 * 1024
BATCH_BLOBS: Final = 500
MAX_BATCHES: Final = 6
"""Batches that may wait or be under way: about this many times 10 MiB at most (batch + largest chunk)."""

_Batch = list[tuple[BlobType, bytes, bytes]]


class Packer:
    """Stores blobs that the index does not know. ``add`` and ``flush`` belong to one thread."""

    def __init__(
        self, bank: Bank, key: Key, known: Index, *, held: Callable[[], None], level: int = codec.LEVEL
    ) -> None:
        """``held`` raises when packs that no index names yet may have been removed (see ``save_file``)."""
        self._bank = bank
        self._key = key
        self._index = known
        self._level = level
        self._held = held
        self._workers = ThreadPoolExecutor(WORKERS, thread_name_prefix="packer")
        self._free = threading.BoundedSemaphore(MAX_BATCHES)
        self._running: list[Future[None]] = []
        self._batch: _Batch = []
        self._batch_bytes = 0
        self._pending: set[bytes] = set()
        self._lock = threading.Lock()
        self._builders = {kind: PackBuilder(kind) for kind in BlobType}
        self._durable: list[tuple[bytes, Sequence[PackedBlob]]] = []
        self._durable_blobs = 0
        self._stored_bytes = 0
        self.stored_packs: set[int] = set()
        """Index numbers of the packs that this packer has put into the index."""
        self._failed = False

    @property
    def stored_bytes(self) -> int:
        """Sealed bytes of all blobs so far; exact after ``drain`` or ``flush``."""
        return self._stored_bytes

    def is_pending(self, blob_id: bytes, blob_type: BlobType) -> bool:
        """Whether the blob was handed over and no index file names it yet."""
        return blob_id + blob_type.word.encode() in self._pending

    def add(self, blob_type: BlobType, blob_id: bytes, content: bytes) -> None:
        """Take a blob that is neither in the index nor pending; ``content`` must not be empty."""
        self._refuse_after_failure()
        self._pending.add(blob_id + blob_type.word.encode())
        self._batch.append((blob_type, blob_id, content))
        self._batch_bytes += len(content)
        if self._batch_bytes >= BATCH_BYTES or len(self._batch) >= BATCH_BLOBS:
            self._submit()
            if self._durable_blobs >= index.MAX_FILE_BLOBS:
                self._save_index()

    def add_sealed(self, tree: SealedTree) -> None:
        """Take a large tree, as ``add``. It is durable on return, so that only one is in memory."""
        self._refuse_after_failure()
        self._pending.add(tree.id + BlobType.TREE.word.encode())
        builder = PackBuilder(BlobType.TREE)
        builder.add_parts(tree.id, tree.parts, tree.unpacked)
        with self._lock:
            self._stored_bytes += builder.size
        try:
            self._put(builder)
        except BaseException:
            self._failed = True
            raise

    def _refuse_after_failure(self) -> None:
        if self._failed:
            raise StateError("this writer has failed before; begin with a new one")

    def _submit(self) -> None:
        if not self._batch:
            return
        batch, self._batch, self._batch_bytes = self._batch, [], 0
        self._free.acquire()
        future = self._workers.submit(self._store, batch)
        future.add_done_callback(lambda _: self._free.release())
        self._running.append(future)
        if len(self._running) > 4 * MAX_BATCHES or any(done.done() for done in self._running):
            self._reap(wait=False)

    def _reap(self, *, wait: bool) -> None:
        left = []
        for future in self._running:
            if not wait and not future.done():
                left.append(future)
                continue
            try:
                future.result()
            except BaseException:
                self._failed = True
                raise
        self._running = left

    def _store(self, batch: _Batch) -> None:
        sealed = [(kind, blob_id, *seal_blob(self._key, data, self._level)) for kind, blob_id, data in batch]
        full: list[PackBuilder] = []
        with self._lock:
            for kind, blob_id, content, unpacked in sealed:
                builder = self._builders[kind]
                builder.add(blob_id, content, unpacked)
                self._stored_bytes += len(content)
                if builder.full:
                    full.append(builder)
                    self._builders[kind] = PackBuilder(kind)
        for builder in full:
            self._put(builder)

    def _put(self, builder: PackBuilder) -> None:
        pack_id, parts = builder.finish(self._key)
        failpoint("repository.pack.before_put")
        self._bank.put(pack_key(pack_id), parts)
        failpoint("repository.pack.after_put")
        with self._lock:
            self._durable.append((pack_id, builder.blobs))
            self._durable_blobs += len(builder.blobs)

    def _save_index(self) -> None:
        with self._lock:
            packs, self._durable, self._durable_blobs = self._durable, [], 0
        if not packs:
            return
        try:
            file_id = index.save_file(self._bank, self._key, packs, held=self._held)
        except BaseException:
            self._failed = True
            raise
        self._index.add_file(file_id, packs)
        self.stored_packs.update(self._index.number_of(pack_id) for pack_id, _ in packs)
        for _, blobs in packs:
            self._pending.difference_update(blob.id + blob.type.word.encode() for blob in blobs)

    def drain(self) -> None:
        """Wait until every blob so far is sealed; says nothing about what is durable."""
        self._refuse_after_failure()
        self._submit()
        self._reap(wait=True)

    def flush(self) -> None:
        """On return every blob so far is in a durable pack and in a durable index file."""
        self.drain()
        left = [(kind, builder) for kind, builder in self._builders.items() if builder.blobs]
        for kind, builder in left:
            self._builders[kind] = PackBuilder(kind)
            # Both at once: a bank takes two together sooner than one after the other.
            self._running.append(self._workers.submit(self._put, builder))
        self._reap(wait=True)
        self._save_index()

    def close(self) -> None:
        """End the worker threads; what is not flushed is given up."""
        self._failed = True
        self._workers.shutdown(wait=True, cancel_futures=True)
