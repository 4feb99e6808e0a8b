# SPDX-License-Identifier: Apache-2.0
"""``Downloads``: what lies in a checkpoint, and one file or folder of it as a tar or zip stream.

A path is the one of the source (``/srv/www/index.html``), or begins with the folder of a resource in the
checkpoint (``directory-www/www/index.html``), as ``files`` names them; an empty one is all of it.

Bytes come from movers of their own, so that people who look and load down take none from backups; who comes
while all are busy waits a little, then is asked to come again. The checkpoint is held by a reader lease
meanwhile (no delete takes it away); if this process dies, the lease ends by itself.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal
from uuid import uuid4

from seawall.core.caller import Caller
from seawall.core.errors import (
    CancelledError,
    ForbiddenError,
    InvalidInputError,
    NotFoundError,
    UnavailableError,
)
from seawall.core.ids import stored_id
from seawall.core.records import Checkpoint
from seawall.db import audit, checkpoints, plans
from seawall.protection.catalogue_restores import check_restorable
from seawall.protection.flow_ground import Ground
from seawall.protection.flow_restore import ReaderLease
from seawall.sdk.beneath import checked_path

if TYPE_CHECKING:
    from seawall.protection.movers.pool import Mover

ArchiveFormat = Literal["tar", "zip"]

AT_ONCE: Final = 4
"""So many streams at once; looking takes one for a moment."""
IDLE_S: Final = 60.0
"""So long may nobody take the next piece; then the download is closed."""
HELD_S: Final = 2 * IDLE_S
"""How long its reader lease lasts. It is renewed between pieces only, so this is longer than ``IDLE_S`` and
what may have gone of the lease by then (a third)."""
_PATIENCE_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class StoredFile:
    """An entry of a folder of a checkpoint. ``path`` is what it is asked for by; both may hold any bytes."""

    name: bytes
    path: bytes
    type: str
    size: int
    mode: int
    uid: int
    gid: int
    modified_at: datetime | None
    """None for a resource's own folder, and for times that no calendar has."""
    target: bytes
    """Where a symbolic link leads."""


Pieces = Generator[bytes, None, None]


class Download:
    """An archive that has begun; whoever has it closes it. For one thread at a time, but for ``stop``."""

    def __init__(self, name: str, start: Callable[[Callable[[], None]], Pieces]) -> None:
        """Waits for the first piece, and raises what stands in its way.

        ``start`` gets what raises once it was stopped.
        """
        self.name = name
        """What a file of it may be called; any letters."""
        self._is_stopped = threading.Event()
        self._pieces = start(self._check)
        self._first = next(self._pieces, None)

    def next(self) -> bytes | None:
        """The next piece; None at the end. Raises what breaks it off: what was given so far is not whole."""
        first, self._first = self._first, None
        return next(self._pieces, None) if first is None else first

    def stop(self) -> None:
        """End a ``next`` that waits, within a moment. From any thread."""
        self._is_stopped.set()

    def close(self) -> None:
        """Give back what it holds. May be called twice."""
        self._pieces.close()

    def _check(self) -> None:
        if self._is_stopped.is_set():
            raise CancelledError("nobody waits for the download any more")


class Downloads:
    """Thread-safe."""

    def __init__(self, ground: Ground) -> None:
        """Its movers serve nothing else."""
        self._ground = ground

    def files(
        self,
        caller: Caller,
        provider_id: str,
        checkpoint_id: str,
        *,
        path: bytes,
        limit: int,
        marker: bytes = b"",
    ) -> tuple[list[StoredFile], bool]:
        """Entries of a folder by name, those behind ``marker``, and whether there are more.

        ``NotFoundError`` when there is no such entry, ``InvalidInputError`` when it is no folder, and what
        ``download`` raises before its first piece.
        """
        found = self._checkpoint(caller, provider_id, checkpoint_id)
        place = self._place_of(caller, found, path)
        if not place:
            return _resources(found, limit, marker)
        with self._held(found) as check, self._mover(lambda: None) as mover:
            answer = mover.call(
                "files",
                {**self._where(found, place), "limit": limit, "marker": marker.hex()},
                check=check,
            )
        return [_stored(place, one) for one in answer["entries"]], bool(answer["has_more"])

    def download(
        self, caller: Caller, provider_id: str, checkpoint_id: str, *, path: bytes, format: ArchiveFormat
    ) -> Download:
        """The archive of an entry and all below, begun; the caller closes it.

        ``NotFoundError`` when there is no such entry, ``StateError`` when the checkpoint is not available,
        ``ForbiddenError`` when the project may no longer touch where it came from (I11), ``UnavailableError``
        when all movers stay busy.
        """
        found = self._checkpoint(caller, provider_id, checkpoint_id)
        place = self._place_of(caller, found, path)
        details = {"path": os.fsdecode(place).encode(errors="backslashreplace").decode(), "format": format}
        self._ground.database.write(
            "checkpoints.download",
            lambda tx: audit.record(tx, caller, "download", "checkpoint", found.id, details),
        )
        name = os.fsdecode(place.rpartition(b"/")[2]) or f"checkpoint-{found.id[:8]}"
        return Download(f"{name}.{format}", lambda stopped: self._pieces(found, place, format, stopped))

    def _pieces(
        self, found: Checkpoint, place: bytes, format: ArchiveFormat, stopped: Callable[[], None]
    ) -> Pieces:
        with self._held(found) as lease, self._mover(stopped) as mover:

            def check() -> None:
                stopped()
                lease()

            yield from mover.stream("download", {**self._where(found, place), "format": format}, check=check)

    # --- what is asked for -------------------------------------------------------------------------

    def _checkpoint(self, caller: Caller, provider_id: str, checkpoint_id: str) -> Checkpoint:
        known, of = stored_id("checkpoint", checkpoint_id), stored_id("provider", provider_id)
        found = self._ground.database.read(
            lambda connection: checkpoints.get(
                connection, known, project_id=caller.project_id, provider_id=of
            )
        )
        check_restorable(found)
        return found

    def _place_of(self, caller: Caller, found: Checkpoint, path: bytes) -> bytes:
        """Where it stands in the snapshot, empty for its root; checked with what it came from."""
        parts = [part for part in path.split(b"/") if part and part != b"."]
        if b".." in parts or b"\0" in path:
            raise InvalidInputError.of("path", os.fsdecode(path), "must be a path without `..`")
        if path.startswith(b"/"):
            resource, inner = _by_origin(found, b"/".join(parts))
        elif parts:
            resource, inner = _by_folder(found, os.fsdecode(parts[0])), parts[1:]
        else:
            for one in found.resources:
                self._check_origin(caller, found, one)
            return b""
        self._check_origin(caller, found, resource)
        return b"/".join([os.fsencode(resource["folder"]), *inner])

    def _check_origin(self, caller: Caller, found: Checkpoint, resource: Mapping[str, Any]) -> None:
        """``ForbiddenError`` when the operator no longer lets the project touch its place on this host."""
        origin = str(resource["id"])
        if not origin.startswith("/") or not self._is_here(found):
            return
        # By name only: what has become of it there meanwhile is no reason to refuse what is stored.
        places = (Path(origin), Path(os.path.realpath(origin)))
        roots = self._ground.allowlist.roots(caller.project_id)
        if not any(place.is_relative_to(root) for place in places for root in roots):
            raise ForbiddenError(
                f"what came from {origin} cannot be taken out: this project may not touch that place",
                hint="the operator allows places in projects.d",
            )

    def _is_here(self, found: Checkpoint) -> bool:
        try:
            plan = self._ground.database.read(
                lambda connection: plans.get_even_deleted(
                    connection, found.plan_id, project_id=found.project_id
                )
            )
        except NotFoundError:
            return True  # its plan was pruned: whoever is asked looks after it
        return plan.host in (None, self._ground.host)

    # --- reading it --------------------------------------------------------------------------------

    def _where(self, found: Checkpoint, place: bytes) -> dict[str, Any]:
        ground = self._ground
        return {
            "place": ground.place(ground.repository(found.repository_id)),
            "snapshot_id": found.snapshot_id,
            "path": place.hex(),
        }

    @contextmanager
    def _held(self, found: Checkpoint) -> Iterator[Callable[[], None]]:
        """Under a reader lease, which what it gives renews."""
        lease = ReaderLease(self._ground, found.id, f"download:{uuid4()}")
        lease.check()
        try:
            yield lease.check
        finally:
            lease.release()

    @contextmanager
    def _mover(self, stopped: Callable[[], None]) -> Iterator[Mover]:
        clock = self._ground.clock
        end = clock.monotonic() + _PATIENCE_S

        def wait() -> None:
            stopped()
            if clock.monotonic() >= end:
                raise UnavailableError(f"{AT_ONCE} downloads are going on; try again when one has ended")

        with self._ground.movers.use(wait) as mover:
            yield mover


def _by_origin(found: Checkpoint, path: bytes) -> tuple[Mapping[str, Any], list[bytes]]:
    """The resource that a path of the source belongs to, and the path within its folder."""
    for one in sorted(found.resources, key=lambda one: len(str(one["id"])), reverse=True):
        origin = str(one["id"])
        if not origin.startswith("/") or "folder" not in one:
            continue
        top = os.fsencode(str(checked_path(origin))).strip(b"/")
        if path != top and not path.startswith(top + b"/" if top else b""):
            continue
        rest = [part for part in path[len(top) :].split(b"/") if part]
        name = (one.get("details") or {}).get("name")
        if name is not None:
            return one, [os.fsencode(name), *rest]
        if not rest:
            return one, []
    raise NotFoundError(f"/{os.fsdecode(path)}: no resource of the checkpoint came from there")


def _by_folder(found: Checkpoint, folder: str) -> Mapping[str, Any]:
    for one in found.resources:
        if one.get("folder") == folder:
            return one
    known = ", ".join(str(one["folder"]) for one in found.resources if "folder" in one) or "none"
    raise NotFoundError(f"{folder}: no resource of the checkpoint has this folder; there are {known}")


def _resources(found: Checkpoint, limit: int, marker: bytes) -> tuple[list[StoredFile], bool]:
    names = sorted(os.fsencode(one["folder"]) for one in found.resources if "folder" in one)
    names = [one for one in names if one > marker]
    shown = [StoredFile(one, one, "dir", 0, 0o755, 0, 0, None, b"") for one in names[:limit]]
    return shown, len(names) > limit


def _stored(place: bytes, one: Mapping[str, Any]) -> StoredFile:
    name = bytes.fromhex(one["name"])
    return StoredFile(
        name=name,
        path=place + b"/" + name,
        type=one["type"],
        size=one["size"],
        mode=one["mode"],
        uid=one["uid"],
        gid=one["gid"],
        modified_at=_instant(one["mtime_ns"]),
        target=bytes.fromhex(one["target"]),
    )


def _instant(mtime_ns: int) -> datetime | None:
    try:
        return datetime.fromtimestamp(mtime_ns // 1000 / 1_000_000, UTC)
    except (OverflowError, ValueError):
        return None
