# SPDX-License-Identifier: Apache-2.0
"""A process with two services, for tests that send it signals: it says what it does, one word a line.

``lifecycle_child.py FOLDER [hang]``: with ``hang``, a service never finishes its cleanup.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from seawall.core.records import Service as ServiceRow
from seawall.runtime.clock import SystemClock
from seawall.runtime.folder import DataFolder
from seawall.runtime.lifecycle import ServiceHost
from seawall.runtime.logging import set_up_logging


def say(*words: object) -> None:
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


class Rows:
    """The services table, in memory."""

    def find_or_create(self, host: str, binary: str, version: str, pid: int) -> int:
        return {"first": 1, "second": 2}[binary]

    def beat(self, service_ids: Sequence[int]) -> None:
        pass

    def stopped(self, service_id: int) -> None:
        say("stopped", service_id)

    def list(self) -> list[ServiceRow]:
        return []


class First:
    binary: ClassVar[str] = "first"

    def init_host(self, *, service_id: int) -> None:
        say("init", self.binary, service_id)

    def cleanup_host(self) -> None:
        say("cleanup", self.binary)
        if "hang" in sys.argv:
            threading.Event().wait()


class Second(First):
    binary: ClassVar[str] = "second"

    def cleanup_host(self) -> None:
        say("cleanup", self.binary)


def main() -> int:
    set_up_logging(level="error")
    folder = DataFolder(Path(sys.argv[1]))
    folder.create()
    host = ServiceHost(
        [First(), Second()],
        Rows(),
        folder=folder,
        host="here",
        version="1",
        clock=SystemClock(),
        heartbeat_s=60,
        grace_s=0.1,
    )
    return host.run(on_ready=lambda: say("ready"))


if __name__ == "__main__":
    raise SystemExit(main())
