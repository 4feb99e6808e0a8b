# SPDX-License-Identifier: Apache-2.0
"""A clock that moves only when the test moves it."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta


class FakeClock:
    """Starts at ``start``; ``advance`` and ``jump`` wake whoever waits.

    ``wait`` returns once the fake time has passed its timeout or its event is set. ``wait_for_waiters``
    lets a test know, without sleeping, that a loop has gone to wait.
    """

    def __init__(self, start: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        self._now = start
        self._monotonic = 0.0
        self._changed = threading.Condition()
        self._waiting = 0
        self._waits = 0

    def now(self) -> datetime:
        with self._changed:
            return self._now

    def monotonic(self) -> float:
        with self._changed:
            return self._monotonic

    def advance(self, seconds: float) -> None:
        """Let ``seconds`` pass."""
        with self._changed:
            self._now += timedelta(seconds=seconds)
            self._monotonic += seconds
            self._changed.notify_all()

    def jump(self, seconds: float) -> None:
        """Move the wall clock alone, as an operator or NTP would."""
        with self._changed:
            self._now += timedelta(seconds=seconds)
            self._changed.notify_all()

    def wait(self, event: threading.Event, timeout_s: float | None) -> bool:
        with self._changed:
            end = None if timeout_s is None else self._monotonic + timeout_s
            self._waiting += 1
            self._waits += 1
            self._changed.notify_all()
            try:
                while not event.is_set() and (end is None or self._monotonic < end):
                    # An event set without the clock knowing is seen within 5 ms of real time.
                    self._changed.wait(0.005)
                return event.is_set()
            finally:
                self._waiting -= 1
                self._changed.notify_all()

    def wait_for_waiters(self, count: int = 1, *, timeout_s: float = 10.0) -> None:
        """Return once ``count`` threads wait on this clock; ``TimeoutError`` after real seconds."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._waiting >= count, timeout_s):
                raise TimeoutError(f"{self._waiting} of {count} threads wait on the clock")
