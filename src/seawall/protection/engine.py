# SPDX-License-Identifier: Apache-2.0
"""ProtectionEngine: what operations may ask of the protection side (``sdk.operation.Protection``).

Every call works for one run, may be repeated after a crash, and moves bytes only through movers.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from seawall.core.errors import NotFoundError
from seawall.core.records import Checkpoint, Json
from seawall.protection.downloads import HELD_S, Downloads
from seawall.protection.expiry import Expiry
from seawall.protection.flow import ProtectFlow
from seawall.protection.flow_ground import Ground
from seawall.protection.flow_maintain import MaintainFlow
from seawall.protection.flow_restore import RestoreFlow

if TYPE_CHECKING:
    from seawall.db.session import Database
    from seawall.protection.allowlist import AllowList
    from seawall.protection.movers.pool import MoverPool
    from seawall.protection.providers import Providers
    from seawall.runtime.secrets import InstallKey
    from seawall.sdk.clock import Clock
    from seawall.sdk.operation import CheckpointOutcome, ExpiryOutcome, OperationContext


class ProtectionEngine:
    """The protection side of one process; thread-safe."""

    def __init__(
        self,
        database: Database,
        *,
        clock: Clock,
        install_key: InstallKey,
        providers: Providers,
        allowlist: AllowList,
        movers: MoverPool,
        host: str,
        lease_s: float,
    ) -> None:
        """``lease_s`` is how long a reader's lease lasts; it is renewed while the reader works."""
        self._ground = Ground(database, clock, install_key, providers, allowlist, movers, host, lease_s)
        movers.on_left(self._unlock)

    def protect(self, context: OperationContext, *, plan_id: str, provider_id: str) -> CheckpointOutcome:
        """Make one checkpoint of a plan, or finish the one that this run has begun (I5)."""
        return ProtectFlow(self._ground, context, plan_id=plan_id, provider_id=provider_id).run()

    def expire(
        self,
        context: OperationContext,
        *,
        plan_id: str,
        scheduled_operation_id: str | None,
        rules: Json,
    ) -> ExpiryOutcome:
        """Delete what ``rules`` no longer keep in the scope (plan, scheduled operation) (I6)."""
        return Expiry(self._ground, context).expire(
            plan_id=plan_id, scheduled_operation_id=scheduled_operation_id, rules=rules
        )

    def restore(self, context: OperationContext, *, restore_id: str) -> Json:
        """Carry out a restore row; figures for the run's result."""
        return RestoreFlow(self._ground, context, restore_id=restore_id).run()

    def delete(self, context: OperationContext, *, checkpoint_id: str) -> Json:
        """Delete a checkpoint from the bank, then its row's state."""
        return Expiry(self._ground, context).delete(checkpoint_id)

    def maintain(self, context: OperationContext, *, repository_id: str) -> Json:
        """Remove stale locks and what nobody needs, reconcile rows with the bank (I5)."""
        return MaintainFlow(self._ground, context, repository_id=repository_id).run()

    def downloads(self, movers: MoverPool) -> Downloads:
        """What gives files of checkpoints out, by movers that serve nothing else."""
        lease_s = max(self._ground.lease_s, HELD_S)
        return Downloads(replace(self._ground, movers=movers, lease_s=lease_s))

    def place_of(self, repository_id: str) -> Json:
        """Where a repository lies and what opens it, for a mover. It holds secrets: never log it (I10)."""
        return self._ground.place(self._ground.repository(repository_id))

    def _unlock(self, repository_id: str, session: str) -> None:
        """Remove the lock of a mover of this host that has ended without giving it up."""
        try:
            place = self.place_of(repository_id)
        except NotFoundError:
            return  # nobody knows that repository any more, so nobody waits for its lock
        with self._ground.movers.use(lambda: None) as mover:
            mover.call("unlock", {"place": place, "session": session})

    def structure_faults(self, checkpoint: Checkpoint) -> list[str]:
        """What of a checkpoint is missing on its bank; empty when it is whole. For the catalogue's reset."""
        if checkpoint.snapshot_id is None:
            return ["it never had a snapshot"]
        place = self.place_of(checkpoint.repository_id)
        with self._ground.movers.use(lambda: None) as mover:
            answer = mover.call(
                "check", {"place": place, "snapshot_id": checkpoint.snapshot_id, "deep": True}
            )
        return [] if answer["missing"] is None else [str(answer["missing"])]
