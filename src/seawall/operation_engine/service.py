# SPDX-License-Identifier: Apache-2.0
"""``OperationEngineService``: triggers get their next times, what is due becomes runs (M3)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from seawall.db import due, events, runs
from seawall.operation_engine import claim
from seawall.operation_engine.cleanup import CleanUp
from seawall.operation_engine.events import stored
from seawall.operation_engine.events.publisher import Publisher
from seawall.operation_engine.ringer import Ringer
from seawall.operation_engine.trigger_loop import LoopHealth, TriggerLoop
from seawall.runtime.logging import get_logger
from seawall.runtime.wakeup import Wakeup
from seawall.sdk.clock import Clock

if TYPE_CHECKING:
    from seawall.db.session import Connection, Database, Tx

log = get_logger(__name__)

_CHUNK = 2000
# So many triggers are looked at before the service counts as started; the others right after, while it runs.
_CHECKED_AT_START = 10_000


@dataclass(frozen=True, slots=True)
class _Looked:
    """What was found at a chunk of triggers."""

    faults: Mapping[int, str]
    looked_at: int
    last_row: int | None
    """Go on after it; None when that was the last chunk."""


def _look_at_schedules(after_row: int, connection: Connection) -> _Looked:
    chunk = due.all_scheduled(connection, after_row=after_row, limit=_CHUNK)
    last_row = chunk[-1][0] if len(chunk) == _CHUNK else None
    return _Looked(claim.faults_of(chunk), len(chunk), last_row)


def _look_at_event_triggers(after_row: int, connection: Connection) -> _Looked:
    chunk = events.stored(connection, after_row=after_row, limit=_CHUNK)
    last_row = chunk[-1].row if len(chunk) == _CHUNK else None
    return _Looked(stored.faults_of(chunk), len(chunk), last_row)


def _quarantine(tx: Tx, look: Callable[[Connection], _Looked]) -> int:
    """Looked at once more: one that was mended meanwhile goes on."""
    faults = look(tx.connection).faults
    if faults:
        due.quarantine(tx, faults)
    return len(faults)


class OperationEngineService:
    """The service; any number of them share the work of one database without a leader."""

    binary: ClassVar[str] = "seawall-operationengine"

    def __init__(
        self,
        database: Database,
        *,
        clock: Clock,
        wakeup: Wakeup,
        host: str,
        poll_s: float,
        cleanup_interval_s: float,
        keep_runs_days: float,
        error_checkpoint_days: float,
        publisher: Publisher | None = None,
        ringer: Ringer | None = None,
    ) -> None:
        """``publisher`` tells a broker what happens; without one nobody is told. ``ringer`` tells the hosts
        of an executor with doorbells; without one they look by themselves.
        """
        self._publisher = publisher
        self._ringer = ringer
        self._database = database
        self._clock = clock
        self._wakeup = wakeup
        self._host = host
        self._poll_s = poll_s
        self._cleanup = CleanUp(
            database,
            clock=clock,
            wakeup=wakeup,
            interval_s=cleanup_interval_s,
            keep_runs_days=keep_runs_days,
            error_checkpoint_days=error_checkpoint_days,
        )
        self._loops: list[TriggerLoop] = []
        self._unchecked = [_look_at_schedules, _look_at_event_triggers]
        self._checked_row = 0

    def init_host(self, *, service_id: int) -> None:
        """Every trigger gets a next time or a reason why not, dead leases are taken over, loops start."""
        scheduled, ended = self._give_next_times()
        quarantined, is_more = self._check(_CHECKED_AT_START)
        settled = self._database.write("engine.take_over", lambda tx: runs.reap(tx, host=self._host))
        log.info(
            "schedules are ready",
            given_a_next_time=scheduled,
            ended=ended,
            quarantined=quarantined,
            runs_settled=settled,
        )
        self._start_loop("claim-loop", self._claim, self._wakeup)
        if self._publisher is not None:
            self._publisher.holder = f"{self.binary}:{service_id}"
            self._start_loop("outbox-loop", self._publisher.run)
        if self._ringer is not None:
            self._start_loop("doorbell-loop", self._ringer.ring, self._wakeup)
        self._cleanup.holder = f"{self.binary}:{service_id}"
        self._start_loop("clean-up-loop", self._cleanup.run)
        if is_more:
            self._start_loop("trigger-check", self._check_on)

    def cleanup_host(self) -> None:
        """Stop the loops; a claim that is under way is finished."""
        for loop in reversed(self._loops):
            loop.stop()
        self._loops.clear()
        if self._publisher is not None:
            self._publisher.close()
        if self._ringer is not None:
            self._ringer.close()

    def health(self) -> list[LoopHealth]:
        """How its loops are."""
        return [loop.health for loop in self._loops]

    def _start_loop(
        self, name: str, function: Callable[[datetime], datetime | None], wakeup: Wakeup | None = None
    ) -> None:
        loop = TriggerLoop(name, function, first_run_at=self._clock.now(), clock=self._clock, wakeup=wakeup)
        self._loops.append(loop)
        loop.start()

    # --- the claim loop ----------------------------------------------------------------------

    def _claim(self, _expected_at: datetime) -> datetime:
        """Claim until nothing is due; when to look again."""
        while True:
            next_at = self._database.read(due.next_due_at)
            now = self._clock.now()
            latest = now + timedelta(seconds=self._poll_s)
            if next_at is None or next_at > now:
                return latest if next_at is None else min(next_at, latest)
            # It decides upon triggers that it has locked, as whoever changes one or its operations does:
            # engines claim side by side.
            claimed = self._database.write("engine.claim", self._claim_batch, locks_rows=True)
            if not claimed.triggers:
                # Another engine holds what is due at this moment.
                return latest

    def _claim_batch(self, tx: Tx) -> claim.Claimed:
        claimed = claim.claim(tx)
        if claimed.runs:
            tx.after_commit(self._wakeup.notify)
        return claimed

    # --- what init_host looks at -----------------------------------------------------------------

    def _give_next_times(self) -> tuple[int, int]:
        """(given one, ended): triggers without a next time."""
        scheduled, ended, after_row = 0, 0, 0
        while True:
            given = self._database.write(
                "engine.give_next_times",
                lambda tx, row=after_row: claim.give_next_times(  # type: ignore[misc]  # bound now
                    tx, after_row=row, limit=_CHUNK
                ),
            )
            scheduled += given.scheduled
            ended += given.ended
            if given.last_row is None:
                return scheduled, ended
            after_row = given.last_row

    def _check(self, most: int) -> tuple[int, bool]:
        """(quarantined, whether there are more to look at) of the next ``most`` triggers."""
        quarantined = looked = 0
        while self._unchecked and looked < most:
            look = partial(self._unchecked[0], self._checked_row)
            found = self._database.read(look)
            if found.faults:
                quarantined += self._database.write("engine.quarantine", partial(_quarantine, look=look))
            looked += found.looked_at
            if found.last_row is None:
                self._unchecked.pop(0)
            self._checked_row = found.last_row or 0
        return quarantined, bool(self._unchecked)

    def _check_on(self, _expected_at: datetime) -> datetime | None:
        _, is_more = self._check(_CHUNK)
        return self._clock.now() if is_more else None
