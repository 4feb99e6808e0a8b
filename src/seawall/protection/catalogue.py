# SPDX-License-Identifier: Apache-2.0
"""``Catalogue``: providers, what can be protected, plans, checkpoints and restores, as users see them.

Each change is one transaction with its audit row. If the process dies before the commit nothing has happened;
after it, all of it has. A caller sees and touches only the things of its own project; a foreign id is a
``NotFoundError`` (I11). What needs the file system or a bank is looked at before the transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import uuid4

from seawall.core.caller import Caller
from seawall.core.errors import (
    ConflictError,
    FieldFault,
    InUseError,
    InvalidInputError,
    NotFoundError,
    PluginError,
    StateError,
)
from seawall.core.ids import stored_id
from seawall.core.listing import ListQuery
from seawall.core.records import Checkpoint, Json, Page, Plan, Provider, Restore, Run
from seawall.core.states import CheckpointStatus
from seawall.db import audit, checkpoints, plans, restores
from seawall.db.session import waking
from seawall.protection import catalogue_checkpoints, catalogue_plans, catalogue_restores
from seawall.protection.catalogue_plans import PlanSources
from seawall.protection.pages import page_of
from seawall.runtime import json_schema
from seawall.runtime.wakeup import Wakeup

if TYPE_CHECKING:
    from seawall.db.session import Database, Tx
    from seawall.protection.providers import Providers
    from seawall.runtime.secrets import InstallKey
    from seawall.sdk.protection import Instance, Protectable

T = TypeVar("T")

StructureCheck = Callable[[Checkpoint], Sequence[str]]
"""What is wrong, on the bank, with what a checkpoint needs; nothing when it can be restored."""


@dataclass(frozen=True, slots=True)
class ProtectableType:
    """A resource type, and what plans and restores may say about it."""

    name: str
    dependent_types: tuple[str, ...]
    on_host: bool
    parameters_schema: Mapping[str, Any]
    restore_schema: Mapping[str, Any]


class Catalogue:
    """The catalogue of one installation; thread-safe, keeps nothing in memory."""

    def __init__(
        self,
        database: Database,
        *,
        install_key: InstallKey,
        providers: Providers,
        sources: PlanSources,
        wakeup: Wakeup,
        check: StructureCheck,
    ) -> None:
        """``wakeup`` is notified after each new run, for the loops of this process. ``check`` is asked before
        a checkpoint in ``error`` is called available again."""
        self._database = database
        self._install_key = install_key
        self._providers = providers
        self._sources = sources
        self._wakeup = wakeup
        self._check = check

    # --- providers -------------------------------------------------------------------------------

    def list_providers(self, caller: Caller, query: ListQuery) -> Page[Provider]:
        return page_of(
            [self._shown(one) for one in self._providers.list()],
            query,
            id_of=lambda one: one.id,
            keys={
                "id": lambda one: one.id,
                "name": lambda one: one.name,
                "description": lambda one: one.description,
            },
            fields=("id", "name", "description"),
        )

    def get_provider(self, caller: Caller, provider_id: str) -> Provider:
        return self._shown(self._providers.get(provider_id))

    def _shown(self, provider: Provider) -> Provider:
        """With the types that it takes now, and without its bank's options, which may hold secrets (I10)."""
        return replace(provider, resource_types=self._sources.types(provider), bank_options={})

    # --- what can be protected -------------------------------------------------------------------

    def protectable_types(self) -> Sequence[str]:
        """Those that can be found and stored, by name."""
        known = self._sources.protections.names()
        return tuple(name for name in self._sources.protectables.names() if name in known)

    def protectable(self, type: str) -> ProtectableType:
        """One type; ``InvalidInputError`` names those that there are."""
        plugin = self._plugin(type)
        return ProtectableType(
            name=type,
            dependent_types=tuple(plugin.dependent_types),
            on_host=plugin.on_host,
            parameters_schema=catalogue_plans.parameters_schema(self._sources)(type),
            restore_schema=catalogue_plans.restore_schema(self._sources)(type),
        )

    def list_instances(
        self, caller: Caller, type: str, parameters: Mapping[str, Any], query: ListQuery
    ) -> Page[Instance]:
        """What this host has beneath what the project may touch; read no further than the page."""
        plugin = self._plugin(type)
        schema: Mapping[str, Any] = getattr(
            plugin, "instances_schema", {"type": "object", "additionalProperties": False}
        )
        if faults := json_schema.faults(schema, dict(parameters), "parameters"):
            raise InvalidInputError(faults)
        roots = self._sources.allowlist.roots(caller.project_id)
        return page_of(
            plugin().instances(roots, parameters),
            query,
            id_of=lambda one: one.id,
            keys={"id": lambda one: one.id, "name": lambda one: one.name},
            fields=("id", "name"),
        )

    def get_instance(self, caller: Caller, type: str, instance_id: str) -> Instance:
        return self._plugin(type)().instance(instance_id, self._sources.allowlist.roots(caller.project_id))

    def _plugin(self, type: str) -> type[Protectable]:
        if type not in self.protectable_types():
            known = ", ".join(self.protectable_types()) or "none"
            raise InvalidInputError.of("type", type, f"is no resource type; there are {known}")
        try:
            return self._sources.protectables.get(type)
        except PluginError as error:
            raise InvalidInputError.of("type", type, f"cannot be used: {error}") from error

    # --- plans -----------------------------------------------------------------------------------

    def create_plan(
        self,
        caller: Caller,
        *,
        name: str,
        provider_id: str,
        resources: Sequence[Json],
        parameters: Json | None = None,
        description: str = "",
    ) -> Plan:
        provider = self._provider_of(provider_id)
        checked = catalogue_plans.check_resources(self._sources, caller.project_id, provider, resources)
        wanted: dict[str, Any] = {
            "name": catalogue_plans.checked_name(name),
            "description": catalogue_plans.checked_description(description),
            "parameters": catalogue_plans.check_parameters(
                parameters or {}, checked.resources, catalogue_plans.parameters_schema(self._sources)
            ),
        }

        def create(tx: Tx) -> Plan:
            plan = Plan(
                id=str(uuid4()),
                project_id=caller.project_id,
                provider_id=provider.id,
                status=catalogue_plans.STATUSES[0],
                resources=checked.resources,
                host=checked.host,
                created_at=tx.now,
                updated_at=tx.now,
                **wanted,
            )
            plans.insert(tx, plan)
            audit.record(tx, caller, "create", "plan", plan.id, {"name": plan.name})
            return plan

        return self._database.write("catalogue.create_plan", create)

    def update_plan(self, caller: Caller, plan_id: str, changes: Mapping[str, object]) -> Plan:
        """Change what is given. A run that has begun goes on with what its checkpoint says.

        ``ConflictError`` when somebody else has changed it meanwhile: what was checked is not what is there.
        """
        before = self.get_plan(caller, plan_id)
        values = self._changes(caller, before, changes)

        def update(tx: Tx) -> Plan:
            now = plans.get(tx.connection, before.id, project_id=caller.project_id)
            if now != before:
                raise ConflictError(f"plan {before.id} was changed by somebody else meanwhile; look again")
            plans.update(tx, before.id, **values)
            audit.record(tx, caller, "update", "plan", before.id, {"changed": sorted(changes)})
            return plans.get(tx.connection, before.id, project_id=caller.project_id)

        return self._database.write("catalogue.update_plan", update)

    def get_plan(self, caller: Caller, plan_id: str) -> Plan:
        known = stored_id("plan", plan_id)
        return self._database.read(
            lambda connection: plans.get(connection, known, project_id=caller.project_id)
        )

    def list_plans(self, caller: Caller, query: ListQuery) -> Page[Plan]:
        return self._database.read(
            lambda connection: plans.page(connection, query, project_id=query.project_of(caller))
        )

    def delete_plan(self, caller: Caller, plan_id: str) -> None:
        """Its checkpoints stay. ``InUseError`` while operations are scheduled for it, or runs work on it."""
        known = stored_id("plan", plan_id)

        def delete(tx: Tx) -> None:
            plan = plans.get(tx.connection, known, project_id=caller.project_id)
            if operations := plans.operations_of(tx.connection, known):
                raise InUseError(f"plan {known} is used by the scheduled operations {', '.join(operations)}")
            if live := plans.live_runs_of(tx.connection, known):
                raise InUseError(f"plan {known} is used by the runs {', '.join(live)}; wait or cancel them")
            plans.delete(tx, known)
            audit.record(tx, caller, "delete", "plan", known, {"name": plan.name})

        self._database.write("catalogue.delete_plan", delete)

    def _changes(self, caller: Caller, before: Plan, changes: Mapping[str, object]) -> dict[str, Any]:
        """The columns of a change, checked against what stays as it is."""
        checks: dict[str, Callable[[object], str]] = {
            "name": catalogue_plans.checked_name,
            "description": catalogue_plans.checked_description,
            "status": catalogue_plans.checked_status,
        }
        known = (*checks, "resources", "parameters")
        unknown = [
            FieldFault(name, value, f"cannot be changed; what can is {', '.join(known)}")
            for name, value in changes.items()
            if name not in known
        ]
        if unknown or not changes:
            raise InvalidInputError(unknown or [FieldFault("plan", {}, "must change at least one field")])
        values: dict[str, Any] = {
            name: check(changes[name]) for name, check in checks.items() if name in changes
        }
        resources: Sequence[Json] = before.resources
        if "resources" in changes:
            provider = self._provider_of(before.provider_id)
            checked = catalogue_plans.check_resources(
                self._sources, caller.project_id, provider, changes["resources"]
            )
            resources = checked.resources
            values |= {"resources": list(resources), "host": checked.host}
        if "parameters" in changes or "resources" in changes:
            values["parameters"] = catalogue_plans.check_parameters(
                changes.get("parameters", before.parameters),
                resources,
                catalogue_plans.parameters_schema(self._sources),
            )
        return values

    def _provider_of(self, provider_id: str) -> Provider:
        """A provider that something new is to use; ``InvalidInputError`` when there is none."""
        try:
            return self._providers.get(provider_id)
        except NotFoundError as error:
            raise InvalidInputError.of("provider_id", provider_id, f"cannot be used: {error}") from error

    # --- checkpoints -----------------------------------------------------------------------------

    def create_checkpoint(
        self,
        caller: Caller,
        *,
        provider_id: str,
        plan_id: str,
        extra_info: Json | None = None,
        idempotency_key: str | None = None,
    ) -> Checkpoint:
        provider = self._providers.get(provider_id)
        plan = self.get_plan(caller, plan_id)
        if plan.provider_id != provider.id:
            rule = f"must be the plan's provider, {plan.provider_id}"
            raise InvalidInputError.of("provider_id", provider_id, rule)
        return self._database.write(
            "catalogue.create_checkpoint",
            waking(
                self._wakeup.notify,
                lambda tx: catalogue_checkpoints.create(
                    tx,
                    caller,
                    self._install_key,
                    plan,
                    extra_info=extra_info or {},
                    idempotency_key=idempotency_key,
                ),
            ),
        )

    def list_checkpoints(self, caller: Caller, provider_id: str, query: ListQuery) -> Page[Checkpoint]:
        """Also of a provider whose file cannot be used now, when there are any."""
        known = stored_id("provider", provider_id)
        page = self._database.read(
            lambda connection: checkpoints.page(
                connection, query, project_id=query.project_of(caller), provider_id=known
            )
        )
        if not page.items:
            self._providers.get(known)
        return page

    def get_checkpoint(self, caller: Caller, provider_id: str, checkpoint_id: str) -> Checkpoint:
        known = stored_id("checkpoint", checkpoint_id)
        of = stored_id("provider", provider_id)
        return self._database.read(
            lambda connection: checkpoints.get(
                connection, known, project_id=caller.project_id, provider_id=of
            )
        )

    def delete_checkpoint(self, caller: Caller, provider_id: str, checkpoint_id: str) -> Run:
        found = self.get_checkpoint(caller, provider_id, checkpoint_id)
        host = self._host_of(found)
        return self._database.write(
            "catalogue.delete_checkpoint",
            waking(
                self._wakeup.notify, lambda tx: catalogue_checkpoints.delete(tx, caller, found, host=host)
            ),
        )

    def reset_checkpoint(
        self, caller: Caller, provider_id: str, checkpoint_id: str, status: str
    ) -> Checkpoint:
        """To ``available`` only when its structure, on the bank, is found whole."""
        allowed = (CheckpointStatus.AVAILABLE, CheckpointStatus.ERROR)
        if status not in allowed:
            raise InvalidInputError.of("state", status, f"must be one of {', '.join(allowed)}")
        found = self.get_checkpoint(caller, provider_id, checkpoint_id)
        if status == CheckpointStatus.AVAILABLE and found.status == CheckpointStatus.ERROR:
            if found.snapshot_id is None:
                raise StateError(f"checkpoint {found.id} has no snapshot: nothing of it is on the bank")
            if faults := list(self._check(found)):
                shown = "; ".join(faults[:5]) + (f"; and {len(faults) - 5} more" if len(faults) > 5 else "")
                raise StateError(f"checkpoint {found.id} stays in error, for its check failed: {shown}")
        return self._database.write(
            "catalogue.reset_checkpoint",
            lambda tx: catalogue_checkpoints.reset(tx, caller, found, status),
        )

    def pin_checkpoint(self, caller: Caller, provider_id: str, checkpoint_id: str) -> Checkpoint:
        return self._pin(caller, provider_id, checkpoint_id, is_pinned=True)

    def unpin_checkpoint(self, caller: Caller, provider_id: str, checkpoint_id: str) -> Checkpoint:
        return self._pin(caller, provider_id, checkpoint_id, is_pinned=False)

    def _pin(self, caller: Caller, provider_id: str, checkpoint_id: str, *, is_pinned: bool) -> Checkpoint:
        found = self.get_checkpoint(caller, provider_id, checkpoint_id)
        return self._database.write(
            "catalogue.pin_checkpoint",
            lambda tx: catalogue_checkpoints.pin(tx, caller, found, is_pinned=is_pinned),
        )

    # --- restores --------------------------------------------------------------------------------

    def create_restore(
        self,
        caller: Caller,
        *,
        provider_id: str,
        checkpoint_id: str,
        restore_target: str | None = None,
        parameters: Json | None = None,
    ) -> Restore:
        found = self.get_checkpoint(caller, provider_id, checkpoint_id)
        catalogue_restores.check_restorable(found)
        self._provider_of(found.provider_id)
        checked = catalogue_plans.check_parameters(
            parameters or {}, found.resources, catalogue_plans.restore_schema(self._sources)
        )
        host = self._host_of(found)
        # What is to be written on another host is looked at there, by the run.
        is_here = host in (None, self._sources.host)
        target: str | None = None
        if restore_target is None:
            if is_here:
                catalogue_restores.check_origins(self._sources.allowlist, caller.project_id, found)
        else:
            target = catalogue_restores.check_target(
                self._sources.allowlist, caller.project_id, restore_target, is_here=is_here
            )
            host = host or self._sources.host
        return self._database.write(
            "catalogue.create_restore",
            waking(
                self._wakeup.notify,
                lambda tx: catalogue_restores.create(
                    tx, caller, found.id, restore_target=target, parameters=checked, host=host
                ),
            ),
        )

    def get_restore(self, caller: Caller, restore_id: str) -> Restore:
        known = stored_id("restore", restore_id)
        return self._database.read(
            lambda connection: restores.get(connection, known, project_id=caller.project_id)
        )

    def list_restores(self, caller: Caller, query: ListQuery) -> Page[Restore]:
        return self._database.read(
            lambda connection: restores.page(connection, query, project_id=query.project_of(caller))
        )

    def _host_of(self, found: Checkpoint) -> str | None:
        """Where the work on a checkpoint must go: where its plan's goes."""
        try:
            plan = self._database.read(
                lambda connection: plans.get_even_deleted(
                    connection, found.plan_id, project_id=found.project_id
                )
            )
        except NotFoundError:
            return self._sources.host  # its plan was pruned: whoever is asked looks after it
        return plan.host
