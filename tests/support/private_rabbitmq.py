# SPDX-License-Identifier: Apache-2.0
"""A RabbitMQ of one's own, with a consumer timeout of one's own, that may be killed and started again.

With ``rabbitmq`` among TEST_SERVERS a program that is missing fails; without it the tests that need it are
skipped, with the reason.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from kombu.connection import Connection

from demo.service import free_port, wait_until

_PROGRAMS = ("/usr/lib/rabbitmq/bin/rabbitmq-server", "rabbitmq-server")


def require_rabbitmq() -> str:
    """The program; skip loudly when there is none, or fail when there must be one."""
    for name in _PROGRAMS:
        if (found := shutil.which(name)) is not None:
            return found
    reason = "no RabbitMQ for tests: there is no program rabbitmq-server"
    if "rabbitmq" in os.environ.get("TEST_SERVERS", "").split(","):
        pytest.fail(reason)
    pytest.skip(reason)


class PrivateRabbitmq:
    """One node. ``start`` and ``kill`` may be repeated; what is durable stays."""

    def __init__(
        self, folder: Path, *, consumer_timeout_s: float = 1800, has_management: bool = False
    ) -> None:
        self._program = require_rabbitmq()
        self._folder = folder
        self._port = free_port()
        self._management_port = free_port() if has_management else None
        self._node = f"seawall-test-{self._port}@localhost"
        self._distribution_port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir()
        (folder / "rabbitmq.conf").write_text(
            f"listeners.tcp.1 = 127.0.0.1:{self._port}\n"
            f"consumer_timeout = {int(consumer_timeout_s * 1000)}\n"
            "log.console = false\n"
            + (
                f"management.tcp.ip = 127.0.0.1\nmanagement.tcp.port = {self._management_port}\n"
                * has_management
            )
        )
        plugins = "rabbitmq_management" if has_management else ""
        (folder / "enabled_plugins").write_text(f"[{plugins}].\n")
        # How often it looks for consumers that are over their time.
        (folder / "advanced.config").write_text("[{rabbit, [{channel_tick_interval, 2000}]}].\n")

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self._port}"

    @property
    def management_port(self) -> int:
        """Where its management plugin listens, on 127.0.0.1."""
        assert self._management_port is not None
        return self._management_port

    def control(self, *arguments: str) -> str:
        """``rabbitmqctl`` with this node; what it says."""
        program = Path(self._program).with_name("rabbitmqctl")
        done = subprocess.run(
            [program, "--node", self._node, *arguments],
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    @property
    def _environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "HOME": str(self._folder),
            "RABBITMQ_NODENAME": self._node,
            "RABBITMQ_DIST_PORT": str(self._distribution_port),
            "RABBITMQ_CONFIG_FILE": str(self._folder / "rabbitmq"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(self._folder / "advanced.config"),
            "RABBITMQ_CONF_ENV_FILE": str(self._folder / "none.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self._folder / "enabled_plugins"),
            "RABBITMQ_MNESIA_BASE": str(self._folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(self._folder / "log"),
        }

    def start(self) -> None:
        """Return when it takes connections."""
        with (self._folder / "console.log").open("ab") as console:
            self._process = subprocess.Popen(
                [self._program], env=self._environment, stdout=console, stderr=console, start_new_session=True
            )
        try:
            if not wait_until("a private RabbitMQ", self._answers, timeout_s=120):
                pytest.fail(f"RabbitMQ did not start: {(self._folder / 'console.log').read_text()}")
        except BaseException:
            self.kill()
            raise

    def _answers(self) -> bool | None:
        assert self._process is not None
        if self._process.poll() is not None:
            return False
        connection = connection_to(self.url)
        try:
            connection.connect()  # type: ignore[no-untyped-call]  # kombu's has no types
        except (OSError, *connection.connection_errors):
            return None
        finally:
            connection.close()  # type: ignore[no-untyped-call]  # kombu's has no types
        return True

    def kill(self) -> None:
        """SIGKILL, with all that belongs to it. May be called twice."""
        process, self._process = self._process, None
        if process is not None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def connection_to(url: str) -> Connection:
    """Not connected yet."""
    return Connection(url, connect_timeout=5, heartbeat=0)  # type: ignore[no-untyped-call]  # nor this
