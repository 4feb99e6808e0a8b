# SPDX-License-Identifier: Apache-2.0
"""Two engines and two workers that are killed and stopped at random, and what became of every due time.

    make soak MINUTES=2      (or: python -m tools.soak MINUTES [sqlite|postgresql] [SEED])

On PostgreSQL when the server of the tests is there, else on one SQLite file. At the end the operations are
disabled, which settles what is due; then every due time is worked out anew from the triggers' properties and
the instants of registering, and compared with the rows. One line of JSON; anything lost, doubled, invented
or left unfinished fails.
"""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import sqlalchemy as sa

from seawall.core.caller import Caller
from seawall.core.states import LIVE_RUN_STATES
from seawall.db import plans
from seawall.db.session import Database
from seawall.db.tables import metadata, runs
from seawall.operation_engine.schedules import Schedules
from seawall.runtime.clock import SystemClock
from seawall.runtime.database_url import DatabaseUrl
from seawall.runtime.wakeup import Wakeup
from tests.support.databases import place, server_url
from tools.soak_process import LEASE_S, operations_of

OPERATIONS = 60
PROJECT = "0c6c6c2e-0b5b-4c39-9f7f-0d3d9b6f0a00"
ROLES = (("engine", "one"), ("engine", "two"), ("worker", "one"), ("worker", "two"))
_EVERY_S = (1, 2, 3, 5, 10)
_SETTLE_S = 90.0
_SHORT = """
class Short:
    operation_type = "short"
    definition_schema = {"type": "object"}
    def run(self, definition, context):
        if context.journal.get("begun") is None:
            context.journal.record("begun", {"fence": context.fence})
        context.wait(definition["seconds"])
        return {"fence": context.fence}
"""


@dataclass(frozen=True, slots=True)
class Scheduled:
    """What was asked for, and when it was."""

    operation_id: str
    start: datetime
    every_s: int
    created_at: datetime

    def due(self, until: datetime) -> list[datetime]:
        """From the inputs alone: start + n times the interval, after the registering."""
        every = timedelta(seconds=self.every_s)
        number = (self.created_at - self.start) // every + 1
        found = []
        while (at := self.start + number * every) <= until:
            found.append(at)
            number += 1
        return found


class Soak:
    """The database, the processes, and the harm that is done to them."""

    def __init__(self, folder: Path, where: Path | DatabaseUrl, seed: int) -> None:
        self.folder = folder
        self.random = random.Random(seed)
        self.clock = SystemClock()
        self.address = where.address if isinstance(where, DatabaseUrl) else str(where)
        self.operations_folder = folder / "operations"
        self.operations_folder.mkdir(mode=0o700)
        (self.operations_folder / "short.py").write_text(_SHORT)
        self.database = Database(where, self.clock)
        metadata.create_all(self.database.engine)
        self.schedules = Schedules(
            self.database,
            operations=operations_of(self.operations_folder),
            plan_lookup=lambda connection, plan_id: plans.get(connection, plan_id, project_id=None),
            wakeup=Wakeup(),
            min_interval_s=1,
        )
        self.caller = Caller(project_id=PROJECT, user_id="soak", is_admin=True, request_id="soak")
        self.processes: dict[tuple[str, str], subprocess.Popen[bytes]] = {}
        self.kills = self.stops = 0
        self._pause = threading.Event()

    def close(self) -> None:
        for process in self.processes.values():
            process.send_signal(signal.SIGCONT)
            process.kill()
            process.wait()
        self.database.close()

    def schedule(self) -> list[Scheduled]:
        """Operations of every overlap policy and misfire."""
        made = []
        for number in range(OPERATIONS):
            every_s = self.random.choice(_EVERY_S)
            start = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.random.randrange(86_400))
            trigger = self.schedules.create_trigger(
                self.caller, name=f"t{number}", type="time",
                properties={
                    "format": "interval", "pattern": str(every_s), "window": self.random.choice((0, 5, 60)),
                    "start_time": start.strftime("%Y-%m-%d %H:%M:%S"), "max_catchup": 3,
                    "misfire": self.random.choice(("skip", "run_latest", "run_all")),
                },
            )  # fmt: skip
            operation = self.schedules.create_operation(
                self.caller, name=f"o{number}", operation_type="short", trigger_id=trigger.id,
                operation_definition={"seconds": self.random.choice((0, 0, 0.2, 1))},
                overlap=self.random.choice(("skip", "queue_one", "cancel_running", "allow")),
            )  # fmt: skip
            made.append(Scheduled(operation.id, start, every_s, operation.created_at))
        return made

    def start(self, role: tuple[str, str]) -> None:
        log = (self.folder / f"{'-'.join(role)}.log").open("ab")
        command = [sys.executable, "-m", "tools.soak_process", *role, self.address]
        with log:
            self.processes[role] = subprocess.Popen(
                [*command, str(self.operations_folder)], stdout=log, stderr=log
            )

    def harm(self, until: datetime) -> None:
        """Kill one and start it again, or let one stand still beyond its leases."""
        while self.clock.now() < until:
            self.wait(self.random.uniform(0.5, 3))
            role = self.random.choice(ROLES)
            process = self.processes[role]
            if process.poll() is not None:
                raise SystemExit(f"{role} has ended by itself: {process.returncode}; see {self.folder}")
            if self.random.random() < 0.6:
                process.kill()
                process.wait()
                self.kills += 1
                self.wait(self.random.uniform(0, 1.5))
                self.start(role)
            else:
                process.send_signal(signal.SIGSTOP)
                self.stops += 1
                self.wait(self.random.uniform(0.2, 2 * LEASE_S))
                process.send_signal(signal.SIGCONT)

    def disable(self, operation_id: str) -> datetime:
        """What is due of it becomes rows, in the same transaction (I2); when that was."""
        return self.schedules.update_operation(self.caller, operation_id, {"enabled": False}).updated_at

    def live(self) -> int:
        query = sa.select(sa.func.count()).select_from(runs).where(runs.c.state.in_(LIVE_RUN_STATES))
        found: int = self.database.read(lambda connection: connection.execute(query).scalar_one())
        return found

    def wait(self, seconds: float) -> None:
        self._pause.wait(seconds)

    def found(self, one: Scheduled, due: list[datetime]) -> Counter[datetime]:
        """Due times by rows; a stretch whose count is wrong adds one that is none."""
        query = sa.select(
            runs.c.expected_at, runs.c.gap_first_at, runs.c.gap_last_at, runs.c.gap_count
        ).where(runs.c.scheduled_operation_id == one.operation_id, runs.c.kind == "scheduled")
        counted: Counter[datetime] = Counter()
        for row in self.database.read(lambda connection: connection.execute(query).all()):
            if row.gap_count is None:
                counted[row.expected_at] += 1
                continue
            within = [at for at in due if row.gap_first_at <= at <= row.gap_last_at]
            counted.update(within)
            if len(within) != row.gap_count:
                counted[row.gap_first_at - timedelta(milliseconds=1)] += 1
        return counted


def run(minutes: float, kind: str, seed: int) -> bool:
    with tempfile.TemporaryDirectory(prefix="seawall-soak-") as text, place(kind, Path(text)) as where:
        assert where is not None
        soak = Soak(Path(text), where, seed)
        try:
            return _soak(soak, minutes, kind, seed)
        finally:
            soak.close()


def _soak(soak: Soak, minutes: float, kind: str, seed: int) -> bool:
    scheduled = soak.schedule()
    for role in ROLES:
        soak.start(role)
    soak.harm(soak.clock.now() + timedelta(minutes=minutes))
    ended = {one.operation_id: soak.disable(one.operation_id) for one in scheduled}
    give_up_at = soak.clock.monotonic() + _SETTLE_S
    while soak.live() and soak.clock.monotonic() < give_up_at:
        soak.wait(0.5)
    unfinished = soak.live()
    due = lost = doubled = invented = 0
    for one in scheduled:
        times = one.due(ended[one.operation_id])
        found = soak.found(one, times)
        due += len(times)
        lost += len(set(times) - found.keys())
        invented += len(found.keys() - set(times))
        doubled += sum(count - 1 for count in found.values())
    query = sa.select(runs.c.state, sa.func.count()).group_by(runs.c.state)
    counted = soak.database.read(lambda connection: connection.execute(query).all())
    states = dict(map(tuple, counted))
    is_good = lost == doubled == invented == unfinished == 0 and due > 0
    line = {
        "name": "soak", "database": kind, "minutes": minutes, "seed": seed, "due": due,
        "accounted": due - lost, "lost": lost, "doubled": doubled, "invented": invented,
        "unfinished": unfinished, "kills": soak.kills, "stops": soak.stops, "states": states, "ok": is_good,
    }  # fmt: skip
    print(json.dumps(line), flush=True)
    return is_good


def _reachable() -> str:
    try:
        psycopg.connect(server_url("postgres").address, connect_timeout=5).close()
    except psycopg.OperationalError:
        return "sqlite"
    return "postgresql"


def main() -> int:
    given = sys.argv[1:]
    minutes = float(given[0]) if given else 10.0
    kind = given[1] if len(given) > 1 else _reachable()
    seed = int(given[2]) if len(given) > 2 else random.SystemRandom().randrange(1_000_000)
    return 0 if run(minutes, kind, seed) else 1


if __name__ == "__main__":
    sys.exit(main())
