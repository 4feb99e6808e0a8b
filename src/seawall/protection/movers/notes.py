# SPDX-License-Identifier: Apache-2.0
"""Notes: which lock a mover holds on which repository, kept in its scratch folder while it holds it.

Whoever finds the mover dead removes that lock from the bank; else it would be in the way of an exclusive one
for 30 minutes. That is safe (I12): a dead process publishes nothing any more, and only a note of a process
that has ended on this host counts. A note is not durable: after a power cut the lock grows old instead.
"""

from __future__ import annotations

import os
import select
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import orjson

NAME: Final = "lock.json"


@dataclass(frozen=True, slots=True)
class LockNote:
    """The lock of a session, and the process that holds it, told from later ones by its start."""

    repository_id: str
    session: str
    pid: int
    started: int


def write(folder: Path, *, repository_id: str, session: str) -> None:
    """This process holds the lock of this session."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    pid = os.getpid()
    note = LockNote(repository_id, session, pid, _started(pid) or 0)
    (folder / NAME).write_bytes(orjson.dumps(asdict(note)))


def remove(folder: Path) -> None:
    """It holds it no longer."""
    (folder / NAME).unlink(missing_ok=True)


def read(folder: Path) -> LockNote | None:
    """The note in a folder; None when there is none, or its writer died before it was whole."""
    try:
        return LockNote(**orjson.loads((folder / NAME).read_bytes()))
    except (FileNotFoundError, TypeError, orjson.JSONDecodeError):
        return None


def tidy(folder: Path) -> None:
    """Remove the folder of a mover that has ended, but for its note, which somebody has to act upon."""
    if read(folder) is None:
        shutil.rmtree(folder, ignore_errors=True)
        return
    for one in folder.iterdir():
        if one.name != NAME:
            shutil.rmtree(one, ignore_errors=True)


def has_ended(note: LockNote, *, within_s: float) -> bool:
    """Whether its process is no more, or is not within so many seconds."""
    try:
        handle = os.pidfd_open(note.pid)
    except ProcessLookupError:
        return True
    try:
        if _started(note.pid) != note.started:
            return True  # the number was given to another process
        ready, _, _ = select.select([handle], [], [], within_s)
        return bool(ready)
    finally:
        os.close(handle)


def _started(pid: int) -> int | None:
    """When a process started, in ticks since the boot; None when there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    # The name, in brackets, may hold anything; the 20th field after it is the start.
    return int(text.rpartition(")")[2].split()[19])
