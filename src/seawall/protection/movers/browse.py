# SPDX-License-Identifier: Apache-2.0
"""What lies in a snapshot, for people who look: a page of a folder, and a stream in pieces of one size.

Names may be any bytes; they travel as hex digits.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from seawall.core.errors import InvalidInputError
from seawall.protection.movers.frames import PIECE_BYTES, Json, shown
from seawall.repository import Node, Repository


def entries(repository: Repository, tree_id: str, path: bytes, *, limit: int, marker: bytes) -> Json:
    """The first ``limit`` entries of the folder at ``path`` whose names come after ``marker``.

    ``NotFoundError`` when there is no such entry, ``InvalidInputError`` when it is no folder.
    """
    text = path.decode("utf-8", "surrogateescape")
    folder = repository.find(tree_id, text)
    if folder.subtree is None:
        raise InvalidInputError.of("path", shown(text), "must be a folder; this can be downloaded")
    found: list[Json] = []
    for node in repository.nodes(folder.subtree.hex()):
        if node.name <= marker:
            continue
        if len(found) == limit:
            return {"entries": found, "has_more": True}
        found.append(_entry(node))
    return {"entries": found, "has_more": False}


def _entry(node: Node) -> Json:
    return {
        "name": node.name.hex(),
        "type": node.type,
        "size": node.size,
        "mode": node.mode,
        "uid": node.uid,
        "gid": node.gid,
        "mtime_ns": node.mtime_ns,
        "target": node.linktarget.hex(),
    }


def pieces(stream: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes in pieces of ``PIECE_BYTES``, but for the last one."""
    held = bytearray()
    for content in stream:
        rest = memoryview(content)
        if held:
            taken = rest[: PIECE_BYTES - len(held)]
            held += taken
            rest = rest[len(taken) :]
            if len(held) == PIECE_BYTES:
                yield bytes(held)
                held.clear()
        while len(rest) >= PIECE_BYTES:
            yield bytes(rest[:PIECE_BYTES])
            rest = rest[PIECE_BYTES:]
        held += rest
    if held:
        yield bytes(held)
