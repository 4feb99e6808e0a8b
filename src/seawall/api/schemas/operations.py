# SPDX-License-Identifier: Apache-2.0
"""Scheduled operations and the operation types they may have."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from seawall.api.schemas.common import (
    AnswerModel,
    Description,
    Envelope,
    Instant,
    Map,
    Moment,
    Name,
    NextLink,
    RequestModel,
    UuidText,
    as_karbor_text,
)
from seawall.core.records import Backfill, ScheduledOperation


class Retry(RequestModel):
    max_attempts: int
    delay_s: int = 60


class OperationCreate(RequestModel):
    name: Name
    description: Description | None = None
    operation_type: Annotated[str, Field(min_length=1, max_length=64)]
    trigger_id: UuidText
    operation_definition: Map | str
    enabled: bool = True
    overlap: str = "skip"
    timeout_s: int | None = None
    priority: int = 0
    retry: Retry | None = None


class OperationCreateBody(Envelope):
    scheduled_operation: OperationCreate


class OperationUpdate(RequestModel):
    name: Name | None = None
    description: Description | None = None
    trigger_id: UuidText | None = None
    operation_definition: Map | str | None = None
    enabled: bool | None = None
    overlap: str | None = None
    timeout_s: int | None = None
    priority: int | None = None
    retry: Retry | None = None


class OperationUpdateBody(Envelope):
    scheduled_operation: OperationUpdate


class OperationView(AnswerModel):
    id: str
    name: str
    description: str | None
    operation_type: str
    trigger_id: str
    operation_definition: dict[str, Any]
    enabled: bool
    project_id: str
    overlap: str
    timeout_s: int
    priority: int
    retry: dict[str, int]
    created_at: Instant
    updated_at: Instant

    @classmethod
    def of(cls, operation: ScheduledOperation) -> OperationView:
        return cls(
            id=operation.id,
            name=operation.name,
            description=operation.description or None,
            operation_type=operation.operation_type,
            trigger_id=operation.trigger_id,
            operation_definition=as_karbor_text(operation.operation_definition),
            enabled=operation.enabled,
            project_id=operation.project_id,
            overlap=operation.overlap,
            timeout_s=operation.timeout_s,
            priority=operation.priority,
            retry={"max_attempts": operation.retry_max_attempts, "delay_s": operation.retry_delay_s},
            created_at=operation.created_at,
            updated_at=operation.updated_at,
        )


class OperationAnswer(AnswerModel):
    scheduled_operation: OperationView


class OperationsAnswer(AnswerModel):
    operations: list[OperationView]
    operations_links: NextLink = None


class BackfillBody(Envelope):
    start: Moment
    end: Moment
    dry_run: bool = False


class ExcludedView(AnswerModel):
    at: Instant
    reason: str


class BackfillView(AnswerModel):
    id: str | None
    """None for a dry run."""
    times: list[Instant]
    """When what is made up for is expected, the oldest first."""
    excluded: list[ExcludedView]
    """The due times of the range that the trigger's exclusions leave out."""

    @classmethod
    def of(cls, backfill: Backfill) -> BackfillView:
        excluded = [ExcludedView(at=one.at, reason=one.reason) for one in backfill.excluded]
        return cls(id=backfill.id, times=list(backfill.times), excluded=excluded)


class BackfillAnswer(AnswerModel):
    backfill: BackfillView


class OperationTypesAnswer(AnswerModel):
    operation_types: list[dict[str, Any]]
    """Each with ``operation_type``, ``definition_schema`` (JSON schema 2020-12) and ``source``."""
