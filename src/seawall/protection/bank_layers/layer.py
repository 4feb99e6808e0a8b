# SPDX-License-Identifier: Apache-2.0
"""A layer that changes nothing: what each layer is but for what it is there for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from seawall.sdk.bank import Bank, BankFeatures, Chunks, ObjectInfo, probed


class Layer:
    """Hands everything on. ``close`` closes what is below."""

    bank_name: ClassVar[str] = "layer"
    options_schema: ClassVar[Mapping[str, Any]] = {}

    def __init__(self, bank: Bank) -> None:
        self._bank = bank

    @property
    def features(self) -> BankFeatures:
        return self._bank.features

    def probe(self) -> BankFeatures:
        """Ask the store below, where that can be done."""
        return probed(self._bank)

    def put(self, key: str, content: bytes | Chunks, *, create_only: bool = False) -> None:
        self._bank.put(key, content, create_only=create_only)

    def get(self, key: str, *, offset: int = 0, length: int | None = None) -> bytes:
        return self._bank.get(key, offset=offset, length=length)

    def size(self, key: str) -> int:
        return self._bank.size(key)

    def exists(self, key: str) -> bool:
        return self._bank.exists(key)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        return self._bank.list(prefix)

    def delete(self, key: str) -> None:
        self._bank.delete(key)

    def close(self) -> None:
        self._bank.close()


def length_of(content: bytes | Chunks) -> int:
    """How many bytes a put would store."""
    return len(content) if isinstance(content, bytes) else sum(memoryview(part).nbytes for part in content)
