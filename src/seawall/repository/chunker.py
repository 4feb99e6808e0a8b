# SPDX-License-Identifier: Apache-2.0
"""Content-defined chunking: FastCDC, seeded from the master key.

The seed keeps chunk sizes from telling an onlooker which known files a repository holds. Files are cut at
1 MiB on average, streams (dumps, images) at 256 KiB, so that a small change in a dump stores little. The same
content of one repository is always cut the same way.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, Literal, Protocol

from pyfastcdc import FastCDC

from seawall.repository.crypto import Key

FILE_AVERAGE_BYTES: Final = 1024 * 1024
STREAM_AVERAGE_BYTES: Final = 256 * 1024
STREAM_NORMALIZATION: Final[Literal[2]] = 2
"""Lengths nearer to the average: a tenth less is stored for a change within a dump."""


class Readable(Protocol):
    """Anything with ``readinto``, such as an unbuffered file."""

    def readinto(self, b: memoryview) -> int:
        """Fill the buffer from its start; how many bytes, 0 at the end."""
        ...


class IterableReader:
    """A ``Readable`` over byte chunks of any sizes."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._rest = memoryview(b"")
        self.read_bytes = 0

    def readinto(self, b: memoryview) -> int:
        """As in ``Readable``; what the iterable raises goes on to the caller."""
        while not self._rest:
            chunk = next(self._chunks, None)
            if chunk is None:
                return 0
            self._rest = memoryview(chunk)
        count = min(len(b), len(self._rest))
        b[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        self.read_bytes += count
        return count


class Chunker:
    """Cuts for one repository. For one thread at a time."""

    def __init__(self, key: Key, average_bytes: int, *, normalization: Literal[1, 2] = 1) -> None:
        seed = int.from_bytes(key.derive("chunker seed")[:8], "little") >> 1  # it takes 63 bits
        self.min_bytes = average_bytes // 4
        self._cutter = FastCDC(
            average_bytes,
            min_size=self.min_bytes,
            max_size=average_bytes * 8,
            normalized_chunking=normalization,
            seed=seed or 1,
        )

    def cut(self, source: Readable) -> Iterator[memoryview]:
        """The chunks of a source in order. Each is valid only until the next one is asked for."""
        for chunk in self._cutter.cut_stream(source):
            yield chunk.data
