# SPDX-License-Identifier: Apache-2.0
"""Expiry and deletes: a checkpoint goes in the reverse order in which it came (I5, I6).

    row (deleting) -> snapshot forgotten -> row (deleted)

If the process dies in between, the row says ``deleting``, and the next delete or expiry goes on: forgetting a
snapshot that is gone is no error.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from seawall.core.errors import (
    BankObjectMissingError,
    CancelledError,
    InUseError,
    LeaseLostError,
    SeawallError,
    StateError,
    TimedOutError,
)
from seawall.core.records import Checkpoint, Json, Repository
from seawall.core.retention import Candidate, decide, parse_retention
from seawall.core.states import RESTORABLE, CheckpointStatus
from seawall.db import checkpoints
from seawall.protection.flow_ground import Ground
from seawall.sdk.operation import ExpiryOutcome

if TYPE_CHECKING:
    from seawall.sdk.operation import OperationContext

_STOPPING = (CancelledError, TimedOutError, LeaseLostError)


class SurvivorMissingError(StateError):
    """A checkpoint that retention relies on is not whole on the bank: nothing more is deleted."""

    code = "survivor_missing"


class Expiry:
    """Deletes of one run."""

    def __init__(self, ground: Ground, context: OperationContext) -> None:
        self._ground = ground
        self._context = context

    # --- retention -------------------------------------------------------------------------------

    def expire(self, *, plan_id: str, scheduled_operation_id: str | None, rules: Json) -> ExpiryOutcome:
        """Delete what the rules no longer keep in a scope."""
        ground, context = self._ground, self._context
        scope = ground.database.read(
            lambda connection: checkpoints.in_scope(
                connection, plan_id=plan_id, scheduled_operation_id=scheduled_operation_id
            )
        )
        begun = [one for one in scope if one.status == CheckpointStatus.DELETING]
        held_because = _held(scope)
        kept = [one for one in scope if one.status in RESTORABLE]
        doomed: list[Checkpoint] = []
        if held_because is None:
            verdicts = decide(parse_retention(rules), [_candidate(one) for one in scope], now=context.now())
            going = {one.id: one.why for one in verdicts if not one.is_kept}
            doomed = [one for one in reversed(kept) if one.id in going]
            kept = [one for one in kept if one.id not in going]
            for one in doomed:
                context.log("info", f"checkpoint {one.id} goes: {going[one.id]}")
        deleted: list[str] = []
        failed: dict[str, str] = {}
        for one in [*begun, *doomed]:
            context.check()
            try:
                self.delete_one(one, relied_on=kept)
                deleted.append(one.id)
            except _STOPPING:
                raise
            except SurvivorMissingError as error:
                held_because = str(error)
                context.log("error", held_because)
                break
            except SeawallError as error:  # one failed delete does not stop the rest (I6)
                failed[one.id] = str(error)
        return ExpiryOutcome(len(kept), tuple(deleted), failed, held_because)

    # --- one delete --------------------------------------------------------------------------------

    def delete(self, checkpoint_id: str) -> Json:
        """Delete one checkpoint that a user, or its age, has doomed. After an error it is in ``error``."""
        found = self._ground.database.read(
            lambda connection: checkpoints.get(connection, checkpoint_id, project_id=self._context.project_id)
        )
        if found.status == CheckpointStatus.DELETED:
            return {"checkpoint_id": checkpoint_id, "forgotten": []}
        try:
            forgotten = self.delete_one(found, relied_on=())
        except _STOPPING:
            raise
        except SeawallError as error:
            reason = f"its delete failed: {error}"
            self._ground.database.write(
                "checkpoints.fail_delete", lambda tx: checkpoints.fail_delete(tx, checkpoint_id, reason)
            )
            raise
        return {"checkpoint_id": checkpoint_id, "forgotten": forgotten}

    def delete_one(self, one: Checkpoint, *, relied_on: Sequence[Checkpoint]) -> list[str]:
        """The snapshots that were forgotten. May be repeated at any point."""
        repository = self._ground.repository(one.repository_id)
        if relied_on:
            self._confirm(relied_on)
        is_begun = self._ground.database.write(
            "checkpoints.begin_delete", lambda tx: checkpoints.begin_delete(tx, one.id)
        )
        if not is_begun:
            raise InUseError(f"checkpoint {one.id} is being read, or pinned; it is not deleted now")
        forgotten = self._forget(repository, one)
        self._ground.database.write("checkpoints.end_delete", lambda tx: checkpoints.end_delete(tx, one.id))
        return forgotten

    def _forget(self, repository: Repository, one: Checkpoint) -> list[str]:
        if repository.format_id is None:
            return []  # it was never made: nothing of it can be on the bank
        place = self._ground.place(repository)
        ids = [] if one.snapshot_id is None else [one.snapshot_id]
        # One whose run was cut between snapshot and row has a snapshot that only its tag tells of.
        tags = [f"checkpoint:{one.id}"] if one.snapshot_id is None else []
        with self._ground.movers.use(self._context.check) as mover:
            answer = mover.call(
                "forget",
                {"place": place, "snapshot_ids": ids, "tags": tags},
                check=self._context.check,
                confirm=self._context.confirm_lease,
            )
        return list(answer["forgotten"])

    def _confirm(self, relied_on: Sequence[Checkpoint]) -> None:
        """``SurvivorMissingError`` unless every checkpoint that stays is on the bank (I6)."""
        for repository_id in dict.fromkeys(one.repository_id for one in relied_on):
            mine = [one for one in relied_on if one.repository_id == repository_id]
            place = self._ground.place(self._ground.repository(repository_id))
            wanted = [str(one.snapshot_id) for one in mine]
            with self._ground.movers.use(self._context.check) as mover:
                try:
                    answer = mover.call(
                        "absent", {"place": place, "snapshot_ids": wanted}, check=self._context.check
                    )
                except BankObjectMissingError as error:
                    raise SurvivorMissingError(f"what is to stay cannot be found: {error}") from error
            gone = [one for one in mine if one.snapshot_id in answer["absent"]]
            if gone:
                raise SurvivorMissingError(
                    f"nothing is deleted: checkpoint {gone[0].id}, which is to stay, is not whole on the bank"
                )


def _held(scope: Sequence[Checkpoint]) -> str | None:
    """Why nothing of this scope may go: its newest ended protect failed (I6)."""
    for one in scope:
        if one.status in RESTORABLE:
            return None
        if one.status == CheckpointStatus.ERROR and one.snapshot_id is None:
            return f"the newest protect of this scope failed (checkpoint {one.id}): {one.reason}"
    return None


def _candidate(one: Checkpoint) -> Candidate:
    return Candidate(one.id, one.created_at, one.status, one.verified_at, one.pinned)
