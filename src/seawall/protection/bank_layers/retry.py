# SPDX-License-Identifier: Apache-2.0
"""``RetryBank``: what failed for a reason that may pass is tried again, later and later.

Only errors that say of themselves that they are retryable, and only so often: then the last one is raised.
Every call may be repeated. A put whose acknowledgement was lost is done again, with the same content; with
``create_only`` the second try meets the first one's object, so what is there is read: when it is what we put,
it is ours. Two writers that create one key with the same bytes may therefore both succeed.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from typing import Final, TypeVar

from seawall.core.errors import BankError, BankFullError, BankObjectMissingError, ConflictError
from seawall.protection.bank_layers.layer import Layer, length_of
from seawall.runtime.logging import get_logger
from seawall.sdk.bank import Bank, Chunks, ObjectInfo, joined
from seawall.sdk.clock import Clock

log = get_logger(__name__)
T = TypeVar("T")

ATTEMPTS: Final = 8
"""With these waits a server may be gone for about a minute."""
_FIRST_WAIT_S: Final = 0.5
_LONGEST_WAIT_S: Final = 20.0


class RetryBank(Layer):
    """A bank whose short failures nobody above sees."""

    def __init__(
        self,
        bank: Bank,
        clock: Clock,
        *,
        attempts: int = ATTEMPTS,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """``jitter`` gives numbers from 0 to 1: a wait is between half and all of what its turn allows."""
        super().__init__(bank)
        self._clock = clock
        self._attempts = attempts
        self._jitter = jitter
        self._ended = threading.Event()

    def put(self, key: str, content: bytes | Chunks, *, create_only: bool = False) -> None:
        tries = _Tries(self, f"put {key}")
        while True:
            try:
                self._bank.put(key, content, create_only=create_only)
                return
            except ConflictError:
                if not tries.failed or not self._is_ours(key, content):
                    raise
                return
            except BankError as error:
                tries.wait(error)

    def _is_ours(self, key: str, content: bytes | Chunks) -> bool:
        """Whether an earlier try stored it, though nobody told us."""
        try:
            return self.size(key) == length_of(content) and self.get(key) == joined(content)
        except BankObjectMissingError:
            return False

    def get(self, key: str, *, offset: int = 0, length: int | None = None) -> bytes:
        return self._repeat(f"get {key}", lambda: self._bank.get(key, offset=offset, length=length))

    def size(self, key: str) -> int:
        return self._repeat(f"size {key}", lambda: self._bank.size(key))

    def exists(self, key: str) -> bool:
        return self._repeat(f"exists {key}", lambda: self._bank.exists(key))

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """A list that fails begins anew and leaves out what was seen already: it is sorted."""
        tries = _Tries(self, f"list {prefix}")
        last = ""
        while True:
            try:
                for one in self._bank.list(prefix):
                    if one.key > last:
                        last = one.key
                        yield one
                return
            except BankError as error:
                tries.wait(error)

    def delete(self, key: str) -> None:
        self._repeat(f"delete {key}", lambda: self._bank.delete(key))

    def close(self) -> None:
        self._ended.set()
        self._bank.close()

    def _repeat(self, what: str, call: Callable[[], T]) -> T:
        tries = _Tries(self, what)
        while True:
            try:
                return call()
            except BankError as error:
                tries.wait(error)

    def _pause(self, number: int, what: str, error: BankError) -> None:
        """Wait before the next try, or raise ``error`` when there is none."""
        # Nobody makes room on a bank within a minute.
        if not error.retryable or isinstance(error, BankFullError) or number >= self._attempts:
            raise error
        most = min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2.0 ** (number - 1))
        wait_s = most / 2 + most / 2 * self._jitter()
        log.warning("the bank is asked again", what=what, attempt=number, wait_s=wait_s, error=str(error))
        if self._clock.wait(self._ended, wait_s):
            raise error


class _Tries:
    """How often one call has failed so far."""

    def __init__(self, bank: RetryBank, what: str) -> None:
        self._bank = bank
        self._what = what
        self.failed = 0

    def wait(self, error: BankError) -> None:
        self.failed += 1
        self._bank._pause(self.failed, self._what, error)
