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

import orjson
import sqlalchemy as sa

from seawall.core.records import Json
from seawall.db import dialect
from seawall.db.dialect import insert as dialect_insert
from seawall.db.dialect import is_postgresql
from seawall.db.session import Tx
from seawall.db.tables import Instant, checkpoints, install, outbox, runs, to_micros, triggers

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


# --- runs ----------------------------------------------------------------------------------------

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
    "gap_first_at",
    "gap_last_at",
    "gap_count",
)

# The documents are made by the database: a claim may end thousands of runs by one statement.
_INSERT = """
    INSERT INTO outbox (id, type, event, at)
    WITH noted AS MATERIALIZED (SELECT {new_id} AS event_id, {columns} FROM {source})
    SELECT n.event_id, CAST(:told_type AS text), {document}(
        'specversion', '1.0', 'id', {event_id}, 'source', '{prefix}' || {project_id},
        'type', CAST(:told_type AS text), 'subject', 'run/' || {run_id}, 'time', CAST(:told_time AS text),
        'datacontenttype', 'application/json', 'data', {document}({data})), CAST(:told_at AS bigint)
    FROM noted AS n ORDER BY n.row"""


def note_runs(tx: Tx, rows: Collection[int], type: str) -> None:
    """Write down of these runs how they stand now; the caller has asked ``is_on``."""
    parameters = {**_noted(tx, type), "told_rows": orjson.dumps(list(rows)).decode()}
    statement = _note_from(
        tx, f"{dialect.json_numbers(tx.connection, 'told_rows')} CROSS JOIN runs AS r WHERE r.row = j.value"
    )
    tx.connection.execute(sa.text(statement), parameters)


def change_runs(tx: Tx, statement: str, parameters: Mapping[str, Any], *, is_told: bool) -> int:
    """Insert or update runs by one statement, without RETURNING; how many.

    ``is_told``: those that it ends, or that it inserts as ended, are written down by the database itself.
    """
    if not is_told:
        return tx.connection.execute(sa.text(statement), parameters).rowcount
    if not is_postgresql(tx.connection):
        returning = f"{statement} RETURNING runs.row, runs.ended_at"
        found = tx.connection.execute(sa.text(returning), parameters).all()
        if ended := [row for row, ended_at in found if ended_at is not None]:
            note_runs(tx, ended, RUN_ENDED)
        return len(found)
    noting = _note_from(tx, "changed AS r WHERE r.ended_at IS NOT NULL")
    returned = ", ".join(f"runs.{name}" for name in ("row", *_RUN))
    whole = (
        f"WITH changed AS ({statement} RETURNING {returned}), told AS ({noting}) SELECT count(*) FROM changed"
    )
    told = {**parameters, **_noted(tx, RUN_ENDED)}
    return int(tx.connection.execute(sa.text(whole), told).scalar_one())


def _note_from(tx: Tx, source: str) -> str:
    """The statement that writes down runs, with their columns under the name ``r``."""
    connection = tx.connection
    document = dialect.json_object(connection)
    data = ", ".join(f"'{name}', {_shown(connection, name)}" for name in _RUN)
    return _INSERT.format(
        new_id=dialect.new_uuid(connection),
        columns=", ".join(f"r.{name}" for name in ("row", *_RUN)),
        source=source,
        document=document,
        event_id=dialect.uuid_text(connection, "n.event_id"),
        prefix=f"{SOURCE}/projects/",
        project_id=dialect.uuid_text(connection, "n.project_id"),
        run_id=dialect.uuid_text(connection, "n.id"),
        data=data,
    )


def _shown(connection: sa.Connection, name: str) -> str:
    """A column of a run as documents show it."""
    kind, column = runs.c[name].type, f"n.{name}"
    if isinstance(kind, Instant):
        return dialect.instant_text(connection, column)
    return dialect.uuid_text(connection, column) if isinstance(kind, sa.Uuid) else column


def _noted(tx: Tx, type: str) -> dict[str, Any]:
    return {"told_type": type, "told_time": _time(tx), "told_at": to_micros(tx.now)}


# --- other things --------------------------------------------------------------------------------

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


def note_service(tx: Tx, type: str, *, host: str, binary: str, reason: str) -> None:
    """Write down that a service is up, or down, and how that came, if anybody is told."""
    data = {"host": host, "service": binary, "reason": reason}
    note(tx, type, subject=f"service/{host}/{binary}", project_id=None, data=data)


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
            "time": _time(tx),
            "datacontenttype": "application/json",
            "data": data,
        },
    }


def _time(tx: Tx) -> str:
    return tx.now.isoformat().replace("+00:00", "Z")


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
