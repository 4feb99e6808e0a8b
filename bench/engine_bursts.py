# SPDX-License-Identifier: Apache-2.0
"""No-op runs from due to begun and ended: an engine and a dispatcher with 8 threads in one process, SQLite.

``engine.burst_1000.p99_late_s``: 1,000 due at one instant, how late 99 % of them had started by.
``engine.burst_10000.last_start_s``: 10,000 due at one instant, how late the last one started.
``engine.noop_ends_per_s.sqlite``: runs ended a second in the larger burst, from due to the last end.
``engine.lone_run_late_ms``: one due while nothing else is, from due to started; median.
The peer's figures are of the same bursts.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

import sqlalchemy as sa

from bench.engine_ground import (
    BURST,
    ROUNDS,
    SMALL_BURST,
    WORKERS,
    count_of,
    database_of,
    due_soon,
    engine_of,
    executor_of,
    fill,
    operations_with,
    service_row,
    wait_for,
)
from bench.engine_peer import PeerBurst, peer_burst
from bench.figure import show
from seawall.db.session import Database
from seawall.db.tables import runs
from seawall.operation_engine.dispatcher import Dispatcher
from seawall.runtime.wakeup import Wakeup
from seawall.sdk.testing.operation_suite import RecordingProtection

LONE = int(os.environ.get("BENCH_LONE", "15"))
_ENDED = sa.select(runs.c.row).where(runs.c.state == "success")


def show_bursts() -> None:
    small: list[tuple[list[float], float]] = []
    large: list[tuple[list[float], float]] = []
    peer_small: list[PeerBurst] = []
    peer_large: list[PeerBurst] = []
    for _ in range(ROUNDS):
        small.append(burst(SMALL_BURST))
        peer_small.append(peer_burst("sqlite", SMALL_BURST))
        large.append(burst(BURST))
        peer_large.append(peer_burst("sqlite", BURST))
    _compare(
        "engine.burst_1000.p99_late_s", "s", 1.0,
        statistics.median(_p99(late) for late, _ in small),
        statistics.median(_p99(one.late_s) for one in peer_small),
    )  # fmt: skip
    _compare(
        "engine.burst_10000.last_start_s", "s", 10,
        statistics.median(late[-1] for late, _ in large),
        statistics.median(one.late_s[-1] for one in peer_large),
    )  # fmt: skip
    _compare(
        "engine.noop_ends_per_s.sqlite", "runs/s", 1500,
        statistics.median(ends for _, ends in large),
        statistics.median(one.ends_per_s for one in peer_large),
        at_least=True,
    )  # fmt: skip
    show("engine.lone_run_late_ms", statistics.median(lone_runs_late_ms()), "ms", 50)


def _compare(
    name: str, unit: str, goal: float, value: float, peer_value: float, *, at_least: bool = False
) -> None:
    show(
        name, value, unit, goal, at_least=at_least,
        peer="APScheduler 3", peer_value=peer_value, ratio=value / peer_value,
    )  # fmt: skip


def _p99(late_s: list[float]) -> float:
    return late_s[int(len(late_s) * 0.99) - 1]


@contextmanager
def running(database: Database) -> Iterator[Wakeup]:
    """An engine and a dispatcher at work; the wake-up that tells them of rows."""
    with tempfile.TemporaryDirectory(prefix="seawall-bench-") as folder:
        clock, wakeup = database.clock, Wakeup()
        dispatcher = Dispatcher(
            database, clock=clock, wakeup=wakeup, operations=operations_with(Path(folder)),
            executor=executor_of("thread_pool", workers=WORKERS), protection=RecordingProtection(),
            host="bench", lease_s=15, heartbeat_s=5, poll_s=1,
        )  # fmt: skip
        engine = engine_of(database, wakeup)
        row = service_row(database)
        dispatcher.start(row)
        engine.init_host(service_id=row)
        try:
            yield wakeup
        finally:
            dispatcher.stop(5)
            engine.cleanup_host()


def burst(count: int) -> tuple[list[float], float]:
    """(seconds from due to started, sorted; ends a second) of no-ops due at one instant."""
    with database_of("sqlite") as database:
        due_at = due_soon(count)
        fill(database, count, due_at=due_at)
        with running(database):
            if database.clock.now() > due_at:
                raise SystemExit(f"{count} triggers could not be stored before they were due")
            wait_for("the burst to end", lambda: count_of(database, _ENDED) == count, every_s=0.1)
        query = sa.select(runs.c.started_at, runs.c.ended_at)
        rows = database.read(lambda connection: connection.execute(query).all())
        late = sorted((row.started_at - due_at).total_seconds() for row in rows)
        last: datetime = max(row.ended_at for row in rows)
        return late, count / (last - due_at).total_seconds()


def lone_runs_late_ms() -> list[float]:
    """How late each of ``LONE`` no-ops started, one after the other, at odd instants of an idle second."""
    pause = threading.Event()
    with database_of("sqlite") as database, running(database) as wakeup:
        for number in range(LONE):
            due_at = database.clock.now() + timedelta(seconds=1.2, milliseconds=37 * number)
            fill(database, 1, due_at=due_at)
            wakeup.notify()
            pause.wait((due_at - database.clock.now()).total_seconds())
            wait_for("a lone run", lambda many=number + 1: count_of(database, _ENDED) == many)  # type: ignore[misc]  # bound now
        query = sa.select(runs.c.expected_at, runs.c.started_at)
        rows = database.read(lambda connection: connection.execute(query).all())
        return [(row.started_at - row.expected_at).total_seconds() * 1000 for row in rows]
