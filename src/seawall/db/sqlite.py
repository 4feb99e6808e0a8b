# SPDX-License-Identifier: Apache-2.0
"""SQLite: one file in the data folder, WAL, synchronous FULL, every write BEGIN IMMEDIATE."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson
import sqlalchemy as sa
from sqlalchemy.exc import DatabaseError, OperationalError

from seawall.core.errors import DamagedError, DatabaseUnavailableError, SeawallError
from seawall.db.store import Fault, Mode, dumps
from seawall.sdk.clock import Clock

_DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


class SqliteStore:
    """A file, or with no path a database in memory that is private to this object."""

    row_writers = 0

    def __init__(self, path: Path | None, clock: Clock, busy_timeout_ms: int) -> None:
        url = sa.URL.create("sqlite", database=str(path) if path is not None else ":memory:")
        self.engine = _engine(url, busy_timeout_ms, in_memory=path is None)
        self._clock = clock
        self._single = threading.RLock() if path is None else None

    @contextmanager
    def open(self) -> Iterator[sa.Connection]:
        if self._single is not None:
            with self._single, self.engine.connect() as connection:
                yield connection
        else:
            with self.engine.connect() as connection:
                yield connection

    def begin(self, connection: sa.Connection, mode: Mode) -> None:
        connection.exec_driver_sql("BEGIN" if mode is Mode.READ else "BEGIN IMMEDIATE")

    def rollback(self, connection: sa.Connection) -> None:
        # A full disk or an unreadable page has rolled back by itself.
        driver = connection.connection.dbapi_connection
        if driver is not None and driver.in_transaction:
            driver.rollback()

    def now(self, connection: sa.Connection) -> datetime:
        return self._clock.now()

    def wake(self, connection: sa.Connection, sender: str) -> None:
        """Nobody to tell: other processes on the same file find the rows by their poll."""

    def judge(self, error: BaseException) -> Fault:
        if isinstance(error, sa.exc.TimeoutError):
            return Fault.LOST
        code = _code(error)
        if isinstance(error, OperationalError):
            # SQLITE_ERROR is a wrong statement; everything else of this class is the database's own trouble.
            return Fault.OWN if code == sqlite3.SQLITE_ERROR else Fault.LOST
        return Fault.LOST if code in _DAMAGE else Fault.OWN

    def translate(self, error: BaseException, what: str) -> SeawallError | None:
        if self.judge(error) is not Fault.LOST:
            return None
        reason = error.orig if isinstance(error, DatabaseError) else error
        if _code(error) in _DAMAGE:
            return DamagedError(
                f"the database file is damaged: {reason}",
                hint="stop Seawall and put a copy of seawall.db back, or rebuild it: `seawall recover`",
            )
        return DatabaseUnavailableError(f"the database {what}: {reason}")


def _code(error: BaseException) -> int | None:
    code = getattr(getattr(error, "orig", None), "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


def _use_wal(cursor: sqlite3.Cursor, busy_timeout_ms: int) -> None:
    """Switch the file to WAL. It is kept in the file: only the first connection ever has to.

    SQLite does not wait when several switch at the same time, so this does.
    """
    pause_ms = 10
    for is_last in [*[False] * (busy_timeout_ms // pause_ms), True]:
        try:
            if cursor.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
                cursor.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if is_last or error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                raise
        threading.Event().wait(pause_ms / 1000)


def _engine(url: sa.URL, busy_timeout_ms: int, *, in_memory: bool) -> sa.Engine:
    engine = sa.create_engine(
        url,
        json_serializer=dumps,
        json_deserializer=orjson.loads,
        connect_args={"isolation_level": None, "timeout": busy_timeout_ms / 1000, "check_same_thread": False},
        poolclass=sa.pool.StaticPool if in_memory else sa.pool.QueuePool,
        # Transactions are begun by the statements above, never by the driver.
        isolation_level="AUTOCOMMIT",
    )

    @sa.event.listens_for(engine, "connect")
    def _set_up(connection: Any, _record: Any) -> None:
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {busy_timeout_ms}")
        _use_wal(cursor, busy_timeout_ms)
        cursor.execute("PRAGMA synchronous = FULL")
        cursor.execute("PRAGMA foreign_keys = ON")
        # A burst of runs touches index pages all over: pages kept, and moved from the log into the file more
        # seldom (64 MiB), double the rows a second.
        cursor.execute("PRAGMA cache_size = -8000")
        cursor.execute("PRAGMA wal_autocheckpoint = 16384")
        cursor.execute("PRAGMA journal_size_limit = 67108864")
        cursor.close()

    return engine
