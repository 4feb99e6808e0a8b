# SPDX-License-Identifier: Apache-2.0
"""Transactions: many readers, and writer threads that commit in groups; the same on both databases.

All writes that wait at the same time share one commit: each piece of work runs inside its own savepoint, so
that one that raises undoes only itself. Work is answered only after the commit. SQLite has one writer thread
a process; PostgreSQL has one more lane beside it, for writes that lock their rows themselves.

A piece of work has a name, which is also its pair of failpoints: ``<name>.before_commit`` and
``<name>.after_commit``. If the process dies before the commit, nothing of it happened; after it, all of it
did, and whoever waited for the answer finds it in the rows. The same holds for a connection that is lost
during the commit: the caller is told that the outcome is unknown, and it is not tried again by itself.

On PostgreSQL a piece of work **may be called more than once** before it is answered (another process came in
between): it must change nothing but rows.
"""

from __future__ import annotations

import queue
import random
import secrets
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Generic, TypeVar

import sqlalchemy as sa

from seawall.core.errors import StateError
from seawall.db.sqlite import SqliteStore
from seawall.db.store import Fault, Mode, Store
from seawall.runtime.database_url import DatabaseUrl
from seawall.runtime.logging import get_logger
from seawall.sdk.clock import Clock
from seawall.sdk.failpoints import failpoint

T = TypeVar("T")
log = get_logger(__name__)

# For the layers above, which name it in their types but never import the library themselves.
Connection = sa.Connection

# How many pieces of work share one commit at the most: bounds how long the first waits for the last.
GROUP_LIMIT = 512
# How long a statement waits for another process's write transaction before it fails.
BUSY_TIMEOUT_MS = 30_000
# How often a transaction is tried in which another one came in between; how often one that found a key taken.
CONFLICT_TRIES = 12
DUPLICATE_TRIES = 2
# The first pause between tries is up to this; each is up to twice the last, until the limit.
_PAUSE_S = 0.002
_PAUSE_LIMIT_S = 0.25


@dataclass(slots=True)
class Tx:
    """One write transaction: its connection, and the one instant it works at (I2)."""

    connection: sa.Connection
    now: datetime
    _after: list[Callable[[], None]] = field(default_factory=list)

    def after_commit(self, callback: Callable[[], None]) -> None:
        """Call this once the transaction is durable (wake-ups); never called if it is rolled back.

        Other processes on the same PostgreSQL are woken too, by the same commit.
        """
        self._after.append(callback)


@dataclass(slots=True)
class _Work(Generic[T]):
    name: str
    call: Callable[[Tx], T]
    future: Future[T]


@dataclass(slots=True)
class _Done:
    """A piece of work that was called: its answer, or what it raised."""

    work: _Work[Any]
    tx: Tx
    answer: Any = None
    error: BaseException | None = None


class _AgainError(Exception):
    """Nothing was done, and trying again may help."""

    def __init__(self, cause: BaseException, tries: int) -> None:
        super().__init__(str(cause))
        self.cause = cause
        self.tries = tries


class Database:
    """The database of one process. ``close`` ends the writers; later calls raise ``StateError``."""

    def __init__(
        self,
        where: Path | DatabaseUrl | None,
        clock: Clock,
        *,
        busy_timeout_ms: int = BUSY_TIMEOUT_MS,
        now: Callable[[sa.Connection], datetime] | None = None,
    ) -> None:
        """``where`` is a SQLite file or PostgreSQL; None is SQLite in memory, private to this object.

        ``now`` replaces the clock of PostgreSQL (tests: jumps, a fake clock); SQLite works at ``clock``.
        Nothing is connected yet.
        """
        self.clock = clock
        self.sender = secrets.token_hex(8)
        """What this process's own wake-ups are marked with."""
        self.url = where if isinstance(where, DatabaseUrl) else None
        self._store = _store(where, clock, busy_timeout_ms, now)
        self._closed = False
        self._closing = threading.Lock()
        self._hurry = threading.Event()
        self._serial: queue.SimpleQueue[_Work[Any] | None] = queue.SimpleQueue()
        self._rows = self._serial if self._store.row_writers == 0 else queue.SimpleQueue()
        self._writers = [self._writer(self._serial, Mode.SERIAL)]
        self._writers += [self._writer(self._rows, Mode.ROWS) for _ in range(self._store.row_writers)]

    def _writer(self, lane: queue.SimpleQueue[_Work[Any] | None], mode: Mode) -> threading.Thread:
        thread = threading.Thread(
            target=self._write_loop, args=(lane, mode), name="database-writer", daemon=True
        )
        thread.start()
        return thread

    @property
    def engine(self) -> sa.Engine:
        """For tests that make tables without migrations."""
        return self._store.engine

    @property
    def store(self) -> Store:
        """For ``notify``."""
        return self._store

    def now(self, connection: sa.Connection) -> datetime:
        """The instant by the clock that decides: the server's on PostgreSQL, else this machine's."""
        return self._store.now(connection)

    @contextmanager
    def connection(self) -> Iterator[sa.Connection]:
        """A connection for reads: one consistent view from its first statement on."""
        if self._closed:
            raise StateError("the database of this process is closed")
        with self._translated("does not answer"), self._begun(Mode.READ) as connection:
            try:
                yield connection
            finally:
                self._store.rollback(connection)

    def read(self, call: Callable[[sa.Connection], T]) -> T:
        """Run a function of reads."""
        with self.connection() as connection:
            return call(connection)

    @contextmanager
    def exclusive(self, name: str) -> Iterator[sa.Connection]:
        """One transaction that changes tables; one process at a time. ``name`` is as in a write.

        If the process dies here, the former tables are as they were.
        """
        with self._translated("cannot be upgraded"), self._begun(Mode.EXCLUSIVE) as connection:
            try:
                yield connection
                failpoint(f"{name}.before_commit")
                connection.exec_driver_sql("COMMIT")
            except BaseException:
                self._store.rollback(connection)
                raise
            failpoint(f"{name}.after_commit")

    def submit(self, name: str, call: Callable[[Tx], T], *, locks_rows: bool = False) -> Future[T]:
        """Queue a write; the future is answered after its commit, or holds what ``call`` raised.

        ``locks_rows`` says that ``call`` decides only upon rows that it has locked or changes by
        compare-and-set: on PostgreSQL others then run beside it. Without, it is as if no other write ran at
        the same time.
        """
        future: Future[T] = Future()
        with self._closing:
            if self._closed:
                raise StateError("the database of this process is closed")
            (self._rows if locks_rows else self._serial).put(_Work(name, call, future))
        return future

    def write(self, name: str, call: Callable[[Tx], T], *, locks_rows: bool = False) -> T:
        """Run a write transaction and wait for its commit. Not from inside another write."""
        if threading.current_thread() in self._writers:
            raise StateError(f"write {name!r} inside a write: use the transaction at hand")
        return self.submit(name, call, locks_rows=locks_rows).result()

    def close(self) -> None:
        """Finish what is queued, then release everything. May be called twice."""
        with self._closing:
            if self._closed:
                return
            self._closed = True
            self._serial.put(None)
            for _ in range(self._store.row_writers):
                self._rows.put(None)
        self._hurry.set()
        for writer in self._writers:
            writer.join()
        self._store.engine.dispose()

    # --- the writer threads ----------------------------------------------------------------------

    def _write_loop(self, lane: queue.SimpleQueue[_Work[Any] | None], mode: Mode) -> None:
        while (first := lane.get()) is not None:
            group, is_ended = _gather(lane, first)
            # One that its caller has given up is not begun; from here on it cannot be given up any more.
            self._serve([work for work in group if work.future.set_running_or_notify_cancel()], mode)
            if is_ended:
                return

    def _serve(self, group: Sequence[_Work[Any]], mode: Mode) -> None:
        """Answer every future, whatever happens: as a group, or each alone where others came in between."""
        if len(group) > 1:
            try:
                self._commit(group, mode)
                return
            except _AgainError:
                pass
        for work in group:
            self._serve_alone(work, mode)

    def _serve_alone(self, work: _Work[Any], mode: Mode) -> None:
        tries = 0
        while True:
            try:
                self._commit([work], mode)
                return
            except _AgainError as again:
                tries += 1
                if tries >= again.tries:
                    what = f"did not get {work.name} done beside other writes in {tries} tries"
                    work.future.set_exception(self._failure(again.cause, what))
                    return
            self._hurry.wait(random.uniform(0, min(_PAUSE_S * 2**tries, _PAUSE_LIMIT_S)))

    def _commit(self, group: Sequence[_Work[Any]], mode: Mode) -> None:
        """One transaction. Either every future is answered, or ``_AgainError`` and none is."""
        if not group:
            return
        done: list[_Done] = []
        is_committing = False
        try:
            with self._begun(mode) as connection:
                try:
                    now = self._store.now(connection)
                    for work in group:
                        done.append(self._run(connection, work, now, is_alone=len(group) == 1))
                    good = [one for one in done if one.error is None]
                    for one in good:
                        failpoint(f"{one.work.name}.before_commit")
                    if any(one.tx._after for one in good):
                        self._store.wake(connection, self.sender)
                    if good:
                        is_committing = True
                        connection.exec_driver_sql("COMMIT")
                    else:
                        self._store.rollback(connection)
                except BaseException:
                    self._store.rollback(connection)
                    raise
        except BaseException as error:  # noqa: BLE001 - handed to every waiting caller, who raises it
            self._refuse(group, error, is_committing=is_committing)
            return
        for one in done:
            _answer(one)

    def _refuse(self, group: Sequence[_Work[Any]], error: BaseException, *, is_committing: bool) -> None:
        fault = self._store.judge(error)
        if fault in (Fault.CONFLICT, Fault.DUPLICATE):
            raise _AgainError(error, CONFLICT_TRIES if fault is Fault.CONFLICT else DUPLICATE_TRIES)
        what = "does not take writes"
        if is_committing and self.url is not None:
            what = "was lost during a commit, which may or may not have been made"
        failure = self._failure(error, what)
        for work in group:
            work.future.set_exception(failure)

    def _run(self, connection: sa.Connection, work: _Work[Any], now: datetime, *, is_alone: bool) -> _Done:
        """Call one piece. One that is alone needs no savepoint: its transaction is its own."""
        tx = Tx(connection, now)
        if not is_alone:
            connection.exec_driver_sql("SAVEPOINT work")
        try:
            answer = work.call(tx)
        except BaseException as error:  # the caller's own error, raised where it waits
            if self._store.judge(error) is not Fault.OWN:
                raise
            if not is_alone:
                connection.exec_driver_sql("ROLLBACK TO SAVEPOINT work")
                connection.exec_driver_sql("RELEASE SAVEPOINT work")
            return _Done(work, tx, error=error)
        if not is_alone:
            connection.exec_driver_sql("RELEASE SAVEPOINT work")
        return _Done(work, tx, answer)

    # --- connections -----------------------------------------------------------------------------

    @contextmanager
    def _begun(self, mode: Mode) -> Iterator[sa.Connection]:
        """A connection with a transaction begun. A stale one (the server was restarted) is replaced once."""
        for is_last in (False, True):
            with self._store.open() as connection:
                try:
                    self._store.begin(connection, mode)
                except sa.exc.DBAPIError as error:
                    if is_last or not error.connection_invalidated:
                        raise
                    continue
                yield connection
                return

    @contextmanager
    def _translated(self, what: str) -> Iterator[None]:
        try:
            yield
        except (sa.exc.DBAPIError, sa.exc.TimeoutError) as error:
            failure = self._failure(error, what)
            if failure is error:
                raise
            raise failure from error

    def _failure(self, error: BaseException, what: str) -> BaseException:
        failure = self._store.translate(error, what)
        if failure is None:
            return error
        failure.__cause__ = error
        return failure


def _gather(lane: queue.SimpleQueue[_Work[Any] | None], first: _Work[Any]) -> tuple[list[_Work[Any]], bool]:
    """All that waits, up to the limit of a group, and whether the end was among it."""
    group = [first]
    while len(group) < GROUP_LIMIT:
        try:
            more = lane.get_nowait()
        except queue.Empty:
            break
        if more is None:
            return group, True
        group.append(more)
    return group, False


def _answer(one: _Done) -> None:
    """Answer a piece after its commit. What fails here changes nothing about that it is durable."""
    if one.error is not None:
        one.work.future.set_exception(one.error)
        return
    try:
        failpoint(f"{one.work.name}.after_commit")
    except BaseException as error:  # noqa: BLE001 - only an armed failpoint; raised where the caller waits
        one.work.future.set_exception(error)
        return
    one.work.future.set_result(one.answer)
    for callback in one.tx._after:
        try:
            callback()
        except Exception:  # a wake-up of somebody else must not end the writer; the poll finds the rows
            log.exception("a callback after a commit failed", write=one.work.name)


def _store(
    where: Path | DatabaseUrl | None,
    clock: Clock,
    busy_timeout_ms: int,
    now: Callable[[sa.Connection], datetime] | None,
) -> Store:
    if not isinstance(where, DatabaseUrl):
        return SqliteStore(where, clock, busy_timeout_ms)
    # Imported here: an installation on SQLite does not load the driver.
    from seawall.db.postgresql import PostgresqlStore, server_now

    return PostgresqlStore(where, busy_timeout_ms, now or server_now)


def waking(notify: Callable[[], None], change: Callable[[Tx], T]) -> Callable[[Tx], T]:
    """The change; after its commit the loops that ``notify`` wakes look again."""

    def call(tx: Tx) -> T:
        answer = change(tx)
        tx.after_commit(notify)
        return answer

    return call
