# SPDX-License-Identifier: Apache-2.0
"""Transactions: many readers, and one writer thread a process that commits in groups.

SQLite: WAL, synchronous FULL. Every write transaction is BEGIN IMMEDIATE and goes through the one writer
thread, which puts all that waits into one commit (one fsync): each piece of work runs inside its own
savepoint, so that one that raises undoes only itself. Work is answered only after the commit.

A piece of work has a name, which is also its pair of failpoints: ``<name>.before_commit`` and
``<name>.after_commit``. If the process dies before the commit, nothing of it happened; after it, all of it
did, and whoever waited for the answer finds it in the rows.
"""

from __future__ import annotations

import queue
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Generic, TypeVar

import orjson
import sqlalchemy as sa
from sqlalchemy.exc import OperationalError

from seawall.core.errors import DatabaseUnavailableError, StateError
from seawall.sdk.clock import Clock
from seawall.sdk.failpoints import failpoint

T = TypeVar("T")

# For the layers above, which name it in their types but never import the library themselves.
Connection = sa.Connection

# How many pieces of work share one commit at the most: bounds how long the first waits for the last.
GROUP_LIMIT = 512
# How long a statement waits for another process's write transaction before it fails.
BUSY_TIMEOUT_MS = 30_000


@dataclass(slots=True)
class Tx:
    """One write transaction: its connection, and the one instant it works at (I2)."""

    connection: sa.Connection
    now: datetime
    _after: list[Callable[[], None]] = field(default_factory=list)

    def after_commit(self, callback: Callable[[], None]) -> None:
        """Call this once the transaction is durable (wake-ups); never called if it is rolled back."""
        self._after.append(callback)


@dataclass(slots=True)
class _Work(Generic[T]):
    name: str
    call: Callable[[Tx], T]
    future: Future[T]


def _dumps(value: Any) -> str:
    return orjson.dumps(value).decode()


class Database:
    """The database of one process. ``close`` ends the writer; later writes raise ``StateError``."""

    def __init__(self, path: Path | None, clock: Clock, *, busy_timeout_ms: int = BUSY_TIMEOUT_MS) -> None:
        """``path`` is the SQLite file; None is one in memory, private to this object."""
        self.clock = clock
        self._closed = False
        url = sa.URL.create("sqlite", database=str(path) if path is not None else ":memory:")
        self._engine = _engine(url, busy_timeout_ms, in_memory=path is None)
        self._single = threading.RLock() if path is None else None
        self._queue: queue.SimpleQueue[_Work[Any] | None] = queue.SimpleQueue()
        self._writer = threading.Thread(target=self._write_loop, name="database-writer", daemon=True)
        self._writer.start()

    @property
    def engine(self) -> sa.Engine:
        """For migrations."""
        return self._engine

    @contextmanager
    def connection(self) -> Iterator[sa.Connection]:
        """A connection for reads: one consistent view from its first statement on."""
        try:
            with self._open() as connection:
                connection.exec_driver_sql("BEGIN")
                try:
                    yield connection
                finally:
                    connection.exec_driver_sql("ROLLBACK")
        except OperationalError as error:
            raise DatabaseUnavailableError(f"the database does not answer: {error.orig}") from error

    def read(self, call: Callable[[sa.Connection], T]) -> T:
        """Run a function of reads."""
        with self.connection() as connection:
            return call(connection)

    def submit(self, name: str, call: Callable[[Tx], T]) -> Future[T]:
        """Queue a write; the future is answered after its commit, or holds what ``call`` raised."""
        if self._closed:
            raise StateError("the database of this process is closed")
        future: Future[T] = Future()
        self._queue.put(_Work(name, call, future))
        return future

    def write(self, name: str, call: Callable[[Tx], T]) -> T:
        """Run a write transaction and wait for its commit. Not from inside another write."""
        if threading.current_thread() is self._writer:
            raise StateError(f"write {name!r} inside a write: use the transaction at hand")
        return self.submit(name, call).result()

    def close(self) -> None:
        """Finish what is queued, then release everything. May be called twice."""
        if not self._closed:
            self._closed = True
            self._queue.put(None)
            self._writer.join()
            self._engine.dispose()

    def _write_loop(self) -> None:
        while (first := self._queue.get()) is not None:
            batch = [first]
            ended = False
            while len(batch) < GROUP_LIMIT:
                try:
                    more = self._queue.get_nowait()
                except queue.Empty:
                    break
                if more is None:
                    ended = True
                    break
                batch.append(more)
            self._commit(batch)
            if ended:
                return

    def _commit(self, batch: list[_Work[Any]]) -> None:
        """One transaction for the whole batch; every future is answered whatever happens."""
        answers: list[tuple[_Work[Any], Any, BaseException | None, Tx | None]] = []
        try:
            with self._open() as connection:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
                try:
                    for work in batch:
                        answers.append(self._run(connection, work))
                    for work, _, error, _ in answers:
                        if error is None:
                            failpoint(f"{work.name}.before_commit")
                    connection.exec_driver_sql("COMMIT")
                except BaseException:
                    connection.exec_driver_sql("ROLLBACK")
                    raise
        except OperationalError as error:
            failure = DatabaseUnavailableError(f"the database does not take writes: {error.orig}")
            failure.__cause__ = error
            for work in batch:
                work.future.set_exception(failure)
            return
        except BaseException as error:  # noqa: BLE001 - handed to every waiting caller, who raises it
            for work in batch:
                work.future.set_exception(error)
            return
        for work, answer, error_of_work, tx in answers:
            if error_of_work is not None:
                work.future.set_exception(error_of_work)
                continue
            failpoint(f"{work.name}.after_commit")
            work.future.set_result(answer)
            for callback in tx._after if tx is not None else ():
                callback()

    def _run(
        self, connection: sa.Connection, work: _Work[Any]
    ) -> tuple[_Work[Any], Any, BaseException | None, Tx | None]:
        tx = Tx(connection, self.clock.now())
        connection.exec_driver_sql("SAVEPOINT work")
        try:
            answer = work.call(tx)
        except BaseException as error:  # the caller's own error, raised where it waits
            if _is_of_the_database(error):
                raise
            connection.exec_driver_sql("ROLLBACK TO work")
            connection.exec_driver_sql("RELEASE work")
            return work, None, error, None
        connection.exec_driver_sql("RELEASE work")
        return work, answer, None, tx

    @contextmanager
    def _open(self) -> Iterator[sa.Connection]:
        if self._single is not None:
            with self._single, self._engine.connect() as connection:
                yield connection
        else:
            with self._engine.connect() as connection:
                yield connection


def _is_of_the_database(error: BaseException) -> bool:
    """Whether the whole transaction is lost (full, locked, unreadable), not one wrong statement."""
    if not isinstance(error, OperationalError):
        return False
    code = getattr(error.orig, "sqlite_errorcode", None)
    return code is None or code & 0xFF != sqlite3.SQLITE_ERROR


def _engine(url: sa.URL, busy_timeout_ms: int, *, in_memory: bool) -> sa.Engine:
    engine = sa.create_engine(
        url,
        json_serializer=_dumps,
        json_deserializer=orjson.loads,
        connect_args={"isolation_level": None, "timeout": busy_timeout_ms / 1000, "check_same_thread": False},
        poolclass=sa.pool.StaticPool if in_memory else sa.pool.QueuePool,
        # Transactions are begun by the statements above, never by the driver.
        isolation_level="AUTOCOMMIT",
    )

    @sa.event.listens_for(engine, "connect")
    def _set_up(connection: Any, _record: Any) -> None:
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute("PRAGMA synchronous = FULL")
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.execute(f"PRAGMA busy_timeout = {busy_timeout_ms}")
        cursor.close()

    return engine
