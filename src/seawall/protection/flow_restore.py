# SPDX-License-Identifier: Apache-2.0
"""Restore: the resources of a checkpoint come back, one journaled step each.

The checkpoint is held by a reader lease, renewed while the work goes on, so that no delete takes it away. If
the process dies here, the lease ends by itself, and a resumed run goes on at the first resource that is not
journaled; writing one again is harmless.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from seawall.core import graph
from seawall.core.errors import (
    CancelledError,
    LeaseLostError,
    RunError,
    SeawallError,
    StateError,
    TimedOutError,
)
from seawall.core.records import Checkpoint, Json, Restore
from seawall.core.states import RestoreStatus
from seawall.db import checkpoints, leases, restores
from seawall.protection.flow import parameters_of
from seawall.protection.flow_ground import Ground

if TYPE_CHECKING:
    from seawall.protection.movers.pool import Mover
    from seawall.sdk.operation import OperationContext

RESTORED: Final = "restored"
RESTORING: Final = "restoring"
SKIPPED: Final = "skipped"
FAILED: Final = "fail"
_STOPPING: Final = (CancelledError, TimedOutError, LeaseLostError)


class ReaderLease:
    """Holds a checkpoint for reading; ``check`` renews it when it is time."""

    def __init__(self, ground: Ground, checkpoint_id: str, holder: str) -> None:
        self._ground = ground
        self._checkpoint_id = checkpoint_id
        self._holder = holder
        self._renew_at: datetime | None = None

    def check(self) -> None:
        """Renew it if a third of its time has gone; ``StateError`` when the checkpoint is no longer there."""
        now = self._ground.clock.now()
        if self._renew_at is not None and now < self._renew_at:
            return
        until = now + timedelta(seconds=self._ground.lease_s)
        is_held = self._ground.database.write(
            "checkpoints.read",
            lambda tx: checkpoints.acquire_reader(tx, self._checkpoint_id, self._holder, until),
        )
        if not is_held:
            raise StateError(
                f"checkpoint {self._checkpoint_id} cannot be read: it is being deleted, or is gone"
            )
        self._renew_at = now + timedelta(seconds=self._ground.lease_s / 3)

    def release(self) -> None:
        self._ground.database.write(
            "checkpoints.release",
            lambda tx: leases.release(tx, checkpoints.reader_lease(self._checkpoint_id), self._holder),
        )


class RestoreFlow:
    """One restore, by one run."""

    def __init__(self, ground: Ground, context: OperationContext, *, restore_id: str) -> None:
        self._ground = ground
        self._context = context
        self._restore_id = restore_id
        self._status: dict[str, str] = {}
        self._reason: dict[str, str] = {}
        self._figures: Json = {}
        self._done = [0, 0]

    def run(self) -> Json:
        """Bring it back; the figures. ``RunError`` when a resource did not come back whole; others did."""
        ground, context = self._ground, self._context
        restore = ground.database.read(
            lambda connection: restores.get(connection, self._restore_id, project_id=context.project_id)
        )
        if restore.status == RestoreStatus.SUCCESS:
            return restore.result or {}
        if restore.status != RestoreStatus.IN_PROGRESS:
            raise StateError(f"restore {restore.id} has ended already: {restore.reason}")
        try:
            self._restore(restore)
        except LeaseLostError:
            raise
        except SeawallError as error:
            self._finish(RestoreStatus.FAIL, str(error))
            raise
        failed = [f"{key}: {self._reason[key]}" for key, word in self._status.items() if word == FAILED]
        if failed:
            reason = "; ".join(failed)
            self._finish(RestoreStatus.FAIL, reason)
            raise RunError(reason)
        self._finish(RestoreStatus.SUCCESS, None)
        return self._result()

    def _restore(self, restore: Restore) -> None:
        ground, context = self._ground, self._context
        checkpoint = ground.database.read(
            lambda connection: checkpoints.get(
                connection, restore.checkpoint_id, project_id=context.project_id
            )
        )
        lease = ReaderLease(ground, checkpoint.id, f"run:{context.run_id}")

        def check() -> None:
            context.check()
            lease.check()

        check()
        try:
            place = ground.place(ground.repository(checkpoint.repository_id))
            targets = _targets(checkpoint.resources, restore.restore_target)
            for number in graph.order(checkpoint.resources):
                resource = checkpoint.resources[number]
                key = f"{resource['type']}#{resource['id']}"
                self._status[key] = RESTORING
                options = parameters_of(restore.parameters, resource)
                if options.pop("skip", False):
                    self._status[key] = SKIPPED
                    continue
                try:
                    self._step(number, resource, key, targets[number], options, place, check)
                except _STOPPING:
                    raise
                except SeawallError as error:  # the others can still come back
                    context.log("error", f"{key}: {error}")
                    self._status[key], self._reason[key] = FAILED, str(error)
                self._show()
        finally:
            lease.release()

    def _step(
        self,
        number: int,
        resource: Mapping[str, object],
        key: str,
        target: str | None,
        options: Json,
        place: Json,
        check: object,
    ) -> None:
        context = self._context
        assert callable(check)
        figures = context.journal.get(f"restore:{number}")
        if figures is None:
            tree_id = resource.get("tree_id")
            if not tree_id:
                raise StateError("the checkpoint holds nothing of it")
            with self._ground.movers.use(check) as mover:
                figures = self._ask(mover, resource, target, options, place, check)
            context.journal.record(f"restore:{number}", figures)
        self._figures[key] = figures
        self._done[0] += figures["bytes"]
        self._done[1] += figures["items"]
        if figures["fault_count"]:
            faults: Sequence[str] = figures["faults"]
            more = f" and {figures['fault_count'] - 1} more" if figures["fault_count"] > 1 else ""
            for fault in faults:
                context.log("error", f"{key}: {fault}")
            self._status[key] = FAILED
            self._reason[key] = f"{faults[0]}{more}"
        else:
            self._status[key] = RESTORED
            context.log("info", f"{key}: {figures['items']} items are back at {figures['target']}")

    def _ask(
        self,
        mover: Mover,
        resource: Mapping[str, object],
        target: str | None,
        options: Json,
        place: Json,
        check: object,
    ) -> Json:
        assert callable(check)
        before = tuple(self._done)
        self._context.confirm_lease()
        return mover.call(
            "restore",
            {
                **self._ground.access(mover, self._context),
                "place": place,
                "resource": {"type": resource["type"], "id": resource["id"], "name": resource["name"]},
                "tree_id": resource["tree_id"],
                "target": target,
                "options": options,
            },
            check=check,
            progress=lambda done_bytes, done_items: self._context.progress(
                done_bytes=before[0] + done_bytes,
                done_items=before[1] + done_items,
                text=f"{resource['type']} {resource['name']}",
            ),
        )

    def _show(self) -> None:
        status, reason = dict(self._status), dict(self._reason)
        self._ground.database.write(
            "restores.show",
            lambda tx: restores.show(tx, self._restore_id, resources_status=status, resources_reason=reason),
        )

    def _result(self) -> Json:
        return {"bytes": self._done[0], "items": self._done[1], "resources": self._figures}

    def _finish(self, status: str, reason: str | None) -> None:
        words = {key: FAILED if word == RESTORING else word for key, word in self._status.items()}
        self._ground.database.write(
            "restores.finish",
            lambda tx: restores.finish(
                tx,
                self._restore_id,
                status=status,
                reason=reason,
                resources_status=words,
                resources_reason=self._reason,
                result=self._result(),
            ),
        )


def _targets(resources: Sequence[Json], target: str | None) -> list[str | None]:
    """Where each resource goes: into the target itself, or into its folder there when names clash."""
    if target is None:
        return [None] * len(resources)
    names = [str((one.get("details") or {}).get("name", one["name"])) for one in resources]
    count = Counter(names)
    return [
        target if count[name] == 1 else f"{target.rstrip('/')}/{one['folder']}"
        for name, one in zip(names, resources, strict=True)
    ]


def tree_of(checkpoint: Checkpoint, key: str) -> str | None:
    """The tree of a resource of a checkpoint."""
    found = [one for one in checkpoint.resources if f"{one['type']}#{one['id']}" == key]
    return found[0].get("tree_id") if found else None
