# SPDX-License-Identifier: Apache-2.0
"""What a user may ask of restores: where to, and with which parameters."""

from __future__ import annotations

import os
import stat
from datetime import timedelta
from typing import TYPE_CHECKING, Final
from uuid import uuid4

from seawall.core.caller import Caller
from seawall.core.errors import FieldFault, ForbiddenError, InvalidInputError, NotFoundError, StateError
from seawall.core.records import Checkpoint, Json, Restore
from seawall.core.states import RESTORABLE, RunKind
from seawall.db import audit, checkpoints, restores, runs
from seawall.db.restores import NewRestore
from seawall.db.runs import NewRun
from seawall.sdk.beneath import checked_path

if TYPE_CHECKING:
    from seawall.db.session import Tx
    from seawall.protection.allowlist import AllowList


# How long a checkpoint waits for the run of its restore to start.
_HELD_AHEAD: Final = timedelta(hours=1)


def check_restorable(found: Checkpoint) -> None:
    """``StateError`` unless it can be restored as it stands now."""
    if found.status not in RESTORABLE:
        reason = f": {found.reason}" if found.reason else ""
        raise StateError(
            f"checkpoint {found.id} is {found.status}{reason}; "
            f"only {' and '.join(RESTORABLE)} ones can be restored"
        )


def check_target(allowlist: AllowList, project_id: str, target: str, *, is_here: bool) -> str:
    """The folder to restore into; it is made when it is missing.

    ``InvalidInputError`` of ``restore_target`` when the project may not touch it (I11), it is no folder, or
    this service cannot write there. On another host only its run can tell.
    """
    try:
        if not is_here:
            return str(checked_path(target))
        found = allowlist.check(project_id, target, must_exist=False)
    except (ForbiddenError, NotFoundError) as error:
        raise InvalidInputError.of("restore_target", target, f"cannot be used: {error}") from error
    except InvalidInputError as error:
        raise InvalidInputError(
            [FieldFault("restore_target", target, fault.rule) for fault in error.fields]
        ) from error
    if found.status is not None and not stat.S_ISDIR(found.status.st_mode):
        raise InvalidInputError.of("restore_target", target, "must be a folder, and is something else")
    there = found.path
    while not there.exists():
        there = there.parent
    if not there.is_dir():
        raise InvalidInputError.of("restore_target", target, f"cannot be made: {there} is no folder")
    if not os.access(there, os.W_OK | os.X_OK, effective_ids=True):
        raise InvalidInputError.of(
            "restore_target", target, f"cannot be written: no right to write to {there}"
        )
    return str(checked_path(target))


def check_origins(allowlist: AllowList, project_id: str, found: Checkpoint) -> None:
    """``InvalidInputError`` when a resource came from where the project may no longer write (I11)."""
    faults: list[FieldFault] = []
    for one in found.resources:
        path = str(one["id"])
        if not path.startswith("/"):
            continue
        try:
            allowlist.check(project_id, path, must_exist=False)
        except (ForbiddenError, NotFoundError, InvalidInputError) as error:
            rule = f"is to restore in place, but {path} cannot be restored to: {error}"
            faults.append(FieldFault("restore_target", None, rule))
    if faults:
        raise InvalidInputError(faults)


def create(
    tx: Tx,
    caller: Caller,
    checkpoint_id: str,
    *,
    restore_target: str | None,
    parameters: Json,
    host: str | None,
) -> Restore:
    """A restore, ``in_progress``, and the run that carries it out."""
    found = checkpoints.get(tx.connection, checkpoint_id, project_id=caller.project_id)
    check_restorable(found)
    restore_id, run_id = str(uuid4()), str(uuid4())
    # Held by its run from now on, so that no delete comes first; the run renews it and lets it go.
    if not checkpoints.acquire_reader(tx, found.id, f"run:{run_id}", tx.now + _HELD_AHEAD):
        raise StateError(f"checkpoint {found.id} cannot be restored: it is being deleted")
    made = restores.insert(
        tx,
        NewRestore(
            id=restore_id,
            project_id=found.project_id,
            provider_id=found.provider_id,
            checkpoint_id=found.id,
            restore_target=restore_target,
            parameters=parameters,
            run_id=run_id,
        ),
    )
    runs.insert(
        tx,
        NewRun(
            id=run_id,
            project_id=found.project_id,
            user_id=caller.user_id,
            kind=RunKind.RESTORE,
            subject_type="restore",
            subject_id=restore_id,
            occurrence="asked",
            operation_type="restore",
            definition={"restore_id": restore_id},
            expected_at=tx.now,
            plan_id=found.plan_id,
            host=host,
        ),
    )
    details = {"checkpoint_id": found.id, "restore_target": restore_target, "run_id": run_id}
    audit.record(tx, caller, "create", "restore", restore_id, details)
    return made
