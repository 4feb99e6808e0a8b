# SPDX-License-Identifier: Apache-2.0
"""Triggers and schedule previews."""

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
    as_karbor_text,
)
from seawall.core.records import Trigger
from seawall.core.schedule import PreviewedTime


class TriggerCreate(RequestModel):
    name: Name
    type: Annotated[str, Field(min_length=1, max_length=64)]
    properties: Map


class TriggerCreateBody(Envelope):
    trigger_info: TriggerCreate


class TriggerUpdate(RequestModel):
    name: Name | None = None
    type: str | None = None
    properties: Map | None = None


class TriggerUpdateBody(Envelope):
    trigger_info: TriggerUpdate


class PauseBody(Envelope):
    reason: Description = ""
    until: Moment | None = None


class PreviewBody(Envelope):
    properties: Map
    count: Annotated[int, Field(ge=1, le=100)] = 5


class TriggerView(AnswerModel):
    id: str
    name: str
    type: str
    properties: dict[str, Any]
    project_id: str
    next_run_at: Instant | None
    paused_at: Instant | None
    paused_reason: str | None
    paused_until_at: Instant | None
    quarantine_reason: str | None
    created_at: Instant
    updated_at: Instant
    secret: Annotated[str | None, Field(exclude_if=lambda value: value is None)] = None
    """What a webhook's requests are signed with; only in the answer to what made it."""

    @classmethod
    def of(cls, trigger: Trigger) -> TriggerView:
        return cls(
            id=trigger.id,
            name=trigger.name,
            type=trigger.type,
            # Karbor has no event triggers; their filters tell 1 from "1".
            properties=trigger.properties if trigger.type == "event" else as_karbor_text(trigger.properties),
            project_id=trigger.project_id,
            next_run_at=trigger.next_run_at,
            paused_at=trigger.paused_at,
            paused_reason=trigger.paused_reason,
            paused_until_at=trigger.paused_until_at,
            quarantine_reason=trigger.quarantine_reason,
            created_at=trigger.created_at,
            updated_at=trigger.updated_at,
        )


class TriggerAnswer(AnswerModel):
    trigger_info: TriggerView


class TriggersAnswer(AnswerModel):
    triggers: list[TriggerView]
    triggers_links: NextLink = None


class FiredAnswer(AnswerModel):
    fired: bool
    """Whether this event had not come before."""
    runs: int
    """Rows that it made, those that were skipped included."""


class DueView(AnswerModel):
    at: Instant
    local: str
    """What the clocks of the schedule's zone show."""
    note: str
    """What is unusual about it, in words."""
    starts_at: Instant | None
    """With the delay of an exclusion and, for a trigger, its offset; null when it does not run."""
    marks: list[str]
    """The same as the note: dst, excluded, delayed, spread, collision."""


class PreviewAnswer(AnswerModel):
    description: str
    """The schedule in words."""
    times: list[DueView]


def due_view(time: PreviewedTime) -> DueView:
    """One due time of a preview."""
    return DueView(
        at=time.at, local=time.local, note=time.note, starts_at=time.starts_at, marks=list(time.marks)
    )
