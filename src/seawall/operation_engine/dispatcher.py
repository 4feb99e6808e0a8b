# SPDX-License-Identifier: Apache-2.0
"""``Dispatcher``: lets the runs that are queued be carried out by this process (M8-M10, I3, I4).

One thread takes turns. A turn is one transaction: it records the outcomes that have come in, extends leases,
writes down progress and logs, takes over what others left, and claims as many runs as the executor has room
for; then the claimed ones are submitted. Many outcomes and claims share one commit.

If the process dies before a turn's commit, its outcomes are not recorded and the runs are resumed by whoever
takes them over; if it dies after, the claimed ones are taken over when their leases end.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

from seawall.core.errors import StateError
from seawall.db import events, runs, services
from seawall.db.runs import ClaimedRun, Held, Outcome
from seawall.operation_engine import outcomes
from seawall.operation_engine.context import RunContext
from seawall.runtime.logging import get_logger
from seawall.runtime.wakeup import Wakeup
from seawall.sdk.clock import Clock
from seawall.sdk.executor import DoorbellExecutor, Executor, RunTask, WaitingExecutor
from seawall.sdk.failpoints import failpoint
from seawall.sdk.operation import Json, Operation, Protection

if TYPE_CHECKING:
    from datetime import datetime

    from seawall.db.session import Database, Tx
    from seawall.runtime.registry import Plugins

log = get_logger(__name__)

# How soon a cancel or a timeout is noticed while something runs.
_WATCH_S = 0.25
_FLUSH_S = 1.0
_BACK_OFF_S = 1.0
# Runs that end within a turn let the next one claim twice as many, up to so many times the executor's room.
_MOST_AHEAD = 32
# What was claimed ahead and has not begun after so long is handed back.
_AHEAD_S = 1.0
_Line = tuple[int, "datetime", str, str]


class _FiresError(Exception):
    """This turn has to be written as if no other write ran at the same time; nothing is written yet."""


@dataclass(slots=True)
class _Running:
    """A run that this process holds, from its claim until its outcome is recorded."""

    claimed: ClaimedRun
    context: RunContext
    lock: threading.Lock = field(default_factory=threading.Lock)
    is_begun: bool = False
    is_extra: bool = False
    """Claimed ahead of the executor's room, because runs end faster than turns can be written."""
    is_given_up: bool = False
    """Claimed ahead, but others take longer than it seemed: it goes back to whoever has room."""
    is_told: bool = False
    """Whether the executor has been told to stop it."""

    @property
    def key(self) -> tuple[int, int]:
        return self.claimed.row, self.claimed.fence

    def begin(self) -> bool:
        """True once: an executor may deliver a task twice (I3)."""
        with self.lock:
            if self.is_begun:
                return False
            self.is_begun = True
            return True


@dataclass(slots=True)
class _Turn:
    """What one transaction has to write, and what came of it."""

    ended: list[tuple[_Running, Outcome | None]]
    progress: dict[int, tuple[int, Json]] = field(default_factory=dict)
    lines: list[_Line] = field(default_factory=list)
    held: list[tuple[int, int]] = field(default_factory=list)
    """Whose leases are extended."""
    is_reaping: bool = False
    limit: int = 0
    room: int = 0
    """Of the limit, how many could start at once."""
    waiting_limit: int = 0
    """How many of ``async_types`` besides, which all start at once."""
    async_types: frozenset[str] = frozenset()
    hand_back: list[tuple[int, int]] = field(default_factory=list)
    # --- answers
    lost: list[Outcome] = field(default_factory=list)
    extended: list[Held] = field(default_factory=list)
    settled: int = 0
    """How many runs that nobody worked on."""
    claimed: list[ClaimedRun] = field(default_factory=list)
    waiting: int = 0
    """How many of the claimed, the first ones, are of ``async_types``."""
    steps: dict[int, dict[str, Json]] = field(default_factory=dict)

    @property
    def is_empty(self) -> bool:
        has_work = self.ended or self.progress or self.lines or self.held or self.hand_back
        return not (has_work or self.is_reaping or self.is_claiming)

    @property
    def is_claiming(self) -> bool:
        return self.limit > 0 or self.waiting_limit > 0


class Dispatcher:
    """Claims runs for one host and one executor. ``start`` once, ``stop`` once."""

    def __init__(
        self,
        database: Database,
        *,
        clock: Clock,
        wakeup: Wakeup,
        operations: Plugins[Operation],
        executor: Executor,
        protection: Protection,
        host: str,
        lease_s: float,
        heartbeat_s: float,
        poll_s: float,
    ) -> None:
        self._database = database
        self._clock = clock
        self._wakeup = wakeup
        self._operations = operations
        self._executor = executor
        self._doorbells = executor if isinstance(executor, DoorbellExecutor) else None
        self._is_rung = False
        self._is_serial = False
        self._waiting_executor = executor if isinstance(executor, WaitingExecutor) else None
        self._protection = protection
        self._host = host
        self._lease_s = lease_s
        self._heartbeat_s = heartbeat_s
        self._poll_s = poll_s
        self._service_row = 0
        self._event = threading.Event()
        self._lock = threading.Lock()
        self._running: dict[int, _Running] = {}
        self._ended: list[tuple[_Running, Outcome | None]] = []
        self._is_draining = False
        self._is_ending = False
        self._is_enabled = True
        self._failures = 0
        self._ahead = 1
        self._is_full = False
        self._extra_at = 0.0
        self._renew_at = self._flush_at = self._reap_at = self._watch_at = self._claim_at = 0.0
        self._thread = threading.Thread(target=self._loop, name="dispatcher", daemon=True)

    # --- start and stop ----------------------------------------------------------------------

    def start(self, service_id: int) -> None:
        """Queue again what the former process of this service had claimed, and begin (M4)."""
        self._service_row = service_id
        self._database.write("runs.take_back", lambda tx: runs.take_back(tx, service_row=service_id))
        self._executor.on_free(self._event.set)
        self._wakeup.subscribe(self._event)
        self._event.set()
        self._thread.start()
        if self._doorbells is not None:
            self._doorbells.listen(self._hear_doorbell)

    def stop(self, grace_s: float) -> None:
        """Claim no more, let what runs end within ``grace_s``, hand the rest back. May be called twice.

        If the process dies here, the leases of what ran end by themselves.
        """
        self._is_draining = True
        left = self._executor.shutdown(grace_s=grace_s)
        for running in self._holding():
            running.context.hand_back()
        if left:
            log.warning("runs are handed back: they did not end within the grace period", run_ids=left)
        self._is_ending = True
        self._event.set()
        if self._thread.is_alive():
            self._thread.join()
        self._wakeup.unsubscribe(self._event)

    @property
    def running(self) -> int:
        """How many runs this process holds now."""
        return len(self._running)

    @property
    def failures(self) -> int:
        """How many turns in a row could not be written; 0 when it is well."""
        return self._failures

    # --- the thread --------------------------------------------------------------------------

    def _loop(self) -> None:
        while not self._is_ending:
            is_woken = self._clock.wait(self._event, _WATCH_S if self._running else self._poll_s)
            self._event.clear()
            self._guarded(lambda woken=is_woken: self._go_on(woken))  # type: ignore[misc]  # bound now
        self._guarded(self._hand_over)

    def _guarded(self, act: Callable[[], None]) -> None:
        try:
            act()
        except Exception:  # this thread is the heart of the process: it must go on (I4)
            self._failures += 1
            log.exception("a turn of the dispatcher failed and is repeated", failures=self._failures)
            if not self._is_ending:
                # Not the shared event: what wakes it may be what fails.
                self._clock.wait(threading.Event(), _BACK_OFF_S)
                self._event.set()
        else:
            self._failures = 0

    def _go_on(self, is_woken: bool) -> None:
        now = self._clock.monotonic()
        if self._running and now >= self._watch_at:
            self._watch_at = now + _WATCH_S
            self._watch()
        turn = self._plan(now, is_woken)
        if not turn.is_empty:
            self._take(turn, now)

    def _plan(self, now: float, is_woken: bool) -> _Turn:
        with self._lock:
            ended, self._ended = self._ended, []
        turn = _Turn(ended)
        for running, outcome in ended:
            self._collect(turn, running)
            if outcome is None and (self._is_draining or running.is_given_up):
                # It stopped because it is handed back; where it was taken over this does nothing.
                turn.hand_back.append(running.key)
        if now >= self._flush_at:
            self._flush_at = now + _FLUSH_S
            for running in self._holding():
                self._collect(turn, running)
        if now >= self._renew_at:
            self._renew_at = now + self._heartbeat_s
            turn.held = [running.key for running in self._holding()]
        if now >= self._reap_at:
            self._reap_at = now + self._poll_s
            turn.is_reaping = True
        if not self._is_draining and self._may_claim(turn, now, is_woken):
            turn.room = self._executor.capacity()
            has_all_ended = len(ended) == len(self._running)
            self._ahead = min(self._ahead * 2, _MOST_AHEAD) if self._is_full and has_all_ended else 1
            turn.limit = turn.room * self._ahead
            if self._waiting_executor is not None:
                turn.async_types = outcomes.async_types(self._operations)
                turn.waiting_limit = self._waiting_executor.waiting_capacity() if turn.async_types else 0
        return turn

    def _may_claim(self, turn: _Turn, now: float, is_woken: bool) -> bool:
        """With doorbells: when one rang, when something ended here, and now and then."""
        if self._doorbells is None or not self._doorbells.is_listening:
            return is_woken or bool(turn.ended) or turn.is_reaping
        is_rung, self._is_rung = self._is_rung, False
        is_time = now >= self._claim_at
        if is_rung or is_time:
            self._claim_at = now + self._doorbells.look_every_s
        return is_rung or is_time or bool(turn.ended)

    def _hear_doorbell(self) -> None:
        self._is_rung = True
        self._event.set()

    def _collect(self, turn: _Turn, running: _Running) -> None:
        row, fence = running.key
        if (progress := running.context.take_progress()) is not None:
            turn.progress[row] = (fence, progress)
        turn.lines += running.context.take_lines()

    def _take(self, turn: _Turn, now: float) -> None:
        """Write the turn, then act on what came of it."""
        try:
            self._write_turn(turn)
        except Exception:  # whatever it was: nothing was written, so all of it is kept for the next turn
            self._put_back(turn)
            raise
        for running, outcome in turn.ended:
            if self._running.get(running.claimed.row) is running:
                del self._running[running.claimed.row]
            if outcome in turn.lost:
                log.warning("an outcome came too late: the run was taken over", run_id=running.claimed.id)
        if turn.ended:
            failpoint("runs.outcome.after_commit")
        if turn.hand_back:
            failpoint("runs.hand_back.after_commit")
            self._wakeup.notify()
        if turn.settled:
            log.info("runs that nobody worked on were settled", runs=turn.settled)
            # What was taken over waits for no doorbell.
            self._hear_doorbell()
        for held in turn.extended:
            self._hear(held, lease_until=now + self._lease_s)
        if turn.limit:
            self._is_full = len(turn.claimed) - turn.waiting == turn.limit
        if turn.claimed:
            failpoint("runs.claim.after_commit")
            self._submit(turn, now)

    def _write_turn(self, turn: _Turn) -> None:
        """Beside the turns of other processes, unless ends are recorded that fire other operations: that is
        decided upon more than the rows that a turn locks."""
        if not self._is_serial:
            try:
                self._database.write("runs.turn", lambda tx: self._write_beside(tx, turn), locks_rows=True)
                return
            except _FiresError:
                self._is_serial = True
        self._database.write("runs.turn", lambda tx: self._write(tx, turn))
        if turn.is_reaping:
            self._is_serial = self._database.read(events.is_watched)

    def _write_beside(self, tx: Tx, turn: _Turn) -> None:
        if (turn.ended or turn.is_reaping) and events.is_watched(tx.connection):
            raise _FiresError
        self._write(tx, turn)

    def _write(self, tx: Tx, turn: _Turn) -> None:
        lease_until = tx.now + timedelta(seconds=self._lease_s)
        runs.add_log(tx, turn.lines)
        runs.set_progress(tx, turn.progress)
        recorded = [outcome for _, outcome in turn.ended if outcome is not None]
        if recorded:
            turn.lost = runs.record(tx, recorded)
            failpoint("runs.outcome.before_commit")
        if turn.hand_back:
            runs.hand_back(tx, turn.hand_back)
            failpoint("runs.hand_back.before_commit")
        if turn.held:
            turn.extended = runs.extend(tx, turn.held, lease_until=lease_until)
        if turn.is_reaping:
            self._is_enabled = services.get(tx.connection, self._service_row).is_enabled
            turn.settled = runs.reap(tx, host=self._host)
        if turn.is_claiming and self._is_enabled:
            self._claim(tx, turn, lease_until)
            again = [one.row for one in turn.claimed if one.fence > 1]
            turn.steps = runs.steps(tx.connection, again) if again else {}
            if turn.claimed:
                failpoint("runs.claim.before_commit")

    def _claim(self, tx: Tx, turn: _Turn, lease_until: datetime) -> None:
        """Those of ``async_types`` come first, as ``_submit`` counts them."""
        claim = partial(
            runs.claim, tx, service_row=self._service_row, host=self._host, lease_until=lease_until
        )
        if self._waiting_executor is None:
            turn.claimed = claim(limit=turn.limit)
            return
        waiting = claim(limit=turn.waiting_limit, only=turn.async_types)
        turn.waiting = len(waiting)
        turn.claimed = waiting + claim(limit=turn.limit, never=turn.async_types)

    def _put_back(self, turn: _Turn) -> None:
        """Nothing was written: everything is kept for the next turn."""
        with self._lock:
            self._ended = turn.ended + self._ended
        for running in self._holding():
            row = running.claimed.row
            _, progress = turn.progress.get(row, (0, None))
            lines = [line for line in turn.lines if line[0] == row]
            running.context.put_back(progress, lines)
        if turn.held:
            self._renew_at = 0.0
        self._is_rung = self._is_rung or turn.is_claiming

    # --- one run -----------------------------------------------------------------------------

    def _submit(self, turn: _Turn, now: float) -> None:
        tasks: list[RunTask] = []
        for claimed in turn.claimed:
            context = RunContext(
                claimed,
                steps=turn.steps.get(claimed.row, {}),
                database=self._database,
                clock=self._clock,
                protection=self._protection,
                lease_until=now + self._lease_s,
            )
            running = _Running(claimed, context, is_extra=len(tasks) >= turn.waiting + turn.room)
            self._running[claimed.row] = running
            tasks.append(self._task(running, turn.async_types))
        self._extra_at = now + _AHEAD_S
        try:
            self._executor.submit(tasks)
        except StateError:
            # It was shut down meanwhile: what it has not taken is handed back at the end of ``stop``.
            log.info("the executor is shut down", runs=len(tasks))
        except Exception:  # noqa: BLE001 - one that cannot be submitted must not stop the others (M8)
            self._submit_each(tasks)

    def _submit_each(self, tasks: Sequence[RunTask]) -> None:
        """A task that was taken before the error is taken twice; the second call returns at once."""
        by_id = {running.claimed.id: running for running in self._holding()}
        for task in tasks:
            try:
                self._executor.submit([task])
            except Exception as error:  # noqa: BLE001 - recorded as this run's outcome (M8)
                running = by_id[task.run_id]
                if running.begin():
                    self._end(running, outcomes.not_submitted(running.claimed, error))

    def _task(self, running: _Running, async_types: frozenset[str]) -> RunTask:
        def call() -> None:
            if running.begin():
                self._end(running, outcomes.carry_out(self._operations, running.claimed, running.context))

        async def call_async() -> None:
            if running.begin():
                claimed, context = running.claimed, running.context
                self._end(running, await outcomes.carry_out_async(self._operations, claimed, context))

        is_async = running.claimed.operation_type in async_types
        coroutine = call_async if is_async else None
        return RunTask(running.claimed.id, call, running.context.stop, coroutine)

    def _end(self, running: _Running, outcome: Outcome | None) -> None:
        with self._lock:
            self._ended.append((running, outcome))
        self._event.set()

    # --- watching ----------------------------------------------------------------------------

    def _watch(self) -> None:
        """Notice cancels and time-outs of what runs here. Take-overs are noticed when leases are extended,
        and by whatever the run itself commits."""
        holding = self._holding()
        must_stop = partial(runs.cancelling, service_row=self._service_row)
        for row, fence in self._database.read(must_stop):
            self._hear(Held(row, fence, is_mine=True, is_cancelling=True))
        for running in holding:
            if running.context.look() is not None:
                self._tell(running)
            elif running.is_extra and self._clock.monotonic() >= self._extra_at and running.begin():
                # The executor's call returns at once from now on.
                running.is_given_up = True
                self._end(running, None)

    def _hear(self, held: Held, lease_until: float | None = None) -> None:
        running = self._running.get(held.row)
        if running is None or running.claimed.fence != held.fence:
            return
        if not held.is_mine:
            running.context.lose_lease()
        elif held.is_cancelling:
            running.context.cancel()
        if lease_until is not None and held.is_mine:
            running.context.renewed(lease_until)
        if running.context.why is not None:
            self._tell(running)

    def _tell(self, running: _Running) -> None:
        if not running.is_told:
            running.is_told = True
            self._executor.cancel(running.claimed.id)

    def _holding(self) -> list[_Running]:
        return list(self._running.values())

    # --- the end -----------------------------------------------------------------------------

    def _hand_over(self) -> None:
        with self._lock:
            ended, self._ended = self._ended, []
        turn = _Turn(ended)
        done = {running.claimed.row for running, outcome in ended if outcome is not None}
        for running in self._holding():
            self._collect(turn, running)
            if running.claimed.row not in done:
                turn.hand_back.append(running.key)
        if not turn.is_empty:
            self._take(turn, self._clock.monotonic())
        self._running.clear()
