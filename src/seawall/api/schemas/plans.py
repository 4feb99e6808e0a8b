# SPDX-License-Identifier: Apache-2.0
"""Plans."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from seawall.api.schemas.common import (
    AnswerModel,
    Description,
    Envelope,
    Instant,
    Map,
    Name,
    NextLink,
    RequestModel,
    UuidText,
)
from seawall.core.records import Plan


class ResourceBody(RequestModel):
    id: Annotated[str, Field(min_length=1, max_length=4096)]
    type: Annotated[str, Field(min_length=1, max_length=255)]
    name: Annotated[str, Field(min_length=1, max_length=255)]
    extra_info: Map | None = None


class PlanCreate(RequestModel):
    name: Name
    description: Description | None = None
    provider_id: UuidText
    resources: Annotated[list[ResourceBody], Field(min_length=1, max_length=1000)]
    parameters: Map | None = None


class PlanCreateBody(Envelope):
    plan: PlanCreate


class PlanUpdate(RequestModel):
    name: Name | None = None
    description: Description | None = None
    status: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    resources: Annotated[list[ResourceBody], Field(min_length=1, max_length=1000)] | None = None
    parameters: Map | None = None


class PlanUpdateBody(Envelope):
    plan: PlanUpdate


class PlanView(AnswerModel):
    id: str
    name: str
    description: str | None
    resources: list[dict[str, Any]]
    provider_id: str
    status: str
    parameters: dict[str, Any]
    project_id: str
    host: str | None
    created_at: Instant
    updated_at: Instant

    @classmethod
    def of(cls, plan: Plan) -> PlanView:
        return cls(
            id=plan.id,
            name=plan.name,
            description=plan.description or None,
            resources=[
                {key: value for key, value in one.items() if key != "extra_info" or value is not None}
                for one in plan.resources
            ],
            provider_id=plan.provider_id,
            status=plan.status,
            parameters=plan.parameters,
            project_id=plan.project_id,
            host=plan.host,
            created_at=plan.created_at,
            updated_at=plan.updated_at,
        )


class PlanAnswer(AnswerModel):
    plan: PlanView


class PlansAnswer(AnswerModel):
    plans: list[PlanView]
    plans_links: NextLink = None


def resources_of(bodies: list[ResourceBody]) -> list[dict[str, Any]]:
    """As the services take them: without keys that were not given."""
    return [body.model_dump(exclude_none=True) for body in bodies]
