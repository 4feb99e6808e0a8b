# SPDX-License-Identifier: Apache-2.0
"""/scheduled_operations and /operation_types"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import Response

from seawall.api import documents
from seawall.api.asked import Asked, AskedDep, OnceDep
from seawall.api.definitions import definition_of
from seawall.api.paging import list_query, next_links
from seawall.api.schemas.common import UuidText
from seawall.api.schemas.operations import (
    BackfillAnswer,
    BackfillBody,
    BackfillView,
    OperationAnswer,
    OperationCreateBody,
    OperationsAnswer,
    OperationTypesAnswer,
    OperationUpdateBody,
    OperationView,
)
from seawall.api.schemas.runs import RunAnswer, RunView
from seawall.core.errors import InvalidInputError

router = documents.router("scheduled operations")

FILTERS = ("name", "operation_type", "trigger_id", "operation_definition")


@router.get("/operation_types")
def list_operation_types(asked: AskedDep) -> OperationTypesAnswer:
    """The kinds of operations that may be scheduled, each with the JSON schema of its definition."""
    return OperationTypesAnswer(
        operation_types=[dict(one) for one in asked.ports.schedules.operation_types()]
    )


@router.get("/scheduled_operations")
def list_operations(asked: AskedDep) -> OperationsAnswer:
    page = asked.ports.schedules.list_operations(asked.caller, list_query(asked, FILTERS))
    return OperationsAnswer(
        operations=[OperationView.of(operation) for operation in page.items],
        operations_links=next_links(asked, page),
    )


@router.post("/scheduled_operations")
def create_operation(body: OperationCreateBody, asked: AskedDep, once: OnceDep) -> OperationAnswer:
    wanted = body.scheduled_operation

    def act() -> OperationAnswer:
        operation = asked.ports.schedules.create_operation(
            asked.caller,
            name=wanted.name,
            description=wanted.description or "",
            operation_type=wanted.operation_type,
            trigger_id=wanted.trigger_id,
            operation_definition=definition_of(
                wanted.operation_definition, _schema(asked, wanted.operation_type)
            ),
            enabled=wanted.enabled,
            overlap=wanted.overlap,
            timeout_s=wanted.timeout_s,
            priority=wanted.priority,
            retry=None if wanted.retry is None else wanted.retry.model_dump(),
        )
        return OperationAnswer(scheduled_operation=OperationView.of(operation))

    return once(body, OperationAnswer, act)


@router.get("/scheduled_operations/{operation_id}")
def show_operation(operation_id: UuidText, asked: AskedDep) -> OperationAnswer:
    operation = asked.ports.schedules.get_operation(asked.caller, operation_id)
    return OperationAnswer(scheduled_operation=OperationView.of(operation))


@router.put("/scheduled_operations/{operation_id}")
def update_operation(operation_id: UuidText, body: OperationUpdateBody, asked: AskedDep) -> OperationAnswer:
    given = body.scheduled_operation.model_dump(exclude_unset=True)
    changes = {name: value for name, value in given.items() if value is not None or name == "description"}
    if "description" in changes:
        changes["description"] = changes["description"] or ""
    if not changes:
        raise InvalidInputError.of("scheduled_operation", {}, "must change at least one field")
    if "operation_definition" in changes:
        current = asked.ports.schedules.get_operation(asked.caller, operation_id)
        changes["operation_definition"] = definition_of(
            changes["operation_definition"], _schema(asked, current.operation_type)
        )
    operation = asked.ports.schedules.update_operation(asked.caller, operation_id, changes)
    return OperationAnswer(scheduled_operation=OperationView.of(operation))


@router.delete("/scheduled_operations/{operation_id}", response_class=Response)
def delete_operation(operation_id: UuidText, asked: AskedDep) -> Response:
    asked.ports.schedules.delete_operation(asked.caller, operation_id)
    return Response(media_type="application/json")


@router.post("/scheduled_operations/{operation_id}/run")
def run_operation(operation_id: UuidText, asked: AskedDep, once: OnceDep) -> RunAnswer:
    """Run it now, beside its schedule; with an ``Idempotency-Key``, once for each key."""

    def act() -> RunAnswer:
        run = asked.ports.schedules.run_operation(asked.caller, operation_id, key=once.key)
        return RunAnswer(run=RunView.of(run))

    return once(None, RunAnswer, act)


@router.post("/scheduled_operations/{operation_id}/backfill")
def backfill_operation(
    operation_id: UuidText, body: BackfillBody, asked: AskedDep, once: OnceDep
) -> BackfillAnswer:
    """Make up for the due times of a past range: one run each, one after the other."""

    def act() -> BackfillAnswer:
        made = asked.ports.schedules.backfill_operation(
            asked.caller,
            operation_id,
            start=body.start,
            end=body.end,
            is_dry=body.dry_run,
            key=once.key,
        )
        return BackfillAnswer(backfill=BackfillView.of(made))

    return once(body, BackfillAnswer, act)


def _schema(asked: Asked, operation_type: str) -> Mapping[str, Any]:
    """The schema of a type's definition; an unknown type is refused by the service, with the known ones."""
    for one in asked.ports.schedules.operation_types():
        if one["operation_type"] == operation_type:
            return dict(one["definition_schema"])
    return {}
