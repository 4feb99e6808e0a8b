# SPDX-License-Identifier: Apache-2.0
"""Every state machine: its states, the moves that are allowed, and why each is made.

Moves are made by compare-and-set in the database; ``check_move`` guards the code that asks for them.
``docs/states.md`` is written from this file by ``make docs``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from seawall.core.errors import StateError

SERVICE_DOWN_AFTER = timedelta(seconds=30)
"""A service that has not sent a heartbeat for so long is down: six heartbeats of the default 5 s."""


class RunKind(StrEnum):
    """Why there is a run (I1)."""

    SCHEDULED = "scheduled"
    EVENT = "event"
    MANUAL = "manual"
    BACKFILL = "backfill"
    RESTORE = "restore"
    VERIFY = "verify"
    COPY = "copy"
    DELETE = "delete"
    SYSTEM = "system"


class RunState(StrEnum):
    """The states of a run; all but the first three are ends."""

    QUEUED = "queued"
    IN_PROGRESS = "in_progress"
    CANCELLING = "cancelling"
    SUCCESS = "success"
    FAILED = "failed"
    CANCELLED = "cancelled"
    MISSED = "missed"
    DROPPED_OUT_OF_WINDOW = "dropped_out_of_window"
    SKIPPED_OVERLAP = "skipped_overlap"
    SKIPPED_PAUSED = "skipped_paused"
    SKIPPED_EXCLUDED = "skipped_excluded"


LIVE_RUN_STATES = (RunState.QUEUED, RunState.IN_PROGRESS, RunState.CANCELLING)
RUNNING_STATES = (RunState.IN_PROGRESS, RunState.CANCELLING)


class CheckpointStatus(StrEnum):
    """The states of a checkpoint."""

    PROTECTING = "protecting"
    AVAILABLE = "available"
    AVAILABLE_WITH_WARNINGS = "available_with_warnings"
    ERROR = "error"
    DELETING = "deleting"
    DELETED = "deleted"


RESTORABLE = (CheckpointStatus.AVAILABLE, CheckpointStatus.AVAILABLE_WITH_WARNINGS)


class RestoreStatus(StrEnum):
    """The states of a restore, in Karbor's words."""

    IN_PROGRESS = "in_progress"
    SUCCESS = "success"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Machine:
    """One state machine: (from, to) -> why."""

    name: str
    first: tuple[str, ...]
    """What it may be born as."""
    moves: Mapping[tuple[str, str], str]

    def states(self) -> tuple[str, ...]:
        """All of them, in the order of the moves."""
        found = dict.fromkeys(self.first)
        for before, after in self.moves:
            found |= dict.fromkeys((before, after))
        return tuple(found)

    def is_allowed(self, before: str, after: str) -> bool:
        return (before, after) in self.moves

    def ends(self) -> tuple[str, ...]:
        """States that are never left."""
        left = {before for before, _ in self.moves}
        return tuple(state for state in self.states() if state not in left)


RUN = Machine(
    "run",
    (
        "queued",
        "missed",
        "dropped_out_of_window",
        "skipped_overlap",
        "skipped_paused",
        "skipped_excluded",
    ),
    {
        ("queued", "in_progress"): "claimed under a lease",
        ("queued", "dropped_out_of_window"): "its deadline passed before its first start",
        ("queued", "skipped_overlap"): "replaced by a newer one that waits (`queue_one`)",
        ("queued", "cancelled"): "cancelled, or its operation was deleted, before it started",
        ("queued", "failed"): "its host did not come back until its timeout, or it crashed repeatedly",
        ("in_progress", "success"): "its operation returned",
        ("in_progress", "failed"): "its operation raised, or its timeout passed",
        ("in_progress", "queued"): "handed back at stop, taken over after a crash, or tried again by policy",
        ("in_progress", "cancelling"): "cancel was asked for; the work has not ended yet",
        ("cancelling", "cancelled"): "the work has ended",
        ("cancelling", "success"): "the work was done before it noticed",
        ("cancelling", "failed"): "the work failed before it noticed",
    },
)

CHECKPOINT = Machine(
    "checkpoint",
    ("protecting",),
    {
        ("protecting", "available"): "its snapshot is on the bank and was read back",
        ("protecting", "available_with_warnings"): "the same, but single files could not be taken",
        ("protecting", "error"): "no snapshot was made; the reason says why",
        ("available", "deleting"): "retention or a user; only while nobody reads it",
        ("available_with_warnings", "deleting"): "as above",
        ("error", "deleting"): "after error_checkpoint_days, or by a user",
        ("available", "error"): "its snapshot is gone from the bank, or a user has said so",
        ("available_with_warnings", "error"): "as above",
        ("error", "protecting"): "the run that failed to make it is tried again",
        ("error", "available"): "a user's reset, after a structure check has passed",
        ("deleting", "deleted"): "its snapshot is gone from the bank",
        ("deleting", "error"): "its delete failed; the reason says why",
    },
)

RESTORE = Machine(
    "restore",
    ("in_progress",),
    {
        ("in_progress", "success"): "every resource is back",
        ("in_progress", "fail"): "the reason of each resource says why",
    },
)

MACHINES = (RUN, CHECKPOINT, RESTORE)


def check_move(machine: Machine, before: str, after: str) -> None:
    """``StateError`` unless the machine allows it."""
    if not machine.is_allowed(before, after):
        raise StateError(f"a {machine.name} that is {before} cannot become {after}")


def as_markdown() -> str:
    """The page ``docs/states.md``."""
    lines = ["# States", "", "Written by `make docs` from `src/seawall/core/states.py`.", ""]
    for machine in MACHINES:
        lines += [f"## {machine.name}", "", "```mermaid", "stateDiagram-v2"]
        lines += [f"    [*] --> {state}" for state in machine.first]
        lines += [f"    {before} --> {after}" for before, after in machine.moves]
        lines += [f"    {state} --> [*]" for state in machine.ends()]
        lines += ["```", "", "| from | to | why |", "|---|---|---|"]
        lines += [f"| {before} | {after} | {why} |" for (before, after), why in machine.moves.items()]
        lines += [""]
    return "\n".join(lines)
