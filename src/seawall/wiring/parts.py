# SPDX-License-Identifier: Apache-2.0
"""``Parts``: everything that one process may need of an installation, each made when it is first asked for.

A process that runs one service makes only what that service stands on.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import cached_property
from pathlib import Path

from seawall.api.monitor import Monitor
from seawall.core.errors import NotFoundError
from seawall.core.states import SERVICE_DOWN_AFTER
from seawall.db import plans, projects, services
from seawall.operation_engine.events.webhooks import Webhooks
from seawall.operation_engine.schedules import Schedules
from seawall.protection.allowlist import AllowList
from seawall.protection.catalogue import Catalogue
from seawall.protection.catalogue_plans import PlanSources
from seawall.protection.downloads import AT_ONCE, Downloads
from seawall.protection.engine import ProtectionEngine
from seawall.protection.movers.pool import MoverPool
from seawall.protection.providers import Providers
from seawall.protection.service import ProtectionService
from seawall.runtime.broker import Broker
from seawall.runtime.registry import Plugins
from seawall.runtime.wakeup import Wakeup
from seawall.sdk.operation import Operation
from seawall.wiring import plugins
from seawall.wiring.broker import EventBroker, broker_of, management_of
from seawall.wiring.install import Installation


class Parts:
    """The parts of one process; ``close`` releases what was made."""

    def __init__(self, installation: Installation) -> None:
        self.installation = installation
        self.settings = installation.settings
        self.database = installation.database
        self.clock = installation.clock
        self.wakeup = Wakeup()

    def close(self) -> None:
        """End the movers that nobody has ended, and the database."""
        for name in ("movers", "download_movers"):
            if name in self.__dict__:
                getattr(self, name).close()
        self.database.close()

    # --- plugins and operator files -----------------------------------------------------------

    @cached_property
    def operations(self) -> Plugins[Operation]:
        return plugins.load_operations(self.settings)

    @cached_property
    def providers(self) -> Providers:
        return Providers(self.settings.folder.providers, plugins.load_banks())

    @cached_property
    def allowlist(self) -> AllowList:
        return AllowList(
            self.settings.folder.projects, name_of=self._project_name, own_places=self._own_places
        )

    def _project_name(self, project_id: str) -> str:
        try:
            return self.database.read(lambda connection: projects.name_of(connection, project_id))
        except NotFoundError:
            return project_id

    def _own_places(self) -> Mapping[Path, str]:
        return {self.settings.data_dir: "the data folder", **self.providers.local_banks()}

    # --- protection ---------------------------------------------------------------------------

    @cached_property
    def movers(self) -> MoverPool:
        return MoverPool(self.settings.movers, scratch=self.settings.folder.scratch)

    @cached_property
    def download_movers(self) -> MoverPool:
        return MoverPool(AT_ONCE, scratch=self.settings.folder.scratch)

    @cached_property
    def downloads(self) -> Downloads:
        return self.protection.downloads(self.download_movers)

    @cached_property
    def protection(self) -> ProtectionEngine:
        return ProtectionEngine(
            self.database,
            clock=self.clock,
            install_key=self.installation.install_key,
            providers=self.providers,
            allowlist=self.allowlist,
            movers=self.movers,
            host=self.settings.host,
            lease_s=self.settings.lease_s,
        )

    @cached_property
    def catalogue(self) -> Catalogue:
        sources = PlanSources(
            protectables=plugins.load_protectables(),
            protections=plugins.load_protections(),
            allowlist=self.allowlist,
            host=self.settings.host,
            hosts=self._protection_hosts,
        )
        return Catalogue(
            self.database,
            install_key=self.installation.install_key,
            providers=self.providers,
            sources=sources,
            wakeup=self.wakeup,
            check=self.protection.structure_faults,
        )

    def _protection_hosts(self) -> Collection[str]:
        """The hosts that have a protection service now."""
        now = self.clock.now()
        return {
            one.host
            for one in self.database.read(services.listed)
            if one.binary == ProtectionService.binary
            and one.stopped_at is None
            and now - one.heartbeat_at < SERVICE_DOWN_AFTER
        }

    # --- the broker ---------------------------------------------------------------------------

    @cached_property
    def broker(self) -> Broker | None:
        return broker_of(self.settings)

    @cached_property
    def monitor(self) -> Monitor:
        if self.broker is None:
            return Monitor(None, clock=self.clock)
        management = management_of(self.settings)
        events = EventBroker(self.broker, management, database=self.database, wakeup=self.wakeup)
        return Monitor(events, clock=self.clock)

    # --- schedules ----------------------------------------------------------------------------

    @cached_property
    def schedules(self) -> Schedules:
        return Schedules(
            self.database,
            operations=self.operations,
            plan_lookup=lambda connection, plan_id: plans.get(connection, plan_id, project_id=None),
            wakeup=self.wakeup,
            min_interval_s=self.settings.min_interval_s,
            sealing=self.installation.install_key,
        )

    @cached_property
    def webhooks(self) -> Webhooks:
        return Webhooks(
            self.database,
            sealing=self.installation.install_key,
            wakeup=self.wakeup,
            replay_s=self.settings.webhook_replay_s,
        )
