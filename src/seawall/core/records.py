# SPDX-License-Identifier: Apache-2.0
"""What the services hand out: one frozen value for each kind of row.

Ids are UUID text; instants are aware UTC. The states are those of ``core.states``. These values carry no
behaviour: rules stand in their own modules.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, TypeVar

Json = dict[str, Any]
T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Page(Generic[T_co]):
    """A page of a list; ``next_marker`` is the id to ask on from, None at the end."""

    items: tuple[T_co, ...]
    next_marker: str | None


@dataclass(frozen=True, slots=True)
class Plan:
    id: str
    project_id: str
    name: str
    description: str
    provider_id: str
    status: str
    resources: tuple[Json, ...]
    """Karbor's shape: {type, id, name, extra_info?}."""
    parameters: Json
    host: str | None
    """The host that its runs must go to; None when any may."""
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Trigger:
    id: str
    project_id: str
    name: str
    type: str
    properties: Json
    next_run_at: datetime | None
    fired_through_at: datetime | None
    quarantine_reason: str | None
    """Why it does not fire although it is enabled; None when it is well (M3)."""
    created_at: datetime
    updated_at: datetime
    paused_at: datetime | None = None
    paused_reason: str | None = None
    paused_until_at: datetime | None = None
    secret: str | None = field(default=None, repr=False)
    """What a webhook's requests are signed with: only in the answer to what made it (I10)."""


@dataclass(frozen=True, slots=True)
class ScheduledOperation:
    id: str
    project_id: str
    user_id: str
    name: str
    description: str
    operation_type: str
    trigger_id: str
    operation_definition: Json
    enabled: bool
    overlap: str
    timeout_s: int
    priority: int
    retry_max_attempts: int
    retry_delay_s: int
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Run:
    """One run (I1)."""

    id: str
    project_id: str
    kind: str
    operation_type: str
    definition: Json
    subject_type: str
    """plan | scheduled_operation | checkpoint | restore | repository"""
    subject_id: str
    occurrence: str
    state: str
    reason: str | None
    expected_at: datetime
    deadline_at: datetime | None
    """Until when its first start is on time."""
    triggered_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    host: str | None
    attempt: int
    scheduled_operation_id: str | None
    trigger_id: str | None
    user_id: str
    progress: Json | None
    result: Json | None
    error: Json | None
    """{code, message, hint?, step?} of a run that failed."""
    gap_first_at: datetime | None = None
    gap_last_at: datetime | None = None
    gap_count: int | None = None


@dataclass(frozen=True, slots=True)
class ExcludedTime:
    """A due time that does not run, and why."""

    at: datetime
    reason: str


@dataclass(frozen=True, slots=True)
class Backfill:
    """Due times that have passed and are made up for."""

    id: str | None
    """What the occurrences of its runs begin with; None when nothing was made."""
    times: tuple[datetime, ...]
    """When each is expected: at its due time, or at the end of the exclusion that delayed it."""
    excluded: tuple[ExcludedTime, ...] = ()
    """The due times of the range that the trigger's exclusions leave out."""


@dataclass(frozen=True, slots=True)
class LogLine:
    at: datetime
    level: str
    text: str


@dataclass(frozen=True, slots=True)
class Checkpoint:
    id: str
    project_id: str
    provider_id: str
    plan_id: str
    plan_name: str
    scheduled_operation_id: str | None
    run_id: str | None
    repository_id: str
    snapshot_id: str | None
    status: str
    reason: str | None
    """Why it is in ``error``, or what its warnings are."""
    resources: tuple[Json, ...]
    """The plan's resources, each with its outcome: {type, id, name, status, tree_id, items, ...}."""
    items: int
    read_bytes: int
    added_bytes: int
    created_at: datetime
    ended_at: datetime | None
    verified_at: datetime | None
    pinned: bool
    extra_info: Json = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Restore:
    id: str
    project_id: str
    provider_id: str
    checkpoint_id: str
    restore_target: str | None
    """The folder to restore into; None is where the resources came from."""
    parameters: Json
    status: str
    """in_progress | success | fail (Karbor's words)"""
    reason: str | None
    resources_status: Mapping[str, str]
    resources_reason: Mapping[str, str]
    result: Json | None
    run_id: str | None
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Provider:
    """From ``providers.d``: a bank and the resource types allowed on it."""

    id: str
    name: str
    description: str
    bank: str
    """The bank plugin's name, e.g. ``file``."""
    bank_options: Json
    resource_types: tuple[str, ...]
    limits: Json = field(default_factory=dict)
    """How fast its bank may be used, and how often it is asked again."""
    adopted: str | None = None
    """The id of the one repository that lies at the root of its bank, when somebody else made it."""
    engine: str = "seawall"
    """What reads and writes directories: ``seawall`` itself, or an installed ``restic``."""


@dataclass(frozen=True, slots=True)
class Repository:
    id: str
    provider_id: str
    project_id: str
    group: str
    format_id: str | None
    """The id in the repository's own config object."""
    created_at: datetime
    kit_acknowledged_at: datetime | None


@dataclass(frozen=True, slots=True)
class Service:
    id: int
    host: str
    binary: str
    version: str
    is_enabled: bool
    disabled_reason: str | None
    started_at: datetime
    heartbeat_at: datetime
    stopped_at: datetime | None
