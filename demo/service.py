# SPDX-License-Identifier: Apache-2.0
"""The running Seawall of the demo: its process group, its command line and its API."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import httpx

T = TypeVar("T")
Json = dict[str, Any]
SEAWALL = Path(sys.executable).with_name("seawall")


class DemoError(Exception):
    """Something did not happen as it must; the demo ends non-zero with this text."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_until(what: str, find: Callable[[], T | None], *, timeout_s: float = 60) -> T:
    """Ask until ``find`` answers something; ``DemoError`` names what did not come."""
    end = time.monotonic() + timeout_s
    while (found := find()) is None:
        if time.monotonic() > end:
            raise DemoError(f"waited {timeout_s:.0f} s for {what}")
        time.sleep(0.1)
    return found


def run_seawall(arguments: Sequence[str], data: Path, *, timeout_s: float = 120) -> str:
    """Run one ``seawall`` command on a data folder; its output, or ``DemoError`` with its words."""
    done = subprocess.run(
        [str(SEAWALL), *arguments],
        env={**os.environ, "SEAWALL_DATA_DIR": str(data), "COLUMNS": "110"},
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    if done.returncode != 0:
        raise DemoError(f"seawall {' '.join(arguments)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


class Seawall:
    """``seawall serve`` on one data folder, in a process group of its own."""

    def __init__(self, data: Path, port: int = 0, environment: Mapping[str, str] | None = None) -> None:
        """On ``port``, or with 0 on one that is free now."""
        self.data = data
        self.environment = dict(environment or {})
        self._port = port or free_port()
        self._log = data.parent / f"{data.name}.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._http: httpx.Client | None = None

    def start(self) -> float:
        """Start it; seconds until it was ready."""
        begun = time.monotonic()
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [str(SEAWALL), "serve", "--data-dir", str(self.data), "--port", str(self._port)],
                stdout=log,
                stderr=log,
                env={**os.environ, **self.environment},
                start_new_session=True,
            )
        process = self._process

        def ready() -> bool | None:
            if process.poll() is not None:
                raise DemoError(
                    f"seawall serve ended with {process.returncode}:\n{self._log.read_text()[-2000:]}"
                )
            try:
                answer = httpx.get(f"http://127.0.0.1:{self._port}/health/ready", timeout=5)
            except httpx.TransportError:
                return None
            return True if answer.status_code == 200 else None

        try:
            wait_until("seawall serve to be ready", ready, timeout_s=60)
        except DemoError:
            self.kill()
            raise
        url = (self.data / "api-url").read_text().strip()
        token = (self.data / "admin-token").read_text().strip()
        self._http = httpx.Client(base_url=url, headers={"X-Auth-Token": token}, timeout=60)
        return time.monotonic() - begun

    def kill(self) -> None:
        """SIGKILL the service and every mover: the power cut."""
        if self._process is not None:
            try:
                os.killpg(self._process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass  # it and its movers have ended by themselves
            self._process.wait()
            self._close()

    def stop(self) -> float:
        """SIGTERM; seconds until it had ended, ``DemoError`` when that was not within 10."""
        if self._process is None:
            return 0.0
        begun = time.monotonic()
        self._process.terminate()
        try:
            code = self._process.wait(timeout=10)
        except subprocess.TimeoutExpired as error:
            self.kill()
            raise DemoError("seawall serve did not end within 10 s of SIGTERM") from error
        self._close()
        if code != 0:
            raise DemoError(f"seawall serve ended with {code}:\n{self._log.read_text()[-2000:]}")
        return time.monotonic() - begun

    def _close(self) -> None:
        self._process = None
        if self._http is not None:
            self._http.close()
            self._http = None

    def call(self, method: str, path: str, body: Json | None = None, **query: Any) -> Json:
        """One request below ``/v1/<project>``; ``DemoError`` carries the fault's words."""
        if self._http is None:
            raise DemoError("Seawall is not running")
        answer = self._http.request(method, path, json=body, params=query)
        if answer.status_code != 200:
            raise DemoError(f"{method} {path}: {answer.status_code} {answer.text}")
        return dict(json.loads(answer.text)) if answer.text else {}

    def cli(self, *arguments: str) -> str:
        """A ``seawall`` command against this service."""
        return run_seawall(arguments, self.data)
