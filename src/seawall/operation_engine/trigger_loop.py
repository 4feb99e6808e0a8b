# SPDX-License-Identifier: Apache-2.0
"""``TriggerLoop``: one function, called at the times that it names itself (M5).

    wait until the first run time (not at all if it is past)
    -> call the function with the expected time -> it answers the next time -> wait again

It ends when there is no next time, or when it is stopped. The claim loop and the clean-up loop are two of
them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from seawall.runtime.logging import get_logger
from seawall.runtime.wakeup import Wakeup
from seawall.sdk.clock import Clock

log = get_logger(__name__)

# Waiting counts on a clock that only runs forward; a wall clock that was set is noticed this soon.
_LONGEST_WAIT_S = 1.0
_FIRST_BACK_OFF_S = 1.0
_LONGEST_BACK_OFF_S = 60.0


@dataclass(frozen=True, slots=True)
class LoopHealth:
    """How a loop is, for the health page and ``doctor``."""

    name: str
    is_running: bool
    next_run_at: datetime | None
    failures: int = 0
    """How often it has ended unexpectedly in a row; 0 when its last call went well."""
    last_error: str | None = None
    last_failed_at: datetime | None = None


class TriggerLoop:
    """Calls ``function`` in a thread of its own. ``start`` it once; ``stop`` may be repeated."""

    def __init__(
        self,
        name: str,
        function: Callable[[datetime], datetime | None],
        *,
        first_run_at: datetime,
        clock: Clock,
        wakeup: Wakeup | None = None,
        on_done: Callable[[Exception | None], None] | None = None,
    ) -> None:
        """``wakeup`` makes it call at once, with the present as expected time.

        ``on_done`` notices each end: with None when there was no next time or it was stopped, with the error
        when the function raised; then the loop is restarted after a back-off, as often as it takes.
        """
        self._name = name
        self._function = function
        self._clock = clock
        self._wakeup = wakeup
        self._on_done = on_done
        self._event = threading.Event()
        self._stopping = threading.Event()
        self._health = LoopHealth(name, is_running=False, next_run_at=first_run_at)
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    @property
    def health(self) -> LoopHealth:
        return self._health

    def start(self) -> None:
        if self._wakeup is not None:
            self._wakeup.subscribe(self._event)
        self._health = replace(self._health, is_running=True)
        self._thread.start()

    def stop(self, *, timeout_s: float | None = None) -> bool:
        """Call the function no more; whether it has ended within ``timeout_s`` (None: wait for it)."""
        self._stopping.set()
        self._event.set()
        if self._wakeup is not None:
            self._wakeup.unsubscribe(self._event)
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        next_at = self._health.next_run_at
        while next_at is not None:
            expected_at = self._wait_until(next_at)
            if expected_at is None:
                break
            try:
                next_at = self._function(expected_at)
            except Exception as error:  # noqa: BLE001 - an unexpected end: alarmed, recorded and restarted
                next_at = self._restart_at(error)
            else:
                self._health = LoopHealth(self._name, is_running=True, next_run_at=next_at)
        self._health = replace(self._health, is_running=False)
        self._notice(None)

    def _wait_until(self, at: datetime) -> datetime | None:
        """The expected time once it has come, or the present when woken; None when stopped."""
        while not self._stopping.is_set():
            now = self._clock.now()
            if at <= now:
                self._event.clear()
                return None if self._stopping.is_set() else at
            remaining_s = (at - now).total_seconds()
            if self._clock.wait(self._event, min(remaining_s, _LONGEST_WAIT_S)):
                self._event.clear()
                # After an error a wake-up does not cut the back-off short.
                if not self._stopping.is_set() and self._health.failures == 0:
                    return min(at, max(now, self._clock.now()))
        return None

    def _restart_at(self, error: Exception) -> datetime:
        failures = self._health.failures + 1
        back_off_s = min(_FIRST_BACK_OFF_S * 2 ** min(failures - 1, 10), _LONGEST_BACK_OFF_S)
        now = self._clock.now()
        at = now + timedelta(seconds=back_off_s)
        log.error(
            "a loop ended unexpectedly and is restarted",
            loop=self._name,
            failures=failures,
            restarted_in_s=back_off_s,
            exc_info=error,
        )
        self._health = LoopHealth(self._name, True, at, failures, f"{type(error).__name__}: {error}", now)
        self._notice(error)
        return at

    def _notice(self, error: Exception | None) -> None:
        if self._on_done is not None:
            try:
                self._on_done(error)
            except Exception:  # a listener's fault must not end the loop it listens to
                log.exception("the end of a loop could not be noticed", loop=self._name)
