# SPDX-License-Identifier: Apache-2.0
"""A folder or file of a snapshot as a zip stream, for those who have no tar.

A zip knows files, folders and symbolic links, their modes and times in seconds, and nothing else: further
names of a file are further copies, owners, extended attributes, pipes and devices are left out. A name that
is no UTF-8, or that holds a backslash or a control character, is written with ``%`` and hex digits in their
place, so that no program takes it for a path.

A zip lists all its entries at its end, so they stay in memory meanwhile: more than ``MAX_ENTRIES`` are
refused. Content is checked blob by blob; the stream breaks off with ``DamagedError`` before the wrong bytes,
and what was given out so far is then no zip.
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Iterator
from time import gmtime
from typing import Final
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile, ZipInfo

from seawall.core.errors import DamagedError, StateError
from seawall.repository import nodes
from seawall.repository.ahead import Ahead
from seawall.repository.nodes import Node
from seawall.repository.reader import Reader
from seawall.repository.walk import MAX_DEPTH

MAX_ENTRIES: Final = 200_000
_LEVEL: Final = 3
_LARGE_BYTES: Final = 2**31
_FIRST_SECOND: Final = 315532800  # 1980
_LAST_SECOND: Final = 4354819198  # 2107
_TYPES: Final = {nodes.DIR: stat.S_IFDIR, nodes.SYMLINK: stat.S_IFLNK, nodes.FILE: stat.S_IFREG}
_UNIX: Final = 3
_TIME: Final = struct.Struct("<HHBi")
_TIME_TAG: Final = 0x5455


class _Sink:
    """What the archive writes to: a stream without a way back."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, b: bytes, /) -> int:
        self._parts.append(bytes(b))
        return len(b)

    def flush(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        """Nothing is open."""

    def take(self) -> bytes:
        """What came since this was called before."""
        found = b"".join(self._parts)
        self._parts.clear()
        return found


def stream(reader: Reader, node: Node) -> Iterator[bytes]:
    """The zip of one entry and all below; a node without a name is a root, whose entries stand at the top."""
    sink = _Sink()
    archive = ZipFile(sink, "w", ZIP_DEFLATED, compresslevel=_LEVEL)
    with Ahead(reader) as ahead:
        zipped = _Zipped(ahead, sink, archive)
        if node.name:
            yield from zipped.entry(node, "", 0)
        elif node.subtree is not None:
            for entry in reader.tree(node.subtree):
                yield from zipped.entry(entry, "", 0)
    archive.close()
    yield sink.take()


class _Zipped:
    def __init__(self, ahead: Ahead, sink: _Sink, archive: ZipFile) -> None:
        self._ahead = ahead
        self._sink = sink
        self._archive = archive

    def entry(self, node: Node, above: str, depth: int) -> Iterator[bytes]:
        if not nodes.is_file_name(node.name):
            raise DamagedError(f"{above}: holds a name that no file can have")
        if node.type not in _TYPES:
            return
        path = above + _shown(node.name)
        info = self._info(node, path)
        if node.type == nodes.FILE:
            yield from self._file(node, path, info)
            return
        self._archive.writestr(info, node.linktarget if node.type == nodes.SYMLINK else b"")
        yield self._sink.take()
        if node.subtree is not None:
            if depth >= MAX_DEPTH:
                raise DamagedError(f"{path}: lies more than {MAX_DEPTH} folders deep")
            for one in self._ahead.reader.tree(node.subtree):
                yield from self.entry(one, path + "/", depth + 1)

    def _info(self, node: Node, path: str) -> ZipInfo:
        if len(self._archive.filelist) >= MAX_ENTRIES:
            raise StateError(
                f"there are more than {MAX_ENTRIES} entries, too many for a zip", hint="ask for a tar"
            )
        name = path + "/" if node.type == nodes.DIR else path
        if name in self._archive.NameToInfo:
            raise DamagedError(f"{path}: stands there twice")
        second = node.mtime_ns // 1_000_000_000
        at = gmtime(min(max(second, _FIRST_SECOND), _LAST_SECOND))
        info = ZipInfo(name, at[:6])
        info.create_system = _UNIX
        info.external_attr = (_TYPES[node.type] | node.mode) << 16
        if node.type == nodes.DIR:
            info.external_attr |= 0x10
        info.compress_type = ZIP_DEFLATED if node.type == nodes.FILE else ZIP_STORED
        if -(2**31) <= second < 2**31:
            info.extra = _TIME.pack(_TIME_TAG, 5, 1, second)
        return info

    def _file(self, node: Node, path: str, info: ZipInfo) -> Iterator[bytes]:
        length = 0
        with self._archive.open(info, "w", force_zip64=node.size >= _LARGE_BYTES) as file:
            for content in self._ahead.now(node.content, node.size):
                length += len(content)
                if length > node.size:
                    break
                file.write(content)
                yield self._sink.take()
            if length != node.size:
                raise DamagedError(f"{path}: its content has {length} bytes, expected {node.size}")
        yield self._sink.take()


def _shown(name: bytes) -> str:
    """The name as a zip may hold it; a name that needs no escape has none, ``%`` included."""
    text = os.fsdecode(name)
    if text.isprintable() and "\\" not in text:
        return text
    return "".join(_escaped(letter) for letter in text)


def _escaped(letter: str) -> str:
    if letter.isprintable() and letter not in "\\%":
        return letter
    return "".join(f"%{byte:02X}" for byte in os.fsencode(letter))
