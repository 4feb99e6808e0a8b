# SPDX-License-Identifier: Apache-2.0
"""From a plan to a recovered installation with real movers: what one part writes the others understand."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from seawall.core.errors import SeawallError
from seawall.protection import recovery_kit
from seawall.protection.engine import ProtectionEngine
from seawall.protection.movers.pool import MoverPool
from seawall.sdk.testing.operation_suite import MemoryContext
from tests.catalogue.ground import Ground
from tests.catalogue.test_checkpoints import ask
from tests.catalogue.test_plans import create, schedule
from tests.catalogue.test_recover import PROJECT
from tests.catalogue.test_restores import restore

pytestmark = pytest.mark.slow


@pytest.fixture
def engine(ground: Ground) -> Iterator[ProtectionEngine]:
    movers = MoverPool(1, scratch=ground.data.scratch)
    yield ProtectionEngine(
        ground.database,
        clock=ground.clock,
        install_key=ground.install_key,
        providers=ground.providers,
        allowlist=ground.allowlist,
        movers=movers,
        host="here",
        lease_s=60,
    )
    movers.close()


def context_of(ground: Ground, run_id: str | None) -> MemoryContext:
    assert run_id is not None
    return MemoryContext(run_id=run_id, project_id=ground.project_id, clock=ground.clock)


def test_a_plan_is_protected_restored_recovered_and_deleted(ground: Ground, engine: ProtectionEngine) -> None:
    plan = create(ground, ground.directory(), ground.sqlite())
    schedule(ground, plan)
    one = ask(ground, plan)
    engine.protect(context_of(ground, one.run_id), plan_id=plan.id, provider_id=plan.provider_id)
    made = ground.catalogue.get_checkpoint(ground.caller, plan.provider_id, one.id)
    assert (made.status, made.items) == ("available", 2)
    assert engine.structure_faults(made) == []

    asked = restore(ground, made, str(ground.srv / "back"))
    engine.restore(context_of(ground, asked.run_id), restore_id=asked.id)
    assert ground.catalogue.get_restore(ground.caller, asked.id).status == "success"
    assert (ground.srv / "back" / "files" / "a").read_text() == "alpha"

    recovery_kit.ensure(ground.data.recovery_kit, ground.database, ground.install_key, [ground.provider])
    rescued = ground.folder / "rescued"
    shutil.copytree(ground.data.bank, rescued)
    words = [str(ground.folder / "fresh"), str(rescued), str(ground.data.recovery_kit)]
    done = subprocess.run(
        [sys.executable, "-m", "tests.catalogue.recover_child", *words],
        cwd=PROJECT,
        env=dict(os.environ),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "1 0"), done.stderr

    run = ground.catalogue.delete_checkpoint(ground.caller, plan.provider_id, one.id)
    engine.delete(context_of(ground, run.id), checkpoint_id=one.id)
    assert ground.catalogue.get_checkpoint(ground.caller, plan.provider_id, one.id).status == "deleted"


def test_a_source_that_has_gone_is_an_error_that_says_so(ground: Ground, engine: ProtectionEngine) -> None:
    plan = create(ground, ground.directory())
    one = ask(ground, plan)
    shutil.rmtree(Path(plan.resources[0]["id"]))
    with pytest.raises(SeawallError, match="files"):
        engine.protect(context_of(ground, one.run_id), plan_id=plan.id, provider_id=plan.provider_id)
    found = ground.catalogue.get_checkpoint(ground.caller, plan.provider_id, one.id)
    assert found.status == "error"
    assert str(plan.resources[0]["id"]) in str(found.reason)
