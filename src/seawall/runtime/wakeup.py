# SPDX-License-Identifier: Apache-2.0
"""Wake-up: tells the loops of one process that there may be work, so that they need not poll for it.

A wake-up carries nothing: whoever is woken looks at the rows. A lost one (another process wrote the rows)
costs no more than the poll that every loop keeps as its safety net.
"""

from __future__ import annotations

import threading


class Wakeup:
    """Shared by those who write rows and those who wait for them; all of it is thread-safe.

    A write calls ``tx.after_commit(wakeup.notify)``. A loop waits on an event of its own from
    ``subscribe``, clears it *before* it looks, and so never misses a row that was committed before the
    notification.
    """

    def __init__(self) -> None:
        self.event = threading.Event()
        """For the one loop that needs no event of its own."""
        self._lock = threading.Lock()
        self._events: list[threading.Event] = [self.event]

    def subscribe(self, event: threading.Event | None = None) -> threading.Event:
        """An event that every ``notify`` sets: ``event``, or a new one."""
        found = threading.Event() if event is None else event
        with self._lock:
            if not any(one is found for one in self._events):
                self._events.append(found)
        return found

    def unsubscribe(self, event: threading.Event) -> None:
        """Set this event no more. One that was never subscribed is not an error."""
        with self._lock:
            self._events = [one for one in self._events if one is not event]

    def notify(self) -> None:
        """Wake all; never blocks and never raises: it is called by the database's writer thread."""
        with self._lock:
            events = tuple(self._events)
        for event in events:
            event.set()
