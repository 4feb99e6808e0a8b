# SPDX-License-Identifier: Apache-2.0
"""Restore: a tree becomes files again, never outside the target.

Every folder is opened relative to its parent without following symlinks, and every name is checked, so that
neither a hostile tree nor a symlink that lies in the target leads out of it. A file is written beside its
place under a name of our own and renamed over it when it is whole; one that is the same already is left
alone. What cannot be restored (damaged, not permitted) is a ``Fault`` and the rest goes on.

One thread does all that changes the target, in the order of the tree. It first looks through a **batch** of
entries and makes their folders, so that what they need is read and opened ``ahead`` by other threads; a
folder gets its attributes when all within it is done.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, get_args

from seawall.core.errors import DamagedError, InvalidInputError
from seawall.repository import attributes, nodes
from seawall.repository.ahead import Ahead, Wanted
from seawall.repository.faults import Fault
from seawall.repository.nodes import Node
from seawall.repository.pack import PackedBlob
from seawall.repository.reader import Reader
from seawall.repository.walk import READ_DEPTH
from seawall.sdk.failpoints import failpoint

Overwrite = Literal["if-changed", "always", "never", "replace", "keep"]
"""What happens to a file that is there: ``always`` compares its content and replaces it where it differs,
``if-changed`` takes it for the same when its size and modification time are, ``never`` leaves it. ``replace``
and ``keep`` are other words for ``always`` and ``never``."""
Progress = Callable[[int, int], None]

_OPEN_DIR: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC
_OPEN_OLD: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_MAKE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_NOWHERE: Final = -1
"""The descriptor of a folder that a dry run has not made."""
_RESTORED: Final = frozenset(
    {nodes.FILE, nodes.SYMLINK, nodes.FIFO, nodes.DEV, nodes.CHARDEV},
)
MAX_FAULTS: Final = 10_000
"""So many are listed; a last one says that there are more."""
_HOLE_BYTES: Final = 4096
_SHOW_BYTES: Final = 4 * 1024 * 1024
_SHOW_ITEMS: Final = 64
_BATCH_STEPS: Final = 1024
_BATCH_BYTES: Final = 32 * 1024 * 1024
_BATCH_FOLDERS: Final = 64
"""A folder stays open until its batch is done; there are two batches at a time."""


@dataclass(frozen=True, slots=True)
class RestoreResult:
    """What it did: ``items`` are entries that are now as in the tree, ``bytes`` is what was written."""

    items: int
    bytes: int
    faults: tuple[Fault, ...]


@dataclass(frozen=True, slots=True)
class _Made:
    """The first name of a file with several, as restored."""

    path: bytes
    identity: tuple[int, int]


@dataclass(slots=True)
class _Entry:
    """A step: an entry that is no folder."""

    folder: int
    node: Node
    path: bytes
    wanted: Wanted
    is_new: bool
    """Nothing stands in its place, but for what another program has just put there."""


@dataclass(slots=True)
class _Leave:
    """A step: all within a folder is done. It gets its attributes if it is to, and is closed."""

    folder: int
    node: Node
    path: bytes
    is_item: bool
    has_attributes: bool


_Step = _Entry | _Leave


class _OddError(Exception):
    """An entry cannot be restored for this reason; the rest can."""


_FAULTS: Final = (_OddError, DamagedError, OSError)
"""What goes wrong with one entry only; the rest goes on."""


def _checked_include(paths: Sequence[str]) -> list[bytes]:
    found = []
    for path in paths:
        parts = [part for part in os.fsencode(path).split(b"/") if part and part != b"."]
        if not parts or b".." in parts:
            raise InvalidInputError.of("include", path, "must be a path within the tree, without `..`")
        found.append(b"/".join(parts))
    return found


class Restore:
    """One restore of one tree."""

    def __init__(
        self,
        reader: Reader,
        *,
        overwrite: Overwrite,
        include: Sequence[str],
        progress: Progress | None,
        dry_run: bool = False,
    ) -> None:
        if overwrite not in get_args(Overwrite):
            raise InvalidInputError.of("overwrite", overwrite, "must be if-changed, always or never")
        self._reader = reader
        self._keep = overwrite in ("never", "keep")
        self._trusts_times = overwrite == "if-changed"
        self._dry_run = dry_run
        self._include = _checked_include(include)
        self._progress = progress
        self._shown = (0, 0)
        self._faults: list[Fault] = []
        self._items = 0
        self._bytes = 0
        self._met: set[bytes] = set()
        self._links: dict[tuple[int, int], _Made] = {}
        self._root = _NOWHERE
        self._ahead = Ahead(reader)
        self._batch: list[_Step] = []
        self._batch_bytes = 0
        self._batch_folders = 0
        self._steps: deque[_Step] = deque()

    def run(self, tree_id: bytes, target: Path) -> RestoreResult:
        """Write the entries of a tree into ``target``, which is made if missing.

        ``DamagedError`` when the tree itself cannot be read, ``InvalidInputError`` when the target cannot be
        used as a folder; everything else is a fault in the result.
        """
        entries = self._reader.tree(tree_id)
        if self._dry_run and not target.exists():
            self._entries(_NOWHERE, entries, b"", 0, is_new=True)
            return self._end()
        try:
            is_new = not target.exists()
            target.mkdir(parents=True, exist_ok=True)
            self._root = os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise InvalidInputError.of("target", str(target), f"cannot be used: {error.strerror}") from error
        try:
            with self._ahead:
                self._entries(self._root, entries, b"", 0, is_new=is_new)
                self._begin_batch()
                self._carry_out()
        finally:
            for step in (*self._steps, *self._batch):
                if isinstance(step, _Leave):
                    os.close(step.folder)
            os.close(self._root)
        return self._end()

    def _end(self) -> RestoreResult:
        for path in self._include:
            if path not in self._met:
                self._fault(path, "is not in the tree")
        self._show(always=True)
        return RestoreResult(self._items, self._bytes, tuple(self._faults))

    def _chosen(self, path: bytes) -> Literal["yes", "no", "on the way"]:
        if not self._include:
            return "yes"
        answer: Literal["yes", "no", "on the way"] = "no"
        for wanted in self._include:
            if path == wanted:
                self._met.add(path)
            if path == wanted or path.startswith(wanted + b"/"):
                return "yes"
            if wanted.startswith(path + b"/"):
                answer = "on the way"
        return answer

    def _entries(
        self, folder: int, entries: Iterable[Node], path: bytes, depth: int, *, is_new: bool
    ) -> None:
        """Look through a folder; ``is_new`` when nothing can stand in it yet."""
        for node in entries:
            below = path + b"/" + node.name if path else node.name
            choice = self._chosen(below)
            if choice == "no" or (choice == "on the way" and not node.is_dir):
                continue
            try:
                _check_name(node.name)
                if node.is_dir:
                    self._folder(folder, node, below, depth, whole=choice == "yes")
                elif self._dry_run:
                    self._entry(_Entry(folder, node, below, self._ahead.unplanned(node.content), False))
                else:
                    self._put_off(folder, node, below, is_new=is_new)
            except _FAULTS as error:
                self._fault(below, _reason(error))
            self._show()

    # --- batches ---------------------------------------------------------------------------------

    def _put_off(self, folder: int, node: Node, path: bytes, *, is_new: bool) -> None:
        found = None if is_new else _lstat(node.name, folder)
        if found is None or (found.st_size != node.size and not self._keep):
            wanted = self._ahead.want(node.content, node.size)
            self._batch_bytes += node.size
        else:  # it stays as it is, or is the same most likely
            wanted = self._ahead.unplanned(node.content)
        self._add(_Entry(folder, node, path, wanted, is_new and not self._keep))

    def _add(self, step: _Step) -> None:
        self._batch.append(step)
        if (
            len(self._batch) >= _BATCH_STEPS
            or self._batch_bytes >= _BATCH_BYTES
            or self._batch_folders >= _BATCH_FOLDERS
        ):
            self._begin_batch()

    def _begin_batch(self) -> None:
        """Have what the batch needs read, and carry out the one before it meanwhile."""
        self._ahead.go()
        self._carry_out()
        self._steps.extend(self._batch)
        self._batch, self._batch_bytes, self._batch_folders = [], 0, 0

    def _carry_out(self) -> None:
        while self._steps:
            step = self._steps.popleft()
            try:
                if isinstance(step, _Leave):
                    self._leave(step)
                else:
                    self._entry(step)
            except _FAULTS as error:
                self._fault(step.path, _reason(error))
            if isinstance(step, _Entry):
                step.wanted.drop()
            self._show()

    # --- folders ---------------------------------------------------------------------------------

    def _folder(self, folder: int, node: Node, path: bytes, depth: int, *, whole: bool) -> None:
        if node.subtree is None:
            raise _OddError("is a folder without a tree")
        if depth >= READ_DEPTH:
            raise _OddError(f"lies more than {READ_DEPTH} folders deep")
        entries = self._reader.tree(node.subtree)
        if self._dry_run and not self._has_folder(folder, node.name):
            self._entries(_NOWHERE, entries, path, depth + 1, is_new=True)
            self._items += whole
            return
        made = self._make_folder(folder, node.name)
        inner = os.open(node.name, _OPEN_DIR, dir_fd=folder)
        is_read = False
        try:
            if not self._dry_run:
                _make_writable(inner)
            self._entries(inner, entries, path, depth + 1, is_new=made)
            is_read = True
        finally:
            has_attributes = not self._dry_run and (made or (whole and not self._keep))
            self._batch_folders += 1
            self._add(_Leave(inner, node, path, whole and is_read, has_attributes and is_read))

    def _leave(self, step: _Leave) -> None:
        try:
            if step.has_attributes:
                self._troubles(step.path, attributes.apply(step.node, step.folder))
        finally:
            os.close(step.folder)
        self._items += step.is_item

    def _has_folder(self, folder: int, name: bytes) -> bool:
        found = _lstat(name, folder)
        if found is not None and not stat.S_ISDIR(found.st_mode) and self._keep:
            raise _OddError("something else is in its place and is kept")
        return found is not None and stat.S_ISDIR(found.st_mode)

    def _make_folder(self, folder: int, name: bytes) -> bool:
        found = _lstat(name, folder)
        if found is not None and stat.S_ISDIR(found.st_mode):
            return False
        if found is not None:
            if self._keep:
                raise _OddError("something else is in its place and is kept")
            os.unlink(name, dir_fd=folder)
        os.mkdir(name, 0o700, dir_fd=folder)
        return True

    # --- everything else -------------------------------------------------------------------------

    def _entry(self, step: _Entry) -> None:
        folder, node, path = step.folder, step.node, step.path
        found = None if step.is_new else _lstat(node.name, folder)
        if found is not None:
            if self._keep:
                return
            if stat.S_ISDIR(found.st_mode):
                raise _OddError("a folder is in its place and is not replaced")
        if self._dry_run:
            self._foresee(folder, node, path, found)
            return
        link = (node.inode, node.device_id) if node.links > 1 and node.inode else None
        first = self._links.get(link) if link else None
        if first is not None and self._link(folder, node, first, found):
            self._items += 1
            return
        if node.type == nodes.FILE:
            if found is None or not self._same(folder, node, path, found):
                self._file(step, replaces=found is not None)
        else:
            self._special(folder, node, path)
        self._items += 1
        if link is not None and first is None:
            made = os.stat(node.name, dir_fd=folder, follow_symlinks=False)
            self._links[link] = _Made(path, (made.st_dev, made.st_ino))

    def _foresee(self, folder: int, node: Node, path: bytes, found: os.stat_result | None) -> None:
        """Count what would be written, and write nothing."""
        if node.type not in _RESTORED:
            raise _OddError(f"is of the kind {node.type!r}, which is not restored")
        self._items += 1
        if node.type != nodes.FILE or (found is not None and self._same(folder, node, path, found)):
            return
        for blob_id in node.content:
            if self._reader.find(blob_id) is None:
                raise DamagedError(f"data blob {blob_id.hex()[:16]} is in no index")
        self._bytes += node.size

    def _link(self, folder: int, node: Node, first: _Made, found: os.stat_result | None) -> bool:
        """Make it a further name of a file restored before; False if that has been moved meanwhile."""
        if found is not None and (found.st_dev, found.st_ino) == first.identity:
            return True
        part = _part_name(node.name)
        _remove(part, folder)
        try:
            failpoint("repository.restore.before_link")
            os.link(first.path, part, src_dir_fd=self._root, dst_dir_fd=folder, follow_symlinks=False)
            failpoint("repository.restore.after_link")
            made = os.stat(part, dir_fd=folder, follow_symlinks=False)
            if (made.st_dev, made.st_ino) != first.identity:
                _remove(part, folder)
                return False
            _move(part, node.name, folder)
        except OSError:
            _remove(part, folder)
            return False
        return True

    def _same(self, folder: int, node: Node, path: bytes, found: os.stat_result) -> bool:
        """Whether the existing file has this content; its attributes are then set where they differ."""
        if not stat.S_ISREG(found.st_mode) or found.st_size != node.size:
            return False
        try:
            handle = os.open(node.name, _OPEN_OLD, dir_fd=folder)
        except OSError:
            return False
        try:
            now = os.fstat(handle)
            if not stat.S_ISREG(now.st_mode) or now.st_size != node.size:
                return False
            trusted = self._trusts_times and now.st_mtime_ns == node.mtime_ns
            for blob_id in () if trusted else node.content:
                known = self._reader.find(blob_id)
                if known is None or not _has(handle, known.blob):
                    return False
            if not self._dry_run and not attributes.same(node, now, handle):
                if now.st_nlink > 1:
                    return False  # its other names may lie outside the target
                self._troubles(path, attributes.apply(node, handle))
            return True
        finally:
            os.close(handle)

    def _file(self, step: _Entry, *, replaces: bool) -> None:
        folder, node = step.folder, step.node
        part = _part_name(node.name)
        try:
            handle = os.open(part, _MAKE, 0o600, dir_fd=folder)
        except FileExistsError:  # left by a restore that was killed
            _remove(part, folder)
            handle = os.open(part, _MAKE, 0o600, dir_fd=folder)
        try:
            self._fill(handle, node, step.wanted)
            self._troubles(step.path, attributes.apply(node, handle))
            if replaces:
                failpoint("repository.restore.before_fsync")
                os.fsync(handle)
                failpoint("repository.restore.after_fsync")
            _move(part, node.name, folder)
        except BaseException:
            _remove(part, folder)
            raise
        finally:
            os.close(handle)

    def _fill(self, handle: int, node: Node, wanted: Wanted) -> None:
        length = 0
        hole = False
        for content in wanted:
            length += len(content)
            if length > node.size:
                raise _OddError(f"its content has more than the expected {node.size} bytes")
            hole = len(content) >= _HOLE_BYTES and content[0] == 0 and content.count(0) == len(content)
            if hole:
                os.lseek(handle, len(content), os.SEEK_CUR)
                continue
            rest = memoryview(content)
            while rest:
                rest = rest[os.write(handle, rest) :]
            self._bytes += len(content)
            self._show()
        if hole:
            os.ftruncate(handle, length)
        if length != node.size:
            raise _OddError(f"its content has {length} bytes, expected {node.size}")

    def _special(self, folder: int, node: Node, path: bytes) -> None:
        part = _part_name(node.name)
        _remove(part, folder)
        try:
            if node.type == nodes.SYMLINK:
                os.symlink(node.linktarget, part, dir_fd=folder)
            elif node.type == nodes.FIFO:
                os.mkfifo(part, 0o600, dir_fd=folder)
            elif node.type in (nodes.DEV, nodes.CHARDEV):
                kind = stat.S_IFBLK if node.type == nodes.DEV else stat.S_IFCHR
                os.mknod(part, kind | 0o600, node.device, dir_fd=folder)
            else:
                raise _OddError(f"is of the kind {node.type!r}, which is not restored")
            self._troubles(path, attributes.apply_by_name(node, part, folder))
            _move(part, node.name, folder)
        except BaseException:
            _remove(part, folder)
            raise

    # --- telling ---------------------------------------------------------------------------------

    def _troubles(self, path: bytes, troubles: Sequence[str]) -> None:
        for trouble in troubles:
            self._fault(path, trouble)

    def _fault(self, path: bytes, reason: str) -> None:
        if len(self._faults) == MAX_FAULTS:
            self._faults.append(Fault("", f"there are more than {MAX_FAULTS} faults; the rest is not listed"))
        if len(self._faults) > MAX_FAULTS:
            return
        self._faults.append(Fault(os.fsdecode(path), reason))

    def _show(self, *, always: bool = False) -> None:
        if self._progress is None:
            return
        done, items = self._bytes, self._items
        if always or done - self._shown[0] >= _SHOW_BYTES or items - self._shown[1] >= _SHOW_ITEMS:
            self._shown = (done, items)
            self._progress(done, items)


def _reason(error: Exception) -> str:
    return (isinstance(error, OSError) and error.strerror) or str(error) or repr(error)


def _check_name(name: bytes) -> None:
    if not nodes.is_file_name(name):
        raise _OddError("has a name that no file can have; it is not restored")


def _part_name(name: bytes) -> bytes:
    """Where an entry is made before it is renamed; always the same, so that kills leave no heap."""
    return b".seawall-restore-" + hashlib.sha256(name).hexdigest()[:16].encode()


def _make_writable(folder: int) -> None:
    """Let its owner, if we are, make entries in it; its mode is set when they are there."""
    found = os.fstat(folder)
    if os.geteuid() != 0 and found.st_uid == os.geteuid() and not found.st_mode & stat.S_IWUSR:
        os.fchmod(folder, stat.S_IMODE(found.st_mode) | stat.S_IRWXU)


def _lstat(name: bytes, folder: int) -> os.stat_result | None:
    if folder == _NOWHERE:
        return None
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _remove(name: bytes, folder: int) -> None:
    try:
        os.unlink(name, dir_fd=folder)
    except FileNotFoundError:
        pass


def _move(part: bytes, name: bytes, folder: int) -> None:
    failpoint("repository.restore.before_rename")
    os.rename(part, name, src_dir_fd=folder, dst_dir_fd=folder)
    failpoint("repository.restore.after_rename")


def _has(handle: int, blob: PackedBlob) -> bool:
    """Whether the next bytes of an open file are the content of a blob."""
    content = os.read(handle, blob.size)
    while len(content) < blob.size:
        more = os.read(handle, blob.size - len(content))
        if not more:
            return False
        content += more
    return hashlib.sha256(content).digest() == blob.id
