# SPDX-License-Identifier: Apache-2.0
"""A bank in memory: a real one, for tests; it is gone with its process."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from seawall.core.errors import BankObjectMissingError, ConflictError
from seawall.sdk.bank import BankFeatures, Chunks, ObjectInfo, check_key, joined


class MemoryBank:
    """A dictionary under a lock."""

    bank_name: ClassVar[str] = "memory"
    options_schema: ClassVar[Mapping[str, Any]] = {"type": "object", "additionalProperties": False}

    def __init__(self) -> None:
        self._objects: dict[str, bytes] = {}
        self._lock = threading.Lock()

    @property
    def features(self) -> BankFeatures:
        return BankFeatures(conditional_create=True)

    def put(self, key: str, content: bytes | Chunks, *, create_only: bool = False) -> None:
        check_key(key)
        whole = joined(content)
        with self._lock:
            if create_only and key in self._objects:
                raise ConflictError(f"{key} exists already")
            self._objects[key] = whole

    def get(self, key: str, *, offset: int = 0, length: int | None = None) -> bytes:
        content = self._find(key)
        return content[offset:] if length is None else content[offset : offset + length]

    def size(self, key: str) -> int:
        return len(self._find(key))

    def exists(self, key: str) -> bool:
        return check_key(key) in self._objects

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        with self._lock:
            found = sorted((key, len(content)) for key, content in self._objects.items())
        for key, size in found:
            if key.startswith(prefix):
                yield ObjectInfo(key, size)

    def delete(self, key: str) -> None:
        with self._lock:
            self._objects.pop(check_key(key), None)

    def close(self) -> None:
        """Nothing to release."""

    def _find(self, key: str) -> bytes:
        try:
            return self._objects[check_key(key)]
        except KeyError:
            raise BankObjectMissingError(f"there is no object {key}") from None
