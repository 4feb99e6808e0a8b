# SPDX-License-Identifier: Apache-2.0
"""Spools: bytes out of memory while one process works with them.

A temporary file (below ``TMPDIR``) without a name: nobody else can reach it, and it ends with the process.
Where it has no room, ``InMemory`` does the same.
"""

from __future__ import annotations

import errno
import os
import tempfile
import weakref


class InMemory:
    """Bytes in the memory of this process."""

    def __init__(self) -> None:
        self._content = bytearray()

    def append(self, content: bytes) -> None:
        """Add to its end."""
        self._content += content

    def read(self, start: int, end: int) -> bytes:
        """The bytes from ``start`` up to ``end``."""
        return bytes(self._content[start:end])


class OnDisk:
    """Bytes in a temporary file. ``OSError`` when there is no room; reads may come from any thread."""

    def __init__(self) -> None:
        self._handle, name = tempfile.mkstemp(prefix="seawall-spool-")
        weakref.finalize(self, os.close, self._handle)
        os.unlink(name)

    def append(self, content: bytes) -> None:
        """Add to its end."""
        rest = memoryview(content)
        while rest:
            rest = rest[os.write(self._handle, rest) :]

    def read(self, start: int, end: int) -> bytes:
        """The bytes from ``start`` up to ``end``; fewer are an ``OSError``."""
        content = os.pread(self._handle, end - start, start)
        while len(content) < end - start:
            more = os.pread(self._handle, end - start - len(content), start + len(content))
            if not more:  # to go on would be to take what was there for something else
                raise OSError(errno.EIO, "a temporary file has been cut off")
            content += more
        return content
