# SPDX-License-Identifier: Apache-2.0
"""The only file that may read a clock."""

from __future__ import annotations

import asyncio
import threading
import time
from datetime import UTC, datetime


class SystemClock:
    """The clock of this machine."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()

    def wait(self, event: threading.Event, timeout_s: float | None) -> bool:
        return event.wait(timeout_s)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(seconds, 0))
