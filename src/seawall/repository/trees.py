# SPDX-License-Identifier: Apache-2.0
"""Trees piece by piece: a folder of a million entries takes the memory of its names, not of its nodes.

A tree is a single blob, named by the hash of its JSON. ``GrowingTree`` hashes, compresses and seals that JSON
while entries are still being added; ``entries`` parses it while it is still being decrypted. Small trees are
handled whole.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import zstandard

from seawall.core.errors import DamagedError, InvalidInputError
from seawall.repository import nodes
from seawall.repository.crypto import PIECE_BYTES, Key, Sealing
from seawall.repository.pack import LARGE_BYTES, MAX_TREE_BYTES

_BEGIN: Final = b'{"nodes":['
_END: Final = b"]}\n"
_SEAM: Final = b'},{"name":"'
_NODE: Final = re.compile(rb'\},\{"name":"(?:[^"\\]|\\.)*","type":')
"""Between two nodes. Attributes begin with a name too, but a value follows it; and no string can hold this,
since it has quotation marks without a backslash."""
_OVERLAP: Final = 4096
_MAX_UNSPLIT_BYTES: Final = 512 * 1024 * 1024
"""A single node is no larger: a file of 2 TiB in chunks of 256 KiB."""


@dataclass(frozen=True, slots=True)
class SealedTree:
    """A tree that was sealed while it grew: its id, its stored bytes in parts, the length of its content."""

    id: bytes
    parts: Sequence[bytes]
    unpacked: int


class GrowingTree:
    """A tree whose nodes are added one by one, sorted by name. For one thread."""

    def __init__(
        self, key: Key, level: int, whole: Callable[[bytes], bytes], large: Callable[[SealedTree], bytes]
    ) -> None:
        """``whole`` stores the content of a small tree, ``large`` a sealed one; both give its id."""
        self._key = key
        self._level = level
        self._whole = whole
        self._large = large
        self._nodes: list[str] = []
        self._length = 0
        self._count = 0
        self._sealed: _Sealed | None = None

    def add(self, encoded: str) -> None:
        """A further node; ``InvalidInputError`` when there are more than a reader would accept."""
        self._nodes.append(encoded)
        self._length += len(encoded)
        self._count += 1
        if self._length >= (LARGE_BYTES if self._sealed is None else PIECE_BYTES):
            self._seal()

    def _seal(self) -> None:
        if self._sealed is None:
            self._sealed = _Sealed(self._key, self._level)
            self._sealed.add(_BEGIN)
        else:
            self._sealed.add(b",")
        self._sealed.add(",".join(self._nodes).encode())
        self._nodes, self._length = [], 0
        self._refuse(self._sealed.length)

    def _refuse(self, length: int) -> None:
        if length > MAX_TREE_BYTES - PIECE_BYTES:  # nobody could read it again
            raise InvalidInputError.of("entries", self._count, "are more than a folder may have")

    def save(self) -> bytes:
        """Store it; its id. Nothing may be added any more."""
        if self._sealed is None:
            return self._whole(nodes.encode_tree(self._nodes))
        if self._nodes:
            self._seal()
        self._sealed.add(_END)
        return self._large(self._sealed.finish())


class _Sealed:
    """A growing content that is hashed, compressed and sealed at once."""

    def __init__(self, key: Key, level: int) -> None:
        self.length = 0
        self._digest = hashlib.sha256()
        self._packing = zstandard.ZstdCompressor(level=level).compressobj()
        self._sealing = Sealing(key)

    def add(self, content: bytes) -> None:
        self.length += len(content)
        self._digest.update(content)
        if packed := self._packing.compress(content):
            self._sealing.add(packed)

    def finish(self) -> SealedTree:
        self._sealing.add(self._packing.flush())
        return SealedTree(self._digest.digest(), self._sealing.finish(), self.length)


def entries(pieces: Iterator[bytes], what: str) -> Iterator[dict[str, Any]]:
    """The JSON nodes of a tree whose content comes in pieces; ``DamagedError`` naming ``what`` if it is none.

    It is parsed from one seam between nodes to a later one. A tree that is written otherwise than restic and
    Seawall write it is parsed whole.
    """
    text = bytearray()
    begun = False
    for piece in pieces:
        searched = max(0, len(text) - _OVERLAP)
        text += piece
        if len(text) > _MAX_UNSPLIT_BYTES:
            raise DamagedError(f"{what}: holds a single node of more than {_MAX_UNSPLIT_BYTES} bytes")
        if not begun and not text.startswith(_BEGIN):
            continue
        seam = _last_seam(text, searched)
        if seam < 0:
            continue
        head = bytes(text[: seam + 1])
        yield from nodes.tree_entries((_BEGIN if begun else b"") + head + b"]}", what)
        begun = True
        del text[: seam + 2]
    yield from nodes.tree_entries((_BEGIN if begun else b"") + bytes(text), what)


def _last_seam(text: bytearray, start: int) -> int:
    """Where the last node but one ends, at or after ``start``; -1 if that cannot be told."""
    end = len(text)
    while True:
        seam = text.rfind(_SEAM, start, end)
        if seam < 0 or _NODE.match(text, seam):
            return seam
        end = seam + len(_SEAM) - 1
