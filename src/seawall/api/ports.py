# SPDX-License-Identifier: Apache-2.0
"""What the API asks of the services; bound in wiring.

Every method raises the errors of ``core.errors``; the first argument is who asks (I11).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from seawall.api.metrics import FiguresView
from seawall.api.monitor import BrokerStatus
from seawall.core.caller import Caller
from seawall.core.listing import ListQuery
from seawall.core.records import (
    Backfill,
    Checkpoint,
    Json,
    LogLine,
    Page,
    Plan,
    Provider,
    Restore,
    Run,
    ScheduledOperation,
    Service,
    Trigger,
)
from seawall.core.schedule import PreviewedTime
from seawall.operation_engine.events.webhooks import SignedRequest
from seawall.protection.downloads import ArchiveFormat, Download, StoredFile
from seawall.sdk.clock import Clock
from seawall.sdk.protection import Instance


class Fired(Protocol):
    """What became of an event."""

    @property
    def fresh(self) -> int: ...
    @property
    def runs(self) -> int: ...


class TokensPort(Protocol):
    def authenticate(self, token: str) -> Caller | None:
        """Whom a token stands for; None when it is unknown or expired."""
        ...


class IdempotencyPort(Protocol):
    """See ``db.idempotency``: each call is durable on return."""

    def reserve(
        self, *, project_id: str, key: str, fingerprint: str, request_id: str
    ) -> tuple[int, Mapping[str, Any]] | None: ...
    def answer(self, *, project_id: str, key: str, status: int, body: Mapping[str, Any]) -> None: ...
    def release(self, *, project_id: str, key: str) -> None: ...


class ServicesPort(Protocol):
    def list(self) -> Sequence[Service]: ...
    def enable(self, caller: Caller, service_id: int) -> Service: ...
    def disable(self, caller: Caller, service_id: int, *, reason: str | None) -> Service: ...


class SchedulesPort(Protocol):
    def create_trigger(
        self, caller: Caller, *, name: str, type: str, properties: Mapping[str, Any]
    ) -> Trigger: ...
    def update_trigger(
        self,
        caller: Caller,
        trigger_id: str,
        *,
        name: str | None = None,
        properties: Mapping[str, Any] | None = None,
    ) -> Trigger: ...
    def get_trigger(self, caller: Caller, trigger_id: str) -> Trigger: ...
    def list_triggers(self, caller: Caller, query: ListQuery) -> Page[Trigger]: ...
    def delete_trigger(self, caller: Caller, trigger_id: str) -> None: ...
    def pause_trigger(
        self, caller: Caller, trigger_id: str, *, reason: str, until_at: datetime | None
    ) -> Trigger: ...
    def resume_trigger(self, caller: Caller, trigger_id: str) -> Trigger: ...
    def rotate_secret(self, caller: Caller, trigger_id: str) -> Trigger: ...
    def preview(
        self, caller: Caller, properties: Mapping[str, Any], *, count: int, trigger_id: str | None = None
    ) -> Sequence[PreviewedTime]: ...

    def create_operation(
        self,
        caller: Caller,
        *,
        name: str,
        description: str = "",
        operation_type: str,
        trigger_id: str,
        operation_definition: Mapping[str, Any],
        enabled: bool = True,
        overlap: str = "skip",
        timeout_s: int | None = None,
        priority: int = 0,
        retry: Mapping[str, int] | None = None,
    ) -> ScheduledOperation: ...
    def update_operation(
        self, caller: Caller, operation_id: str, changes: Mapping[str, object]
    ) -> ScheduledOperation: ...
    def get_operation(self, caller: Caller, operation_id: str) -> ScheduledOperation: ...
    def list_operations(self, caller: Caller, query: ListQuery) -> Page[ScheduledOperation]: ...
    def delete_operation(self, caller: Caller, operation_id: str) -> None: ...
    def run_operation(self, caller: Caller, operation_id: str, *, key: str | None = None) -> Run: ...
    def backfill_operation(
        self,
        caller: Caller,
        operation_id: str,
        *,
        start: datetime,
        end: datetime,
        is_dry: bool,
        key: str | None = None,
    ) -> Backfill: ...
    def operation_types(self) -> Sequence[Mapping[str, Any]]: ...

    def list_runs(
        self,
        caller: Caller,
        query: ListQuery,
        *,
        operation_id: str | None = None,
        plan_id: str | None = None,
        state: str | None = None,
    ) -> Page[Run]: ...
    def get_run(self, caller: Caller, run_id: str) -> Run: ...
    def run_log(self, caller: Caller, run_id: str, *, after: int = 0) -> Sequence[LogLine]: ...
    def cancel_run(self, caller: Caller, run_id: str) -> Run: ...


class WebhooksPort(Protocol):
    def fire(self, request: SignedRequest) -> Fired:
        """Fire once for each event; ``UnauthenticatedError``, without a reason, for what is not signed."""
        ...


class FiguresPort(Protocol):
    def figures(self) -> FiguresView:
        """How the installation stands now."""
        ...


class MonitorPort(Protocol):
    @property
    def status(self) -> BrokerStatus:
        """What is known of the broker now; never waits for it."""
        ...


class ProtectableType(Protocol):
    """A resource type, and what plans and restores may say about it."""

    @property
    def name(self) -> str: ...
    @property
    def dependent_types(self) -> Sequence[str]: ...
    @property
    def on_host(self) -> bool: ...
    @property
    def parameters_schema(self) -> Mapping[str, Any]: ...
    @property
    def restore_schema(self) -> Mapping[str, Any]: ...


class CataloguePort(Protocol):
    def list_providers(self, caller: Caller, query: ListQuery) -> Page[Provider]: ...
    def get_provider(self, caller: Caller, provider_id: str) -> Provider: ...

    def protectable_types(self) -> Sequence[str]: ...
    def protectable(self, type: str) -> ProtectableType: ...
    def list_instances(
        self, caller: Caller, type: str, parameters: Mapping[str, Any], query: ListQuery
    ) -> Page[Instance]: ...
    def get_instance(self, caller: Caller, type: str, instance_id: str) -> Instance: ...

    def create_plan(
        self,
        caller: Caller,
        *,
        name: str,
        provider_id: str,
        resources: Sequence[Json],
        parameters: Json | None = None,
        description: str = "",
    ) -> Plan: ...
    def update_plan(self, caller: Caller, plan_id: str, changes: Mapping[str, object]) -> Plan: ...
    def get_plan(self, caller: Caller, plan_id: str) -> Plan: ...
    def list_plans(self, caller: Caller, query: ListQuery) -> Page[Plan]: ...
    def delete_plan(self, caller: Caller, plan_id: str) -> None: ...

    def create_checkpoint(
        self,
        caller: Caller,
        *,
        provider_id: str,
        plan_id: str,
        extra_info: Json | None = None,
        idempotency_key: str | None = None,
    ) -> Checkpoint: ...
    def list_checkpoints(self, caller: Caller, provider_id: str, query: ListQuery) -> Page[Checkpoint]: ...
    def get_checkpoint(self, caller: Caller, provider_id: str, checkpoint_id: str) -> Checkpoint: ...
    def delete_checkpoint(self, caller: Caller, provider_id: str, checkpoint_id: str) -> Any: ...
    def reset_checkpoint(
        self, caller: Caller, provider_id: str, checkpoint_id: str, status: str
    ) -> Checkpoint: ...
    def pin_checkpoint(self, caller: Caller, provider_id: str, checkpoint_id: str) -> Checkpoint: ...
    def unpin_checkpoint(self, caller: Caller, provider_id: str, checkpoint_id: str) -> Checkpoint: ...

    def create_restore(
        self,
        caller: Caller,
        *,
        provider_id: str,
        checkpoint_id: str,
        restore_target: str | None = None,
        parameters: Json | None = None,
    ) -> Restore: ...
    def get_restore(self, caller: Caller, restore_id: str) -> Restore: ...
    def list_restores(self, caller: Caller, query: ListQuery) -> Page[Restore]: ...


class DownloadsPort(Protocol):
    """See ``protection.downloads``."""

    def files(
        self,
        caller: Caller,
        provider_id: str,
        checkpoint_id: str,
        *,
        path: bytes,
        limit: int,
        marker: bytes = b"",
    ) -> tuple[Sequence[StoredFile], bool]: ...
    def download(
        self, caller: Caller, provider_id: str, checkpoint_id: str, *, path: bytes, format: ArchiveFormat
    ) -> Download: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """Everything that the API needs."""

    schedules: SchedulesPort
    catalogue: CataloguePort
    downloads: DownloadsPort
    services: ServicesPort
    tokens: TokensPort
    idempotency: IdempotencyPort
    clock: Clock
    webhooks: WebhooksPort
    figures: FiguresPort
    monitor: MonitorPort
