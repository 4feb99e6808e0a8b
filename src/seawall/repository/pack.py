# SPDX-License-Identifier: Apache-2.0
"""Packs: files of sealed blobs with a sealed header at the end.

Layout: ``blob | blob | ... | sealed header | header length (4 bytes, little endian)``. A header entry is
``kind (1) | stored length (4) | [unpacked length (4), kinds 2 and 3 only] | id (32)``; kinds 0 and 1 are data
and tree blobs as they are, 2 and 3 the same compressed. Blobs of trees and of data go to different packs.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator, Sequence
from enum import IntEnum
from typing import Final, NamedTuple

from seawall.core.errors import DamagedError
from seawall.repository import codec
from seawall.repository.crypto import OVERHEAD_BYTES, Key, Read
from seawall.sdk.bank import Bank

TARGET_BYTES: Final = 16 * 1024 * 1024
"""A pack is closed when it has reached this size."""
MAX_BLOBS: Final = 50_000
"""A pack is closed at this many blobs: what is known of each is in memory until an index file names it."""
MAX_PACK_BYTES: Final = 1152 * 1024 * 1024
"""More is no pack: the largest tree and a header fit."""
MAX_HEADER_BYTES: Final = 16 * 1024 * 1024
"""As restic has it."""
MAX_DATA_BYTES: Final = 128 * 1024 * 1024
"""No chunker makes larger ones; ours and restic's make 8 MiB at most."""
MAX_TREE_BYTES: Final = 1024 * 1024 * 1024
"""A tree of a million entries, twice over: the most that a folder may have."""
LARGE_BYTES: Final = 4 * 1024 * 1024
"""A tree from this size on (some 10,000 entries) is written and read piece by piece."""

_PLAIN = struct.Struct("<BI32s")
_PACKED = struct.Struct("<BII32s")
_LENGTH = struct.Struct("<I")


class BlobType(IntEnum):
    """What a blob holds; the values are those of the pack header."""

    DATA = 0
    TREE = 1

    @property
    def word(self) -> str:
        """As the index names it."""
        return "tree" if self else "data"


_TYPES: Final = (BlobType.DATA, BlobType.TREE)


class PackedBlob(NamedTuple):
    """Where a blob stands in its pack. ``unpacked`` is 0 for a blob that is stored without compression."""

    id: bytes
    type: BlobType
    offset: int
    length: int
    unpacked: int

    @property
    def size(self) -> int:
        """Length of its content."""
        return self.unpacked or self.length - OVERHEAD_BYTES

    @property
    def is_sane(self) -> bool:
        """Whether there can be such a blob; nothing is read or unpacked by the word of another."""
        limit = MAX_TREE_BYTES if self.type else MAX_DATA_BYTES
        return OVERHEAD_BYTES <= self.length <= limit + limit // 64 and 0 <= self.unpacked <= limit


def pack_key(pack_id: bytes | str) -> str:
    """The bank key of a pack."""
    name = pack_id if isinstance(pack_id, str) else pack_id.hex()
    return f"data/{name[:2]}/{name}"


def seal_blob(key: Key, content: bytes | memoryview, level: int = codec.LEVEL) -> tuple[bytes, int]:
    """A blob as stored in a format v2 pack: (sealed bytes, unpacked length)."""
    return key.seal(codec.compress(content, level)), len(content)


def open_blob(key: Key, sealed: bytes | memoryview, blob: PackedBlob) -> bytes:
    """The content of a stored blob, checked against its id; ``DamagedError`` if it is another."""
    what = f"blob {blob.id.hex()[:16]}"
    if len(sealed) != blob.length:
        raise DamagedError(f"{what}: {len(sealed)} of {blob.length} bytes are there")
    content = key.open(sealed, what)
    if blob.unpacked:
        content = codec.decompress(content, what, size=blob.unpacked)
    if codec.content_id(content) != blob.id:
        raise DamagedError(f"{what}: its content has another id")
    return content


def open_pieces(key: Key, read: Read, blob: PackedBlob) -> Iterator[bytes]:
    """The content of a stored blob in pieces, for one too large to be held.

    ``read`` gives its stored bytes from one place up to another, the same each time. That somebody with the
    key wrote them is checked before this returns; that the content is the one of this id only when the last
    piece was taken. ``DamagedError`` both times.
    """
    what = f"blob {blob.id.hex()[:16]}"
    pieces = key.open_pieces(read, blob.length, what)
    return _confirmed(codec.decompress_pieces(pieces, what) if blob.unpacked else pieces, blob, what)


def _confirmed(pieces: Iterator[bytes], blob: PackedBlob, what: str) -> Iterator[bytes]:
    digest = hashlib.sha256()
    left = blob.size
    for piece in pieces:
        left -= len(piece)
        if left < 0:
            break
        digest.update(piece)
        yield piece
    if left:
        raise DamagedError(f"{what}: is {'longer' if left < 0 else 'shorter'} than {blob.size} bytes")
    if digest.digest() != blob.id:
        raise DamagedError(f"{what}: its content has another id")


def check_blob(key: Key, sealed: bytes | memoryview, blob: PackedBlob) -> None:
    """``DamagedError`` when a stored blob is not whole."""
    if blob.size < LARGE_BYTES or len(sealed) != blob.length:
        open_blob(key, sealed, blob)
        return
    view = memoryview(sealed)
    for _ in open_pieces(key, lambda start, end: view[start:end], blob):
        pass


def opens(key: Key, sealed: bytes | memoryview, blob: PackedBlob) -> bool:
    """Whether a stored blob is whole."""
    try:
        check_blob(key, sealed, blob)
    except DamagedError:
        return False
    return True


class PackBuilder:
    """Collects sealed blobs of one type until the pack is full. Not for use from two threads at once."""

    def __init__(self, blob_type: BlobType) -> None:
        self.type = blob_type
        self.size = 0
        self.blobs: list[PackedBlob] = []
        self._parts: list[bytes] = []

    def add(self, blob_id: bytes, sealed: bytes, unpacked: int) -> None:
        """Append a sealed blob (``unpacked`` as in ``PackedBlob``)."""
        self.add_parts(blob_id, (sealed,), unpacked)

    def add_parts(self, blob_id: bytes, sealed: Sequence[bytes], unpacked: int) -> None:
        """Append a sealed blob that is given in parts."""
        length = sum(map(len, sealed))
        self.blobs.append(PackedBlob(blob_id, self.type, self.size, length, unpacked))
        self._parts.extend(sealed)
        self.size += length

    @property
    def full(self) -> bool:
        """Whether it should be finished now."""
        return self.size >= TARGET_BYTES or len(self.blobs) >= MAX_BLOBS

    def finish(self, key: Key) -> tuple[bytes, list[bytes]]:
        """The pack's id and its bytes in parts, header included."""
        entries = [
            _PACKED.pack(self.type + 2, blob.length, blob.unpacked, blob.id)
            if blob.unpacked
            else _PLAIN.pack(self.type, blob.length, blob.id)
            for blob in self.blobs
        ]
        header = key.seal(b"".join(entries))
        parts = [*self._parts, header, _LENGTH.pack(len(header))]
        digest = hashlib.sha256()
        for part in parts:
            digest.update(part)
        return digest.digest(), parts


def _entries(header: bytes, what: str) -> Iterator[PackedBlob]:
    position = offset = 0
    while position < len(header):
        kind = header[position]
        shape = _PACKED if kind >= 2 else _PLAIN
        if kind > 3 or position + shape.size > len(header):
            raise DamagedError(f"{what}: the header has an entry of an unknown kind {kind} or is cut off")
        if kind >= 2:
            _, length, unpacked, blob_id = _PACKED.unpack_from(header, position)
        else:
            _, length, blob_id = _PLAIN.unpack_from(header, position)
            unpacked = 0
        blob = PackedBlob(blob_id, _TYPES[kind & 1], offset, length, unpacked)
        if not blob.is_sane:
            raise DamagedError(f"{what}: the header has a blob of {length} bytes, {unpacked} unpacked")
        yield blob
        position += shape.size
        offset += length


def parse_header(key: Key, tail: bytes, pack_size: int, what: str) -> list[PackedBlob] | int:
    """The blobs of a pack from its last bytes, or how many last bytes are needed when ``tail`` is too short.

    ``DamagedError`` if the header is not what was written or its blobs do not fill the pack exactly.
    """
    if len(tail) < 4 or pack_size < 4 + OVERHEAD_BYTES:
        raise DamagedError(f"{what}: {pack_size} bytes are too short for a pack")
    (length,) = _LENGTH.unpack(tail[-4:])
    if length + 4 > pack_size or not OVERHEAD_BYTES <= length <= MAX_HEADER_BYTES:
        raise DamagedError(f"{what}: claims a header of {length} bytes in {pack_size}")
    if length + 4 > len(tail):
        return int(length) + 4
    blobs = list(_entries(key.open(tail[-4 - length : -4], f"{what} header"), what))
    filled = blobs[-1].offset + blobs[-1].length if blobs else 0
    if filled + length + 4 != pack_size:
        raise DamagedError(f"{what}: its blobs fill {filled} bytes, expected {pack_size - length - 4}")
    return blobs


def read_pack(bank: Bank, pack_id: bytes) -> bytes:
    """A whole stored pack; ``DamagedError`` when it is larger than any."""
    return codec.fetch(bank, pack_key(pack_id), f"pack {pack_id.hex()[:16]}", limit=MAX_PACK_BYTES)


def read_header(bank: Bank, key: Key, pack_id: bytes, pack_size: int) -> list[PackedBlob]:
    """The blobs of a stored pack, read from its header only. Errors as ``parse_header`` and the bank's."""
    what = f"pack {pack_id.hex()[:16]}"
    guess = max(min(pack_size, 4096), 0)
    while True:
        tail = bank.get(pack_key(pack_id), offset=pack_size - guess, length=guess)
        found = parse_header(key, tail, pack_size, what)
        if isinstance(found, list):
            return found
        guess = found
