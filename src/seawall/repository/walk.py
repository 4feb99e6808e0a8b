# SPDX-License-Identifier: Apache-2.0
"""Walk: a directory or file of this host becomes trees and blobs.

Everything below the root is opened relative to its parent's descriptor and without following symlinks, so no
swap of a name while we walk leads out of the root. What cannot be read whole is listed as a ``SourceFault``
and left out; only a root that cannot be read at all raises ``SourceError``.

A file counts as unchanged when the parent tree has it with the same size, modification time, change time and
inode, *and* every chunk of it is in the index; it is then not opened.
"""

from __future__ import annotations

import errno
import grp
import io
import os
import pwd
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, Protocol

from seawall.core.errors import DamagedError, InvalidInputError, SourceError
from seawall.repository import nodes
from seawall.repository.chunker import Chunker, Readable
from seawall.repository.codec import parse_id
from seawall.repository.nodes import Node
from seawall.repository.patterns import Patterns
from seawall.repository.quoting import unquote
from seawall.repository.trees import GrowingTree
from seawall.sdk.protection import SourceFault

Progress = Callable[[int, int], None]

MAX_DEPTH: Final = 250
"""Folders within folders; what lies deeper is a fault (each level holds a descriptor)."""
READ_DEPTH: Final = MAX_DEPTH + 4
"""What readers follow: a snapshot has a few folders above the root of a walk."""
MAX_HARD_LINKS: Final = 100_000
"""So many files with several names are remembered, to read each once."""

_OPEN_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_OPEN_DIR: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC
_NO_XATTRS: Final = frozenset({errno.ENOTSUP, errno.ENODATA, errno.EPERM, errno.EACCES})
_SHOW_BYTES: Final = 4 * 1024 * 1024
_SHOW_ITEMS: Final = 64

CACHE_TAG: Final = "CACHEDIR.TAG"
_CACHE_SIGN: Final = b"Signature: 8a477f597d28d172789f06886806bc55"


class BlobStore(Protocol):
    """What the walk needs of the writer."""

    def save_chunks(self, source: Readable, chunker: Chunker) -> tuple[list[bytes], int]:
        """Cut and store a source; its blob ids and its length."""
        ...

    def save_whole(self, content: bytes) -> bytes:
        """Store one data blob; its id."""
        ...

    def growing_tree(self) -> GrowingTree:
        """A tree that takes nodes one by one."""
        ...

    def reuse(self, blob_ids: Sequence[bytes]) -> bool:
        """Whether all these data blobs are stored; if so they count as used by this writer."""
        ...

    def entries(self, tree_id: str) -> Iterator[dict[str, Any]]:
        """The JSON nodes of a stored tree; ``DamagedError`` at once or late if it cannot be read."""
        ...


@dataclass(slots=True)
class Figures:
    """What a walk has met so far."""

    items: int = 0
    read_bytes: int = 0
    done_bytes: int = 0
    unchanged_files: int = 0
    faults: list[SourceFault] = field(default_factory=list)


@lru_cache(maxsize=1024)
def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return ""


@lru_cache(maxsize=1024)
def _group(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return ""


class _Limited:
    """Reads a file up to the length it had when it was opened, so that a growing file comes to an end."""

    def __init__(self, file: io.FileIO, left: int) -> None:
        self._file = file
        self._left = left

    def readinto(self, b: memoryview) -> int:
        if self._left <= 0:
            return 0
        count = self._file.readinto(b[: self._left]) or 0
        self._left -= count
        return count


def _reason(error: OSError) -> str:
    return error.strerror or repr(error)


class _Former:
    """What the parent has of a folder, asked for by names in their order, so that it need not be held."""

    def __init__(self, entries: Iterator[dict[str, Any]]) -> None:
        self._entries = entries
        self._here: tuple[bytes, dict[str, Any]] | None = (b"", {})

    def take(self, name: bytes) -> dict[str, Any] | None:
        """The entry of this name; names must come sorted. None too when the rest cannot be read."""
        while self._here is not None and self._here[0] < name:
            try:
                entry = next(self._entries, None)
                self._here = None if entry is None else (unquote(entry["name"]), entry)
            except DamagedError:
                self._here = None  # a damaged parent only costs reading again, and that heals it
        return self._here[1] if self._here is not None and self._here[0] == name else None


def _names(handle: int) -> list[str]:
    """The names in a folder in the order of their bytes."""
    names = os.listdir(handle)
    # Of a million names the keys would take as much memory as the names themselves.
    names.sort(key=None if all(map(str.isascii, names)) else os.fsencode)
    return names


def _is_cache(handle: int, names: Sequence[str]) -> bool:
    """Whether a folder says of itself that it is a cache, by the tag that programs agreed on."""
    if CACHE_TAG not in names:
        return False
    try:
        file = os.open(CACHE_TAG, _OPEN_FILE, dir_fd=handle)
    except OSError:
        return False  # a tag that cannot be read says nothing; the file itself becomes a fault
    try:
        return stat.S_ISREG(os.fstat(file).st_mode) and os.read(file, len(_CACHE_SIGN)) == _CACHE_SIGN
    finally:
        os.close(file)


class Walk:
    """One walk of one root."""

    def __init__(
        self,
        store: BlobStore,
        chunker: Chunker,
        excludes: Sequence[str],
        progress: Progress | None,
        *,
        patterns: Sequence[str] = (),
        one_file_system: bool = False,
        exclude_caches: bool = False,
    ) -> None:
        self._patterns = Patterns(patterns)
        self._one_file_system = one_file_system
        self._exclude_caches = exclude_caches
        self._device = -1
        self.figures = Figures()
        self._store = store
        self._chunker = chunker
        self._progress = progress
        self._shown = (0, 0)
        self._hard_links: dict[tuple[int, int], tuple[list[bytes], int, int]] = {}
        self._excluded: dict[str, set[str]] = {}
        for path in excludes:
            folder, name = os.path.split(os.path.normpath(path))
            self._excluded.setdefault(folder, set()).add(name)

    def root(self, path: Path, parent_tree: str | None) -> tuple[bytes, Node]:
        """The tree of a root and the node that describes the root itself.

        A folder's tree has its entries; the tree of a file (or link, device) has this one node.
        """
        text = os.path.normpath(path)
        if not os.path.isabs(text):
            raise SourceError(f"{text}: is no absolute path")
        if self._within_excludes(text):
            raise SourceError(f"{text}: lies within what is always left out of backups")
        try:
            found = os.lstat(text)
            old = self._former(parent_tree)
            if stat.S_ISDIR(found.st_mode):
                return self._root_folder(text, old)
            if stat.S_ISLNK(found.st_mode):
                raise SourceError(f"{text}: is a symbolic link; protect what it points to")
            folder, name = os.path.split(text)
            handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise SourceError(f"{text}: {_reason(error)}") from error
        try:
            node = self._entry(handle, folder, name, found, old.take(os.fsencode(name)), 0)
        finally:
            os.close(handle)
        if node is None:
            reason = (
                self.figures.faults[0].reason if self.figures.faults else "is of a kind that is not stored"
            )
            raise SourceError(f"{text}: {reason}")
        self._show(always=True)
        tree = self._store.growing_tree()
        tree.add(node.encode())
        return tree.save(), node

    def _within_excludes(self, text: str) -> bool:
        while True:
            folder, name = os.path.split(text)
            if name in self._excluded.get(folder, ()):
                return True
            if folder == text:
                return False
            text = folder

    def _root_folder(self, text: str, old: _Former) -> tuple[bytes, Node]:
        handle = os.open(text, _OPEN_DIR)
        try:
            found = os.fstat(handle)
            self._device = found.st_dev
            node = self._plain_node(os.fsencode(os.path.basename(text) or "root"), nodes.DIR, found)
            node.xattrs = self._xattrs(handle, text)
            node.subtree = self._folder(handle, text, old, 0)
        finally:
            os.close(handle)
        self.figures.items += 1
        self._show(always=True)
        return node.subtree, node

    def _former(self, tree_id: str | None) -> _Former:
        try:
            return _Former(iter(()) if tree_id is None else self._store.entries(tree_id))
        except DamagedError:
            return _Former(iter(()))

    def _folder(self, handle: int, path: str, old: _Former, depth: int) -> bytes:
        """Store a folder's entries; raises ``OSError`` if it cannot be listed or has too many."""
        names = _names(handle)
        if self._exclude_caches and _is_cache(handle, names):
            names = [CACHE_TAG]
        count = len(names)
        names.reverse()
        tree = self._store.growing_tree()
        while names:  # a name is given up when its node is there: of a million both would be much
            name = names.pop()
            if self._left_out(path, name):
                continue
            try:
                found = os.stat(name, dir_fd=handle, follow_symlinks=False)
            except OSError as error:
                self._fault(path, name, _reason(error))
                continue
            if self._is_elsewhere(found) and not stat.S_ISDIR(found.st_mode):
                continue
            node = self._entry(handle, path, name, found, old.take(os.fsencode(name)), depth)
            if node is not None:
                try:
                    tree.add(node.encode())
                except InvalidInputError:
                    raise OSError(errno.EFBIG, f"has {count} entries, more than a folder may have") from None
        return tree.save()

    def _left_out(self, path: str, name: str) -> bool:
        if name in self._excluded.get(path, ()):
            return True
        return bool(self._patterns) and self._patterns.exclude(path.rstrip("/") + "/" + name)

    def _is_elsewhere(self, found: os.stat_result) -> bool:
        """Whether it lies on another file system than the root, and that matters."""
        return self._one_file_system and self._device >= 0 and found.st_dev != self._device

    def _entry(
        self,
        handle: int,
        path: str,
        name: str,
        found: os.stat_result,
        old: dict[str, Any] | None,
        depth: int,
    ) -> Node | None:
        """The node of one entry, its content stored; None when it is a fault or not stored at all."""
        kind = nodes.kind_of(found.st_mode)
        try:
            if kind == nodes.FILE:
                node = self._unchanged(name, found, old) or self._file(handle, path, name)
            elif kind == nodes.DIR:
                node = self._subfolder(handle, path, name, old, depth)
            elif kind is None:
                return None  # a socket: the program that made it makes it again
            else:
                node = self._special(handle, path, name, kind, found)
        except OSError as error:
            self._fault(path, name, _reason(error))
            return None
        if node is not None:
            self.figures.items += 1
            self._show()
        return node

    def _plain_node(self, name: bytes, kind: str, found: os.stat_result) -> Node:
        links = 0 if kind == nodes.DIR else found.st_nlink
        return Node(
            name,
            kind,
            stat.S_IMODE(found.st_mode),
            found.st_mtime_ns,
            found.st_ctime_ns,
            found.st_uid,
            found.st_gid,
            _user(found.st_uid),
            _group(found.st_gid),
            found.st_ino,
            found.st_dev if links > 1 else 0,
            0,
            links,
        )

    def _unchanged(self, name: str, found: os.stat_result, old: dict[str, Any] | None) -> Node | None:
        if (
            old is None
            or old.get("inode") != found.st_ino
            or old.get("size", 0) != found.st_size
            or old.get("type") != nodes.FILE
        ):
            return None
        if not nodes.is_time(old.get("mtime"), found.st_mtime_ns) or not nodes.is_time(
            old.get("ctime"), found.st_ctime_ns
        ):
            return None
        try:
            content = [parse_id(blob_id) for blob_id in old.get("content") or ()]
            xattrs = nodes.parse_xattrs(old)
        except (AttributeError, KeyError, TypeError, ValueError):
            return None  # a damaged parent only costs reading again
        if not self._store.reuse(content):
            return None
        node = self._plain_node(os.fsencode(name), nodes.FILE, found)
        node.size, node.content, node.xattrs = found.st_size, content, xattrs
        self.figures.unchanged_files += 1
        self.figures.done_bytes += node.size
        return node

    def _file(self, handle: int, path: str, name: str) -> Node | None:
        file = os.open(name, _OPEN_FILE, dir_fd=handle)
        try:
            found = os.fstat(file)
            if not stat.S_ISREG(found.st_mode):
                self._fault(path, name, "changed from a file to something else while it was read")
                return None
            node = self._plain_node(os.fsencode(name), nodes.FILE, found)
            node.xattrs = self._xattrs(file, f"{path}/{name}")
            link = (found.st_dev, found.st_ino)
            known = self._hard_links.get(link) if found.st_nlink > 1 else None
            if known is not None and known[2] == found.st_ctime_ns:
                node.content, node.size = known[0], known[1]
                self.figures.done_bytes += node.size
                return node
            node.content, node.size = self._content(file, found.st_size)
            if node.size < found.st_size:
                reason = f"only {node.size} of {found.st_size} bytes could be read: it shrank meanwhile"
                self._fault(path, name, reason)
            if found.st_nlink > 1 and len(self._hard_links) < MAX_HARD_LINKS:
                self._hard_links[link] = (node.content, node.size, found.st_ctime_ns)
            return node
        finally:
            os.close(file)

    def _content(self, file: int, size: int) -> tuple[list[bytes], int]:
        if size <= self._chunker.min_bytes:
            content = os.read(file, size) if size else b""
            while 0 < len(content) < size:
                more = os.read(file, size - len(content))
                if not more:
                    break
                content += more
            ids, length = ([self._store.save_whole(content)] if content else []), len(content)
        else:
            source = _Limited(io.FileIO(file, closefd=False), size)
            ids, length = self._store.save_chunks(source, self._chunker)
        self.figures.read_bytes += length
        self.figures.done_bytes += length
        return ids, length

    def _subfolder(
        self, handle: int, path: str, name: str, old: dict[str, Any] | None, depth: int
    ) -> Node | None:
        if depth >= MAX_DEPTH:
            self._fault(path, name, f"lies more than {MAX_DEPTH} folders deep")
            return None
        below = path.rstrip("/") + "/" + name
        inner = os.open(name, _OPEN_DIR, dir_fd=handle)
        try:
            found = os.fstat(inner)
            node = self._plain_node(os.fsencode(name), nodes.DIR, found)
            node.xattrs = self._xattrs(inner, below)
            if self._is_elsewhere(found):  # a place where something is mounted: it alone
                node.subtree = self._store.growing_tree().save()
                return node
            former = self._former(old.get("subtree") if old else None)
            node.subtree = self._folder(inner, below, former, depth + 1)
        finally:
            os.close(inner)
        return node

    def _special(self, handle: int, path: str, name: str, kind: str, found: os.stat_result) -> Node:
        node = self._plain_node(os.fsencode(name), kind, found)
        if kind == nodes.SYMLINK:
            node.linktarget = os.fsencode(os.readlink(name, dir_fd=handle))
        elif kind in (nodes.DEV, nodes.CHARDEV):
            node.device = found.st_rdev
        node.xattrs = self._xattrs(f"/proc/self/fd/{handle}/{name}", f"{path}/{name}")
        return node

    def _xattrs(self, where: int | str, shown: str) -> list[tuple[str, bytes]]:
        follow = isinstance(where, int)
        try:
            names = os.listxattr(where, follow_symlinks=follow)
            return [(name, os.getxattr(where, name, follow_symlinks=follow)) for name in sorted(names)]
        except FileNotFoundError:
            return []  # no /proc here
        except OSError as error:
            if error.errno not in _NO_XATTRS:
                self.figures.faults.append(SourceFault(shown, f"extended attributes: {_reason(error)}"))
            return []

    def _fault(self, path: str, name: str, reason: str) -> None:
        self.figures.faults.append(SourceFault(path.rstrip("/") + "/" + name, reason))

    def _show(self, *, always: bool = False) -> None:
        if self._progress is None:
            return
        done, items = self.figures.done_bytes, self.figures.items
        if always or done - self._shown[0] >= _SHOW_BYTES or items - self._shown[1] >= _SHOW_ITEMS:
            self._shown = (done, items)
            self._progress(done, items)
