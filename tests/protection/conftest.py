# SPDX-License-Identifier: Apache-2.0
"""A whole protection side: a real database, a file bank, real movers, and runs that exist only here."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest

from seawall.core.errors import NotFoundError
from seawall.core.records import Checkpoint, Json, Plan, Restore
from seawall.db import checkpoints, plans, projects, restores
from seawall.db.migrations import upgrade
from seawall.db.session import Database
from seawall.protection import providers
from seawall.protection.allowlist import AllowList, ensure_default
from seawall.protection.engine import ProtectionEngine
from seawall.protection.movers.pool import MoverPool
from seawall.protection.providers import Providers
from seawall.runtime.clock import SystemClock
from seawall.runtime.folder import DataFolder
from seawall.runtime.registry import PluginKind, load_plugins
from seawall.runtime.secrets import InstallKey
from seawall.sdk.bank import Bank
from seawall.sdk.clock import Clock
from seawall.sdk.testing.operation_suite import MemoryContext


@dataclass
class Side:
    """What the tests speak to."""

    folder: Path
    data: DataFolder
    database: Database
    engine: ProtectionEngine
    pool: MoverPool
    project_id: str
    provider_id: str

    def plan(self, *resources: tuple[str, Path], parameters: Json | None = None) -> Plan:
        now = self.database.clock.now()
        named = tuple({"type": kind, "id": str(path), "name": path.name} for kind, path in resources)
        made = Plan(
            id=str(uuid4()),
            project_id=self.project_id,
            name="p",
            description="",
            provider_id=self.provider_id,
            status="suspended",
            resources=named,
            parameters=parameters or {},
            host=None,
            created_at=now,
            updated_at=now,
        )
        self.database.write("test.plan", lambda tx: plans.insert(tx, made))
        return made

    def context(self) -> MemoryContext:
        return MemoryContext(
            project_id=self.project_id, clock=self.database.clock, scheduled_operation_id=None
        )

    def protect(self, plan: Plan, context: MemoryContext | None = None) -> Checkpoint:
        done = self.engine.protect(context or self.context(), plan_id=plan.id, provider_id=self.provider_id)
        return self.checkpoint(done.checkpoint_id)

    def checkpoint(self, checkpoint_id: str) -> Checkpoint:
        return self.database.read(lambda c: checkpoints.get(c, checkpoint_id, project_id=None))

    def ask(self, checkpoint: Checkpoint, target: Path | None, **parameters: Json) -> Restore:
        new = restores.NewRestore(
            project_id=self.project_id,
            provider_id=self.provider_id,
            checkpoint_id=checkpoint.id,
            restore_target=None if target is None else str(target),
            parameters=parameters,
        )
        return self.database.write("test.restore", lambda tx: restores.insert(tx, new))

    def snapshots(self) -> list[Path]:
        return sorted(path for path in self.data.bank.rglob("snapshots/*") if path.is_file())

    def locks(self) -> list[Path]:
        """The locks on the bank, once those of dead movers are gone."""
        for thread in threading.enumerate():
            if thread.name == "mover-locks":
                thread.join(60)
        return sorted(path for path in self.data.bank.rglob("locks/*") if path.is_file())


@pytest.fixture
def side(tmp_path: Path) -> Iterator[Side]:
    with open_side(tmp_path) as made:
        yield made


@contextmanager
def open_side(folder: Path, clock: Clock | None = None) -> Iterator[Side]:
    """The side on a folder; what an earlier one, or a process that was killed, left there is there again."""
    data = DataFolder(folder / "data")
    data.create()
    clock = clock or SystemClock()
    database = Database(data.database, clock)
    upgrade(database)
    try:
        project_id = database.read(lambda c: projects.find(c, "admin"))
    except NotFoundError:
        project_id = database.write("test.project", lambda tx: projects.create(tx, "admin"))
        providers.ensure_default(data)
        ensure_default(data.projects, "admin")
    banks = load_plugins(
        PluginKind("seawall.banks", "bank_name", Bank, "seawall.protection.banks")  # type: ignore[type-abstract]  # a protocol stands for its kind
    )
    known = Providers(data.providers, banks)
    allowlist = AllowList(
        data.projects,
        name_of=lambda one: database.read(lambda c: projects.name_of(c, one)),
        own_places=lambda: {data.path: "the data folder", **known.local_banks()},
    )
    pool = MoverPool(2, scratch=data.scratch)
    engine = ProtectionEngine(
        database,
        clock=clock,
        install_key=InstallKey.load_or_create(data.install_key),
        providers=known,
        allowlist=allowlist,
        movers=pool,
        host="here",
        lease_s=15,
    )
    try:
        yield Side(folder, data, database, engine, pool, project_id, known.list()[0].id)
    finally:
        pool.close()
        database.close()
