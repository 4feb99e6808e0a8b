# SPDX-License-Identifier: Apache-2.0
"""``CleanUp``: passes over all targets; one that fails leaves a record and stops no other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
        """What fails, a target or what one of its runs was to do, and why; empty when all is well."""

    def run(self, _expected_at: datetime) -> datetime:
        """One pass; when the next one is due."""
        for target in self._targets:
            try:
                failing = self._clean(target)
            except Exception as error:  # one target that fails must not stop the others (M6)
                log.error("a clean-up failed and is repeated", target=target.name, exc_info=error)
                self._fails(target.name, safe_text(error))
            else:
                if failing is not None:
                    self._went_well(target, failing)
        return self._clock.now() + self._interval

    def _clean(self, target: Target) -> dict[str, str] | None:
        """What its runs have failed at; None when another engine cleans it."""
        cleaned = runs = position = 0
        failing: dict[str, str] = {}
        for _ in range(_MOST_CHUNKS):
            done = self._database.write("cleanup.target", self._chunk(target, position))
            if done is None:
                return None
            cleaned, runs = cleaned + done.cleaned, runs + done.runs
            failing |= {f"{target.name}: {what}": reason for what, reason in done.failing.items()}
            if done.next_position is None:
                break
            position = done.next_position
        if cleaned:
            log.info("cleaned up", target=target.name, items=cleaned)
        if runs:
            log.info("runs were made that clean up", target=target.name, runs=runs)
        return failing

    def _chunk(self, target: Target, position: int) -> Callable[[Tx], Done | None]:
        def call(tx: Tx) -> Done | None:
            until = tx.now + 2 * self._interval
            if not leases.acquire(tx, f"cleanup:{target.name}", self.holder, until):
                return None
            done = target.clean(tx, position)
            if done.runs:
                tx.after_commit(self._wakeup.notify)
            return done

        return call

    def _fails(self, name: str, reason: str) -> None:
        """Recorded once, when it begins to fail."""
        is_new = name not in self.faults
        self.faults[name] = reason
        if is_new:
            self._record("fail", name, reason)

    def _went_well(self, target: Target, failing: Mapping[str, str]) -> None:
        for name, reason in failing.items():
            if name not in self.faults:
                log.error(
                    "a run that was to clean up failed; it is tried again later", what=name, reason=reason
                )
            self._fails(name, reason)
        mine = [name for name in self.faults if name == target.name or name.startswith(f"{target.name}: ")]
        for name in mine:
            if name not in failing:
                self._record("recover", name, self.faults.pop(name))

    def _record(self, action: str, name: str, reason: str) -> None:
        try:
            self._database.write(
                "cleanup.record",
                lambda tx: audit.record(tx, None, action, "clean_up", name, {"reason": reason}),
            )
        except Exception:  # the database itself may be what fails; ``faults`` and the log still say so
            log.exception("the failure of a clean-up could not be written down", what=name)
