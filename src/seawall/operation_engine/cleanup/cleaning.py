# SPDX-License-Identifier: Apache-2.0
"""``CleanUp``: passes over all targets; one that fails leaves a record and stops no other."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from seawall.db import audit, leases
from seawall.operation_engine.cleanup.targets import Done, Target, targets
from seawall.operation_engine.outcomes import safe_text
from seawall.runtime.logging import get_logger
from seawall.runtime.wakeup import Wakeup
from seawall.sdk.clock import Clock

if TYPE_CHECKING:
    from seawall.db.session import Database, Tx

log = get_logger(__name__)

# A target that goes on finding something is left for the next pass after so many transactions.
_MOST_CHUNKS = 100


class CleanUp:
    """The automatic clean-up (M6); its ``run`` is what a ``TriggerLoop`` calls.

    With several engines each target is cleaned by whoever holds its lease; it is held on until the next pass,
    so that the same one goes on with it while it lives.
    """

    def __init__(
        self,
        database: Database,
        *,
        clock: Clock,
        wakeup: Wakeup,
        interval_s: float,
        keep_runs_days: float,
        error_checkpoint_days: float,
        holder: str = "clean-up",
    ) -> None:
        self._database = database
        self._clock = clock
        self._wakeup = wakeup
        self._interval = timedelta(seconds=interval_s)
        self._targets = targets(
            keep_runs=timedelta(days=keep_runs_days), error_checkpoints=timedelta(days=error_checkpoint_days)
        )
        self.holder = holder
        self.faults: dict[str, str] = {}
        """Target -> why its last pass failed; empty when all is well."""

    def run(self, _expected_at: datetime) -> datetime:
        """One pass; when the next one is due."""
        for target in self._targets:
            try:
                cleaned = self._clean(target)
            except Exception as error:  # noqa: BLE001 - one target that fails must not stop the others (M6)
                self._failed(target, error)
            else:
                self._went_well(target, cleaned)
        return self._clock.now() + self._interval

    def _clean(self, target: Target) -> int:
        total = 0
        position = 0
        for _ in range(_MOST_CHUNKS):
            done = self._database.write("cleanup.target", self._chunk(target, position))
            if done is None:
                break
            total += done.cleaned
            if done.next_position is None:
                break
            position = done.next_position
        return total

    def _chunk(self, target: Target, position: int) -> Callable[[Tx], Done | None]:
        def call(tx: Tx) -> Done | None:
            until = tx.now + 2 * self._interval
            if not leases.acquire(tx, f"cleanup:{target.name}", self.holder, until):
                return None
            done = target.clean(tx, position)
            if done.has_new_runs:
                tx.after_commit(self._wakeup.notify)
            return done

        return call

    def _failed(self, target: Target, error: Exception) -> None:
        """Recorded once, when it begins to fail; the log says so each time."""
        reason = safe_text(error)
        log.error("a clean-up failed and is repeated", target=target.name, exc_info=error)
        is_new = target.name not in self.faults
        self.faults[target.name] = reason
        if is_new:
            self._record("fail", target, reason)

    def _went_well(self, target: Target, cleaned: int) -> None:
        if cleaned:
            log.info("cleaned up", target=target.name, items=cleaned)
        if (reason := self.faults.pop(target.name, None)) is not None:
            self._record("recover", target, reason)

    def _record(self, action: str, target: Target, reason: str) -> None:
        try:
            self._database.write(
                "cleanup.record",
                lambda tx: audit.record(tx, None, action, "clean_up", target.name, {"reason": reason}),
            )
        except Exception:  # the database itself may be what fails; ``faults`` and the log still say so
            log.exception("the failure of a clean-up could not be written down", target=target.name)
