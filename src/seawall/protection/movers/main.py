# SPDX-License-Identifier: Apache-2.0
"""The mover process: ``python -m seawall.protection.movers.main SCRATCH``, spoken to over stdin and stdout.

It ends by itself when the service's end of the pipe is closed: a thread reads the pipe all the time, so that
a mover never outlives its service, whatever it is doing. SIGTERM and SIGKILL end it at once; the repository
is made for that.
"""

from __future__ import annotations

import os
import queue
import signal
import sys
import threading
import traceback
from pathlib import Path
from typing import Final

from seawall.core.errors import SeawallError
from seawall.protection.movers import frames
from seawall.protection.movers.frames import Json
from seawall.protection.movers.work import Worker
from seawall.runtime.clock import SystemClock

_SHOW_EVERY_S: Final = 0.2
_ORPHANED: Final = 3


class Pipe:
    """Our end of the pipe."""

    def __init__(self, reading: int, writing: int) -> None:
        self._reading = reading
        self._writing = writing
        self._requests: queue.SimpleQueue[Json] = queue.SimpleQueue()
        self._clock = SystemClock()
        self._shown_at = self._clock.monotonic()
        self._lock = threading.Lock()
        threading.Thread(target=self._read, name="pipe", daemon=True).start()

    def _read(self) -> None:
        while (frame := frames.read(self._reading)) is not None:
            self._requests.put(frame)
        os._exit(_ORPHANED)  # the service is gone: nobody waits for what we do

    def next(self) -> Json:
        return self._requests.get()

    def send(self, frame: Json) -> None:
        with self._lock:
            try:
                frames.write(self._writing, frame)
            except BrokenPipeError:
                os._exit(_ORPHANED)

    def progress(self, done_bytes: int, done_items: int) -> None:
        """At most five a second go out."""
        now = self._clock.monotonic()
        if now - self._shown_at >= _SHOW_EVERY_S:
            self._shown_at = now
            self.send({"progress": [done_bytes, done_items]})

    def give(self, piece: bytes | memoryview) -> None:
        """A piece of what is asked for as a stream; waits while the service takes none."""
        with self._lock:
            try:
                frames.write_piece(self._writing, piece)
            except BrokenPipeError:
                os._exit(_ORPHANED)

    def confirm(self) -> None:
        """Ask the service whether the work is still ours; it ends this process when it is not."""
        self.send({"ask": "confirm"})
        self.next()


def main() -> None:
    """Serve requests until the pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the service's business
    reading, writing = os.dup(0), os.dup(1)
    # Whatever a library prints goes to the log, never between the frames.
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(2, 1)
    pipe = Pipe(reading, writing)
    worker = Worker(
        SystemClock(), Path(sys.argv[1]), progress=pipe.progress, confirm=pipe.confirm, give=pipe.give
    )
    pipe.send({"result": {"pid": os.getpid()}})
    while True:
        request = pipe.next()
        try:
            pipe.send({"result": worker.call(str(request["call"]), request["arguments"])})
        except SeawallError as error:
            pipe.send(frames.error_frame(error))
        except Exception as error:  # noqa: BLE001 - the top of a process: the service records it, we go on
            traceback.print_exc(file=sys.stderr)
            pipe.send(frames.error_frame(error))


if __name__ == "__main__":
    main()
