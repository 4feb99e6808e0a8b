# SPDX-License-Identifier: Apache-2.0
"""MoverPool: a few warm mover processes, each used by one run at a time.

Whoever wants one while all are busy waits, and keeps its own right to be cancelled. While a mover works, the
caller's ``check`` is asked a few times a second: when it raises (cancelled, timed out, lease lost), the mover
is ended by SIGTERM and, a second later, SIGKILL. One that was ended, or died, is replaced by the next use.
"""

from __future__ import annotations

import os
import secrets
import select
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from seawall.core.errors import LeaseLostError, MoverDiedError, SeawallError, StateError
from seawall.protection.movers import frames, notes
from seawall.protection.movers.frames import Json
from seawall.protection.movers.notes import LockNote
from seawall.runtime.logging import get_logger

log = get_logger(__name__)

_LOOK_EVERY_MS: Final = 100
_TERM_S: Final = 1.0
# What a mover's environment keeps of ours: nothing that could be a secret (I10).
_ENVIRONMENT: Final = (
    "PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "PYTHONPATH", "PYTHONHASHSEED", "SEAWALL_FAILPOINTS",
    "LD_LIBRARY_PATH", "SSL_CERT_FILE", "SSL_CERT_DIR", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY",
    "COVERAGE_PROCESS_START",
)  # fmt: skip

ALLOCATOR: Final = {"MALLOC_ARENA_MAX": "1"}
"""The C library otherwise keeps what each thread has given back, some 30 MiB of a mover, and is no faster."""

# How long an orphaned mover has to notice that its service is gone.
_ORPHAN_S: Final = 10.0

Check = Callable[[], None]
Unlock = Callable[[str, str], None]
"""Called with a repository id and a session whose process is dead: its lock is to go. In a thread."""
ShowProgress = Callable[[int, int], None]


def _nothing(*_: object) -> None:
    return


class Mover:
    """One mover process. For one thread at a time."""

    def __init__(self, scratch: Path) -> None:
        """Starts the process and returns at once; the first call waits until it is ready."""
        # No process id: in a container it is the same at every start, and what was left must be told apart.
        self.scratch = scratch / f"mover-{secrets.token_hex(8)}"
        self._process = subprocess.Popen(
            [sys.executable, "-m", "seawall.protection.movers.main", str(self.scratch)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={"TMPDIR": str(scratch)}  # on a disk, which the system's folder need not be
            | {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
            | ALLOCATOR,
            bufsize=0,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._to = self._process.stdin.fileno()
        self._from = self._process.stdout.fileno()
        self._poll = select.poll()
        self._poll.register(self._from, select.POLLIN)
        self._is_ready = False
        self._is_asked = False
        self._is_given_up = False

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    @property
    def is_free(self) -> bool:
        """Whether it lives and owes no answer: only then it can be used again."""
        return self.is_alive and not self._is_asked

    def call(
        self,
        name: str,
        arguments: Mapping[str, Any],
        *,
        check: Check = _nothing,
        progress: ShowProgress = _nothing,
        confirm: Check = _nothing,
    ) -> Json:
        """One request; its result.

        Raises what the mover raised, ``MoverDiedError`` when the process ended, or what ``check`` or
        ``confirm`` raised; after the last three the process is no more.
        """
        self.ask(name, arguments)
        return self.answer(check=check, progress=progress, confirm=confirm)

    def ask(self, name: str, arguments: Mapping[str, Any]) -> None:
        """The first half of ``call``, so that the caller can do something while the mover works; ``answer``
        must follow, or the process is ended when it is given back."""
        assert not self._is_asked
        self._is_asked = True
        try:
            self._send({"call": name, "arguments": dict(arguments)})
        except BaseException:
            self.end()
            raise

    def answer(
        self, *, check: Check = _nothing, progress: ShowProgress = _nothing, confirm: Check = _nothing
    ) -> Json:
        """The second half of ``call``; raises as that does."""
        assert self._is_asked
        try:
            if not self._is_ready:
                self._answer(check, progress, confirm)
                self._is_ready = True
            found = self._answer(check, progress, confirm)
        except _FromMoverError as error:
            self._is_asked = False
            raise error.found from error
        except BaseException:
            self.end()
            raise
        self._is_asked = False
        return found

    def stream(self, name: str, arguments: Mapping[str, Any], *, check: Check = _nothing) -> Iterator[bytes]:
        """One request that is answered by bytes, in pieces; raises as ``call``, before or between them.

        The process is ended when it is not taken to its end.
        """
        self.ask(name, arguments)
        try:
            if not self._is_ready:
                self._answer(check, _nothing, _nothing)
                self._is_ready = True
            while "result" not in (frame := self._frame(check)):
                yield self._piece(frame)
                check()
        except _FromMoverError as error:
            self._is_asked = False
            raise error.found from error
        except BaseException:
            self.end()
            raise
        self._is_asked = False

    def _piece(self, frame: Json) -> bytes:
        if "error" in frame:
            raise _FromMoverError(frame["error"])
        found = frames.read_bytes(self._from, frame["bytes"])
        if found is None:
            raise self._died()
        return found

    def _send(self, frame: Json) -> None:
        try:
            frames.write(self._to, frame)
        except BrokenPipeError:
            raise self._died() from None

    def _answer(self, check: Check, progress: ShowProgress, confirm: Check) -> Json:
        while True:
            frame = self._frame(check)
            if "progress" in frame:
                progress(*frame["progress"])
                check()
            elif "ask" in frame:
                confirm()
                self._send({"go": True})
            elif "error" in frame:
                raise _FromMoverError(frame["error"])
            else:
                return dict(frame["result"])

    def _frame(self, check: Check) -> Json:
        while not self._poll.poll(_LOOK_EVERY_MS):
            check()
        frame = frames.read(self._from)
        if frame is None:
            raise self._died()
        return frame

    def _died(self) -> MoverDiedError | LeaseLostError:
        if self._is_given_up:
            return LeaseLostError("this process is stopping; somebody else goes on with the run")
        try:
            code = self._process.wait(_TERM_S)
        except subprocess.TimeoutExpired:
            return MoverDiedError(f"mover {self.pid} closed its pipe in the middle of its work")
        how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
        return MoverDiedError(
            f"mover {self.pid} ended {how} in the middle of its work",
            hint="a mover that the system ends for lack of memory shows in the kernel's log"
            if code == -9
            else "",
        )

    def give_up(self) -> None:
        """End the process from another thread than the one that uses it; that one cleans up."""
        self._is_given_up = True
        self._process.terminate()

    def end(self) -> None:
        """End the process within about a second, whatever it does. May be called twice."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(_TERM_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None and not pipe.closed:
                pipe.close()
        notes.tidy(self.scratch)


class _FromMoverError(Exception):
    """The mover said no; it lives and can be used again."""

    def __init__(self, found: Json) -> None:
        super().__init__(found.get("message"))
        self.found = frames.raised(found)


class MoverPool:
    """Up to ``size`` movers. Thread-safe."""

    def __init__(self, size: int, *, scratch: Path) -> None:
        """``scratch`` is a folder of this host where movers put what they need for a step."""
        self._size = size
        self._scratch = scratch
        self._changed = threading.Condition()
        self._free: list[Mover] = []
        self._busy: set[Mover] = set()
        self._is_closed = False
        self._unlock: Unlock | None = None
        self._cleaners: list[threading.Thread] = []

    def on_left(self, unlock: Unlock) -> None:
        """Have the lock of a mover that was killed removed from its bank. Called once, before any use."""
        self._unlock = unlock

    def clear_scratch(self) -> None:
        """Remove what the movers of a former process left behind, and their locks; return at once.

        Only one service of this kind lives on a data folder: whoever made it is gone, or is about to.
        """
        self._clean(sorted(self._scratch.glob("mover-*")))

    def warm(self) -> None:
        """Start one mover, so that the first run need not wait for it; return at once."""
        with self._changed:
            if not self._is_closed and not self._free and not self._busy:
                self._free.append(self._start())

    @property
    def pids(self) -> tuple[int, ...]:
        """The processes that live now."""
        with self._changed:
            return tuple(mover.pid for mover in [*self._free, *self._busy] if mover.is_alive)

    @contextmanager
    def use(self, check: Check) -> Iterator[Mover]:
        """A mover for the block; waits for a free one. ``StateError`` once the pool is closed."""
        mover = self._take(check)
        try:
            yield mover
        finally:
            with self._changed:
                self._busy.discard(mover)
                is_kept = mover.is_free and not self._is_closed
                if is_kept:
                    self._free.append(mover)
                self._changed.notify()
            if not is_kept:
                mover.end()
                self._clean([mover.scratch])

    def _clean(self, folders: Sequence[Path]) -> None:
        """Remove folders of movers that have ended; a lock that one has left goes in the background.

        What cannot be removed now is tried again by the next start.
        """
        left: list[tuple[Path, LockNote]] = []
        for folder in folders:
            notes.tidy(folder)
            note = notes.read(folder)
            if note is not None:
                left.append((folder, note))
        with self._changed:
            unlock = self._unlock
            if not left or unlock is None or self._is_closed:
                return
            cleaner = threading.Thread(
                target=self._remove_locks, args=(left, unlock), name="mover-locks", daemon=True
            )
            self._cleaners = [*(one for one in self._cleaners if one.is_alive()), cleaner]
            cleaner.start()

    def _remove_locks(self, left: Sequence[tuple[Path, LockNote]], unlock: Unlock) -> None:
        for folder, note in left:
            if not notes.has_ended(note, within_s=_ORPHAN_S):
                log.warning("a mover of a former process lives on; its lock stays", pid=note.pid)
                continue
            try:
                unlock(note.repository_id, note.session)
            except SeawallError as error:
                if self._is_closed:
                    return
                log.warning("the lock of a dead mover was not removed", pid=note.pid, error=str(error))
                continue
            shutil.rmtree(folder, ignore_errors=True)

    def await_locks(self, check: Check) -> None:
        """Wait until the locks of movers that are known to be dead have gone, or could not be removed.

        For work that such a lock is in the way of: it may be the lock of its own former attempt.
        """
        with self._changed:
            cleaners = list(self._cleaners)
        for cleaner in cleaners:
            while cleaner.is_alive():
                cleaner.join(_LOOK_EVERY_MS / 1000)
                check()

    def _take(self, check: Check) -> Mover:
        with self._changed:
            while True:
                if self._is_closed:
                    raise LeaseLostError("this process is stopping; somebody else goes on with the run")
                # The one used last is the warmest.
                while self._free:
                    mover = self._free.pop()
                    if mover.is_alive:
                        self._busy.add(mover)
                        return mover
                    log.warning("a mover ended while it was idle", pid=mover.pid)
                    mover.end()  # idle ones hold no lock
                if len(self._busy) < self._size:
                    mover = self._start()
                    self._busy.add(mover)
                    return mover
                self._changed.wait(_LOOK_EVERY_MS / 1000)
                check()

    def _start(self) -> Mover:
        if self._is_closed:
            raise StateError("the movers of this process are closed")
        return Mover(self._scratch)

    def close(self) -> None:
        """End all movers. Who waits for one gets a ``LeaseLostError``: somebody else goes on with the run."""
        with self._changed:
            self._is_closed = True
            idle, self._free = self._free, []
            busy = list(self._busy)
            cleaners, self._cleaners = self._cleaners, []
            self._changed.notify_all()
        for mover in idle:
            mover.end()
        for mover in busy:
            mover.give_up()
        for cleaner in cleaners:
            cleaner.join(_ORPHAN_S)
