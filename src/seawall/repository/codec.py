# SPDX-License-Identifier: Apache-2.0
"""Compression, ids and JSON: zstd as format v2 has it, sha256 as the name of everything.

What comes from a bank is hostile until proven otherwise, sealed or not: whoever holds the key may have
written it. So nothing is read, unpacked or parsed into more memory than its kind can need.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from typing import Any, Final

import orjson
import zstandard

from seawall.core.errors import DamagedError
from seawall.sdk.bank import Bank

Json = dict[str, object]

MAX_OBJECT_BYTES: Final = 128 * 1024 * 1024
"""No index, snapshot or marker is larger, packed or unpacked; more is damage (or a bomb), not data."""
SMALL_OBJECT_BYTES: Final = 1024 * 1024
"""No config, key slot or lock is larger."""
_NO_STRUCTURE: Final = bytes(set(range(256)) - set(b'{[,"'))
_STEP: Final = 1024 * 1024
_PARSED_BYTES: Final = ((b"{", 232), (b"[", 80), (b",", 88))
"""What a parsed value takes at most for each of these outside of strings."""
_PARSED_RATIO: Final = 8
_PARSED_FREE: Final = 16 * 1024 * 1024
"""Trees and indexes need 3 to 6 times their length when parsed; ``[[],[],...`` would need 25 times."""
LEVEL: Final = 3
ID_BYTES: Final = 32

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


class _Source:
    """Pieces as the file that the decompressor reads."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces

    def read(self, _size: int = -1) -> bytes:
        return next(self._pieces, b"")


def decompress_pieces(pieces: Iterator[bytes], what: str) -> Iterator[bytes]:
    """The content of one zstd frame in pieces of at most a MiB, whatever the frame says of its size."""
    source: Any = _Source(pieces)  # its stub asks for a whole file; ``read`` is all that it calls
    with zstandard.ZstdDecompressor().stream_reader(source) as reader:
        while True:
            try:
                content = reader.read(_STEP)
            except zstandard.ZstdError as error:
                raise DamagedError(f"{what}: cannot be decompressed: {error}") from None
            if not content:
                return
            yield content


def fetch(bank: Bank, key: str, what: str, *, limit: int = MAX_OBJECT_BYTES) -> bytes:
    """An object of a bank; ``DamagedError`` when it is larger than any of its kind."""
    content = bank.get(key, length=limit + 1)
    if len(content) > limit:
        raise DamagedError(f"{what}: has more than {limit} bytes")
    return content


def parse_json(content: bytes, what: str) -> Any:
    """A JSON value; ``DamagedError`` naming ``what`` if it is none, or a bomb.

    A value that would take many times the memory of its text is refused before it is made.
    """
    allowed = _PARSED_FREE + _PARSED_RATIO * len(content)
    if _parsed_bytes(content) > allowed and _parsed_bytes_exactly(content) > allowed:
        raise DamagedError(f"{what}: would take more memory when parsed than any honest one")
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise DamagedError(f"{what}: is not JSON: {error}") from None


def _parsed_bytes(content: bytes) -> int:
    """Too much when strings hold many brackets and commas."""
    return sum(content.count(sign) * size for sign, size in _PARSED_BYTES)


def _parsed_bytes_exactly(content: bytes) -> int:
    """What stands in strings left out; piece by piece, so that this is no bomb itself."""
    bare = content.replace(b"\\\\", b"").replace(b'\\"', b"").translate(None, _NO_STRUCTURE)
    total = inside = 0
    for start in range(0, len(bare), _STEP):
        parts = bare[start : start + _STEP].split(b'"')
        total += _parsed_bytes(b"".join(parts[inside::2]))
        inside ^= (len(parts) - 1) & 1
    return total


def pack_object(value: object) -> bytes:
    """A snapshot, index or lock as stored before sealing: the version byte and a zstd frame of its JSON."""
    return pack_text(orjson.dumps(value))


def pack_text(text: bytes) -> bytes:
    """The same of an object that is JSON already."""
    return bytes((_UNPACKED_ZSTD,)) + compress(text)


def unpack_object(content: bytes, what: str) -> Json:
    """The JSON object of ``pack_object``, or of plain JSON as format v1 and the config file have it."""
    if not content:
        raise DamagedError(f"{what}: is empty")
    if content[0] == _UNPACKED_ZSTD:
        content = decompress(memoryview(content)[1:], what)
    elif content[:1] not in (b"{", b"["):
        raise DamagedError(f"{what}: begins with byte {content[0]}, which is no known encoding")
    value = parse_json(content, what)
    if not isinstance(value, dict):
        raise DamagedError(f"{what}: holds {type(value).__name__}, expected an object")
    return value


def parse_id(text: Any) -> bytes:
    """The 32 bytes of an id in hex; ``ValueError`` or ``TypeError`` when it is none."""
    found = bytes.fromhex(text)
    if len(found) != ID_BYTES:
        raise ValueError(f"an id has {len(found)} bytes, expected {ID_BYTES}")
    return found
