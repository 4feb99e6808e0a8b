# SPDX-License-Identifier: Apache-2.0
"""``Schedules``: each change is one transaction that settles what is due, changes, and writes the audit row.

If the process dies before the commit nothing has happened; after it, all of it has. A caller sees and touches
only the things of its own project; a foreign id is a ``NotFoundError`` (I11).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

from seawall.core.caller import Caller
from seawall.core.errors import InvalidInputError
from seawall.core.ids import stored_id
from seawall.core.listing import ListQuery
from seawall.core.records import Backfill, LogLine, Page, Run, ScheduledOperation, Trigger
from seawall.core.schedule import (
    PreviewedTime,
    fixed_offset,
    load_schedule,
    parse_time_properties,
    preview,
)
from seawall.db import audit, run_rows, scheduled_operations
from seawall.db import triggers as trigger_rows
from seawall.db.session import waking
from seawall.operation_engine.schedules import asked, event_triggers, operations, triggers
from seawall.operation_engine.schedules.definitions import PlanLookup
from seawall.operation_engine.schedules.event_triggers import Sealing
from seawall.operation_engine.schedules.operations import Sources
from seawall.runtime.wakeup import Wakeup

if TYPE_CHECKING:
    from seawall.db.session import Database, Tx
    from seawall.runtime.registry import Plugins
    from seawall.sdk.operation import Operation

T = TypeVar("T")
_MOST_PREVIEWED = 100
# Newest other triggers of the project that a preview looks at, for what starts together.
_MOST_COMPARED = 50


class Schedules:
    """The schedules of one installation; thread-safe, keeps nothing in memory."""

    def __init__(
        self,
        database: Database,
        *,
        operations: Plugins[Operation],
        plan_lookup: PlanLookup,
        wakeup: Wakeup,
        min_interval_s: float,
        sealing: Sealing | None = None,
    ) -> None:
        """``wakeup`` is notified after each change, for the loops of this process. Without ``sealing``, which
        keeps secrets, webhook triggers are refused."""
        self._database = database
        self._sources = Sources(operations, plan_lookup)
        self._wakeup = wakeup
        self._min_interval_s = min_interval_s
        self._sealing = sealing

    # --- triggers --------------------------------------------------------------------------------

    def create_trigger(
        self, caller: Caller, *, name: str, type: str, properties: Mapping[str, Any]
    ) -> Trigger:
        return self._database.write(
            "schedules.create_trigger",
            waking(
                self._wakeup.notify,
                lambda tx: triggers.create(
                    tx,
                    caller,
                    name=name,
                    type=type,
                    properties=properties,
                    min_interval_s=self._min_interval_s,
                    sealing=self._sealing,
                ),
            ),
        )

    def update_trigger(
        self,
        caller: Caller,
        trigger_id: str,
        *,
        name: str | None = None,
        properties: Mapping[str, Any] | None = None,
    ) -> Trigger:
        known = stored_id("trigger", trigger_id)
        return self._database.write(
            "schedules.update_trigger",
            waking(
                self._wakeup.notify,
                lambda tx: triggers.update(
                    tx,
                    caller,
                    known,
                    name=name,
                    properties=properties,
                    min_interval_s=self._min_interval_s,
                ),
            ),
        )

    def get_trigger(self, caller: Caller, trigger_id: str) -> Trigger:
        known = stored_id("trigger", trigger_id)
        return self._database.read(
            lambda connection: trigger_rows.get(connection, known, project_id=caller.project_id)
        )

    def list_triggers(self, caller: Caller, query: ListQuery) -> Page[Trigger]:
        return self._database.read(
            lambda connection: trigger_rows.page(connection, query, project_id=query.project_of(caller))
        )

    def delete_trigger(self, caller: Caller, trigger_id: str) -> None:
        known = stored_id("trigger", trigger_id)
        self._database.write(
            "schedules.delete_trigger",
            waking(self._wakeup.notify, lambda tx: triggers.delete(tx, caller, known)),
        )

    def pause_trigger(
        self, caller: Caller, trigger_id: str, *, reason: str, until_at: datetime | None
    ) -> Trigger:
        known = stored_id("trigger", trigger_id)
        return self._database.write(
            "schedules.pause_trigger",
            waking(
                self._wakeup.notify,
                lambda tx: triggers.pause(tx, caller, known, reason=reason, until_at=until_at),
            ),
        )

    def resume_trigger(self, caller: Caller, trigger_id: str) -> Trigger:
        known = stored_id("trigger", trigger_id)
        return self._database.write(
            "schedules.resume_trigger",
            waking(self._wakeup.notify, lambda tx: triggers.resume(tx, caller, known)),
        )

    def rotate_secret(self, caller: Caller, trigger_id: str) -> Trigger:
        """A new secret for a webhook trigger, in its answer alone; the former one is of no use at once."""
        known = stored_id("trigger", trigger_id)
        return self._database.write(
            "schedules.rotate_secret",
            lambda tx: event_triggers.rotate(tx, caller, known, sealing=self._sealing),
        )

    def preview(
        self, caller: Caller, properties: Mapping[str, Any], *, count: int, trigger_id: str | None = None
    ) -> Sequence[PreviewedTime]:
        """The next ``count`` due times that these properties would have from now on, as those of a trigger if
        one is named; which of the caller's other triggers start with one of them is said."""
        if not 1 <= count <= _MOST_PREVIEWED:
            raise InvalidInputError.of("count", count, f"must be from 1 to {_MOST_PREVIEWED}")
        now = self._database.clock.now()
        schedule = parse_time_properties(properties, now=now, min_interval_s=self._min_interval_s)
        offset = None if trigger_id is None else fixed_offset(trigger_id, schedule.spread_s)
        newest = ListQuery(limit=_MOST_COMPARED, filters={"type": "time"})
        page = self._database.read(
            lambda connection: trigger_rows.page(connection, newest, project_id=caller.project_id)
        )
        others = {
            one.name: load_schedule(one.properties)
            for one in page.items
            if one.id != trigger_id and one.quarantine_reason is None and one.paused_at is None
        }
        return preview(schedule, now=now, count=count, offset=offset, others=others)

    # --- scheduled operations --------------------------------------------------------------------

    def create_operation(
        self,
        caller: Caller,
        *,
        name: str,
        description: str = "",
        operation_type: str,
        trigger_id: str,
        operation_definition: Mapping[str, Any],
        enabled: bool = True,
        overlap: str = "skip",
        timeout_s: int | None = None,
        priority: int = 0,
        retry: Mapping[str, int] | None = None,
    ) -> ScheduledOperation:
        known = stored_id("trigger", trigger_id)
        policy = {
            "name": name,
            "description": description,
            "enabled": enabled,
            "overlap": overlap,
            "timeout_s": timeout_s,
            "priority": priority,
            "retry": retry,
        }
        return self._database.write(
            "schedules.create_operation",
            waking(
                self._wakeup.notify,
                lambda tx: operations.create(
                    tx,
                    caller,
                    self._sources,
                    operation_type=operation_type,
                    trigger_id=known,
                    operation_definition=operation_definition,
                    policy=policy,
                ),
            ),
        )

    def update_operation(
        self, caller: Caller, operation_id: str, changes: Mapping[str, object]
    ) -> ScheduledOperation:
        known = stored_id("scheduled operation", operation_id)
        return self._database.write(
            "schedules.update_operation",
            waking(
                self._wakeup.notify, lambda tx: operations.update(tx, caller, self._sources, known, changes)
            ),
        )

    def get_operation(self, caller: Caller, operation_id: str) -> ScheduledOperation:
        known = stored_id("scheduled operation", operation_id)
        return self._database.read(
            lambda connection: scheduled_operations.get(connection, known, project_id=caller.project_id)
        )

    def list_operations(self, caller: Caller, query: ListQuery) -> Page[ScheduledOperation]:
        return self._database.read(
            lambda connection: scheduled_operations.page(
                connection, query, project_id=query.project_of(caller)
            )
        )

    def delete_operation(self, caller: Caller, operation_id: str) -> None:
        known = stored_id("scheduled operation", operation_id)
        self._database.write(
            "schedules.delete_operation",
            waking(self._wakeup.notify, lambda tx: operations.delete(tx, caller, known)),
        )

    def run_operation(self, caller: Caller, operation_id: str, *, key: str | None = None) -> Run:
        """Run it once, now. With a ``key`` that was used before, the run of then."""
        known = stored_id("scheduled operation", operation_id)
        return self._database.write(
            "schedules.run_operation",
            waking(self._wakeup.notify, lambda tx: asked.run_now(tx, caller, known, key=key)),
        )

    def backfill_operation(
        self,
        caller: Caller,
        operation_id: str,
        *,
        start: datetime,
        end: datetime,
        is_dry: bool,
        key: str | None = None,
    ) -> Backfill:
        """Make up for the due times from ``start`` to ``end``, or only say which those are."""
        known = stored_id("scheduled operation", operation_id)
        return self._database.write(
            "schedules.backfill_operation",
            waking(
                self._wakeup.notify,
                lambda tx: asked.backfill(tx, caller, known, start=start, end=end, is_dry=is_dry, key=key),
            ),
        )

    def operation_types(self) -> Sequence[Mapping[str, Any]]:
        """Those that may be scheduled, files dropped in since the last question included."""
        return operations.types(self._sources.operations)

    # --- runs --------------------------------------------------------------------------------------

    def list_runs(
        self,
        caller: Caller,
        query: ListQuery,
        *,
        operation_id: str | None = None,
        plan_id: str | None = None,
        state: str | None = None,
    ) -> Page[Run]:
        given = {"operation_id": operation_id, "plan_id": plan_id, "state": state}
        asked = {name: value for name, value in given.items() if value is not None}
        narrowed = replace(query, filters={**query.filters, **asked})
        return self._database.read(
            lambda connection: run_rows.page(connection, narrowed, project_id=query.project_of(caller))
        )

    def get_run(self, caller: Caller, run_id: str) -> Run:
        known = stored_id("run", run_id)
        return self._database.read(
            lambda connection: run_rows.get(connection, known, project_id=caller.project_id)
        )

    def run_log(self, caller: Caller, run_id: str, *, after: int = 0) -> Sequence[LogLine]:
        """The lines but for the first ``after``."""
        if after < 0:
            raise InvalidInputError.of("after", after, "must be a number of lines, 0 or more")
        known = stored_id("run", run_id)
        return self._database.read(
            lambda connection: run_rows.log(connection, known, after=after, project_id=caller.project_id)
        )

    def cancel_run(self, caller: Caller, run_id: str) -> Run:
        """Cancelled at once while it waits; ``cancelling`` until its work has really ended otherwise."""
        known = stored_id("run", run_id)

        def cancel(tx: Tx) -> Run:
            run = run_rows.cancel(tx, known, project_id=caller.project_id)
            audit.record(tx, caller, "cancel", "run", known, {"state": run.state})
            return run

        return self._database.write("schedules.cancel_run", waking(self._wakeup.notify, cancel))
