# SPDX-License-Identifier: Apache-2.0
"""A small backup through the running service: asked for over HTTP, made by a mover, its run ended.

    python -m bench.protection

``repository.small_backup_ms``: five small files that are new each time, from the start of the run to its end
as its row says, median of the rounds. Some ten of its acts wait for the disk, one after the other; what one
fsync of a small file takes at that time on that disk stands beside it.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from datetime import datetime
from pathlib import Path

from bench.figure import show
from demo.service import Json, Seawall, wait_until

ROUNDS = 15
FSYNCS = 30


def _round(seawall: Seawall, plan: Json, source: Path) -> float:
    for name in range(5):
        (source / str(name)).write_bytes(os.urandom(2000))
    path = f"/providers/{plan['provider_id']}/checkpoints"
    made = seawall.call("POST", path, {"checkpoint": {"plan_id": plan["id"]}})["checkpoint"]

    def ended() -> Json | None:
        found: Json = seawall.call("GET", f"/runs/{made['run_id']}")["run"]
        return found if found["ended_at"] else None

    run = wait_until("the backup", ended)
    if run["state"] != "success":
        raise SystemExit(f"the backup ended as {run['state']}: {run['error']}")
    begun, done = (datetime.fromisoformat(run[name]) for name in ("started_at", "ended_at"))
    return (done - begun).total_seconds() * 1000


def _fsync_ms(folder: Path) -> float:
    """What one fsync of a small new file takes here, median."""
    found = []
    for number in range(FSYNCS):
        begun = time.perf_counter()
        handle = os.open(folder / str(number), os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            os.write(handle, b"x" * 3000)
            os.fsync(handle)
        finally:
            os.close(handle)
        found.append((time.perf_counter() - begun) * 1000)
    return statistics.median(found)


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory(prefix="seawall-bench-") as folder:
        source = Path(folder) / "source"
        source.mkdir()
        data = Path(folder) / "data"
        data.mkdir(mode=0o700)
        seawall = Seawall(data, 0)
        seawall.start()
        try:
            provider = seawall.call("GET", "/providers")["providers"][0]["id"]
            resource = {"type": "directory", "id": str(source), "name": "source"}
            body = {"name": "b", "provider_id": provider, "resources": [resource], "parameters": {}}
            plan = seawall.call("POST", "/plans", {"plan": body})["plan"]
            _round(seawall, plan, source)  # makes the repository
            walls = [_round(seawall, plan, source) for _ in range(ROUNDS)]
        finally:
            seawall.stop()
        synced = Path(folder) / "synced"
        synced.mkdir()
        fsync_ms = _fsync_ms(synced)
        show(
            "repository.small_backup_ms",
            statistics.median(walls),
            "ms",
            40,
            peer="one fsync of this disk",
            peer_value=fsync_ms,
            ratio=statistics.median(walls) / fsync_ms,
        )


if __name__ == "__main__":
    main()
