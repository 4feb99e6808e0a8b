# SPDX-License-Identifier: Apache-2.0
"""A whole protection side: a real database, a file bank, real movers, and runs that exist only here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest

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

    def plan(self, *resources: tuple[str, Path]) -> Plan:
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
            parameters={},
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


@pytest.fixture
def side(tmp_path: Path) -> Iterator[Side]:
    data = DataFolder(tmp_path / "data")
    data.create()
    clock = SystemClock()
    database = Database(data.database, clock)
    upgrade(database)
    project_id = database.write("test.project", lambda tx: projects.create(tx, "admin"))
    provider = providers.ensure_default(data)
    assert provider is not None
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
    yield Side(tmp_path, data, database, engine, pool, project_id, provider.id)
    pool.close()
    database.close()
