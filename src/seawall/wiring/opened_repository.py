# SPDX-License-Identifier: Apache-2.0
"""``OpenedRepository``: a repository on its bank, for people who look into it and keep it in order."""

from __future__ import annotations

import fnmatch
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from seawall.core.errors import InvalidInputError, NotFoundError
from seawall.protection.movers.locking import SessionLock
from seawall.repository import Repository, locks, nodes
from seawall.repository.nodes import Node
from seawall.repository.restore import Overwrite
from seawall.repository.snapshot import Snapshot
from seawall.sdk.clock import Clock
from seawall.sdk.failpoints import failpoint

Json = dict[str, Any]

_SHORTEST = 4
_KINDS = {
    nodes.FILE: stat.S_IFREG,
    nodes.DIR: stat.S_IFDIR,
    nodes.SYMLINK: stat.S_IFLNK,
    nodes.DEV: stat.S_IFBLK,
    nodes.CHARDEV: stat.S_IFCHR,
    nodes.FIFO: stat.S_IFIFO,
}


@dataclass(slots=True)
class _Sum:
    files: int = 0
    bytes: int = 0


class OpenedRepository:
    """For one thread. What changes something takes the lock that restic would take, too."""

    def __init__(self, repository: Repository, clock: Clock, *, recovery_key: str | None = None) -> None:
        """``recovery_key`` is the one in the recovery kit, when it is a repository of the installation."""
        self._repository = repository
        self._clock = clock
        self._recovery_key = recovery_key

    # --- looking ---------------------------------------------------------------------------------

    def snapshots(self, tags: Sequence[str] = ()) -> list[Json]:
        """Every snapshot that has all these tags, the oldest first."""
        return [_shown_snapshot(one) for one in self._repository.snapshots(tags)]

    def ls(self, which: str, path: str, *, is_recursive: bool) -> Iterator[Json]:
        """The entries of a folder of a snapshot, or the one file."""
        found = self._snapshot(which)
        inner = path.strip("/")
        node = self._repository.find(found.tree, inner)
        if node.subtree is None:
            yield _shown_node(inner, node)
            return
        yield from self._below(node.subtree, inner, is_recursive=is_recursive)

    def find(self, pattern: str, which: str | None) -> Iterator[Json]:
        """The entries of all snapshots whose name fits a pattern; with a `/` in it, their whole path."""
        chosen = self._repository.snapshots() if which is None else [self._snapshot(which)]
        by_path = "/" in pattern
        wanted = pattern.strip("/") if by_path else pattern
        for one in chosen:
            for item in self._below(bytes.fromhex(one.tree), "", is_recursive=True):
                text = item["path"].strip("/") if by_path else item["path"].rpartition("/")[2]
                if fnmatch.fnmatchcase(text, wanted):
                    yield {"snapshot": one.id, "time": one.time.isoformat(), **item}

    def stats(self) -> Json:
        """How much the snapshots hold, and how much of the bank that takes."""
        sums: dict[bytes, _Sum] = {}
        total = _Sum()
        there = self._repository.snapshots()
        for one in there:
            found = self._sum(bytes.fromhex(one.tree), sums)
            total.files += found.files
            total.bytes += found.bytes
        packs = [one.size_bytes for one in self._repository.bank.list("data/")]
        stored = sum(packs)
        return {
            "repository": self._repository.id,
            "snapshots": len(there),
            "files": total.files,
            "restore_bytes": total.bytes,
            "packs": len(packs),
            "stored_bytes": stored,
            "index_bytes": sum(one.size_bytes for one in self._repository.bank.list("index/")),
            "ratio": round(total.bytes / stored, 2) if stored else None,
        }

    def locks(self) -> list[Json]:
        """Every lock, stale ones too."""
        now = self._clock.now()
        return [
            {
                "id": one.id,
                "time": one.time.isoformat(),
                "hostname": one.hostname,
                "username": one.username,
                "exclusive": one.exclusive,
                "stale": one.is_stale(now),
            }
            for one in self._repository.locks()
        ]

    def keys(self) -> list[Json]:
        """The key slots; ``current`` is the one that this was opened with."""
        slots = self._repository.keys()
        return [{**asdict(one), "current": one.id == self._repository.key_id} for one in slots]

    # --- keeping in order ------------------------------------------------------------------------

    def check(self, *, read_data: bool, sample: tuple[int, int] | None = None) -> list[str]:
        """What is damaged, a line each; under a shared lock, so that nothing is removed meanwhile."""
        with self._locked():
            found = self._repository.check(read_data=read_data, sample=sample)
        return [str(one) for one in found]

    def prune(self, *, max_unused: float, is_exclusive: bool) -> Json:
        """Give back what no snapshot needs; with an exclusive lock at once, else in two phases (I12)."""
        with self._locked(is_exclusive=is_exclusive, task="" if is_exclusive else locks.PRUNE) as lock:
            return asdict(self._repository.prune(lock.inner, clock=self._clock.now, max_unused=max_unused))

    def repair(self, *, read_data: bool) -> tuple[Json, list[str]]:
        """Make the index anew from what is on the bank; what stays lost, a line each."""
        with self._locked(is_exclusive=True) as lock:
            result, faults = self._repository.repair(lock.inner, clock=self._clock.now, read_data=read_data)
        return asdict(result), [str(one) for one in faults]

    def unlock(self, *, remove_all: bool) -> int:
        """Remove stale locks, or all of them; how many.

        A backup whose lock is removed commits nothing.
        """
        if not remove_all:
            return self._repository.remove_stale_locks(now=self._clock.now())
        there = list(self._repository.bank.list(locks.PREFIX))
        for one in there:
            failpoint("repository.unlock.before_delete")
            self._repository.bank.delete(one.key)
            failpoint("repository.unlock.after_delete")
        return len(there)

    def add_key(self, password: str) -> str:
        """One more password; the id of its slot."""
        with self._locked():
            return self._repository.add_key(password, now=self._clock.now())

    def remove_key(self, key_id: str) -> str:
        """Remove a slot by the beginning of its id.

        Refused are the one that is in use now, as restic does, and that of the recovery kit (I9).
        """
        slots = self._repository.keys()
        found = _one(key_id, [one.id for one in slots], "key slot")
        if found == self._repository.key_id:
            raise InvalidInputError.of("key", key_id, "opened the repository just now; open it with another")
        if self._recovery_key is not None and found == self._repository.slot_of(self._recovery_key):
            raise InvalidInputError.of(
                "key", key_id, "is that of the recovery kit, which would open nothing any more"
            )
        with self._locked():
            self._repository.remove_key(found)
        return found

    def restore(self, which: str, target: Path, include: Sequence[str], overwrite: Overwrite) -> Json:
        """Write a snapshot, or some paths of it, into a folder."""
        found = self._snapshot(which)
        with self._locked():
            done = self._repository.restore(
                found.tree, target, overwrite=overwrite, include=[one.strip("/") for one in include]
            )
        return {"items": done.items, "bytes": done.bytes, "faults": [str(one) for one in done.faults]}

    # --- parts -----------------------------------------------------------------------------------

    @contextmanager
    def _locked(self, *, is_exclusive: bool = False, task: str = "") -> Iterator[SessionLock]:
        lock = SessionLock(self._repository, self._clock, task=task, exclusive=is_exclusive)
        try:
            yield lock
        finally:
            lock.release()

    def _snapshot(self, which: str) -> Snapshot:
        """By the beginning of its id, or ``latest``."""
        there = self._repository.snapshots()
        if which == "latest":
            if not there:
                raise NotFoundError("there is no snapshot in the repository")
            return there[-1]
        by_id = {one.id: one for one in there}
        return by_id[_one(which, list(by_id), "snapshot")]

    def _below(self, tree: bytes, above: str, *, is_recursive: bool) -> Iterator[Json]:
        for node in self._repository.nodes(tree.hex()):
            path = f"{above}/{_text(node.name)}".lstrip("/")
            yield _shown_node(path, node)
            if is_recursive and node.subtree is not None:
                yield from self._below(node.subtree, path, is_recursive=True)

    def _sum(self, tree: bytes, sums: dict[bytes, _Sum]) -> _Sum:
        """Of a tree and all below; each tree is read once."""
        known = sums.get(tree)
        if known is not None:
            return known
        made = _Sum()
        for node in self._repository.nodes(tree.hex()):
            if node.type == nodes.FILE:
                made.files += 1
                made.bytes += node.size
            elif node.subtree is not None:
                inner = self._sum(node.subtree, sums)
                made.files += inner.files
                made.bytes += inner.bytes
        sums[tree] = made
        return made


def _one(start: str, ids: Sequence[str], what: str) -> str:
    """The one id that begins so."""
    found = [one for one in ids if one.startswith(start)] if len(start) >= _SHORTEST else []
    if len(found) > 1:
        raise InvalidInputError.of(what, start, f"stands for several: {', '.join(one[:16] for one in found)}")
    if not found:
        raise NotFoundError(f"the repository has no {what} {start!r}")
    return found[0]


def _shown_snapshot(one: Snapshot) -> Json:
    return {
        "id": one.id,
        "time": one.time.isoformat(),
        "hostname": one.hostname,
        "username": one.username,
        "paths": list(one.paths),
        "tags": list(one.tags),
        "tree": one.tree,
        "summary": dict(one.summary),
    }


def _shown_node(path: str, node: Node) -> Json:
    return {
        "path": "/" + path,
        "type": node.type,
        "mode": stat.filemode(node.mode | _KINDS.get(node.type, 0)),
        "user": node.user or str(node.uid),
        "group": node.group or str(node.gid),
        "size": node.size,
        "mtime": datetime.fromtimestamp(node.mtime_ns // 10**9, UTC).isoformat(),
        "target": _text(node.linktarget),
    }


def _text(raw: bytes) -> str:
    """A name for people: what is no UTF-8 is shown escaped."""
    return raw.decode("utf-8", "backslashreplace")
