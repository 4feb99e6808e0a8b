# SPDX-License-Identifier: Apache-2.0
"""Checkpoints."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, Field, model_validator

from seawall.api.schemas.common import (
    AnswerModel,
    Envelope,
    Instant,
    KarborTime,
    Map,
    NextLink,
    RequestModel,
    UuidText,
)
from seawall.core.records import Checkpoint


class CheckpointCreate(RequestModel):
    plan_id: UuidText
    # Karbor's client writes it with a hyphen, and may send null values.
    extra_info: Annotated[Map | None, Field(validation_alias=AliasChoices("extra-info", "extra_info"))] = None


class CheckpointCreateBody(Envelope):
    checkpoint: CheckpointCreate


class ResetState(RequestModel):
    state: Literal["available", "error"]


class CheckpointChange(RequestModel):
    pinned: bool


class CheckpointUpdateBody(Envelope):
    """Either Karbor's reset of the state, or a change of the checkpoint."""

    reset_state: Annotated[ResetState | None, Field(alias="os-resetState")] = None
    checkpoint: CheckpointChange | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> CheckpointUpdateBody:
        if (self.reset_state is None) == (self.checkpoint is None):
            raise ValueError("must have exactly one of os-resetState and checkpoint")
        return self


class CheckpointView(AnswerModel):
    id: str
    project_id: str
    status: str
    protection_plan: dict[str, Any]
    resource_graph: str
    created_at: KarborTime
    extra_info: str
    provider_id: str
    plan_id: str
    scheduled_operation_id: str | None
    run_id: str | None
    snapshot_id: str | None
    reason: str | None
    resources: list[dict[str, Any]]
    items: int
    read_bytes: int
    added_bytes: int
    pinned: bool
    ended_at: Instant | None
    verified_at: Instant | None

    @classmethod
    def of(cls, checkpoint: Checkpoint) -> CheckpointView:
        return cls(
            id=checkpoint.id,
            project_id=checkpoint.project_id,
            status=checkpoint.status,
            protection_plan={
                "id": checkpoint.plan_id,
                "name": checkpoint.plan_name,
                "provider_id": checkpoint.provider_id,
                "resources": [_plan_resource(one) for one in checkpoint.resources],
            },
            resource_graph=_graph_text(checkpoint),
            created_at=checkpoint.created_at,
            extra_info=json.dumps(checkpoint.extra_info),
            provider_id=checkpoint.provider_id,
            plan_id=checkpoint.plan_id,
            scheduled_operation_id=checkpoint.scheduled_operation_id,
            run_id=checkpoint.run_id,
            snapshot_id=checkpoint.snapshot_id,
            reason=checkpoint.reason,
            resources=list(checkpoint.resources),
            items=checkpoint.items,
            read_bytes=checkpoint.read_bytes,
            added_bytes=checkpoint.added_bytes,
            pinned=checkpoint.pinned,
            ended_at=checkpoint.ended_at,
            verified_at=checkpoint.verified_at,
        )


class CheckpointAnswer(AnswerModel):
    checkpoint: CheckpointView


class CheckpointsAnswer(AnswerModel):
    checkpoints: list[CheckpointView]
    checkpoints_links: NextLink = None


def _info_text(resource: dict[str, Any]) -> str | None:
    info = resource.get("extra_info")
    return None if info is None else json.dumps(info)


def _plan_resource(resource: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": resource.get("id"),
        "type": resource.get("type"),
        "name": resource.get("name"),
        "extra_info": _info_text(resource),
    }


def _graph_text(checkpoint: Checkpoint) -> str:
    """Karbor's text of a resource graph: numbered nodes, then the edges (we have none between resources)."""
    nodes = {
        f"0x{number:x}": [one.get("type"), one.get("id"), one.get("name"), _info_text(one)]
        for number, one in enumerate(checkpoint.resources)
    }
    return json.dumps([nodes, []])
