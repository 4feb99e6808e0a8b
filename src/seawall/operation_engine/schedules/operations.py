# SPDX-License-Identifier: Apache-2.0
"""What may be done to a scheduled operation; each function is part of one write transaction.

Creating or enabling one registers it with its trigger from that instant on; disabling or deleting it takes it
out at once (M7). Before each change everything that is due becomes rows, in the same transaction (I2).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from seawall.core.caller import Caller
from seawall.core.errors import FieldFault, InvalidInputError
from seawall.core.records import ScheduledOperation
from seawall.db import audit, run_rows, scheduled_operations, triggers
from seawall.operation_engine.claim import leave, settle
from seawall.operation_engine.schedules import definitions, event_triggers
from seawall.operation_engine.schedules.definitions import PlanLookup
from seawall.operation_engine.schedules.words import checked_name, whole_number

if TYPE_CHECKING:
    from seawall.db.session import Tx
    from seawall.runtime.registry import Plugins
    from seawall.sdk.operation import Operation

OVERLAPS = ("skip", "queue_one", "cancel_running", "allow")
DEFAULT_TIMEOUT_S = 86_400
DEFAULT_RETRY_DELAY_S = 60
_LONGEST_TIMEOUT_S = 30 * 86_400
_PRIORITIES = (-1000, 1000)
_CHANGEABLE = (
    "name",
    "description",
    "operation_definition",
    "enabled",
    "overlap",
    "timeout_s",
    "priority",
    "retry",
)
_FIXED = ("trigger_id", "operation_type")


@dataclass(frozen=True, slots=True)
class Sources:
    """Where a definition is checked against."""

    operations: Plugins[Operation]
    plan_lookup: PlanLookup


def create(
    tx: Tx,
    caller: Caller,
    sources: Sources,
    *,
    operation_type: str,
    trigger_id: str,
    operation_definition: Mapping[str, Any],
    policy: Mapping[str, Any],
) -> ScheduledOperation:
    """A new operation, registered from now on. ``policy`` has the fields of ``_policy``."""
    trigger = triggers.get(tx.connection, trigger_id, project_id=caller.project_id)
    settle(tx, trigger_id)
    plugin = definitions.plugin_of(sources.operations, operation_type)
    checked = definitions.check(tx.connection, caller, plugin, operation_definition, sources.plan_lookup)
    values = _policy(policy)
    trigger = triggers.get(tx.connection, trigger_id, project_id=caller.project_id)
    if trigger.type == event_triggers.TYPE:
        event_triggers.refuse_long_chain(tx.connection, trigger)
    elif trigger.next_run_at is None and trigger.quarantine_reason is None:
        raise InvalidInputError.of("trigger_id", trigger_id, "has ended: it is never due again")
    operation_id = str(uuid4())
    scheduled_operations.insert(
        tx,
        scheduled_operations.NewOperation(
            id=operation_id,
            project_id=caller.project_id,
            user_id=caller.user_id,
            operation_type=operation_type,
            trigger_id=trigger_id,
            definition=checked.definition,
            plan_id=None if checked.plan is None else checked.plan.id,
            host=None if checked.plan is None else checked.plan.host,
            **values,
        ),
    )
    audit.record(
        tx,
        caller,
        "create",
        "scheduled_operation",
        operation_id,
        {"name": values["name"], "operation_type": operation_type, "trigger_id": trigger_id},
    )
    return scheduled_operations.get(tx.connection, operation_id, project_id=caller.project_id)


def update(
    tx: Tx, caller: Caller, sources: Sources, operation_id: str, changes: Mapping[str, object]
) -> ScheduledOperation:
    """Change what is given. Its trigger and its type stay; what is not given stays, too."""
    operation = _settled(tx, caller, operation_id)
    _refuse_unchangeable(operation, changes)
    values = _policy(changes)
    is_enabled = bool(values.get("enabled", operation.enabled))
    if "operation_definition" in changes or (is_enabled and not operation.enabled):
        values |= _definition(tx, caller, sources, operation, changes)
    if is_enabled and not operation.enabled:
        # Due times while it was disabled are not its own (I1).
        values["registered_at"] = scheduled_operations.registered_at(tx)
    if values:
        if operation.enabled and not is_enabled:
            leave(tx, operation.trigger_id, operation_id)
        scheduled_operations.update(tx, operation_id, **values)
        details: dict[str, Any] = {one: changes[one] for one in _CHANGEABLE if one in changes}
        if operation.enabled and not is_enabled:
            details["cancelled_runs"] = run_rows.cancel_waiting(
                tx, reason="the operation was disabled", operation_id=operation_id
            )
        audit.record(tx, caller, "update", "scheduled_operation", operation_id, details)
    return scheduled_operations.get(tx.connection, operation_id, project_id=caller.project_id)


def delete(tx: Tx, caller: Caller, operation_id: str) -> None:
    """Remove it: runs that wait are cancelled, those that have started go on, and all of them stay listed."""
    operation = _settled(tx, caller, operation_id)
    leave(tx, operation.trigger_id, operation_id)
    cancelled = run_rows.cancel_waiting(tx, reason="operation deleted", operation_id=operation_id)
    event_triggers.quarantine_watchers(tx, operation)
    scheduled_operations.delete(tx, operation_id)
    audit.record(
        tx,
        caller,
        "delete",
        "scheduled_operation",
        operation_id,
        {"name": operation.name, "cancelled_runs": cancelled},
    )


def types(operations: Plugins[Operation]) -> list[dict[str, Any]]:
    """The operations that may be scheduled, with their schemas and where they come from."""
    return [
        {
            "operation_type": name,
            "definition_schema": dict(plugin.definition_schema),
            "source": operations.source(name),
        }
        for name, plugin in sorted(definitions.schedulable(operations).items())
    ]


def _settled(tx: Tx, caller: Caller, operation_id: str) -> ScheduledOperation:
    operation = scheduled_operations.get(tx.connection, operation_id, project_id=caller.project_id)
    settle(tx, operation.trigger_id)
    return operation


def _refuse_unchangeable(operation: ScheduledOperation, changes: Mapping[str, object]) -> None:
    faults = []
    for name, value in changes.items():
        if name in _FIXED and value != getattr(operation, name):
            faults.append(FieldFault(name, value, "cannot be changed; make another scheduled operation"))
        elif name not in _CHANGEABLE and name not in _FIXED:
            faults.append(FieldFault(name, value, f"is not known; known are {', '.join(_CHANGEABLE)}"))
    if faults:
        raise InvalidInputError(faults)


def _definition(
    tx: Tx,
    caller: Caller,
    sources: Sources,
    operation: ScheduledOperation,
    changes: Mapping[str, object],
) -> dict[str, Any]:
    """The columns of a definition that is new, or that is to be used again after a pause."""
    given = changes.get("operation_definition", operation.operation_definition)
    if not isinstance(given, Mapping):
        raise InvalidInputError.of("operation_definition", given, "must be an object")
    plugin = definitions.plugin_of(sources.operations, operation.operation_type)
    checked = definitions.check(tx.connection, caller, plugin, given, sources.plan_lookup)
    return {
        "definition": checked.definition,
        "plan_id": None if checked.plan is None else checked.plan.id,
        "host": None if checked.plan is None else checked.plan.host,
    }


def _policy(given: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of the given ones of name, description, enabled, overlap, timeout_s, priority and retry.

    A timeout or retry of None is the default.
    """
    values: dict[str, Any] = {}
    if "name" in given:
        values["name"] = checked_name(given["name"])
    if "description" in given:
        values["description"] = _text("description", given["description"])
    if "enabled" in given:
        if not isinstance(given["enabled"], bool):
            raise InvalidInputError.of("enabled", given["enabled"], "must be true or false")
        values["enabled"] = given["enabled"]
    if "overlap" in given:
        if given["overlap"] not in OVERLAPS:
            raise InvalidInputError.of("overlap", given["overlap"], f"must be one of {', '.join(OVERLAPS)}")
        values["overlap"] = given["overlap"]
    if "timeout_s" in given:
        timeout_s = DEFAULT_TIMEOUT_S if given["timeout_s"] is None else given["timeout_s"]
        values["timeout_s"] = whole_number("timeout_s", timeout_s, 1, _LONGEST_TIMEOUT_S)
    if "priority" in given:
        values["priority"] = whole_number("priority", given["priority"], *_PRIORITIES)
    if "retry" in given:
        values |= _retry(given["retry"])
    return values


def _retry(given: object) -> dict[str, int]:
    if given is None:
        return {"retry_max_attempts": 1, "retry_delay_s": DEFAULT_RETRY_DELAY_S}
    if not isinstance(given, Mapping) or set(given) - {"max_attempts", "delay_s"}:
        raise InvalidInputError.of("retry", given, "must be {max_attempts, delay_s}")
    return {
        "retry_max_attempts": whole_number("retry.max_attempts", given.get("max_attempts", 1), 1, 100),
        "retry_delay_s": whole_number(
            "retry.delay_s", given.get("delay_s", DEFAULT_RETRY_DELAY_S), 0, 86_400
        ),
    }


def _text(field: str, value: object) -> str:
    if value is None:
        return ""
    if not isinstance(value, str) or len(value) > 255:
        raise InvalidInputError.of(field, value, "must be text of at most 255 characters")
    return value
