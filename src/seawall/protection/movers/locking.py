# SPDX-License-Identifier: Apache-2.0
"""The lock of a session on its repository, kept fresh by a thread of its own (I12)."""

from __future__ import annotations

import threading
from datetime import datetime
from typing import Final

from seawall.core.errors import SeawallError
from seawall.repository import Repository
from seawall.repository.locks import RepositoryLock
from seawall.runtime.logging import get_logger
from seawall.sdk.clock import Clock

log = get_logger(__name__)

_KEEP_EVERY_S: Final = 60.0


class SessionLock:
    """Held from the first byte of a session to its end. One that cannot be refreshed expires, and then no
    snapshot is written under it."""

    def __init__(
        self,
        repository: Repository,
        clock: Clock,
        *,
        task: str = "",
        exclusive: bool = False,
        session: str | None = None,
    ) -> None:
        """``ConflictError`` names who is in the way; ``session`` is what the lock will be known by."""
        # A mover keeps repositories open: the bank may have gone since it was last used.
        repository.confirm()
        self._clock = clock
        self._lock = RepositoryLock.acquire(
            repository.bank,
            repository.key,
            now=clock.now(),
            task=task,
            exclusive=exclusive,
            session=session,
        )
        self._ended = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name="lock", daemon=True)
        self._keeper.start()

    @property
    def inner(self) -> RepositoryLock:
        """The lock itself."""
        return self._lock

    def is_expired(self, now: datetime) -> bool:
        return self._lock.is_expired(now)

    def _keep(self) -> None:
        while not self._clock.wait(self._ended, _KEEP_EVERY_S):
            try:
                self._lock.keep(self._clock.now())
            except SeawallError as error:
                # Tried again in a minute; a lock that is not refreshed in time expires by itself.
                log.warning("the lock on the repository was not refreshed", error=str(error))

    def release(self) -> None:
        """May be called twice."""
        self._ended.set()
        self._keeper.join()
        self._lock.release()
