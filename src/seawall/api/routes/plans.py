# SPDX-License-Identifier: Apache-2.0
"""/plans"""

from __future__ import annotations

from fastapi import Response

from seawall.api import documents
from seawall.api.asked import AskedDep, OnceDep
from seawall.api.paging import list_query, next_links
from seawall.api.schemas.common import UuidText
from seawall.api.schemas.plans import (
    PlanAnswer,
    PlanCreateBody,
    PlansAnswer,
    PlanUpdateBody,
    PlanView,
    resources_of,
)
from seawall.core.errors import InvalidInputError

router = documents.router("plans", "/plans")


@router.get("")
def list_plans(asked: AskedDep) -> PlansAnswer:
    query = list_query(asked, ("name", "status", "description"))
    page = asked.ports.catalogue.list_plans(asked.caller, query)
    return PlansAnswer(
        plans=[PlanView.of(plan) for plan in page.items],
        plans_links=next_links(asked, page),
    )


@router.post("")
def create_plan(body: PlanCreateBody, asked: AskedDep, once: OnceDep) -> PlanAnswer:
    wanted = body.plan

    def act() -> PlanAnswer:
        plan = asked.ports.catalogue.create_plan(
            asked.caller,
            name=wanted.name,
            description=wanted.description or "",
            provider_id=wanted.provider_id,
            resources=resources_of(wanted.resources),
            parameters=wanted.parameters or {},
        )
        return PlanAnswer(plan=PlanView.of(plan))

    return once(body, PlanAnswer, act)


@router.get("/{plan_id}")
def show_plan(plan_id: UuidText, asked: AskedDep) -> PlanAnswer:
    return PlanAnswer(plan=PlanView.of(asked.ports.catalogue.get_plan(asked.caller, plan_id)))


@router.put("/{plan_id}")
def update_plan(plan_id: UuidText, body: PlanUpdateBody, asked: AskedDep) -> PlanAnswer:
    changes = body.plan.model_dump(exclude_unset=True, exclude={"resources"})
    if "resources" in body.plan.model_fields_set and body.plan.resources is not None:
        changes["resources"] = resources_of(body.plan.resources)
    changes = {name: value for name, value in changes.items() if value is not None or name == "description"}
    if "description" in changes:
        changes["description"] = changes["description"] or ""
    if not changes:
        raise InvalidInputError.of("plan", {}, "must change at least one field")
    plan = asked.ports.catalogue.update_plan(asked.caller, plan_id, changes)
    return PlanAnswer(plan=PlanView.of(plan))


@router.delete("/{plan_id}", response_class=Response)
def delete_plan(plan_id: UuidText, asked: AskedDep) -> Response:
    asked.ports.catalogue.delete_plan(asked.caller, plan_id)
    return Response(media_type="application/json")
