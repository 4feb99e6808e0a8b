# SPDX-License-Identifier: Apache-2.0
"""Movers are real processes: killed, cancelled and orphaned ones leave nothing that waits or lives on."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from seawall.core.errors import CancelledError, InvalidInputError, LeaseLostError, MoverDiedError, StateError
from seawall.protection.movers import frames
from seawall.protection.movers.pool import Mover, MoverPool

PASSWORD = "a password of the tests"


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[MoverPool]:
    made = MoverPool(1, scratch=tmp_path)
    yield made
    made.close()


def never() -> None:
    return


def place(folder: Path) -> frames.Json:
    return {
        "repository_id": "r",
        "bank": "file",
        "bank_options": {"path": str(folder)},
        "password": PASSWORD,
        "recovery_key": "another",
        "format_id": None,
        "may_create": True,
    }


def test_a_warm_mover_is_used_again_and_its_errors_come_back_as_they_were(pool: MoverPool) -> None:
    with pool.use(never) as first:
        with pytest.raises(StateError, match="knows no call 'dance'"):
            first.call("dance", {})
        pid = first.pid
    with pool.use(never) as second:
        assert second.pid == pid


def test_a_mover_that_is_killed_raises_and_is_replaced(pool: MoverPool) -> None:
    with pool.use(never) as first:
        first.call("end", {})
        os.kill(first.pid, signal.SIGKILL)
        with pytest.raises(MoverDiedError):
            first.call("end", {})
    with pool.use(never) as second:
        assert second.pid != first.pid
        assert second.call("end", {}) == {}


def test_a_cancel_ends_the_mover_in_the_middle_of_its_work(pool: MoverPool, tmp_path: Path) -> None:
    """Making a repository derives two keys: it takes long enough for the first look to come in between."""

    def cancelled() -> None:
        raise CancelledError("it was cancelled")

    with pool.use(never) as mover:
        mover.call("end", {})
        with pytest.raises(CancelledError):
            mover.call("open", {"place": place(tmp_path / "bank")}, check=cancelled)
        assert not mover.is_alive
    assert pool.pids == ()


def test_who_finds_all_movers_busy_waits_and_can_still_be_cancelled(pool: MoverPool) -> None:
    asked = threading.Event()

    def check() -> None:
        asked.set()
        raise CancelledError("it was cancelled while it waited")

    with pool.use(never), pytest.raises(CancelledError), pool.use(check):
        pass
    assert asked.is_set()


def test_a_closed_pool_gives_its_runs_to_others(pool: MoverPool) -> None:
    with pool.use(never) as mover:
        mover.call("end", {})
        pool.close()
        with pytest.raises(LeaseLostError):
            mover.call("end", {})
    with pytest.raises(LeaseLostError), pool.use(never):
        pass


def test_a_mover_dies_with_its_parent(tmp_path: Path) -> None:
    code = (
        "import os, sys, signal; from pathlib import Path\n"
        "from seawall.protection.movers.pool import MoverPool\n"
        "with MoverPool(1, scratch=Path(sys.argv[1])).use(lambda: None) as mover:\n"
        "    mover.call('end', {}); print(mover.pid, flush=True); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        try:
            handle = os.pidfd_open(pid)
        except ProcessLookupError:
            return  # it has ended already
    try:
        assert select.select([handle], [], [], 10)[0], "the mover lives on"
    finally:
        os.close(handle)


def test_no_secret_stands_in_the_arguments_or_the_environment_of_a_mover(
    pool: MoverPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEAWALL_RECOVERY_KEY", PASSWORD)
    with pool.use(never) as mover:
        made = mover.call("open", {"place": place(tmp_path / "bank")})
        said = (
            Path(f"/proc/{mover.pid}/cmdline").read_bytes() + Path(f"/proc/{mover.pid}/environ").read_bytes()
        )
    assert PASSWORD.encode() not in said
    assert len(made["format_id"]) == 64


def test_a_mover_has_its_temporary_files_in_the_data_folder_unless_told_otherwise(
    pool: MoverPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TMPDIR", raising=False)
    with pool.use(never) as mover:
        mover.call("open", {"place": place(tmp_path / "bank")})
        expected = f"TMPDIR={mover.scratch.parent}".encode()
        assert expected in Path(f"/proc/{mover.pid}/environ").read_bytes().split(b"\0")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    mover = Mover(tmp_path / "scratch")
    try:
        mover.call("open", {"place": place(tmp_path / "bank")})
        assert f"TMPDIR={tmp_path}".encode() in Path(f"/proc/{mover.pid}/environ").read_bytes().split(b"\0")
    finally:
        mover.end()


def test_an_error_with_fields_survives_the_pipe() -> None:
    frame = frames.error_frame(InvalidInputError.of("path", "x", "must be absolute"))
    found = frames.raised(frame["error"])
    assert isinstance(found, InvalidInputError)
    assert (found.fields[0].field, found.fields[0].rule) == ("path", "must be absolute")
