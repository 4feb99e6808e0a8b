# SPDX-License-Identifier: Apache-2.0
"""The policy of a plan: everything that is needed to go on with it on an empty machine (I9).

It travels with every checkpoint, as the ``policy`` part of its ``.seawall/checkpoint.json``, and holds the
project, the provider (without the options of its bank, which may be secret), the repository, the plan, and
all triggers and scheduled operations of the plan. ``recover`` reads the newest one of each plan.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar
from uuid import UUID

from seawall.core.errors import DamagedError
from seawall.core.records import Json, Plan, Repository, ScheduledOperation, Trigger
from seawall.db import plans, projects, scheduled_operations, triggers

if TYPE_CHECKING:
    from seawall.db.session import Connection

T = TypeVar("T")
VERSION: Final = 1
_IDS: Final = frozenset(
    {
        "id",
        "project_id",
        "provider_id",
        "plan_id",
        "trigger_id",
        "scheduled_operation_id",
        "run_id",
        "repository_id",
    }
)
# What is true only of the database that a trigger was in.
_LOCAL: Final = frozenset({"next_run_at", "fired_through_at", "quarantine_reason"})


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy that was read from a bank."""

    project_id: str
    project_name: str
    provider_id: str
    provider_name: str
    group: str
    """Of the repository."""
    plan: Plan
    triggers: tuple[Trigger, ...]
    operations: tuple[ScheduledOperation, ...]


def policy_of(connection: Connection, plan: Plan, *, provider_name: str, repository: Repository) -> Json:
    """The policy of a plan as it is now, as JSON."""
    operations = [
        scheduled_operations.get(connection, one, project_id=None)
        for one in plans.operations_of(connection, plan.id)
    ]
    used = [
        triggers.get(connection, one, project_id=None)
        for one in dict.fromkeys(operation.trigger_id for operation in operations)
    ]
    return {
        "version": VERSION,
        "project": {"id": plan.project_id, "name": projects.name_of(connection, plan.project_id)},
        "provider": {"id": repository.provider_id, "name": provider_name},
        "repository": {"id": repository.id, "group": repository.group},
        "plan": document_of(plan),
        "triggers": [document_of(one, leave_out=_LOCAL) for one in used],
        "operations": [document_of(one) for one in operations],
    }


def read_policy(given: object) -> Policy:
    """The policy of what ``policy_of`` made; ``DamagedError`` when it is none.

    Of another version is read what is known of it: a bank may be older or newer than this Seawall.
    """
    try:
        value = _mapping(given)
        project, provider = _mapping(value["project"]), _mapping(value["provider"])
        return Policy(
            project_id=str(UUID(project["id"])),
            project_name=str(project["name"]),
            provider_id=str(UUID(provider["id"])),
            provider_name=str(provider["name"]),
            group=str(_mapping(value["repository"])["group"]),
            plan=record_of(Plan, value["plan"]),
            triggers=tuple(
                record_of(Trigger, {**_mapping(one), **dict.fromkeys(_LOCAL)}) for one in value["triggers"]
            ),
            operations=tuple(record_of(ScheduledOperation, one) for one in value["operations"]),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DamagedError(f"the policy is not one: {error!r}") from error


def document_of(record: Any, *, leave_out: frozenset[str] = frozenset()) -> Json:
    """A record as JSON: instants as ISO 8601 text in UTC."""
    found: Json = {}
    for one in fields(record):
        value = getattr(record, one.name)
        if one.name not in leave_out:
            found[one.name] = _plain(value)
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    return list(value) if isinstance(value, tuple) else value


def record_of(kind: type[T], given: object) -> T:
    """The record of what ``document_of`` made; fields that this version does not know are left out.

    ``KeyError``, ``TypeError`` or ``ValueError`` when it is none.
    """
    value = _mapping(given)
    found: dict[str, Any] = {}
    for one in fields(kind):  # type: ignore[arg-type]  # only dataclasses are asked for
        if one.name in value:
            found[one.name] = _typed(one.name, value[one.name])
    return kind(**found)


def _typed(name: str, value: Any) -> Any:
    if name.endswith("_at") and value is not None:
        found = datetime.fromisoformat(value)
        if found.tzinfo is None:
            raise ValueError(f"{name} has no time zone")
        return found.astimezone(UTC)
    if name in _IDS and value is not None:
        return str(UUID(value))
    return tuple(value) if name == "resources" else value


def _mapping(value: object) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise TypeError(f"{type(value).__name__} where an object is expected")
    return value
