# SPDX-License-Identifier: Apache-2.0
"""The failpoints that neither a service on the default bank nor its first start passes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from demo.evidence import differences, photograph
from demo.service import Json
from seawall.protection.banks.s3 import S3Bank
from tests.crash.ground import Ground, PowerCutError
from tests.support.small_s3 import SmallS3

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
ROOT = Path(__file__).parents[2]


@pytest.fixture
def ground(tmp_path: Path) -> Iterator[Ground]:
    made = Ground(tmp_path)
    try:
        yield made
    finally:
        made.kill()


@pytest.mark.parametrize(
    ("act", "point"),
    [
        ("put", "bank.bucket.before_put"),
        ("put", "bank.bucket.after_put"),
        ("delete", "bank.bucket.before_delete"),
        ("delete", "bank.bucket.after_delete"),
    ],
)
def test_an_object_in_a_bucket_is_whole_or_not_there(tmp_path: Path, act: str, point: str) -> None:
    keys = tmp_path / "keys"
    keys.touch(mode=0o600)
    keys.write_text("[default]\naws_access_key_id = a\naws_secret_access_key = b\n")
    with SmallS3() as small:
        options: Json = {
            "endpoint": f"http://127.0.0.1:{small.port}",
            "bucket": small.bucket,
            "key_file": str(keys),
            "allow_http": True,
        }
        bank = S3Bank(**options)
        bank.put("old", b"former")
        done = subprocess.run(
            [sys.executable, "-m", "tests.crash.bucket_child", json.dumps(options), act],
            cwd=ROOT,
            env={**os.environ, "SEAWALL_FAILPOINTS": f"{point}=kill", "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert done.returncode == -signal.SIGKILL, done.stderr
        there = {one.key for one in bank.list()}
        is_done = ".after_" in point
        assert (
            there
            == {"put": {"old"} | ({"new"} if is_done else set()), "delete": set() if is_done else {"old"}}[
                act
            ]
        )
        bank.put("new", b"whole" * 1000)
        bank.delete("old")
        assert bank.get("new") == b"whole" * 1000
        bank.close()


def test_adopting_can_be_cut_and_done_again(ground: Ground, tmp_path: Path) -> None:
    assert ground.start()
    assert ground.stop()
    word = tmp_path / "word"
    word.touch(mode=0o600)
    word.write_text("a former password\n")
    place = ("--at", str(tmp_path / "old"), "--password-file", str(word))
    assert ground.command("repository", "init", *place) == 0
    adopt = ("repository", "adopt", "old", *place)
    known = "SELECT count(*) FROM repositories"
    assert ground.command(*adopt, failpoint="repositories.adopt.before_commit") == -signal.SIGKILL
    assert ground.rows(known) == [(1,)]
    assert ground.command(*adopt, failpoint="repositories.adopt.after_commit") == -signal.SIGKILL
    assert ground.rows(known) == [(2,)]
    assert ground.command(*adopt) == 0
    assert ground.rows(known) == [(2,)]
    assert ground.start()
    assert "old" in [one["name"] for one in ground.call("GET", "/providers")["providers"]]
    assert ground.stop()


def test_unlocking_can_be_cut_and_done_again(ground: Ground) -> None:
    assert ground.start()
    ground.prepare()
    assert ground.ended(ground.back_up(ground.plan)) == "available"
    assert ground.stop()
    ((repository_id,), *_) = ground.rows("SELECT id FROM repositories ORDER BY row")
    locks = ground.data / "bank" / repository_id / "locks"
    locks.mkdir(exist_ok=True)
    for name in ("a" * 64, "b" * 64, "c" * 64):
        (locks / name).write_bytes(b"of a process that is gone")
    unlock = ("repository", "unlock", "--remove-all", "--repository", repository_id)
    assert ground.command(*unlock, failpoint="repository.unlock.before_delete") == -signal.SIGKILL
    assert len(list(locks.iterdir())) == 3
    assert ground.command(*unlock, failpoint="repository.unlock.after_delete") == -signal.SIGKILL
    assert len(list(locks.iterdir())) == 2
    assert ground.command(*unlock) == 0
    assert list(locks.iterdir()) == []


@pytest.mark.parametrize("point", ["movers.restic.before_rename", "movers.restic.after_rename"])
def test_a_restore_by_restic_that_is_cut_is_finished(ground: Ground, point: str) -> None:
    if shutil.which("restic") is None:
        if "restic" in os.environ.get("TEST_SERVERS", "").split(","):
            pytest.fail("restic is listed in TEST_SERVERS and not installed")
        pytest.skip("restic is not installed")
    assert ground.start()
    file = ground.data / "providers.d" / "default.yaml"
    file.write_text(yaml.safe_dump({**yaml.safe_load(file.read_text()), "engine": "restic"}))
    provider = ground.call("GET", "/providers")["providers"][0]["id"]
    folder, _ = ground.new_sources("papers")
    body = {
        "name": "papers",
        "provider_id": provider,
        "resources": [{"type": "directory", "id": str(folder), "name": "papers"}],
        "parameters": {},
    }
    plan = ground.call("POST", "/plans", {"plan": body})["plan"]
    made = ground.back_up(plan)
    assert ground.ended(made) == "available"
    before = photograph(folder)
    assert ground.stop()

    target = ground.folder / "target"
    target.mkdir()
    try:
        assert ground.start(point)
        ground.call(
            "POST",
            "/restores",
            {
                "restore": {
                    "provider_id": provider,
                    "checkpoint_id": made["id"],
                    "restore_target": str(target),
                    "parameters": {},
                }
            },
        )
        assert ground.is_cut_within(60), f"no cut came at {point}"
    except PowerCutError:
        pass
    assert ground.start()

    def ended() -> str | None:
        ((status,),) = ground.rows("SELECT status FROM restores")
        return None if status == "in_progress" else str(status)

    assert ground.until("the restore to end", ended) == "success"
    assert differences(before, photograph(target / "papers")) == []
    assert ground.stop()


def test_naming_a_broker_can_be_cut_and_done_again(ground: Ground) -> None:
    """The outbox is switched on by the first start that knows of a broker, whether or not that answers."""
    with (ground.data / "seawall.yaml").open("a") as settings:
        settings.write("amqp_url: amqp://guest:guest@127.0.0.1:1//\n")
    assert not ground.start("outbox.switch.before_commit")
    assert not ground.start("outbox.switch.after_commit")
    # It is on now: there is nothing left to cut.
    assert ground.start("outbox.switch.before_commit")
    assert ground.stop()
