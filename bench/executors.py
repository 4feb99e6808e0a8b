# SPDX-License-Identifier: Apache-2.0
"""The executors: what a waiting coroutine costs, how fast two hosts work, how soon a dead one's run goes on.

    python -m bench.executors [--long]

``engine.coroutine_5000_kib_each``: memory of a run that waits, among 5,000 at once, all counted that the
process holds for it: row, lease, context, coroutine.
``engine.noop_ends_per_s.celery``: no-op runs ended a second by two workers in processes of their own, on
PostgreSQL and RabbitMQ, from the first claim to the last end; median.
``engine.takeover_s``: from the SIGKILL of a worker to the second begin of its run, with the default lease
of 15 s; median.
``--long`` adds ``engine.consumer_timeout_200_s``: a run of 200 s and two short ones on one worker with room
for one, at a broker whose consumer timeout is 20 s: 1 when all end and the worker is the same process.

PostgreSQL is looked for as the tests do; what needs a server that is not there is left out, with a line that
says so. ``BENCH_ROUNDS``, ``BENCH_WAITING`` and ``BENCH_NOOPS`` make a run smaller.
"""

from __future__ import annotations

import gc
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import sqlalchemy as sa

from bench.engine_ground import (
    PROJECT,
    ROUNDS,
    executor_of,
    is_postgresql_there,
    operations_with,
    service_row,
)
from bench.figure import show
from demo.service import wait_until
from seawall.db import runs as run_rows
from seawall.db.session import Database, Tx
from seawall.db.tables import metadata, runs
from seawall.operation_engine.dispatcher import Dispatcher
from seawall.runtime.clock import SystemClock
from seawall.runtime.logging import set_up_logging
from seawall.runtime.wakeup import Wakeup
from seawall.sdk.testing.operation_suite import RecordingProtection
from tests.scale.ground import Farm
from tests.support.databases import postgresql_database
from tests.support.private_rabbitmq import PrivateRabbitmq

WAITING = int(os.environ.get("BENCH_WAITING", "5000"))
NOOPS = int(os.environ.get("BENCH_NOOPS", "4000"))
_WAITER = """
WAITING = []


class Waiter:
    operation_type = "waiter"
    definition_schema = {"type": "object"}

    async def run(self, definition, context):
        WAITING.append(context.run_id)
        await context.sleep(3600)
"""


def resident_kib() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise SystemExit("this system does not say how much memory a process has")


def insert(database: Database, count: int, operation_type: str, definition: dict[str, Any]) -> list[str]:
    """Runs that are queued now."""

    def write(tx: Tx) -> list[str]:
        found = [
            run_rows.NewRun(
                id=str(uuid4()), project_id=PROJECT, user_id="bench", kind="manual", subject_type="bench",
                subject_id=str(uuid4()), occurrence="1", operation_type=operation_type, definition=definition,
                expected_at=tx.now,
            )
            for _ in range(count)
        ]  # fmt: skip
        run_rows.insert_all(tx, found)
        tx.after_commit(lambda: None)
        return [str(one.id) for one in found]

    return database.write("bench.runs", write)


# --- coroutines --------------------------------------------------------------------------------


def coroutine_kib_each(folder: Path) -> float:
    """KiB that each of ``WAITING`` adds to this process."""
    operations = operations_with(folder, "waiter", _WAITER)
    database = Database(folder / "seawall.db", SystemClock())
    metadata.create_all(database.engine)
    wakeup = Wakeup()
    dispatcher = Dispatcher(
        database, clock=database.clock, wakeup=wakeup, operations=operations,
        executor=executor_of("coroutine", workers=2, coroutines=WAITING), protection=RecordingProtection(),
        host="bench", lease_s=60, heartbeat_s=20, poll_s=1,
    )  # fmt: skip
    waiting = sys.modules[operations.get("waiter").__module__].WAITING
    dispatcher.start(service_row(database))
    try:
        # What the first of them brings along (the loop, imports, the database's cache) is no run's own.
        insert(database, 50, "waiter", {})
        wakeup.notify()
        wait_until("the first ones to wait", lambda: len(waiting) == 50 or None)
        gc.collect()
        before = resident_kib()
        insert(database, WAITING - 50, "waiter", {})
        wakeup.notify()
        wait_until("all of them to wait", lambda: len(waiting) == WAITING or None, timeout_s=120)
        gc.collect()
        return (resident_kib() - before) / (WAITING - 50)
    finally:
        dispatcher.stop(0)
        database.close()


# --- several hosts -----------------------------------------------------------------------------


def with_farm(amqp_url: str, call: Callable[[Farm], float], **settings: object) -> float:
    with tempfile.TemporaryDirectory(prefix="seawall-bench-") as path, postgresql_database() as url:
        farm = Farm(Path(path), url, amqp_url, **settings)
        try:
            farm.start("one", "operationengine")
            farm.start("one")
            return call(farm)
        finally:
            farm.close()


def ends_per_s(farm: Farm) -> float:
    farm.start("two")
    farm.insert(50, is_quiet=True)
    ended = sa.select(sa.func.count()).select_from(runs).where(runs.c.state == "success")
    pause = threading.Event()

    def until(count: int) -> None:
        while farm.database.read(lambda connection: connection.execute(ended).scalar_one()) < count:
            pause.wait(0.2)

    until(50)
    farm.insert(NOOPS, is_quiet=True)
    until(50 + NOOPS)
    span = sa.select(sa.func.min(runs.c.started_at), sa.func.max(runs.c.ended_at)).where(runs.c.row > 50)
    first, last = farm.database.read(lambda connection: connection.execute(span).one())
    return NOOPS / float((last - first).total_seconds())


def takeover_s(farm: Farm) -> float:
    farm.start("two")
    (run_id,) = farm.insert(1, gate=str(farm.gate))
    dead = farm.until_begun(run_id)
    farm.kill(dead)
    killed = time.monotonic()
    wait_until("the other host to go on", lambda: len(farm.told(run_id, "begun")) > 1 or None)
    taken = time.monotonic() - killed
    farm.gate.touch()
    farm.until_ended([run_id])
    return taken


def long_run(farm: Farm) -> float:
    ids = farm.insert(1, seconds=200)
    farm.until_begun(ids[0])
    ids += farm.insert(2)
    wait_until("the long run to end", lambda: farm.told(ids[0], "ended") or None, timeout_s=400)
    return float(all(row.attempt == 1 for row in farm.until_ended(ids)) and farm.is_alive("one"))


def main() -> None:
    # 5,000 runs that are handed back at the end say so, each for itself.
    set_up_logging(level="error", form="json")
    with tempfile.TemporaryDirectory(prefix="seawall-bench-") as path:
        show("engine.coroutine_5000_kib_each", coroutine_kib_each(Path(path)), "KiB", 20)
    if not is_postgresql_there("engine.noop_ends_per_s.celery", "engine.takeover_s"):
        return
    with tempfile.TemporaryDirectory(prefix="seawall-bench-") as path:
        broker = PrivateRabbitmq(Path(path) / "rabbitmq", consumer_timeout_s=20)
        try:
            broker.start()
            usual = {"lease_s": 15, "heartbeat_s": 5, "poll_s": 1, "doorbell_expires_s": 10}
            rates = [with_farm(broker.url, ends_per_s, **usual, workers=8) for _ in range(ROUNDS)]
            show("engine.noop_ends_per_s.celery", statistics.median(rates), "runs/s", 500, at_least=True)
            taken = [with_farm(broker.url, takeover_s, **usual) for _ in range(ROUNDS)]
            show("engine.takeover_s", statistics.median(taken), "s", 17)
            if "--long" in sys.argv:
                done = with_farm(broker.url, long_run, **usual, workers=1)
                show("engine.consumer_timeout_200_s", done, "ok", 1, at_least=True)
        finally:
            broker.kill()


if __name__ == "__main__":
    main()
