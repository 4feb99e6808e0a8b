# SPDX-License-Identifier: Apache-2.0
"""The ``services`` table as the lifecycle and the API see it, answered by ``db`` functions."""

from __future__ import annotations

import builtins
from collections.abc import Sequence

from seawall.core.caller import Caller
from seawall.core.errors import ForbiddenError
from seawall.core.records import Service
from seawall.db import audit, services
from seawall.db.session import Database, Tx


class ServiceTable:
    """The ``services`` table, for the lifecycle (``ServiceRows``) and for the API (``ServicesPort``)."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def find_or_create(self, host: str, binary: str, version: str, pid: int) -> int:
        return self._database.write(
            "services.start",
            lambda tx: services.find_or_create(tx, host=host, binary=binary, version=version, pid=pid),
        )

    def beat(self, service_ids: Sequence[int]) -> None:
        def beat(tx: Tx) -> None:
            for service_id in service_ids:
                services.beat(tx, service_id)

        self._database.write("services.beat", beat)

    def stopped(self, service_id: int) -> None:
        self._database.write("services.stop", lambda tx: services.stopped(tx, service_id))

    def list(self) -> builtins.list[Service]:
        return self._database.read(services.listed)

    def enable(self, caller: Caller, service_id: int) -> Service:
        return self._switch(caller, service_id, reason=None)

    def disable(self, caller: Caller, service_id: int, *, reason: str | None) -> Service:
        return self._switch(caller, service_id, reason=reason or "no reason given")

    def _switch(self, caller: Caller, service_id: int, *, reason: str | None) -> Service:
        if not caller.is_admin:
            raise ForbiddenError("only an administrator switches services on and off")

        def change(tx: Tx) -> Service:
            if reason is None:
                services.enable(tx, service_id)
            else:
                services.disable(tx, service_id, reason)
            action = "enable" if reason is None else "disable"
            audit.record(tx, caller, action, "service", str(service_id), {"reason": reason})
            return services.get(tx.connection, service_id)

        return self._database.write("services.switch", change)
