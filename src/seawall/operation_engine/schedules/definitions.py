# SPDX-License-Identifier: Apache-2.0
"""Whether a definition is one: by its operation's JSON schema, by the operation's own check, and by the plan.

Every fault names its field as ``operation_definition.<path>``, what stood there, and the rule.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError, ValidationError

from seawall.core.caller import Caller
from seawall.core.errors import FieldFault, InvalidInputError, NotFoundError, PluginError
from seawall.core.records import Json, Plan

if TYPE_CHECKING:
    from seawall.db.session import Connection
    from seawall.runtime.registry import Plugins
    from seawall.sdk.operation import Operation

PlanLookup = Callable[["Connection", str], Plan]
"""A plan by its id, of whatever project; ``NotFoundError`` when there is none."""

_FIELD = "operation_definition"


@dataclass(frozen=True, slots=True)
class CheckedDefinition:
    """A definition that its operation will understand."""

    definition: Json
    plan: Plan | None
    """The plan that it names; None for operations that work on none."""


def schedulable(operations: Plugins[Operation]) -> dict[str, type[Operation]]:
    """The operations that may be scheduled, by type; drop-in folders are looked into again."""
    operations.refresh()
    return {
        name: plugin for name, plugin in operations.items().items() if getattr(plugin, "schedulable", True)
    }


def plugin_of(operations: Plugins[Operation], operation_type: str) -> type[Operation]:
    """The plugin of a type that may be scheduled; ``InvalidInputError`` names those there are."""
    known = schedulable(operations)
    if operation_type in known:
        return known[operation_type]
    rule = f"is no operation that can be scheduled; there are {', '.join(sorted(known)) or 'none'}"
    if operations.faults:
        rule += "; not usable: " + "; ".join(str(fault) for fault in operations.faults)
    raise InvalidInputError.of("operation_type", operation_type, rule)


def check(
    connection: Connection,
    caller: Caller,
    plugin: type[Operation],
    given: Mapping[str, Any],
    plan_lookup: PlanLookup,
) -> CheckedDefinition:
    """The definition with its ids written alike, and its plan.

    ``InvalidInputError`` when the schema or the operation refuses it, when the plan is not there or another
    project's (I11), or when the provider is not the plan's. ``PluginError`` when the schema itself is wrong.
    """
    definition = _with_ids(given, plugin.definition_schema)
    _by_schema(plugin, definition)
    own_check = getattr(plugin, "check_definition", None)
    if own_check is not None:
        try:
            own_check(definition)
        except InvalidInputError as error:
            raise InvalidInputError(
                [FieldFault(f"{_FIELD}.{one.field}", one.value, one.rule) for one in error.fields]
            ) from error
    return CheckedDefinition(definition, _plan(connection, caller, definition, plan_lookup))


def _plan(connection: Connection, caller: Caller, definition: Json, plan_lookup: PlanLookup) -> Plan | None:
    plan_id = definition.get("plan_id")
    if plan_id is None:
        return None
    try:
        plan = plan_lookup(connection, plan_id)
    except NotFoundError:
        plan = None
    if plan is None or plan.project_id != caller.project_id:
        raise InvalidInputError.of(f"{_FIELD}.plan_id", plan_id, "is no plan of this project")
    provider_id = definition.get("provider_id")
    if provider_id is not None and provider_id != plan.provider_id:
        raise InvalidInputError.of(
            f"{_FIELD}.provider_id", provider_id, f"must be the plan's provider, {plan.provider_id}"
        )
    return plan


def _with_ids(given: Mapping[str, Any], schema: Mapping[str, Any]) -> Json:
    """Ids may come without dashes or in capitals; they are kept as everything else writes them."""
    definition = dict(given)
    for name, rules in schema.get("properties", {}).items():
        if name in definition and isinstance(rules, Mapping) and rules.get("format") == "uuid":
            try:
                definition[name] = str(UUID(str(definition[name])))
            except ValueError:
                continue
    return definition


def _by_schema(plugin: type[Operation], definition: Json) -> None:
    try:
        Draft202012Validator.check_schema(plugin.definition_schema)
    except SchemaError as error:
        raise PluginError(
            f"the definition_schema of {plugin.operation_type!r} is not a JSON schema: {error.message}"
        ) from error
    validator = Draft202012Validator(
        plugin.definition_schema, format_checker=Draft202012Validator.FORMAT_CHECKER
    )
    faults = [
        fault
        for error in sorted(validator.iter_errors(definition), key=lambda one: list(map(str, one.path)))
        for fault in _faults(error)
    ]
    if faults:
        raise InvalidInputError(faults)


def _faults(error: ValidationError) -> list[FieldFault]:
    path = ".".join([_FIELD, *map(str, error.absolute_path)])
    instance: Any = error.instance
    wanted: Any = error.validator_value
    if error.validator == "required":
        missing = [name for name in wanted if name not in instance]
        return [FieldFault(f"{path}.{name}", None, "is needed") for name in missing]
    if error.validator == "additionalProperties" and isinstance(error.schema, Mapping):
        known = error.schema.get("properties", {})
        return [
            FieldFault(f"{path}.{name}", value, f"is not known; known are {', '.join(sorted(known))}")
            for name, value in instance.items()
            if name not in known
        ]
    return [FieldFault(path, instance, _rule(error.validator, wanted, error.message))]


def _rule(validator: object, wanted: Any, message: str) -> str:
    match validator:
        case "type":
            return "must be " + (wanted if isinstance(wanted, str) else " or ".join(wanted))
        case "enum":
            return "must be one of " + ", ".join(map(str, wanted))
        case "format":
            return f"must be a {wanted}"
        case "pattern":
            return f"must match {wanted}"
        case "minimum":
            return f"must be at least {wanted}"
        case "maximum":
            return f"must be at most {wanted}"
        case _:
            return f"breaks the rule {validator}: {message}"
