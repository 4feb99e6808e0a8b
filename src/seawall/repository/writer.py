# SPDX-License-Identifier: Apache-2.0
"""Writer: everything that one backup adds to a repository.

Order is what makes it safe: packs are durable before an index names them, and all of both before the
snapshot, which is written last and read back. A writer that dies at any point leaves a repository that is
whole; what it had stored is found again by the next one, or removed by a prune.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, Protocol

from seawall.core.errors import (
    BankObjectMissingError,
    ConflictError,
    DamagedError,
    InvalidInputError,
    LeaseLostError,
)
from seawall.repository import codec, config, nodes, snapshot
from seawall.repository.chunker import (
    FILE_AVERAGE_BYTES,
    STREAM_AVERAGE_BYTES,
    STREAM_NORMALIZATION,
    Chunker,
    IterableReader,
    Readable,
)
from seawall.repository.crypto import Key
from seawall.repository.index import Index
from seawall.repository.nodes import Node
from seawall.repository.pack import BlobType, pack_key
from seawall.repository.packer import Packer
from seawall.repository.reader import Reader
from seawall.repository.trees import GrowingTree, SealedTree
from seawall.repository.walk import Progress, Walk
from seawall.sdk.bank import Bank
from seawall.sdk.failpoints import failpoint
from seawall.sdk.protection import SourceFault

_LIST_FROM: Final = 200
"""From so many reused packs on, one listing is cheaper than asking for each."""


class Lock(Protocol):
    """What the writer asks of its repository lock."""

    def is_expired(self, now: datetime) -> bool:
        """Whether others may by now take it for stale."""
        ...


@dataclass(frozen=True, slots=True)
class TreeResult:
    """What ``save_path`` stored. ``root`` describes the root itself: its mode, owner and times."""

    tree_id: str
    items: int
    read_bytes: int
    added_bytes: int
    faults: tuple[SourceFault, ...]
    root: Node


class Writer:
    """One writer of an open repository; made by ``Repository.writer``. For one thread."""

    def __init__(
        self,
        bank: Bank,
        key: Key,
        index: Index,
        lock: Lock,
        *,
        clock: Callable[[], datetime] | None = None,
        level: int = codec.LEVEL,
    ) -> None:
        self._told = datetime.min.replace(tzinfo=UTC)
        self._clock = clock or (lambda: self._told)
        self._bank = bank
        self._key = key
        self._index = index
        self._lock = lock
        self._level = level
        self._reader = Reader(bank, key, index)
        self._packer = Packer(bank, key, index, held=self._held, level=level)
        self._files = Chunker(key, FILE_AVERAGE_BYTES)
        self._streams = Chunker(key, STREAM_AVERAGE_BYTES, normalization=STREAM_NORMALIZATION)
        self._reused: set[int] = set()

    def _held(self) -> None:
        """Raise when the lock has expired: who thinks us dead may have removed what nobody names yet."""
        if self._lock.is_expired(self._clock()):
            raise LeaseLostError("the lock on the repository has expired; nothing more is published under it")

    # --- blobs ---------------------------------------------------------------------------------

    def _save(self, blob_type: BlobType, content: bytes | memoryview) -> bytes:
        blob_id = sha256(content).digest()
        number = self._index.pack_number(blob_id, blob_type)
        if number >= 0:
            self._reused.add(number)
        elif not self._packer.is_pending(blob_id, blob_type):
            self._packer.add(blob_type, blob_id, bytes(content))
        return blob_id

    def save_whole(self, content: bytes) -> bytes:
        """Store one data blob; its id."""
        return self._save(BlobType.DATA, content)

    def save_chunks(self, source: Readable, chunker: Chunker) -> tuple[list[bytes], int]:
        """Cut a source into data blobs; their ids and the length of all."""
        ids = []
        length = 0
        for chunk in chunker.cut(source):
            ids.append(self._save(BlobType.DATA, chunk))
            length += len(chunk)
        return ids, length

    def growing_tree(self) -> GrowingTree:
        """A tree that takes encoded nodes one by one, sorted by name."""
        return GrowingTree(self._key, self._level, self._save_small_tree, self._save_large_tree)

    def save_tree(self, encoded: Iterable[str]) -> bytes:
        """Store the tree of encoded nodes, sorted by name; its id."""
        tree = self.growing_tree()
        for node in encoded:
            tree.add(node)
        return tree.save()

    def _save_small_tree(self, content: bytes) -> bytes:
        return self._save(BlobType.TREE, content)

    def _save_large_tree(self, tree: SealedTree) -> bytes:
        number = self._index.pack_number(tree.id, BlobType.TREE)
        if number >= 0:
            self._reused.add(number)
        elif not self._packer.is_pending(tree.id, BlobType.TREE):
            self._packer.add_sealed(tree)
        return tree.id

    def reuse(self, blob_ids: Sequence[bytes]) -> bool:
        """Whether all these data blobs are stored; if so they count as used by this writer."""
        numbers = []
        for blob_id in blob_ids:
            number = self._index.pack_number(blob_id, BlobType.DATA)
            if number >= 0:
                numbers.append(number)
            elif not self._packer.is_pending(blob_id, BlobType.DATA):
                return False
        self._reused.update(numbers)
        return True

    def adopt(self, tree_id: str) -> str | None:
        """Rely on a tree that an earlier writer stored; what of it is missing, None when it is whole.

        From then on its packs are kept for this writer's snapshot as if it had reused them (I12). Reads its
        folders, not its files.
        """
        numbers: set[int] = set()
        seen: set[bytes] = set()
        todo = [codec.parse_id(tree_id)]
        while todo:
            tree = todo.pop()
            if tree in seen:
                continue
            seen.add(tree)
            numbers.add(self._index.pack_number(tree, BlobType.TREE))
            try:
                for entry in self._reader.entries(tree):
                    if entry.get("subtree"):
                        todo.append(codec.parse_id(entry["subtree"]))
                    for blob_id in map(codec.parse_id, entry.get("content") or ()):
                        number = self._index.pack_number(blob_id, BlobType.DATA)
                        if number < 0:
                            return f"data blob {blob_id.hex()[:16]} is in no index"
                        numbers.add(number)
            except (DamagedError, AttributeError, TypeError, ValueError) as error:
                return f"tree {tree_id[:16]}: {error}"
        there = {item.key for item in self._bank.list("data/")}
        for number in numbers - {-1}:  # -1: indexed while it was read
            if pack_key(self._index.packs[number]) not in there:
                return f"pack {self._index.packs[number].hex()[:16]} is missing"
        self._reused |= numbers - {-1}
        return None

    def load_entries(self, tree_id: str) -> list[dict[str, Any]]:
        """The JSON nodes of a stored tree; ``DamagedError`` if it cannot be read."""
        return list(self.entries(tree_id))

    def entries(self, tree_id: str) -> Iterator[dict[str, Any]]:
        """The same one by one; of a large tree ``DamagedError`` may come late."""
        try:
            wanted = codec.parse_id(tree_id)
        except (TypeError, ValueError) as error:
            raise DamagedError(f"{tree_id!r:.80} is no id of a tree: {error}") from None
        return self._reader.entries(wanted)

    # --- what a backup is made of ----------------------------------------------------------------

    def save_path(
        self,
        path: Path,
        *,
        excludes: Sequence[str] = (),
        parent_tree: str | None = None,
        progress: Progress | None = None,
        patterns: Sequence[str] = (),
        one_file_system: bool = False,
        exclude_caches: bool = False,
    ) -> TreeResult:
        """Store a folder (its entries) or a file (a tree with this one entry).

        ``excludes`` are absolute paths that are left out with all beneath them. ``parent_tree`` is what this
        returned for the same path before. ``progress`` gets (bytes done, items done), unchanged ones
        included. ``patterns`` leave out what they match (see ``patterns``), ``one_file_system`` what is
        mounted below, ``exclude_caches`` what lies in a folder with a ``CACHEDIR.TAG``. What could not be
        read whole is in ``faults``; ``SourceError`` when the root cannot be read.
        """
        before = self._packer.stored_bytes
        walk = Walk(
            self,
            self._files,
            excludes,
            progress,
            patterns=patterns,
            one_file_system=one_file_system,
            exclude_caches=exclude_caches,
        )
        tree_id, root = walk.root(path, parent_tree)
        self._packer.drain()
        figures = walk.figures
        return TreeResult(
            tree_id.hex(),
            figures.items,
            figures.read_bytes,
            self._packer.stored_bytes - before,
            tuple(figures.faults),
            root,
        )

    def save_stream(
        self,
        name: str,
        chunks: Iterable[bytes],
        *,
        mode: int = 0o600,
        mtime_ns: int = 0,
        uid: int = 0,
        gid: int = 0,
    ) -> Node:
        """Store a stream as a file; nothing refers to it if the iterable raises."""
        ids, length = self.save_chunks(IterableReader(chunks), self._streams)
        return Node(
            _checked_name(name),
            nodes.FILE,
            mode,
            mtime_ns,
            mtime_ns,
            uid,
            gid,
            size=length,
            links=1,
            content=ids,
        )

    def save_bytes(self, name: str, content: bytes, *, mode: int = 0o600, mtime_ns: int = 0) -> Node:
        """Store a small file."""
        return self.save_stream(name, [content] if content else [], mode=mode, mtime_ns=mtime_ns)

    def save_nodes(self, entries: Sequence[Node]) -> str:
        """Store a tree of these nodes, in any order; its id. Two of one name are refused."""
        ordered = sorted(entries, key=lambda node: node.name)
        for first, second in zip(ordered, ordered[1:], strict=False):
            if first.name == second.name:
                raise InvalidInputError.of("nodes", os.fsdecode(first.name), "stands twice in one tree")
        return self.save_tree([node.encode() for node in ordered]).hex()

    def dir_node(self, name: str, tree_id: str, *, like: Node | None = None) -> Node:
        """A folder with this tree; mode, owner, times and attributes are those of ``like``."""
        subtree = bytes.fromhex(tree_id)
        if like is None:
            return Node(_checked_name(name), nodes.DIR, 0o755, subtree=subtree)
        return Node(
            _checked_name(name),
            nodes.DIR,
            like.mode,
            like.mtime_ns,
            like.ctime_ns,
            like.uid,
            like.gid,
            like.user,
            like.group,
            xattrs=like.xattrs,
            subtree=subtree,
        )

    # --- making it durable ---------------------------------------------------------------------

    @property
    def added_bytes(self) -> int:
        """Stored bytes of what was new so far."""
        self._packer.drain()
        return self._packer.stored_bytes

    def flush(self) -> None:
        """On return, all that was saved so far is in durable packs and index files."""
        self._packer.flush()

    def commit(
        self,
        tree_id: str,
        *,
        hostname: str,
        username: str,
        paths: Sequence[str],
        tags: Sequence[str],
        time: datetime,
        parent: str | None = None,
        summary: Mapping[str, Any] | None = None,
        check: Callable[[], None] = lambda: None,
        now: datetime | None = None,
    ) -> str:
        """Make it a snapshot; its id. The one act that makes the backup exist.

        Before it, in this order: everything is made durable, ``check`` is called (it raises when the work was
        taken over), every pack that was reused is found on the bank, the repository is found at its place,
        and the lock is found unexpired (by the writer's clock; without one at ``now``, or ``time``). When any
        of it fails no snapshot is written. The place is looked at once more after it: a bank that is not
        mounted any more takes everything and keeps nothing. Then it raises ``BankObjectMissingError``.
        """
        self._told = now or time
        self.flush()
        root = bytes.fromhex(tree_id)
        number = self._index.pack_number(root, BlobType.TREE)
        if number < 0:
            raise DamagedError(f"tree {tree_id[:16]} is in no index, so it cannot become a snapshot")
        self._reused.add(number)
        check()
        self._held()
        self._keep_reused()
        self._confirm_packs()
        config.confirm(self._bank)
        self._held()
        made = snapshot.Snapshot(
            "", time, tree_id, tuple(paths), hostname, username, tuple(tags), parent, summary or {}
        )
        snapshot_id = snapshot.save(self._bank, self._key, made, uid=os.getuid(), gid=os.getgid())
        try:
            self._held()
        except LeaseLostError:  # stopped since the last look, for long: somebody may have pruned meanwhile
            self._withdraw_if_gone(snapshot_id)
        self._keep_reused()
        config.confirm(self._bank)
        return snapshot_id

    def _withdraw_if_gone(self, snapshot_id: str) -> None:
        """Take back a snapshot whose packs are gone; nobody has been told of it yet."""
        try:
            self._keep_reused()
            self._confirm_packs()
        except (ConflictError, DamagedError, LeaseLostError) as error:
            failpoint("repository.snapshot.before_delete")
            self._bank.delete(snapshot.PREFIX + snapshot_id)
            failpoint("repository.snapshot.after_delete")
            raise LeaseLostError(
                f"the lock on the repository has expired while the snapshot was written: {error}"
            ) from error

    def _keep_reused(self) -> None:
        """Name again what a prune has taken out of the index since this writer looked (I12).

        Before the snapshot, and once more after it: a prune looks for new snapshots after it has published
        its index, so whichever of the two is later sees the other. If the process dies between, the next
        prune finds what the snapshot lacks among the packs that it has not deleted yet.
        """
        self._index.refresh(self._bank, self._key)
        relied = self._reused | self._packer.stored_packs
        gone = [self._index.packs[number] for number in relied if not self._index.is_named(number)]
        try:
            self._index.republish(self._bank, self._key, gone, held=self._held)
        except BankObjectMissingError as error:
            raise _gone(str(error)) from None

    def _confirm_packs(self) -> None:
        relied = self._reused | self._packer.stored_packs
        wanted = {pack_key(self._index.packs[number]) for number in relied}
        if len(wanted) < _LIST_FROM:
            missing = {key for key in wanted if not self._bank.exists(key)}
        else:
            missing = wanted.difference(item.key for item in self._bank.list("data/"))
        if missing:
            raise _gone(f"{len(missing)} packs that this backup relies on are gone, first {min(missing)}")

    def close(self) -> None:
        """Give up what is not flushed and end the worker threads. May be called twice."""
        self._packer.close()

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _gone(what: str) -> ConflictError:
    return ConflictError(
        f"{what}; the snapshot is not written",
        hint="run it again: it then reads the files anew; check the repository if it happens twice",
    )


def _checked_name(name: str) -> bytes:
    encoded = os.fsencode(name)
    if not nodes.is_file_name(encoded):
        raise InvalidInputError.of("name", name, "must be a file name: not empty, no `/`, not `.` or `..`")
    return encoded
