# SPDX-License-Identifier: Apache-2.0
"""What the tests of the engine stand on: a database, schedules, operations of the test, and a dispatcher."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from seawall.core.caller import Caller
from seawall.core.records import Plan, ScheduledOperation, Trigger
from seawall.db import plans, services
from seawall.db.session import Database
from seawall.db.tables import metadata, runs
from seawall.operation_engine import claim
from seawall.operation_engine.dispatcher import Dispatcher
from seawall.operation_engine.executors.thread_pool import ThreadPool
from seawall.operation_engine.schedules import Schedules
from seawall.runtime.database_url import DatabaseUrl
from seawall.runtime.registry import PluginKind, Plugins, load_plugins
from seawall.runtime.wakeup import Wakeup
from seawall.sdk.executor import Executor
from seawall.sdk.operation import Operation, OperationContext
from seawall.sdk.testing.clock import FakeClock
from seawall.sdk.testing.operation_suite import RecordingProtection

Json = dict[str, Any]
START = datetime(2026, 3, 1, tzinfo=UTC)
PROJECT = "0c6c6c2e-0b5b-4c39-9f7f-0d3d9b6f0a00"
LEASE_S = 15.0
_DROP_IN = """
from tests.engine.ground import CALLS
class Probe:
    operation_type = "probe"
    definition_schema = {"type": "object"}
    def run(self, definition, context):
        return CALLS[definition["call"]](definition, context)
"""
CALLS: dict[str, Callable[[Json, OperationContext], Mapping[str, Any] | None]] = {}
"""What the operation ``probe`` does, by the name in its definition."""


class Ground:
    """One installation; ``dispatcher`` makes one more process on it."""

    loop_s = 1.0
    """How often a dispatcher looks for what others left."""

    def __init__(
        self, folder: Path, *, where: Path | DatabaseUrl | None, clock: FakeClock | None = None
    ) -> None:
        self.folder = folder
        self.clock = clock or FakeClock(START)
        self.where = where
        self.database = self._database()
        metadata.create_all(self.database.engine)
        self.wakeup = Wakeup()
        self.drop_ins = folder / "operations"
        self.drop_ins.mkdir(mode=0o700, exist_ok=True)
        (self.drop_ins / "probe.py").write_text(_DROP_IN)
        self.operations: Plugins[Operation] = load_plugins(
            PluginKind(
                "seawall.operations",
                "operation_type",
                Operation,  # type: ignore[type-abstract]  # a protocol stands for its kind
                "seawall.operation_engine.operations",
            ),
            folders=[self.drop_ins],
            installed=lambda _: (),
        )
        self.protection = RecordingProtection()
        self.caller = Caller(project_id=PROJECT, user_id="tester", is_admin=True, request_id="r")
        self.schedules = Schedules(
            self.database,
            operations=self.operations,
            plan_lookup=lambda connection, plan_id: plans.get(connection, plan_id, project_id=None),
            wakeup=self.wakeup,
            min_interval_s=1,
        )
        self._dispatchers: list[Dispatcher] = []
        self._open: list[Database] = [self.database]
        self.call("nothing", lambda definition, context: None)

    def _database(self) -> Database:
        """At the fake clock, on PostgreSQL too."""
        return Database(self.where, self.clock, now=lambda _connection: self.clock.now())

    def close(self) -> None:
        for one in self._dispatchers:
            one.stop(0)
        for database in self._open:
            database.close()

    # --- making things -----------------------------------------------------------------------

    def call(self, name: str, act: Callable[[Json, OperationContext], Mapping[str, Any] | None]) -> None:
        CALLS[name] = act

    def trigger(self, **properties: Any) -> Trigger:
        given = {"format": "interval", "pattern": "60", "start_time": "2026-03-01 00:00:00", **properties}
        return self.schedules.create_trigger(self.caller, name="t", type="time", properties=given)

    def operation(self, trigger: Trigger, *, call: str = "nothing", **more: Any) -> ScheduledOperation:
        return self.schedules.create_operation(
            self.caller,
            name="o",
            operation_type=more.pop("operation_type", "probe"),
            trigger_id=trigger.id,
            operation_definition=more.pop("operation_definition", {"call": call}),
            **more,
        )

    def plan(self, plan_id: str, provider_id: str) -> Plan:
        now = self.clock.now()
        plan = Plan(
            plan_id, PROJECT, "p", "", provider_id, "started", ({"type": "directory", "id": "/x"},), {}, None,
            now, now,
        )  # fmt: skip
        self.database.write("test.plan", lambda tx: plans.insert(tx, plan))
        return plan

    # --- the engine --------------------------------------------------------------------------

    def claim(self, **more: Any) -> claim.Claimed:
        return self.database.write("test.claim", lambda tx: claim.claim(tx, **more), locks_rows=True)

    def claim_all(self) -> None:
        while self.claim().is_more:
            pass
        assert self.claim().triggers == 0

    def at(self, seconds: float) -> datetime:
        return START + timedelta(seconds=seconds)

    def go_to(self, seconds: float) -> None:
        """Move the clock to so many seconds after the start."""
        self.clock.advance((self.at(seconds) - self.clock.now()).total_seconds())

    def runs(self, **equal: Any) -> list[sa.Row[Any]]:
        """All runs, by due time."""
        query = sa.select(runs).order_by(runs.c.expected_at, runs.c.row)
        for name, value in equal.items():
            query = query.where(runs.c[name] == value)
        return list(self.database.read(lambda connection: connection.execute(query).all()))

    def states(self) -> list[str]:
        return [run.state for run in self.runs()]

    def reopened(self) -> Database:
        """Another process's connection to the same database."""
        assert self.where is not None
        database = self._database()
        self._open.append(database)
        return database

    def service(self, host: str, binary: str = "seawall-protection") -> int:
        return self.database.write(
            "test.service",
            lambda tx: services.find_or_create(tx, host=host, binary=binary, version="1", pid=1),
        )

    def dispatcher(
        self,
        *,
        host: str = "here",
        executor: Executor | None = None,
        database: Database | None = None,
        is_started: bool = True,
    ) -> Dispatcher:
        """One more process that carries out runs."""
        made = Dispatcher(
            database or self.database,
            clock=self.clock,
            wakeup=self.wakeup,
            operations=self.operations,
            executor=executor or ThreadPool(workers=4),
            protection=self.protection,
            host=host,
            lease_s=LEASE_S,
            heartbeat_s=5,
            poll_s=self.loop_s,
        )
        if is_started:
            made.start(self.service(host))
            self._dispatchers.append(made)
        return made

    def dispatched(self) -> int:
        """How many runs all dispatchers hold."""
        return sum(one.running for one in self._dispatchers)

    def until(self, condition: Callable[[], Any], *, step_s: float = 0.0) -> None:
        """Let real threads work, and fake time pass by ``step_s`` each look, until it is true."""
        never = threading.Event()
        for _ in range(1500):
            if condition():
                return
            if step_s:
                self.clock.advance(step_s)
            never.wait(0.005)
        raise AssertionError(f"this has not become true; runs: {self.runs()}")
