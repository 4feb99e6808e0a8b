# SPDX-License-Identifier: Apache-2.0
"""``--wait``: follow a run to its end, with a bar on a terminal."""

from __future__ import annotations

import threading

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from seawall.cli.output import Json, size
from seawall.client import Connection
from seawall.core.errors import CancelledError, RunError

_POLL_S = 0.3
_LIVE = ("queued", "in_progress", "cancelling")


def follow(api: Connection, run_id: str) -> Json:
    """The ended run. ``RunError`` or ``CancelledError`` when it did not succeed.

    Ctrl-C stops watching, not the run.
    """
    console = Console(stderr=True)
    with Progress(
        TextColumn("{task.fields[words]}"),
        BarColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as bar:
        task = bar.add_task("run", total=None, words="queued")
        pause = threading.Event()
        while True:
            run: Json = api.call("GET", f"/runs/{run_id}")["run"]
            if run["state"] not in _LIVE:
                break
            progress = run["progress"] or {}
            done, total = progress.get("done_bytes", 0), progress.get("total_bytes")
            words = f"{run['state']}  {progress.get('done_items', 0):,} items  {size(done)}"
            bar.update(task, completed=done, total=total or None, words=words)
            pause.wait(_POLL_S)
    if run["state"] == "success":
        return run
    error = run["error"] or {}
    reason = error.get("message") or run["reason"] or "no reason was recorded"
    if run["state"] == "cancelled":
        raise CancelledError(f"run {run_id} was cancelled: {reason}")
    raise RunError(f"run {run_id} is {run['state']}: {reason}", hint=str(error.get("hint", "")))
