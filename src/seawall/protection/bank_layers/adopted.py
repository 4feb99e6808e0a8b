# SPDX-License-Identifier: Apache-2.0
"""``AdoptedBank``: a repository that somebody else made, where it lies, as a bank that holds just this one.

A bank holds each repository below its id; one that was made with restic lies at the root of its folder or
bucket. This layer takes the id away again, so that nobody else has to know.
"""

from __future__ import annotations

from collections.abc import Iterator

from seawall.core.errors import BankDeniedError
from seawall.protection.bank_layers.layer import Layer
from seawall.sdk.bank import Bank, Chunks, ObjectInfo, check_key


class AdoptedBank(Layer):
    """The bank of one repository; every other key is refused with ``BankDeniedError``."""

    def __init__(self, bank: Bank, repository_id: str) -> None:
        super().__init__(bank)
        self._prefix = f"{repository_id}/"

    def put(self, key: str, content: bytes | Chunks, *, create_only: bool = False) -> None:
        self._bank.put(self._inner(key), content, create_only=create_only)

    def get(self, key: str, *, offset: int = 0, length: int | None = None) -> bytes:
        return self._bank.get(self._inner(key), offset=offset, length=length)

    def size(self, key: str) -> int:
        return self._bank.size(self._inner(key))

    def exists(self, key: str) -> bool:
        return self._bank.exists(self._inner(key))

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        if not prefix.startswith(self._prefix) and not self._prefix.startswith(prefix):
            return
        for one in self._bank.list(
            prefix.removeprefix(self._prefix) if len(prefix) >= len(self._prefix) else ""
        ):
            yield ObjectInfo(self._prefix + one.key, one.size_bytes)

    def delete(self, key: str) -> None:
        self._bank.delete(self._inner(key))

    def _inner(self, key: str) -> str:
        if not check_key(key).startswith(self._prefix):
            raise BankDeniedError(
                f"this bank is the adopted repository {self._prefix[:-1]}, and holds no other",
                hint="one provider for each adopted repository; other projects need a provider of their own",
            )
        return key.removeprefix(self._prefix)
