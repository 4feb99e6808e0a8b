# SPDX-License-Identifier: Apache-2.0
"""Service ``api``: the REST API over HTTP (M1).

``init_host`` binds the port first, so that a taken one ends the start with a clear word, starts the broker
monitor (M2), then serves in one thread. ``cleanup_host`` stops accepting, lets open requests end and closes
the port.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import ClassVar

import uvicorn
from fastapi import FastAPI

from seawall.api.monitor import Monitor
from seawall.core.errors import AddressInUseError, ConfigurationError, UnavailableError

# How often the Date header is renewed; it has whole seconds.
_TICK_S = 1.0
# Open requests that outlast this are cut off at stop; long work never runs inside a request.
_DRAIN_S = 3


class ApiService:
    """Serves the application on one address."""

    binary: ClassVar[str] = "seawall-api"

    def __init__(
        self,
        app: Callable[[], FastAPI],
        *,
        listen: str,
        port: int,
        on_listening: Callable[[str], None],
        monitor: Monitor,
    ) -> None:
        """``app`` is made at start; ``on_listening`` gets ``http://host:port`` once it answers."""
        self._monitor = monitor
        self._app = app
        self._listen = listen
        self._port = port
        self._on_listening = on_listening
        self._socket: socket.socket | None = None
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    def init_host(self, *, service_id: int) -> None:
        """Bind, start the monitor (M2) and the server thread, return when it answers."""
        self._socket = _bind(self._listen, self._port)
        self._monitor.start()
        config = uvicorn.Config(
            self._app(),
            log_config=None,
            access_log=False,
            lifespan="off",
            server_header=False,
            timeout_graceful_shutdown=_DRAIN_S,
        )
        self._server = _Server(config)
        self._thread = threading.Thread(
            target=self._server.run, args=([self._socket],), name="api", daemon=True
        )
        self._thread.start()
        self._server.wait_started(self._thread)
        self._on_listening(self.url)

    def cleanup_host(self) -> None:
        """Let open requests end, then close the port. May be called when ``init_host`` failed half way."""
        if self._server is not None and self._thread is not None:
            self._server.stop()
            self._thread.join()
        self._monitor.stop()
        if self._socket is not None:
            self._socket.close()

    @property
    def url(self) -> str:
        """Where it answers; with port 0 the one that was free."""
        if self._socket is None:
            raise UnavailableError("the API is not listening")
        host, port = self._socket.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        return f"http://{shown}:{port}"


class _Server(uvicorn.Server):
    """uvicorn in a thread: signals are the process's own business, and idle it wakes up once a second."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._is_started = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = asyncio.Event()

    def install_signal_handlers(self) -> None:
        """The service host has installed its own."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)
        self._is_started.set()

    async def main_loop(self) -> None:
        while not await self.on_tick(0):
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), _TICK_S)

    def stop(self) -> None:
        """End it from another thread; returns before it has ended."""
        self.should_exit = True
        # A loop that is closed has ended by itself.
        if self._loop is not None:
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._stopping.set)

    def wait_started(self, thread: threading.Thread) -> None:
        """Return once it accepts; ``UnavailableError`` when its thread ended instead."""
        while not self._is_started.wait(0.05):
            if not thread.is_alive():
                raise UnavailableError("the API server ended while it started; the log says why")


def _bind(listen: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            listen, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except socket.gaierror as error:
        raise ConfigurationError.of(
            "listen", listen, f"must be an address of this host: {error.strerror}"
        ) from error
    found = socket.socket(family, kind, protocol)
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(address)
        found.listen(128)
    except OSError as error:
        found.close()
        if error.errno == errno.EADDRINUSE:
            raise AddressInUseError(f"port {port} on {listen} is taken by another program") from error
        field, value = ("port", port) if error.errno == errno.EACCES else ("listen", listen)
        raise ConfigurationError.of(field, value, f"cannot be used: {error.strerror}") from error
    return found
