# SPDX-License-Identifier: Apache-2.0
"""PostgreSQL through psycopg 3: serialisable writes, one clock for all hosts, LISTEN/NOTIFY.

A write is SERIALIZABLE unless it says that it locks its rows (``Mode.ROWS``, READ COMMITTED), so that code
that looks and then acts is right on both databases. What the server refuses because others came in between
is tried again by ``session``. The clock that decides is the server's, read once a transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import orjson
import psycopg
import sqlalchemy as sa
from psycopg import errors as pg
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy.exc import DBAPIError

from seawall.core.errors import ConfigurationError, DatabaseUnavailableError, SeawallError
from seawall.db.store import Fault, Mode, dumps
from seawall.runtime.database_url import DatabaseUrl

CHANNEL = "seawall"
ROW_WRITERS = 2
POOL_SIZE = 16
OLDEST_SERVER = 130000

# One number for all Seawall processes: who changes the tables holds it.
_MIGRATION_LOCK = 0x5EA3A11
# The server is away, starts, stops, is full, waited too long (all operational); or it is a standby by now, or
# has ended a transaction that stood still.
_UNAVAILABLE = (psycopg.OperationalError, pg.ReadOnlySqlTransaction, pg.IdleInTransactionSessionTimeout)
_BEGIN = {
    Mode.READ: "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
    Mode.SERIAL: "BEGIN ISOLATION LEVEL SERIALIZABLE",
    Mode.ROWS: "BEGIN ISOLATION LEVEL READ COMMITTED",
    Mode.EXCLUSIVE: "BEGIN ISOLATION LEVEL READ COMMITTED",
}


def server_now(connection: sa.Connection) -> datetime:
    """The server's clock, which is the same for every host."""
    found: datetime = connection.exec_driver_sql("SELECT clock_timestamp()").scalar_one()
    return found.astimezone(UTC)


class PostgresqlStore:
    """A pool of connections to one database."""

    row_writers = ROW_WRITERS

    def __init__(
        self, url: DatabaseUrl, busy_timeout_ms: int, now: Callable[[sa.Connection], datetime] = server_now
    ) -> None:
        try:
            conninfo_to_dict(url.address)
        except psycopg.ProgrammingError as error:
            raise ConfigurationError.of("database_url", url.address, f"must be valid: {error}") from error
        self._url = url
        self._now = now
        self._busy_timeout_ms = busy_timeout_ms
        self.engine = sa.create_engine(
            "postgresql+psycopg://",
            creator=self.connect,
            json_serializer=dumps,
            json_deserializer=orjson.loads,
            isolation_level="AUTOCOMMIT",
            pool_size=POOL_SIZE,
            max_overflow=0,
        )
        # Many rows become few statements, with RETURNING or without; the driver alone sends them one by one.
        self.engine.dialect.use_insertmanyvalues_wo_returning = True

    def connect(self) -> psycopg.Connection[Any]:
        """A connection of one's own, in autocommit."""
        connection = psycopg.connect(
            self._url.address,
            password=self._url.password(),
            autocommit=True,
            application_name="seawall",
            client_encoding="utf8",
            connect_timeout=10,
            # A server that vanished without a word is noticed within about half a minute.
            keepalives_idle=10,
            keepalives_interval=5,
            keepalives_count=3,
            tcp_user_timeout=30_000,
        )
        try:
            self._set_up(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _set_up(self, connection: psycopg.Connection[Any]) -> None:
        if connection.info.server_version < OLDEST_SERVER:
            raise ConfigurationError.of("database_url", self._url.address, "must be PostgreSQL 13 or newer")
        if connection.info.parameter_status("server_encoding") != "UTF8":
            rule = "must be a database with the encoding UTF8"
            raise ConfigurationError.of("database_url", self._url.address, rule)
        connection.execute(
            # What is answered must be durable, whatever the server's default; and a process that is stopped
            # in the middle of a transaction must not hold its locks for long.
            "SELECT set_config('lock_timeout', %s, false),"
            " set_config('idle_in_transaction_session_timeout', '15s', false),"
            " CASE WHEN current_setting('synchronous_commit') = 'off'"
            " THEN set_config('synchronous_commit', 'on', false) END",
            (f"{self._busy_timeout_ms}ms",),
        )

    @contextmanager
    def open(self) -> Iterator[sa.Connection]:
        with self.engine.connect() as connection:
            yield connection

    def begin(self, connection: sa.Connection, mode: Mode) -> None:
        connection.exec_driver_sql(_BEGIN[mode])
        if mode is Mode.EXCLUSIVE:
            # Another process may need its time: several may start at once.
            connection.exec_driver_sql("SET LOCAL lock_timeout = 0")
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_MIGRATION_LOCK})")

    def rollback(self, connection: sa.Connection) -> None:
        if connection.invalidated:
            return
        try:
            connection.exec_driver_sql("ROLLBACK")
        except DBAPIError:
            # The connection is gone, and the server has rolled back; it must not go back into the pool.
            if not connection.invalidated:
                connection.invalidate()

    def now(self, connection: sa.Connection) -> datetime:
        return self._now(connection)

    def wake(self, connection: sa.Connection, sender: str) -> None:
        connection.exec_driver_sql("SELECT pg_notify(%s, %s)", (CHANNEL, sender))

    def judge(self, error: BaseException) -> Fault:
        if isinstance(error, sa.exc.TimeoutError):
            return Fault.LOST
        found = error.orig if isinstance(error, DBAPIError) else error
        if isinstance(found, (pg.SerializationFailure, pg.DeadlockDetected)):
            return Fault.CONFLICT
        if isinstance(found, pg.UniqueViolation):
            return Fault.DUPLICATE
        if isinstance(error, DBAPIError) and error.connection_invalidated:
            return Fault.LOST
        return Fault.LOST if isinstance(found, _UNAVAILABLE) else Fault.OWN

    def translate(self, error: BaseException, what: str) -> SeawallError | None:
        if self.judge(error) not in (Fault.LOST, Fault.CONFLICT):
            return None
        reason = error.orig if isinstance(error, DBAPIError) else error
        return DatabaseUnavailableError(f"the database {what}: {' '.join(str(reason).split())}")
