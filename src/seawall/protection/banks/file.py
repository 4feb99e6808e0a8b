# SPDX-License-Identifier: Apache-2.0
"""A bank in a folder of a file system.

An object is a file named by its key. ``put`` writes a temporary file in the same folder, fsyncs it, renames
it and fsyncs the folder: a reader sees the former object or the new one, whole, and after ``put`` returned
the object survives a power cut. If the process dies here, a temporary file stays behind; it is never listed,
and a later ``put`` removes it once it is a day old. Folders are 0700, files 0600.
"""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from seawall.core.errors import (
    BankError,
    BankFullError,
    BankObjectMissingError,
    BankReadOnlyError,
    ConflictError,
    InvalidInputError,
)
from seawall.sdk.bank import BankFeatures, Chunks, ObjectInfo, ResticAddress, check_key
from seawall.sdk.failpoints import failpoint

# A key has no such character, so a temporary file can never be taken for an object.
_TEMPORARY = "~"
# By the clock of the file system; no single write lasts so long, on whichever host.
_LEFT_BEHIND_S = 86_400
_STRETCH_BYTES = 1024 * 1024
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM)


class FileBank:
    """Objects below ``path``."""

    bank_name: ClassVar[str] = "file"
    options_schema: ClassVar[Mapping[str, Any]] = {
        "type": "object",
        "properties": {"path": {"type": "string", "minLength": 1}},
        "required": ["path"],
        "additionalProperties": False,
    }

    def __init__(self, *, path: str) -> None:
        if not os.path.isabs(path):
            raise InvalidInputError.of("path", path, "must be absolute")
        self._root = Path(path)
        self._lock = threading.Lock()
        self._count = 0
        self._known: set[Path] = set()
        self._swept: set[Path] = set()

    @property
    def features(self) -> BankFeatures:
        return BankFeatures(conditional_create=True, local_path=str(self._root))

    def restic_address(self, prefix: str) -> ResticAddress:
        return ResticAddress(str(self._root / prefix))

    def put(self, key: str, content: bytes | Chunks, *, create_only: bool = False) -> None:
        path = self._path(key)
        with _translated(key, path):
            self._make_folder(path.parent)
            try:
                self._put(path, content, create_only=create_only)
            except FileNotFoundError:  # the folder was removed by hand since we made it
                self._known.discard(path.parent)
                self._make_folder(path.parent)
                self._put(path, content, create_only=create_only)

    def get(self, key: str, *, offset: int = 0, length: int | None = None) -> bytes:
        path = self._path(key)
        with _translated(key, path), path.open("rb", buffering=0) as file:
            if offset:
                file.seek(offset)
            return _read(file.fileno(), length)

    def size(self, key: str) -> int:
        path = self._path(key)
        with _translated(key, path):
            status = path.stat()
            if not stat.S_ISREG(status.st_mode):
                raise IsADirectoryError
            return status.st_size

    def exists(self, key: str) -> bool:
        path = self._path(key)
        with _translated(key, path):
            try:
                return path.is_file()
            except FileNotFoundError:
                return False

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        folder, _, _ = prefix.rpartition("/")
        if folder:
            check_key(folder)
        begin = self._root / folder
        with _translated(prefix, begin):
            yield from self._walk(begin, f"{folder}/" if folder else "", prefix)

    def delete(self, key: str) -> None:
        path = self._path(key)
        with _translated(key, path):
            failpoint("bank.file.before_unlink")
            try:
                path.unlink()
            except FileNotFoundError:
                return
            failpoint("bank.file.after_unlink")
            _sync_folder(path.parent)

    def close(self) -> None:
        """Nothing is kept open."""

    def _path(self, key: str) -> Path:
        return self._root / check_key(key)

    def _put(self, path: Path, content: bytes | Chunks, *, create_only: bool) -> None:
        with self._lock:
            self._count += 1
            number = self._count
        temporary = path.with_name(f"{path.name}{_TEMPORARY}{os.getpid()}.{number}")
        try:
            written_at = _write(temporary, content)
            if path.parent not in self._swept:
                self._swept.add(path.parent)
                _sweep(path.parent, written_at)
            failpoint("bank.file.before_rename")
            if create_only:
                os.link(temporary, path)
                temporary.unlink()
            else:
                temporary.replace(path)
            failpoint("bank.file.after_rename")
        except FileExistsError:
            temporary.unlink(missing_ok=True)
            raise ConflictError(f"{path.name} exists already in the bank at {self._root}") from None
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        _sync_folder(path.parent)

    def _make_folder(self, folder: Path) -> None:
        """The folder and those above it, durable."""
        if folder in self._known:
            return
        missing = []
        at = folder
        while not at.is_dir():
            missing.append(at)
            at = at.parent
        for one in reversed(missing):
            one.mkdir(mode=0o700, exist_ok=True)
            _sync_folder(one.parent)
        self._known.add(folder)

    def _walk(self, folder: Path, above: str, prefix: str) -> Iterator[ObjectInfo]:
        try:
            entries = sorted(os.scandir(folder), key=lambda one: one.name + ("/" if one.is_dir() else ""))
        except (FileNotFoundError, NotADirectoryError):
            return
        for entry in entries:
            key = above + entry.name
            if entry.is_dir(follow_symlinks=False):
                # Only folders on the way to the prefix or below it.
                if f"{key}/".startswith(prefix) or prefix.startswith(f"{key}/"):
                    yield from self._walk(Path(entry.path), f"{key}/", prefix)
            elif key.startswith(prefix) and _TEMPORARY not in entry.name:
                try:
                    yield ObjectInfo(key, entry.stat(follow_symlinks=False).st_size)
                except FileNotFoundError:
                    continue  # deleted while we list


def _write(path: Path, content: bytes | Chunks) -> float:
    """Write and fsync a new file; when that was, by the clock of the file system."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        for stretch in _stretches(content):
            left = memoryview(stretch)
            while left:
                left = left[os.write(descriptor, left) :]
        failpoint("bank.file.before_fsync")
        os.fsync(descriptor)
        failpoint("bank.file.after_fsync")
        return os.fstat(descriptor).st_mtime
    finally:
        os.close(descriptor)


def _stretches(content: bytes | Chunks) -> Iterator[bytes]:
    """The content in few pieces that are worth a system call, never all of it once more."""
    if isinstance(content, bytes):
        yield content
        return
    parts: list[bytes | bytearray | memoryview] = []
    length = 0
    for part in content:
        parts.append(part)
        length += len(part)
        if length >= _STRETCH_BYTES:
            yield b"".join(parts)
            parts, length = [], 0
    yield b"".join(parts)


def _sweep(folder: Path, now: float) -> None:
    """Remove what killed writers left behind long ago."""
    for entry in os.scandir(folder):
        if _TEMPORARY not in entry.name:
            continue
        try:
            if now - entry.stat(follow_symlinks=False).st_mtime > _LEFT_BEHIND_S:
                os.unlink(entry.path)
        except FileNotFoundError:
            continue  # its writer lives, or another one sweeps


def _read(descriptor: int, length: int | None) -> bytes:
    """Up to ``length`` bytes, whatever the size of single reads."""
    parts = []
    left = length
    while left is None or left > 0:
        part = os.read(descriptor, min(left, 1 << 24) if left is not None else 1 << 24)
        if not part:
            break
        parts.append(part)
        if left is not None:
            left -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        failpoint("bank.file.before_folder_fsync")
        os.fsync(descriptor)
        failpoint("bank.file.after_folder_fsync")
    finally:
        os.close(descriptor)


@contextmanager
def _translated(key: str, path: Path) -> Iterator[None]:
    """Errors of the system as those of the bank, each with the path."""
    try:
        yield
    except FileNotFoundError as error:
        raise BankObjectMissingError(f"there is no object {key} in the bank: {path}") from error
    except IsADirectoryError as error:
        raise BankObjectMissingError(f"{key} is a folder of the bank, not an object: {path}") from error
    except OSError as error:
        words = f"{path}: {error.strerror}"
        if error.errno in _FULL:
            raise BankFullError(f"no space is left on the bank: {words}") from error
        if error.errno in _READ_ONLY:
            raise BankReadOnlyError(f"the bank refuses this: {words}") from error
        raise BankError(f"the bank failed: {words}") from error
