# SPDX-License-Identifier: Apache-2.0
"""Runs, their logs, and the same seen as Karbor's operation logs."""

from __future__ import annotations

from typing import Any

from seawall.api.schemas.common import AnswerModel, Instant, KarborTime, NextLink
from seawall.core.records import LogLine, Run
from seawall.core.states import LIVE_RUN_STATES, RunState


class RunView(AnswerModel):
    id: str
    project_id: str
    user_id: str
    kind: str
    operation_type: str
    definition: dict[str, Any]
    subject_type: str
    subject_id: str
    occurrence: str
    state: str
    reason: str | None
    expected_at: Instant
    deadline_at: Instant | None
    triggered_at: Instant
    started_at: Instant | None
    ended_at: Instant | None
    host: str | None
    attempt: int
    scheduled_operation_id: str | None
    trigger_id: str | None
    progress: dict[str, Any] | None
    result: dict[str, Any] | None
    error: dict[str, Any] | None
    gap_first_at: Instant | None
    gap_last_at: Instant | None
    gap_count: int | None

    @classmethod
    def of(cls, run: Run) -> RunView:
        return cls(**{name: getattr(run, name) for name in cls.model_fields})


class RunAnswer(AnswerModel):
    run: RunView


class RunsAnswer(AnswerModel):
    runs: list[RunView]
    runs_links: NextLink = None


class LogLineView(AnswerModel):
    at: Instant
    level: str
    text: str

    @classmethod
    def of(cls, line: LogLine) -> LogLineView:
        return cls(at=line.at, level=line.level, text=line.text)


class RunLogAnswer(AnswerModel):
    log: list[LogLineView]


# A run's type -> Karbor's words for (working, done, failed). Runs of other types are in no operation log.
LOGGED = {
    "protect": ("protecting", "available", "error"),
    "retention_protect": ("protecting", "available", "error"),
    "delete": ("deleting", "deleted", "error-deleting"),
    "restore": ("in_progress", "success", "fail"),
}
# Nor are those that never worked.
_STATES = (
    LIVE_RUN_STATES,
    (RunState.SUCCESS,),
    (RunState.FAILED, RunState.CANCELLED),
)
LOGGED_STATES = tuple(state for states in _STATES for state in states)


def karbor_status(run: Run) -> str:
    """The status that Karbor's operation log has for such a run."""
    words = LOGGED[run.operation_type]
    return next(word for word, states in zip(words, _STATES, strict=True) if run.state in states)


def runs_with(status: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The types and states of the runs that Karbor's log shows with this status."""
    found = [
        (name, states)
        for name, words in LOGGED.items()
        for word, states in zip(words, _STATES, strict=True)
        if word == status
    ]
    return tuple(name for name, _ in found), tuple(found[0][1]) if found else ()


class OperationLogView(AnswerModel):
    id: str
    operation_type: str
    checkpoint_id: str | None
    plan_id: str | None
    provider_id: str | None
    restore_id: str | None
    scheduled_operation_id: str | None
    status: str
    started_at: KarborTime | None
    ended_at: KarborTime | None
    error_info: str | None
    extra_info: str | None

    @classmethod
    def of(cls, run: Run) -> OperationLogView:
        known = {**(run.result or {}), **run.definition}
        return cls(
            id=run.id,
            operation_type="protect" if run.operation_type == "retention_protect" else run.operation_type,
            checkpoint_id=known.get("checkpoint_id"),
            plan_id=known.get("plan_id"),
            provider_id=known.get("provider_id"),
            restore_id=known.get("restore_id"),
            scheduled_operation_id=run.scheduled_operation_id,
            status=karbor_status(run),
            started_at=run.started_at or run.triggered_at,
            ended_at=run.ended_at,
            error_info=str(run.error.get("message")) if run.error else run.reason,
            extra_info=None,
        )


class OperationLogAnswer(AnswerModel):
    operation_log: OperationLogView


class OperationLogsAnswer(AnswerModel):
    operation_logs: list[OperationLogView]
    operation_logs_links: NextLink = None
