# SPDX-License-Identifier: Apache-2.0
"""A bank that is full, read-only, gone, damaged or somebody else's: the run says so, nothing is half done,
and once the fault is mended the next backup is as good as ever."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.evidence import differences, photograph
from demo.service import Json
from tests.crash.ground import SETTINGS, Ground, database_rows

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    made = Ground(tmp_path_factory.mktemp("banks"), SETTINGS)
    try:
        assert made.start()
        yield made
    finally:
        made.kill()


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1.5 MB."""
    place = tmp_path / "mounted"
    place.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1500k,mode=0700", "seawall-test", place],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        pytest.skip(f"SKIPPED LOUDLY: a small file system cannot be mounted here: {done.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)


class Banked:
    """A plan of its own on a bank of its own, with one good checkpoint."""

    def __init__(self, ground: Ground, bank: Path, name: str) -> None:
        self.ground = ground
        self.bank = bank
        self.folder, self.database = ground.new_sources(name)
        self.plan = ground.new_plan(name, ground.new_provider(name, bank), (self.folder, self.database))
        self.good = self.succeed()

    def succeed(self) -> Json:
        """A backup that works, and comes back alike."""
        made = self.ground.back_up(self.plan)
        assert self.ground.ended(made) == "available"
        before = photograph(self.folder), database_rows(self.database)
        self.ground.restore(self.plan, made, None)
        self.ground.assert_restored()
        assert (photograph(self.folder), database_rows(self.database)) == before
        return made

    def fail(self, code: str, *words: str) -> None:
        """A backup that fails, and says why on its run and on its checkpoint; nothing is half done."""
        before = self.snapshots()
        made = self.ground.back_up(self.plan)
        assert self.ground.ended(made) == "error"
        query = "SELECT id FROM runs WHERE id = ? AND ended_at IS NOT NULL"
        self.ground.until("its run to end", lambda: self.ground.rows(query, made["run_id"]) or None)
        run = self.ground.call("GET", f"/runs/{made['run_id']}")["run"]
        assert (run["state"], run["error"]["code"]) == ("failed", code), run
        ((reason, snapshot_id),) = self.ground.rows(
            "SELECT reason, snapshot_id FROM checkpoints WHERE id = ?", made["id"]
        )
        assert snapshot_id is None
        for word in words:
            assert word in run["reason"]
            assert word in reason
        assert self.snapshots() == before
        assert list(self.bank.rglob("*~*")) == [], "no unfinished file is left"

    def snapshots(self) -> list[str]:
        return sorted(path.name for path in self.bank.glob("*/snapshots/*"))

    def repository(self) -> Path:
        return next(self.bank.glob("*/config")).parent


def test_a_full_disk(ground: Ground, mounted: Path) -> None:
    banked = Banked(ground, mounted, "full")
    large = banked.folder / "large"
    large.write_bytes(os.urandom(3_000_000))
    banked.fail("bank_full", "no space is left on the bank", str(mounted))
    large.unlink()
    banked.succeed()


def test_a_read_only_bank(ground: Ground, mounted: Path) -> None:
    banked = Banked(ground, mounted, "readonly")
    subprocess.run(["mount", "-o", "remount,ro", mounted], check=True)
    banked.fail("bank_read_only", "the bank refuses this", str(mounted), "Read-only file system")
    subprocess.run(["mount", "-o", "remount,rw", mounted], check=True)
    banked.succeed()


def test_a_bank_that_is_not_mounted_is_never_made_anew(ground: Ground, tmp_path: Path) -> None:
    bank = tmp_path / "bank"
    bank.mkdir()
    banked = Banked(ground, bank, "gone")
    for is_restarted in (False, True):  # a mover that had the repository open, and one that opens it
        bank.rename(tmp_path / "away")
        if is_restarted:
            assert ground.stop()
            assert ground.start()
        banked.fail("bank_object_missing", str(bank))
        assert not bank.exists(), "what is written below a mount point would be hidden by the next mount"
        (tmp_path / "away").rename(bank)
        banked.succeed()


def test_a_repository_that_another_password_opens(ground: Ground, tmp_path: Path) -> None:
    bank, other = tmp_path / "bank", tmp_path / "other"
    bank.mkdir()
    other.mkdir()
    banked = Banked(ground, bank, "locked")
    stranger = Banked(ground, other, "stranger")
    keys, kept = banked.repository() / "keys", tmp_path / "kept"
    keys.rename(kept)
    (stranger.repository() / "keys").rename(keys)
    assert ground.stop()
    assert ground.start()
    banked.fail("wrong_key", "key slots", "password")
    keys.rename(tmp_path / "strange")
    kept.rename(keys)
    banked.succeed()


def test_a_truncated_pack(ground: Ground, tmp_path: Path) -> None:
    bank = tmp_path / "bank"
    bank.mkdir()
    banked = Banked(ground, bank, "short")
    pack = max(banked.repository().glob("data/*/*"), key=lambda path: path.stat().st_size)
    whole = pack.read_bytes()
    pack.write_bytes(whole[:10_000])
    # What movers have read before, they need not read again.
    assert ground.stop()
    assert ground.start()
    target = tmp_path / "target"
    target.mkdir()
    body = {
        "provider_id": banked.plan["provider_id"],
        "checkpoint_id": banked.good["id"],
        "restore_target": str(target),
        "parameters": {},
    }
    made = ground.call("POST", "/restores", {"restore": body})["restore"]
    query = "SELECT status, reason FROM restores WHERE id = ? AND status <> 'in_progress'"
    ((status, reason),) = ground.until("the restore", lambda: ground.rows(query, made["id"]) or None)
    assert status == "fail"
    assert pack.name[:16] in reason
    ended = "SELECT r.reason FROM runs r JOIN restores s ON s.run_id = r.id WHERE s.id = ? AND r.ended_at > 0"
    ((run_reason,),) = ground.until("the run's end", lambda: ground.rows(ended, made["id"]) or None)
    assert pack.name[:16] in run_reason
    # No file is there with less than its content.
    for path in [one for one in target.rglob("*") if one.is_file() and not one.name.startswith(".")]:
        assert path.read_bytes() == next(banked.folder.parent.rglob(f"short*/{path.name}")).read_bytes()
    repository_id = banked.repository().name
    assert ground.command("repository", "check", "--repository", repository_id) == 8
    pack.write_bytes(whole)
    assert ground.command("repository", "check", "--read-data", "--repository", repository_id) == 0
    before = photograph(banked.folder)
    ground.restore(banked.plan, banked.good, None)
    ground.assert_restored()
    assert differences(before, photograph(banked.folder)) == []
    banked.succeed()
