# SPDX-License-Identifier: Apache-2.0
"""What may be done to a trigger; each function is part of one write transaction.

Whatever changes a trigger first settles what is due of it (I2), so that no due time is lost or judged by
rules that were not yet, or no longer, those of its hour.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from seawall.core.caller import Caller
from seawall.core.errors import InUseError, InvalidInputError
from seawall.core.records import Trigger
from seawall.core.schedule import fixed_offset, next_run_at, parse_time_properties
from seawall.db import audit, run_rows, triggers
from seawall.operation_engine.claim import settle
from seawall.operation_engine.schedules import event_triggers
from seawall.operation_engine.schedules.event_triggers import Sealing
from seawall.operation_engine.schedules.words import checked_name

if TYPE_CHECKING:
    from seawall.db.session import Tx

TYPES = ("time", event_triggers.TYPE)
_START_FORMAT = "%Y-%m-%d %H:%M:%S"


def create(
    tx: Tx,
    caller: Caller,
    *,
    name: str,
    type: str,
    properties: Mapping[str, Any],
    min_interval_s: float,
    sealing: Sealing | None = None,
) -> Trigger:
    """A new trigger; due from now on."""
    if type not in TYPES:
        raise InvalidInputError.of("type", type, f"must be one of {', '.join(TYPES)}")
    if type == event_triggers.TYPE:
        return event_triggers.create(tx, caller, name=name, properties=properties, sealing=sealing)
    schedule = parse_time_properties(properties, now=tx.now, min_interval_s=min_interval_s)
    trigger_id = str(uuid4())
    triggers.insert(
        tx,
        trigger_id=trigger_id,
        project_id=caller.project_id,
        name=checked_name(name),
        type=type,
        properties=schedule.normalised,
        next_run_at=next_run_at(schedule, tx.now, fixed_offset(trigger_id, schedule.spread_s)),
    )
    audit.record(tx, caller, "create", "trigger", trigger_id, {"name": name, "properties": dict(properties)})
    return triggers.get(tx.connection, trigger_id, project_id=caller.project_id)


def update(
    tx: Tx,
    caller: Caller,
    trigger_id: str,
    *,
    name: str | None,
    properties: Mapping[str, Any] | None,
    min_interval_s: float,
) -> Trigger:
    """Another name, other properties, or both. Properties are checked and replaced as a whole.

    The same properties again change nothing, so a file that is applied twice moves no due time.
    """
    trigger = _settled(tx, caller, trigger_id)
    changes: dict[str, Any] = {}
    if name is not None and name != trigger.name:
        changes["name"] = checked_name(name)
    if properties and trigger.type == event_triggers.TYPE:
        changes |= event_triggers.changed(tx, trigger, properties)
    elif properties:
        changes |= _changed_schedule(tx, trigger, properties, min_interval_s)
    if not changes:
        return trigger
    triggers.update(tx, trigger_id, **changes)
    audit.record(
        tx,
        caller,
        "update",
        "trigger",
        trigger_id,
        {one: changes[one] for one in ("name", "properties") if one in changes},
    )
    return triggers.get(tx.connection, trigger_id, project_id=caller.project_id)


def delete(tx: Tx, caller: Caller, trigger_id: str) -> None:
    """Remove a trigger; ``InUseError`` names the operations that still use it."""
    trigger = _settled(tx, caller, trigger_id)
    users = triggers.users_of(tx.connection, trigger_id)
    if users:
        raise InUseError(
            f"Trigger is being used by one or more operations: {', '.join(users)}",
            hint="delete those scheduled operations first",
        )
    triggers.delete(tx, trigger_id)
    audit.record(tx, caller, "delete", "trigger", trigger_id, {"name": trigger.name})


def pause(tx: Tx, caller: Caller, trigger_id: str, *, reason: str, until_at: datetime | None) -> Trigger:
    """Nothing of it starts any more, until ``until_at`` or until it is resumed.

    Its due times go on being accounted for, as skipped. Runs that wait are cancelled; those that have started
    go on. Pausing it again changes the reason and the end.
    """
    if until_at is not None and until_at <= tx.now:
        raise InvalidInputError.of("until", until_at.isoformat(), "must lie in the future")
    trigger = _settled(tx, caller, trigger_id)
    triggers.update(
        tx,
        trigger_id,
        paused_at=trigger.paused_at or tx.now,
        paused_reason=reason,
        paused_until_at=until_at,
    )
    words = f"the trigger was paused: {reason}" if reason else "the trigger was paused"
    cancelled = run_rows.cancel_waiting(tx, reason=words, trigger_id=trigger_id)
    audit.record(
        tx,
        caller,
        "pause",
        "trigger",
        trigger_id,
        {
            "reason": reason,
            "until": None if until_at is None else until_at.isoformat(),
            "cancelled_runs": cancelled,
        },
    )
    return triggers.get(tx.connection, trigger_id, project_id=caller.project_id)


def resume(tx: Tx, caller: Caller, trigger_id: str) -> Trigger:
    """Let it fire again, from now on. One that is not paused is left as it is."""
    trigger = _settled(tx, caller, trigger_id)
    if trigger.paused_at is None:
        return trigger
    triggers.update(tx, trigger_id, paused_at=None, paused_reason=None, paused_until_at=None)
    audit.record(tx, caller, "resume", "trigger", trigger_id)
    return triggers.get(tx.connection, trigger_id, project_id=caller.project_id)


def _settled(tx: Tx, caller: Caller, trigger_id: str) -> Trigger:
    """The caller's trigger after everything that is due of it has become rows."""
    triggers.get(tx.connection, trigger_id, project_id=caller.project_id)
    settle(tx, trigger_id)
    return triggers.get(tx.connection, trigger_id, project_id=caller.project_id)


def _changed_schedule(
    tx: Tx, trigger: Trigger, properties: Mapping[str, Any], min_interval_s: float
) -> dict[str, Any]:
    given = dict(properties)
    if not given.get("start_time"):
        # An interval without a start counts from the trigger's creation, however often it is updated.
        given["start_time"] = trigger.created_at.strftime(_START_FORMAT)
    schedule = parse_time_properties(given, now=tx.now, min_interval_s=min_interval_s)
    if schedule.normalised == trigger.properties and trigger.quarantine_reason is None:
        return {}
    # What an exclusion of the old schedule holds back will not run any more, and has its rows now (I1).
    settle(tx, trigger.id, is_ending=True)
    trigger = triggers.get(tx.connection, trigger.id, project_id=trigger.project_id)
    offset = fixed_offset(trigger.id, schedule.spread_s)
    # A due time whose offset is still to come belongs to the new schedule; none that has fired comes again.
    through = max(tx.now - offset, trigger.fired_through_at or tx.now - offset)
    return {
        "properties": schedule.normalised,
        "fired_through_at": through,
        "next_run_at": next_run_at(schedule, through, offset),
        "quarantine_reason": None,
    }
