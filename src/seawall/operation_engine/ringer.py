# SPDX-License-Identifier: Apache-2.0
"""``Ringer``: tells the hosts of an executor with doorbells that there are runs to claim.

It is woken by every commit that made some, in whatever process, and looks again each ``poll_s``: what rang
while a broker was away, or was not heard, rings again for as long as something waits. Any number of engines
may ring; nothing depends on how often.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from seawall.core.errors import UnavailableError
from seawall.db import runs
from seawall.runtime.logging import get_logger
from seawall.sdk.clock import Clock
from seawall.sdk.executor import DoorbellExecutor

if TYPE_CHECKING:
    from seawall.db.session import Database

log = get_logger(__name__)


class Ringer:
    """``ring`` is the function of a ``TriggerLoop``."""

    def __init__(
        self, database: Database, executor: DoorbellExecutor, *, clock: Clock, poll_s: float
    ) -> None:
        self._database = database
        self._executor = executor
        self._clock = clock
        self._poll_s = poll_s
        self._is_heard = True

    def ring(self, _expected_at: datetime) -> datetime:
        """Ring for what waits to be claimed; when to look again."""
        waiting = self._database.read(lambda connection: runs.waiting(connection, self._database.now))
        try:
            for host, count in waiting.items():
                self._executor.ring(host, most=count)
        except UnavailableError as error:
            if self._is_heard:
                log.warning("doorbells cannot be rung; hosts look by themselves meanwhile", reason=str(error))
            self._is_heard = False
        else:
            if waiting and not self._is_heard:
                log.info("doorbells can be rung again")
            self._is_heard = self._is_heard or bool(waiting)
        return self._clock.now() + timedelta(seconds=self._poll_s)

    def close(self) -> None:
        """Let the connection to the broker go."""
        self._executor.shutdown(grace_s=0)
