# SPDX-License-Identifier: Apache-2.0
"""How many runs a second claims make: one engine, the limit of the database, and two engines at once.

``engine.fire_rate.*``: claim + rows + advance by the engine's own claim loop, until nothing is due.
Beside it the peer's, of fewer jobs: it needs a transaction for each.
``engine.fire_rate_of_limit.*``: over the limit, which is the same rows written, and the same triggers
advanced, by bare set-based SQL in transactions of the same size, in the same run.
``engine.fire_rate_own_schedules.*``: the same when every trigger has a schedule of its own, which the process
has not met before.
``engine.cpu_ms_per_fire``, ``engine.sql_per_fire``: of the same claims (on PostgreSQL: of the engine alone,
without the server).
``engine.two_engines_speedup.postgresql``: how much sooner two processes are through with what is due than
one process of the same kind.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections import defaultdict
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from bench.engine_ground import FIRES, ROUNDS, SMALL_BURST, claim_all, count_of, database_of, engine_of, fill
from bench.engine_peer import peer_burst
from bench.figure import show, tell
from seawall.db import due
from seawall.db.dialect import is_postgresql
from seawall.db.session import Database, Tx
from seawall.db.tables import runs, to_micros
from seawall.operation_engine import claim
from seawall.operation_engine.claim import BATCH
from seawall.runtime.database_url import DatabaseUrl
from seawall.runtime.wakeup import Wakeup

GOALS = {"sqlite": 30_000, "postgresql": 15_000}
_OF_LIMIT, _SPEEDUP = 0.6, 1.3


@dataclass(frozen=True, slots=True)
class Rate:
    """Of claiming all that is due once."""

    per_s: float
    cpu_ms: float
    """Of this process, a run."""
    statements: float
    """A run."""


def show_rates(kinds: tuple[str, ...]) -> None:
    rates: dict[str, list[Rate]] = defaultdict(list)
    own: dict[str, list[float]] = defaultdict(list)
    limits: dict[str, list[float]] = defaultdict(list)
    peers: dict[str, list[float]] = defaultdict(list)
    speedups = []
    for _ in range(ROUNDS):
        for kind in kinds:
            rates[kind].append(rate(kind))
            limits[kind].append(limit(kind))
            peers[kind].append(peer_burst(kind, SMALL_BURST).fires_per_s)
            own[kind].append(rate(kind, is_own=True).per_s)
        if "postgresql" in kinds:
            speedups.append(seconds_of_processes(1) / seconds_of_processes(2))
    for kind in kinds:
        found, bare = statistics.median(one.per_s for one in rates[kind]), statistics.median(limits[kind])
        peer = statistics.median(peers[kind])
        show(
            f"engine.fire_rate.{kind}", found, "runs/s", GOALS[kind], at_least=True,
            peer="APScheduler 3", peer_value=peer, ratio=found / peer,
        )  # fmt: skip
        show(
            f"engine.fire_rate_of_limit.{kind}", found / bare, "ratio", _OF_LIMIT, at_least=True,
            peer="bare SQL", peer_value=bare, ratio=found / bare,
        )  # fmt: skip
        tell(f"engine.fire_rate_own_schedules.{kind}", statistics.median(own[kind]))
    for kind in kinds:
        cpu_ms = statistics.median(one.cpu_ms for one in rates[kind])
        statements = statistics.median(one.statements for one in rates[kind])
        if kind == "sqlite":
            show("engine.cpu_ms_per_fire", cpu_ms, "ms", 0.05)
            show("engine.sql_per_fire", statements, "statements", 0.1)
        else:
            tell(f"engine.cpu_ms_per_fire.{kind}", cpu_ms)
            tell(f"engine.sql_per_fire.{kind}", statements)
    if speedups:
        found = statistics.median(speedups)
        show("engine.two_engines_speedup.postgresql", found, "ratio", _SPEEDUP, at_least=True)


def fill_due(database: Database, *, is_own: bool = False) -> None:
    """``FIRES`` triggers that are due, each once."""
    now = database.clock.now()
    fill(database, FIRES, due_at=now.replace(second=0, microsecond=0), is_own=is_own)


def rate(kind: str, *, is_own: bool = False) -> Rate:
    """One engine's. With ``is_own`` no schedule is known before."""
    claim._schedule.cache_clear()
    with database_of(kind) as database:
        fill_due(database, is_own=is_own)
        engine = engine_of(database, Wakeup())
        statements = 0

        @sa.event.listens_for(database.engine, "before_cursor_execute")
        def count(*_: Any) -> None:
            nonlocal statements
            statements += 1

        begun, begun_cpu = time.monotonic(), time.process_time()
        claim_all(database, engine)
        taken, cpu_s = time.monotonic() - begun, time.process_time() - begun_cpu
        made, sent = count_of(database, sa.select(runs.c.row)), statements
        assert made == FIRES, made
        return Rate(made / taken, cpu_s / made * 1000, sent / made)


def limit(kind: str) -> float:
    """Runs a second when the same rows are written and the same triggers advanced by bare SQL."""
    with database_of(kind) as database:
        fill_due(database)
        begun = time.monotonic()
        for after in range(0, FIRES, BATCH):
            database.write("bench.limit", lambda tx, row=after: _write(tx, row), locks_rows=True)  # type: ignore[misc]  # bound now
        taken = time.monotonic() - begun
        assert count_of(database, sa.select(runs.c.row)) == FIRES
        return FIRES / taken


def _write(tx: Tx, after: int) -> None:
    lock = "replace(CAST(o.id AS text), '-', '')" if is_postgresql(tx.connection) else "o.id"
    insert = (
        f"INSERT INTO runs ({due.RUN_COLUMNS}) SELECT {due.new_row_id(tx.connection)}, o.project_id, "
        "o.user_id, 'scheduled', 'scheduled_operation', o.id, :occurrence, o.operation_type, o.definition, "
        f"o.id, t.id, o.plan_id, o.host, {lock}, 'queued', NULL, o.priority, :now, :now, :now, "
        "o.timeout_s, NULL, 0, 0, 1, 60, 0 "
        "FROM triggers AS t CROSS JOIN scheduled_operations AS o "
        "WHERE t.row > :a AND t.row <= :b AND o.trigger_row = t.row"
    )
    now = to_micros(tx.now)
    values = {"now": now, "occurrence": str(now), "a": after, "b": after + BATCH}
    tx.connection.execute(sa.text(insert), {**values, **due.new_id_prefix(tx.now)})
    move = "UPDATE triggers SET next_run_at = :next, fired_through_at = :now WHERE row > :a AND row <= :b"
    tx.connection.execute(sa.text(move), {**values, "next": now + 3_600_000_000})


# --- processes -----------------------------------------------------------------------------------


def seconds_of_processes(count: int) -> float:
    """Until ``count`` processes have claimed all that is due of one PostgreSQL."""
    with database_of("postgresql") as database, ExitStack() as stack:
        fill_due(database)
        assert isinstance(database.url, DatabaseUrl)
        command = [sys.executable, "-m", "bench.engine_process", database.url.address]
        processes = [
            stack.enter_context(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
            for _ in range(count)
        ]
        for one in processes:
            _expect(one, b"ready\n")
        begun = time.monotonic()
        for one in processes:
            assert one.stdin is not None
            one.stdin.close()
        for one in processes:
            _expect(one, b"done\n")
        taken = time.monotonic() - begun
        assert count_of(database, sa.select(runs.c.row)) == FIRES
        return taken


def _expect(process: subprocess.Popen[bytes], line: bytes) -> None:
    assert process.stdout is not None
    if (found := process.stdout.readline()) != line:
        raise SystemExit(f"a claiming process said {found!r} instead of {line!r}")
