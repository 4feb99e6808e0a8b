# SPDX-License-Identifier: Apache-2.0
"""``engine: restic``: the same checkpoints, with the real restic reading and writing the folders."""

from __future__ import annotations

import os
import select
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from seawall.core.errors import (
    BankFullError,
    ConflictError,
    DamagedError,
    RunError,
    SeawallError,
    WrongKeyError,
)
from seawall.db import repositories as rows
from seawall.protection import repositories
from seawall.protection.banks.file import FileBank
from seawall.protection.movers.restic import Backup, Restic, _error, _take_backup_line, escaped
from seawall.runtime.secrets import InstallKey
from seawall.sdk.bank import ResticAddress
from seawall.sdk.testing.operation_suite import MemoryContext
from tests.protection.conftest import Side

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _restic() -> None:
    if shutil.which("restic") is None:
        if "restic" in os.environ.get("TEST_SERVERS", "").split(","):
            pytest.fail("restic is listed in TEST_SERVERS and not installed")
        pytest.skip("restic is not installed")


@pytest.fixture
def driven(side: Side) -> Side:
    """A side whose provider says ``engine: restic``."""
    file = side.data.providers / "default.yaml"
    values = yaml.safe_load(file.read_text())
    file.write_text(yaml.safe_dump({**values, "engine": "restic"}))
    return side


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source [1]"
    (path / "deep").mkdir(parents=True)
    (path / "letter").write_text("dear")
    (path / "deep" / "large").write_bytes(os.urandom(500_000))
    (path / "link").symlink_to("letter")
    path.chmod(0o750)
    return path


def same(one: Path, other: Path) -> bool:
    return subprocess.run(["diff", "-r", str(one), str(other)], check=False).returncode == 0


def test_a_checkpoint_is_one_snapshot_and_comes_back(driven: Side, source: Path, tmp_path: Path) -> None:
    plan = driven.plan(("directory", source))
    first = driven.protect(plan)
    assert first.status == "available"
    assert [path.name for path in driven.snapshots()] == [first.snapshot_id]
    assert driven.locks() == []
    (source / "letter").write_text("dear you")
    second = driven.protect(plan)
    assert len(driven.snapshots()) == 2
    assert second.resources[0]["added_bytes"] < 100_000 < first.resources[0]["added_bytes"]
    target = tmp_path / "back"
    target.mkdir()
    restore = driven.ask(second, target)
    figures = driven.engine.restore(driven.context(), restore_id=restore.id)
    assert figures["items"] == 5
    assert same(source, target / source.name)
    assert (target / source.name).stat().st_mode & 0o777 == 0o750
    assert [one.name for one in target.iterdir()] == [source.name]
    assert len(driven.snapshots()) == 2


def test_restic_agrees_and_seawall_reads_what_it_wrote(driven: Side, source: Path, tmp_path: Path) -> None:
    checkpoint = driven.protect(driven.plan(("directory", source)))
    file = tmp_path / "password"
    (row,) = driven.database.read(rows.listed)
    key = InstallKey.load(driven.data.install_key)
    file.write_text(driven.database.read(lambda c: repositories.password(c, key, row.id)))
    place = driven.data.bank / row.id
    words = ["restic", "-r", str(place), "--password-file", str(file), "--no-cache"]
    subprocess.run([*words, "check", "--read-data"], check=True, capture_output=True)
    # Over what is there Seawall's own engine writes.
    (source / "letter").write_text("changed")
    restore = driven.ask(checkpoint, None)
    driven.engine.restore(driven.context(), restore_id=restore.id)
    assert (source / "letter").read_text() == "dear"


def test_what_is_left_out_stays_out_and_chosen_paths_come_back(
    driven: Side, source: Path, tmp_path: Path
) -> None:
    (source / "not*this").mkdir()
    (source / "not*this" / "file").write_text("x")
    (source / "not-this").write_text("stays")
    key = f"directory#{source}"
    plan = driven.plan(("directory", source), parameters={key: {"excludes": ["not*this"]}})
    checkpoint = driven.protect(plan)
    target = tmp_path / "back"
    target.mkdir()
    restore = driven.ask(checkpoint, target)
    driven.engine.restore(driven.context(), restore_id=restore.id)
    names = sorted(one.name for one in (target / source.name).iterdir())
    assert names == ["deep", "letter", "link", "not-this"]
    part = tmp_path / "part"
    part.mkdir()
    restore = driven.ask(checkpoint, part, **{key: {"paths": ["deep"]}})
    driven.engine.restore(driven.context(), restore_id=restore.id)
    assert [one.name for one in (part / source.name).iterdir()] == ["deep"]


def test_parts_of_a_session_that_was_killed_are_swept(driven: Side, source: Path) -> None:
    plan = driven.plan(("directory", source))
    driven.protect(plan)
    (row,) = driven.database.read(rows.listed)
    place = driven.engine._ground.place(driven.engine._ground.repository(row.id))
    with driven.pool.use(lambda: None) as mover:
        mover.call("begin", {"place": place})
        asked = {
            "resource": {"type": "directory", "id": str(source), "name": source.name},
            "allowed_roots": [str(source.parent)],
            "scratch": str(mover.scratch),
        }
        mover.call("protect", asked)
        assert len(driven.snapshots()) == 2
        os.kill(mover.pid, 9)
        with pytest.raises(SeawallError):
            mover.call("end", {})
    assert driven.locks() == []
    driven.protect(plan)
    assert len(driven.snapshots()) == 2


def test_a_cancelled_backup_ends_restic_too(driven: Side, tmp_path: Path) -> None:
    source = tmp_path / "large"
    source.mkdir()
    for number in range(40):
        (source / str(number)).write_bytes(os.urandom(10_000_000))
    handles: list[int] = []

    class Cancelled(MemoryContext):
        """Cancelled as soon as restic is at work."""

        def check(self) -> None:
            handles.extend(os.pidfd_open(pid) for pid in children(str(driven.data.bank)))
            if handles:
                raise ConflictError("cancelled by the test")

    context = Cancelled(
        project_id=driven.project_id, clock=driven.database.clock, scheduled_operation_id=None
    )
    with pytest.raises(ConflictError, match="cancelled by the test"):
        driven.protect(driven.plan(("directory", source)), context)
    assert handles
    for handle in handles:
        ended = select.poll()
        ended.register(handle, select.POLLIN)
        assert ended.poll(60_000), "restic outlived its mover"
        os.close(handle)


def children(word: str) -> list[int]:
    """The restics that work on this bank; none of them has a password among its arguments."""
    found = []
    for one in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = one.read_bytes().split(b"\0")
        except OSError:
            continue
        if words[0].endswith(b"restic") and any(word.encode() in part for part in words):
            found.append(int(one.parent.name))
    return found


# --- words ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "text", "kind"),
    [
        (1, "Fatal: wrong password or no key found", WrongKeyError),
        (12, "Fatal: anything", WrongKeyError),
        (11, "anything", ConflictError),
        (1, "unable to create lock in backend: repository is already locked exclusively", ConflictError),
        (1, "write /srv/x: no space left on device", BankFullError),
        (1, "ciphertext verification failed", DamagedError),
        (1, "Fatal: something new", RunError),
        (1, "", RunError),
    ],
)
def test_what_restic_fails_with_is_one_of_our_errors(code: int, text: str, kind: type[SeawallError]) -> None:
    assert type(_error(code, [text])) is kind


def test_what_restic_says_becomes_progress_faults_and_figures() -> None:
    done, shown = Backup(), []
    for line in (
        '{"message_type":"status","percent_done":0.5,"bytes_done":7,"files_done":2}',
        '{"message_type":"error","error":{"Op":"open","Err":13},"during":"archival","item":"/a"}',
        '{"message_type":"error","error":{"message":"denied"},"item":"/b"}',
        "open repository",
        "[]",
        '{"message_type":"summary","dirs_new":1,"dirs_unmodified":2,"total_files_processed":3,'
        '"total_bytes_processed":9,"data_added":5,"snapshot_id":"12ab"}',
    ):
        _take_backup_line(line, done, lambda *one: shown.append(one))
    assert shown == [(7, 2)]
    assert done == Backup("12ab", 6, 9, 5, [("/a", "13"), ("/b", "denied")])


def test_a_wrong_password_and_a_missing_repository_are_said(tmp_path: Path, source: Path) -> None:
    subprocess.run(
        ["restic", "-r", str(tmp_path / "r"), "--password-file", "/dev/stdin", "init"],
        input=b"right\n",
        check=True,
        capture_output=True,
    )
    address = FileBank(path=str(tmp_path)).restic_address("r")
    with pytest.raises(WrongKeyError, match="restic ended with") as raised:
        Restic(address, "top-secret").restore("latest", tmp_path / "t", ())
    assert "top-secret" not in str(raised.value)
    with pytest.raises(RunError, match="restic ended with"):
        Restic(ResticAddress(str(tmp_path / "none")), "x").restore("latest", tmp_path / "t", ())


def test_a_path_as_a_pattern_matches_itself_alone() -> None:
    assert escaped(r"/a*b/[c]?\d") == r"/a\*b/\[c\]\?\\d"
