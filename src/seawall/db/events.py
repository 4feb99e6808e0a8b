# SPDX-License-Identifier: Apache-2.0
"""Event triggers: their rows, and the runs of their operations when an event has come (I1, I2).

A **receipt** (trigger, event id) is written in the transaction that inserts the runs. So an event fires a
trigger once, however often and to however many processes it is delivered, and whatever became of its runs.
If the process dies before the commit, the event has not come; after it, its runs are there.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import sqlalchemy as sa

from seawall.core.records import Json
from seawall.core.states import RunKind, RunState
from seawall.db import due, outbox
from seawall.db.session import Tx
from seawall.db.tables import (
    event_receipts,
    event_triggers,
    install,
    runs,
    scheduled_operations,
    to_micros,
    triggers,
)

WEBHOOK, AMQP, OPERATION = "webhook", "amqp", "operation"
# A chain of runs that fire one another is cut here: each of them names the one before it.
MAX_DEPTH = 8
# Whose ends fire: not the clean-up's runs of the same operation.
_OWN_KINDS = (RunKind.SCHEDULED, RunKind.EVENT, RunKind.MANUAL, RunKind.BACKFILL)


@dataclass(frozen=True, slots=True)
class EventTrigger:
    """An event trigger as the sources of events need it."""

    row: int
    id: str
    project_id: str
    source: str
    properties: Json
    operation_id: str | None
    sealed_secret: str | None


class StoredTrigger(NamedTuple):
    """An event trigger as it is stored, whether or not that holds."""

    row: int
    properties: Json
    source: str | None
    """None when it listens to nothing."""
    operation_id: str | None
    has_operation: bool
    """Whether that operation is there, in the same project."""
    has_secret: bool


@dataclass(frozen=True, slots=True)
class Firing:
    """One event that has come for one trigger."""

    trigger_row: int
    event_id: str
    """Unique for the trigger; with the source it is the occurrence of the runs."""
    source: str
    window_s: int
    depth: int | None = None
    """How long the chain is that led here; None when nobody's end did."""

    @property
    def occurrence(self) -> str:
        return f"{self.source} {self.event_id}"


@dataclass(frozen=True, slots=True)
class Fired:
    """What became of some firings."""

    fresh: int
    """How many had not come before."""
    runs: int
    """Rows for their operations, those that were skipped included."""


_SELECTED = (
    triggers.c.row,
    triggers.c.id,
    triggers.c.project_id,
    event_triggers.c.source,
    triggers.c.properties,
    event_triggers.c.operation_id,
    event_triggers.c.sealed_secret,
)


# --- rows of triggers ----------------------------------------------------------------------------


def insert(
    tx: Tx, trigger_id: str, *, source: str, operation_id: str | None, sealed_secret: str | None
) -> None:
    """Let a trigger that is there listen."""
    row = sa.select(triggers.c.row).where(triggers.c.id == trigger_id).scalar_subquery()
    tx.connection.execute(
        event_triggers.insert().values(
            trigger_row=row, source=source, operation_id=operation_id, sealed_secret=sealed_secret
        )
    )


def update(tx: Tx, trigger_id: str, **values: Any) -> None:
    """Set columns."""
    row = sa.select(triggers.c.row).where(triggers.c.id == trigger_id).scalar_subquery()
    tx.connection.execute(event_triggers.update().where(event_triggers.c.trigger_row == row).values(**values))


def delete(tx: Tx, trigger_id: str) -> None:
    """Forget what a trigger listened to, before the trigger itself is deleted."""
    row = sa.select(triggers.c.row).where(triggers.c.id == trigger_id).scalar_subquery()
    tx.connection.execute(event_receipts.delete().where(event_receipts.c.trigger_row == row))
    tx.connection.execute(event_triggers.delete().where(event_triggers.c.trigger_row == row))


def find(connection: sa.Connection, trigger_id: str) -> EventTrigger | None:
    """An event trigger that may fire; None when there is none of this id, or it is quarantined."""
    query = _listening().where(triggers.c.id == trigger_id)
    row = connection.execute(query).first()
    return None if row is None else EventTrigger(*row)


def listening(connection: sa.Connection, source: str) -> list[EventTrigger]:
    """All triggers of a source that may fire."""
    query = _listening().where(event_triggers.c.source == source).order_by(triggers.c.row)
    return [EventTrigger(*row) for row in connection.execute(query)]


def everything(connection: sa.Connection) -> list[EventTrigger]:
    """All event triggers that are not quarantined."""
    return [EventTrigger(*row) for row in connection.execute(_listening().order_by(triggers.c.row))]


def stored(connection: sa.Connection, *, after_row: int, limit: int) -> list[StoredTrigger]:
    """Event triggers that are not quarantined, a chunk in the order of their row keys."""
    has_operation = sa.exists().where(
        scheduled_operations.c.id == event_triggers.c.operation_id,
        scheduled_operations.c.project_id == triggers.c.project_id,
    )
    query = (
        sa.select(
            triggers.c.row,
            triggers.c.properties,
            event_triggers.c.source,
            event_triggers.c.operation_id,
            has_operation,
            event_triggers.c.sealed_secret.is_not(None),
        )
        .outerjoin(event_triggers, event_triggers.c.trigger_row == triggers.c.row)
        .where(triggers.c.type == "event", triggers.c.quarantine_reason.is_(None), triggers.c.row > after_row)
        .order_by(triggers.c.row)
        .limit(limit)
    )
    return [StoredTrigger(*row) for row in connection.execute(query)]


def source_of(connection: sa.Connection, trigger_id: str) -> str | None:
    """What fires this trigger, whatever its properties say; None when nothing does."""
    query = (
        sa.select(event_triggers.c.source)
        .join(triggers, triggers.c.row == event_triggers.c.trigger_row)
        .where(triggers.c.id == trigger_id)
    )
    found: str | None = connection.execute(query).scalar()
    return found


def watched_by(connection: sa.Connection, trigger_id: str) -> str | None:
    """The operation whose ends fire this trigger; None when it is no such trigger."""
    query = (
        sa.select(event_triggers.c.operation_id)
        .join(triggers, triggers.c.row == event_triggers.c.trigger_row)
        .where(triggers.c.id == trigger_id)
    )
    found: str | None = connection.execute(query).scalar()
    return found


def watchers_of(connection: sa.Connection, operation_id: str) -> list[int]:
    """The row keys of the triggers that wait for ends of this operation."""
    query = sa.select(event_triggers.c.trigger_row).where(event_triggers.c.operation_id == operation_id)
    return list(connection.execute(query).scalars())


def delete_receipts(tx: Tx, *, before: datetime, limit: int) -> int:
    """Delete receipts from before then; how many."""
    chosen = (
        tx.connection.execute(
            sa.select(event_receipts.c.trigger_row, event_receipts.c.event_id)
            .where(event_receipts.c.at < before)
            .order_by(event_receipts.c.at)
            .limit(limit)
        )
    ).all()
    if chosen:
        tx.connection.execute(
            event_receipts.delete().where(
                event_receipts.c.trigger_row == sa.bindparam("b_row"),
                event_receipts.c.event_id == sa.bindparam("b_id"),
            ),
            [{"b_row": row, "b_id": event_id} for row, event_id in chosen],
        )
    return len(chosen)


def _listening() -> sa.Select[Any]:
    return (
        sa.select(*_SELECTED)
        .join(triggers, triggers.c.row == event_triggers.c.trigger_row)
        .where(triggers.c.quarantine_reason.is_(None))
    )


# --- firing ------------------------------------------------------------------------------------


def fire(tx: Tx, firings: Sequence[Firing]) -> Fired:
    """Make rows of runs of these events, each once. What is paused skips it, visibly."""
    fresh = _received(tx, firings)
    if not fresh:
        return Fired(0, 0)
    paused = _paused(tx, {one.trigger_row for one in fresh})
    inserted = 0
    ready: dict[int | None, list[Firing]] = defaultdict(list)
    for one in fresh:
        if one.trigger_row in paused:
            inserted += _skip(tx, one, RunState.SKIPPED_PAUSED, paused[one.trigger_row])
        elif one.depth is not None and one.depth > MAX_DEPTH:
            inserted += _skip(
                tx, one, RunState.MISSED, f"more than {MAX_DEPTH} runs had fired one another before it"
            )
        else:
            ready[one.depth].append(one)
    for depth, chosen in ready.items():
        inserted += due.write_runs(tx, _records(tx, chosen), kind=RunKind.EVENT, depth=depth)
    tx.connection.execute(
        triggers.update()
        .where(triggers.c.row.in_({one.trigger_row for one in fresh}))
        .values(fired_through_at=tx.now)
    )
    return Fired(len(fresh), inserted)


def _received(tx: Tx, firings: Sequence[Firing]) -> list[Firing]:
    """Those that had not come before."""
    if not firings:
        return []
    source = due.select_of(tx.connection, "came", t="bigint", i="text")
    found = tx.connection.execute(
        sa.text(_RECEIVE.format(source=source)),
        {
            "came": due.as_json([{"t": one.trigger_row, "i": one.event_id} for one in firings]),
            "now": to_micros(tx.now),
        },
    )
    new = {(row, event_id) for row, event_id in found}
    chosen = []
    for one in firings:
        if (key := (one.trigger_row, one.event_id)) in new:
            new.discard(key)
            chosen.append(one)
    return chosen


# One event may stand twice in a batch.
_RECEIVE = """
    INSERT INTO event_receipts (trigger_row, event_id, at)
    SELECT DISTINCT d.t, d.i, CAST(:now AS bigint) FROM ({source}) AS d WHERE 1 = 1
    ON CONFLICT DO NOTHING RETURNING trigger_row, event_id"""


def _paused(tx: Tx, rows: Collection[int]) -> dict[int, str]:
    """Trigger row -> why it skips what comes; pauses that are over are ended."""
    query = (
        sa.select(triggers.c.row, triggers.c.paused_reason, triggers.c.paused_until_at)
        .where(triggers.c.row.in_(rows), triggers.c.paused_at.is_not(None))
        .with_for_update()
    )
    paused, over = {}, []
    for row, reason, until in tx.connection.execute(query):
        if until is not None and until <= tx.now:
            over.append(row)
        else:
            paused[row] = f"the trigger is paused: {reason}" if reason else "the trigger is paused"
    if over:
        tx.connection.execute(
            triggers.update()
            .where(triggers.c.row.in_(over))
            .values(paused_at=None, paused_reason=None, paused_until_at=None)
        )
    return paused


def _records(tx: Tx, firings: Sequence[Firing]) -> list[dict[str, Any]]:
    """As ``due.write_runs`` takes them: events that came at once are one after the other."""
    now = to_micros(tx.now)
    last = {one.trigger_row: one for one in firings}
    seen: set[int] = set()
    records = []
    for one in firings:
        records.append(
            {
                "t": [one.trigger_row],
                "e": now,
                "p": now if one.trigger_row in seen else None,
                "l": int(last[one.trigger_row] is one),
                "o": one.occurrence,
                "d": to_micros(tx.now + timedelta(seconds=one.window_s)),
                "s": 0,
            }
        )
        seen.add(one.trigger_row)
    return records


# Of the operations of one trigger; an event belongs to those that were registered when it came.
_MINE = "o.trigger_row = :trigger AND o.enabled AND o.registered_at <= :now"
_NEWEST = """
    (SELECT newest.row FROM runs AS newest WHERE newest.subject_id = o.id AND newest.kind = 'event'
    ORDER BY newest.row DESC LIMIT 1)"""

_GROW = f"""
    UPDATE runs SET gap_last_at = :now, gap_count = gap_count + 1, ended_at = :now
    FROM (SELECT {_NEWEST} AS newest_row FROM scheduled_operations AS o WHERE {_MINE}) AS g
    WHERE runs.row = g.newest_row AND runs.gap_count IS NOT NULL AND runs.state = :state
    AND runs.reason = :reason
    RETURNING runs.subject_id"""

_INSERT_GAP = f"""
    INSERT INTO runs ({{columns}}, gap_first_at, gap_last_at, gap_count, depth)
    SELECT {{id}}, o.project_id, o.user_id, 'event', 'scheduled_operation', o.id, CAST(:occurrence AS text),
        o.operation_type, o.definition, o.id, t.id, o.plan_id, o.host, NULL, CAST(:state AS text),
        CAST(:reason AS text), o.priority, CAST(:now AS bigint), CAST(:now AS bigint), NULL, o.timeout_s,
        CAST(:now AS bigint), 0, 0, o.retry_max_attempts, o.retry_delay_s, 0, CAST(:now AS bigint),
        CAST(:now AS bigint), 1, CAST(:depth AS integer)
    FROM scheduled_operations AS o CROSS JOIN triggers AS t
    WHERE {_MINE} AND t.row = o.trigger_row AND NOT EXISTS (
        SELECT 1 FROM runs AS grown WHERE grown.row = {_NEWEST} AND grown.gap_count IS NOT NULL
        AND grown.state = :state AND grown.reason = :reason)
    ON CONFLICT DO NOTHING"""


def _skip(tx: Tx, firing: Firing, state: RunState, reason: str) -> int:
    """A stretch of events that run nothing is one gap row of each operation (I1)."""
    parameters: dict[str, Any] = {
        "trigger": firing.trigger_row,
        "now": to_micros(tx.now),
        "state": state.value,
        "reason": reason,
    }
    tx.connection.execute(sa.text(_GROW), parameters)
    statement = _INSERT_GAP.format(columns=due.RUN_COLUMNS, id=due.new_row_id(tx.connection))
    more = {"occurrence": firing.occurrence, "depth": firing.depth, **due.new_id_prefix(tx.now)}
    return outbox.change_runs(tx, statement, {**parameters, **more}, is_told=outbox.is_on(tx.connection))


# --- what happens to runs fires, too ---------------------------------------------------------------

_LISTENED = sa.select(
    sa.exists().where(install.c.name == outbox.SWITCH),
    sa.exists().where(event_triggers.c.operation_id.is_not(None)),
)


def after_ended(tx: Tx, rows: Collection[int]) -> None:
    """Runs have ended in this transaction: fire the triggers that waited for it, and tell the broker.

    Whoever records an end calls this with the row keys, in the same transaction. When nobody listens it costs
    one small read.
    """
    if not rows:
        return
    is_told, is_watched = tx.connection.execute(_LISTENED).one()
    if is_told:
        outbox.note_runs(tx, rows, outbox.RUN_ENDED)
    if is_watched:
        fire(tx, _firings(tx, rows))


def is_watched(connection: sa.Connection) -> bool:
    """Whether the end of some operation fires another."""
    _, found = connection.execute(_LISTENED).one()
    return bool(found)


def after_started(tx: Tx, rows: Collection[int]) -> None:
    """Runs have been claimed for the first time in this transaction."""
    if rows and outbox.is_on(tx.connection):
        outbox.note_runs(tx, rows, outbox.RUN_STARTED)


def _firings(tx: Tx, rows: Collection[int]) -> list[Firing]:
    """A trigger whose stored properties no longer hold is quarantined: an end is recorded whatever waits for
    it."""
    query = (
        sa.select(event_triggers.c.trigger_row, triggers.c.properties, runs.c.id, runs.c.state, runs.c.depth)
        .select_from(runs)
        .join(event_triggers, event_triggers.c.operation_id == runs.c.scheduled_operation_id)
        .join(triggers, triggers.c.row == event_triggers.c.trigger_row)
        .where(runs.c.row.in_(rows), runs.c.kind.in_(_OWN_KINDS), triggers.c.quarantine_reason.is_(None))
        .order_by(runs.c.row)
    )
    firings: list[Firing] = []
    faults: dict[int, str] = {}
    for row, properties, run_id, state, depth in tx.connection.execute(query):
        window_s, states = properties.get("window"), properties.get("states")
        if not isinstance(window_s, int) or not isinstance(states, list):
            faults[row] = f"its properties do not hold: window {window_s!r}, states {states!r}"
        elif state in states:
            firings.append(Firing(row, run_id, OPERATION, window_s, (depth or 0) + 1))
    if faults:
        due.quarantine(tx, faults)
    return firings


def upstream(connection: sa.Connection, operation_id: str) -> Iterable[tuple[str, str]]:
    """(operation, its trigger), from this operation on to the one whose ends fire it, and so on; it may be
    without end."""
    following: str | None = operation_id
    while following is not None:
        row = connection.execute(
            sa.select(triggers.c.id, event_triggers.c.operation_id)
            .select_from(scheduled_operations)
            .join(triggers, triggers.c.row == scheduled_operations.c.trigger_row)
            .outerjoin(event_triggers, event_triggers.c.trigger_row == triggers.c.row)
            .where(scheduled_operations.c.id == following)
        ).first()
        if row is None:
            return
        yield following, row.id
        following = row.operation_id
