# SPDX-License-Identifier: Apache-2.0
"""``seawall repository`` on repositories in folders, beside the real restic where it is there."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from seawall.protection.banks.file import FileBank
from seawall.repository import Repository
from tests.cli.conftest import Terminal, Typed

pytestmark = pytest.mark.slow

NOW = datetime(2026, 1, 1, tzinfo=UTC)
PASSWORD = "a password with späces"


class At:
    """Types ``seawall repository`` at one repository."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "repository"
        self.password_file = folder / "password"
        self.password_file.write_text(f"{PASSWORD}\nnot this line\n")
        self.terminal = Terminal(folder / "no-installation")

    def type(self, *words: str, given: str | None = None, file: str | None = None) -> Typed:
        where = ("--at", str(self.path), "--password-file", file or str(self.password_file))
        return self.terminal.type("repository", *words, *where, given=given)

    def run(self, *words: str, **more: str) -> str:
        done = self.type(*words, **more)
        assert done.code == 0, done.err
        return done.out

    def json(self, *words: str) -> Any:
        return json.loads(self.run(*words, "-o", "json"))


@pytest.fixture
def at(tmp_path: Path) -> At:
    return At(tmp_path)


@pytest.fixture
def filled(at: At, tmp_path: Path) -> At:
    """A repository with one snapshot of two files."""
    source = tmp_path / "papers"
    (source / "deep").mkdir(parents=True)
    (source / "letter.txt").write_text("dear")
    (source / "deep" / "letter.txt").write_bytes(os.urandom(300_000))
    (source / "link").symlink_to("letter.txt")
    made = Repository.init(FileBank(path=str(at.path)), passwords=[PASSWORD], now=NOW)
    lock = made.lock(now=NOW)
    with made.writer(lock) as writer:
        saved = writer.save_path(source)
        writer.commit(
            saved.tree_id, hostname="h", username="u", paths=[str(source)], tags=["one", "two"], time=NOW
        )
    lock.release()
    return at


def test_a_repository_is_made_once_and_needs_no_installation(at: At) -> None:
    assert "is made" in at.run("init")
    assert at.json("snapshots") == []
    again = at.type("init")
    assert (again.code, "already holds a repository" in again.err) == (5, True)
    assert not at.terminal.data.exists()


def test_a_password_is_never_an_argument_and_a_wrong_one_is_said(at: At) -> None:
    at.run("init")
    assert at.type("snapshots", file="-", given=f"{PASSWORD}\n").code == 0
    wrong = at.type("snapshots", file="-", given="wrong\n")
    assert (wrong.code, "wrong" in wrong.err.replace("wrong_key", "")) == (9, False)
    empty = at.type("snapshots", file="-", given="\n")
    assert (empty.code, "holds no password" in empty.err) == (2, True)
    missing = at.terminal.type("repository", "snapshots", "--at", str(at.path))
    assert (missing.code, "SEAWALL_REPOSITORY_PASSWORD" in missing.err) == (2, True)
    both = at.type("snapshots", "--repository", "x")
    assert both.code == 2


def test_what_is_there_is_listed_found_and_counted(filled: At) -> None:
    (one,) = filled.json("snapshots")
    assert one["tags"] == ["one", "two"]
    assert filled.json("snapshots", "--tag", "three") == []
    assert [found["path"] for found in filled.json("ls", "latest")] == ["/deep", "/letter.txt", "/link"]
    assert [found["path"] for found in filled.json("ls", one["id"][:8], "/deep")] == ["/deep/letter.txt"]
    everything = filled.json("ls", "latest", "--recursive")
    assert {found["path"]: found["mode"][0] for found in everything} == {
        "/deep": "d",
        "/deep/letter.txt": "-",
        "/letter.txt": "-",
        "/link": "l",
    }
    assert [found["path"] for found in filled.json("find", "lett*")] == ["/deep/letter.txt", "/letter.txt"]
    assert [found["path"] for found in filled.json("find", "/deep/*")] == ["/deep/letter.txt"]
    assert "link -> letter.txt" in filled.run("ls", "latest")
    found = filled.json("stats")
    assert (found["snapshots"], found["files"], found["restore_bytes"]) == (1, 2, 300_004)
    assert found["stored_bytes"] > 300_000
    assert filled.type("ls", "ffffffff").code == 3
    assert filled.type("ls", "latest", "/none").code == 3


def test_what_is_damaged_is_found_and_mended_as_far_as_can_be(filled: At, tmp_path: Path) -> None:
    assert "no errors" in filled.run("check", "--read-data")
    assert "no errors" in filled.run("check", "--sample", "1/1")
    assert filled.type("check", "--sample", "2/1").code == 2
    shutil.copytree(filled.path / "index", tmp_path / "index")
    for file in (filled.path / "index").iterdir():
        file.chmod(0o600)
        file.write_bytes(b"damaged")
    assert filled.type("snapshots").code == 8
    filled.run("repair")
    assert "no errors" in filled.run("check", "--read-data")
    pack = max((filled.path / "data").glob("*/*"), key=lambda one: one.stat().st_size)
    pack.unlink()
    broken = filled.type("check")
    assert (broken.code, "letter.txt" in broken.err) == (8, True)
    assert filled.type("repair").code == 8


def test_pruning_frees_and_says_what(filled: At) -> None:
    for file in (filled.path / "snapshots").iterdir():
        file.unlink()
    waiting = filled.json("prune")
    assert (waiting["deleted_packs"], waiting["waiting_packs"] > 0) == (0, True)
    assert filled.json("prune", "--exclusive")["deleted_packs"] > 0
    assert list((filled.path / "data").glob("*/*")) == []


def test_keys_come_and_go_and_the_one_in_use_stays(filled: At, tmp_path: Path) -> None:
    new = tmp_path / "new"
    new.write_text("another\n")
    filled.run("key", "add", "--new-password-file", str(new))
    assert filled.type("snapshots", file=str(new)).code == 0
    slots = filled.json("key", "list")
    assert len(slots) == 2
    own = next(one["id"] for one in slots if one["current"])
    other = next(one["id"] for one in slots if not one["current"])
    refused = filled.type("key", "remove", own[:8])
    assert (refused.code, "open it with another" in refused.err) == (2, True)
    filled.run("key", "remove", other[:8])
    assert filled.type("snapshots", file=str(new)).code == 9


def test_the_key_of_the_recovery_kit_is_not_removed(terminal: Terminal) -> None:
    """The bank and the kit must be enough (I9): without its slot the kit opens nothing."""
    (source := terminal.data.parent / "kept").mkdir()
    (source / "a").write_text("alpha")
    terminal.run("plan", "create", "kept", str(source), "--provider", "default")
    terminal.run("checkpoint", "create", "--plan", "kept", "--wait")
    ours = terminal.json("repository", "key", "list", "--repository", default_repository(terminal))
    (recovery,) = (one["id"] for one in ours if not one["current"])
    words = ("repository", "key", "remove", recovery[:8], "--repository", default_repository(terminal))
    refused = terminal.type(*words)
    assert (refused.code, "recovery kit" in refused.err) == (2, True), refused
    after = terminal.json("repository", "key", "list", "--repository", default_repository(terminal))
    assert {one["id"] for one in after} == {one["id"] for one in ours}


def default_repository(terminal: Terminal) -> str:
    """The id of the repository on the default bank."""
    return next((terminal.data / "bank").iterdir()).name


def test_locks_are_shown_and_only_stale_ones_go(filled: At) -> None:
    opened = Repository.open(FileBank(path=str(filled.path)), password=PASSWORD, now=NOW)
    opened.lock(now=NOW)  # long ago: stale
    live = opened.lock(now=datetime(2200, 1, 1, tzinfo=UTC))
    assert sorted(one["stale"] for one in filled.json("locks")) == [False, True]
    assert "removed 1 locks" in filled.run("unlock")
    assert [one["id"] for one in filled.json("locks")] == [live.id]
    assert filled.type("prune", "--exclusive").code == 5
    assert "removed 1 locks" in filled.run("unlock", "--remove-all")
    assert filled.json("locks") == []


def test_a_snapshot_comes_back(filled: At, tmp_path: Path) -> None:
    target = tmp_path / "back"
    target.mkdir()
    assert filled.json("restore", "latest", "--target", str(target), "--include", "/deep")["bytes"] == 300_000
    assert [one.name for one in target.iterdir()] == ["deep"]
    filled.run("restore", "latest", "--target", str(target))
    original = tmp_path / "papers"
    assert (target / "deep/letter.txt").read_bytes() == (original / "deep/letter.txt").read_bytes()
    assert (target / "link").readlink() == Path("letter.txt")


def test_restic_and_seawall_say_the_same(at: At, tmp_path: Path) -> None:
    program = shutil.which("restic")
    if program is None:
        if "restic" in os.environ.get("TEST_SERVERS", "").split(","):
            pytest.fail("restic is listed in TEST_SERVERS and not installed")
        pytest.skip("restic is not installed")
    at.password_file.write_text(f"{PASSWORD}\n")
    environment = {
        **os.environ,
        "RESTIC_REPOSITORY": str(at.path),
        "RESTIC_PASSWORD_FILE": str(at.password_file),
        "RESTIC_CACHE_DIR": str(tmp_path / "cache"),
    }

    def restic(*words: str) -> str:
        return subprocess.run(
            [program, *words], env=environment, check=True, capture_output=True, text=True, timeout=120
        ).stdout

    at.run("init")
    source = tmp_path / "source"
    source.mkdir()
    (source / "file").write_bytes(os.urandom(100_000))
    restic("backup", "--tag", "t", str(source))
    (ours,) = at.json("snapshots")
    (theirs,) = json.loads(restic("snapshots", "--json"))
    assert (ours["id"], ours["tags"], ours["paths"]) == (theirs["id"], ["t"], [str(source)])
    path = f"{source}/file"
    assert [one["path"] for one in at.json("find", "file")] == [path]
    assert "no errors" in at.run("check", "--read-data")
    at.run("prune")
    restic("check", "--read-data")
    counted = json.loads(restic("stats", "--json", "--mode", "restore-size"))
    assert at.json("stats")["restore_bytes"] == counted["total_size"]


def test_a_repository_is_adopted_by_an_installation(filled: At, terminal: Terminal) -> None:
    words = ("repository", "adopt", "old", "--at", str(filled.path))
    given = ("--password-file", str(filled.password_file))
    assert terminal.type(*words).code == 2
    said = terminal.run(*words, *given)
    assert "1 snapshots is the provider old" in said
    identity = said.split()[1]
    shown = terminal.json("repository", "snapshots", "--repository", identity)
    assert [one["tags"] for one in shown] == [["one", "two"]]
    assert "old" in [one["name"] for one in terminal.json("provider", "list")]
    unsure = terminal.type("plan", "create", "unsure", str(filled.path))
    assert (unsure.code, "--provider is missing" in unsure.err) == (2, True), unsure
    assert "default, old" in unsure.err
    assert terminal.type(*words, *given).code == 5
    assert identity in terminal.run("recovery-kit", "show")
