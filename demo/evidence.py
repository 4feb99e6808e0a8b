# SPDX-License-Identifier: Apache-2.0
"""What was there, and whether it came back: every byte, mode, time, link and attribute."""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Entry:
    """One file system entry; equal entries are restored entries."""

    kind: int
    mode: int
    mtime_ns: int | None
    owner: tuple[int, int]
    content: str
    attributes: tuple[tuple[str, bytes], ...]


def photograph(root: Path) -> dict[bytes, Entry]:
    """Every entry below ``root`` by its relative path (bytes: names need not be text)."""
    entries: dict[bytes, Entry] = {}
    base = os.fsencode(root)
    for folder, folders, files in os.walk(base):
        for name in [*folders, *files]:
            path = os.path.join(folder, name)
            entries[os.path.relpath(path, base)] = _entry(path)
    entries[b"."] = _entry(base)
    return entries


def _entry(path: bytes) -> Entry:
    status = os.lstat(path)
    kind = stat.S_IFMT(status.st_mode)
    content = ""
    attributes: tuple[tuple[str, bytes], ...] = ()
    if stat.S_ISREG(kind):
        with open(path, "rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        attributes = tuple((name, os.getxattr(path, name)) for name in sorted(os.listxattr(path)))
    elif stat.S_ISLNK(kind):
        content = os.fsdecode(os.readlink(path))
    return Entry(
        kind,
        stat.S_IMODE(status.st_mode),
        status.st_mtime_ns,
        (status.st_uid, status.st_gid),
        content,
        attributes,
    )


def differences(before: dict[bytes, Entry], after: dict[bytes, Entry], *, most: int = 10) -> list[str]:
    """Words for each entry that is missing, new or not the same; empty when all came back."""
    found = []
    for path in sorted(before.keys() | after.keys()):
        shown = os.fsdecode(path)
        if path not in after:
            found.append(f"missing: {shown}")
        elif path not in before:
            found.append(f"not there before: {shown}")
        elif before[path] != after[path]:
            found.append(f"differs: {shown}: {before[path]} is now {after[path]}")
        if len(found) >= most:
            break
    return found


def due_times(start: datetime, every: timedelta, after: datetime, until: datetime) -> list[datetime]:
    """The due instants of an interval schedule in (after, until], from its inputs alone."""
    first = max(0, -((start - after) // every) if after >= start else 0)
    instants = []
    number = first
    while (instant := start + number * every) <= until:
        if instant > after:
            instants.append(instant)
        number += 1
    return instants
