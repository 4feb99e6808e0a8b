# SPDX-License-Identifier: Apache-2.0
"""How every service starts and stops (M1): the same for those with and without HTTP.

    lock file -> row in ``services`` by (host, binary) -> init_host(service_id=...) -> heartbeat
      ... SIGTERM or SIGINT ...
    cleanup_host, last started first -> row marked stopped -> lock released

The lock is a ``flock`` on a file per (data folder, binary). The kernel releases it when the process dies in
whatever way, so a lock is never stale and no pid is ever guessed about. If the process dies anywhere here,
the next start finds the same row, keeps its id, and its ``init_host`` takes back what was left unfinished.
"""

from __future__ import annotations

import fcntl
import os
import queue
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import ClassVar, Protocol

from seawall.core.errors import AlreadyRunningError
from seawall.core.records import Service as ServiceRow
from seawall.runtime.folder import DataFolder
from seawall.runtime.logging import get_logger
from seawall.sdk.clock import Clock

log = get_logger(__name__)

# After the grace period a cleanup_host that hangs is left behind: the process must end within 10 s.
_FORCE_AFTER_GRACE_S = 1.5


class ServiceRows(Protocol):
    """The ``services`` table; bound in ``wiring``."""

    def find_or_create(self, host: str, binary: str, version: str, pid: int) -> int:
        """The id of the row of (host, binary), marked started now; the same id at every start."""
        ...

    def beat(self, service_ids: Sequence[int]) -> None:
        """All of them live, in one write."""
        ...

    def stopped(self, service_id: int) -> None: ...

    def list(self) -> Sequence[ServiceRow]: ...


class Service(Protocol):
    """What a process serves. One object lives through one start and one stop."""

    binary: ClassVar[str]
    """Its name in ``services``, e.g. ``seawall-api``."""

    def init_host(self, *, service_id: int) -> None:
        """Take back what this host left unfinished, start the threads, return. An error ends the start."""
        ...

    def cleanup_host(self) -> None:
        """Stop the threads; finish running work within the grace period or hand it back. Called once."""
        ...


@contextmanager
def service_lock(folder: DataFolder, binary: str) -> Iterator[None]:
    """Hold the lock of (data folder, binary); ``AlreadyRunningError`` names the process that has it."""
    path = folder.lock(binary)
    with _open_lock(path) as descriptor:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
            raise AlreadyRunningError(
                f"{binary} is already running on {folder.path}: pid {holder or 'unknown'} holds {path}"
            ) from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Wait for the lock file at ``path`` and hold it: one process at a time sets the data folder up."""
    with _open_lock(path) as descriptor:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield


@contextmanager
def _open_lock(path: Path) -> Iterator[int]:
    # Never removed: a lock file that is unlinked while held lets a second process lock a new one.
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@dataclass(frozen=True, slots=True)
class _Started:
    service: Service
    service_id: int


class ServiceHost:
    """Runs the services of one process, in the order given; stops them in reverse."""

    def __init__(
        self,
        services: Sequence[Service],
        rows: ServiceRows,
        *,
        folder: DataFolder,
        host: str,
        version: str,
        clock: Clock,
        heartbeat_s: float,
        grace_s: float,
    ) -> None:
        self._services = tuple(services)
        self._rows = rows
        self._folder = folder
        self._host = host
        self._version = version
        self._clock = clock
        self._heartbeat_s = heartbeat_s
        self._grace_s = grace_s
        self._locks = ExitStack()
        self._started: list[_Started] = []
        self._stopping = threading.Event()
        self._ended = threading.Event()
        self._heartbeat: threading.Thread | None = None

    def start(self) -> None:
        """Start all of them, or none: what had started is stopped again before the error is raised."""
        try:
            for service in self._services:
                self._locks.enter_context(service_lock(self._folder, service.binary))
            for service in self._services:
                self._start(service)
        except BaseException:
            self.stop()
            raise
        self._heartbeat = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        self._heartbeat.start()

    def stop(self) -> bool:
        """Stop all of them; whether each stopped without an error. May be called twice."""
        self._stopping.set()
        if self._heartbeat is not None:
            self._heartbeat.join()
            self._heartbeat = None
        is_clean = True
        while self._started:
            is_clean &= self._stop(self._started.pop())
        self._locks.close()
        self._ended.set()
        return is_clean

    def _start(self, service: Service) -> None:
        service_id = self._rows.find_or_create(self._host, service.binary, self._version, os.getpid())
        # Noted first: a service whose init_host fails half way has threads to stop, too.
        self._started.append(_Started(service, service_id))
        service.init_host(service_id=service_id)
        log.info("service started", binary=service.binary, host=self._host, service_id=service_id)

    def _stop(self, started: _Started) -> bool:
        try:
            started.service.cleanup_host()
            self._rows.stopped(started.service_id)
        except Exception:  # one that cannot stop never keeps the others from stopping
            log.exception("service did not stop cleanly", binary=started.service.binary)
            return False
        log.info("service stopped", binary=started.service.binary)
        return True

    def _beat(self) -> None:
        while not self._clock.wait(self._stopping, self._heartbeat_s):
            try:
                self._rows.beat([started.service_id for started in self._started])
            except Exception:  # a loop: a database that is away may be back at the next beat
                log.exception("heartbeat failed", host=self._host)

    # --- the process ---------------------------------------------------------------------------

    def run(self, *, on_ready: Callable[[], None], force: Callable[[int], None] = os._exit) -> int:
        """Start, serve until SIGTERM or SIGINT, stop; the exit code. Only from the main thread.

        A second signal, or a cleanup that outlasts the grace period, ends the process at once; its leases
        run out and its work is taken over (I4).
        """
        # A queue, not an event: SimpleQueue.put is re-entrant, so that a handler may call it at any place.
        signals: queue.SimpleQueue[int] = queue.SimpleQueue()
        arrived = 0

        def receive(number: int, _frame: FrameType | None) -> None:
            nonlocal arrived
            arrived += 1
            if arrived > 1:
                force(128 + number)
            signals.put(number)

        former = {one: signal.signal(one, receive) for one in (signal.SIGTERM, signal.SIGINT)}
        try:
            self.start()
            on_ready()
            number = signals.get()
            log.info("stopping", signal=signal.Signals(number).name, grace_s=self._grace_s)
            threading.Thread(target=self._force_later, args=(force,), name="force", daemon=True).start()
            return 0 if self.stop() else 1
        finally:
            for one, handler in former.items():
                signal.signal(one, handler)

    def _force_later(self, force: Callable[[int], None]) -> None:
        if not self._clock.wait(self._ended, self._grace_s + _FORCE_AFTER_GRACE_S):
            log.error("a service did not stop within the grace period; ending anyway", grace_s=self._grace_s)
            force(1)
