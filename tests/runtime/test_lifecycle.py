# SPDX-License-Identifier: Apache-2.0
"""Every service starts and stops the same way (M1)."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, ClassVar

import pytest

from seawall.core.errors import AlreadyRunningError, DatabaseUnavailableError, StateError
from seawall.core.records import Service as ServiceRow
from seawall.runtime.folder import DataFolder
from seawall.runtime.lifecycle import Service, ServiceHost, exclusive, service_lock
from seawall.sdk.testing.clock import FakeClock

CHILD = Path(__file__).with_name("lifecycle_child.py")
WAIT_S = 20


class Rows:
    """The services table, in memory."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.ids: dict[str, int] = {}
        self.beats = threading.Semaphore(0)
        self.is_away = False

    def find_or_create(self, host: str, binary: str, version: str, pid: int) -> int:
        row = self.ids.setdefault(binary, len(self.ids) + 1)
        self.said.append(f"row {binary} {row}")
        return row

    def beat(self, service_ids: Sequence[int]) -> None:
        self.beats.release()
        if self.is_away:
            raise DatabaseUnavailableError("away")
        self.said.append(f"beat {list(service_ids)}")

    def stopped(self, service_id: int) -> None:
        self.said.append(f"stopped {service_id}")

    def list(self) -> list[ServiceRow]:
        return []


class Api:
    binary: ClassVar[str] = "api"

    def __init__(self, rows: Rows, *, fails_at: str = "") -> None:
        self.rows = rows
        self.fails_at = fails_at

    def init_host(self, *, service_id: int) -> None:
        self.rows.said.append(f"init {self.binary} {service_id}")
        if self.fails_at == "init":
            raise StateError("cannot start")

    def cleanup_host(self) -> None:
        self.rows.said.append(f"cleanup {self.binary}")
        if self.fails_at == "cleanup":
            raise StateError("cannot stop")


class Engine(Api):
    binary: ClassVar[str] = "engine"


@pytest.fixture
def rows() -> Rows:
    return Rows()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def folder(tmp_path: Path) -> DataFolder:
    made = DataFolder(tmp_path / "data")
    made.create()
    return made


def host(services: list[Service], rows: Rows, folder: DataFolder, clock: FakeClock) -> ServiceHost:
    return ServiceHost(
        services,
        rows,
        folder=folder,
        host="here",
        version="1",
        clock=clock,
        heartbeat_s=5,
        grace_s=1,
    )


def test_services_start_in_order_and_stop_in_reverse(
    rows: Rows, folder: DataFolder, clock: FakeClock
) -> None:
    one = host([Api(rows), Engine(rows)], rows, folder, clock)
    one.start()
    assert one.stop()
    assert one.stop()

    assert rows.said == [
        "row api 1", "init api 1", "row engine 2", "init engine 2",
        "cleanup engine", "stopped 2", "cleanup api", "stopped 1",
    ]  # fmt: skip


def test_a_second_start_keeps_the_id(rows: Rows, folder: DataFolder, clock: FakeClock) -> None:
    for _ in range(2):
        one = host([Api(rows)], rows, folder, clock)
        one.start()
        one.stop()

    assert [said for said in rows.said if said.startswith("init")] == ["init api 1", "init api 1"]


def test_one_that_cannot_start_stops_what_had_started(
    rows: Rows, folder: DataFolder, clock: FakeClock
) -> None:
    """It is cleaned up itself, too: half of its threads may run."""
    one = host([Api(rows), Engine(rows, fails_at="init")], rows, folder, clock)
    with pytest.raises(StateError, match="cannot start"):
        one.start()

    assert rows.said[-4:] == ["cleanup engine", "stopped 2", "cleanup api", "stopped 1"]
    with service_lock(folder, "api"):
        pass


def test_one_that_cannot_stop_keeps_no_other_from_stopping(
    rows: Rows, folder: DataFolder, clock: FakeClock
) -> None:
    one = host([Api(rows), Engine(rows, fails_at="cleanup")], rows, folder, clock)
    one.start()

    assert not one.stop()
    assert rows.said[-3:] == ["cleanup engine", "cleanup api", "stopped 1"]


def test_a_heartbeat_is_sent_by_the_clock_and_survives_a_database_that_is_away(
    rows: Rows, folder: DataFolder, clock: FakeClock
) -> None:
    one = host([Api(rows), Engine(rows)], rows, folder, clock)
    one.start()
    clock.wait_for_waiters(1)
    assert not [said for said in rows.said if said.startswith("beat")]
    rows.is_away = True
    clock.advance(5)
    assert rows.beats.acquire(timeout=WAIT_S)
    clock.wait_for_waiters(1)
    rows.is_away = False
    clock.advance(5)
    assert rows.beats.acquire(timeout=WAIT_S)
    one.stop()

    assert rows.said.count("beat [1, 2]") == 1


def test_a_second_service_of_a_kind_is_refused_and_names_the_first(
    rows: Rows, folder: DataFolder, clock: FakeClock
) -> None:
    with (
        service_lock(folder, "api"),
        pytest.raises(AlreadyRunningError, match=r"api is already running on .*: pid \d+ holds"),
    ):
        host([Engine(rows), Api(rows)], rows, folder, clock).start()
    # Nothing had started, and the lock of the other kind is free again.
    assert rows.said == []
    with service_lock(folder, "engine"), service_lock(folder, "api"):
        pass


def test_the_set_up_waits_for_another_process(folder: DataFolder) -> None:
    path = folder.lock("setup")
    entered = threading.Event()

    def enter() -> None:
        with exclusive(path):
            entered.set()

    with exclusive(path):
        other = threading.Thread(target=enter)
        other.start()
        assert not entered.is_set()
    other.join(WAIT_S)
    assert entered.is_set()


# --- a real process ------------------------------------------------------------------------------


class Child:
    def __init__(self, folder: Path, *words: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(CHILD), str(folder), *words], stdout=subprocess.PIPE, text=True
        )

    def line(self) -> str:
        out: IO[str] | None = self.process.stdout
        assert out is not None
        return out.readline().strip()

    def lines(self, count: int) -> list[str]:
        return [self.line() for _ in range(count)]

    def end(self) -> tuple[int, list[str]]:
        out, _ = self.process.communicate(timeout=WAIT_S)
        return self.process.returncode, out.split("\n")[:-1]


@pytest.fixture
def children() -> Iterator[list[Child]]:
    started: list[Child] = []
    yield started
    for one in started:
        one.process.kill()
        one.process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_process_in_order(
    tmp_path: Path, children: list[Child], number: signal.Signals
) -> None:
    children.append(child := Child(tmp_path / "data"))
    assert child.lines(3) == ["init first 1", "init second 2", "ready"]
    child.process.send_signal(number)

    assert child.end() == (0, ["cleanup second", "stopped 2", "cleanup first", "stopped 1"])


def test_a_second_process_is_refused_until_the_first_is_dead(tmp_path: Path, children: list[Child]) -> None:
    """Killed in whatever way: the lock is the kernel's and never stale."""
    children.append(first := Child(tmp_path / "data"))
    first.lines(3)
    folder = DataFolder(tmp_path / "data")
    with pytest.raises(AlreadyRunningError, match=f"pid {first.process.pid} "), service_lock(folder, "first"):
        pass
    first.process.kill()
    first.process.wait(WAIT_S)
    children.append(second := Child(tmp_path / "data"))

    assert second.lines(3)[-1] == "ready"


def test_a_cleanup_that_hangs_is_left_behind_after_the_grace(tmp_path: Path, children: list[Child]) -> None:
    children.append(child := Child(tmp_path / "data", "hang"))
    child.lines(3)
    child.process.terminate()

    assert child.end() == (1, ["cleanup second", "stopped 2", "cleanup first"])


def test_a_second_signal_ends_the_process_at_once(tmp_path: Path, children: list[Child]) -> None:
    children.append(child := Child(tmp_path / "data", "hang"))
    child.lines(3)
    child.process.terminate()
    assert child.lines(3)[-1] == "cleanup first"
    child.process.send_signal(signal.SIGINT)

    assert child.end()[0] == 128 + signal.SIGINT
