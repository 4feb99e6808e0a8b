# SPDX-License-Identifier: Apache-2.0
"""Locks: the objects below ``locks/`` by which all who work on a repository, restic too, see each other.

A lock is written, then the others are listed again; who then meets a conflict takes his own away. Of two that
come at the same time at least one sees the other. A listing may miss a lock that is refreshed while it runs
(a new object, then the old one is deleted), so the others are always listed twice and both answers count.

A lock is stale when it was not refreshed for 30 minutes, whoever holds it (I12): a process id says nothing
about another host or container. Ours counts as expired five minutes before others may take it for stale.

Beside restic's fields ours carry ``seawall_session``, which no refresh changes, and ``seawall_task``; restic
ignores both. If the process dies here, a lock stays behind and is stale 30 minutes later.
"""

from __future__ import annotations

import getpass
import itertools
import os
import secrets
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from seawall.core.errors import BankObjectMissingError, ConflictError, DamagedError, LeaseLostError
from seawall.repository import codec
from seawall.repository.crypto import Key
from seawall.repository.nodes import format_time, parse_time
from seawall.sdk.bank import Bank
from seawall.sdk.failpoints import failpoint

PREFIX: Final = "locks/"
REFRESH_AFTER: Final = timedelta(minutes=5)
EXPIRES_AFTER: Final = timedelta(minutes=25)
STALE_AFTER: Final = timedelta(minutes=30)
"""As restic has it."""
_MAX_LOCKS: Final = 10_000
PRUNE: Final = "prune"
"""The task of which there is one at a time, beside any number of writers."""


@dataclass(frozen=True, slots=True)
class LockInfo:
    """One lock as it stands on the bank. ``session`` and ``task`` are empty for a foreign program's."""

    id: str
    time: datetime
    exclusive: bool
    hostname: str
    username: str
    pid: int
    session: str = ""
    task: str = ""

    @property
    def holder(self) -> str:
        """Who holds it, the same after every refresh; two foreign processes may rarely look alike."""
        return self.session or f"{self.hostname}/{self.username}/{self.pid}"

    @property
    def is_foreign(self) -> bool:
        """Whether another program than Seawall holds it."""
        return not self.session

    def is_stale(self, now: datetime) -> bool:
        """Whether its holder has not refreshed it for so long that it counts as dead."""
        return now - self.time > STALE_AFTER

    def __str__(self) -> str:
        kind = "exclusive" if self.exclusive else "shared"
        return (
            f"{kind} lock {self.id[:8]} of {self.username or 'unknown'} on {self.hostname or 'unknown'}, "
            f"process {self.pid}, refreshed {self.time.isoformat(timespec='seconds')}"
        )


Wait = Callable[[LockInfo], datetime | None]
"""Called with the lock that is in the way: waits a while and returns the new time, or None to give up."""


def _parse(lock_id: str, value: codec.Json) -> LockInfo:
    try:
        fields: dict[str, Any] = dict(value)
        second, rest = divmod(parse_time(fields["time"]), 1_000_000_000)
        return LockInfo(
            lock_id,
            datetime.fromtimestamp(second, UTC).replace(microsecond=rest // 1000),
            bool(fields.get("exclusive", False)),
            str(fields.get("hostname", "")),
            str(fields.get("username", "")),
            int(fields.get("pid", 0)),
            str(fields.get("seawall_session", "")),
            str(fields.get("seawall_task", "")),
        )
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise DamagedError(f"lock {lock_id[:16]}: is not a lock: {error!r}") from None


def read(bank: Bank, key: Key, lock_id: str) -> LockInfo:
    """One lock; ``DamagedError`` naming it when its bytes are not those of a lock."""
    what = f"lock {lock_id[:16]}"
    sealed = codec.fetch(bank, PREFIX + lock_id, what, limit=codec.SMALL_OBJECT_BYTES)
    return _parse(lock_id, codec.unpack_object(key.open(sealed, what), what))


def all_locks(bank: Bank, key: Key) -> list[LockInfo]:
    """Every lock there is, stale ones too; one that is refreshed meanwhile may stand there twice.

    ``ConflictError`` for a lock that cannot be read: nobody can say whose it is, so it counts as held.
    """
    found: dict[str, LockInfo] = {}
    for _ in range(2):
        there = list(itertools.islice(bank.list(PREFIX), _MAX_LOCKS + 1))
        if len(there) > _MAX_LOCKS:
            raise ConflictError(f"there are more than {_MAX_LOCKS} locks; nobody can say whose they are")
        for item in there:
            lock_id = item.key.removeprefix(PREFIX)
            if lock_id in found:
                continue
            try:
                found[lock_id] = read(bank, key, lock_id)
            except BankObjectMissingError:
                continue  # released since it was listed, or refreshed: then the second listing has it
            except DamagedError as error:
                raise ConflictError(
                    f"{error}; whose it is cannot be told",
                    hint="when nothing works on the repository, remove it: restic unlock --remove-all",
                ) from None
    return list(found.values())


def live_locks(bank: Bank, key: Key, now: datetime) -> list[LockInfo]:
    """Those that are not stale."""
    return [lock for lock in all_locks(bank, key) if not lock.is_stale(now)]


def remove_stale(bank: Bank, key: Key, now: datetime) -> int:
    """Remove the stale locks; how many there were. One that is refreshed now is another object and stays."""
    stale = [lock for lock in all_locks(bank, key) if lock.is_stale(now)]
    for lock in stale:
        _delete(bank, lock.id)
    return len(stale)


def remove_session(bank: Bank, key: Key, session: str) -> int:
    """Remove the lock of a session of ours whose process is known to be dead; how many objects there were."""
    left = [lock for lock in all_locks(bank, key) if session and lock.session == session]
    for lock in left:
        _delete(bank, lock.id)
    return len(left)


def _delete(bank: Bank, lock_id: str) -> None:
    failpoint("repository.lock.before_delete")
    bank.delete(PREFIX + lock_id)
    failpoint("repository.lock.after_delete")


def _username() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # no such user on this system
        return str(os.getuid())


class RepositoryLock:
    """A lock that this process holds. ``refresh`` and ``is_expired`` may be called from several threads."""

    def __init__(
        self, bank: Bank, key: Key, *, exclusive: bool, task: str = "", session: str | None = None
    ) -> None:
        self._bank = bank
        self._key = key
        self.task = task
        self._guard = threading.Lock()
        self._id = ""
        self._time = datetime.min.replace(tzinfo=UTC)
        self._lost = False
        self.exclusive = exclusive
        self.session = session or secrets.token_hex(16)

    @classmethod
    def acquire(
        cls,
        bank: Bank,
        key: Key,
        *,
        exclusive: bool = False,
        now: datetime,
        task: str = "",
        wait: Wait | None = None,
        session: str | None = None,
    ) -> RepositoryLock:
        """Take a lock; ``ConflictError`` naming the holder when another is in the way.

        Shared locks go together; an exclusive one goes with none, and of those with a ``task`` there is one
        at a time. ``wait`` says how long to wait: it is called while nothing of ours is on the bank.
        ``session`` is what the lock will be known by; random when not given.
        """
        lock = cls(bank, key, exclusive=exclusive, task=task, session=session)
        at: datetime | None = now
        while at is not None:
            found = lock._conflict(at)
            if found is None:
                lock._write(at)
                try:
                    found = lock._conflict(at)
                except BaseException:
                    lock.release()
                    raise
                if found is None:
                    return lock
                lock.release()
            at = wait(found) if wait is not None else None
        raise ConflictError(
            f"the repository is in use: {found}",
            hint="try again when it has ended; a lock of a dead process counts for 30 minutes",
        )

    def _conflict(self, now: datetime) -> LockInfo | None:
        for other in live_locks(self._bank, self._key, now):
            if other.session == self.session:
                continue
            if self.exclusive or other.exclusive or (self.task and self.task == other.task):
                return other
        return None

    def _write(self, now: datetime) -> None:
        at = now.astimezone(UTC)
        value: dict[str, object] = {
            "time": format_time(int(at.replace(microsecond=0).timestamp()) * 10**9 + at.microsecond * 1000),
            "exclusive": self.exclusive,
            "hostname": socket.gethostname(),
            "username": _username(),
            "pid": os.getpid(),
            "uid": os.getuid(),
            "gid": os.getgid(),
            "seawall_session": self.session,
            "seawall_task": self.task,
        }
        sealed = self._key.seal(codec.pack_object(value))
        made = codec.content_id(sealed).hex()
        failpoint("repository.lock.before_put")
        self._bank.put(PREFIX + made, sealed)
        failpoint("repository.lock.after_put")
        self._id, self._time = made, now

    @property
    def id(self) -> str:
        """The object that it is now; another one after each refresh."""
        return self._id

    def is_expired(self, now: datetime) -> bool:
        """Whether others may soon take it for stale, or have; then nothing may be published under it."""
        return self._lost or now - self._time > EXPIRES_AFTER

    def refresh(self, now: datetime) -> None:
        """Say that its holder lives: a new object, then the old one goes.

        ``LeaseLostError`` when it has expired or somebody removed it: an exclusive worker may have begun
        since, so it is not brought back to life.
        """
        with self._guard:
            if self.is_expired(now) or not self._id or not self._bank.exists(PREFIX + self._id):
                self._lost = True
                raise LeaseLostError("the lock on the repository has expired or was removed by another")
            old = self._id
            self._write(now)
            _delete(self._bank, old)

    def keep(self, now: datetime) -> None:
        """Refresh when five minutes have passed; for long work that comes by often."""
        if self.is_expired(now) or now - self._time >= REFRESH_AFTER:
            self.refresh(now)

    def release(self) -> None:
        """Give it up. May be called twice."""
        with self._guard:
            self._lost = True
            if self._id:
                _delete(self._bank, self._id)
                self._id = ""
