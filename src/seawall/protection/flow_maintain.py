# SPDX-License-Identifier: Apache-2.0
"""Maintain: rows and bank say the same, and what nobody needs goes (I5, I12)."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from seawall.core.records import Checkpoint, Json
from seawall.core.states import RESTORABLE, CheckpointStatus
from seawall.db import checkpoints
from seawall.db import repositories as rows
from seawall.protection.flow_ground import Ground

if TYPE_CHECKING:
    from seawall.protection.movers.pool import Mover
    from seawall.sdk.operation import OperationContext


class MaintainFlow:
    """One maintenance of one repository."""

    def __init__(self, ground: Ground, context: OperationContext, *, repository_id: str) -> None:
        self._ground = ground
        self._context = context
        self._repository_id = repository_id

    def run(self) -> Json:
        """Figures of what was mended and removed. Every step may be repeated."""
        ground, context = self._ground, self._context
        repository = ground.repository(self._repository_id)
        if repository.format_id is None:
            return {"is_made": False}
        place = ground.place(repository)
        # A prune goes beside no other one: neither beside the lock of one that was killed on this host.
        ground.movers.await_locks(context.check)
        with ground.movers.use(context.check) as mover:
            figures = self._reconcile(mover, place)
            context.confirm_lease()
            figures["prune"] = mover.call("prune", {"place": place}, check=context.check)
        ground.database.write(
            "repositories.maintained", lambda tx: rows.set_maintained(tx, self._repository_id)
        )
        return figures

    def _reconcile(self, mover: Mover, place: Json) -> Json:
        ground, context = self._ground, self._context
        # Rows first, then the bank: what a row says was there before is then missing for good.
        known = ground.database.read(
            lambda connection: checkpoints.of_repository(
                connection, self._repository_id, statuses=tuple(CheckpointStatus)
            )
        )
        found = mover.call("snapshots", {"place": place}, check=context.check)["snapshots"]
        there = {one["id"] for one in found}
        by_tag: dict[str, list[str]] = defaultdict(list)
        for one in found:
            for tag in one["tags"]:
                if tag.startswith("checkpoint:"):
                    by_tag[tag.removeprefix("checkpoint:")].append(one["id"])
        lost = self._lost(known, there)
        unwanted, unknown = self._unwanted({one.id: one for one in known}, by_tag)
        if unwanted:
            mover.call(
                "forget",
                {"place": place, "snapshot_ids": unwanted},
                check=context.check,
                confirm=context.confirm_lease,
            )
        for checkpoint_id in unknown:
            context.log("warning", f"the bank has a snapshot of checkpoint {checkpoint_id}, which has no row")
        return {
            "is_made": True,
            "snapshots": len(there) - len(unwanted),
            "lost": lost,
            "removed": unwanted,
            "without_row": unknown,
        }

    def _lost(self, known: list[Checkpoint], there: set[str]) -> list[str]:
        """Checkpoints whose snapshot is gone become ``error``."""
        gone = [one for one in known if one.status in RESTORABLE and one.snapshot_id not in there]
        lost = []
        for one in gone:
            reason = f"its snapshot {str(one.snapshot_id)[:16]} is gone from the bank"
            if self._lose(one.id, reason):
                self._context.log("error", f"checkpoint {one.id}: {reason}")
                lost.append(one.id)
        return lost

    def _lose(self, checkpoint_id: str, reason: str) -> bool:
        return self._ground.database.write(
            "checkpoints.lose", lambda tx: checkpoints.lose(tx, checkpoint_id, reason)
        )

    def _unwanted(
        self, known: dict[str, Checkpoint], by_tag: dict[str, list[str]]
    ) -> tuple[list[str], list[str]]:
        """Snapshots to remove (doubles, and of deleted ones), and checkpoint ids that have no row."""
        unwanted: list[str] = []
        unknown: list[str] = []
        for checkpoint_id, snapshot_ids in by_tag.items():
            row = known.get(checkpoint_id)
            if row is None:
                unknown.append(checkpoint_id)
            elif row.status == CheckpointStatus.DELETED:
                unwanted += snapshot_ids
            elif row.snapshot_id in snapshot_ids:
                unwanted += [one for one in snapshot_ids if one != row.snapshot_id]
        return unwanted, unknown
