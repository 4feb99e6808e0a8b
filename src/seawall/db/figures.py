# SPDX-License-Identifier: Apache-2.0
"""Numbers for monitoring. Each query reads an index that is narrow where rows are many."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from seawall.core.states import LIVE_RUN_STATES, RESTORABLE, RunState
from seawall.db import due, outbox
from seawall.db.dialect import among
from seawall.db.tables import checkpoints, runs

_DAY = timedelta(days=1)
_MOST_PLANS = 10_000


@dataclass(frozen=True, slots=True)
class Figures:
    """How an installation stands at one instant."""

    live_runs: dict[str, int]
    """By state; states without a run are absent."""
    ended_runs: dict[str, int]
    """By state, of those that ended within the last day."""
    oldest_waiting_at: datetime | None
    """The due time of the run that has waited longest for its first start."""
    next_due_at: datetime | None
    last_success_at: dict[tuple[str, str], datetime]
    """(project, plan) -> when its newest good checkpoint was done."""
    outbox: int


def figures(connection: sa.Connection, now: datetime) -> Figures:
    """Read them all in one view."""
    live = sa.select(runs.c.state, sa.func.count()).where(among(runs.c.state, LIVE_RUN_STATES))
    ended = sa.select(runs.c.state, sa.func.count()).where(runs.c.ended_at >= now - _DAY)
    waiting = sa.select(sa.func.min(runs.c.expected_at)).where(
        among(runs.c.state, [RunState.QUEUED]), runs.c.started_at.is_(None)
    )
    newest = (
        sa.select(checkpoints.c.project_id, checkpoints.c.plan_id, sa.func.max(checkpoints.c.ended_at))
        .where(checkpoints.c.status.in_(RESTORABLE), checkpoints.c.ended_at.is_not(None))
        .group_by(checkpoints.c.project_id, checkpoints.c.plan_id)
        .limit(_MOST_PLANS)
    )
    return Figures(
        live_runs=_counts(connection, live),
        ended_runs=_counts(connection, ended),
        oldest_waiting_at=connection.execute(waiting).scalar(),
        next_due_at=due.next_due_at(connection),
        last_success_at={(project, plan): at for project, plan, at in connection.execute(newest)},
        outbox=outbox.count(connection),
    )


def _counts(connection: sa.Connection, query: sa.Select[Any]) -> dict[str, int]:
    rows = connection.execute(query.group_by(runs.c.state))
    return {str(state): int(count) for state, count in rows}
