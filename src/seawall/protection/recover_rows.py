# SPDX-License-Identifier: Apache-2.0
"""The rows of a recovery, inserted in one transaction: what the newest policies say, and every checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from seawall.core.errors import ConflictError, NotFoundError
from seawall.core.records import Checkpoint, Plan, Repository, ScheduledOperation, Trigger
from seawall.core.states import CheckpointStatus
from seawall.db import audit, checkpoints, plans, projects, scheduled_operations, triggers
from seawall.db import repositories as repository_rows
from seawall.db.scheduled_operations import NewOperation
from seawall.protection import repositories
from seawall.protection.policy import Policy

if TYPE_CHECKING:
    from seawall.db.session import Tx
    from seawall.runtime.secrets import InstallKey


@dataclass(frozen=True, slots=True)
class FoundCheckpoint:
    """What a snapshot says of itself."""

    row: Checkpoint
    """As it is to be."""
    policy: Policy


@dataclass(frozen=True, slots=True, repr=False)
class FoundRepository:
    """A repository that was opened and read."""

    id: str
    format_id: str
    key: str
    """The recovery key that opened it."""
    checkpoints: tuple[FoundCheckpoint, ...]
    """One for each checkpoint, the oldest first."""


@dataclass(slots=True)
class Counts:
    """How much was inserted."""

    checkpoints: int = 0
    plans: int = 0
    triggers: int = 0
    operations: int = 0
    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def insert_all(
    tx: Tx,
    install_key: InstallKey,
    found: Sequence[FoundRepository],
    *,
    host: str,
) -> Counts:
    """Insert everything; what contradicts what is there already becomes a fault. Changes nothing but rows."""
    counts = Counts()
    faults = counts.faults
    policies = _newest_policies(found)
    _insert_projects(tx, found, counts)
    for repository in found:
        _insert_repository(tx, install_key, repository, faults)
    pinned = _to_pin(found)
    for repository in found:
        for one in repository.checkpoints:
            row = replace(one.row, pinned=one.row.id in pinned)
            if checkpoints.insert_recovered(tx, row):
                counts.checkpoints += 1
            else:
                faults.append(f"checkpoint {row.id} in repository {repository.id} is there twice")
    for policy in policies:
        bound = _host_of(policy.plan, host)
        plans.insert(tx, replace(policy.plan, host=bound))
        counts.plans += 1
        for trigger in policy.triggers:
            counts.triggers += _insert_trigger(tx, trigger)
        for operation in policy.operations:
            counts.operations += _insert_operation(tx, operation, policy, bound, faults)
    audit.record(
        tx,
        None,
        "recover",
        "install",
        "bank",
        {"checkpoints": counts.checkpoints, "plans": counts.plans, "operations": counts.operations},
    )
    if pinned:
        counts.notes.append(
            f"the newest good checkpoint of each plan is pinned ({len(pinned)} in all); "
            "unpin them once the data is back"
        )
    return counts


def _newest_policies(found: Sequence[FoundRepository]) -> list[Policy]:
    """The policy of the newest checkpoint of each plan."""
    newest: dict[str, FoundCheckpoint] = {}
    for repository in found:
        for one in repository.checkpoints:
            known = newest.get(one.policy.plan.id)
            if known is None or one.row.created_at >= known.row.created_at:
                newest[one.policy.plan.id] = one
    return [one.policy for one in sorted(newest.values(), key=lambda one: one.policy.plan.created_at)]


def _to_pin(found: Sequence[FoundRepository]) -> frozenset[str]:
    """The newest clean checkpoint of each plan; of a plan without one, the newest that can be restored."""
    best: dict[str, Checkpoint] = {}
    for repository in found:
        for one in (each.row for each in repository.checkpoints):
            known = best.get(one.plan_id)
            if known is None or _rank(one) > _rank(known):
                best[one.plan_id] = one
    return frozenset(one.id for one in best.values())


def _rank(one: Checkpoint) -> tuple[bool, float]:
    return one.status == CheckpointStatus.AVAILABLE, one.created_at.timestamp()


def _host_of(plan: Plan, host: str) -> str | None:
    """This host, unless the plan is bound to none, or its resources name theirs: that may still be there."""
    is_named = any("host" in (one.get("extra_info") or {}) for one in plan.resources)
    return plan.host if plan.host is None or is_named else host


def _insert_projects(tx: Tx, found: Sequence[FoundRepository], counts: Counts) -> None:
    """Each project under its id. Its name may be taken, when two installations shared the bank."""
    names: dict[str, str] = {}
    for repository in found:
        for one in repository.checkpoints:
            names[one.policy.project_id] = one.policy.project_name
    for project_id, name in names.items():
        try:
            projects.create(tx, name, project_id=project_id)
        except ConflictError:
            other = f"{name}-{project_id[:8]}"
            projects.create(tx, other, project_id=project_id)
            counts.notes.append(
                f"there are two projects {name!r}; that of the id {project_id} is {other!r} now"
            )


def _insert_repository(tx: Tx, install_key: InstallKey, found: FoundRepository, faults: list[str]) -> None:
    """Its row. The recovery key is its password from now on: the former password was in the lost database
    alone, and the bank is not written."""
    if not found.checkpoints:
        faults.append(f"repository {found.id} holds no checkpoint of Seawall, so nobody's plan uses it")
        return
    policy = found.checkpoints[-1].policy
    wanted = Repository(
        id=found.id,
        provider_id=policy.provider_id,
        project_id=policy.project_id,
        group=policy.group,
        format_id=found.format_id,
        created_at=found.checkpoints[0].row.created_at,
        # The kit that was used just now is the copy that is kept elsewhere.
        kit_acknowledged_at=tx.now,
    )
    sealed = repositories.sealed(install_key, found.id, password=found.key, recovery_key=found.key)
    stored = repository_rows.insert(tx, wanted, sealed)
    if stored.id != found.id:
        faults.append(
            f"repository {found.id} is that of the same provider, project and group as {stored.id}, which is "
            "used; its checkpoints are listed and cannot be restored here"
        )


def _insert_trigger(tx: Tx, trigger: Trigger) -> int:
    """A trigger that several plans use comes with each of them. It is due from now on, not from before."""
    try:
        triggers.get(tx.connection, trigger.id, project_id=None)
        return 0
    except NotFoundError:
        pass
    triggers.insert(
        tx,
        trigger_id=trigger.id,
        project_id=trigger.project_id,
        name=trigger.name,
        type=trigger.type,
        properties=trigger.properties,
        next_run_at=None,  # the operation engine gives it one when it starts (M3)
    )
    if trigger.paused_at is not None:
        triggers.update(
            tx,
            trigger.id,
            paused_at=trigger.paused_at,
            paused_reason=trigger.paused_reason,
            paused_until_at=trigger.paused_until_at,
        )
    return 1


def _insert_operation(
    tx: Tx, operation: ScheduledOperation, policy: Policy, host: str | None, faults: list[str]
) -> int:
    try:
        scheduled_operations.insert(
            tx,
            NewOperation(
                id=operation.id,
                project_id=operation.project_id,
                user_id=operation.user_id,
                name=operation.name,
                description=operation.description,
                operation_type=operation.operation_type,
                trigger_id=operation.trigger_id,
                definition=operation.operation_definition,
                plan_id=policy.plan.id,
                host=host,
                enabled=operation.enabled,
                overlap=operation.overlap,
                timeout_s=operation.timeout_s,
                priority=operation.priority,
                retry_max_attempts=operation.retry_max_attempts,
                retry_delay_s=operation.retry_delay_s,
            ),
        )
    except NotFoundError as error:
        faults.append(f"scheduled operation {operation.id} ({operation.name}): {error}")
        return 0
    return 1
