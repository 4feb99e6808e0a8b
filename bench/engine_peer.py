# SPDX-License-Identifier: Apache-2.0
"""APScheduler 3 with the same no-op jobs: its job store in the same kind of database, as many threads.

It hands a job to its threads first and stores the job's next time afterwards, each in a transaction of its
own. It keeps no record of what ran, so it writes one row for a job where the engine writes two.
"""

from __future__ import annotations

import logging
import pickle
import threading
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from apscheduler.events import EVENT_JOB_SUBMITTED
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.job import Job
from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.interval import IntervalTrigger

from bench.engine_ground import WORKERS, database_of, due_soon, wait_for
from seawall.runtime.clock import SystemClock

_clock = SystemClock()
_begun: list[datetime] = []


@dataclass(frozen=True, slots=True)
class PeerBurst:
    """What became of the jobs that were due at one instant."""

    late_s: list[float]
    """From due to begun, sorted."""
    ends_per_s: float
    fires_per_s: float
    """Until all were handed to the threads and had their next times stored."""


def noop() -> None:
    """A job, which only says that it began."""
    _begun.append(_clock.now())


def peer_burst(kind: str, count: int) -> PeerBurst:
    """``count`` hourly jobs that are due at one instant."""
    logging.getLogger("apscheduler").setLevel(logging.ERROR)
    _begun.clear()
    with database_of(kind) as database:
        store = SQLAlchemyJobStore(engine=database.engine)
        scheduler = BackgroundScheduler(
            jobstores={"default": store}, executors={"default": ThreadPoolExecutor(WORKERS)}, timezone="UTC"
        )
        store.jobs_t.create(database.engine)
        due_at = due_soon(count)
        with database.exclusive("bench.jobs") as connection:
            connection.execute(
                store.jobs_t.insert(), [_row(scheduler, number, due_at) for number in range(count)]
            )
        fired = threading.Event()
        fired_at: list[datetime] = []

        def note(_event: Any) -> None:
            fired_at.append(_clock.now())
            fired.set()

        # Told once all that was due is handed over and stored.
        scheduler.add_listener(note, EVENT_JOB_SUBMITTED)
        scheduler.start()
        if _clock.now() > due_at:
            raise SystemExit(f"{count} jobs could not be stored before they were due")
        try:
            wait_for("the peer's jobs", lambda: fired.is_set() and len(_begun) == count)
        finally:
            scheduler.shutdown()
    late = sorted((at - due_at).total_seconds() for at in _begun)
    return PeerBurst(late, count / late[-1], count / (fired_at[0] - due_at).total_seconds())


def _row(scheduler: Any, number: int, due_at: datetime) -> dict[str, Any]:
    job = Job(
        scheduler, id=str(number), name="noop", func=noop, args=(), kwargs={}, executor="default",
        trigger=IntervalTrigger(hours=1, start_date=due_at, timezone="UTC"), misfire_grace_time=None,
        coalesce=True, max_instances=1, next_run_time=due_at,
    )  # fmt: skip
    state = pickle.dumps(job.__getstate__(), pickle.HIGHEST_PROTOCOL)
    return {"id": job.id, "next_run_time": due_at.timestamp(), "job_state": state}
