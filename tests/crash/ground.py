# SPDX-License-Identifier: Apache-2.0
"""One installation that has its power cut again and again, and what must be true after each cut."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import uuid
from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx

from demo.evidence import differences, due_times, photograph
from demo.service import SEAWALL, Json, free_port, wait_until
from seawall.runtime.clock import SystemClock

SETTINGS = """\
min_interval_s: 1
cleanup_interval_s: 0.5
lease_s: 2
heartbeat_s: 0.5
poll_s: 0.1
grace_s: 3
keep_runs_days: 30
"""
LIVE = ("queued", "in_progress", "cancelling")
EVERY_S = 2


class PowerCutError(Exception):
    """The service is gone: its failpoint was reached."""


class Ground:
    """A data folder, its sources, and the service on it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.data.mkdir(mode=0o700)
        (self.data / "seawall.yaml").write_text(SETTINGS)
        self.source = folder / "source"
        self.source.mkdir()
        (self.source / "a").write_text("alpha")
        (self.source / "link").symlink_to("a")
        self.database = folder / "app.db"
        with sqlite3.connect(self.database) as connection:
            connection.execute("CREATE TABLE t (x)")
            connection.execute("INSERT INTO t VALUES (1)")
        connection.close()
        self.port = free_port()
        self.log = folder / "data.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._rounds = 0
        self._clock = SystemClock()
        self._seen: dict[str, Json] = {}
        self.plan: Json = {}
        self.trigger: Json = {}
        self.operation: Json = {}
        self.registered: datetime | None = None

    # --- the service -------------------------------------------------------------------------

    def start(self, failpoint: str | None = None) -> bool:
        """Start it, armed; whether it got ready (it may be cut while it starts)."""
        environment = {**os.environ, "SEAWALL_DATA_DIR": str(self.data)}
        if failpoint is not None:
            environment["SEAWALL_FAILPOINTS"] = f"{failpoint}=killgroup"
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [str(SEAWALL), "serve", "--port", str(self.port)],
                env=environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        if wait_until("the service", self._is_ready, timeout_s=30):
            return True
        self._expect_cut()
        return False

    def _is_ready(self) -> bool | None:
        """True when it answers, False when its process has ended."""
        assert self._process is not None
        if self._process.poll() is not None:
            return False
        try:
            answer = httpx.get(f"http://127.0.0.1:{self.port}/health/ready", timeout=2)
        except httpx.TransportError:
            return None
        return True if answer.status_code == 200 else None

    def stop(self) -> bool:
        """SIGTERM; whether it ended by itself and not by its failpoint."""
        assert self._process is not None
        self._process.terminate()
        code = self._process.wait(timeout=15)
        if code == 0:
            return True
        self._expect_cut()
        return False

    def kill(self) -> None:
        """End it whatever it does."""
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, 9)
            self._process.wait()

    def _expect_cut(self) -> None:
        assert self._process is not None
        code = self._process.wait(timeout=10)
        assert code == -9, f"it ended with {code}, not by its failpoint:\n{self.log.read_text()[-3000:]}"

    def call(self, method: str, path: str, body: Json | None = None, **query: Any) -> Json:
        """A request; ``PowerCutError`` when there is nobody to answer."""
        url = (self.data / "api-url").read_text().strip()
        token = (self.data / "admin-token").read_text().strip()
        try:
            answer = httpx.request(
                method, url + path, json=body, params=query, headers={"X-Auth-Token": token}, timeout=20
            )
        except httpx.TransportError as error:
            self._expect_cut()
            raise PowerCutError from error
        assert answer.status_code == 200, f"{method} {path}: {answer.text}"
        return dict(json.loads(answer.text)) if answer.text else {}

    def cli(self, *arguments: str) -> str:
        done = subprocess.run(
            [str(SEAWALL), *arguments],
            env={**os.environ, "SEAWALL_DATA_DIR": str(self.data)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    # --- the work ----------------------------------------------------------------------------

    def prepare(self) -> None:
        """Plan, trigger and operation; made before the first cut."""
        provider = self.call("GET", "/providers")["providers"][0]["id"]
        resources = [
            {"type": "directory", "id": str(self.source), "name": "files"},
            {"type": "sqlite", "id": str(self.database), "name": "db"},
        ]
        body: Json = {"name": "p", "provider_id": provider, "resources": resources, "parameters": {}}
        self.plan = self.call("POST", "/plans", {"plan": body})["plan"]
        start = self._clock.now().replace(microsecond=0)
        properties = {
            "format": "interval",
            "pattern": str(EVERY_S),
            "start_time": start.strftime("%Y-%m-%d %H:%M:%S"),
        }
        body = {"name": "t", "type": "time", "properties": properties}
        self.trigger = self.call("POST", "/triggers", {"trigger_info": body})["trigger_info"]
        definition = {"plan_id": self.plan["id"], "provider_id": provider, "max_backups": 2}
        body = {
            "name": "o",
            "operation_type": "retention_protect",
            "trigger_id": self.trigger["id"],
            "operation_definition": definition,
        }
        made = self.call("POST", "/scheduled_operations", {"scheduled_operation": body})
        self.operation = made["scheduled_operation"]
        self.registered = self._clock.now()
        self.first_due = start

    def work(self) -> None:
        """A round of everything that writes; ``PowerCutError`` when the cut comes in between."""
        self._rounds += 1
        (self.source / f"file {self._rounds % 5}").write_bytes(os.urandom(20_000))
        with sqlite3.connect(self.database) as connection:
            connection.execute("INSERT INTO t VALUES (?)", (self._rounds,))
        connection.close()
        path = f"/providers/{self.plan['provider_id']}/checkpoints"
        made = self.call("POST", path, {"checkpoint": {"plan_id": self.plan["id"]}})["checkpoint"]
        extra = {"name": "extra", "type": "time", "properties": {"format": "interval", "pattern": "3600"}}
        trigger = self.call("POST", "/triggers", {"trigger_info": extra})["trigger_info"]
        trigger_path = f"/triggers/{trigger['id']}"
        self.call("POST", f"{trigger_path}/pause", {"reason": "testing"})
        self.call("POST", f"{trigger_path}/resume")
        changed = {"name": "extra", "properties": {"format": "interval", "pattern": "7200"}}
        self.call("PUT", trigger_path, {"trigger_info": changed})
        definition = {"plan_id": self.plan["id"], "provider_id": self.plan["provider_id"]}
        body = {
            "name": "extra",
            "operation_type": "protect",
            "trigger_id": trigger["id"],
            "operation_definition": definition,
        }
        operation = self.call("POST", "/scheduled_operations", {"scheduled_operation": body})
        operation_path = f"/scheduled_operations/{operation['scheduled_operation']['id']}"
        self.call("PUT", operation_path, {"scheduled_operation": {"enabled": False}})
        self.call("DELETE", operation_path)
        self.call("DELETE", trigger_path)
        self.call("PUT", f"/plans/{self.plan['id']}", {"plan": {"name": f"p{self._rounds}"}})
        found = self._ended("checkpoint", f"{path}/{made['id']}", ("protecting",))
        assert found["status"] == "available", found
        target = self.folder / "target"
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir()
        body = {
            "provider_id": self.plan["provider_id"],
            "checkpoint_id": made["id"],
            "restore_target": str(target),
            "parameters": {},
        }
        restore = self.call("POST", "/restores", {"restore": body})["restore"]
        done = self._ended("restore", f"/restores/{restore['id']}", ("in_progress",))
        assert done["status"] == "success", done
        self.call("DELETE", f"{path}/{made['id']}")
        self._ended("checkpoint", f"{path}/{made['id']}", ("available", "deleting"))

    def _ended(self, one: str, path: str, live: tuple[str, ...]) -> Json:
        """The thing at ``path`` once it is in none of the live states."""

        def ended() -> Json | None:
            found: Json = self.call("GET", path)[one]
            return None if found["status"] in live else found

        return wait_until(f"{path} to end", ended, timeout_s=40)

    # --- what must be true -------------------------------------------------------------------

    def runs(self) -> list[Json]:
        found: list[Json] = []
        marker = None
        while True:
            page = self.call("GET", "/runs", limit=1000, **({"marker": marker} if marker else {}))
            found += page["runs"]
            if not page.get("runs_links"):
                return found
            marker = page["runs"][-1]["id"]

    def settle(self) -> list[Json]:
        """Wait until nothing that was begun before now is left unfinished."""
        known = {run["id"] for run in self.runs()}

        def settled() -> list[Json] | None:
            found = self.runs()
            return None if any(r["state"] in LIVE for r in found if r["id"] in known) else found

        return wait_until("what was cut to be finished", settled, timeout_s=60)

    def assert_invariants(self) -> None:
        """Everything that can be seen from outside: the API, the bank, the rows."""
        runs = self.settle()
        self._assert_runs(runs)
        self._assert_due_times(runs)
        self._assert_bank(runs)

    def _assert_runs(self, runs: list[Json]) -> None:
        keys = Counter((run["subject_id"], run["kind"], run["occurrence"]) for run in runs)
        assert [key for key, count in keys.items() if count > 1] == [], "I1"
        crashed = [run for run in runs if run["state"] == "failed"]
        assert crashed == [], f"a cut is no failure: {crashed}"
        for run in runs:
            if run["state"] in LIVE or run["gap_count"]:
                continue
            former = self._seen.setdefault(run["id"], run)
            for name in ("state", "ended_at", "result", "error", "attempt"):
                assert former[name] == run[name], f"I1: an ended run has changed: {former} {run}"

    def _assert_due_times(self, runs: list[Json]) -> None:
        """Every due time of the operation has one row, or lies in one gap."""
        assert self.registered is not None
        accounted: list[datetime] = []
        until = self._clock.now() - timedelta(seconds=3)
        every = timedelta(seconds=EVERY_S)
        for run in runs:
            if run["scheduled_operation_id"] != self.operation["id"] or run["kind"] != "scheduled":
                continue
            if run["gap_count"]:
                first, last = (datetime.fromisoformat(run[name]) for name in ("gap_first_at", "gap_last_at"))
                times = due_times(self.first_due, every, first - timedelta(microseconds=1), last)
                assert len(times) == run["gap_count"], run
                accounted += times
            else:
                accounted.append(datetime.fromisoformat(run["expected_at"]))
        doubled = [at for at, count in Counter(accounted).items() if count > 1]
        assert doubled == [], "I1"
        lost = [at for at in due_times(self.first_due, every, self.registered, until) if at not in accounted]
        assert lost == [], "I1"

    def _assert_bank(self, runs: list[Json]) -> None:
        """One snapshot for each checkpoint, one checkpoint for each run; what is available can be read."""
        path = f"/providers/{self.plan['provider_id']}/checkpoints"
        before = self.call("GET", path, limit=1000)["checkpoints"]
        snapshots = json.loads(self.cli("repository", "snapshots", "-o", "json"))
        after = {one["id"]: one for one in self.call("GET", path, limit=1000)["checkpoints"]}
        tags = Counter(tag for one in snapshots for tag in one["tags"])
        assert [t for t, n in tags.items() if n > 1 and t.startswith(("run:", "checkpoint:"))] == [], "I5"
        there = {one["id"] for one in snapshots}
        for one in before:
            is_stable = one["id"] in after and after[one["id"]]["status"] == one["status"]
            if is_stable and one["status"] == "available":
                assert one["snapshot_id"] in there, f"I5: {one}"
        done = [run for run in runs if run["state"] == "success" and run["kind"] == "scheduled"]
        assert not done or any(one["status"] == "available" for one in before), "I6"

    def assert_whole(self) -> None:
        """At the end: the newest backup comes back alike, and restic finds nothing wrong with the bank."""
        shutil.copytree(self.source, self.folder / "kept", symlinks=True)
        before = photograph(self.source)
        body = {"scheduled_operation": {"enabled": False}}
        self.call("PUT", f"/scheduled_operations/{self.operation['id']}", body)
        self.settle()
        path = f"/providers/{self.plan['provider_id']}/checkpoints"
        made = self.call("POST", path, {"checkpoint": {"plan_id": self.plan["id"]}})["checkpoint"]
        found = self._ended("checkpoint", f"{path}/{made['id']}", ("protecting",))
        shutil.rmtree(self.source)
        body = {"provider_id": self.plan["provider_id"], "checkpoint_id": found["id"], "parameters": {}}
        restore = self.call("POST", "/restores", {"restore": body})["restore"]
        done = self._ended("restore", f"/restores/{restore['id']}", ("in_progress",))
        assert done["status"] == "success", done
        assert differences(before, photograph(self.source)) == []
        self.cli("repository", "check", "--read-data")
        if shutil.which("restic"):
            self._restic_check()

    def _restic_check(self) -> None:
        repository = next((self.data / "bank").rglob("config")).parent
        password = self.folder / f"password-{uuid.uuid4().hex}"
        password.touch(mode=0o600)
        password.write_text(self.cli("recovery-kit", "key").strip())
        done = subprocess.run(
            ["restic", "-r", repository, "-p", password, "--no-cache", "--no-lock", "check", "--read-data"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
