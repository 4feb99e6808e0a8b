# SPDX-License-Identifier: Apache-2.0
"""Bank: a flat store of named byte objects, and what every implementation promises.

A key is one or more segments of ``[A-Za-z0-9._-]``, joined by ``/``; no segment is ``.`` or ``..``.
Objects are written whole and, but for locks and markers, never changed. A bank may be used from many
threads and many processes at once. The contract suite is ``seawall.sdk.testing.bank_suite``.

Errors, whatever the library below raises: ``BankObjectMissingError`` (get, size of a missing key),
``BankFullError``, ``BankReadOnlyError``, ``BankDeniedError``, ``InvalidInputError`` (a bad key), and
``BankError`` for the rest: what may pass when it is tried again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

from seawall.core.errors import InvalidInputError

_SEGMENT = re.compile(r"[A-Za-z0-9._-]+")

Chunks = Sequence[bytes | bytearray | memoryview]
ObjectLock = Literal["on", "off", "unknown"]


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
    object_lock: ObjectLock = "off"
    """Whether the store itself keeps objects from being deleted or replaced; ``unknown`` until probed."""


@runtime_checkable
class Bank(Protocol):
    """A flat store of byte objects. Made with its options as keyword arguments."""

    bank_name: ClassVar[str]
    """What a provider's file calls it, e.g. ``file``."""
    options_schema: ClassVar[Mapping[str, Any]]
    """JSON schema (2020-12) of its options."""

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


@runtime_checkable
class ProbingBank(Protocol):
    """A bank whose features are known only when its store has been asked."""

    def probe(self) -> BankFeatures:
        """Ask the store; ``features`` is the answer from then on. May write and delete a small object."""
        ...


@dataclass(frozen=True, slots=True)
class ResticAddress:
    """How ``restic`` is told where a repository lies. Holds nothing secret: keys are named by their file."""

    repository: str
    options: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)


@runtime_checkable
class ResticBank(Protocol):
    """A bank that ``restic`` can use, too (``engine: restic`` on a provider)."""

    def restic_address(self, prefix: str) -> ResticAddress:
        """The address of the repository below ``prefix``; of one at the root when it is empty."""
        ...


def probed(bank: Bank) -> BankFeatures:
    """The features of a bank, asked of its store where that can be done."""
    return bank.probe() if isinstance(bank, ProbingBank) else bank.features


def check_key(key: str) -> str:
    """The key, or ``InvalidInputError`` when it is none."""
    if not key or len(key) > 1024:
        raise InvalidInputError.of("key", key, "must have 1 to 1024 characters")
    for segment in key.split("/"):
        if not _SEGMENT.fullmatch(segment) or segment in (".", ".."):
            raise InvalidInputError.of("key", key, "must be segments of [A-Za-z0-9._-] joined by /")
    return key


def joined(content: bytes | Chunks) -> bytes:
    """The content in one piece."""
    return content if isinstance(content, bytes) else b"".join(content)


class SubBank:
    """The part of a bank below a prefix, as a bank. ``close`` closes nothing: the whole belongs to others."""

    bank_name: ClassVar[str] = "sub"
    options_schema: ClassVar[Mapping[str, Any]] = {}

    def __init__(self, bank: Bank, prefix: str) -> None:
        self._bank = bank
        self._prefix = f"{check_key(prefix)}/"

    @property
    def features(self) -> BankFeatures:
        return self._bank.features

    def put(self, key: str, content: bytes | Chunks, *, create_only: bool = False) -> None:
        self._bank.put(self._prefix + check_key(key), content, create_only=create_only)

    def get(self, key: str, *, offset: int = 0, length: int | None = None) -> bytes:
        return self._bank.get(self._prefix + check_key(key), offset=offset, length=length)

    def size(self, key: str) -> int:
        return self._bank.size(self._prefix + check_key(key))

    def exists(self, key: str) -> bool:
        return self._bank.exists(self._prefix + check_key(key))

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        for found in self._bank.list(self._prefix + prefix):
            yield ObjectInfo(found.key.removeprefix(self._prefix), found.size_bytes)

    def delete(self, key: str) -> None:
        self._bank.delete(self._prefix + check_key(key))

    def close(self) -> None:
        """Nothing to release."""
