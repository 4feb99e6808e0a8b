# SPDX-License-Identifier: Apache-2.0
"""One installation that has its power cut again and again."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar
from uuid import NAMESPACE_OID, UUID, uuid5

import httpx

from demo.evidence import Entry, differences, photograph
from demo.service import SEAWALL, Json, free_port, wait_until
from seawall.runtime.clock import SystemClock

T = TypeVar("T")

SETTINGS = """\
min_interval_s: 1
cleanup_interval_s: 0.5
lease_s: 10
heartbeat_s: 0.5
poll_s: 0.1
grace_s: 1
keep_runs_days: 30
"""
CRASH_SETTINGS = SETTINGS + "error_checkpoint_days: 0.0003\n"
_DASHED = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_PLAIN = re.compile(r"[0-9a-f]{32}")
LIVE = ("queued", "in_progress", "cancelling")
EVERY_S = 2
# A run that has lost its process more often than this is given up, as it must be (I4).
MOST_CUTS = 3
# Waits until a file is there, so that a run lasts as long as a test wants.
SLEEPER = """\
from pathlib import Path


class Sleeper:
    operation_type = "sleeper"
    definition_schema = {
        "type": "object",
        "properties": {"gate": {"type": "string"}},
        "required": ["gate"],
        "additionalProperties": False,
    }

    def run(self, definition, context):
        while not Path(definition["gate"]).exists():
            context.wait(0.1)
        return {"slept": True}
"""


class PowerCutError(Exception):
    """The service is gone: its failpoint was reached."""


class Ground:
    """A data folder, what it protects, and the service on it.

    ``plan`` has a schedule and lies on the default bank. ``own`` is a plan of other sources on a second bank
    (``frail``), which acts break and mend.
    """

    def __init__(self, folder: Path, settings: str = CRASH_SETTINGS) -> None:
        """Nothing is started yet."""
        self.folder = folder
        self.data = folder / "data"
        self.data.mkdir(mode=0o700)
        (self.data / "seawall.yaml").write_text(settings)
        self.log = folder / "data.log"
        self.clock = SystemClock()
        self.cuts = 0
        """Since everything had settled."""
        self.frail = folder / "frail bank"
        self.gate = folder / "gate"
        self.plan: Json = {}
        self.own: Json = {}
        self.restoring: tuple[str, list[tuple[Path, dict[bytes, Entry]]]] | None = None
        """A restore that was asked for, and what must be there when it has ended."""
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._http: httpx.Client | None = None

    # --- the service -------------------------------------------------------------------------

    def start(self, failpoint: str | None = None) -> bool:
        """Start it, armed; whether it got ready (it may be cut while it starts)."""
        self.mend()
        environment = {**os.environ, "SEAWALL_DATA_DIR": str(self.data)}
        if failpoint is not None:
            environment["SEAWALL_FAILPOINTS"] = f"{failpoint}=killgroup"
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [str(SEAWALL), "serve", "--port", str(self._port)],
                env=environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._http = httpx.Client(base_url=f"http://127.0.0.1:{self._port}", timeout=60)
        if not wait_until("the service to be ready", self._is_ready, timeout_s=120):
            self._expect_cut()
            return False
        address = (self.data / "api-url").read_text().strip()
        token = (self.data / "admin-token").read_text().strip()
        self._http.close()
        self._http = httpx.Client(base_url=address, headers={"X-Auth-Token": token}, timeout=60)
        return True

    def _is_ready(self) -> bool | None:
        """True when it answers, False when its process has ended."""
        assert self._process is not None and self._http is not None
        if self._process.poll() is not None:
            return False
        try:
            answer = self._http.get("/health/ready")
        except httpx.TransportError:
            return None
        return True if answer.status_code == 200 else None

    def stop(self) -> bool:
        """SIGTERM; whether it ended by itself and not by its failpoint."""
        assert self._process is not None
        self._process.terminate()
        if self._process.wait(timeout=60) == 0:
            self._close()
            return True
        self._expect_cut()
        return False

    def kill(self) -> None:
        """Cut the power now: service and movers, whatever they do. May be called at any time."""
        if self._process is not None:
            self.cuts += 1
            try:
                os.killpg(self._process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass  # all of them have ended
            self._process.wait()
        self._close()

    def is_cut_within(self, seconds: float) -> bool:
        """Whether the loops of the service come to its failpoint by themselves."""
        assert self._process is not None
        try:
            self._process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            return False
        self._expect_cut()
        return True

    def _expect_cut(self) -> None:
        assert self._process is not None
        code = self._process.wait(timeout=60)
        assert code == -9, f"it ended with {code}, not by its failpoint:\n{self.log.read_text()[-3000:]}"
        self.cuts += 1
        self._close()

    def _close(self) -> None:
        self._process = None
        if self._http is not None:
            self._http.close()
            self._http = None

    def call(
        self,
        method: str,
        path: str,
        body: Json | None = None,
        *,
        key: str = "",
        headers: Mapping[str, str] | None = None,
        status: int = 200,
        **query: Any,
    ) -> Json:
        """A request; ``PowerCutError`` when there is nobody to answer."""
        headers = {**(headers or {}), **({"Idempotency-Key": key} if key else {})}
        answer = self._answer(method, path, status, json=body, params=query, headers=headers)
        return dict(json.loads(answer)) if answer else {}

    def fetch(self, path: str, **query: Any) -> bytes:
        """What is there, whole; ``PowerCutError`` as above."""
        return self._answer("GET", path, 200, params=query)

    def _answer(self, method: str, path: str, status: int, **request: Any) -> bytes:
        assert self._http is not None
        try:
            answer = self._http.request(method, path, **request)
        except httpx.TransportError as error:
            self._expect_cut()
            raise PowerCutError from error
        assert answer.status_code == status, f"{method} {path}: {answer.text}"
        return answer.content

    def until(self, what: str, find: Callable[[], T | None], *, timeout_s: float = 120) -> T:
        """Ask the rows until ``find`` answers something; ``PowerCutError`` when the service is gone."""

        def ask() -> T | None:
            found = find()
            if found is None and self._process is not None and self._process.poll() is not None:
                self._expect_cut()
                raise PowerCutError
            return found

        return wait_until(f"{what} (see {self.log})", ask, timeout_s=timeout_s)

    def command(self, *arguments: str, failpoint: str = "", data: Path | None = None) -> int:
        """One ``seawall`` command, killed at its failpoint if it has one; its exit code."""
        environment = {**os.environ, "SEAWALL_DATA_DIR": str(data or self.data)}
        if failpoint:
            environment["SEAWALL_FAILPOINTS"] = f"{failpoint}=kill"
        with self.log.open("ab") as log:
            return subprocess.run(
                [str(SEAWALL), *arguments], env=environment, stdout=log, stderr=log, timeout=120, check=False
            ).returncode

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """What the database says, whether or not the service runs. UUIDs are texts with dashes."""
        with closing(sqlite3.connect(f"file:{self.data}/seawall.db?mode=ro", uri=True, timeout=60)) as opened:
            found = opened.execute(query, [_stored(one) for one in values]).fetchall()
        return [tuple(_shown(one) for one in row) for row in found]

    def alter(self, statement: str, *values: object) -> None:
        """Change the database behind the service's back: time that passed, damage."""
        with closing(sqlite3.connect(self.data / "seawall.db", timeout=60)) as opened, opened:
            opened.execute(statement, [_stored(one) for one in values])

    # --- what it protects ----------------------------------------------------------------------

    def prepare(self) -> None:
        """Plans, triggers and operations; made before the first cut, while the service runs."""
        provider = self.call("GET", "/providers")["providers"][0]["id"]
        self.plan = self.new_plan("plan", provider, self.new_sources("source"))
        self.first_due = self.clock.now().replace(microsecond=0)
        self.trigger = self.new_trigger("every", str(EVERY_S), start=self.first_due)
        definition = {"plan_id": self.plan["id"], "provider_id": provider, "max_backups": 2}
        self.operation = self.new_operation("o", "retention_protect", self.trigger["id"], definition)
        self.registered = self.clock.now()
        self.frail.mkdir()
        self.own = self.new_plan("own", self.new_provider("frail", self.frail), self.new_sources("own"))
        self.spoilt = self.new_trigger("spoilt", "86400")
        (self.data / "operations" / "sleeper.py").write_text(SLEEPER)

    def new_sources(self, name: str) -> tuple[Path, Path]:
        """A folder with links of both kinds, and a database."""
        folder, database = self.folder / name, self.folder / f"{name}.db"
        folder.mkdir()
        (folder / "a").write_text("alpha")
        (folder / "link").symlink_to("a")
        os.link(folder / "a", folder / "the same")
        with closing(sqlite3.connect(database)) as opened, opened:
            opened.execute("CREATE TABLE t (x)")
        self.change(folder, database, 0)
        return folder, database

    def change(self, folder: Path, database: Path, number: int) -> None:
        """New content, in the folder and in the database."""
        (folder / f"file {number % 5}").write_bytes(os.urandom(20_000))
        with closing(sqlite3.connect(database)) as opened, opened:
            opened.execute("INSERT INTO t VALUES (?)", (number,))

    def sources_of(self, plan: Json) -> tuple[Path, Path]:
        folder, database = (Path(one["id"]) for one in plan["resources"])
        return folder, database

    def new_provider(self, name: str, bank: Path) -> str:
        """A provider whose bank is a folder; its id is that of its name for good."""
        made = str(uuid5(NAMESPACE_OID, str(bank)))
        text = f"id: {made}\nname: '{name}'\nbank: {{type: file, path: '{bank}'}}\n"
        new = self.data / "providers.d" / f"{name}.new"
        new.touch(mode=0o600)
        new.write_text(text)
        new.replace(new.with_suffix(".yaml"))
        return made

    def new_plan(self, name: str, provider_id: str, sources: tuple[Path, Path]) -> Json:
        resources = [
            {"type": "directory", "id": str(sources[0]), "name": "files"},
            {"type": "sqlite", "id": str(sources[1]), "name": "db"},
        ]
        body: Json = {"name": name, "provider_id": provider_id, "resources": resources, "parameters": {}}
        return dict(self.call("POST", "/plans", {"plan": body})["plan"])

    def new_trigger(self, name: str, pattern: str, *, start: datetime | None = None) -> Json:
        properties = {"format": "interval", "pattern": pattern}
        if start is not None:
            properties["start_time"] = start.strftime("%Y-%m-%d %H:%M:%S")
        body = {"trigger_info": {"name": name, "type": "time", "properties": properties}}
        return dict(self.call("POST", "/triggers", body)["trigger_info"])

    def new_operation(
        self, name: str, operation_type: str, trigger_id: str, definition: Json, **more: Any
    ) -> Json:
        body = {
            "name": name,
            "operation_type": operation_type,
            "trigger_id": trigger_id,
            "operation_definition": definition,
            **more,
        }
        made = self.call("POST", "/scheduled_operations", {"scheduled_operation": body})
        return dict(made["scheduled_operation"])

    # --- asking for work -----------------------------------------------------------------------

    def checkpoints_of(self, plan: Json) -> str:
        return f"/providers/{plan['provider_id']}/checkpoints"

    def back_up(self, plan: Json, *, key: str = "") -> Json:
        """A checkpoint that is asked for now."""
        body = {"checkpoint": {"plan_id": plan["id"]}}
        return dict(self.call("POST", self.checkpoints_of(plan), body, key=key)["checkpoint"])

    def ended(self, made: Json) -> str:
        """The status of a checkpoint once no run works on it."""
        query = "SELECT status FROM checkpoints WHERE id = ? AND status NOT IN ('protecting', 'deleting')"
        return str(self.until(f"checkpoint {made['id']} to end", lambda: self._one(query, made["id"])))

    def restore(self, plan: Json, made: Json, target: Path | None) -> None:
        """Ask for a restore; ``assert_restored`` says when it has ended and compares."""
        folder, database = self.sources_of(plan)
        base = folder.parent if target is None else target
        wanted = [(base / folder.name, photograph(folder)), (base / database.name, database_rows(database))]
        body: Json = {
            "provider_id": plan["provider_id"],
            "checkpoint_id": made["id"],
            "parameters": {},
        }
        if target is None:
            shutil.rmtree(folder)
            database.unlink()
        else:
            body["restore_target"] = str(target)
        # From here on it may be asked for although nobody hears the answer: the newest one counts.
        self.restoring = (made["id"], wanted)
        self.call("POST", "/restores", {"restore": body})

    def assert_restored(self) -> None:
        """What was asked to be restored is there, every byte, mode, time and row."""
        if self.restoring is None:
            return
        checkpoint_id, wanted = self.restoring
        query = "SELECT status, reason FROM restores WHERE checkpoint_id = ? ORDER BY row DESC LIMIT 1"
        newest = self.rows(query, checkpoint_id)
        if newest:  # else the power was cut before the request was carried out
            ended = self.until(
                "the restore to end",
                lambda: (
                    None if (found := self.rows(query, checkpoint_id))[0][0] == "in_progress" else found[0]
                ),
            )
            assert ended == ("success", None), ended
            for place, before in wanted:
                after = photograph(place) if place.is_dir() else database_rows(place)
                assert differences(before, after) == [], place
        elif wanted[0][0].parent == self.folder and not wanted[0][0].exists():
            # It was to come back in place, and was never asked for: the sources are made anew.
            self.new_sources(wanted[0][0].name)
        self.restoring = None

    def _one(self, query: str, *values: object) -> Any:
        found = self.rows(query, *values)
        return found[0][0] if found else None

    # --- breaking and mending ------------------------------------------------------------------

    def break_bank(self) -> None:
        """Something else lies where the second bank was."""
        self.frail.rename(self.frail.with_name("frail bank, away"))
        self.frail.write_text("no bank")

    def mend(self) -> None:
        """End what an act has broken, wherever in it the power was cut."""
        away = self.frail.with_name("frail bank, away")
        if away.exists():
            self.frail.unlink(missing_ok=True)
            away.rename(self.frail)
        self.gate.touch()
        if (self.data / "seawall.db").exists():
            self.alter("DROP TRIGGER IF EXISTS broken")

    def spoil_trigger(self) -> None:
        """A schedule that a former version took and this one does not understand."""
        self.alter(
            "UPDATE triggers SET properties = ?, quarantine_reason = NULL, next_run_at = ? WHERE id = ?",
            '{"format": "no such format"}',
            2**52,
            self.spoilt["id"],
        )


def _stored(value: object) -> object:
    """SQLite has UUIDs without dashes."""
    return UUID(value).hex if isinstance(value, str) and _DASHED.fullmatch(value) else value


def _shown(value: object) -> object:
    return str(UUID(value)) if isinstance(value, str) and _PLAIN.fullmatch(value) else value


def database_rows(path: Path) -> dict[bytes, Entry]:
    """The rows of a database, to be compared like files."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as opened:
        found: Sequence[tuple[Any, ...]] = opened.execute("SELECT x FROM t ORDER BY rowid").fetchall()
    return {b"rows": Entry(0, 0, None, (0, 0), repr(found), ())}
