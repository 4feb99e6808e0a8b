# SPDX-License-Identifier: Apache-2.0
"""Clock: what everything that needs the time is given.

Production uses ``runtime.clock.SystemClock``; tests use ``sdk.testing.clock.FakeClock``, which moves only
when told to. All instants are aware and in UTC.
"""

from __future__ import annotations

import threading
from datetime import datetime
from typing import Protocol


class Clock(Protocol):
    """The time, and waiting for it."""

    def now(self) -> datetime:
        """The wall-clock instant, aware, UTC. May jump either way."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go back, for measuring how long something took."""
        ...

    def wait(self, event: threading.Event, timeout_s: float | None) -> bool:
        """Wait until ``event`` is set or ``timeout_s`` have passed; whether it is set."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Let ``seconds`` pass without holding up others of this event loop."""
        ...
