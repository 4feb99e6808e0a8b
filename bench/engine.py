# SPDX-License-Identifier: Apache-2.0
"""The operation engine on SQLite: claims, and no-op runs from due to ended.

    python -m bench.engine

``engine.fire_rate.sqlite``: claim + rows + advance, runs/s, of 30,000 triggers, median of 3.
``engine.fire_rate_of_limit.sqlite``: over the limit, which is the same rows written by bare set-based SQL.
``engine.cpu_ms_per_fire``, ``engine.sql_per_fire``: of the same claims.
``engine.claim_1m_over_1k``: time to claim 1,000 due of 1,000,000 triggers over of 1,000 (``--large`` only).
``engine.burst_1000.p99_late_s``: 1,000 no-op operations due at one instant, from due to started.
``engine.noop_ends_per_s.sqlite``: the same, from due to ended.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import sqlalchemy as sa

from bench.figure import show
from seawall.db import due, services
from seawall.db.session import Database, Tx
from seawall.db.tables import metadata, runs, scheduled_operations, to_micros, triggers
from seawall.operation_engine.claim import claim
from seawall.operation_engine.dispatcher import Dispatcher
from seawall.operation_engine.service import OperationEngineService
from seawall.runtime.clock import SystemClock
from seawall.runtime.registry import PluginKind, load_plugins
from seawall.runtime.wakeup import Wakeup
from seawall.sdk.executor import Executor
from seawall.sdk.operation import Operation
from seawall.sdk.testing.operation_suite import RecordingProtection

FIRES = 30_000
BURST = 1000
ROUNDS = 3
PROJECT = str(uuid4())
_NOOP = """
class Noop:
    operation_type = "noop"
    definition_schema = {"type": "object"}
    def run(self, definition, context):
        return None
"""


@contextmanager
def opened(folder: Path, name: str) -> Iterator[Database]:
    database = Database(folder / name, SystemClock())
    metadata.create_all(database.engine)
    try:
        yield database
    finally:
        database.close()


def fill(database: Database, count: int, *, first_due: datetime, others: int = 0) -> None:
    """``count`` hourly triggers due at ``first_due`` with an operation each, and ``others`` due later."""
    start = first_due - timedelta(hours=1)
    properties = {
        "format": "crontab",
        "pattern": f"{first_due.minute} * * * *",
        "start_time": start.strftime("%Y-%m-%d %H:%M:%S"),
    }
    if first_due.second or first_due.microsecond:
        properties = {"format": "interval", "pattern": "3600", "start_time": start.isoformat()}

    def insert(tx: Tx) -> None:
        made: list[dict[str, Any]] = []
        for number in range(count + others):
            is_later = timedelta(days=30) if number >= count else timedelta()
            made.append(
                {
                    "row": number + 1, "id": str(uuid4()), "project_id": PROJECT, "name": "t", "type": "time",
                    "properties": properties, "next_run_at": first_due + is_later,
                    "fired_through_at": start + is_later, "created_at": start, "updated_at": start,
                }
            )  # fmt: skip
        tx.connection.execute(triggers.insert(), made)
        tx.connection.execute(
            scheduled_operations.insert(),
            [
                {
                    "row": number + 1, "id": str(uuid4()), "project_id": PROJECT, "user_id": "bench",
                    "name": "o", "description": "", "operation_type": "noop", "trigger_row": number + 1,
                    "definition": {}, "enabled": True, "registered_at": start, "overlap": "skip",
                    "timeout_s": 86_400, "priority": 0, "retry_max_attempts": 1, "retry_delay_s": 60,
                    "created_at": start, "updated_at": start,
                }
                for number in range(count + others)
            ],
        )  # fmt: skip

    database.write("bench.fill", insert)


def fires(folder: Path, name: str) -> tuple[float, float, float]:
    """(runs a second, CPU seconds a run, statements a run) of claiming ``FIRES`` due triggers."""
    with opened(folder, name) as database:
        first_due = database.clock.now().replace(second=0, microsecond=0)
        fill(database, FIRES, first_due=first_due)
        statements = 0

        @sa.event.listens_for(database.engine, "before_cursor_execute")
        def count(*_: Any) -> None:
            nonlocal statements
            statements += 1

        begun, begun_cpu = time.monotonic(), time.process_time()
        made = 0
        while (done := database.write("bench.claim", claim)).triggers:
            made += done.runs
        taken, cpu = time.monotonic() - begun, time.process_time() - begun_cpu
        assert made == FIRES, made
        return made / taken, cpu / made, statements / made


def limit(folder: Path, name: str) -> float:
    """Runs a second when the same rows are written and the same triggers advanced by bare SQL."""
    with opened(folder, name) as database:
        first_due = database.clock.now().replace(second=0, microsecond=0)
        fill(database, FIRES, first_due=first_due)
        key = "'0000000000007000' || '8' || substr(lower(hex(randomblob(8))), 2)"
        insert = sa.text(
            f"INSERT INTO runs ({due.RUN_COLUMNS}) SELECT {key}, o.project_id, o.user_id, 'scheduled', "
            "'scheduled_operation', o.id, :occurrence, o.operation_type, o.definition, o.id, t.id, "
            "o.plan_id, o.host, o.id, 'queued', NULL, o.priority, :now, :now, :now, "
            "o.timeout_s, NULL, 0, 0, 1, 60, 0 "
            "FROM triggers AS t CROSS JOIN scheduled_operations AS o "
            "WHERE t.row > :a AND t.row <= :b AND o.trigger_row = t.row"
        )
        move = sa.text(
            "UPDATE triggers SET next_run_at = :next, fired_through_at = :now WHERE row > :a AND row <= :b"
        )

        def write(tx: Tx, after: int) -> None:
            now = to_micros(tx.now)
            values = {"now": now, "occurrence": str(now), "a": after, "b": after + 1000}
            tx.connection.execute(insert, values)
            tx.connection.execute(move, {**values, "next": now + 3_600_000_000})

        begun = time.monotonic()
        for after in range(0, FIRES, 1000):
            database.write("bench.limit", lambda tx, row=after: write(tx, row))  # type: ignore[misc]  # bound now
        return FIRES / (time.monotonic() - begun)


def claim_of(folder: Path, name: str, others: int) -> float:
    """Seconds to claim 1,000 due triggers beside ``others`` that are not due."""
    with opened(folder, name) as database:
        fill(database, 1000, first_due=database.clock.now().replace(second=0, microsecond=0), others=others)
        begun = time.monotonic()
        assert database.write("bench.claim", claim).runs == 1000
        return time.monotonic() - begun


def burst(folder: Path, name: str) -> tuple[float, float]:
    """(99 % of 1,000 no-ops due at one instant had started by then, ends a second)."""
    drop_ins = folder / "operations"
    drop_ins.mkdir(mode=0o700, exist_ok=True)
    (drop_ins / "noop.py").write_text(_NOOP)
    operations = load_plugins(
        PluginKind(
            "seawall.operations",
            "operation_type",
            Operation,  # type: ignore[type-abstract]  # a protocol stands for its kind
            "seawall.operation_engine.operations",
        ),
        folders=[drop_ins],
    )
    executors = load_plugins(
        PluginKind(
            "seawall.executors",
            "executor_name",
            Executor,  # type: ignore[type-abstract]  # a protocol stands for its kind
            "seawall.operation_engine.executors",
        )
    )
    with opened(folder, name) as database:
        clock, wakeup = database.clock, Wakeup()
        thread_pool: Any = executors.get("thread_pool")
        dispatcher = Dispatcher(
            database, clock=clock, wakeup=wakeup, operations=operations, executor=thread_pool(workers=8),
            protection=RecordingProtection(), host="bench", lease_s=15, heartbeat_s=5, poll_s=1,
        )  # fmt: skip
        engine = OperationEngineService(
            database, clock=clock, wakeup=wakeup, host="bench", poll_s=1, cleanup_interval_s=60,
            keep_runs_days=90, error_checkpoint_days=7,
        )  # fmt: skip
        service = database.write(
            "bench.service",
            lambda tx: services.find_or_create(tx, host="bench", binary="bench", version="0", pid=1),
        )
        due_at = clock.now() + timedelta(seconds=2)
        fill(database, BURST, first_due=due_at)
        dispatcher.start(service)
        engine.init_host(service_id=service)
        pause = threading.Event()
        ended = sa.select(sa.func.count()).select_from(runs).where(runs.c.state == "success")
        while not pause.wait(0.1):
            if database.read(lambda connection: connection.execute(ended).scalar_one()) == BURST:
                break
            if clock.now() > due_at + timedelta(seconds=60):
                raise SystemExit("the burst has not ended within a minute")
        dispatcher.stop(5)
        engine.cleanup_host()
        query = sa.select(runs.c.started_at, runs.c.ended_at)
        rows = database.read(lambda connection: connection.execute(query).all())
        late = sorted((row.started_at - due_at).total_seconds() for row in rows)
        last = max(row.ended_at for row in rows)
        return late[int(len(late) * 0.99) - 1], BURST / (last - due_at).total_seconds()


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="seawall-bench-") as path:
        folder = Path(path)
        rates, cpu, sql, limits = [], [], [], []
        for number in range(ROUNDS):
            rate, cpu_s, statements = fires(folder, f"fires-{number}.db")
            rates.append(rate)
            cpu.append(cpu_s * 1000)
            sql.append(statements)
            limits.append(limit(folder, f"limit-{number}.db"))
        rate, bare = statistics.median(rates), statistics.median(limits)
        show(
            "engine.fire_rate.sqlite", rate, "runs/s", 30_000, at_least=True,
            peer="bare SQL", peer_value=bare, ratio=rate / bare,
        )  # fmt: skip
        show("engine.fire_rate_of_limit.sqlite", rate / bare, "ratio", 0.6, at_least=True)
        show("engine.cpu_ms_per_fire", statistics.median(cpu), "ms", 0.05)
        show("engine.sql_per_fire", statistics.median(sql), "statements", 0.1)
        bursts = [burst(folder, f"burst-{number}.db") for number in range(ROUNDS)]
        show("engine.burst_1000.p99_late_s", statistics.median(late for late, _ in bursts), "s", 1.0)
        show(
            "engine.noop_ends_per_s.sqlite", statistics.median(ends for _, ends in bursts), "runs/s", 1500,
            at_least=True,
        )  # fmt: skip
        if "--large" in sys.argv:
            small = statistics.median(claim_of(folder, f"small-{n}.db", 0) for n in range(ROUNDS))
            show("engine.claim_1m_over_1k", claim_of(folder, "large.db", 999_000) / small, "ratio", 2.0)


if __name__ == "__main__":
    main()
