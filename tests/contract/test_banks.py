# SPDX-License-Identifier: Apache-2.0
"""Every bank keeps the contract; the file bank also when its disk is full, read-only or loses power."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from seawall.core.errors import BankFullError, BankReadOnlyError, InvalidInputError
from seawall.protection.banks.file import FileBank
from seawall.protection.banks.memory import MemoryBank
from seawall.sdk.bank import Bank, SubBank
from seawall.sdk.testing.bank_suite import BankSuite


class TestMemoryBank(BankSuite):
    def make_bank(self, folder: Path) -> Bank:
        return MemoryBank()


class TestFileBank(BankSuite):
    def make_bank(self, folder: Path) -> Bank:
        return FileBank(path=str(folder / "bank"))


class TestSubBank(BankSuite):
    def make_bank(self, folder: Path) -> Bank:
        whole = FileBank(path=str(folder))
        whole.put("other", b"of somebody else")
        return SubBank(whole, "part/inner")


def test_everything_is_closed_to_others(tmp_path: Path) -> None:
    FileBank(path=str(tmp_path / "bank")).put("a/b", b"x")
    assert stat.S_IMODE((tmp_path / "bank" / "a").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "bank" / "a" / "b").stat().st_mode) == 0o600


def test_a_relative_path_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="path"):
        FileBank(path="bank")


def test_a_folder_that_was_removed_by_hand_is_made_again(tmp_path: Path) -> None:
    bank = FileBank(path=str(tmp_path / "bank"))
    bank.put("a/b", b"x")
    (tmp_path / "bank" / "a" / "b").unlink()
    (tmp_path / "bank" / "a").rmdir()
    bank.put("a/b", b"y")
    assert bank.get("a/b") == b"y"


def test_old_leftovers_are_swept_and_young_ones_are_not(tmp_path: Path) -> None:
    bank = FileBank(path=str(tmp_path / "bank"))
    bank.put("a/b", b"x")
    old, young = (tmp_path / "bank" / "a" / f"{name}~1.1" for name in ("old", "young"))
    for one in (old, young):
        one.write_bytes(b"half")
    os.utime(old, (0, 0))
    again = FileBank(path=str(tmp_path / "bank"))
    again.put("a/c", b"x")
    assert not old.exists()
    assert young.exists()
    assert [one.key for one in again.list()] == ["a/b", "a/c"]


PUT = """
import sys
from seawall.protection.banks.file import FileBank
FileBank(path=sys.argv[1]).put("a/b", b"new" * 1000)
"""


@pytest.mark.parametrize(
    ("point", "content"),
    [
        ("before_fsync", b"old"),
        ("after_fsync", b"old"),
        ("before_rename", b"old"),
        ("after_rename", b"new" * 1000),
    ],
)
def test_a_kill_leaves_the_former_object_or_the_new_one(tmp_path: Path, point: str, content: bytes) -> None:
    bank = FileBank(path=str(tmp_path))
    bank.put("a/b", b"old")
    killed = subprocess.run(
        [sys.executable, "-c", PUT, str(tmp_path)],
        env={**os.environ, "SEAWALL_FAILPOINTS": f"bank.file.{point}=kill"},
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    assert bank.get("a/b") == content
    assert [one.key for one in bank.list()] == ["a/b"]
    bank.put("a/b", b"next")
    assert bank.get("a/b") == b"next"


FULL = """
import resource, sys
from seawall.core.errors import BankFullError
from seawall.protection.banks.file import FileBank
import signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
bank = FileBank(path=sys.argv[1])
try:
    bank.put("a/b", b"x" * 10_000)
except BankFullError as error:
    print(error)
"""


def test_a_full_disk_is_said_and_leaves_nothing_half_written(tmp_path: Path) -> None:
    bank = FileBank(path=str(tmp_path))
    bank.put("a/b", b"old")
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert "no space is left" in done.stdout
    assert str(tmp_path) in done.stdout
    assert bank.get("a/b") == b"old"
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["b"]


def test_a_small_file_system_that_is_really_full(tmp_path: Path) -> None:
    if (
        os.geteuid() != 0
        or subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(tmp_path)],
            capture_output=True,
            check=False,
        ).returncode
    ):
        pytest.skip("mounting a small file system needs root and the right to mount")
    try:
        bank = FileBank(path=str(tmp_path))
        with pytest.raises(BankFullError):
            for number in range(100):
                bank.put(f"a/{number}", b"x" * 4000)
        assert all(one.size_bytes == 4000 for one in bank.list())
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


READ_ONLY = """
import os, sys
from seawall.core.errors import BankReadOnlyError
from seawall.protection.banks.file import FileBank
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
try:
    FileBank(path=sys.argv[1]).put("a/b", b"new")
except BankReadOnlyError as error:
    print(error)
"""


def test_a_bank_that_refuses_writes_is_said_to(tmp_path: Path) -> None:
    """In a child with dropped privileges: root may write anywhere."""
    for folder in (tmp_path, *tmp_path.parents):
        if folder.owner() == Path("/").owner() and folder != Path("/") and folder != Path("/tmp"):
            folder.chmod(folder.stat().st_mode | 0o055)
    (tmp_path / "a").mkdir()
    (tmp_path / "a").chmod(0o555)
    done = subprocess.run(
        [sys.executable, "-c", READ_ONLY, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "the bank refuses this" in done.stdout
    assert BankReadOnlyError.retryable is False
