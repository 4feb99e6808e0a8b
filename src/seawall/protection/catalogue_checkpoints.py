# SPDX-License-Identifier: Apache-2.0
"""What a user may ask of checkpoints; each function is part of one write transaction.

A checkpoint that is asked for is a row and its run, or neither; the bytes are the run's business.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from uuid import uuid4

from seawall.core.caller import Caller
from seawall.core.errors import ConflictError, InUseError, InvalidInputError, StateError
from seawall.core.listing import ListQuery
from seawall.core.records import Checkpoint, Json, Plan, Run
from seawall.core.states import LIVE_RUN_STATES, RESTORABLE, CheckpointStatus, RunKind
from seawall.db import audit, checkpoints, leases, plans, run_rows, runs
from seawall.db.checkpoints import NewCheckpoint
from seawall.db.runs import NewRun
from seawall.protection import repositories

if TYPE_CHECKING:
    from seawall.db.session import Tx
    from seawall.runtime.secrets import InstallKey

MAX_KEY: Final = 255


def create(
    tx: Tx,
    caller: Caller,
    install_key: InstallKey,
    plan: Plan,
    *,
    extra_info: Json,
    idempotency_key: str | None,
) -> Checkpoint:
    """A checkpoint of a plan, ``protecting``, and the run that makes it.

    The same key again answers the checkpoint that is there, whatever has become of it.
    """
    if idempotency_key is not None and not 1 <= len(idempotency_key) <= MAX_KEY:
        raise InvalidInputError.of("idempotency_key", idempotency_key, f"must have 1 to {MAX_KEY} characters")
    # Again inside the transaction: the plan may have been deleted since it was looked at.
    plan = plans.get(tx.connection, plan.id, project_id=caller.project_id)
    checkpoint_id, run_id = str(uuid4()), str(uuid4())
    there = runs.insert(
        tx,
        NewRun(
            id=run_id,
            project_id=caller.project_id,
            user_id=caller.user_id,
            kind=RunKind.MANUAL,
            subject_type="plan",
            subject_id=plan.id,
            occurrence=idempotency_key or checkpoint_id,
            operation_type="protect",
            definition={
                "plan_id": plan.id,
                "provider_id": plan.provider_id,
                "checkpoint_id": checkpoint_id,
            },
            expected_at=tx.now,
            plan_id=plan.id,
            host=plan.host,
            # The scope of what is made by hand; scheduled operations have their own.
            lock_key=plan.id,
        ),
    )
    if there != run_id:
        known = checkpoints.by_run(tx.connection, there)
        if known is None:
            raise ConflictError(
                f"the idempotency key {idempotency_key!r} was used for something else of this plan"
            )
        return known
    repository = repositories.ensure_within(
        tx, install_key, provider_id=plan.provider_id, project_id=plan.project_id
    )
    made = checkpoints.insert(
        tx,
        NewCheckpoint(
            id=checkpoint_id,
            project_id=plan.project_id,
            provider_id=plan.provider_id,
            plan_id=plan.id,
            plan_name=plan.name,
            repository_id=repository.id,
            resources=plan.resources,
            run_id=run_id,
            extra_info={**extra_info, "created_by": "manual"},
        ),
    )
    audit.record(tx, caller, "create", "checkpoint", made.id, {"plan_id": plan.id, "run_id": run_id})
    return made


def delete(tx: Tx, caller: Caller, found: Checkpoint, *, host: str | None) -> Run:
    """Begin a delete: the row is ``deleting`` from now on, and a run removes the snapshot.

    ``InUseError`` while somebody reads it, ``ConflictError`` when it is pinned, ``StateError`` while it is
    made or when it is gone. May be repeated: the run that works on it is answered.
    """
    found = checkpoints.get(tx.connection, found.id, project_id=caller.project_id)
    if found.status == CheckpointStatus.PROTECTING:
        raise StateError(f"checkpoint {found.id} is still being made; cancel its run {found.run_id} first")
    if found.status == CheckpointStatus.DELETED:
        raise StateError(f"checkpoint {found.id} is deleted already")
    if found.pinned:
        raise ConflictError(f"checkpoint {found.id} is pinned; unpin it first")
    if not checkpoints.begin_delete(tx, found.id):
        readers = leases.holders(tx.connection, checkpoints.reader_lease(found.id), tx.now)
        raise InUseError(
            f"checkpoint {found.id} is being read by {', '.join(readers) or 'somebody'}; try again afterwards"
        )
    if (live := _live_delete(tx, found)) is not None:
        return live
    run_id = runs.insert(
        tx,
        NewRun(
            project_id=found.project_id,
            user_id=caller.user_id,
            kind=RunKind.DELETE,
            subject_type="checkpoint",
            subject_id=found.id,
            occurrence=str(uuid4()),
            operation_type="delete",
            definition={"checkpoint_id": found.id},
            expected_at=tx.now,
            plan_id=found.plan_id,
            host=host,
        ),
    )
    audit.record(tx, caller, "delete", "checkpoint", found.id, {"run_id": run_id})
    return run_rows.get(tx.connection, run_id, project_id=found.project_id)


def reset(tx: Tx, caller: Caller, found: Checkpoint, status: str) -> Checkpoint:
    """Karbor's reset, as far as the states allow it; the caller has had the structure checked."""
    if status == found.status or (status == CheckpointStatus.AVAILABLE and found.status in RESTORABLE):
        return found
    if status == CheckpointStatus.AVAILABLE:
        is_moved = found.status == CheckpointStatus.ERROR and checkpoints.move(
            tx, found.id, before=CheckpointStatus.ERROR, after=CheckpointStatus.AVAILABLE, reason=None
        )
    else:
        is_moved = checkpoints.lose(tx, found.id, f"{caller.user_id} has said that it is no good")
    if not is_moved:
        now = checkpoints.get(tx.connection, found.id, project_id=caller.project_id).status
        raise StateError(f"checkpoint {found.id} is {now} and cannot be reset to {status}")
    audit.record(tx, caller, "reset", "checkpoint", found.id, {"from": found.status, "to": status})
    return checkpoints.get(tx.connection, found.id, project_id=caller.project_id)


def pin(tx: Tx, caller: Caller, found: Checkpoint, *, is_pinned: bool) -> Checkpoint:
    """Keep it whatever retention says, or no longer; ``StateError`` once its delete has begun."""
    if not checkpoints.set_pinned(tx, found.id, is_pinned=is_pinned):
        raise StateError(f"checkpoint {found.id} is {found.status} and cannot be kept any more")
    if found.pinned != is_pinned:
        audit.record(tx, caller, "pin" if is_pinned else "unpin", "checkpoint", found.id)
    return checkpoints.get(tx.connection, found.id, project_id=caller.project_id)


def _live_delete(tx: Tx, found: Checkpoint) -> Run | None:
    query = ListQuery(limit=10, filters={"subject_id": found.id, "kind": RunKind.DELETE})
    page = run_rows.page(tx.connection, query, project_id=found.project_id)
    return next((run for run in page.items if run.state in LIVE_RUN_STATES), None)
