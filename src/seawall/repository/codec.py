# SPDX-License-Identifier: Apache-2.0
"""Compression and ids: zstd as format v2 has it, sha256 as the name of everything.

Compressors belong to a thread; take one with ``Codec`` per thread or use the functions for single objects.
"""

from __future__ import annotations

import hashlib
import threading
from typing import Final

import orjson
import zstandard

from seawall.core.errors import DamagedError

Json = dict[str, object]

MAX_OBJECT_BYTES: Final = 256 * 1024 * 1024
"""No blob, index or snapshot is larger when unpacked; more is damage (or a bomb), not data."""
LEVEL: Final = 3

_UNPACKED_ZSTD = 2


class _Tools(threading.local):
    def __init__(self) -> None:
        self.compressors: dict[int, zstandard.ZstdCompressor] = {}
        self.decompressor = zstandard.ZstdDecompressor()


_tools = _Tools()


def content_id(content: bytes | bytearray | memoryview) -> bytes:
    """The 32-byte id of a content."""
    return hashlib.sha256(content).digest()


def compress(content: bytes | memoryview, level: int = LEVEL) -> bytes:
    """One zstd frame."""
    tool = _tools.compressors.get(level)
    if tool is None:
        tool = _tools.compressors[level] = zstandard.ZstdCompressor(level=level)
    return tool.compress(content)


def decompress(frame: bytes | memoryview, what: str, *, size: int | None = None) -> bytes:
    """The content of one zstd frame; ``DamagedError`` naming ``what`` if it is not one of ``size`` bytes."""
    limit = MAX_OBJECT_BYTES if size is None else size
    try:
        claimed = zstandard.frame_content_size(frame)
        if claimed > limit:
            raise DamagedError(f"{what}: claims {claimed} bytes unpacked, expected at most {limit}")
        content = _tools.decompressor.decompress(frame, max_output_size=limit if claimed < 0 else 0)
    except zstandard.ZstdError as error:
        raise DamagedError(f"{what}: cannot be decompressed: {error}") from None
    if size is not None and len(content) != size:
        raise DamagedError(f"{what}: {len(content)} bytes unpacked, expected {size}")
    return content


def pack_object(value: object) -> bytes:
    """A snapshot, index or lock as stored before sealing: the version byte and a zstd frame of its JSON."""
    return bytes((_UNPACKED_ZSTD,)) + compress(orjson.dumps(value))


def unpack_object(content: bytes, what: str) -> Json:
    """The JSON object of ``pack_object``, or of plain JSON as format v1 and the config file have it."""
    if not content:
        raise DamagedError(f"{what}: is empty")
    if content[0] == _UNPACKED_ZSTD:
        content = decompress(memoryview(content)[1:], what)
    elif content[:1] not in (b"{", b"["):
        raise DamagedError(f"{what}: begins with byte {content[0]}, which is no known encoding")
    try:
        value = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise DamagedError(f"{what}: is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise DamagedError(f"{what}: holds {type(value).__name__}, expected an object")
    return value
