# SPDX-License-Identifier: Apache-2.0
"""A bank and the recovery key are enough: everything else is rebuilt on an empty machine (I9)."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import yaml

from seawall.core.caller import Caller
from seawall.core.errors import ConfigurationError, ConflictError, InvalidInputError, WrongKeyError
from seawall.core.listing import ListQuery
from seawall.core.records import Checkpoint, Plan
from seawall.db import audit, checkpoints, plans, projects, repositories, scheduled_operations, triggers
from seawall.db.migrations import upgrade
from seawall.db.session import Database
from seawall.protection import allowlist, flow_manifest, providers, recovery_kit
from seawall.protection import repositories as keys
from seawall.protection.movers.work import MANIFEST_FOLDER, MANIFEST_NAME
from seawall.protection.policy import policy_of
from seawall.protection.recover import Recovered, recover
from seawall.repository import Repository
from seawall.runtime.folder import DataFolder
from seawall.runtime.secrets import InstallKey
from seawall.sdk.bank import SubBank
from seawall.sdk.failpoints import FailpointError, arm
from seawall.sdk.testing.clock import FakeClock
from tests.catalogue.ground import Ground
from tests.catalogue.test_plans import create, schedule
from tests.support.s3_server import write_keys
from tests.support.small_s3 import SmallS3

PROJECT = Path(__file__).parents[2]
# Opening a repository derives keys, which is meant to be slow.
pytestmark = pytest.mark.slow


class _Lock:
    def is_expired(self, now: object) -> bool:
        return False


@dataclass
class Stored:
    """An installation that has stored something, and what a user has kept of it."""

    ground: Ground
    repository: Repository
    repository_id: str
    kit: str
    rescued: Path
    """A copy of the bank."""

    def save(self, plan: Plan, *, status: str = "available") -> Checkpoint:
        """A checkpoint of the plan, as the protection makes it: a snapshot, and its row afterwards."""
        ground = self.ground
        ground.clock.advance(60)
        made = ground.catalogue.create_checkpoint(
            ground.caller, provider_id=plan.provider_id, plan_id=plan.id
        )
        row = replace(made, status=status, items=1, read_bytes=5, added_bytes=5, ended_at=ground.clock.now())
        stored = ground.database.read(lambda c: repositories.get(c, made.repository_id, project_id=None))
        policy = ground.database.read(
            lambda c: policy_of(c, plan, provider_name=ground.provider.name, repository=stored)
        )
        with self.repository.writer(_Lock()) as writer:
            node = writer.save_bytes(MANIFEST_NAME, flow_manifest.render(row, policy).encode())
            root = writer.save_nodes([writer.dir_node(MANIFEST_FOLDER, writer.save_nodes([node]))])
            snapshot_id = writer.commit(
                root, hostname="here", username="seawall", paths=["/"], tags=[], time=ground.clock.now()
            )
        ground.database.write(
            "test",
            lambda tx: checkpoints.finish(
                tx,
                row.id,
                status=status,
                snapshot_id=snapshot_id,
                resources=row.resources,
                items=1,
                read_bytes=5,
                added_bytes=5,
                reason=None,
                extra_info=row.extra_info,
            ),
        )
        return ground.catalogue.get_checkpoint(ground.caller, plan.provider_id, row.id)

    def save_plain(self) -> None:
        """A snapshot as restic makes them."""
        with self.repository.writer(_Lock()) as writer:
            root = writer.save_nodes([writer.save_bytes("hello", b"world")])
            writer.commit(
                root, hostname="h", username="u", paths=["/x"], tags=[], time=self.ground.clock.now()
            )

    def rescue(self) -> None:
        shutil.rmtree(self.rescued, ignore_errors=True)
        shutil.copytree(self.ground.data.bank, self.rescued)


@dataclass
class Fresh:
    """An empty machine."""

    data: DataFolder
    database: Database
    install_key: InstallKey
    stored: Stored

    def recover(self, *, key: str | None = None, bank: Path | None = None) -> Recovered:
        return recover(
            self.data,
            self.database,
            self.install_key,
            self.stored.ground.banks,
            bank=bank or self.stored.rescued,
            key_text=self.stored.kit if key is None else key,
            host="there",
        )


@pytest.fixture
def stored(ground: Ground) -> Stored:
    repository = keys.ensure(
        ground.database, ground.install_key, provider_id=ground.provider.id, project_id=ground.project_id
    )
    password = ground.database.read(lambda c: keys.password(c, ground.install_key, repository.id))
    recovery = ground.database.read(lambda c: keys.recovery_key(c, ground.install_key, repository.id))
    opened = Repository.init(
        SubBank(ground.providers.open_bank(ground.provider), repository.id),
        passwords=[password, recovery],
        now=ground.clock.now(),
    )
    recovery_kit.ensure(ground.data.recovery_kit, ground.database, ground.install_key, [ground.provider])
    kit = ground.data.recovery_kit.read_text()
    return Stored(ground, opened, repository.id, kit, ground.folder / "rescued")


@pytest.fixture
def fresh(stored: Stored, tmp_path: Path) -> Iterator[Fresh]:
    data = DataFolder(tmp_path / "fresh")
    data.create()
    database = Database(data.database, FakeClock(stored.ground.clock.now()))
    upgrade(database)
    yield Fresh(data, database, InstallKey.load_or_create(data.install_key), stored)
    database.close()


def test_everything_comes_back_under_its_own_id(stored: Stored, fresh: Fresh) -> None:
    ground = stored.ground
    plan = create(ground, ground.directory(), ground.sqlite(), name="job", parameters={"sqlite": {}})
    operation_id = schedule(ground, plan)
    first = stored.save(plan)
    plan = ground.catalogue.update_plan(ground.caller, plan.id, {"name": "renamed"})
    second = stored.save(plan)
    stored.rescue()
    found = fresh.recover()
    assert found.faults == ()
    assert (found.repositories, found.checkpoints, found.plans, found.triggers, found.operations) == (
        1,
        2,
        1,
        1,
        1,
    )
    read = fresh.database.read
    assert read(lambda c: projects.find(c, "admin")) == ground.project_id
    rows = {
        one.id: one
        for one in read(lambda c: checkpoints.of_repository(c, stored.repository_id, statuses=("available",)))
    }
    assert rows[first.id] == first
    assert rows[second.id] == replace(second, pinned=True)
    again = read(lambda c: plans.get(c, plan.id, project_id=ground.project_id))
    assert again == replace(plan, host="there")
    operation = read(lambda c: scheduled_operations.get(c, operation_id, project_id=ground.project_id))
    assert operation.operation_definition == {"plan_id": plan.id, "provider_id": plan.provider_id}
    trigger = read(lambda c: triggers.get(c, operation.trigger_id, project_id=ground.project_id))
    assert (trigger.properties["pattern"], trigger.fired_through_at) == ("3600", fresh.database.clock.now())
    provider = providers.ensure_default(fresh.data)
    assert provider is not None
    assert (provider.id, provider.bank_options) == (ground.provider.id, {"path": str(stored.rescued)})
    assert [one.action for one in read(audit.newest)] == ["recover"]


def test_the_next_start_goes_on_with_what_came_back(stored: Stored, fresh: Fresh) -> None:
    """Keys, kit and provider are those of the bank: nothing is made anew beside them."""
    stored.save(create(stored.ground, stored.ground.directory()))
    stored.rescue()
    fresh.recover()
    provider = providers.ensure_default(fresh.data)
    assert provider is not None
    allowlist.ensure_default(fresh.data.projects, "admin")
    repository = keys.ensure(
        fresh.database,
        fresh.install_key,
        provider_id=provider.id,
        project_id=fresh.database.read(lambda c: projects.find(c, "admin")),
    )
    assert repository.id == stored.repository_id
    assert repository.format_id == stored.repository.id
    password = fresh.database.read(lambda c: keys.password(c, fresh.install_key, repository.id))
    bank = SubBank(stored.ground.banks.get("file")(**provider.bank_options), repository.id)
    opened = Repository.open(bank, password=password, now=fresh.database.clock.now())
    assert len(opened.snapshots()) == 1
    assert recovery_kit.ensure(fresh.data.recovery_kit, fresh.database, fresh.install_key, [provider])
    assert (
        recovery_kit.parse(fresh.data.recovery_kit.read_text())[0].key
        == recovery_kit.parse(stored.kit)[0].key
    )


def test_the_key_alone_is_enough_and_the_bank_is_only_read(stored: Stored, fresh: Fresh) -> None:
    stored.save(create(stored.ground, stored.ground.directory()))
    stored.rescue()
    before = {path: path.read_bytes() for path in stored.rescued.rglob("*") if path.is_file()}
    (key,) = recovery_kit.parse(stored.kit)
    assert fresh.recover(key=f"  {key.key}\n").checkpoints == 1
    assert {path: path.read_bytes() for path in stored.rescued.rglob("*") if path.is_file()} == before


def test_what_restic_made_is_left_alone_with_a_note(stored: Stored, fresh: Fresh) -> None:
    stored.save(create(stored.ground, stored.ground.directory()))
    stored.save_plain()
    stored.save_plain()
    stored.rescue()
    found = fresh.recover()
    assert (found.checkpoints, found.faults) == (1, ())
    assert any("2 snapshots were not made by Seawall" in one for one in found.notes)


def test_the_newest_clean_checkpoint_of_each_plan_is_pinned(stored: Stored, fresh: Fresh) -> None:
    ground = stored.ground
    one, two = create(ground, ground.directory("a")), create(ground, ground.directory("b"))
    stored.save(one)
    clean = stored.save(one)
    stored.save(one, status="available_with_warnings")
    warned = stored.save(two, status="available_with_warnings")
    stored.rescue()
    assert fresh.recover().plans == 2
    caller = Caller(ground.project_id, "alice", is_admin=False)
    page = fresh.database.read(
        lambda c: checkpoints.page(c, ListQuery(filters={"pinned": True}), project_id=caller.project_id)
    )
    assert {found.id for found in page.items} == {clean.id, warned.id}


def test_a_wrong_key_a_wrong_folder_and_no_key_are_said_to_be_so(
    stored: Stored, fresh: Fresh, tmp_path: Path
) -> None:
    stored.save(create(stored.ground, stored.ground.directory()))
    stored.rescue()
    with pytest.raises(WrongKeyError, match="opens none of the 1"):
        fresh.recover(key="AAAAA-BBBBB-CCCCC")
    for key in ("", "two words", "x" * 2_000_000, "repository: nothing\nkey: x"):
        with pytest.raises(InvalidInputError) as caught:
            fresh.recover(key=key)
        assert (caught.value.fields[0].field, caught.value.fields[0].value) == ("key", "(hidden)")
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    for bank, words in (
        (tmp_path / "missing", "cannot be read"),
        (tmp_path / "file", "neither the folder of a bank nor"),
        (tmp_path / "empty", "must be the folder of a bank"),
        (stored.rescued / stored.repository_id, "name the folder above"),
    ):
        with pytest.raises(InvalidInputError, match=words) as caught:
            fresh.recover(bank=bank)
        assert caught.value.fields[0].field == "bank"
    assert fresh.database.read(projects.listed) == {}
    assert not fresh.data.providers.exists()
    assert fresh.recover().checkpoints == 1, "a refusal leaves something in the way"


def test_nothing_is_mixed_with_what_is_there(stored: Stored, fresh: Fresh) -> None:
    stored.save(create(stored.ground, stored.ground.directory()))
    stored.rescue()
    fresh.recover()
    with pytest.raises(ConflictError, match="already holds"):
        fresh.recover()


def test_another_providers_file_is_not_overwritten(stored: Stored, fresh: Fresh) -> None:
    stored.save(create(stored.ground, stored.ground.directory()))
    stored.rescue()
    other = providers.ensure_default(fresh.data)
    with pytest.raises(ConfigurationError, match="move it away"):
        fresh.recover()
    assert providers.ensure_default(fresh.data) == other
    assert fresh.database.read(projects.listed) == {}


@pytest.mark.parametrize(
    "name",
    ["recover.rows.before_commit", "folder.private_file.before_rename", "folder.private_file.after_rename"],
)
def test_a_recovery_that_was_cut_is_done_again(stored: Stored, fresh: Fresh, name: str) -> None:
    stored.save(create(stored.ground, stored.ground.directory()))
    stored.rescue()
    arm(f"{name}=raise")
    with pytest.raises(FailpointError):
        fresh.recover()
    assert fresh.database.read(projects.listed) == {}
    found = fresh.recover()
    assert (found.checkpoints, found.faults) == (1, ())


def test_damage_is_named_and_the_rest_comes_back(stored: Stored, fresh: Fresh) -> None:
    plan = create(stored.ground, stored.ground.directory())
    kept = stored.save(plan)
    broken = stored.save(plan)
    stored.rescue()
    assert broken.snapshot_id is not None
    path = stored.rescued / stored.repository_id / "snapshots" / broken.snapshot_id
    path.write_bytes(path.read_bytes()[:-1])
    found = fresh.recover()
    assert found.checkpoints == 1
    (fault,) = found.faults
    assert broken.snapshot_id[:8] in fault
    assert fresh.database.read(lambda c: checkpoints.get(c, kept.id, project_id=None)).pinned


def test_a_repository_without_a_key_or_config_is_named_and_others_come_back(
    stored: Stored, fresh: Fresh
) -> None:
    stored.save(create(stored.ground, stored.ground.directory()))
    stored.rescue()
    foreign = stored.rescued / "11111111-2222-4333-8444-555555555555"
    shutil.copytree(stored.rescued / stored.repository_id, foreign)
    (stored.rescued / "notes").mkdir()
    kit = stored.kit + "\nrepository: 99999999-2222-4333-8444-555555555555\nkey: ABCDE-FGHJK\n"
    found = fresh.recover(key=kit)
    assert found.checkpoints == 1
    assert sorted(one.split(" of the")[0].split(":")[0] for one in found.faults) == [
        f"repository {foreign.name}",
        "repository 99999999-2222-4333-8444-555555555555",
    ]


def test_a_bank_that_cannot_be_read_is_said_to_be_so(stored: Stored, fresh: Fresh) -> None:
    stored.rescue()
    os.truncate(stored.rescued / stored.repository_id / "config", 5)
    with pytest.raises(InvalidInputError) as caught:
        fresh.recover()
    assert caught.value.fields[0].field == "bank"


def test_no_secret_is_shown(stored: Stored, fresh: Fresh) -> None:
    stored.save(create(stored.ground, stored.ground.directory()))
    stored.rescue()
    (key,) = recovery_kit.parse(stored.kit)
    assert key.key not in repr(key)
    found = fresh.recover()
    assert key.key not in repr(found)
    assert key.key not in fresh.data.database.read_bytes().decode("latin-1")


@pytest.mark.parametrize(
    ("name", "second"),
    [
        ("folder.private_file.before_fsync", "1 0"),
        ("folder.private_file.after_rename", "1 0"),
        ("folder.private_file.before_rename=kill@2", "1 0"),
        ("folder.private_file.after_fsync=kill@2", "1 0"),
        ("recover.rows.before_commit", "1 0"),
        ("recover.rows.after_commit", "already"),
    ],
)
def test_a_power_cut_leaves_all_of_it_or_nothing(
    stored: Stored, tmp_path: Path, name: str, second: str
) -> None:
    """The first private file is the install key, the second the provider."""
    stored.save(create(stored.ground, stored.ground.directory()))
    stored.rescue()
    words = [sys.executable, "-m", "tests.catalogue.recover_child"]
    words += [str(tmp_path / "cut"), str(stored.rescued), str(stored.ground.data.recovery_kit)]

    def run(failpoints: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "SEAWALL_FAILPOINTS": failpoints}
        return subprocess.run(
            words, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False
        )

    assert run(name if "=" in name else f"{name}=kill").returncode == -signal.SIGKILL
    done = run("")
    assert (done.returncode, done.stdout) == (0, second), done.stderr
    assert run("").stdout == "already"


def test_a_bank_that_is_no_folder_is_named_by_a_file(stored: Stored, fresh: Fresh, tmp_path: Path) -> None:
    checkpoint = stored.save(create(stored.ground, stored.ground.directory()))
    stored.rescue()
    with SmallS3() as server:
        for path in stored.rescued.rglob("*"):
            if path.is_file():
                server.objects[f"here/{path.relative_to(stored.rescued)}"] = path.read_bytes()
        bank = {
            "type": "s3",
            "endpoint": f"http://127.0.0.1:{server.port}",
            "allow_http": True,
            "bucket": server.bucket,
            "prefix": "here",
            "key_file": str(write_keys(tmp_path / "s3.keys", "access", "secret")),
        }
        file = tmp_path / "bank.yaml"
        file.write_text(yaml.safe_dump({"bank": bank}))
        file.chmod(0o600)
        found = fresh.recover(bank=file)
    assert (found.faults, found.checkpoints) == ((), 1)
    provider = providers.ensure_default(fresh.data)
    assert provider is not None
    assert provider.bank == "s3"
    assert provider.id == checkpoint.provider_id
    assert provider.bank_options == {name: value for name, value in bank.items() if name != "type"}


def test_an_adopted_repository_comes_back_from_its_root(stored: Stored, fresh: Fresh, tmp_path: Path) -> None:
    stored.save(create(stored.ground, stored.ground.directory()))
    stored.rescue()
    root = stored.rescued / stored.repository_id
    with pytest.raises(InvalidInputError, match="adopted"):
        fresh.recover(bank=root)
    file = tmp_path / "old.yaml"
    file.write_text(
        yaml.safe_dump({"adopted": stored.repository_id, "bank": {"type": "file", "path": str(root)}})
    )
    file.chmod(0o600)
    assert fresh.recover(bank=file).checkpoints == 1
    provider = providers.ensure_default(fresh.data)
    assert provider is not None
    assert provider.adopted == stored.repository_id


@pytest.mark.parametrize("text", ["[]", "bank: {path: /x}", "type: none", "type: s3\nbucket: b"])
def test_a_file_that_describes_no_bank_is_refused(fresh: Fresh, tmp_path: Path, text: str) -> None:
    file = tmp_path / "bank.yaml"
    file.write_text(text)
    file.chmod(0o600)
    with pytest.raises(InvalidInputError, match="bank"):
        fresh.recover(bank=file)
