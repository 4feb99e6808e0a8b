# SPDX-License-Identifier: Apache-2.0
"""Hosts that share one PostgreSQL and one RabbitMQ: real processes, each host on its own data folder."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa
import yaml

from demo.service import SEAWALL, wait_until
from seawall.db import runs as run_rows
from seawall.db.session import Database
from seawall.db.tables import runs, services
from seawall.operation_engine.executors.celery import CeleryDoorbells
from seawall.runtime.clock import SystemClock
from seawall.runtime.database_url import DatabaseUrl

PATIENCE_S = 90.0
LEASE_S = 4
# What it did is told in a file that all hosts share: a line when it begins and one when it has ended.
_WORK = """
import os
from pathlib import Path


class Work:
    operation_type = "work"
    definition_schema = {"type": "object"}

    def run(self, definition, context):
        if definition.get("is_quiet"):
            return None
        self.tell(definition, context, "begun")
        gate = definition.get("gate")
        while gate and not Path(gate).exists():
            context.wait(0.05)
        context.wait(definition.get("seconds", 0))
        self.tell(definition, context, "ended")
        return {"host": os.environ["SEAWALL_HOST"]}

    def tell(self, definition, context, what):
        line = f"{context.run_id} {os.environ['SEAWALL_HOST']} {what}\\n"
        descriptor = os.open(definition["diary"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(descriptor, line.encode())
        finally:
            os.close(descriptor)
"""


class Farm:
    """An installation of several hosts."""

    def __init__(self, folder: Path, url: DatabaseUrl, amqp_url: str, **settings: object) -> None:
        self.folder = folder
        self.diary = folder / "diary"
        self.gate = folder / "gate"
        self.prefix = f"test-{uuid.uuid4().hex[:12]}"
        self._settings = {
            "database_url": url.address,
            "amqp_url": amqp_url,
            "executor": "celery",
            "celery_queue_prefix": self.prefix,
            # So long that nothing goes on by itself within a test: what is done was rung for.
            "doorbell_expires_s": 600,
            "workers": 2,
            "movers": 1,
            "lease_s": LEASE_S,
            "heartbeat_s": 1,
            "poll_s": 0.5,
            "grace_s": 1,
            **settings,
        }
        self.amqp_url = amqp_url
        self._processes: dict[tuple[str, str], subprocess.Popen[bytes]] = {}
        self._key: Path | None = None
        self.database = Database(url, SystemClock())
        self.outside = CeleryDoorbells(
            host="outside", amqp_url=amqp_url, celery_queue_prefix=self.prefix, doorbell_expires_s=600
        )

    def close(self) -> None:
        for host, kind in list(self._processes):
            self.kill(host, kind)
        self.outside.shutdown(grace_s=0)
        self.database.close()

    # --- processes -----------------------------------------------------------------------------

    def start(self, host: str, kind: str = "protection", *, failpoint: str | None = None) -> None:
        """``seawall <kind>`` on this host; returns once it is up (with a failpoint: once it was begun)."""
        data = self._data(host)
        environment = {**os.environ, "SEAWALL_DATA_DIR": str(data), "SEAWALL_HOST": host}
        environment.pop("SEAWALL_FAILPOINTS", None)
        if failpoint is not None:
            environment["SEAWALL_FAILPOINTS"] = f"{failpoint}=kill"
        with (self.folder / f"{host}-{kind}.log").open("ab") as log:
            process = subprocess.Popen(
                [str(SEAWALL), kind], env=environment, stdout=log, stderr=log, start_new_session=True
            )
        self._processes[host, kind] = process
        if failpoint is None:
            wait_until(
                f"{kind} of {host} to be up", lambda: self._is_up(host, kind, process.pid) or None,
                timeout_s=PATIENCE_S,
            )  # fmt: skip
        if self._key is None:
            wait_until("the install key", lambda: (data / "install-key").exists() or None)
            self._key = data / "install-key"

    def _data(self, host: str) -> Path:
        data = self.folder / host
        if not data.exists():
            data.mkdir(mode=0o700)
            (data / "seawall.yaml").write_text(yaml.safe_dump(self._settings))
            (data / "seawall.yaml").chmod(0o600)
            (data / "operations").mkdir(mode=0o700)
            (data / "operations" / "work.py").write_text(_WORK)
            if self._key is not None:
                # Secrets in the database are sealed under one key for all hosts.
                shutil.copy(self._key, data / "install-key")
        return data

    def _is_up(self, host: str, kind: str, pid: int) -> bool:
        process = self._processes[host, kind]
        if process.poll() is not None:
            log = (self.folder / f"{host}-{kind}.log").read_text()
            raise AssertionError(f"{kind} of {host} ended with {process.returncode}:\n{log[-3000:]}")
        try:
            query = sa.select(services.c.host, services.c.binary, services.c.pid)
            found = self.database.read(lambda connection: connection.execute(query).all())
        except Exception:  # noqa: BLE001 - the tables may not be there yet
            return False
        is_known = (host, f"seawall-{kind}", pid) in [tuple(one) for one in found]
        return is_known and (kind != "protection" or self.listeners(host) > 0)

    def listeners(self, host: str | None = None) -> int:
        """How many workers listen at this queue."""
        queue = self.outside._queue(host)
        with self.outside._app.connection_for_read() as connection, connection.channel() as channel:
            try:
                found: Any = channel.queue_declare(queue=queue.name, passive=True)
            except connection.channel_errors:
                return 0
            return int(found.consumer_count)

    def kill(self, host: str, kind: str = "protection") -> None:
        """SIGKILL, movers too. One that is dead already is no error."""
        process = self._processes.pop((host, kind))
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass  # it and what it started have ended by themselves
        process.wait()

    def wait_for_death(self, host: str, kind: str) -> None:
        """It was killed by its failpoint."""
        process = self._processes[host, kind]
        assert process.wait(PATIENCE_S) == -signal.SIGKILL
        self.kill(host, kind)

    def is_alive(self, host: str, kind: str = "protection") -> bool:
        return self._processes[host, kind].poll() is None

    # --- runs ------------------------------------------------------------------------------------

    def insert(self, count: int = 1, *, host: str | None = None, **definition: object) -> list[str]:
        """Runs that are queued now; the engine is woken by the commit."""
        content = {"diary": str(self.diary), **definition}

        def insert(tx: Any) -> list[str]:
            found = [
                run_rows.NewRun(
                    id=str(uuid.uuid4()), project_id=str(uuid.uuid4()), user_id="t", kind="manual",
                    subject_type="test", subject_id=str(uuid.uuid4()), occurrence="1", operation_type="work",
                    definition=content, expected_at=tx.now, host=host,
                )
                for _ in range(count)
            ]  # fmt: skip
            run_rows.insert_all(tx, found)
            tx.after_commit(lambda: None)
            return [str(one.id) for one in found]

        return self.database.write("test.runs", insert)

    def rows(self, ids: Sequence[str]) -> list[sa.Row[Any]]:
        query = sa.select(runs).where(runs.c.id.in_(ids)).order_by(runs.c.row)
        return list(self.database.read(lambda connection: connection.execute(query).all()))

    def until_ended(self, ids: Sequence[str], state: str = "success") -> list[sa.Row[Any]]:
        """Wait until all of them have ended so; their rows."""

        def ended() -> list[sa.Row[Any]] | None:
            found = self.rows(ids)
            return found if {one.state for one in found} == {state} else None

        try:
            return wait_until("the runs to end", ended, timeout_s=PATIENCE_S)
        except Exception as error:
            states = [(one.state, one.reason) for one in self.rows(ids)]
            logs = "".join(one.read_text()[-2000:] for one in self.folder.glob("*.log"))
            raise AssertionError(f"{states}\n{logs}") from error

    def until_begun(self, run_id: str) -> str:
        """The host where it has begun."""
        return wait_until("the run to begin", lambda: self.told(run_id, "begun") or None)[-1]

    def told(self, run_id: str, what: str) -> list[str]:
        """The hosts that say so of a run, once for each time."""
        if not self.diary.exists():
            return []
        lines = [line.split() for line in self.diary.read_text().splitlines()]
        return [host for one, host, said in lines if (one, said) == (run_id, what)]
