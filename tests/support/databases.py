# SPDX-License-Identifier: Apache-2.0
"""Databases for tests: SQLite always, PostgreSQL when there is one.

The server is looked for at PGHOST and PGPORT as PGUSER, by default at 127.0.0.1 as ``postgres``. With
``postgresql`` among TEST_SERVERS one that is missing fails; without it the tests that need it are skipped,
with the reason.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import psycopg
import pytest

from seawall.db.session import Database
from seawall.db.tables import metadata
from seawall.runtime.database_url import DatabaseUrl
from seawall.sdk.testing.clock import FakeClock

KINDS = ("sqlite", "postgresql")


def server_url(name: str) -> DatabaseUrl:
    """A database of this name on the test server."""
    user = os.environ.get("PGUSER", "postgres")
    host = os.environ.get("PGHOST", "127.0.0.1")
    port = os.environ.get("PGPORT", "5432")
    return DatabaseUrl.parse(f"postgresql://{user}@/{name}?host={host}&port={port}")


@cache
def _missing() -> str | None:
    """Why there is no PostgreSQL for tests."""
    try:
        psycopg.connect(server_url("postgres").address, connect_timeout=5).close()
    except psycopg.OperationalError as error:
        return f"no PostgreSQL for tests: {' '.join(str(error).split())}"
    return None


def require_postgresql() -> None:
    """Skip loudly when there is no server, or fail when there must be one."""
    reason = _missing()
    if reason is None:
        return
    if "postgresql" in os.environ.get("TEST_SERVERS", "").split(","):
        pytest.fail(reason)
    pytest.skip(reason)


@contextmanager
def postgresql_database() -> Iterator[DatabaseUrl]:
    """An empty database of one's own, dropped afterwards."""
    require_postgresql()
    name = f"seawall_test_{uuid.uuid4().hex}"
    with psycopg.connect(server_url("postgres").address, autocommit=True) as server:
        server.execute(f"CREATE DATABASE {name} ENCODING 'UTF8' TEMPLATE template0")
        try:
            yield server_url(name)
        finally:
            server.execute(f"DROP DATABASE {name} WITH (FORCE)")


@contextmanager
def place(kind: str, folder: Path) -> Iterator[Path | DatabaseUrl | None]:
    """Where an empty database of this kind may be: sqlite, memory or postgresql."""
    if kind == "postgresql":
        with postgresql_database() as url:
            yield url
    else:
        yield None if kind == "memory" else folder / "seawall.db"


@contextmanager
def opened(
    kind: str,
    folder: Path,
    clock: FakeClock,
    *,
    is_server_time: bool = False,
) -> Iterator[Database]:
    """A database with all tables. It works at ``clock``, on PostgreSQL too unless ``is_server_time``."""
    with place(kind, folder) as where:
        time = None if is_server_time else (lambda _connection: clock.now())
        database = Database(where, clock, now=time)
        try:
            metadata.create_all(database.engine)
            yield database
        finally:
            database.close()
