# SPDX-License-Identifier: Apache-2.0
"""The outbox: what has happened, as CloudEvents, written in the transaction in which it happened.

A loop tells the broker and removes the rows once it has confirmed them. If the process dies in between, they
are told again with the same ids: at least once, never lost. Nothing is written unless a broker is configured:
a row of ``install`` is the switch, so that all processes on one database agree.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import uuid4

import sqlalchemy as sa

from seawall.core.records import Json
from seawall.db.dialect import insert as dialect_insert
from seawall.db.session import Tx
from seawall.db.tables import checkpoints, install, outbox, runs, triggers

SWITCH = "outbox"

RUN_STARTED = "io.seawall.run.started"
RUN_ENDED = "io.seawall.run.ended"
CHECKPOINT = "io.seawall.checkpoint.changed"
TRIGGER_QUARANTINED = "io.seawall.trigger.quarantined"
SERVICE_UP = "io.seawall.service.up"
SERVICE_DOWN = "io.seawall.service.down"

SOURCE = "/seawall"


@dataclass(frozen=True, slots=True)
class Told:
    """A row that is to be published."""

    row: int
    id: str
    type: str
    event: Json
    at: datetime


def switch(tx: Tx, *, is_on: bool) -> None:
    """Begin or cease to write rows; what is there already stays until it is told or trimmed."""
    if is_on:
        statement = dialect_insert(tx.connection, install).values(name=SWITCH, value={})
        tx.connection.execute(statement.on_conflict_do_nothing())
    else:
        tx.connection.execute(install.delete().where(install.c.name == SWITCH))


_IS_ON = sa.select(sa.exists().where(install.c.name == SWITCH))


def is_on(connection: sa.Connection) -> bool:
    """Whether what happens is written down."""
    return bool(connection.execute(_IS_ON).scalar())


def note(tx: Tx, type: str, *, subject: str, project_id: str | None, data: Json) -> None:
    """Write down one thing that has happened, if anybody is told."""
    if is_on(tx.connection):
        _insert(tx, [_event(tx, type, subject, project_id, data)])


_RUN = (
    "id",
    "project_id",
    "kind",
    "operation_type",
    "scheduled_operation_id",
    "trigger_id",
    "plan_id",
    "state",
    "reason",
    "expected_at",
    "started_at",
    "ended_at",
    "attempt",
    "host",
)


def note_runs(tx: Tx, rows: Collection[int], type: str) -> None:
    """Write down of these runs how they stand now; the caller has asked ``is_on``."""
    query = sa.select(*(runs.c[name] for name in _RUN)).where(runs.c.row.in_(rows)).order_by(runs.c.row)
    noted = []
    for found in tx.connection.execute(query):
        data = {
            name: value.isoformat() if isinstance(value, datetime) else value
            for name, value in zip(_RUN, found, strict=True)
        }
        noted.append(_event(tx, type, f"run/{found.id}", found.project_id, data))
    _insert(tx, noted)


_CHECKPOINT = (
    "id",
    "project_id",
    "plan_id",
    "plan_name",
    "provider_id",
    "scheduled_operation_id",
    "run_id",
    "status",
    "reason",
    "items",
    "added_bytes",
)


def note_checkpoints(tx: Tx, ids: Collection[str]) -> None:
    """Write down of these checkpoints which status they have now, if anybody is told."""
    if not ids or not is_on(tx.connection):
        return
    columns = (checkpoints.c[name] for name in _CHECKPOINT)
    query = sa.select(*columns).where(checkpoints.c.id.in_(ids)).order_by(checkpoints.c.row)
    noted = []
    for found in tx.connection.execute(query):
        data = dict(zip(_CHECKPOINT, found, strict=True))
        data["state"] = data["status"]
        noted.append(_event(tx, CHECKPOINT, f"checkpoint/{found.id}", found.project_id, data))
    _insert(tx, noted)


def note_quarantined(tx: Tx, reasons: Mapping[int, str]) -> None:
    """Write down of these triggers, by row key, why they do not fire any more, if anybody is told."""
    if not reasons or not is_on(tx.connection):
        return
    query = sa.select(triggers.c.row, triggers.c.id, triggers.c.project_id, triggers.c.name).where(
        triggers.c.row.in_(reasons)
    )
    noted = []
    for row, trigger_id, project_id, name in tx.connection.execute(query):
        data = {"id": trigger_id, "project_id": project_id, "name": name, "reason": reasons[row]}
        noted.append(_event(tx, TRIGGER_QUARANTINED, f"trigger/{trigger_id}", project_id, data))
    _insert(tx, noted)


def note_service(tx: Tx, type: str, *, host: str, binary: str) -> None:
    """Write down that a service has started, or has stopped in order, if anybody is told."""
    note(
        tx, type, subject=f"service/{host}/{binary}", project_id=None, data={"host": host, "service": binary}
    )


def _event(tx: Tx, type: str, subject: str, project_id: str | None, data: Json) -> dict[str, Any]:
    event_id = str(uuid4())
    source = SOURCE if project_id is None else f"{SOURCE}/projects/{project_id}"
    return {
        "id": event_id,
        "type": type,
        "at": tx.now,
        "event": {
            "specversion": "1.0",
            "id": event_id,
            "source": source,
            "type": type,
            "subject": subject,
            "time": tx.now.isoformat().replace("+00:00", "Z"),
            "datacontenttype": "application/json",
            "data": data,
        },
    }


def _insert(tx: Tx, noted: Sequence[dict[str, Any]]) -> None:
    if noted:
        tx.connection.execute(outbox.insert(), noted)


# --- telling -------------------------------------------------------------------------------------


def waiting(connection: sa.Connection, *, limit: int) -> list[Told]:
    """The oldest rows that are still to be told."""
    query = sa.select(outbox.c.row, outbox.c.id, outbox.c.type, outbox.c.event, outbox.c.at)
    return [Told(*row) for row in connection.execute(query.order_by(outbox.c.row).limit(limit))]


def count(connection: sa.Connection) -> int:
    """How many rows are still to be told."""
    return int(connection.execute(sa.select(sa.func.count()).select_from(outbox)).scalar_one())


def remove(tx: Tx, rows: Iterable[int]) -> None:
    """These have been confirmed."""
    tx.connection.execute(outbox.delete().where(outbox.c.row.in_(list(rows))))


def trim(tx: Tx, *, before: datetime) -> int:
    """Give up what nobody could be told for so long; how many rows that were."""
    return tx.connection.execute(outbox.delete().where(outbox.c.at < before)).rowcount
