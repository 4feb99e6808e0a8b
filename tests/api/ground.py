# SPDX-License-Identifier: Apache-2.0
"""The real application over the real services, in this process."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI

from seawall.api.app import build_app
from seawall.api.monitor import Monitor
from seawall.api.ports import Ports
from seawall.core.caller import Role
from seawall.core.records import Json
from seawall.db import plans, tokens
from seawall.db.idempotency import IdempotencyKeys
from seawall.operation_engine.events.webhooks import Webhooks
from seawall.operation_engine.schedules import Schedules
from seawall.protection.downloads import Downloads
from seawall.protection.flow_ground import Ground as ProtectionGround
from seawall.protection.movers.pool import MoverPool
from seawall.runtime.registry import PluginKind, load_plugins
from seawall.sdk.operation import Operation
from seawall.wiring.broker import FiguresOf
from seawall.wiring.service_table import ServiceTable
from tests.catalogue.ground import Ground as CatalogueGround


class InProcess(httpx.BaseTransport):
    """Reaches an application without a socket."""

    def __init__(self, app: FastAPI) -> None:
        self._transport = httpx.ASGITransport(app, raise_app_exceptions=False)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        async def ask() -> httpx.Response:
            answer = await self._transport.handle_async_request(request)
            content = await answer.aread()
            return httpx.Response(answer.status_code, headers=answer.headers, content=content)

        return asyncio.run(ask())


class Ground:
    """An installation with two projects, and a caller of each role."""

    def __init__(self, folder: Path) -> None:
        self.below = CatalogueGround(folder)
        self.database = self.below.database
        self.clock = self.below.clock
        self.project_id = self.below.project_id
        self.provider_id = self.below.provider.id
        self.reasons: list[str] = []
        self.services = ServiceTable(self.database)
        self.schedules = Schedules(
            self.database,
            operations=load_plugins(
                PluginKind(
                    "seawall.operations",
                    "operation_type",
                    Operation,  # type: ignore[type-abstract]  # a protocol stands for its kind
                    "seawall.operation_engine.operations",
                ),
                installed=lambda _: (),
            ),
            plan_lookup=lambda connection, plan_id: plans.get(connection, plan_id, project_id=None),
            wakeup=self.below.wakeup,
            min_interval_s=60,
            sealing=self.below.install_key,
        )
        self.ports = Ports(
            schedules=self.schedules,
            catalogue=self.below.catalogue,
            downloads=Downloads(self._below_downloads(folder)),
            services=self.services,
            tokens=tokens.Tokens(self.database),
            idempotency=IdempotencyKeys(self.database),
            clock=self.clock,
            webhooks=Webhooks(
                self.database, sealing=self.below.install_key, wakeup=self.below.wakeup, replay_s=300
            ),
            figures=FiguresOf(self.database),
            monitor=Monitor(None, clock=self.clock),
        )
        self.app = build_app(self.ports, ready=lambda: self.reasons)
        self.http = httpx.Client(transport=InProcess(self.app), base_url="http://seawall.test")
        self.token = {role: self._let_in(self.project_id, role) for role in Role}
        self.stranger = self._let_in(self.below.other_id, Role.OPERATOR)

    def close(self) -> None:
        self.http.close()
        self.movers.close()
        self.database.close()

    def _below_downloads(self, folder: Path) -> ProtectionGround:
        below = self.below
        self.movers = MoverPool(1, scratch=folder / "scratch")
        return ProtectionGround(
            below.database,
            below.clock,
            below.install_key,
            below.providers,
            below.allowlist,
            self.movers,
            "here",
            15.0,
        )

    def _let_in(self, project_id: str, role: Role) -> str:
        token = tokens.new_token()
        self.database.write(
            "test",
            lambda tx: tokens.create(
                tx, token=token, name=role, project_id=project_id, user_id=f"{role}-user", role=role
            ),
        )
        return token

    # --- asking ------------------------------------------------------------------------------

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        role: Role = Role.OPERATOR,
        headers: dict[str, str] | None = None,
        **query: Any,
    ) -> httpx.Response:
        """One request in the first project."""
        sent = {"X-Auth-Token": self.token[role], **(headers or {})}
        json = {} if body is None else {"json": body}
        return self.http.request(
            method, f"/v1/{self.project_id}{path}", headers=sent, params=query or None, **json
        )

    def call(self, method: str, path: str, body: Any = None, **more: Any) -> Json:
        """One that must be answered with 200."""
        answer = self.ask(method, path, body, **more)
        assert answer.status_code == 200, answer.text
        return dict(answer.json()) if answer.content else {}

    def refused(self, status: int, method: str, path: str, body: Any = None, **more: Any) -> Json:
        """The content of the fault of one that must be refused."""
        answer = self.ask(method, path, body, **more)
        assert answer.status_code == status, answer.text
        return content_of(answer)

    # --- making ------------------------------------------------------------------------------

    def plan(self, name: str = "p") -> Json:
        body = {"name": name, "provider_id": self.provider_id, "resources": [self.below.directory()]}
        plan: Json = self.call("POST", "/plans", {"plan": {**body, "parameters": {}}})["plan"]
        return plan

    def trigger(self, name: str = "t", **properties: Any) -> Json:
        given = {"format": "interval", "pattern": "3600", **properties}
        body = {"trigger_info": {"name": name, "type": "time", "properties": given}}
        trigger: Json = self.call("POST", "/triggers", body)["trigger_info"]
        return trigger

    def operation_body(self, name: str = "o", **more: Any) -> Json:
        plan = self.plan()
        definition = {"plan_id": plan["id"], "provider_id": self.provider_id}
        return {
            "scheduled_operation": {
                "name": name,
                "operation_type": "protect",
                "trigger_id": self.trigger()["id"],
                "operation_definition": definition,
                **more,
            }
        }

    def operation(self, name: str = "o", **more: Any) -> Json:
        made = self.call("POST", "/scheduled_operations", self.operation_body(name, **more))
        operation: Json = made["scheduled_operation"]
        return operation

    @property
    def checkpoints(self) -> str:
        return f"/providers/{self.provider_id}/checkpoints"

    def checkpoint(self, plan: Json | None = None) -> Json:
        body = {"checkpoint": {"plan_id": (plan or self.plan())["id"], "extra-info": None}}
        checkpoint: Json = self.call("POST", self.checkpoints, body)["checkpoint"]
        return checkpoint


def content_of(answer: httpx.Response) -> Json:
    """What stands under the one key of a fault; every fault has its code, words and request id."""
    fault = answer.json()
    assert len(fault) == 1, fault
    content: Json = next(iter(fault.values()))
    assert content["code"] == answer.status_code
    assert content["message"]
    assert content["request_id"] == answer.headers["x-openstack-request-id"]
    return content
