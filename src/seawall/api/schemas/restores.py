# SPDX-License-Identifier: Apache-2.0
"""Restores."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from seawall.api.schemas.common import AnswerModel, Envelope, Instant, Map, NextLink, RequestModel, UuidText
from seawall.core.records import Restore


class RestoreCreate(RequestModel):
    provider_id: UuidText
    checkpoint_id: UuidText
    restore_target: Annotated[str, Field(min_length=1, max_length=4096)] | None = None
    restore_auth: None = None
    """Karbor's client always sends it; a restore here needs no other cloud's password."""
    parameters: Map | None = None


class RestoreCreateBody(Envelope):
    restore: RestoreCreate


class RestoreView(AnswerModel):
    id: str
    project_id: str
    provider_id: str
    checkpoint_id: str
    restore_target: str | None
    parameters: dict[str, Any]
    status: str
    resources_status: dict[str, str]
    resources_reason: dict[str, str]
    reason: str | None
    result: dict[str, Any] | None
    run_id: str | None
    created_at: Instant
    updated_at: Instant

    @classmethod
    def of(cls, restore: Restore) -> RestoreView:
        return cls(
            id=restore.id,
            project_id=restore.project_id,
            provider_id=restore.provider_id,
            checkpoint_id=restore.checkpoint_id,
            restore_target=restore.restore_target,
            parameters=restore.parameters,
            status=restore.status,
            resources_status=dict(restore.resources_status),
            resources_reason=dict(restore.resources_reason),
            reason=restore.reason,
            result=restore.result,
            run_id=restore.run_id,
            created_at=restore.created_at,
            updated_at=restore.updated_at,
        )


class RestoreAnswer(AnswerModel):
    restore: RestoreView


class RestoresAnswer(AnswerModel):
    restores: list[RestoreView]
    restores_links: NextLink = None
