# SPDX-License-Identifier: Apache-2.0
"""A fresh repository without key derivation, and the real restic beside it."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from seawall.repository import Repository, config
from seawall.repository.crypto import Key
from seawall.sdk.bank import Bank
from tests.repository.banks import DictBank

NOW = datetime(2026, 3, 4, 5, 6, 7, 890123, tzinfo=UTC)
PASSWORD = "a password with späces"


class OpenLock:
    """A repository lock that expires when told to."""

    def __init__(self) -> None:
        self.expired = False

    def is_expired(self, now: datetime) -> bool:
        return self.expired


def fresh(bank: Bank) -> Repository:
    """A new repository without key slots, so that no test waits for scrypt."""
    key = Key.random()
    return Repository(bank, key, config.create(bank, key), "", NOW)


def commit(repository: Repository, path: Path, **options: object) -> tuple[str, str]:
    """Back up a path as one snapshot, a second after the one before; its id and its tree."""
    time = NOW + timedelta(seconds=len(repository.snapshots()))
    with repository.writer(OpenLock()) as writer:
        result = writer.save_path(path, **options)  # type: ignore[arg-type]
        assert result.faults == ()
        made = writer.commit(
            result.tree_id, hostname="host", username="me", paths=[str(path)], tags=["seawall"], time=time
        )
    return made, result.tree_id


@dataclass(frozen=True)
class Restic:
    """The real restic on one local repository."""

    program: str
    repository: Path

    def run(self, *words: str, code: int = 0, zone: str = "Asia/Kolkata") -> str:
        done = subprocess.run(
            [self.program, "--no-cache", *words],
            env={
                **os.environ,
                "RESTIC_PASSWORD": PASSWORD,
                "RESTIC_REPOSITORY": str(self.repository),
                "TZ": zone,
            },
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, f"restic {words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout


@pytest.fixture
def restic(tmp_path: Path) -> Restic:
    """restic on ``tmp_path/repository``; missing is a failure when TEST_SERVERS lists it."""
    program = shutil.which("restic")
    if program is None:
        if "restic" in os.environ.get("TEST_SERVERS", "").split(","):
            pytest.fail("restic is listed in TEST_SERVERS and not installed")
        pytest.skip("restic is not installed: the format is NOT proven against it in this run")
    return Restic(program, tmp_path / "repository")


@pytest.fixture
def bank() -> DictBank:
    return DictBank()


@pytest.fixture
def repository(bank: DictBank) -> Repository:
    return fresh(bank)


@pytest.fixture
def lock() -> OpenLock:
    return OpenLock()
