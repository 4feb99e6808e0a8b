# SPDX-License-Identifier: Apache-2.0
"""A first start, and what is done without the service, can be cut at any place and done again."""

from __future__ import annotations

import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from seawall.protection import recovery_kit
from tests.crash.ground import Ground, database_rows
from tests.crash.invariants import kit_key, restic_check

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

# In the order in which a first start comes to them: each start gets as far as the next one.
STEPS = [
    "folder.private_file.before_fsync",
    "folder.private_file.before_rename",
    "folder.private_file.after_rename",
    "migrations.upgrade.before_commit",
    "migrations.upgrade.after_commit",
    "install.project.before_commit",
    "install.project.after_commit",
    "install.token.before_commit",
    "install.token.after_commit",
    "allowlist.default.before_rename",
    "allowlist.default.after_rename",
    "repositories.ensure.before_commit",
    "repositories.ensure.after_commit",
    "services.start.before_commit",
    "services.start.after_commit",
]
# The install key, the token, the provider, the allow-list, the recovery kit, the address of the API.
PRIVATE_FILES = 6


@pytest.fixture
def ground(tmp_path: Path) -> Iterator[Ground]:
    made = Ground(tmp_path)
    try:
        yield made
    finally:
        made.kill()


def assert_whole(ground: Ground) -> None:
    """There is one of everything, closed to others; a backup works, and the kit opens it."""
    for path in ground.data.rglob("*"):
        if path.name not in ("seawall.yaml", "seawall.db", "seawall.db-wal", "seawall.db-shm"):
            assert stat.S_IMODE(path.lstat().st_mode) & 0o077 == 0, path
    for table, count in {"projects": 1, "tokens": 1, "repositories": 1, "services": 3}.items():
        assert ground.rows(f"SELECT count(*) FROM {table}") == [(count,)], table
    assert len(ground.call("GET", "/providers")["providers"]) == 1
    assert len(recovery_kit.parse((ground.data / "recovery-kit.txt").read_text())) == 1
    ground.prepare()
    assert ground.ended(ground.back_up(ground.plan)) == "available"
    ((repository_id,),) = ground.rows("SELECT id FROM repositories")
    if shutil.which("restic"):
        repository = ground.data / "bank" / repository_id
        restic_check(repository, kit_key(ground.data, repository_id), ground.folder)


def test_a_first_start_that_is_cut_at_every_step_ends_with_one_whole_installation(ground: Ground) -> None:
    for name in STEPS:
        assert not ground.start(name), f"no cut came at {name}"
    assert ground.start()
    assert_whole(ground)
    assert ground.stop()


def test_a_first_start_that_is_cut_after_every_file_ends_with_one_whole_installation(ground: Ground) -> None:
    for number in range(PRIVATE_FILES):
        assert not ground.start("folder.private_file.after_fsync"), f"no cut came at file {number + 1}"
    assert ground.start()
    assert_whole(ground)
    assert ground.stop()


def test_what_is_done_without_the_service_can_be_cut_and_done_again(ground: Ground, tmp_path: Path) -> None:
    assert ground.start()
    ground.prepare()
    made = ground.back_up(ground.plan)
    assert ground.ended(made) == "available"
    assert ground.stop()

    acknowledged = "SELECT count(*) FROM repositories WHERE kit_acknowledged_at IS NOT NULL"
    assert ground.command("recovery-kit", "acknowledge", failpoint="kit.acknowledge.before_commit") == -9
    assert ground.rows(acknowledged) == [(0,)]
    assert ground.command("recovery-kit", "acknowledge", failpoint="kit.acknowledge.after_commit") == -9
    assert ground.rows(acknowledged) != [(0,)]
    assert ground.command("recovery-kit", "acknowledge") == 0

    kit = shutil.copy(ground.data / "recovery-kit.txt", tmp_path / "kit")
    bank = ground.data / "bank"
    shutil.move(bank, tmp_path / "bank")
    shutil.move(ground.data, tmp_path / "lost")
    words = ["recover", "--bank", str(tmp_path / "bank"), "--key", str(kit)]
    assert ground.command(*words, failpoint="recover.rows.before_commit") == -9
    assert ground.rows("SELECT count(*) FROM checkpoints") == [(0,)]
    assert ground.command(*words, failpoint="recover.rows.after_commit") == -9
    assert ground.rows("SELECT status FROM checkpoints WHERE id = ?", made["id"]) == [("available",)]
    assert ground.start()
    ground.restore(ground.plan | {"provider_id": provider_of(ground)}, made, None)
    ground.assert_restored()
    assert database_rows(ground.sources_of(ground.plan)[1])[b"rows"].content == "[(0,)]"
    assert ground.stop()


def provider_of(ground: Ground) -> str:
    """The only provider there is."""
    ((found,),) = [(one["id"],) for one in ground.call("GET", "/providers")["providers"]]
    return str(found)
