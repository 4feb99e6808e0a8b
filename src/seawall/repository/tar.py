# SPDX-License-Identifier: Apache-2.0
"""A folder or file of a snapshot as a tar stream (POSIX pax format), piece by piece, nothing kept in memory.

Times have nanoseconds, names any bytes, extended attributes stand as ``SCHILY.xattr`` records, further names
of a file are hard links. Content is checked blob by blob; the stream breaks off with ``DamagedError`` where
it is not what was stored, before the wrong bytes.
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator
from typing import Final

from seawall.core.errors import DamagedError
from seawall.repository import nodes
from seawall.repository.ahead import Ahead
from seawall.repository.nodes import Node
from seawall.repository.reader import Reader
from seawall.repository.walk import READ_DEPTH

_BLOCK: Final = 512
_TYPES: Final = {
    nodes.DIR: tarfile.DIRTYPE,
    nodes.SYMLINK: tarfile.SYMTYPE,
    nodes.DEV: tarfile.BLKTYPE,
    nodes.CHARDEV: tarfile.CHRTYPE,
    nodes.FIFO: tarfile.FIFOTYPE,
    nodes.FILE: tarfile.REGTYPE,
}


def stream(reader: Reader, node: Node) -> Iterator[bytes]:
    """The tar of one entry and all below; a node without a name is a root, whose entries stand at the top."""
    links: dict[tuple[int, int], bytes] = {}
    with Ahead(reader) as ahead:
        if node.name:
            yield from _entry(ahead, node, b"", links, 0)
        elif node.subtree is not None:
            for entry in reader.tree(node.subtree):
                yield from _entry(ahead, entry, b"", links, 0)
    yield bytes(2 * _BLOCK)


def _entry(
    ahead: Ahead, node: Node, above: bytes, links: dict[tuple[int, int], bytes], depth: int
) -> Iterator[bytes]:
    if not nodes.is_file_name(node.name):
        raise DamagedError(f"{os.fsdecode(above)}: holds a name that no file can have")
    path = above + node.name
    if node.type not in _TYPES:
        return  # a socket of another program: tar has no such thing
    header = _header(node, path)
    link = (node.inode, node.device_id) if node.links > 1 and node.inode else None
    if link is not None and link in links:
        header.type, header.linkname, header.size = tarfile.LNKTYPE, os.fsdecode(links[link]), 0
        yield header.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
        return
    if link is not None:
        links[link] = path
    yield header.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
    if node.type == nodes.FILE:
        yield from _content(ahead, node, path)
    elif node.subtree is not None:
        if depth >= READ_DEPTH:
            raise DamagedError(f"{os.fsdecode(path)}: lies more than {READ_DEPTH} folders deep")
        for entry in ahead.reader.tree(node.subtree):
            yield from _entry(ahead, entry, path + b"/", links, depth + 1)


def _header(node: Node, path: bytes) -> tarfile.TarInfo:
    header = tarfile.TarInfo(os.fsdecode(path))
    header.type = _TYPES[node.type]
    header.mode = node.mode
    header.uid, header.gid = node.uid, node.gid
    header.uname, header.gname = node.user, node.group
    second, rest = divmod(node.mtime_ns, 1_000_000_000)
    header.mtime = second
    header.pax_headers = {"mtime": f"{second}.{rest:09}"} if second >= 0 else {}
    header.size = node.size if node.type == nodes.FILE else 0
    if node.type == nodes.SYMLINK:
        header.linkname = os.fsdecode(node.linktarget)
    elif node.type in (nodes.DEV, nodes.CHARDEV):
        header.devmajor, header.devminor = os.major(node.device), os.minor(node.device)
    for name, value in node.xattrs:
        header.pax_headers[f"SCHILY.xattr.{name}"] = value.decode("utf-8", "surrogateescape")
    return header


def _content(ahead: Ahead, node: Node, path: bytes) -> Iterator[bytes]:
    length = 0
    for content in ahead.now(node.content, node.size):
        length += len(content)
        if length > node.size:
            break
        yield content
    if length != node.size:
        raise DamagedError(f"{os.fsdecode(path)}: its content has {length} bytes, expected {node.size}")
    if length % _BLOCK:
        yield bytes(_BLOCK - length % _BLOCK)
