# SPDX-License-Identifier: Apache-2.0
"""Operation: what a run does (M10, M11).

To add one, put a file with a class that has ``operation_type``, ``definition_schema`` and ``run`` into
``operation_engine/operations/`` or a configured plugin folder, or install a package with an entry point in
the group ``seawall.operations``. Nothing else changes. The contract suite is
``seawall.sdk.testing.operation_suite``.

An operation is called at least once and may be called again after a crash, with ``run_type`` "resume" and
the same journal: it looks up what the journal holds before it does a thing again.

``run`` may be ``async def``: on the executor ``coroutine`` thousands of such runs wait at once on one thread,
on every other one they have an event loop of their own. A run that must stop gets ``asyncio.CancelledError``
where it waits, and ``context.sleep`` and ``context.record`` raise as ``check`` does.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

Json = dict[str, Any]


class Journal(Protocol):
    """The steps of one run that are done; written durably, kept over crashes and take-overs."""

    def get(self, step: str) -> Json | None:
        """What ``record`` stored for this step, or None when it is not journaled."""
        ...

    def record(self, step: str, data: Mapping[str, Any]) -> None:
        """Store, durably on return. Raises ``LeaseLostError`` when this run was taken over (I3)."""
        ...


@dataclass(frozen=True, slots=True)
class CheckpointOutcome:
    """How a protect ended; also the result of the run."""

    checkpoint_id: str
    status: str
    """available | available_with_warnings; a failed protect raises instead."""
    snapshot_id: str
    items: int
    read_bytes: int
    added_bytes: int
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ExpiryOutcome:
    """What retention did in one scope."""

    kept: int
    deleted: tuple[str, ...]
    failed: Mapping[str, str] = field(default_factory=dict)
    """checkpoint id -> why its delete failed; the rest was deleted all the same."""
    held_because: str | None = None
    """Set when the scope is held, e.g. its newest protect failed (I6)."""


class Protection(Protocol):
    """What operations may ask of the protection side. Every call may be repeated after a crash."""

    def protect(self, context: OperationContext, *, plan_id: str, provider_id: str) -> CheckpointOutcome:
        """Make one checkpoint of a plan, or finish the one that this run has begun (I5)."""
        ...

    def expire(
        self,
        context: OperationContext,
        *,
        plan_id: str,
        scheduled_operation_id: str | None,
        rules: Json,
    ) -> ExpiryOutcome:
        """Delete what ``rules`` no longer keep in the scope (plan, scheduled operation) (I6)."""
        ...

    def restore(self, context: OperationContext, *, restore_id: str) -> Json:
        """Carry out a restore row; figures for the run's result."""
        ...

    def delete(self, context: OperationContext, *, checkpoint_id: str) -> Json:
        """Delete a checkpoint from the bank, then its row's state."""
        ...

    def maintain(self, context: OperationContext, *, repository_id: str) -> Json:
        """Prune, remove stale locks and unfinished writes, reconcile rows with the bank (I5)."""
        ...


class OperationContext(Protocol):
    """What a run knows and may do."""

    @property
    def run_id(self) -> str: ...
    @property
    def operation_type(self) -> str: ...
    @property
    def scheduled_operation_id(self) -> str | None: ...
    @property
    def trigger_id(self) -> str | None: ...
    @property
    def project_id(self) -> str: ...
    @property
    def user_id(self) -> str: ...
    @property
    def kind(self) -> str:
        """The run's kind: scheduled, manual, system, ... (core.states.RunKind)."""
        ...

    @property
    def triggered_at(self) -> datetime: ...
    @property
    def expected_at(self) -> datetime:
        """When it was due."""
        ...

    @property
    def window_s(self) -> float: ...
    @property
    def run_type(self) -> Literal["execute", "resume"]: ...
    @property
    def attempt(self) -> int:
        """1 for the first, counting take-overs and retries."""
        ...

    @property
    def fence(self) -> int:
        """The fencing number of the lease that this attempt holds (I3)."""
        ...

    @property
    def journal(self) -> Journal: ...
    @property
    def protection(self) -> Protection: ...

    def now(self) -> datetime: ...

    def check(self) -> None:
        """Raise ``CancelledError``, ``TimedOutError`` or ``LeaseLostError`` if this run must stop.

        Cheap: call it often.
        """
        ...

    def confirm_lease(self) -> None:
        """As ``check``, but asks the database; call it right before a commit point (I3, I5)."""
        ...

    def wait(self, seconds: float) -> None:
        """Wait, but wake and raise as ``check`` does when the run must stop."""
        ...

    async def sleep(self, seconds: float) -> None:
        """As ``wait``, for ``async def run``: the others of this event loop go on meanwhile."""
        ...

    async def record(self, step: str, data: Mapping[str, Any]) -> None:
        """As ``journal.record``, for ``async def run``."""
        ...

    def progress(
        self, *, done_bytes: int, done_items: int, total_bytes: int | None = None, text: str = ""
    ) -> None:
        """Show how far it is; kept in memory and flushed at most once a second."""
        ...

    def log(self, level: Literal["debug", "info", "warning", "error"], text: str) -> None:
        """A line that the user reads with the run."""
        ...


@runtime_checkable
class Operation(Protocol):
    """A kind of run."""

    operation_type: ClassVar[str]
    """Its name in the API: ``[a-z][a-z0-9_]*``."""

    definition_schema: ClassVar[Mapping[str, Any]]
    """JSON schema (2020-12) of ``operation_definition``; bad definitions are refused at creation."""

    def run(
        self, definition: Json, context: OperationContext
    ) -> Mapping[str, Any] | None | Awaitable[Mapping[str, Any] | None]:
        """Do it. The returned figures become the run's result; an exception makes it failed, and its
        text the reason (``SeawallError`` keeps its code; ``retryable`` ones, and those that are not ours,
        are retried by policy)."""
        ...
