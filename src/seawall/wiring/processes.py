# SPDX-License-Identifier: Apache-2.0
"""Puts services together into one process, and runs it."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Sequence

from fastapi import FastAPI

from seawall import __version__
from seawall.api.app import build_app
from seawall.api.monitor import CONNECTED
from seawall.api.ports import Ports
from seawall.api.service import ApiService
from seawall.core.errors import ConfigurationError, SeawallError
from seawall.db import services
from seawall.db.idempotency import IdempotencyKeys
from seawall.db.notify import Listener
from seawall.db.tokens import Tokens
from seawall.operation_engine.dispatcher import Dispatcher
from seawall.operation_engine.events.publisher import Publisher
from seawall.operation_engine.ringer import Ringer
from seawall.operation_engine.service import OperationEngineService
from seawall.protection.service import ProtectionService
from seawall.runtime.config import Settings
from seawall.runtime.folder import write_private
from seawall.runtime.lifecycle import Service, ServiceHost, service_lock
from seawall.sdk.clock import Clock
from seawall.sdk.executor import DoorbellExecutor, Executor
from seawall.wiring import plugins
from seawall.wiring.broker import FiguresOf, switch_outbox
from seawall.wiring.install import Installation, open_installation
from seawall.wiring.parts import Parts
from seawall.wiring.service_table import ServiceTable

_SERVICES: dict[str, type[ApiService | OperationEngineService | ProtectionService]] = {
    "api": ApiService,
    "operationengine": OperationEngineService,
    "protection": ProtectionService,
}


def serve(settings: Settings, clock: Clock, kinds: Sequence[str], *, say: Callable[[str], None]) -> int:
    """Run these services until SIGTERM or SIGINT; the exit code. ``say`` gets what a person reads."""
    # Asked for before anything is opened, so that a second service of a kind leaves no trace.
    settings.folder.create()
    for kind in kinds:
        with service_lock(settings.folder, _SERVICES[kind].binary):
            pass
    parts = Parts(open_installation(settings, clock))
    listener = Listener(parts.database, parts.wakeup, clock)
    try:
        process = Process(parts)
        host = ServiceHost(
            [process.service(kind) for kind in kinds],
            ServiceTable(parts.database),
            folder=settings.folder,
            host=settings.host,
            version=__version__,
            clock=clock,
            heartbeat_s=settings.heartbeat_s,
            grace_s=settings.grace_s,
        )
        listener.start()
        return host.run(on_ready=lambda: process.ready(say))
    finally:
        listener.stop()
        parts.close()


class Process:
    """The services of one process."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._settings = parts.settings
        self._is_ready = threading.Event()
        self._api_url: str | None = None

    def service(self, kind: str) -> Service:
        """A service that is not started yet."""
        if kind == "api":
            return self._api()
        if kind == "operationengine":
            return self._engine()
        return self._protection()

    def ready(self, say: Callable[[str], None]) -> None:
        """All of them have started."""
        self._is_ready.set()
        for line in welcome(self._parts.installation, self._api_url):
            say(line)

    # --- api ----------------------------------------------------------------------------------

    def _api(self) -> ApiService:
        return ApiService(
            self._app,
            listen=self._settings.listen,
            port=self._settings.port,
            on_listening=self._note_address,
            monitor=self._parts.monitor,
        )

    def _app(self) -> FastAPI:
        parts = self._parts
        ports = Ports(
            schedules=parts.schedules,
            catalogue=parts.catalogue,
            downloads=parts.downloads,
            services=ServiceTable(parts.database),
            tokens=Tokens(parts.database),
            idempotency=IdempotencyKeys(parts.database),
            clock=parts.clock,
            webhooks=parts.webhooks,
            figures=FiguresOf(parts.database),
            monitor=parts.monitor,
        )
        return build_app(ports, ready=self._what_is_missing)

    def _note_address(self, url: str) -> None:
        self._api_url = url
        address = f"{url}/v1/{self._parts.installation.project_id}\n"
        write_private(self._settings.folder.api_url, address)

    def _what_is_missing(self) -> list[str]:
        """Why requests cannot be served now; nothing when they can."""
        missing = [] if self._is_ready.is_set() else ["not all services of this process have started"]
        try:
            self._parts.database.read(services.listed)
        except SeawallError as error:
            missing.append(str(error))
        broker = self._parts.monitor.status
        if self._settings.amqp_required and broker.state != CONNECTED:
            missing.append(f"the broker is {broker.state}: {broker.reason or 'no connection yet'}")
        return missing

    # --- operation engine ---------------------------------------------------------------------

    def _engine(self) -> OperationEngineService:
        settings = self._settings
        return OperationEngineService(
            self._parts.database,
            clock=self._parts.clock,
            wakeup=self._parts.wakeup,
            host=settings.host,
            poll_s=settings.poll_s,
            cleanup_interval_s=settings.cleanup_interval_s,
            keep_runs_days=settings.keep_runs_days,
            error_checkpoint_days=settings.error_checkpoint_days,
            publisher=self._publisher(),
            ringer=self._ringer(),
        )

    def _publisher(self) -> Publisher | None:
        """What tells the broker what happens; without one nothing is written down for it."""
        parts, broker = self._parts, self._parts.broker
        switch_outbox(parts.database, is_on=broker is not None)
        if broker is None:
            return None
        return Publisher(parts.database, broker, clock=parts.clock, poll_s=self._settings.poll_s)

    def _ringer(self) -> Ringer | None:
        """With several hosts: what tells them that there is something to claim."""
        executor = make_executor(self._settings)
        if not isinstance(executor, DoorbellExecutor):
            executor.shutdown(grace_s=0)
            return None
        parts = self._parts
        return Ringer(parts.database, executor, clock=parts.clock, poll_s=self._settings.poll_s)

    # --- protection ---------------------------------------------------------------------------

    def _protection(self) -> ProtectionService:
        parts, settings = self._parts, self._settings
        dispatcher = Dispatcher(
            parts.database,
            clock=parts.clock,
            wakeup=parts.wakeup,
            operations=parts.operations,
            executor=make_executor(settings),
            protection=parts.protection,
            host=settings.host,
            lease_s=settings.lease_s,
            heartbeat_s=settings.heartbeat_s,
            poll_s=settings.poll_s,
        )
        return ProtectionService(dispatcher, parts.movers, grace_s=settings.grace_s)


def make_executor(settings: Settings) -> Executor:
    """The executor that the settings name (M9); ``ConfigurationError`` names those that there are."""
    known = plugins.load_executors()
    if settings.executor not in known.names():
        rule = f"must be one of {', '.join(known.names())}"
        if known.faults:
            rule += f"; not usable: {'; '.join(str(fault) for fault in known.faults)}"
        raise ConfigurationError.of("executor", settings.executor, rule)
    found = known.get(settings.executor)
    amqp_url = settings.amqp_url
    options = {
        "workers": settings.workers,
        "coroutines": settings.coroutines,
        "host": settings.host,
        "amqp_url": None if amqp_url is None else amqp_url.get_secret_value(),
        "celery_queue_prefix": settings.celery_queue_prefix,
        "doorbell_expires_s": settings.doorbell_expires_s,
    }
    wanted = inspect.signature(found).parameters
    return found(**{name: value for name, value in options.items() if name in wanted})


def welcome(installation: Installation, api_url: str | None) -> list[str]:
    """What a person reads once all has started."""
    lines = []
    if api_url is not None:
        lines.append(f"Seawall {__version__} answers at {api_url}")
    folder = installation.settings.folder
    if installation.is_new:
        lines += [
            f"first start: everything of this installation lies in {folder.path}",
            f"copy the recovery kit to another place: {folder.recovery_kit}",
            "next: seawall protect PATH --every day --at 02:00 --keep 7",
        ]
    return lines
