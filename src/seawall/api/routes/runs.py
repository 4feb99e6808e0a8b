# SPDX-License-Identifier: Apache-2.0
"""/runs, and the same seen as Karbor's /operation_logs."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

from fastapi import Query

from seawall.api import documents
from seawall.api.asked import AskedDep
from seawall.api.paging import list_query, next_links
from seawall.api.schemas.common import UuidText
from seawall.api.schemas.runs import (
    LOGGED,
    LOGGED_STATES,
    LogLineView,
    OperationLogAnswer,
    OperationLogsAnswer,
    OperationLogView,
    RunAnswer,
    RunLogAnswer,
    RunsAnswer,
    RunView,
    runs_with,
)
from seawall.core.errors import NotFoundError

router = documents.router("runs")

FILTERS = (
    "scheduled_operation_id",
    "plan_id",
    "trigger_id",
    "subject_id",
    "subject_type",
    "kind",
    "state",
    "operation_type",
)


@router.get("/runs")
def list_runs(asked: AskedDep) -> RunsAnswer:
    page = asked.ports.schedules.list_runs(asked.caller, list_query(asked, FILTERS))
    return RunsAnswer(runs=[RunView.of(run) for run in page.items], runs_links=next_links(asked, page))


@router.get("/runs/{run_id}")
def show_run(run_id: UuidText, asked: AskedDep) -> RunAnswer:
    return RunAnswer(run=RunView.of(asked.ports.schedules.get_run(asked.caller, run_id)))


@router.get("/runs/{run_id}/log")
def show_run_log(
    run_id: UuidText, asked: AskedDep, after: Annotated[int, Query(ge=0, le=2**31)] = 0
) -> RunLogAnswer:
    """What a run has said, but for the first ``after`` lines; at most 1000 lines at a time."""
    lines = asked.ports.schedules.run_log(asked.caller, run_id, after=after)
    return RunLogAnswer(log=[LogLineView.of(line) for line in lines])


@router.post("/runs/{run_id}/cancel")
def cancel_run(run_id: UuidText, asked: AskedDep) -> RunAnswer:
    """Cancelled at once while it waits; ``cancelling`` until its work has really ended otherwise."""
    return RunAnswer(run=RunView.of(asked.ports.schedules.cancel_run(asked.caller, run_id)))


@router.get("/operation_logs")
def list_operation_logs(asked: AskedDep) -> OperationLogsAnswer:
    """Backups, restores and deletes that have worked or will, in Karbor's words."""
    query = list_query(asked, ("checkpoint_id", "plan_id", "restore_id", "status"))
    filters: dict[str, Any] = dict(query.filters)
    status = filters.pop("status", None)
    types, states = (tuple(LOGGED), LOGGED_STATES) if status is None else runs_with(status)
    filters |= {"operation_types": types, "states": states}
    page = asked.ports.schedules.list_runs(asked.caller, replace(query, filters=filters))
    return OperationLogsAnswer(
        operation_logs=[OperationLogView.of(run) for run in page.items],
        operation_logs_links=next_links(asked, page),
    )


@router.get("/operation_logs/{run_id}")
def show_operation_log(run_id: UuidText, asked: AskedDep) -> OperationLogAnswer:
    run = asked.ports.schedules.get_run(asked.caller, run_id)
    if run.operation_type not in LOGGED or run.state not in LOGGED_STATES:
        raise NotFoundError(f"there is no operation log {run_id}; look at /runs/{run_id}")
    return OperationLogAnswer(operation_log=OperationLogView.of(run))
