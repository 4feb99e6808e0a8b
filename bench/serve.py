# SPDX-License-Identifier: Apache-2.0
"""``seawall serve`` as a process: seconds until it is ready, and what it takes when nothing is due.

    python -m bench.serve

``serve.ready_s``: from the start of the process to the first 200 of /health/ready, on a data folder that was
set up before, median of 5.
``serve.idle_cpu_percent``: CPU seconds of the process and its movers over 30 s without work, of one core.
``serve.idle_rss_mib``: resident memory of the process and its movers after that; shared pages count once for
each process.
"""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx

from bench.figure import show

SEAWALL = Path(sys.executable).with_name("seawall")
ROUNDS = 5
IDLE_S = 30


class Served:
    """One start of the service."""

    def __init__(self, data: Path, log: Path) -> None:
        begun = time.monotonic()
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [str(SEAWALL), "serve", "--data-dir", str(data), "--port", "0"],
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        url = data / "api-url"
        while True:
            if self._process.poll() is not None:
                raise SystemExit(f"seawall serve ended: {log.read_text()[-2000:]}")
            try:
                base = httpx.URL(url.read_text().strip())
                if httpx.get(base.copy_with(path="/health/ready"), timeout=2).status_code == 200:
                    break
            except (OSError, httpx.HTTPError):
                pass
            time.sleep(0.01)
        self.ready_s = time.monotonic() - begun

    def stop(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(timeout=15)

    def processes(self) -> list[int]:
        """The service and every process below it."""
        parents: dict[int, int] = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                except (OSError, IndexError):
                    continue
        found = [self._process.pid]
        for pid in found:
            found += [child for child, parent in parents.items() if parent == pid]
        return found

    def cpu_s(self) -> float:
        ticks = 0
        for pid in self.processes():
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def rss_mib(self) -> float:
        return (
            sum(
                int(line.split()[1])
                for pid in self.processes()
                for line in Path(f"/proc/{pid}/status").read_text().splitlines()
                if line.startswith("VmRSS:")
            )
            / 1024
        )


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="seawall-bench-") as folder:
        data = Path(folder) / "data"
        data.mkdir(mode=0o700)
        log = Path(folder) / "log"
        Served(data, log).stop()
        ready = []
        for _ in range(ROUNDS):
            (data / "api-url").unlink(missing_ok=True)
            served = Served(data, log)
            ready.append(served.ready_s)
            served.stop()
        show("serve.ready_s", statistics.median(ready), "s", 3)
        served = Served(data, log)
        try:
            time.sleep(5)
            before = served.cpu_s()
            time.sleep(IDLE_S)
            show("serve.idle_cpu_percent", (served.cpu_s() - before) / IDLE_S * 100, "%", 1)
            show("serve.idle_rss_mib", served.rss_mib(), "MiB", 200)
        finally:
            served.stop()


if __name__ == "__main__":
    main()
