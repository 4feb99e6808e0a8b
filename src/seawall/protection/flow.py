# SPDX-License-Identifier: Apache-2.0
"""Protect: one plan becomes one snapshot, and that one checkpoint (I5).

    row (protecting) -> a step for each resource, journaled -> lease confirmed -> snapshot -> row (available)

A step is journaled while the mover is at the next one, and the lock on the repository goes while the row is
written: neither waits for the other's disk. The last step is journaled only if it made its bytes durable by
itself: else its tree is in no index before the commit, and a resumed run does it again, journaled or not.

If the process dies before the snapshot, a resumed run asks the index for every journaled tree and does again
what is not whole. If it dies between snapshot and row, the resumed run finds the snapshot by the run's tag
and writes the row from the manifest in it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from seawall.core import graph
from seawall.core.errors import (
    CancelledError,
    DamagedError,
    LeaseLostError,
    NotFoundError,
    RunError,
    SeawallError,
    StateError,
)
from seawall.core.records import Checkpoint, Json, Plan, Repository
from seawall.core.states import RESTORABLE, CheckpointStatus
from seawall.db import checkpoints, plans, run_rows
from seawall.db import repositories as repository_rows
from seawall.protection import flow_manifest, repositories
from seawall.protection.flow_ground import Ground
from seawall.protection.policy import policy_of
from seawall.runtime.logging import get_logger
from seawall.sdk.operation import CheckpointOutcome

if TYPE_CHECKING:
    from seawall.db.session import Connection
    from seawall.protection.movers.pool import Mover
    from seawall.sdk.operation import OperationContext

log = get_logger(__name__)

_NOT_A_NAME: Final = re.compile(r"[^\w.@+ -]+")
_MOST_WARNINGS: Final = 20
_NAME_LENGTH: Final = 100


@dataclass(frozen=True, slots=True)
class _Totals:
    """What the steps before this one have done."""

    bytes: int = 0
    items: int = 0


class ProtectFlow:
    """One protect, by one run."""

    def __init__(self, ground: Ground, context: OperationContext, *, plan_id: str, provider_id: str) -> None:
        self._ground = ground
        self._context = context
        self._plan_id = plan_id
        self._provider_id = provider_id
        self._totals = _Totals()
        self._unrecorded: tuple[str, Json] | None = None

    def run(self) -> CheckpointOutcome:
        """Make the checkpoint, or finish the one that this run has begun.

        An error leaves it in ``error`` with the reason, unless the lease is lost: then nothing is recorded.
        """
        plan, repository, checkpoint = self._begin()
        if checkpoint.status in RESTORABLE:
            return _outcome(checkpoint)
        try:
            return self._make(plan, repository, checkpoint)
        except LeaseLostError:
            raise
        except SeawallError as error:
            self._fail(checkpoint, error)
            raise

    # --- the row ---------------------------------------------------------------------------------

    def _begin(self) -> tuple[Plan, Repository, Checkpoint]:
        ground, context = self._ground, self._context
        known, plan, found = ground.database.read(self._look)
        repository = found or repositories.ensure(
            ground.database,
            ground.install_key,
            provider_id=self._provider_id,
            project_id=plan.project_id,
        )
        if known is None:
            new = checkpoints.NewCheckpoint(
                project_id=plan.project_id,
                provider_id=self._provider_id,
                plan_id=plan.id,
                plan_name=plan.name,
                repository_id=repository.id,
                resources=plan.resources,
                scheduled_operation_id=context.scheduled_operation_id,
                run_id=context.run_id,
                extra_info={"created_by": context.kind},
            )
            known = ground.database.write("checkpoints.insert", lambda tx: checkpoints.insert(tx, new))
        if known.status == CheckpointStatus.ERROR:
            known = self._again(known)
        if known.status not in (CheckpointStatus.PROTECTING, *RESTORABLE):
            raise StateError(f"checkpoint {known.id} is {known.status}; it cannot be made any more")
        return plan, repository, known

    def _look(self, connection: Connection) -> tuple[Checkpoint | None, Plan, Repository | None]:
        """What there is already: the run's checkpoint, the plan, the repository."""
        project_id = self._context.project_id
        known = checkpoints.by_run(connection, self._context.run_id) or self._promised(connection)
        plan = plans.get_even_deleted(connection, self._plan_id, project_id=project_id)
        repository = repository_rows.find(
            connection,
            provider_id=self._provider_id,
            project_id=plan.project_id,
            group=repositories.DEFAULT_GROUP,
        )
        return known, plan, repository

    def _promised(self, connection: Connection) -> Checkpoint | None:
        """The checkpoint that the run's definition names."""
        context = self._context
        try:
            run = run_rows.get(connection, context.run_id, project_id=context.project_id)
        except NotFoundError:
            return None  # a run that has no row, in a test or a tool
        promised = run.definition.get("checkpoint_id")
        if promised is None:
            return None
        return checkpoints.get(connection, promised, project_id=context.project_id)

    def _again(self, known: Checkpoint) -> Checkpoint:
        """A run that is tried again takes up the checkpoint that its former attempt failed to make."""

        def retry(tx: Any) -> Checkpoint:
            checkpoints.retry(tx, known.id)
            return checkpoints.get(tx.connection, known.id, project_id=None)

        return self._ground.database.write("checkpoints.retry", retry)

    def _fail(self, checkpoint: Checkpoint, error: SeawallError) -> None:
        reason = "it was cancelled" if isinstance(error, CancelledError) else str(error)
        self._ground.database.write(
            "checkpoints.fail", lambda tx: checkpoints.fail(tx, checkpoint.id, reason)
        )

    # --- the bytes -------------------------------------------------------------------------------

    def _make(self, plan: Plan, repository: Repository, checkpoint: Checkpoint) -> CheckpointOutcome:
        ground, context = self._ground, self._context
        with ground.movers.use(context.check) as mover:
            repository = ground.make(mover, repository, context.check)
            place = ground.place(repository)
            if context.run_type == "resume":
                adopted = self._adopt(mover, place, checkpoint)
                if adopted is not None:
                    return adopted
            mover.ask("begin", {"place": place})
            try:
                parents = self._parents(plan, repository)
                access = ground.access(mover, context)
                mover.answer(check=context.check)
                resources = self._resources(mover, plan, checkpoint, parents, access)
                made = self._commit(mover, plan, repository, checkpoint, resources)
            except BaseException:
                if mover.is_free:
                    mover.call("end", {})
                raise
            mover.ask("end", {})
            outcome = self._finish(made)
            mover.answer()
            return outcome

    def _adopt(self, mover: Mover, place: Json, checkpoint: Checkpoint) -> CheckpointOutcome | None:
        """The snapshot that this run has already made, if its former attempt came so far."""
        context = self._context
        asked = {"place": place, "tags": [f"run:{context.run_id}"]}
        found = mover.call("snapshots", asked, check=context.check)["snapshots"]
        if not found:
            return None
        snapshot_id = found[0]["id"]
        answer = mover.call("manifest", {"place": place, "snapshot_id": snapshot_id}, check=context.check)
        made, _ = flow_manifest.parse(answer["manifest"], snapshot_id=snapshot_id)
        if made.id != checkpoint.id:
            raise DamagedError(
                f"snapshot {snapshot_id[:16]} has the tag of this run and is of checkpoint {made.id}"
            )
        context.log("info", f"snapshot {snapshot_id[:16]} was made before the interruption; it is adopted")
        return self._finish(made)

    def _resources(
        self,
        mover: Mover,
        plan: Plan,
        checkpoint: Checkpoint,
        parents: Mapping[graph.Key, str],
        access: Json,
    ) -> list[Json]:
        """A step for each resource, in the order of the graph; what each became, in the plan's order."""
        context = self._context
        taken = [dict(one) for one in checkpoint.resources]
        folders = folder_names(taken)
        valid = self._still_there(mover, len(taken))
        for number in graph.order(taken):
            resource = taken[number]
            context.check()
            step = f"resource:{number}"
            result = valid.get(step)
            if result is None:
                result = self._step(mover, plan, resource, parents.get(graph.key_of(resource)), access)
                self._unrecorded = step, result
            self._totals = _Totals(
                self._totals.bytes + result["done_bytes"], self._totals.items + result["items"]
            )
            for path, reason in result["faults"][:_MOST_WARNINGS]:
                context.log("warning", f"{path}: {reason}")
            taken[number] = {**_plan_part(resource), "folder": folders[number], **_outcome_part(result)}
        return taken

    def _step(self, mover: Mover, plan: Plan, resource: Json, parent: str | None, access: Json) -> Json:
        context = self._context
        key = f"{resource['type']}#{resource['id']}"
        self._notice(resource)
        shown = [0, 0]

        def progress(done_bytes: int, done_items: int) -> None:
            shown[:] = [done_bytes, done_items]
            context.progress(
                done_bytes=self._totals.bytes + done_bytes,
                done_items=self._totals.items + done_items,
                text=f"{resource['type']} {resource['name']}",
            )

        mover.ask(
            "protect",
            {
                **access,
                "resource": {
                    **_plan_part(resource),
                    "parameters": parameters_of(plan.parameters, resource),
                },
                "parent_tree": parent,
            },
        )
        self._record()
        result = mover.answer(check=context.check, progress=progress)
        result["done_bytes"] = max(shown[0], result["read_bytes"])
        progress(result["done_bytes"], result["items"])
        context.log(
            "info",
            f"{key}: {result['items']} items, {result['read_bytes']} bytes read, "
            f"{result['added_bytes']} bytes new on the bank",
        )
        return result

    def _record(self, *, is_last: bool = False) -> None:
        """Journal the step that has ended. If the process dies before, the step is done again."""
        if self._unrecorded is not None:
            step, result = self._unrecorded
            if result["is_durable"] or not is_last:
                self._context.journal.record(step, result)
            self._unrecorded = None

    def _notice(self, resource: Json) -> None:
        """Say what lies in a resource and is always left out."""
        path = str(resource["id"])
        if path.startswith("/"):
            for place in self._ground.allowlist.excluded():
                if place.path.is_relative_to(path) and place.path.exists():
                    self._context.log("info", str(place))

    def _parents(self, plan: Plan, repository: Repository) -> dict[graph.Key, str]:
        """Each resource's tree in the newest good checkpoint: what is unchanged is not read again."""
        newest = self._ground.database.read(
            lambda connection: checkpoints.newest_good(
                connection, plan_id=plan.id, repository_id=repository.id
            )
        )
        if newest is None:
            return {}
        return {graph.key_of(one): one["tree_id"] for one in newest.resources if one.get("tree_id")}

    def _still_there(self, mover: Mover, count: int) -> dict[str, Json]:
        """The journaled steps whose trees are whole on the bank."""
        context = self._context
        journaled: dict[str, Json] = {}
        for number in range(count):
            found = context.journal.get(f"resource:{number}")
            if found is not None:
                journaled[f"resource:{number}"] = found
        if not journaled:
            return {}
        trees = [one["tree_id"] for one in journaled.values()]
        missing = mover.call("recheck", {"trees": trees}, check=context.check)["missing"]
        for reason in missing.values():
            context.log("info", f"a step from before the interruption is done again: {reason}")
        return {step: one for step, one in journaled.items() if one["tree_id"] not in missing}

    # --- the commit ------------------------------------------------------------------------------

    def _commit(
        self,
        mover: Mover,
        plan: Plan,
        repository: Repository,
        checkpoint: Checkpoint,
        resources: Sequence[Json],
    ) -> Checkpoint:
        """Write the snapshot; the checkpoint as its row is to be."""
        ground, context = self._ground, self._context
        warnings = _warnings(resources)
        now = context.now()
        made = replace(
            checkpoint,
            status=CheckpointStatus.AVAILABLE_WITH_WARNINGS if warnings else CheckpointStatus.AVAILABLE,
            reason="; ".join(warnings) or None,
            resources=tuple(resources),
            items=sum(one["items"] for one in resources),
            read_bytes=sum(one["read_bytes"] for one in resources),
            added_bytes=sum(one["added_bytes"] for one in resources),
            ended_at=now,
        )
        provider = ground.providers.get(repository.provider_id)
        policy = ground.database.read(
            lambda connection: policy_of(connection, plan, provider_name=provider.name, repository=repository)
        )
        mover.ask(
            "commit",
            {
                "resources": [{"folder": one["folder"], "tree_id": one["tree_id"]} for one in resources],
                "manifest": flow_manifest.render(made, policy),
                "hostname": ground.host,
                "paths": [str(one["id"]) for one in resources],
                "tags": tags_of(checkpoint),
                "time": now.isoformat(),
                "summary": {"total_files_processed": made.items, "total_bytes_processed": made.read_bytes},
            },
        )
        self._record(is_last=True)
        answer = mover.answer(check=context.check, confirm=context.confirm_lease)
        return replace(made, snapshot_id=answer["snapshot_id"])

    def _finish(self, made: Checkpoint) -> CheckpointOutcome:
        """Write the row of a snapshot that is on the bank. May be repeated."""
        snapshot_id = str(made.snapshot_id)
        is_ours = self._ground.database.write(
            "checkpoints.finish",
            lambda tx: checkpoints.finish(
                tx,
                made.id,
                status=made.status,
                snapshot_id=snapshot_id,
                resources=made.resources,
                items=made.items,
                read_bytes=made.read_bytes,
                added_bytes=made.added_bytes,
                reason=made.reason,
                extra_info=made.extra_info,
            ),
        )
        if not is_ours:
            raise StateError(
                f"checkpoint {made.id} was ended by somebody else; its snapshot goes when it is deleted"
            )
        return _outcome(made)


def tags_of(checkpoint: Checkpoint) -> list[str]:
    """The tags by which its snapshot is found."""
    found = [f"checkpoint:{checkpoint.id}", f"plan:{checkpoint.plan_id}"]
    return [*found, f"run:{checkpoint.run_id}"] if checkpoint.run_id else found


def parameters_of(parameters: Mapping[str, Any], resource: Mapping[str, Any]) -> Json:
    """What a plan or a restore says about a resource: of its type, and of itself, which wins."""
    kind, resource_id = graph.key_of(resource)
    return {**parameters.get(kind, {}), **parameters.get(f"{kind}#{resource_id}", {})}


def folder_names(resources: Sequence[Mapping[str, Any]]) -> list[str]:
    """A folder of the snapshot for each resource: type and name, and no two alike."""
    found: list[str] = []
    for resource in resources:
        name = _NOT_A_NAME.sub("_", str(resource.get("name") or resource["id"])).strip(" .")[:_NAME_LENGTH]
        wanted = f"{resource['type']}-{name or 'unnamed'}"
        number = 1
        one = wanted
        while one in found:
            number += 1
            one = f"{wanted}-{number}"
        found.append(one)
    return found


def _plan_part(resource: Mapping[str, Any]) -> Json:
    return {key: resource[key] for key in ("type", "id", "name", "extra_info") if key in resource}


def _outcome_part(result: Mapping[str, Any]) -> Json:
    is_clean = not result["fault_count"] and result["items"] > 0
    return {
        "status": CheckpointStatus.AVAILABLE if is_clean else CheckpointStatus.AVAILABLE_WITH_WARNINGS,
        **{name: result[name] for name in ("tree_id", "items", "read_bytes", "added_bytes", "details")},
        "faults": [f"{path}: {reason}" for path, reason in result["faults"]],
        "fault_count": result["fault_count"],
    }


def _warnings(resources: Sequence[Json]) -> list[str]:
    """What keeps the checkpoint from being clean (I8)."""
    found = []
    for one in resources:
        if one["fault_count"]:
            more = f" and {one['fault_count'] - 1} more" if one["fault_count"] > 1 else ""
            found.append(f"{one['type']} {one['name']}: {one['faults'][0]}{more}")
        elif one["items"] == 0:
            found.append(f"{one['type']} {one['name']}: nothing of it was backed up")
    if not resources:
        found.append("the plan has no resources")
    return found


def _outcome(checkpoint: Checkpoint) -> CheckpointOutcome:
    if checkpoint.snapshot_id is None:
        raise RunError(f"checkpoint {checkpoint.id} is {checkpoint.status} and has no snapshot")
    warnings = () if checkpoint.reason is None else tuple(checkpoint.reason.split("; "))
    return CheckpointOutcome(
        checkpoint.id,
        checkpoint.status,
        checkpoint.snapshot_id,
        checkpoint.items,
        checkpoint.read_bytes,
        checkpoint.added_bytes,
        warnings,
    )
