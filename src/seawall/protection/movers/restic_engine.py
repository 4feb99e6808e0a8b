# SPDX-License-Identifier: Apache-2.0
"""``engine: restic``: directories are read and written by restic, and all the rest stays as it is.

The seam is what a protection plugin may use: a writer whose ``save_path`` lets restic store the folder, and a
reader whose ``restore`` lets restic write it. restic stores a snapshot, of which only the tree is wanted: it
is called a *part* and keeps the tree from being pruned until the checkpoint's own snapshot is there. If the
process dies here, the part stays until the next session of the engine, whose first act is to remove the parts
of sessions that hold no lock any more.
"""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from seawall.core.errors import DamagedError, SourceError
from seawall.protection.movers.restic import Restic, escaped
from seawall.repository import Repository, Writer, snapshot
from seawall.repository.faults import Fault
from seawall.repository.restore import Overwrite, RestoreResult
from seawall.repository.writer import TreeResult
from seawall.sdk.clock import Clock
from seawall.sdk.failpoints import failpoint
from seawall.sdk.protection import SourceFault

_PART: Final = "seawall-part"
Progress = Callable[[int, int], None]


class Parts:
    """The snapshots that a session needs for a while."""

    def __init__(self, repository: Repository, clock: Clock, session: str) -> None:
        self._repository = repository
        self._clock = clock
        self.tags: Final = (_PART, f"part:{session}")
        self._made: list[str] = []

    def sweep(self) -> None:
        """Remove those of sessions that hold no lock any more."""
        live = {f"part:{one.session}" for one in self._repository.locks() if one.session}
        for one in self._repository.snapshots([_PART]):
            if not live.intersection(one.tags):
                self._repository.forget(one.id)

    def make(self, tree_id: str) -> str:
        """A part of a tree that is there; its id."""
        made = snapshot.Snapshot(
            "", self._clock.now(), tree_id, ("/",), socket.gethostname(), "seawall", self.tags
        )
        part = snapshot.save(
            self._repository.bank, self._repository.key, made, uid=os.getuid(), gid=os.getgid()
        )
        self._made.append(part)
        return part

    def found(self, start: str) -> snapshot.Snapshot:
        """The part that restic has just made, by the beginning of its id."""
        names = [one.key for one in self._repository.bank.list(snapshot.PREFIX + start)]
        if not start or len(names) != 1:
            raise DamagedError(f"the snapshot {start!r} that restic made is not on the bank")
        part = names[0].removeprefix(snapshot.PREFIX)
        self._made.append(part)
        return self._repository.snapshot(part)

    def forget(self) -> None:
        """Remove all of this session; may be called twice."""
        while self._made:
            self._repository.forget(self._made[-1])
            self._made.pop()


class ResticWriter:
    """A writer whose folders are stored by restic."""

    def __init__(self, writer: Writer, repository: Repository, restic: Restic, parts: Parts) -> None:
        self._writer = writer
        self._repository = repository
        self._restic = restic
        self.parts = parts
        self.added_bytes = 0
        """What restic has added."""

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
        """As ``Writer.save_path``; on return it is durable. A single file is stored as always."""
        if not path.is_dir():
            return self._writer.save_path(path, excludes=excludes, progress=progress, patterns=patterns)
        # The folder's own mode, owner and times: everything below it is left out.
        root = self._writer.save_path(path, patterns=["*"])
        parent = None if parent_tree is None else self.parts.make(parent_tree)
        options = ["--one-file-system"] * one_file_system + ["--exclude-caches"] * exclude_caches
        try:
            done = self._restic.backup(
                path,
                excludes=[*(escaped(one) for one in excludes), *patterns],
                options=options,
                tags=self.parts.tags,
                parent=parent,
                progress=progress,
            )
        except OSError as error:
            raise SourceError(f"{path}: {error.strerror}") from error
        tree = self.parts.found(done.snapshot).tree
        self._repository.refresh()
        missing = self._writer.adopt(tree)
        if missing is not None:
            raise DamagedError(f"what restic stored of {path} is not whole: {missing}")
        self.added_bytes += done.added_bytes
        faults = tuple(SourceFault(*one) for one in done.faults)
        return TreeResult(tree, done.items + 1, done.read_bytes, done.added_bytes, faults, root.root)

    def save_stream(
        self,
        name: str,
        chunks: Iterable[bytes],
        *,
        mode: int = 0o600,
        mtime_ns: int = 0,
        uid: int = 0,
        gid: int = 0,
    ) -> Any:
        return self._writer.save_stream(name, chunks, mode=mode, mtime_ns=mtime_ns, uid=uid, gid=gid)

    def save_nodes(self, nodes: Sequence[Any]) -> str:
        return self._writer.save_nodes(nodes)

    def dir_node(self, name: str, tree_id: str, *, like: Any = None) -> Any:
        return self._writer.dir_node(name, tree_id, like=like)

    def load_entries(self, tree_id: str) -> list[dict[str, Any]]:
        return self._writer.load_entries(tree_id)


class ResticReader:
    """A reader that lets restic write what is not there yet.

    restic follows links that somebody may have put into a folder that is there, and has no rule for what it
    meets; so it writes into a new folder that is closed to others, and the result is moved into place. Over
    what is there already Seawall's own engine writes, beneath its root (I11). If the process dies here, a
    folder ``.seawall-restore-...`` stays beside the target.
    """

    def __init__(self, repository: Repository, restic: Restic, parts: Parts) -> None:
        self._repository = repository
        self._restic = restic
        self.parts = parts

    def __getattr__(self, name: str) -> Any:
        """All else that a plugin may read is read as always."""
        return getattr(self._repository, name)

    def restore(
        self,
        tree_id: str,
        target: Path,
        *,
        overwrite: Overwrite = "always",
        include: Sequence[str] = (),
        progress: Progress | None = None,
        **options: Any,
    ) -> RestoreResult:
        """As ``Repository.restore``."""
        names = [os.fsdecode(one.name) for one in self._repository.nodes(tree_id)]
        if options or any(os.path.lexists(target / name) for name in names):
            return self._repository.restore(
                tree_id, target, overwrite=overwrite, include=include, progress=progress, **options
            )
        target.mkdir(parents=True, exist_ok=True)
        part = self.parts.make(tree_id)
        place = Path(tempfile.mkdtemp(prefix=".seawall-restore-", dir=target))
        try:
            wanted = [escaped(f"/{one.strip('/')}") for one in include]
            faults = self._restic.restore(part, place, wanted)
            items, size = _count(place)
            for name in os.listdir(place):
                failpoint("movers.restic.before_rename")
                os.rename(place / name, target / name)
                failpoint("movers.restic.after_rename")
        finally:
            shutil.rmtree(place)
            self.parts.forget()
        if progress is not None:
            progress(size, items)
        return RestoreResult(items, size, tuple(Fault(*one) for one in faults))


def _count(folder: Path) -> tuple[int, int]:
    """Entries and bytes of files below a folder."""
    items = size = 0
    for above, folders, files in os.walk(folder):
        items += len(folders) + len(files)
        for name in files:
            size += os.lstat(os.path.join(above, name)).st_size
    return items, size
