# SPDX-License-Identifier: Apache-2.0
"""What a mover can do. Repositories stay open between requests; a session is one writer under one lock.

A session is begun, used for steps, perhaps for a ``commit``, and ended; then its lock goes. When the process
dies within a session, its service removes the lock, or it grows old and is then nobody's.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from seawall.core.errors import (
    BankObjectMissingError,
    ConfigurationError,
    ConflictError,
    DamagedError,
    NotFoundError,
    PluginError,
    StateError,
)
from seawall.protection.bank_layers.opening import open_bank
from seawall.protection.movers import browse, notes
from seawall.protection.movers.frames import Json, shown
from seawall.protection.movers.locking import SessionLock
from seawall.protection.movers.recheck import missing_part
from seawall.protection.movers.restic import Restic
from seawall.protection.movers.restic_engine import Parts, ResticReader, ResticWriter
from seawall.repository import Repository, Writer, locks
from seawall.repository.locks import PRUNE
from seawall.runtime.registry import PluginKind, Plugins, load_plugins
from seawall.sdk.bank import Bank, ResticBank, SubBank
from seawall.sdk.clock import Clock
from seawall.sdk.protection import ProtectionPlugin, ResourceRef, StepContext

MANIFEST_FOLDER: Final = ".seawall"
MANIFEST_NAME: Final = "checkpoint.json"
_KEPT_OPEN: Final = 8
_SHOWN_FAULTS: Final = 200
# A step that added more than this is made durable before it is journaled. A smaller one is not: its tree is
# then in no index after a crash, and the step is done again.
_FLUSH_BYTES: Final = 8 * 1024 * 1024


@dataclass(slots=True)
class _Open:
    place: Json
    bank: Bank
    repository: Repository


@dataclass(slots=True)
class _Session:
    repository: Repository
    lock: SessionLock
    writer: Writer
    directories: ResticWriter | None
    """What stores folders instead, with ``engine: restic``."""
    flushed_bytes: int = 0


class Worker:
    """One mover's work. For one thread."""

    def __init__(
        self,
        clock: Clock,
        scratch: Path,
        *,
        progress: Callable[[int, int], None],
        confirm: Callable[[], None],
        give: Callable[[bytes], None],
    ) -> None:
        """``scratch`` is this mover's own folder; what lies there tells which lock it holds."""
        self._clock = clock
        self._scratch = scratch
        self._progress = progress
        self._confirm = confirm
        self._give = give
        self._opened: dict[str, _Open] = {}
        self._session: _Session | None = None
        self._plugins: Plugins[ProtectionPlugin] | None = None
        self._banks: Plugins[Bank] | None = None
        self._calls: dict[str, Callable[[Json], Json]] = {
            "open": self._call_open,
            "begin": self._call_begin,
            "protect": self._call_protect,
            "recheck": self._call_recheck,
            "commit": self._call_commit,
            "end": self._call_end,
            "restore": self._call_restore,
            "snapshots": self._call_snapshots,
            "manifest": self._call_manifest,
            "files": self._call_files,
            "download": self._call_download,
            "forget": self._call_forget,
            "prune": self._call_prune,
            "unlock": self._call_unlock,
            "check": self._call_check,
            "absent": self._call_absent,
        }

    def call(self, name: str, arguments: Json) -> Json:
        """Carry out one request."""
        if name not in self._calls:
            raise StateError(f"a mover knows no call {name!r}")
        return self._calls[name](arguments)

    # --- repositories ----------------------------------------------------------------------------

    def _repository(self, place: Json) -> Repository:
        """The open repository of a place; opened, or made when ``place`` allows it, at the first use."""
        key = str(place["repository_id"])
        known = self._opened.get(key)
        if known is not None:
            if known.place == place or {**known.place, "format_id": None} == {**place, "format_id": None}:
                # Used last, kept longest.
                self._opened[key] = self._opened.pop(key)
                return known.repository
            self._close(key)
        bank = self._bank(place)
        try:
            repository = self._open(SubBank(bank, key), place)
        except BaseException:
            bank.close()
            raise
        self._opened[key] = _Open(place, bank, repository)
        while len(self._opened) > _KEPT_OPEN:
            self._close(next(iter(self._opened)))
        return repository

    def _open(self, bank: Bank, place: Json) -> Repository:
        now = self._clock.now()
        try:
            found = Repository.open(bank, password=place["password"], now=now)
        except BankObjectMissingError as error:
            if place.get("format_id") is not None:
                raise BankObjectMissingError(
                    f"the repository {place['repository_id']} is gone from its bank: {error}"
                ) from error
            if not place.get("may_create", False):
                raise
            try:
                found = Repository.init(bank, passwords=[place["password"], place["recovery_key"]], now=now)
            except ConflictError:  # another process was first
                found = Repository.open(bank, password=place["password"], now=now)
        known = place.get("format_id")
        if known is not None and known != found.id:
            raise DamagedError(
                f"the bank holds another repository at {place['repository_id']}: its id is {found.id}, "
                f"expected {known}"
            )
        return found

    def _close(self, key: str) -> None:
        self._opened.pop(key).bank.close()

    def _bank(self, place: Json) -> Bank:
        return open_bank(
            self._bank_plugin(place),
            place["bank_options"],
            place.get("limits", {}),
            self._clock,
            adopted=place.get("adopted"),
        )

    def _plain_bank(self, place: Json) -> Bank:
        """Without layers; it touches no store until it is used."""
        return self._bank_plugin(place)(**place["bank_options"])

    def _bank_plugin(self, place: Json) -> type[Bank]:
        if self._banks is None:
            self._banks = load_plugins(
                PluginKind("seawall.banks", "bank_name", Bank, "seawall.protection.banks")  # type: ignore[type-abstract]  # a protocol stands for its kind
            )
        return self._banks.get(str(place["bank"]))

    def _plugin(self, resource_type: str) -> ProtectionPlugin:
        if self._plugins is None:
            self._plugins = load_plugins(
                PluginKind(
                    "seawall.protections",
                    "resource_type",
                    ProtectionPlugin,  # type: ignore[type-abstract]  # a protocol stands for its kind
                    "seawall.protection.plugins",
                )
            )
        try:
            return self._plugins.get(resource_type)()
        except PluginError as error:
            raise NotFoundError(str(error)) from error

    # --- sessions --------------------------------------------------------------------------------

    def _call_open(self, arguments: Json) -> Json:
        return {"format_id": self._repository(arguments["place"]).id}

    def _call_begin(self, arguments: Json) -> Json:
        self._call_end({})
        repository = self._repository(arguments["place"])
        lock = self._lock(arguments["place"])
        try:
            writer = repository.writer(lock, clock=self._clock.now)
            directories = None
            if _is_restic(arguments["place"]):
                parts = self._parts(repository, lock)
                directories = ResticWriter(writer, repository, self._restic(arguments["place"]), parts)
        except BaseException:
            self._release(lock)
            raise
        self._session = _Session(repository, lock, writer, directories)
        return {"format_id": repository.id}

    def _call_end(self, _: Json) -> Json:
        session, self._session = self._session, None
        if session is not None:
            try:
                session.writer.close()
                if session.directories is not None:
                    session.directories.parts.forget()
            finally:
                self._release(session.lock)
        return {}

    def _parts(self, repository: Repository, lock: SessionLock) -> Parts:
        parts = Parts(repository, self._clock, lock.inner.session)
        parts.sweep()
        return parts

    def _restic(self, place: Json) -> Restic:
        """The program on the same repository."""
        bank = self._plain_bank(place)
        try:
            if not isinstance(bank, ResticBank):
                raise ConfigurationError.of("engine", "restic", f"knows no bank of the type {place['bank']}")
            below = "" if place.get("adopted") else str(place["repository_id"])
            return Restic(bank.restic_address(below), place["password"])
        finally:
            bank.close()

    def _lock(self, place: Json, task: str = "") -> SessionLock:
        """A lock, and before it the note by which it is removed when this process is killed."""
        repository = self._repository(place)
        session = secrets.token_hex(16)
        notes.write(self._scratch, repository_id=str(place["repository_id"]), session=session)
        try:
            return SessionLock(repository, self._clock, session=session, task=task)
        except BaseException:
            notes.remove(self._scratch)
            raise

    def _release(self, lock: SessionLock) -> None:
        lock.release()
        notes.remove(self._scratch)

    def _begun(self) -> _Session:
        if self._session is None:
            raise StateError("this mover has no session")
        return self._session

    def _call_protect(self, arguments: Json) -> Json:
        session = self._begun()
        resource = _resource(arguments["resource"])
        before = session.writer.added_bytes
        with _Scratch(arguments) as context_of:
            context = context_of(self._progress, arguments.get("parent_tree"))
            writer = session.directories or session.writer
            result = self._plugin(resource.type).protect(resource, writer, context)
        added = session.writer.added_bytes
        is_durable = added - session.flushed_bytes >= _FLUSH_BYTES
        if is_durable:
            session.writer.flush()
            session.flushed_bytes = added
        return {
            "tree_id": result.tree_id,
            "is_durable": is_durable,
            "items": result.items,
            "read_bytes": result.read_bytes,
            "added_bytes": added - before if session.directories is None else result.added_bytes,
            "faults": [[shown(one.path), shown(one.reason)] for one in result.faults[:_SHOWN_FAULTS]],
            "fault_count": len(result.faults),
            "details": dict(result.details),
        }

    def _call_recheck(self, arguments: Json) -> Json:
        """Which of these trees, journaled before a crash, cannot be relied on, and why.

        The packs of the others count as used by this session: its snapshot is written only if they are all
        still there (I12).
        """
        writer = self._begun().writer
        found = {}
        for tree_id in arguments["trees"]:
            reason = writer.adopt(tree_id)
            if reason is not None:
                found[tree_id] = reason
        return {"missing": found}

    def _call_commit(self, arguments: Json) -> Json:
        session = self._begun()
        writer = session.writer
        entries = [writer.dir_node(one["folder"], one["tree_id"]) for one in arguments["resources"]]
        manifest = writer.save_bytes(MANIFEST_NAME, arguments["manifest"].encode())
        entries.append(writer.dir_node(MANIFEST_FOLDER, writer.save_nodes([manifest])))
        snapshot_id = writer.commit(
            writer.save_nodes(entries),
            hostname=arguments["hostname"],
            username="seawall",
            paths=arguments["paths"],
            tags=arguments["tags"],
            time=datetime.fromisoformat(arguments["time"]),
            summary=arguments["summary"],
            check=self._confirm,
            now=self._clock.now(),
        )
        return {"snapshot_id": snapshot_id}

    # --- reading ---------------------------------------------------------------------------------

    def _call_restore(self, arguments: Json) -> Json:
        repository = self._repository(arguments["place"])
        repository.refresh()
        resource = _resource(arguments["resource"])
        target = arguments.get("target")
        with _Scratch(arguments) as context_of, self._reader(arguments["place"], repository) as reader:
            figures = self._plugin(resource.type).restore(
                resource,
                arguments["tree_id"],
                reader,
                None if target is None else Path(target),
                arguments["options"],
                context_of(self._progress, None),
            )
        return {**figures, "faults": [shown(one) for one in figures.get("faults", ())]}

    @contextmanager
    def _reader(self, place: Json, repository: Repository) -> Iterator[Repository | ResticReader]:
        """What a plugin reads by. With ``engine: restic`` under a lock, which its parts are known by."""
        if not _is_restic(place):
            yield repository
            return
        lock = self._lock(place)
        try:
            yield ResticReader(repository, self._restic(place), self._parts(repository, lock))
        finally:
            self._release(lock)

    def _call_snapshots(self, arguments: Json) -> Json:
        repository = self._repository(arguments["place"])
        found = repository.snapshots(arguments.get("tags", ()))
        return {
            "snapshots": [
                {"id": one.id, "time": one.time.isoformat(), "tree": one.tree, "tags": list(one.tags)}
                for one in found
            ]
        }

    def _call_manifest(self, arguments: Json) -> Json:
        """What ``commit`` wrote about a snapshot, as text."""
        repository = self._repository(arguments["place"])
        repository.refresh()
        found = repository.snapshot(arguments["snapshot_id"])
        node = repository.find(found.tree, f"{MANIFEST_FOLDER}/{MANIFEST_NAME}")
        return {"manifest": b"".join(repository.read_file(node)).decode()}

    def _call_files(self, arguments: Json) -> Json:
        """The entries of a folder of a snapshot behind ``marker``, and whether there are more."""
        repository = self._repository(arguments["place"])
        repository.refresh()
        return browse.entries(
            repository,
            repository.snapshot(arguments["snapshot_id"]).tree,
            bytes.fromhex(arguments["path"]),
            limit=arguments["limit"],
            marker=bytes.fromhex(arguments["marker"]),
        )

    def _call_download(self, arguments: Json) -> Json:
        """A folder or file of a snapshot as a tar or zip stream; given out piece by piece."""
        repository = self._repository(arguments["place"])
        repository.refresh()
        tree = repository.snapshot(arguments["snapshot_id"]).tree
        path = os.fsdecode(bytes.fromhex(arguments["path"]))
        archive = {"tar": repository.tar, "zip": repository.zip}[arguments["format"]]
        for piece in browse.pieces(archive(tree, path)):
            self._give(piece)
        return {}

    def _call_check(self, arguments: Json) -> Json:
        """Whether a snapshot is there, and what of it is missing: every part it needs is asked for."""
        repository = self._repository(arguments["place"])
        repository.refresh()
        try:
            found = repository.snapshot(arguments["snapshot_id"])
        except BankObjectMissingError:
            return {"exists": False, "missing": "its snapshot is gone from the bank"}
        if not arguments.get("deep", False):
            is_there = repository.has_tree(found.tree)
            return {"exists": True, "missing": None if is_there else "its root tree is in no index"}
        return {"exists": True, "missing": missing_part(repository, found.tree)}

    def _call_absent(self, arguments: Json) -> Json:
        """Which of these snapshots cannot be relied on: gone, or their root tree is in no index."""
        repository = self._repository(arguments["place"])
        repository.refresh()
        there = {one.id: one for one in repository.snapshots()}
        wanted = arguments["snapshot_ids"]
        return {
            "absent": [one for one in wanted if one not in there or not repository.has_tree(there[one].tree)]
        }

    # --- removing --------------------------------------------------------------------------------

    def _call_forget(self, arguments: Json) -> Json:
        """Remove snapshots by id, and those with a tag; what was there is named."""
        repository = self._repository(arguments["place"])
        ids = list(arguments.get("snapshot_ids", ()))
        for tag in arguments.get("tags", ()):
            ids += [one.id for one in repository.snapshots([tag])]
        self._confirm()
        for snapshot_id in dict.fromkeys(ids):
            repository.forget(snapshot_id)
        return {"forgotten": list(dict.fromkeys(ids))}

    def _call_prune(self, arguments: Json) -> Json:
        """Remove stale locks, then give back what no snapshot needs, beside running backups (I12)."""
        repository = self._repository(arguments["place"])
        stale = repository.remove_stale_locks(now=self._clock.now())
        lock = self._lock(arguments["place"], PRUNE)
        try:
            result = repository.prune(lock.inner, clock=self._clock.now)
        finally:
            self._release(lock)
        return {"stale_locks": stale, **asdict(result)}

    def _call_unlock(self, arguments: Json) -> Json:
        """Remove the lock that a dead mover of this host left."""
        repository = self._repository(arguments["place"])
        return {"removed": locks.remove_session(repository.bank, repository.key, arguments["session"])}


def _is_restic(place: Json) -> bool:
    return bool(place.get("engine") == "restic")


class _Scratch:
    """An empty folder for one step, and what makes its context. Emptied afterwards."""

    def __init__(self, arguments: Json) -> None:
        self._arguments = arguments
        self._folder = Path(arguments["scratch"]) / f"step-{os.getpid()}"

    def __enter__(self) -> Callable[[Callable[[int, int], None], str | None], StepContext]:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._empty()
        return self._context

    def __exit__(self, *_: object) -> None:
        self._empty()

    def _empty(self) -> None:
        """Most steps put nothing there: the folder itself is kept for the next one."""
        with os.scandir(self._folder) as found:
            has_content = next(found, None) is not None
        if has_content:
            shutil.rmtree(self._folder)
            self._folder.mkdir(mode=0o700)

    def _context(self, progress: Callable[[int, int], None], parent_tree: str | None) -> StepContext:
        roots: Sequence[str] = self._arguments["allowed_roots"]
        return StepContext(
            allowed_roots=tuple(Path(one) for one in roots),
            excludes=tuple(self._arguments.get("excludes", ())),
            scratch=self._folder,
            parent_tree=parent_tree,
            progress=progress,
        )


def _resource(given: Json) -> ResourceRef:
    return ResourceRef(given["type"], given["id"], given["name"], given.get("parameters", {}))
