# SPDX-License-Identifier: Apache-2.0
"""What is different about a trigger that fires upon events; each function is part of one write transaction.

It has no next time and is never late; names, pauses and deletes are those of every trigger.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol
from uuid import uuid4

from seawall.core.caller import Caller
from seawall.core.errors import InvalidInputError, NotFoundError, StateError
from seawall.core.records import Json, ScheduledOperation, Trigger
from seawall.db import audit, due, events, scheduled_operations, triggers
from seawall.operation_engine.events import graph, signatures
from seawall.operation_engine.events.properties import EventProperties, parse_event_properties
from seawall.operation_engine.schedules.words import checked_name

if TYPE_CHECKING:
    from seawall.db.session import Connection, Tx

TYPE = "event"


class Sealing(Protocol):
    """Keeps secrets (I10): the install key."""

    def seal(self, secret: str, *, purpose: str) -> str: ...
    def open(self, sealed: str, *, purpose: str) -> str: ...


def purpose(trigger_id: str) -> str:
    """What the secret of a trigger is sealed for: put into another row, it opens no more."""
    return f"webhook secret of trigger {trigger_id}"


def create(
    tx: Tx, caller: Caller, *, name: str, properties: Mapping[str, Any], sealing: Sealing | None
) -> Trigger:
    """A new event trigger; events from now on fire it. A webhook's secret is in this answer alone."""
    wanted = parse_event_properties(properties)
    _refuse_foreign(tx, caller.project_id, wanted)
    trigger_id = str(uuid4())
    secret, sealed = _new_secret(trigger_id, sealing) if wanted.source == events.WEBHOOK else (None, None)
    triggers.insert(
        tx,
        trigger_id=trigger_id,
        project_id=caller.project_id,
        name=checked_name(name),
        type=TYPE,
        properties=wanted.normalised,
        next_run_at=None,
    )
    events.insert(
        tx, trigger_id, source=wanted.source, operation_id=wanted.operation_id, sealed_secret=sealed
    )
    audit.record(tx, caller, "create", "trigger", trigger_id, {"name": name, "properties": wanted.normalised})
    return replace(triggers.get(tx.connection, trigger_id, project_id=caller.project_id), secret=secret)


def changed(tx: Tx, trigger: Trigger, properties: Mapping[str, Any]) -> Json:
    """The columns that other properties change; the source stays, for each has its own keys."""
    wanted = parse_event_properties(properties)
    source = events.source_of(tx.connection, trigger.id)
    if wanted.source != source:
        rule = f"cannot be changed from {source}; make another trigger"
        raise InvalidInputError.of("properties.source", wanted.source, rule)
    if wanted.normalised == trigger.properties and trigger.quarantine_reason is None:
        return {}
    _refuse_foreign(tx, trigger.project_id, wanted)
    if wanted.operation_id is not None:
        graph.refuse_cycle(tx.connection, watched=wanted.operation_id, trigger_id=trigger.id)
        events.update(tx, trigger.id, operation_id=wanted.operation_id)
    return {"properties": wanted.normalised, "quarantine_reason": None}


def rotate(tx: Tx, caller: Caller, trigger_id: str, *, sealing: Sealing | None) -> Trigger:
    """A new secret; requests that are signed with the former one are refused from now on."""
    trigger = triggers.get(tx.connection, trigger_id, project_id=caller.project_id)
    if events.source_of(tx.connection, trigger.id) != events.WEBHOOK:
        raise StateError(f"trigger {trigger_id} has no secret: it is fired by no webhook")
    secret, sealed = _new_secret(trigger_id, sealing)
    events.update(tx, trigger_id, sealed_secret=sealed)
    audit.record(tx, caller, "rotate_secret", "trigger", trigger_id)
    return replace(trigger, secret=secret)


def refuse_long_chain(connection: Connection, trigger: Trigger) -> None:
    """Before an operation is put on the trigger: it would be one more link of a chain."""
    watched = events.watched_by(connection, trigger.id)
    if watched is not None:
        graph.refuse_cycle(connection, watched=watched, trigger_id=trigger.id)


def quarantine_watchers(tx: Tx, operation: ScheduledOperation) -> None:
    """An operation is deleted: those who wait for its ends wait in vain, and say so (M3)."""
    rows = events.watchers_of(tx.connection, operation.id)
    reason = f"the operation it waited for, {operation.name} ({operation.id}), was deleted"
    if rows:
        due.quarantine(tx, dict.fromkeys(rows, reason))


def _new_secret(trigger_id: str, sealing: Sealing | None) -> tuple[str, str]:
    """(the secret, as it is stored)"""
    if sealing is None:
        raise StateError("this process keeps no secrets, and a webhook needs one")
    secret = signatures.new_secret()
    return secret, sealing.seal(secret, purpose=purpose(trigger_id))


def _refuse_foreign(tx: Tx, project_id: str, wanted: EventProperties) -> None:
    """The operation it waits for must be of the same project (I11), and no endless chain may begin."""
    if wanted.operation_id is None:
        return
    try:
        scheduled_operations.get(tx.connection, wanted.operation_id, project_id=project_id)
    except NotFoundError:
        rule = "is no scheduled operation of this project"
        raise InvalidInputError.of("properties.operation_id", wanted.operation_id, rule) from None
    graph.refuse_cycle(tx.connection, watched=wanted.operation_id, trigger_id=None)
