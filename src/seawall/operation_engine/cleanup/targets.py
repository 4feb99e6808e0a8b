# SPDX-License-Identifier: Apache-2.0
"""What the clean-up cleans: each target is a name and a function of one transaction and a position.

What needs a bank is not done here: it becomes a ``system`` run that any host with room carries out (I1).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from seawall.core.errors import InvalidInputError
from seawall.core.retention import RULES, Candidate, decide, parse_retention
from seawall.core.states import SERVICE_DOWN_AFTER, RunKind
from seawall.db import checkpoints, cleanup_rows, events, leases, outbox, run_rows, runs, services
from seawall.db.audit import SYSTEM_USER
from seawall.db.cleanup_rows import FailedCheckpoint, RetentionScope
from seawall.db.runs import NewRun
from seawall.runtime.logging import get_logger

if TYPE_CHECKING:
    from seawall.db.session import Tx

log = get_logger(__name__)

_CHUNK = 500
_RETENTION = ("retention_protect", "retention")
# A run that was of no use is not repeated sooner than this; after each failure in a row twice as late, up to
# a day.
_REPEAT = timedelta(hours=1)
_DAY = timedelta(days=1)
# After deletes a repository is maintained sooner: what they freed is to be free.
_AFTER_DELETES = timedelta(hours=1)
_DEAD_SERVICE = timedelta(days=30)
_IDEMPOTENCY_KEY = timedelta(days=2)
# What no broker could be told for so long is old news.
_OUTBOX = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Done:
    """What one transaction of a target did."""

    cleaned: int = 0
    """How many rows it removed or ended itself."""
    runs: int = 0
    """How many runs it has made, which are to clean what needs a bank."""
    failing: Mapping[str, str] = field(default_factory=dict)
    """What its runs have failed at so far, and why: tried again later."""
    next_position: int | None = None
    """Go on from here; None when the target is clean."""


@dataclass(frozen=True, slots=True)
class Target:
    """One thing that is kept clean."""

    name: str
    clean: Callable[[Tx, int], Done]
    """From a position (0 at first); may be called again after a failure, and changes rows only."""


def targets(*, keep_runs: timedelta, error_checkpoints: timedelta) -> tuple[Target, ...]:
    """All of them, in the order of a pass."""
    return (
        Target("silent_services", _notice_silent),
        Target("interrupted", _end_interrupted),
        Target("expired_checkpoints", _expire),
        Target("failed_checkpoints", partial(_delete_failed, age=error_checkpoints)),
        Target("begun_deletes", _finish_deletes),
        Target("repositories", _maintain),
        Target("old_runs", partial(_delete_runs, age=keep_runs)),
        Target("leases", _remove_leases),
        Target("services", _remove_services),
        Target("idempotency_keys", _remove_idempotency_keys),
        Target("event_receipts", partial(_remove_receipts, age=keep_runs)),
        Target("outbox", _trim_outbox),
    )


def _notice_silent(tx: Tx, _position: int) -> Done:
    """Services that were killed are down, and told to be: nobody else can say it."""
    for service in services.notice_dead(tx, before=tx.now - SERVICE_DOWN_AFTER):
        log.warning("a service is down", service=service)
    return Done()


def _end_interrupted(tx: Tx, _position: int) -> Done:
    return Done(sum(len(ids) for ids in run_rows.end_interrupted(tx).values()))


# --- checkpoints -------------------------------------------------------------------------------


def _expire(tx: Tx, position: int) -> Done:
    """A ``retention`` run for each scope in which something has expired, by age or by count (I6)."""
    scopes = cleanup_rows.retention_scopes(tx.connection, _RETENTION, after_row=position, limit=_CHUNK)
    following = scopes[-1].row if len(scopes) == _CHUNK else None
    return _ask(tx, [_retention_run(tx, scope) for scope in scopes], following)


def _retention_run(tx: Tx, scope: RetentionScope) -> NewRun | None:
    rules = {name: scope.definition[name] for name in RULES if name in scope.definition}
    of_operation = str(scope.definition.get("scheduled_operation_id", scope.operation_id))
    try:
        retention = parse_retention(rules)
    except InvalidInputError as error:
        # Refused at creation; a newer version may be stricter. The scope's own runs fail and say so, too.
        log.warning("rules cannot be read", scheduled_operation_id=scope.operation_id, reason=str(error))
        return None
    if not retention.is_active:
        return None
    there = checkpoints.in_scope(tx.connection, plan_id=scope.plan_id, scheduled_operation_id=of_operation)
    candidates = [Candidate(one.id, one.created_at, one.status, one.verified_at, one.pinned) for one in there]
    expired = sorted(one.id for one in decide(retention, candidates, now=tx.now) if not one.is_kept)
    if not expired:
        return None
    definition: dict[str, Any] = {
        "plan_id": scope.plan_id,
        "provider_id": scope.definition["provider_id"],
        "scheduled_operation_id": of_operation,
        **rules,
    }
    return NewRun(
        project_id=scope.project_id,
        user_id=scope.user_id,
        kind=RunKind.SYSTEM,
        subject_type="scheduled_operation",
        subject_id=scope.operation_id,
        # The same expired ones are tried again after a while; others at once.
        occurrence=f"expired {_digest(expired)} {_bucket(tx.now, _REPEAT)}",
        operation_type="retention",
        definition=definition,
        expected_at=tx.now,
        scheduled_operation_id=scope.operation_id,
        plan_id=scope.plan_id,
        host=scope.host,
        lock_key=runs.scope_lock(of_operation),
    )


def _delete_failed(tx: Tx, _position: int, *, age: timedelta) -> Done:
    """A ``delete`` run for each checkpoint that has been in ``error`` for longer than ``age``."""
    found = cleanup_rows.failed_checkpoints(tx.connection, tx.now - age)
    return _ask(tx, [_delete_run(tx, one) for one in found])


def _finish_deletes(tx: Tx, _position: int) -> Done:
    """A ``delete`` run for each delete that was begun and that no run goes on with."""
    found = cleanup_rows.abandoned_deletes(tx.connection)
    return _ask(tx, [_delete_run(tx, one) for one in found])


def _delete_run(tx: Tx, found: FailedCheckpoint) -> NewRun:
    checkpoint = found.checkpoint
    return NewRun(
        project_id=checkpoint.project_id,
        user_id=SYSTEM_USER,
        kind=RunKind.SYSTEM,
        subject_type="checkpoint",
        subject_id=checkpoint.id,
        occurrence=f"delete {_bucket(tx.now, _REPEAT)}",
        operation_type="delete",
        definition={"checkpoint_id": checkpoint.id},
        expected_at=tx.now,
        plan_id=checkpoint.plan_id,
        host=found.host,
    )


def _maintain(tx: Tx, _position: int) -> Done:
    """A ``maintain`` run for each repository, once a day, or sooner after deletes."""
    found = cleanup_rows.due_repositories(tx.connection, now=tx.now, every=_DAY, after_deletes=_AFTER_DELETES)
    new = [
        NewRun(
            project_id=one.project_id,
            user_id=SYSTEM_USER,
            kind=RunKind.SYSTEM,
            subject_type="repository",
            subject_id=one.id,
            occurrence=f"maintain {_bucket(tx.now, _REPEAT)}",
            operation_type="maintain",
            definition={"repository_id": one.id},
            expected_at=tx.now,
            lock_key=runs.scope_lock(one.id),
        )
        for one in found
    ]
    return _ask(tx, new)


def _ask(tx: Tx, wanted: Iterable[NewRun | None], next_position: int | None = None) -> Done:
    """Make those runs whose turn it is: none for the same lives, and the last one is long enough ago."""
    new, failing = [], {}
    for run in wanted:
        if run is None:
            continue
        # Without the stretch of time that it was made in: those before count.
        same = run.occurrence.rpartition(" ")[0] + " "
        tried = cleanup_rows.attempts(
            tx.connection, subject_id=run.subject_id, operation_type=run.operation_type, occurrence=same
        )
        if tried.failures:
            what = f"{run.operation_type} of {run.subject_type.replace('_', ' ')} {run.subject_id}"
            failing[what] = tried.reason
        if not tried.is_live and (tried.ended_at is None or tried.ended_at + _wait(tried.failures) <= tx.now):
            new.append(run)
    runs.insert_all(tx, new)
    return Done(runs=len(new), failing=failing, next_position=next_position)


def _wait(failures: int) -> timedelta:
    return min(_REPEAT * (1 << max(failures - 1, 0)), _DAY)


# --- rows --------------------------------------------------------------------------------------


def _delete_runs(tx: Tx, position: int, *, age: timedelta) -> Done:
    count = cleanup_rows.delete_old_runs(tx, before=tx.now - age, limit=_CHUNK)
    return Done(count, next_position=position + 1 if count == _CHUNK else None)


def _remove_leases(tx: Tx, _position: int) -> Done:
    return Done(leases.remove_ended(tx))


def _remove_services(tx: Tx, _position: int) -> Done:
    return Done(cleanup_rows.delete_dead_services(tx, before=tx.now - _DEAD_SERVICE))


def _remove_idempotency_keys(tx: Tx, _position: int) -> Done:
    return Done(cleanup_rows.delete_old_idempotency_keys(tx, before=tx.now - _IDEMPOTENCY_KEY))


def _remove_receipts(tx: Tx, position: int, *, age: timedelta) -> Done:
    count = events.delete_receipts(tx, before=tx.now - age, limit=_CHUNK)
    return Done(count, next_position=position + 1 if count == _CHUNK else None)


def _trim_outbox(tx: Tx, _position: int) -> Done:
    count = outbox.trim(tx, before=tx.now - _OUTBOX)
    if count:
        log.warning("events were given up: the broker could not be told for too long", events=count)
    return Done(count)


def _digest(ids: list[str]) -> str:
    return hashlib.sha256(" ".join(ids).encode()).hexdigest()[:16]


def _bucket(now: datetime, width: timedelta) -> str:
    """The stretch of time that an instant lies in: work is done at most once in each."""
    seconds = int(now.timestamp()) // int(width.total_seconds()) * int(width.total_seconds())
    return datetime.fromtimestamp(seconds, now.tzinfo).strftime("%Y-%m-%dT%H:%MZ")
