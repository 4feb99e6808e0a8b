# SPDX-License-Identifier: Apache-2.0
"""Wake-ups between processes on one PostgreSQL: LISTEN here, NOTIFY in the commits of ``session``.

A wake-up carries nothing but who sent it. One that is lost (the connection was away) costs no more than the
poll that every loop keeps, and after each reconnect everybody is woken once, because one may have been lost.
"""

from __future__ import annotations

import os
import selectors
import threading
from typing import TYPE_CHECKING, Any

from seawall.core.errors import ConfigurationError, StateError
from seawall.db.session import Database
from seawall.runtime.logging import get_logger
from seawall.runtime.wakeup import Wakeup
from seawall.sdk.clock import Clock

if TYPE_CHECKING:  # an installation on SQLite does not load the driver
    import psycopg

log = get_logger(__name__)

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0


class Listener:
    """Calls ``wakeup.notify`` when another process has committed something that wakes. One start, one stop.

    On SQLite there is nothing to listen to, and no thread.
    """

    def __init__(self, database: Database, wakeup: Wakeup, clock: Clock) -> None:
        self._database = database
        self._wakeup = wakeup
        self._clock = clock
        self._stopping = threading.Event()
        self._listening = threading.Event()
        self._thread: threading.Thread | None = None
        self._pipe: tuple[int, int] | None = None

    def start(self) -> None:
        """Listen from now on; returns at once, whether the server answers or not."""
        if self._thread is not None or self._stopping.is_set():
            raise StateError("a listener is started once")
        if self._database.url is None:
            return
        self._pipe = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._thread = threading.Thread(
            target=self._listen, args=(self._pipe[0],), name="database-listener", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """End the thread and its connection. May be called twice, and before a start."""
        self._stopping.set()
        if self._thread is not None and self._pipe is not None:
            os.write(self._pipe[1], b".")
            self._thread.join()
            self._thread = None
            for end in self._pipe:
                os.close(end)

    def wait_until_listening(self, timeout_s: float) -> bool:
        """Whether it listens now; waits for that up to ``timeout_s``."""
        return self._listening.wait(timeout_s)

    def _listen(self, stop_end: int) -> None:
        import psycopg

        from seawall.db.postgresql import CHANNEL, PostgresqlStore

        store = self._database.store
        assert isinstance(store, PostgresqlStore)  # its database has a url
        pause_s = FIRST_PAUSE_S
        while not self._stopping.is_set():
            try:
                with store.connect() as connection:
                    connection.execute(f"LISTEN {CHANNEL}")
                    pause_s = FIRST_PAUSE_S
                    self._listening.set()
                    self._wakeup.notify()
                    self._forward(connection, stop_end)
            except (psycopg.Error, OSError, ConfigurationError) as error:
                # A loop: the server may be back at the next try, and until then the loops poll.
                self._listening.clear()
                log.warning("not listening to the database", error=str(error), retry_in_s=pause_s)
                self._clock.wait(self._stopping, pause_s)
                pause_s = min(pause_s * 2, LONGEST_PAUSE_S)

    def _forward(self, connection: psycopg.Connection[Any], stop_end: int) -> None:
        """Wake for every commit of another process, until stopped or the connection is lost."""
        with selectors.DefaultSelector() as ends:
            ends.register(connection.fileno(), selectors.EVENT_READ)
            ends.register(stop_end, selectors.EVENT_READ)
            while all(key.fd != stop_end for key, _ in ends.select()):
                senders = {one.payload for one in connection.notifies(timeout=0)}
                if senders - {self._database.sender}:
                    self._wakeup.notify()
