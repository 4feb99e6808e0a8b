# SPDX-License-Identifier: Apache-2.0
"""``sqlite``: a SQLite database of this host, in use or not. Its id is the absolute path of its file.

A database is known by the first bytes of its file, whatever its name.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final

from seawall.core.errors import ForbiddenError, InvalidInputError, NotFoundError
from seawall.sdk.beneath import checked_path, find, open_beneath
from seawall.sdk.protection import Instance

_HEADER: Final = b"SQLite format 3\x00"
# How far and how much a search looks at: it answers a question of a user, who waits.
_DEPTH: Final = 4
_MOST_DEPTH: Final = 32
_MOST_ENTRIES: Final = 50_000
# Nothing in them is a file, and reading some of them blocks.
_NO_FILES: Final = (Path("/proc"), Path("/sys"), Path("/dev"))


class Sqlite:
    """Finds databases by their header."""

    resource_type: ClassVar[str] = "sqlite"
    dependent_types: ClassVar[Sequence[str]] = ()
    on_host: ClassVar[bool] = True
    instances_schema: ClassVar[Mapping[str, Any]] = {
        "type": "object",
        "properties": {
            "path": {"type": "string", "description": "where to look; the allowed roots if absent"},
            "depth": {
                "type": ["integer", "string"],
                "pattern": "^[0-9]{1,2}$",
                "minimum": 0,
                "maximum": _MOST_DEPTH,
                "description": f"how many folders deep; {_DEPTH} if absent",
            },
        },
        "additionalProperties": False,
    }

    def instances(self, allowed_roots: Sequence[Path], parameters: Mapping[str, Any]) -> Iterable[Instance]:
        """In the order of their paths. Files whose names are no text cannot be named, and are left out.

        ``InvalidInputError`` when there is so much to look at that the answer would take too long.
        """
        depth = int(parameters.get("depth", _DEPTH))
        if depth > _MOST_DEPTH:
            raise InvalidInputError.of("depth", depth, f"must be at most {_MOST_DEPTH}")
        if "path" in parameters:
            begins = [find(checked_path(str(parameters["path"])), allowed_roots).path]
        else:
            begins = sorted(root for root in allowed_roots if root.is_dir())
        search = _Search(allowed_roots, ", ".join(map(str, begins)))
        found = (path for begin in begins for path in search.below(begin, depth))
        return (_instance(path, size) for path, size in found)

    def instance(self, resource_id: str, allowed_roots: Sequence[Path]) -> Instance:
        """One database; its file can be read now, and begins as one."""
        path = checked_path(resource_id)
        found = find(path, allowed_roots)
        if found.status is None or not stat.S_ISREG(found.status.st_mode):
            raise InvalidInputError.of(
                "path", resource_id, "must be the file of a SQLite database, and is no file"
            )
        if (size := _size_of_database(path, allowed_roots)) is None:
            raise InvalidInputError.of("path", resource_id, "is no SQLite database: it does not begin as one")
        return _instance(path, size)


class _Search:
    """A walk that stops at a bound."""

    def __init__(self, allowed_roots: Sequence[Path], words: str) -> None:
        self._roots = allowed_roots
        self._words = words
        self._left = _MOST_ENTRIES

    def below(self, folder: Path, depth: int) -> Iterator[tuple[Path, int]]:
        """The databases in a folder and the folders below; what may not be read is passed over."""
        if folder in _NO_FILES:
            return
        try:
            entries = sorted(os.scandir(folder), key=lambda one: one.name)
        except NotADirectoryError:
            if (size := self._size(folder)) is not None:
                yield folder, size
            return
        except OSError:
            return
        for entry in entries:
            self._count()
            if not _is_text(entry.name):
                continue
            path = folder / entry.name
            if entry.is_dir(follow_symlinks=False):
                if depth > 0:
                    yield from self.below(path, depth - 1)
            elif entry.is_file(follow_symlinks=False) and (size := self._size(path)) is not None:
                yield path, size

    def _count(self) -> None:
        self._left -= 1
        if self._left < 0:
            rule = f"holds more than {_MOST_ENTRIES:,} entries; name a smaller folder, or less depth"
            raise InvalidInputError.of("path", self._words, rule)

    def _size(self, path: Path) -> int | None:
        try:
            return _size_of_database(path, self._roots)
        except (ForbiddenError, InvalidInputError, NotFoundError):
            return None  # may not be read, or is gone: it cannot be protected now


def _size_of_database(path: Path, allowed_roots: Sequence[Path]) -> int | None:
    """The size of the file; None when it does not begin as a database."""
    descriptor = open_beneath(path, allowed_roots, os.O_RDONLY | os.O_NONBLOCK)
    try:
        status = os.fstat(descriptor)
        is_database = stat.S_ISREG(status.st_mode) and os.pread(descriptor, len(_HEADER), 0) == _HEADER
        return status.st_size if is_database else None
    finally:
        os.close(descriptor)


def _instance(path: Path, size_bytes: int) -> Instance:
    return Instance(
        type=Sqlite.resource_type,
        id=str(path),
        name=path.name,
        extra_info={"size_bytes": size_bytes},
    )


def _is_text(name: str) -> bool:
    """Whether a name can stand in an answer; file names may be any bytes."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
