# SPDX-License-Identifier: Apache-2.0
"""``sqlite``: a SQLite database, in use or not. Its tree has one entry, the file of the database.

The copy is made through SQLite's own backup interface inside one read transaction, so that it is one state of
the database, whoever writes meanwhile; in WAL mode nobody waits for it.
"""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, ClassVar, Final
from urllib.parse import quote

from seawall.core.errors import ConflictError, DamagedError, SeawallError, SourceError
from seawall.sdk.beneath import checked_path, find
from seawall.sdk.failpoints import failpoint
from seawall.sdk.protection import Json, ResourceRef, StepContext, StepResult, TreeReader, TreeWriter

_PAGES: Final = 2000
_CHUNK_BYTES: Final = 1024 * 1024
_HEADER_BYTES: Final = 100
_BUSY_S: Final = 30.0
_BESIDE: Final = ("-wal", "-shm", "-journal")


class SqliteProtection:
    """A consistent copy of a database."""

    resource_type: ClassVar[str] = "sqlite"
    parameters_schema: ClassVar[Mapping[str, Any]] = {
        "type": "object",
        "properties": {},
        "additionalProperties": False,
    }
    restore_schema: ClassVar[Mapping[str, Any]] = {
        "type": "object",
        "properties": {
            "skip": {"type": "boolean", "description": "leave this resource out"},
            "replace_in_use": {
                "type": "boolean",
                "description": "replace the database although a program has it open; stop that program first",
            },
        },
        "additionalProperties": False,
    }

    def protect(self, resource: ResourceRef, writer: TreeWriter, context: StepContext) -> StepResult:
        """``SourceError`` when it is no database, is damaged, or stays locked."""
        try:
            found = find(resource.id, context.allowed_roots)
        except SeawallError as error:
            raise SourceError(f"sqlite {resource.id}: {error}") from error
        if found.status is None or not stat.S_ISREG(found.status.st_mode):
            raise SourceError(f"sqlite {resource.id}: is no file")
        copy = context.scratch / "copy"
        try:
            _copy(found.path, copy, context)
        except (sqlite3.Error, OSError) as error:
            raise SourceError(f"sqlite {resource.id}: cannot be copied: {error}") from error
        status = found.status
        size = copy.stat().st_size
        node = writer.save_stream(
            found.path.name,
            _chunks(copy, context),
            mode=stat.S_IMODE(status.st_mode),
            mtime_ns=status.st_mtime_ns,
            uid=status.st_uid,
            gid=status.st_gid,
        )
        if node.size != size:
            raise SourceError(f"sqlite {resource.id}: {node.size} of {size} bytes of its copy were stored")
        tree = writer.save_nodes([node])
        return StepResult(tree, 1, size, 0, (), {"name": found.path.name})

    def restore(
        self,
        resource: ResourceRef,
        tree_id: str,
        reader: TreeReader,
        target: Path | None,
        options: Mapping[str, Any],
        context: StepContext,
    ) -> Json:
        """Put the database in place whole: written beside it, checked, then renamed over it.

        ``ConflictError`` when a program has the database open that would be replaced. If the process dies
        here, the former database or the restored one stands there; a folder ``.seawall-restore-...`` that
        is left beside it is used again by the next attempt.
        """
        origin = checked_path(resource.id)
        wanted = origin if target is None else target / origin.name
        place = find(wanted, context.allowed_roots, must_exist=False).path
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SourceError(f"sqlite {place}: its folder cannot be made: {error.strerror}") from error
        if place.exists() and not options.get("replace_in_use", False):
            _refuse_in_use(place)
        beside = place.parent / f".seawall-restore-{place.name}"
        result = reader.restore(tree_id, beside, progress=context.progress)
        if result.faults:
            raise DamagedError(f"sqlite {place}: {result.faults[0]}")
        made = next(iter(sorted(beside.iterdir())))
        try:
            _check(made)
        except sqlite3.Error as error:
            raise DamagedError(f"sqlite {place}: what was stored is no whole database: {error}") from error
        _put_in_place(made, place)
        beside.rmdir()
        return {"items": 1, "bytes": result.bytes, "target": str(place), "faults": [], "fault_count": 0}


def _open(path: Path, options: str) -> sqlite3.Connection:
    return sqlite3.connect(
        f"file:{quote(os.fsencode(path))}?{options}", uri=True, timeout=_BUSY_S, isolation_level=None
    )


def _how_to_read(source: Path) -> str:
    """Read only, but for a database in WAL mode that nobody has open: SQLite makes its two files beside it
    even for a reader, and only one that may write takes them away again."""
    with source.open("rb") as file:
        header = file.read(_HEADER_BYTES)
    is_idle_wal = header[18:20] == b"\x02\x02" and not Path(f"{source}-wal").exists()
    return "mode=rw" if is_idle_wal else "mode=ro"


def _copy(source: Path, copy: Path, context: StepContext) -> None:
    how = _how_to_read(source)
    with closing(_open(source, how)) as reading, closing(_open(copy, "mode=rwc")) as writing:
        reading.execute("PRAGMA query_only = ON")
        # A copy in a scratch folder is made again after a crash: nothing of it need be durable.
        writing.execute("PRAGMA synchronous = OFF")
        reading.execute("BEGIN")
        page_bytes = int(reading.execute("PRAGMA page_size").fetchone()[0])
        reading.execute("SELECT count(*) FROM sqlite_master").fetchone()  # from here on, one state
        reading.backup(
            writing,
            pages=_PAGES,
            # Each byte is read twice, here and from the copy: half of it is done then.
            progress=lambda _, left, total: context.progress((total - left) * page_bytes // 2, 0),
            sleep=0.01,
        )
        reading.execute("ROLLBACK")
        # One file, whatever the source's mode; the restored database sets its mode by itself.
        writing.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    _check(copy)


def _check(path: Path) -> None:
    """``sqlite3.DatabaseError`` unless it is a whole database. Nobody else has it open: no lock is taken."""
    with closing(_open(path, "mode=ro&immutable=1")) as opened:
        answer = opened.execute("PRAGMA quick_check(1)").fetchone()[0]
    if answer != "ok":
        raise sqlite3.DatabaseError(f"it is damaged: {answer}")


def _chunks(path: Path, context: StepContext) -> Iterator[bytes]:
    size = path.stat().st_size
    done = 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            yield chunk
            done += len(chunk)
            context.progress((size + done) // 2, 0)
    context.progress(done, 1)


def _refuse_in_use(path: Path) -> None:
    """``ConflictError`` when another process has the database open, or works in it."""
    users = _users(path)
    if users:
        raise ConflictError(
            f"{path} is in use by {', '.join(users)}; a database is not replaced under a running program",
            hint="stop that program, or restore to another folder, or say `replace_in_use`",
        )
    try:
        with closing(_open(path, "mode=rw")) as opened:
            opened.execute("PRAGMA busy_timeout = 0")
            # Takes in what a program that died left in a journal, and shows whether somebody holds a lock.
            opened.execute("BEGIN EXCLUSIVE")
            opened.execute("ROLLBACK")
    except sqlite3.OperationalError as error:
        if "locked" in str(error):
            raise ConflictError(f"{path} is in use: {error}; it is not replaced") from error
    except sqlite3.DatabaseError:
        pass  # it is damaged, and that is why it is being replaced


def _users(path: Path) -> list[str]:
    """The processes that have the file open, as far as we may see them."""
    wanted = path.stat()
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        if int(process.name) == os.getpid():
            continue
        try:
            handles = list((process / "fd").iterdir())
        except OSError:
            continue  # it has ended, or belongs to somebody else
        for handle in handles:
            try:
                one = handle.stat()
            except OSError:
                continue
            if (one.st_dev, one.st_ino) == (wanted.st_dev, wanted.st_ino):
                name = (process / "comm").read_text(errors="replace").strip()
                found.append(f"{name} (pid {process.name})")
                break
    return found


def _put_in_place(made: Path, place: Path) -> None:
    handle = os.open(made, os.O_RDONLY | os.O_CLOEXEC)
    try:
        failpoint("sqlite.restore.before_fsync")
        os.fsync(handle)
        failpoint("sqlite.restore.after_fsync")
    finally:
        os.close(handle)
    # A journal of the former database would be replayed into the new one: it goes first.
    for suffix in _BESIDE:
        Path(f"{place}{suffix}").unlink(missing_ok=True)
    folder = os.open(place.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        failpoint("sqlite.journals.before_fsync")
        os.fsync(folder)
        failpoint("sqlite.journals.after_fsync")
        failpoint("sqlite.restore.before_rename")
        os.rename(made, place)
        failpoint("sqlite.restore.after_rename")
        failpoint("sqlite.restore.before_folder_fsync")
        os.fsync(folder)
        failpoint("sqlite.restore.after_folder_fsync")
    finally:
        os.close(folder)
