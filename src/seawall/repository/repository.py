# SPDX-License-Identifier: Apache-2.0
"""Repository: the way in to the engine.

One object per repository and process, kept open: opening costs a key derivation (about half a second) and the
index. For one thread at a time.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path

from seawall.core.errors import ConflictError, InvalidInputError, NotFoundError, WrongKeyError
from seawall.repository import config, keys, locks, nodes, snapshot, tar, zipped
from seawall.repository.check import Check
from seawall.repository.crypto import Key
from seawall.repository.faults import Fault
from seawall.repository.index import Index
from seawall.repository.keys import KeyInfo
from seawall.repository.locks import LockInfo, RepositoryLock, Wait
from seawall.repository.nodes import Node
from seawall.repository.pack import BlobType
from seawall.repository.prune import GRACE, MAX_UNUSED, Prune, PruneResult
from seawall.repository.reader import Reader
from seawall.repository.repair import Repair, RepairResult
from seawall.repository.restore import Overwrite, Restore, RestoreResult
from seawall.repository.snapshot import Snapshot
from seawall.repository.writer import Lock, Writer
from seawall.sdk.bank import Bank
from seawall.sdk.failpoints import failpoint


class Repository:
    """An open repository."""

    def __init__(self, bank: Bank, key: Key, found: config.Config, key_id: str, opened: datetime) -> None:
        self._bank = bank
        self._key = key
        self._config = found
        self._key_id = key_id
        self._opened = opened
        self._index = Index()
        self._reader = Reader(bank, key, self._index)
        self._snapshots: dict[str, Snapshot] = {}

    @classmethod
    def init(cls, bank: Bank, *, passwords: Sequence[str], now: datetime) -> Repository:
        """Make a repository with one key slot for each password, and open it.

        ``ConflictError`` when one is there already. Key slots come first, so that a kill leaves either a
        repository that opens or a place where ``init`` works when called again.
        """
        if not passwords or not all(passwords):
            raise InvalidInputError.of("passwords", len(passwords), "must be one or more that are not empty")
        for taken in (config.NAME, "data/", "index/", snapshot.PREFIX):
            if next(iter(bank.list(taken)), None) is not None:
                raise ConflictError("the bank already holds a repository, or what is left of one")
        master = Key.random()
        ids = [keys.add(bank, master, word, hostname=socket.gethostname(), now=now) for word in passwords]
        made = config.create(bank, master)
        for left in list(bank.list(keys.PREFIX)):
            if left.key.removeprefix(keys.PREFIX) not in ids:  # of an init that was killed: it opens nothing
                bank.delete(left.key)
        return cls(bank, master, made, ids[0], now)

    @classmethod
    def open(cls, bank: Bank, *, password: str, now: datetime, read_index: bool = True) -> Repository:
        """Open a repository; without its index only to check and repair it, when an index file is damaged.

        ``BankObjectMissingError`` when there is none, ``WrongKeyError`` when no key slot opens with the
        password, ``DamagedError`` when something of it cannot be read.
        """
        master, key_id = keys.find_master(bank, password, config.fetch(bank))
        opened = cls(bank, master, config.load(bank, master), key_id, now)
        if read_index:
            opened.refresh()
        return opened

    @property
    def id(self) -> str:
        """The id in its config: 64 hex digits."""
        return self._config.id

    @property
    def bank(self) -> Bank:
        """Where it lies."""
        return self._bank

    @property
    def key(self) -> Key:
        """Its master key."""
        return self._key

    @property
    def index(self) -> Index:
        """Its index as of the last refresh."""
        return self._index

    # --- keys ------------------------------------------------------------------------------------

    @property
    def key_id(self) -> str:
        """The key slot that it was opened with."""
        return self._key_id

    def add_key(self, password: str, *, now: datetime | None = None) -> str:
        """A further key slot, said to be made at ``now`` (when not given: when this was opened); its id."""
        if not password:
            raise InvalidInputError.of("password", "", "must not be empty")
        return keys.add(
            self._bank, self._key, password, hostname=socket.gethostname(), now=now or self._opened
        )

    def slot_of(self, password: str) -> str | None:
        """The id of the slot that a password opens; None when it opens none. It costs a key derivation."""
        try:
            return keys.find_master(self._bank, password, self._bank.get(config.NAME))[1]
        except WrongKeyError:
            return None

    def remove_key(self, key_id: str) -> None:
        """Remove a key slot; the last one is refused."""
        keys.remove(self._bank, key_id)

    def keys(self) -> list[KeyInfo]:
        """Its key slots."""
        return keys.infos(self._bank)

    # --- writing ---------------------------------------------------------------------------------

    def confirm(self) -> None:
        """``BankObjectMissingError`` when it is no longer at its place (see ``config.confirm``)."""
        config.confirm(self._bank)

    def refresh(self) -> None:
        """Take in what other writers and prunes have done since."""
        self._index.refresh(self._bank, self._key)

    def writer(self, lock: Lock, *, clock: Callable[[], datetime] | None = None) -> Writer:
        """A writer under a lock that is already held; the index is refreshed first (I12).

        By ``clock`` it finds before each publication whether the lock has expired; without one only a lock
        that says so whatever the time is noticed before ``commit``.
        """
        self.refresh()
        return Writer(self._bank, self._key, self._index, lock, clock=clock)

    # --- snapshots -------------------------------------------------------------------------------

    def snapshots(self, tags: Sequence[str] = ()) -> list[Snapshot]:
        """The snapshots that have all these tags, oldest first."""
        there = [item.key.removeprefix(snapshot.PREFIX) for item in self._bank.list(snapshot.PREFIX)]
        if not there:
            self.confirm()
        for gone in self._snapshots.keys() - set(there):
            del self._snapshots[gone]
        found = [self._load(snapshot_id) for snapshot_id in there]
        wanted = set(tags)
        return sorted((one for one in found if wanted.issubset(one.tags)), key=lambda one: (one.time, one.id))

    def _load(self, snapshot_id: str) -> Snapshot:
        known = self._snapshots.get(snapshot_id)
        if known is None:
            known = self._snapshots[snapshot_id] = snapshot.load(self._bank, self._key, snapshot_id)
        return known

    def snapshot(self, snapshot_id: str) -> Snapshot:
        """One snapshot, read now; ``BankObjectMissingError`` if there is none of this id."""
        return snapshot.load(self._bank, self._key, snapshot_id)

    def forget(self, snapshot_id: str) -> None:
        """Remove a snapshot; one that is gone already is no error. A prune later frees the space."""
        self.confirm()
        failpoint("repository.snapshot.before_delete")
        self._bank.delete(snapshot.PREFIX + snapshot_id)
        failpoint("repository.snapshot.after_delete")
        self._snapshots.pop(snapshot_id, None)

    # --- keeping it in order -----------------------------------------------------------------------

    def lock(
        self, *, now: datetime, exclusive: bool = False, task: str = "", wait: Wait | None = None
    ) -> RepositoryLock:
        """Take a lock on it (see ``locks.RepositoryLock.acquire``)."""
        return RepositoryLock.acquire(
            self._bank, self._key, exclusive=exclusive, now=now, task=task, wait=wait
        )

    def locks(self) -> list[LockInfo]:
        """Every lock there is, stale ones too."""
        return locks.all_locks(self._bank, self._key)

    def remove_stale_locks(self, *, now: datetime) -> int:
        """Remove the locks that nobody has refreshed for 30 minutes; how many there were."""
        return locks.remove_stale(self._bank, self._key, now)

    def check(
        self,
        *,
        read_data: bool = False,
        sample: tuple[int, int] | None = None,
        progress: Callable[[int, int], None] | None = None,
        note: Callable[[str], None] | None = None,
    ) -> list[Fault]:
        """What is damaged, down to the files it touches (see ``check.Check``).

        ``read_data`` reads every pack, ``sample`` = (n, of) those of part n, so that ``of`` checks see each
        pack once. ``progress`` gets (bytes, packs) read, ``note`` what is odd and harmless. The caller holds
        a shared lock.
        """
        job = Check(self._bank, self._key, progress=progress, note=note)
        return job.run(read_data=read_data, sample=sample)

    def prune(
        self,
        lock: RepositoryLock,
        *,
        clock: Callable[[], datetime],
        grace: timedelta = GRACE,
        max_unused: float = MAX_UNUSED,
        check: Callable[[], None] = lambda: None,
    ) -> PruneResult:
        """Give back what no snapshot needs, in two phases (I12; see ``prune.Prune``).

        ``lock`` is one with the task ``locks.PRUNE``, or an exclusive one: then packs are deleted at once.
        ``max_unused`` is the part of what is in use that may stay as unused space; ``check`` is called often
        and raises to stop.
        """
        job = Prune(self._bank, self._key, lock, clock=clock, grace=grace, max_unused=max_unused, check=check)
        result = job.run()
        self.refresh()
        return result

    def repair(
        self, lock: RepositoryLock, *, clock: Callable[[], datetime], read_data: bool = False
    ) -> tuple[RepairResult, list[Fault]]:
        """Rebuild the index from what is on the bank (see ``repair.Repair``), and say what stays lost.

        ``lock`` is exclusive. ``read_data`` reads every pack first, to find those that are damaged inside.
        """
        job = Check(self._bank, self._key, progress=None, note=None)
        try:
            job.run(read_data=read_data, sample=None)
        finally:
            lock.keep(clock())
        result = Repair(self._bank, self._key, lock, clock=clock).run(job.damaged_packs)
        self.refresh()
        return result, self.check()

    # --- reading ---------------------------------------------------------------------------------

    def has_tree(self, tree_id: str) -> bool:
        """Whether the index knows this tree blob."""
        return self._index.has(bytes.fromhex(tree_id), BlobType.TREE)

    def nodes(self, tree_id: str) -> Iterator[Node]:
        """The entries of a tree, sorted by name. ``DamagedError`` at once, and of a large tree also late."""
        return self._reader.tree(bytes.fromhex(tree_id))

    def find(self, tree_id: str, path: str) -> Node:
        """The entry at a relative path such as ``a/b``; ``NotFoundError`` if there is none."""
        parts = [part for part in path.encode("utf-8", "surrogateescape").split(b"/") if part]
        if not parts:
            return Node(b"", nodes.DIR, 0o755, subtree=bytes.fromhex(tree_id))
        here: bytes | None = bytes.fromhex(tree_id)
        node = None
        for part in parts:
            if here is None:
                raise NotFoundError(f"{path}: {part.decode('utf-8', 'replace')} lies in no folder")
            node = next((entry for entry in self._reader.tree(here) if entry.name == part), None)
            if node is None:
                raise NotFoundError(f"{path}: there is no {part.decode('utf-8', 'replace')}")
            here = node.subtree
        assert node is not None  # parts is not empty
        return node

    def read_file(self, node: Node) -> Iterator[bytes]:
        """The content of a file, blob by blob; ``DamagedError`` where it cannot be read."""
        for blob_id in node.content:
            yield self._reader.blob(blob_id, BlobType.DATA)

    def tar(self, tree_id: str, path: str = "") -> Iterator[bytes]:
        """A folder or file of a tree as a tar stream (see ``tar``); without a path the tree's entries."""
        return tar.stream(self._reader, self.find(tree_id, path))

    def zip(self, tree_id: str, path: str = "") -> Iterator[bytes]:
        """The same as a zip stream, which knows less of a file (see ``zipped``)."""
        return zipped.stream(self._reader, self.find(tree_id, path))

    def restore(
        self,
        tree_id: str,
        target: Path,
        *,
        overwrite: Overwrite = "always",
        include: Sequence[str] = (),
        progress: Callable[[int, int], None] | None = None,
        dry_run: bool = False,
    ) -> RestoreResult:
        """Write the entries of a tree into the folder ``target`` (see ``restore.Restore``).

        Every blob is checked before it is written. A ``dry_run`` writes nothing and says what would be.
        """
        job = Restore(self._reader, overwrite=overwrite, include=include, progress=progress, dry_run=dry_run)
        return job.run(bytes.fromhex(tree_id), target)
