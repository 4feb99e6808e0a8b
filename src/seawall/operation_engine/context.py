# SPDX-License-Identifier: Apache-2.0
"""``RunContext``: what a run knows and may do while it is carried out (M10)."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

from seawall.core.errors import CancelledError, LeaseLostError, SeawallError, TimedOutError
from seawall.db import runs
from seawall.db.runs import ClaimedRun
from seawall.sdk.clock import Clock
from seawall.sdk.operation import Json, Protection

if TYPE_CHECKING:
    from seawall.db.session import Database

# A run that logs more than this between two flushes loses the lines above, and says how many.
_MOST_LINES = 1000


class StepJournal:
    """The journaled steps of one run; ``record`` is a write transaction of its own (I4)."""

    def __init__(self, database: Database, claimed: ClaimedRun, steps: Mapping[str, Json]) -> None:
        self._database = database
        self._claimed = claimed
        self._steps = dict(steps)

    def get(self, step: str) -> Json | None:
        return self._steps.get(step)

    def record(self, step: str, data: Mapping[str, Any]) -> None:
        self._note(step, data, self._submit(step, data).result())

    async def record_async(self, step: str, data: Mapping[str, Any]) -> None:
        """As ``record``; the event loop goes on until the commit."""
        self._note(step, data, await asyncio.wrap_future(self._submit(step, data)))

    def _submit(self, step: str, data: Mapping[str, Any]) -> Future[bool]:
        row, fence, content = self._claimed.row, self._claimed.fence, dict(data)
        return self._database.submit(
            "runs.journal",
            lambda tx: runs.record_step(tx, row=row, fence=fence, step=step, data=content),
            locks_rows=True,
        )

    def _note(self, step: str, data: Mapping[str, Any], is_mine: bool) -> None:
        if not is_mine:
            raise LeaseLostError(f"run {self._claimed.id} was taken over before step {step!r}")
        self._steps[step] = dict(data)


class RunContext:
    """One attempt of one run. What it reports stays in memory until the dispatcher flushes it.

    ``lease_until`` is a reading of the monotonic clock.
    """

    def __init__(
        self,
        claimed: ClaimedRun,
        *,
        steps: Mapping[str, Json],
        database: Database,
        clock: Clock,
        protection: Protection,
        lease_until: float,
    ) -> None:
        self._claimed = claimed
        self._database = database
        self._clock = clock
        self._protection = protection
        self._lock = threading.Lock()
        self._must_stop = threading.Event()
        self._on_stop: Callable[[], object] | None = None
        self._why: SeawallError | None = None
        self._progress: Json | None = None
        self._lines: list[tuple[int, datetime, str, str]] = []
        self._dropped = 0
        self.is_handed_back = False
        """Whether it must stop because this process stops in order."""
        self.journal = StepJournal(database, claimed, steps)
        self._timeout_at = claimed.started_at + timedelta(seconds=claimed.timeout_s)
        self._lease_until = lease_until

    # --- what it is --------------------------------------------------------------------------

    @property
    def run_id(self) -> str:
        return self._claimed.id

    @property
    def operation_type(self) -> str:
        return self._claimed.operation_type

    @property
    def scheduled_operation_id(self) -> str | None:
        return self._claimed.scheduled_operation_id

    @property
    def trigger_id(self) -> str | None:
        return self._claimed.trigger_id

    @property
    def project_id(self) -> str:
        return self._claimed.project_id

    @property
    def user_id(self) -> str:
        return self._claimed.user_id

    @property
    def kind(self) -> str:
        return self._claimed.kind

    @property
    def triggered_at(self) -> datetime:
        return self._claimed.triggered_at

    @property
    def expected_at(self) -> datetime:
        return self._claimed.expected_at

    @property
    def window_s(self) -> float:
        """How late its first start might be; 0 for a run without a window."""
        deadline_at = self._claimed.deadline_at
        return 0.0 if deadline_at is None else (deadline_at - self._claimed.expected_at).total_seconds()

    @property
    def run_type(self) -> Literal["execute", "resume"]:
        # The first claim of a run has the first fence; whoever comes later may find steps in the journal.
        return "execute" if self._claimed.fence == 1 else "resume"

    @property
    def attempt(self) -> int:
        return self._claimed.attempt

    @property
    def fence(self) -> int:
        return self._claimed.fence

    @property
    def protection(self) -> Protection:
        return self._protection

    # --- what it may do ----------------------------------------------------------------------

    def now(self) -> datetime:
        return self._clock.now()

    def check(self) -> None:
        self._look_at_the_clock()
        if self._why is not None:
            raise self._why

    def confirm_lease(self) -> None:
        self.check()
        row, fence = self._claimed.row, self._claimed.fence
        is_mine = self._database.read(
            lambda connection: runs.has_lease(connection, row=row, fence=fence, now=self._clock.now())
        )
        if not is_mine:
            self._stop(LeaseLostError(f"run {self.run_id} was taken over, or its lease ended"))
        self.check()

    def wait(self, seconds: float) -> None:
        until = self._clock.monotonic() + seconds
        self.check()
        while (left := until - self._clock.monotonic()) > 0:
            self._clock.wait(self._must_stop, min(left, 1.0))
            self.check()

    async def sleep(self, seconds: float) -> None:
        self.check()
        try:
            await self._clock.sleep(seconds)
        except asyncio.CancelledError:
            # This is how a stop reaches what waits (``on_stop``): said in the words of ``check``.
            self.check()
            raise
        self.check()

    async def record(self, step: str, data: Mapping[str, Any]) -> None:
        self.check()
        try:
            await self.journal.record_async(step, data)
        except asyncio.CancelledError:
            self.check()
            raise

    def progress(
        self, *, done_bytes: int, done_items: int, total_bytes: int | None = None, text: str = ""
    ) -> None:
        found = {"done_bytes": done_bytes, "done_items": done_items, "total_bytes": total_bytes, "text": text}
        with self._lock:
            self._progress = found

    def log(self, level: Literal["debug", "info", "warning", "error"], text: str) -> None:
        with self._lock:
            if len(self._lines) < _MOST_LINES:
                self._lines.append((self._claimed.row, self._clock.now(), level, text))
            else:
                self._dropped += 1

    # --- what the dispatcher does with it ----------------------------------------------------

    def cancel(self) -> None:
        """The user, or its operation's overlap policy, wants it to stop."""
        self._stop(CancelledError(f"run {self.run_id} was cancelled"))

    def stop(self) -> None:
        """What an executor calls: stop soon, for the reason that is known already, or else as cancelled."""
        if self._why is None:
            self.cancel()

    def on_stop(self, callback: Callable[[], object] | None) -> None:
        """Call this, from any thread, once the run must stop; at once when that is so already."""
        with self._lock:
            self._on_stop = callback
            if callback is not None and self._why is not None:
                callback()

    def lose_lease(self) -> None:
        """It was taken over: somebody else goes on with it, or will."""
        self._stop(LeaseLostError(f"run {self.run_id} was taken over"))

    def hand_back(self) -> None:
        """This process stops: somebody else goes on with it. No take-over."""
        self.is_handed_back = True
        self._stop(LeaseLostError(f"run {self.run_id} is handed back: the process that ran it stops"))

    def renewed(self, lease_until: float) -> None:
        """Its lease now lasts until this reading of the monotonic clock."""
        self._lease_until = lease_until

    @property
    def why(self) -> SeawallError | None:
        """Why it must stop; None while it may go on."""
        return self._why

    def take_progress(self) -> Json | None:
        """What has been reported since the last call."""
        with self._lock:
            found, self._progress = self._progress, None
            return found

    def take_lines(self) -> list[tuple[int, datetime, str, str]]:
        """What has been logged since the last call."""
        with self._lock:
            found, self._lines = self._lines, []
            if self._dropped:
                text = f"{self._dropped} more lines were logged within a second and are not kept"
                found.append((self._claimed.row, self._clock.now(), "warning", text))
                self._dropped = 0
            return found

    def put_back(self, progress: Json | None, lines: list[tuple[int, datetime, str, str]]) -> None:
        """What was taken could not be written: it is kept for the next flush."""
        with self._lock:
            self._progress = self._progress or progress
            self._lines = lines + self._lines

    def _look_at_the_clock(self) -> None:
        if self._why is None:
            if self._clock.monotonic() > self._lease_until:
                # The process slept or the database was away: somebody else may have taken it over (I3).
                self._stop(LeaseLostError(f"run {self.run_id} is not gone on with here: its lease ended"))
            elif self._clock.now() > self._timeout_at:
                self._stop(TimedOutError(f"it took longer than its timeout of {self._claimed.timeout_s} s"))

    def look(self) -> SeawallError | None:
        """As ``check``, for the dispatcher: why it must stop."""
        self._look_at_the_clock()
        return self._why

    def _stop(self, why: SeawallError) -> None:
        with self._lock:
            # A lost lease outweighs everything: nothing may be recorded any more.
            if self._why is None or isinstance(why, LeaseLostError):
                self._why = why
            # Under the lock: once it is taken back, the loop that it would wake may be closed.
            if self._on_stop is not None:
                self._on_stop()
        self._must_stop.set()
