# SPDX-License-Identifier: Apache-2.0
"""Layers: a bank under them is a bank, and what fails for a while is not seen above them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from seawall.core.errors import (
    BankDeniedError,
    BankError,
    BankFullError,
    BankObjectMissingError,
    ConflictError,
)
from seawall.protection.bank_layers.check import CheckBank
from seawall.protection.bank_layers.layer import Layer
from seawall.protection.bank_layers.limit import LimitBank
from seawall.protection.bank_layers.opening import open_bank
from seawall.protection.bank_layers.retry import RetryBank
from seawall.protection.banks.file import FileBank
from seawall.protection.banks.memory import MemoryBank
from seawall.protection.banks.s3 import S3Bank
from seawall.sdk.bank import Bank, Chunks, ObjectInfo
from seawall.sdk.testing.bank_suite import BankSuite
from seawall.sdk.testing.clock import FakeClock
from tests.support.fault_proxy import FaultKind, FaultProxy
from tests.support.s3_server import S3Server, write_keys
from tests.support.small_s3 import SmallS3


class PassingClock(FakeClock):
    """Whoever waits has waited: the time passes at once, and how long it was is noted."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[float] = []

    def wait(self, event: threading.Event, timeout_s: float | None) -> bool:
        if timeout_s is not None and not event.is_set():
            self.waits.append(timeout_s)
            self.advance(timeout_s)
        return event.is_set()


class FaultBank(Layer):
    """Raises what is planned, one for each call, and then works."""

    def __init__(self, *errors: BankError, after: bool = False) -> None:
        super().__init__(MemoryBank())
        self.errors = list(errors)
        self.calls = 0
        self._after = after

    def _fail(self) -> None:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)

    def put(self, key: str, content: bytes | Chunks, *, create_only: bool = False) -> None:
        if self._after:
            super().put(key, content, create_only=create_only)
            self._fail()
        else:
            self._fail()
            super().put(key, content, create_only=create_only)

    def get(self, key: str, *, offset: int = 0, length: int | None = None) -> bytes:
        self._fail()
        return super().get(key, offset=offset, length=length)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        for number, one in enumerate(super().list(prefix)):
            if number == 2:
                self._fail()
            yield one


class TestAllLayers(BankSuite):
    def make_bank(self, folder: Path) -> Bank:
        clock = PassingClock()
        limited = LimitBank(
            MemoryBank(), clock, upload_bytes_per_s=1e6, download_bytes_per_s=1e6, connections=2
        )
        return RetryBank(CheckBank(limited), clock)


class TestOpenedFileBank(BankSuite):
    def make_bank(self, folder: Path) -> Bank:
        limits = {"connections": 1, "attempts": 3}
        return open_bank(FileBank, {"path": str(folder / "bank")}, limits, PassingClock())


# --- retry ---------------------------------------------------------------------------------------


def test_what_may_pass_is_tried_again_later_and_later() -> None:
    clock = PassingClock()
    below = FaultBank(BankError("gone"), BankError("gone"), BankError("gone"))
    RetryBank(below, clock, jitter=lambda: 1.0).put("a", b"x")
    assert below.get("a") == b"x"
    assert clock.waits == [0.5, 1.0, 2.0]


def test_waits_are_spread_and_bounded() -> None:
    clock = PassingClock()
    bank = RetryBank(FaultBank(*[BankError("gone")] * 11), clock, attempts=12, jitter=lambda: 0.0)
    bank.put("a", b"x")
    assert clock.waits == [0.25, 0.5, 1, 2, 4, 8, 10, 10, 10, 10, 10]


def test_the_last_error_is_raised_when_the_tries_are_used_up() -> None:
    below = FaultBank(*[BankError(f"failure {number}") for number in range(9)])
    with pytest.raises(BankError, match="failure 2"):
        RetryBank(below, PassingClock(), attempts=3).get("a")
    assert below.calls == 3


@pytest.mark.parametrize("error", [BankDeniedError("no"), BankFullError("full"), BankObjectMissingError("?")])
def test_what_does_not_pass_is_raised_at_once(error: BankError) -> None:
    clock = PassingClock()
    below = FaultBank(error)
    with pytest.raises(type(error)):
        RetryBank(below, clock).put("a", b"x")
    assert (below.calls, clock.waits) == (1, [])


def test_a_list_goes_on_where_it_failed() -> None:
    below = FaultBank(BankError("gone"), BankError("gone"))
    for key in "abcde":
        MemoryBank.put(below._bank, key, b"x")  # type: ignore[arg-type]  # the memory bank below
    bank = RetryBank(below, PassingClock())
    assert [one.key for one in bank.list()] == list("abcde")


def test_a_create_whose_acknowledgement_was_lost_is_ours() -> None:
    bank = RetryBank(FaultBank(BankError("no answer"), after=True), PassingClock())
    bank.put("a", b"mine", create_only=True)
    assert bank.get("a") == b"mine"


def test_a_create_that_another_won_is_refused() -> None:
    below = FaultBank(BankError("gone"))
    below._bank.put("a", b"of another")
    with pytest.raises(ConflictError):
        RetryBank(below, PassingClock()).put("a", b"mine", create_only=True)
    assert below.get("a") == b"of another"


def test_a_bank_that_is_closed_tries_no_more() -> None:
    bank = RetryBank(FaultBank(*[BankError("gone")] * 5), PassingClock())
    bank.close()
    with pytest.raises(BankError, match="gone"):
        bank.get("a")


# --- check and limit --------------------------------------------------------------------------------


class LosingBank(MemoryBank):
    """Keeps less than it takes, ``times`` times."""

    def __init__(self, times: int, kept: int | None) -> None:
        super().__init__()
        self._times = times
        self._kept = kept

    def put(self, key: str, content: bytes | Chunks, *, create_only: bool = False) -> None:
        self._times -= 1
        if self._times < 0:
            super().put(key, content)
        elif self._kept is not None:
            super().put(key, b"".join(content if not isinstance(content, bytes) else [content])[: self._kept])


@pytest.mark.parametrize("kept", [None, 0, 3])
def test_an_object_that_is_not_whole_on_the_bank_is_put_again(kept: int | None) -> None:
    with pytest.raises(BankError, match="the bank took a"):
        CheckBank(LosingBank(1, kept)).put("a", [b"12", b"345"])
    below = LosingBank(2, kept)
    RetryBank(CheckBank(below), PassingClock()).put("a", [b"12", b"345"])
    assert below.get("a") == b"12345"


def test_bytes_are_spread_over_time() -> None:
    clock = PassingClock()
    bank = LimitBank(MemoryBank(), clock, upload_bytes_per_s=100, download_bytes_per_s=1024)
    for _ in range(3):
        bank.put("a", [b"x" * 25, memoryview(b"x" * 25)])
    assert clock.waits == [0.5, 0.5]
    bank.get("a")
    bank.get("a")
    assert clock.waits[:2] == [0.5, 0.5]
    assert clock.waits[2:] == [pytest.approx(50 / 1024)]


def test_only_so_many_requests_are_under_way() -> None:
    class CountingBank(MemoryBank):
        now = most = 0
        both = threading.Barrier(2)

        def get(self, key: str, *, offset: int = 0, length: int | None = None) -> bytes:
            with self._lock:
                self.now += 1
                self.most = max(self.most, self.now)
            self.both.wait(timeout=60)
            with self._lock:
                self.now -= 1
            return super().get(key, offset=offset, length=length)

    below = CountingBank()
    below.put("a", b"x")
    bank = LimitBank(below, PassingClock(), connections=2)
    threads = [threading.Thread(target=bank.get, args=("a",)) for _ in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join(60)
    assert below.most == 2


def test_a_list_holds_no_connection_while_its_items_are_used() -> None:
    bank = LimitBank(MemoryBank(), PassingClock(), connections=1)
    for key in "abc":
        bank.put(key, b"x")
    assert [bank.get(one.key) for one in bank.list()] == [b"x"] * 3


def test_layers_follow_the_place_and_the_limits(tmp_path: Path) -> None:
    local = open_bank(FileBank, {"path": str(tmp_path)}, {}, PassingClock())
    assert isinstance(local, FileBank)
    remote = open_bank(MemoryBank, {}, {"connections": 2}, PassingClock())
    assert isinstance(remote, RetryBank)
    assert isinstance(remote._bank, CheckBank)
    assert isinstance(remote._bank._bank, LimitBank)


# --- over a line that fails -----------------------------------------------------------------------


@pytest.fixture(params=["small", "real"])
def behind(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[FaultProxy, dict[str, object]]]:
    """A proxy that fails as planned, before a server, and the options of a bank through it."""
    if request.param == "real":
        server: S3Server = request.getfixturevalue("s3_server")
        host, _, port = server.endpoint.removeprefix("http://").partition(":")
        with FaultProxy(host, int(port)) as proxy:
            yield proxy, server.options(endpoint=proxy.endpoint)
        return
    keys = write_keys(tmp_path / "keys", "access", "secret")
    with SmallS3() as small, FaultProxy("127.0.0.1", small.port) as proxy:
        yield (
            proxy,
            {
                "endpoint": proxy.endpoint,
                "bucket": small.bucket,
                "key_file": str(keys),
                "allow_http": True,
                "prefix": "here",
            },
        )


Open = Callable[..., Bank]


@pytest.fixture
def opened(behind: tuple[FaultProxy, dict[str, object]]) -> Iterator[Open]:
    made: list[Bank] = []

    def bank(**more: object) -> Bank:
        made.append(open_bank(S3Bank, {**behind[1], **more}, {}, PassingClock()))
        return made[-1]

    yield bank
    for one in made:
        one.close()


@pytest.mark.parametrize("kind", ["error", "cut", "lost"])
@pytest.mark.parametrize("create_only", [False, True])
def test_a_put_survives_a_bad_line(
    behind: tuple[FaultProxy, dict[str, object]], opened: Open, kind: FaultKind, create_only: bool
) -> None:
    proxy, _ = behind
    proxy.plan(kind, method="PUT", times=3)
    bank = opened()
    bank.put("a/b", b"content" * 1000, create_only=create_only)
    assert bank.get("a/b") == b"content" * 1000
    assert proxy.count("PUT", kind) == 3
    with pytest.raises(ConflictError):
        bank.put("a/b", b"other", create_only=True)


@pytest.mark.parametrize("kind", ["error", "cut", "lost", "half"])
def test_reading_survives_a_bad_line(
    behind: tuple[FaultProxy, dict[str, object]], opened: Open, kind: FaultKind
) -> None:
    proxy, _ = behind
    bank = opened()
    content = bytes(range(256)) * 2000
    for key in ("a/1", "a/2", "a/3"):
        bank.put(key, content)
    proxy.plan(kind, method="GET", times=3)
    assert bank.get("a/1") == content
    proxy.plan(kind, method="GET", times=2)
    assert bank.get("a/1", offset=1000, length=100_000) == content[1000:101_000]
    proxy.plan(kind, method="GET", times=2)
    assert [one.key for one in bank.list("a/")] == ["a/1", "a/2", "a/3"]
    proxy.plan(kind, method="HEAD", times=2)
    assert bank.size("a/1") == len(content)
    proxy.plan("lost", method="DELETE", times=2)
    bank.delete("a/1")
    assert not bank.exists("a/1")


def test_a_server_that_does_not_answer_is_asked_again(
    behind: tuple[FaultProxy, dict[str, object]], opened: Open
) -> None:
    proxy, _ = behind
    bank = opened(timeout_s=2)
    proxy.plan("slow", method="PUT")
    bank.put("a", b"x")
    assert bank.get("a") == b"x"
    assert proxy.count("PUT") == 2


def test_a_server_that_stays_away_is_said_to(
    behind: tuple[FaultProxy, dict[str, object]], opened: Open
) -> None:
    proxy, _ = behind
    proxy.plan("error", times=1000)
    with pytest.raises(BankError, match="503 SlowDown") as raised:
        opened().get("a")
    assert raised.value.retryable
    assert proxy.count("GET") == 8
