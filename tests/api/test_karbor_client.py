# SPDX-License-Identifier: Apache-2.0
"""The real python-karborclient works against a real server.

It is installed once into an environment of its own, which the test cache keeps; where it cannot be had, the
test is skipped and says so.
"""

from __future__ import annotations

import subprocess
import venv
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from seawall.api.monitor import Monitor
from seawall.api.service import ApiService
from seawall.core.caller import Role
from tests.api.ground import Ground
from tests.api.test_checkpoints import record_of
from tests.catalogue.test_checkpoints import finish

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

CLIENT = "python-karborclient==2.1.0"
Karbor = Callable[..., str]


@pytest.fixture(scope="session")
def program(request: pytest.FixtureRequest) -> Path:
    """The client's shell."""
    folder = request.config.cache.mkdir("karborclient") / "venv"
    program = folder / "bin" / "karbor"
    if not program.exists():
        venv.create(folder, clear=True, with_pip=True)
        done = subprocess.run(
            # setuptools: its libraries still ask for pkg_resources
            [folder / "bin" / "pip", "install", "--quiet", CLIENT, "setuptools<81"],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            program.unlink(missing_ok=True)
            pytest.skip(f"{CLIENT} cannot be installed here: {done.stderr[-500:]}")
    return program


@pytest.fixture
def karbor(ground: Ground, program: Path) -> Iterator[Karbor]:
    """Runs one command against the application on a socket; its output."""
    service = ApiService(
        lambda: ground.app,
        listen="127.0.0.1",
        port=0,
        on_listening=lambda _: None,
        monitor=Monitor(None, clock=ground.clock),
    )
    service.init_host(service_id=1)

    def run(*arguments: str, code: int = 0) -> str:
        done = subprocess.run(
            [
                *(program, "--os-no-client-auth", "--karbor-url", f"{service.url}/v1/{ground.project_id}"),
                *("--os-auth-token", ground.token[Role.ADMIN], "--os-tenant-id", ground.project_id),
                *arguments,
            ],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    try:
        yield run
    finally:
        service.cleanup_host()


def id_in(table: str) -> str:
    """The id in a table of properties and values."""
    return next(row.split("|")[2].strip() for row in table.splitlines() if row.startswith("| id "))


def test_its_shell_does_the_whole_job(ground: Ground, karbor: Karbor) -> None:
    provider = ground.provider_id
    assert provider in karbor("provider-list")
    assert "extended_info_schema" in karbor("provider-show", provider)
    assert "note" in karbor("protectable-list")
    assert "n1" in karbor("protectable-list-instances", "note")
    plan = id_in(karbor("plan-create", "plan1", provider, "n1=note=one"))
    assert "renamed" in karbor("plan-update", plan, "--name", "renamed")
    pattern = "BEGIN:VCALENDAR\\nBEGIN:VEVENT\\nRRULE:FREQ=HOURLY\\nEND:VEVENT\\nEND:VCALENDAR"
    trigger = id_in(karbor("trigger-create", "t", "time", f"format=calendar,pattern={pattern},window=20"))
    assert "t2" in karbor("trigger-update", trigger, "--name", "t2")
    definition = f"provider_id={provider},plan_id={plan}"
    operation = id_in(karbor("scheduledoperation-create", "o", "protect", trigger, definition))
    assert operation in karbor("scheduledoperation-list")
    checkpoint = id_in(karbor("checkpoint-create", provider, plan, "--extra_info", "why=release"))
    finish(ground.below, record_of(ground, {"id": checkpoint}))
    assert "available" in karbor("checkpoint-show", provider, checkpoint)
    assert checkpoint in karbor("checkpoint-list", provider, "--plan_id", plan)
    restore = id_in(karbor("restore-create", provider, checkpoint))
    assert restore in karbor("restore-list")
    assert "protecting" in karbor("operationlog-list")
    assert "plans" in karbor("quota-show", "--tenant", ground.project_id)
    karbor("checkpoint-reset-state", provider, checkpoint)
    assert "error" in karbor("checkpoint-show", provider, checkpoint)
    karbor("scheduledoperation-delete", operation)
    karbor("scheduledoperation-show", operation, code=1)
    karbor("trigger-delete", "t2")
    assert "used by" in karbor("plan-delete", plan, code=1)
    for run in ground.call("GET", "/runs", state="queued")["runs"]:
        ground.call("POST", f"/runs/{run['id']}/cancel")
    karbor("plan-delete", "renamed")
