# SPDX-License-Identifier: Apache-2.0
"""Bank: a flat store of named byte objects, and what every implementation promises.

A key is one or more segments of ``[A-Za-z0-9._-]``, joined by ``/``; no segment is ``.`` or ``..``.
Objects are written whole and, but for locks and markers, never changed. A bank may be used from many
threads and many processes at once. The contract suite is ``seawall.sdk.testing.bank_suite``.

Errors, whatever the library below raises: ``BankObjectMissingError`` (get, size of a missing key),
``BankFullError``, ``BankReadOnlyError``, ``InvalidInputError`` (a bad key), ``BankError`` for the rest.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

Chunks = Sequence[bytes | bytearray | memoryview]


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """One listed object: its key and its length in bytes."""

    key: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class BankFeatures:
    """What the layers above may rely on."""

    conditional_create: bool
    """``put(..., create_only=True)`` is refused by the store itself when the key exists."""
    local_path: str | None = None
    """The folder on this host, when the bank is one (always excluded from backups)."""


@runtime_checkable
class Bank(Protocol):
    """A flat store of byte objects."""

    @property
    def features(self) -> BankFeatures:
        """What this bank can do; does not touch the store."""
        ...

    def put(self, key: str, content: bytes | Chunks, *, create_only: bool = False) -> None:
        """Store an object whole, or not at all.

        After return it is durable and every reader sees it. On any error or kill, a reader sees the
        former object or none, never a part. May be called again with the same content. With
        ``create_only`` an existing key raises ``ConflictError`` and is left as it was.
        """
        ...

    def get(self, key: str, *, offset: int = 0, length: int | None = None) -> bytes:
        """Read an object, or ``length`` bytes of it from ``offset``.

        A range that reaches past the end returns what there is. A missing key raises
        ``BankObjectMissingError``.
        """
        ...

    def size(self, key: str) -> int:
        """Length in bytes; a missing key raises ``BankObjectMissingError``."""
        ...

    def exists(self, key: str) -> bool:
        """Whether the key is there now."""
        ...

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Every object whose key starts with ``prefix`` (plain text, may end within a segment).

        Sorted by key. Objects put or deleted while listing may or may not appear; nothing else is
        missed, and unfinished writes never appear.
        """
        ...

    def delete(self, key: str) -> None:
        """Remove an object. Durable on return. A missing key is not an error (may be repeated)."""
        ...

    def close(self) -> None:
        """Release connections. May be called twice; the bank is unusable afterwards."""
        ...
