# SPDX-License-Identifier: Apache-2.0
"""What the engine's figures stand on: empty databases of both kinds, triggers by the million, services.

``BENCH_ROUNDS``, ``BENCH_FIRES``, ``BENCH_BURST`` and ``BENCH_TRIGGERS`` make a run smaller; the first line
of the output says how large it was.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import sqlalchemy as sa

from seawall.db import due, services
from seawall.db.dialect import is_postgresql
from seawall.db.session import Database, Tx
from seawall.db.tables import metadata, runs, to_micros
from seawall.operation_engine.service import OperationEngineService
from seawall.runtime.clock import SystemClock
from seawall.runtime.registry import PluginKind, Plugins, load_plugins
from seawall.runtime.wakeup import Wakeup
from seawall.sdk.executor import Executor
from seawall.sdk.operation import Operation
from tests.support.databases import place, server_url

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "3"))
FIRES = int(os.environ.get("BENCH_FIRES", "30000"))
"""How many triggers are due when the rate of claims is measured."""
BURST = int(os.environ.get("BENCH_BURST", "10000"))
"""How many no-ops are due at one instant, in the larger of the two bursts."""
SMALL_BURST = min(1000, BURST)
TRIGGERS = int(os.environ.get("BENCH_TRIGGERS", "1000000"))
PROJECT = str(uuid4())
WORKERS = 8
PATIENCE_S = 120.0

_HOUR = timedelta(hours=1)
_MADE_AT = datetime(2026, 1, 1, tzinfo=UTC)
# Of row n.
_DAILY = "(n % 60) || ' ' || (n / 60 % 24) || ' * * *'"
_NOOP = """
class Noop:
    operation_type = "noop"
    definition_schema = {"type": "object"}
    def run(self, definition, context):
        return None
"""


def is_postgresql_there(*figures: str) -> bool:
    """Whether there is a server; if not, a line says so for each of the figures."""
    try:
        psycopg.connect(server_url("postgres").address, connect_timeout=5).close()
    except psycopg.OperationalError as error:
        for name in figures:
            print(json.dumps({"name": name, "left_out": " ".join(str(error).split())}), flush=True)
        return False
    return True


@contextmanager
def database_of(kind: str) -> Iterator[Database]:
    """An empty database, sqlite or postgresql, with all tables; it is gone afterwards."""
    with (
        tempfile.TemporaryDirectory(prefix="seawall-bench-") as folder,
        place(kind, Path(folder)) as where,
        opened(where) as database,
    ):
        metadata.create_all(database.engine)
        yield database


@contextmanager
def opened(where: Any) -> Iterator[Database]:
    """The database of this process at ``where``."""
    database = Database(where, SystemClock())
    try:
        yield database
    finally:
        database.close()


# --- rows --------------------------------------------------------------------------------------


def due_soon(count: int) -> datetime:
    """An instant by which ``count`` rows are stored on a busy machine, too."""
    return SystemClock().now() + timedelta(seconds=3, milliseconds=count / 2)


def fill(database: Database, count: int, *, due_at: datetime, is_own: bool = False) -> None:
    """``count`` triggers that fire every hour and are due at ``due_at`` for the first time, each with a no-op
    operation. All have the same properties; with ``is_own`` (on the minute only) each has some of its own."""
    if is_own:
        database.write("bench.fill", lambda tx: _fill(tx, count, due_at, None, f"'{due_at.minute} * * * *'"))
    else:
        properties = json.dumps(_hourly(due_at))
        database.write("bench.fill", lambda tx: _fill(tx, count, due_at, properties))
    _vacuum(database)


def fill_later(database: Database, count: int) -> None:
    """``count`` daily triggers that are due in a month, each with properties of its own, as when people make
    them; each with a no-op operation."""
    due_at = database.clock.now() + timedelta(days=30)
    database.write("bench.fill", lambda tx: _fill(tx, count, due_at, None))
    _vacuum(database)


def _hourly(due_at: datetime) -> dict[str, str]:
    start = due_at - _HOUR
    if due_at.second or due_at.microsecond:
        return {"format": "interval", "pattern": "3600", "start_time": start.isoformat()}
    text = start.strftime("%Y-%m-%d %H:%M:%S")
    return {"format": "crontab", "pattern": f"{due_at.minute} * * * *", "start_time": text}


def make_due(database: Database, *, due_at: datetime, first: int = 1, every: int = 1, count: int = 1) -> None:
    """Let ``count`` triggers be due as ``fill`` does, those of the rows ``first``, ``first + every`` and so
    on; as if nothing had ever run."""

    def change(tx: Tx) -> None:
        tx.connection.execute(runs.delete())
        kind = "CAST(:properties AS json)" if is_postgresql(tx.connection) else ":properties"
        tx.connection.execute(
            sa.text(
                f"UPDATE triggers SET next_run_at = :due, fired_through_at = :start, properties = {kind} "
                "WHERE row >= :first AND row < :end AND (row - :first) % :every = 0"
            ),
            {
                "due": to_micros(due_at), "start": to_micros(due_at - _HOUR),
                "first": first, "every": every, "end": first + every * count,
                "properties": json.dumps(_hourly(due_at)),
            },
        )  # fmt: skip

    database.write("bench.make_due", change)


def _fill(tx: Tx, count: int, due_at: datetime, properties: str | None, own: str = _DAILY) -> None:
    """Without properties each trigger gets some of its own, with the pattern that the SQL ``own`` makes."""
    values = {
        "count": count, "project": UUID(PROJECT).hex, "due": to_micros(due_at),
        "start": to_micros(due_at - _HOUR), "made": to_micros(_MADE_AT), "properties": properties,
        "after": tx.connection.execute(sa.text("SELECT coalesce(max(row), 0) FROM triggers")).scalar_one(),
    }  # fmt: skip
    if is_postgresql(tx.connection):
        numbers = "WITH n AS (SELECT n FROM generate_series(1, CAST(:count AS bigint)) AS n)"
        new_id, project, document = "gen_random_uuid()", "CAST(:project AS uuid)", "CAST({} AS json)"
        instant = r"to_char(timestamp '2026-01-01' + n * interval '1 second', 'YYYY-MM-DD HH24\:MI\:SS')"
    else:
        numbers = "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < :count)"
        new_id, project, document = "lower(hex(randomblob(16)))", ":project", "{}"
        instant = "strftime('%Y-%m-%d %H:%M:%S', 1767225600 + n, 'unixepoch')"
        # Random ids are inserted all over their index: it is kept in memory while a million are.
        tx.connection.exec_driver_sql("PRAGMA cache_size = -400000")
    made = (
        f"""('{{"format": "crontab", "pattern": "' || {own} || '", "start_time": "' || {instant} || '"}}')"""
    )
    text = document.format(made if properties is None else ":properties")
    tx.connection.execute(
        sa.text(
            "INSERT INTO triggers (id, project_id, name, type, properties, next_run_at, fired_through_at, "
            f"created_at, updated_at) {numbers} SELECT {new_id}, {project}, 't', 'time', {text}, :due, "
            ":start, :made, :made FROM n"
        ),
        values,
    )
    empty = document.format("'{}'")
    tx.connection.execute(
        sa.text(
            "INSERT INTO scheduled_operations (id, project_id, user_id, name, description, operation_type, "
            "trigger_row, definition, enabled, registered_at, overlap, timeout_s, priority, "
            f"retry_max_attempts, retry_delay_s, created_at, updated_at) SELECT {new_id}, project_id, "
            f"'bench', 'o', '', 'noop', row, {empty}, true, :made, 'skip', 86400, 0, 1, 60, :made, :made "
            "FROM triggers WHERE row > :after ORDER BY row"
        ),
        values,
    )
    if not is_postgresql(tx.connection):
        tx.connection.exec_driver_sql("PRAGMA cache_size = -8000")


def _vacuum(database: Database) -> None:
    """What a PostgreSQL in use does by itself, but not within seconds: know how many rows there are."""
    with database.engine.connect() as connection:
        if is_postgresql(connection):
            connection.exec_driver_sql("VACUUM ANALYZE")


def count_of(database: Database, query: sa.Select[Any]) -> int:
    """How many rows a query finds."""
    counted = sa.select(sa.func.count()).select_from(query.subquery())
    return int(database.read(lambda connection: connection.execute(counted).scalar_one()))


def wait_for(what: str, is_so: Callable[[], bool], *, every_s: float = 0.05) -> None:
    """Look again and again; ``SystemExit`` when it lasts too long."""
    pause = threading.Event()
    clock = SystemClock()
    give_up_at = clock.monotonic() + PATIENCE_S * max(1, TRIGGERS // 500_000)
    while not is_so():
        if clock.monotonic() > give_up_at:
            raise SystemExit(f"waited too long for {what}")
        pause.wait(every_s)


# --- services ----------------------------------------------------------------------------------


def engine_of(database: Database, wakeup: Wakeup) -> OperationEngineService:
    """An engine that is not started."""
    return OperationEngineService(
        database, clock=database.clock, wakeup=wakeup, host="bench", poll_s=1, cleanup_interval_s=60,
        keep_runs_days=90, error_checkpoint_days=7,
    )  # fmt: skip


def claim_all(database: Database, engine: OperationEngineService) -> None:
    """What the engine's loop does when it is woken, until nothing is due; also where another engine holds the
    last of it."""
    while True:
        engine._claim(database.clock.now())
        next_at = database.read(due.next_due_at)
        if next_at is None or next_at > database.clock.now():
            return


def service_row(database: Database) -> int:
    """The row of a service of this process."""
    return database.write(
        "bench.service",
        lambda tx: services.find_or_create(tx, host="bench", binary="bench", version="0", pid=os.getpid()),
    )


def operations_with(folder: Path, name: str = "noop", source: str = _NOOP) -> Plugins[Operation]:
    """The operations of the product, and one that is dropped into a folder."""
    drop_ins = folder / "operations"
    drop_ins.mkdir(mode=0o700, exist_ok=True)
    (drop_ins / f"{name}.py").write_text(source)
    kind = PluginKind(
        "seawall.operations",
        "operation_type",
        Operation,  # type: ignore[type-abstract]  # a protocol stands for its kind
        "seawall.operation_engine.operations",
    )
    return load_plugins(kind, folders=[drop_ins])


def executor_of(name: str, **options: int) -> Executor:
    """A new executor of the product."""
    kind = PluginKind(
        "seawall.executors",
        "executor_name",
        Executor,  # type: ignore[type-abstract]  # a protocol stands for its kind
        "seawall.operation_engine.executors",
    )
    made: Any = load_plugins(kind).get(name)
    found: Executor = made(**options)
    return found


def peak_mib(pid: int) -> float:
    """The most resident memory that a process has had."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    sys.exit("this system does not say how much memory a process has had")
