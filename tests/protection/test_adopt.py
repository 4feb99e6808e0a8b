# SPDX-License-Identifier: Apache-2.0
"""A repository that restic made becomes a provider's bank, and restic goes on working on it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from seawall.core.errors import BankDeniedError, ConflictError, InvalidInputError, WrongKeyError
from seawall.db import projects
from seawall.db import repositories as rows
from seawall.protection import repositories
from seawall.protection.adopt import Adopted, adopt
from seawall.protection.bank_layers.adopted import AdoptedBank
from seawall.protection.banks.file import FileBank
from seawall.protection.banks.memory import MemoryBank
from seawall.repository import Repository
from seawall.runtime.registry import PluginKind, load_plugins
from seawall.runtime.secrets import InstallKey
from seawall.sdk.bank import Bank, SubBank
from seawall.sdk.testing.bank_suite import BankSuite
from tests.protection.conftest import Side

pytestmark = pytest.mark.slow

PASSWORD = "chosen long ago"
ID = "2f6b1ed0-5f3b-4b43-8b6d-0123456789ab"


class TestAdoptedBank(BankSuite):
    """Below the id of its repository it is a bank like any other."""

    def make_bank(self, folder: Path) -> Bank:
        return SubBank(AdoptedBank(MemoryBank(), ID), ID)


def test_an_adopted_bank_holds_one_repository() -> None:
    below = MemoryBank()
    bank = AdoptedBank(below, ID)
    bank.put(f"{ID}/config", b"x")
    assert below.get("config") == b"x"
    assert [one.key for one in bank.list()] == [f"{ID}/config"]
    assert [one.key for one in bank.list(ID[:5])] == [f"{ID}/config"]
    assert list(bank.list("other/")) == []
    with pytest.raises(BankDeniedError, match="holds no other"):
        bank.get("other/config")


@pytest.fixture
def place(tmp_path: Path, side: Side) -> Path:
    """A repository with a password of somebody's."""
    path = tmp_path / "old"
    now = side.database.clock.now()
    Repository.init(FileBank(path=str(path)), passwords=[PASSWORD], now=now)
    return path


def take(side: Side, place: Path, password: str = PASSWORD, name: str = "old") -> Adopted:
    return adopt(
        side.data.providers,
        side.database,
        InstallKey.load(side.data.install_key),
        load_plugins(
            PluginKind("seawall.banks", "bank_name", Bank, "seawall.protection.banks")  # type: ignore[type-abstract]  # a protocol stands for its kind
        ),
        project_id=side.project_id,
        name=name,
        bank="file",
        options={"path": str(place)},
        password=password,
    )


def test_checkpoints_go_into_the_adopted_repository(side: Side, place: Path, tmp_path: Path) -> None:
    taken = take(side, place)
    source = tmp_path / "source"
    source.mkdir()
    (source / "file").write_bytes(os.urandom(1000))
    side.provider_id = taken.provider.id
    checkpoint = side.protect(side.plan(("directory", source)))
    assert checkpoint.status == "available"
    assert checkpoint.repository_id == taken.repository_id
    opened = Repository.open(FileBank(path=str(place)), password=PASSWORD, now=side.database.clock.now())
    assert [one.id for one in opened.snapshots()] == [checkpoint.snapshot_id]
    assert len(opened.keys()) == 3
    key = InstallKey.load(side.data.install_key)
    recovery = side.database.read(lambda c: repositories.recovery_key(c, key, taken.repository_id))
    Repository.open(FileBank(path=str(place)), password=recovery, now=side.database.clock.now())


def test_it_is_adopted_once_and_an_interrupted_attempt_goes_on(side: Side, place: Path) -> None:
    with pytest.raises(WrongKeyError):
        take(side, place, "wrong")
    assert len(side.database.read(rows.listed)) == 0
    first = take(side, place)
    with pytest.raises(ConflictError, match=first.repository_id):
        take(side, place)
    file = side.data.providers / "old.yaml"
    before = file.read_text()
    file.unlink()  # as if the process had died before it was written
    assert take(side, place) == first
    assert file.read_text() == before
    assert len(side.database.read(rows.listed)) == 1


def test_a_name_that_is_taken_is_refused_before_anything_is_done(side: Side, place: Path) -> None:
    with pytest.raises(InvalidInputError, match="is taken"):
        take(side, place, name="default")
    assert len(list((place / "keys").iterdir())) == 1


def test_another_project_gets_no_repository_there(side: Side, place: Path, tmp_path: Path) -> None:
    taken = take(side, place)
    source = tmp_path / "source"
    source.mkdir()
    (source / "file").write_text("x")
    side.provider_id = taken.provider.id
    plan = side.plan(("directory", source))
    other = side.database.write("test", lambda tx: projects.create(tx, "other"))
    made = repositories.ensure(
        side.database,
        InstallKey.load(side.data.install_key),
        provider_id=taken.provider.id,
        project_id=other,
    )
    assert made.id != taken.repository_id
    with side.pool.use(lambda: None) as mover, pytest.raises(BankDeniedError):
        mover.call("open", {"place": side.engine._ground.place(made, may_create=True)})
    assert side.protect(plan).status == "available"


def test_restic_goes_on_working_on_it(side: Side, place: Path, tmp_path: Path) -> None:
    program = shutil.which("restic")
    if program is None:
        if "restic" in os.environ.get("TEST_SERVERS", "").split(","):
            pytest.fail("restic is listed in TEST_SERVERS and not installed")
        pytest.skip("restic is not installed")
    file = tmp_path / "password"
    file.write_text(PASSWORD)
    shutil.rmtree(place)

    def restic(*words: str) -> str:
        command = [program, "-r", str(place), "--password-file", str(file), "--no-cache", *words]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout

    source = tmp_path / "source"
    source.mkdir()
    (source / "file").write_bytes(os.urandom(1000))
    restic("init")
    restic("backup", str(source))
    taken = take(side, place)
    assert taken.snapshots == 1
    side.provider_id = taken.provider.id
    side.protect(side.plan(("directory", source)))
    restic("backup", str(source))
    restic("check", "--read-data")
    assert len(list((place / "snapshots").iterdir())) == 3
