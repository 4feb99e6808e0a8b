# SPDX-License-Identifier: Apache-2.0
"""A clock that moves only when the test moves it."""

from __future__ import annotations

import asyncio
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
        self._waiting: dict[int, tuple[threading.Event, float | None]] = {}
        self._waits = 0
        self._sleepers: dict[asyncio.Future[None], float] = {}

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
            for sleeper, end in self._sleepers.items():
                if end <= self._monotonic:
                    sleeper.get_loop().call_soon_threadsafe(_wake, sleeper)

    def jump(self, seconds: float) -> None:
        """Move the wall clock alone, as an operator or NTP would."""
        with self._changed:
            self._now += timedelta(seconds=seconds)
            self._changed.notify_all()

    def wait(self, event: threading.Event, timeout_s: float | None) -> bool:
        with self._changed:
            end = None if timeout_s is None else self._monotonic + timeout_s
            self._waits += 1
            mine = self._waits
            self._waiting[mine] = (event, end)
            self._changed.notify_all()
            try:
                while not event.is_set() and (end is None or self._monotonic < end):
                    # An event set without the clock knowing is seen within 5 ms of real time.
                    self._changed.wait(0.005)
                return event.is_set()
            finally:
                del self._waiting[mine]
                self._changed.notify_all()

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            return
        sleeper: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        with self._changed:
            self._sleepers[sleeper] = self._monotonic + seconds
        try:
            await sleeper
        finally:
            # Under the lock: afterwards nobody calls its loop any more, which may be closed by then.
            with self._changed:
                del self._sleepers[sleeper]

    def wait_for_waiters(self, count: int = 1, *, timeout_s: float = 10.0) -> None:
        """Return once ``count`` threads wait on this clock, and none that is about to go on does.

        ``TimeoutError`` after real seconds.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._are_idle(count), timeout_s):
                raise TimeoutError(f"{len(self._waiting)} of {count} threads wait on the clock")

    def _are_idle(self, count: int) -> bool:
        return len(self._waiting) >= count and not any(
            event.is_set() or (end is not None and end <= self._monotonic)
            for event, end in self._waiting.values()
        )


def _wake(sleeper: asyncio.Future[None]) -> None:
    if not sleeper.done():
        sleeper.set_result(None)
