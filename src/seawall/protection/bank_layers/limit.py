# SPDX-License-Identifier: Apache-2.0
"""``LimitBank``: at most so many bytes a second, and so many requests at once.

The limits hold for one opened bank, which is one mover process. A whole object goes out at the speed of the
line, and the next one waits until the average is kept again.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from seawall.core.errors import BankError
from seawall.protection.bank_layers.layer import Layer, length_of
from seawall.sdk.bank import Bank, Chunks, ObjectInfo
from seawall.sdk.clock import Clock


class Pace:
    """Spreads bytes over time; thread-safe. Who comes first goes first."""

    def __init__(self, bytes_per_s: float, clock: Clock) -> None:
        self._bytes_per_s = bytes_per_s
        self._clock = clock
        self._lock = threading.Lock()
        self._free_at = clock.monotonic()

    def take(self, count: int, ended: threading.Event) -> None:
        """Wait until the bytes before these are paid for; ``BankError`` when it ends meanwhile."""
        with self._lock:
            now = self._clock.monotonic()
            begin = max(now, self._free_at)
            self._free_at = begin + count / self._bytes_per_s
        if begin > now and self._clock.wait(ended, begin - now):
            raise BankError("the bank was closed while a transfer waited for its turn")


class LimitBank(Layer):
    """A bank that is used no faster than allowed. A list counts as requests, not as bytes."""

    def __init__(
        self,
        bank: Bank,
        clock: Clock,
        *,
        upload_bytes_per_s: float | None = None,
        download_bytes_per_s: float | None = None,
        connections: int | None = None,
    ) -> None:
        super().__init__(bank)
        self._up = Pace(upload_bytes_per_s, clock) if upload_bytes_per_s else None
        self._down = Pace(download_bytes_per_s, clock) if download_bytes_per_s else None
        self._slot: AbstractContextManager[Any] = (
            threading.BoundedSemaphore(connections) if connections else nullcontext()
        )
        self._ended = threading.Event()

    def put(self, key: str, content: bytes | Chunks, *, create_only: bool = False) -> None:
        if self._up is not None:
            self._up.take(length_of(content), self._ended)
        with self._slot:
            self._bank.put(key, content, create_only=create_only)

    def get(self, key: str, *, offset: int = 0, length: int | None = None) -> bytes:
        with self._slot:
            found = self._bank.get(key, offset=offset, length=length)
        # How much it is is known only now: the next one waits for it.
        if self._down is not None:
            self._down.take(len(found), self._ended)
        return found

    def size(self, key: str) -> int:
        with self._slot:
            return self._bank.size(key)

    def exists(self, key: str) -> bool:
        with self._slot:
            return self._bank.exists(key)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        found = self._bank.list(prefix)
        while True:
            # Never held while the caller does something with what it got: it may use the bank for that.
            with self._slot:
                one = next(found, None)
            if one is None:
                return
            yield one

    def delete(self, key: str) -> None:
        with self._slot:
            self._bank.delete(key)

    def close(self) -> None:
        self._ended.set()
        self._bank.close()
