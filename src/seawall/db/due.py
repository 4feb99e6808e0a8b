# SPDX-License-Identifier: Apache-2.0
"""The rows of a claim: due triggers, and what is written about their operations. Set-based throughout.

What was decided travels as one JSON parameter, once for all triggers that it holds for, and is joined with
the operations inside the database, so that a run costs no object and no statement of its own. ``apply`` is
the only writer of scheduled rows (I1, I2).
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import orjson
import sqlalchemy as sa

from seawall.core.states import LIVE_RUN_STATES, RunKind
from seawall.db import outbox
from seawall.db.dialect import is_postgresql
from seawall.db.session import Tx
from seawall.db.tables import to_micros, triggers

# Runs that catch up after a misfire go one after the other and are never replaced by a newer one.
CATCHING_UP = "it catches up on a due time that was missed"

# What an overlap is measured against: not the clean-up's runs of the same operation, nor what a user asked.
_SCHEDULED = ", ".join(f"'{kind}'" for kind in (RunKind.SCHEDULED, RunKind.EVENT))
_LIVE = ", ".join(f"'{state}'" for state in LIVE_RUN_STATES)


class DueTrigger(NamedTuple):
    """A trigger whose next time has come, or that has none yet."""

    row: int
    id: Any
    """As the database has it: ``trigger_id`` makes it the text that everybody else uses."""
    properties: str
    """JSON text, as stored: schedules are cached by it."""
    fired_through: int
    """Microseconds, like the other instants."""
    paused_at: int | None
    paused_reason: str | None
    paused_until: int | None

    @property
    def trigger_id(self) -> str:
        return str(UUID(str(self.id)))

    @property
    def is_paused(self) -> bool:
        return self.paused_at is not None


@dataclass(slots=True)
class Decided:
    """What a claim has decided about its triggers; the letters are the columns of the JSON records below."""

    runs: list[dict[str, Any]] = field(default_factory=list)
    """t rows of the triggers that it holds for, e expected, b registered by when an operation has part in it
    if that is earlier, p the same of the run before it in this decision, l whether it is the last one, o
    occurrence, d deadline, s whether it is serial."""
    gaps: list[list[dict[str, Any]]] = field(default_factory=list)
    """In rounds, one after the other; at most one gap of an operation in each. t trigger row, f first and
    l last expected time, c count, s state, r reason, o occurrence; it belongs to operations registered after
    a and at or before b, or to w alone."""
    advances: list[dict[str, Any]] = field(default_factory=list)
    """t rows of the triggers that it holds for, f fired through, n next run, u whether their pause has ended
    by itself."""


# In the order of the fields; what all triggers have comes without being made into objects.
_DUE = (
    triggers.c.row,
    sa.type_coerce(triggers.c.id, sa.types.NullType()),
    sa.cast(triggers.c.properties, sa.Text),
    sa.type_coerce(sa.func.coalesce(triggers.c.fired_through_at, triggers.c.created_at), sa.BigInteger),
    sa.type_coerce(triggers.c.paused_at, sa.BigInteger),
    triggers.c.paused_reason,
    sa.type_coerce(triggers.c.paused_until_at, sa.BigInteger),
)


def due_triggers(connection: sa.Connection, now: datetime, limit: int) -> list[DueTrigger]:
    """The first ``limit`` triggers that are due, by the index on the next time; those that another engine
    settles at this moment are left to it."""
    query = (
        sa.select(*_DUE)
        .where(triggers.c.next_run_at <= now)
        .order_by(triggers.c.next_run_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    return _taken(connection, query)


def one_trigger(connection: sa.Connection, trigger_id: str) -> DueTrigger | None:
    """A trigger by its id, locked until the end of the transaction; None when it fires no more by time."""
    query = (
        sa.select(*_DUE)
        .where(triggers.c.id == trigger_id, triggers.c.type == "time", triggers.c.quarantine_reason.is_(None))
        .with_for_update()
    )
    found = _taken(connection, query)
    return found[0] if found else None


def _taken(connection: sa.Connection, query: sa.Select[Any]) -> list[DueTrigger]:
    """All that a decision looks up and writes comes after this, in the same transaction."""
    _look_up_by_index(connection)
    return list(map(DueTrigger._make, connection.execute(query).all()))


def next_due_at(connection: sa.Connection) -> datetime | None:
    """When the next trigger is due; None when none is."""
    query = (
        sa.select(triggers.c.next_run_at)
        .where(triggers.c.next_run_at.is_not(None))
        .order_by(triggers.c.next_run_at)
        .limit(1)
    )
    found: datetime | None = connection.execute(query).scalar()
    return found


def without_next_time(connection: sa.Connection, *, after_row: int, limit: int) -> list[DueTrigger]:
    """Time triggers that are neither scheduled nor quarantined (M3), those that have ended among them; a
    chunk in the order of their row keys."""
    query = (
        sa.select(*_DUE)
        .where(
            triggers.c.next_run_at.is_(None),
            triggers.c.quarantine_reason.is_(None),
            triggers.c.type == "time",
            triggers.c.row > after_row,
        )
        .order_by(triggers.c.row)
        .limit(limit)
    )
    return _taken(connection, query)


def all_scheduled(connection: sa.Connection, *, after_row: int, limit: int) -> list[tuple[int, str]]:
    """(row, properties) of time triggers that are not quarantined, a chunk in the order of their row keys."""
    query = (
        sa.select(triggers.c.row, sa.cast(triggers.c.properties, sa.Text))
        .where(triggers.c.quarantine_reason.is_(None), triggers.c.type == "time", triggers.c.row > after_row)
        .order_by(triggers.c.row)
        .limit(limit)
    )
    return [(row, text) for row, text in connection.execute(query)]


def registrations_within(
    connection: sa.Connection, spans: Iterable[tuple[int, int, int]]
) -> dict[int, list[int]]:
    """Trigger row -> the instants (microseconds) at which operations were registered, of those with
    first < registered <= last. Almost always empty: registering settles what is due."""
    records = [{"t": row, "f": first, "l": last} for row, first, last in spans]
    if not records:
        return {}
    query = f"""
        WITH d AS MATERIALIZED ({select_of(connection, "spans", t="bigint", f="bigint", l="bigint")})
        SELECT DISTINCT o.trigger_row, o.registered_at FROM d CROSS JOIN scheduled_operations AS o
        WHERE o.trigger_row = d.t AND o.registered_at > d.f AND o.registered_at <= d.l AND o.enabled
        ORDER BY 1, 2"""
    found: dict[int, list[int]] = {}
    for row, instant in connection.execute(sa.text(query), {"spans": as_json(records)}):
        found.setdefault(row, []).append(instant)
    return found


def apply(tx: Tx, decided: Decided) -> int:
    """Write gaps, runs and advances of one claim; how many rows of runs were inserted."""
    for gaps in decided.gaps:
        if gaps:
            _write_gaps(tx, gaps)
    inserted = _write_runs(tx, decided.runs, RunKind.SCHEDULED, None) if decided.runs else 0
    if decided.advances:
        _advance(tx, decided.advances)
    return inserted


def quarantine(tx: Tx, reasons: Mapping[int, str]) -> None:
    """Take out triggers that can no longer be evaluated; the reason is shown with each (M3)."""
    tx.connection.execute(
        triggers.update()
        .where(triggers.c.row == sa.bindparam("b_row"))
        .values(next_run_at=None, quarantine_reason=sa.bindparam("b_reason")),
        [{"b_row": row, "b_reason": reason} for row, reason in reasons.items()],
    )
    outbox.note_quarantined(tx, reasons)


# --- runs --------------------------------------------------------------------------------------

_RUN = {
    "e": "bigint",
    "b": "bigint",
    "p": "bigint",
    "l": "integer",
    "o": "text",
    "d": "bigint",
    "s": "integer",
}
_OWN = "o.trigger_row = d.t AND o.enabled AND o.registered_at <= coalesce(d.b, d.e)"
RUN_COLUMNS = (
    "id, project_id, user_id, kind, subject_type, subject_id, occurrence, operation_type, definition, "
    "scheduled_operation_id, trigger_id, plan_id, host, lock_key, state, reason, priority, expected_at, "
    "triggered_at, deadline_at, timeout_s, ended_at, attempt, take_overs, max_attempts, retry_delay_s, fence"
)


def write_runs(
    tx: Tx, records: Sequence[Mapping[str, Any]], *, kind: RunKind, depth: int | None = None
) -> int:
    """Insert the runs of all operations of the triggers in ``records`` (see ``Decided.runs``), each by its
    operation's overlap policy; how many rows that were. An occurrence that is there already must not be
    among them: it would make way for itself."""
    _look_up_by_index(tx.connection)
    return _write_runs(tx, records, kind, depth)


def _write_runs(tx: Tx, records: Sequence[Mapping[str, Any]], kind: RunKind, depth: int | None) -> int:
    source = select_of_each(tx.connection, "due", **_RUN)
    parameters = {"due": as_json(records), "now": to_micros(tx.now), **new_id_prefix(tx.now)}
    policies = set(tx.connection.execute(sa.text(_POLICIES.format(source=source)), parameters).scalars())
    is_told = outbox.SWITCH in policies
    if "queue_one" in policies:
        outbox.change_runs(tx, _REPLACE.format(source=source), parameters, is_told=is_told)
    if "cancel_running" in policies:
        for statement in (_CANCEL_WAITING, _CANCEL_WORKING):
            outbox.change_runs(tx, statement.format(source=source), parameters, is_told=is_told)
    statement = _INSERT.format(
        source=source,
        id=new_row_id(tx.connection),
        lock=_hex(tx.connection, "o.id"),
        other=_of_definition(tx.connection, "scheduled_operation_id"),
        columns=RUN_COLUMNS,
        kind=kind.value,
        depth="NULL" if depth is None else int(depth),
    )
    return outbox.change_runs(tx, statement, parameters, is_told=is_told)


# And whether anybody is told, which costs no statement of its own.
_POLICIES = f"""
    WITH d AS MATERIALIZED ({{source}})
    SELECT DISTINCT o.overlap FROM d CROSS JOIN scheduled_operations AS o WHERE {_OWN}
    UNION ALL SELECT name FROM install WHERE name = '{outbox.SWITCH}'"""

# Whose waiting or working runs make way for the last due time of the claim. In the words of the index of live
# runs, without which every run there is would be looked at.
_MAKING_WAY = f"""
    scheduled_operation_id IN (
        SELECT o.id FROM d CROSS JOIN scheduled_operations AS o
        WHERE {_OWN} AND o.overlap = '{{policy}}' AND d.l = 1 AND d.s = 0)
    AND kind IN ({_SCHEDULED}) AND state IN ({_LIVE})
    AND (reason IS NULL OR reason <> '{CATCHING_UP}')"""

_REPLACE = f"""
    WITH d AS MATERIALIZED ({{source}})
    UPDATE runs SET state = 'skipped_overlap', reason = 'a newer one took its place', ended_at = :now
    WHERE state = 'queued' AND started_at IS NULL
    AND {_MAKING_WAY.format(policy="queue_one")}"""

_CANCEL_WAITING = f"""
    WITH d AS MATERIALIZED ({{source}})
    UPDATE runs SET state = 'cancelled', reason = 'a newer one took its place', ended_at = :now
    WHERE state = 'queued' AND {_MAKING_WAY.format(policy="cancel_running")}"""

_CANCEL_WORKING = f"""
    WITH d AS MATERIALIZED ({{source}})
    UPDATE runs SET state = 'cancelling', reason = 'a newer one took its place', cancel_requested_at = :now
    WHERE state = 'in_progress' AND {_MAKING_WAY.format(policy="cancel_running")}"""

# Not EXISTS: PostgreSQL would gather the live runs of all operations for it, at every claim.
_IS_LIVE = f"""(
    SELECT 1 FROM runs AS live WHERE live.scheduled_operation_id = o.id
    AND live.state IN ({_LIVE}) AND live.kind IN ({_SCHEDULED}) LIMIT 1) = 1"""

# ``skip``: the first due time of the claim runs if nothing of the operation lives. ``queue_one`` and
# ``cancel_running``: the last one waits. What works on a plan, and what may not overlap, has the operation's
# lock: one works at a time, and never beside a retention of the same scope (I6).
_INSERT = f"""
    INSERT INTO runs ({{columns}}, depth)
    WITH d AS MATERIALIZED ({{source}}),
    r AS MATERIALIZED (
        SELECT o.row AS operation_row, d.e, d.o, d.d, d.s, CASE
            WHEN d.s = 1 OR o.overlap = 'allow' THEN 0
            WHEN o.overlap = 'skip' THEN CASE
                WHEN d.p >= o.registered_at OR {_IS_LIVE} THEN 1 ELSE 0 END
            ELSE 1 - d.l END AS is_skipped
        FROM d CROSS JOIN scheduled_operations AS o WHERE {_OWN})
    SELECT {{id}}, o.project_id, o.user_id, '{{kind}}', 'scheduled_operation', o.id, r.o, o.operation_type,
        o.definition, o.id, t.id, o.plan_id, o.host,
        CASE WHEN o.overlap = 'allow' AND o.plan_id IS NULL AND r.s = 0 THEN NULL
            WHEN o.operation_type = 'retention' THEN coalesce(replace({{other}}, '-', ''), {{lock}})
            ELSE {{lock}} END,
        CASE r.is_skipped WHEN 1 THEN 'skipped_overlap' ELSE 'queued' END,
        CASE WHEN r.s = 1 THEN '{CATCHING_UP}' WHEN r.is_skipped = 0 THEN NULL
            WHEN o.overlap = 'skip' THEN 'an earlier run of this operation had not ended'
            ELSE 'a newer one took its place' END,
        o.priority, r.e, :now, r.d, o.timeout_s, CASE r.is_skipped WHEN 1 THEN :now END,
        0, 0, o.retry_max_attempts, o.retry_delay_s, 0, {{depth}}
    FROM r CROSS JOIN scheduled_operations AS o CROSS JOIN triggers AS t
    WHERE o.row = r.operation_row AND t.row = o.trigger_row
    ON CONFLICT DO NOTHING"""

# --- gaps --------------------------------------------------------------------------------------

_GAP = {
    "t": "bigint", "f": "bigint", "l": "bigint", "c": "bigint", "s": "text", "r": "text", "o": "text",
    "a": "bigint", "b": "bigint", "w": "text",
}  # fmt: skip
_OF_GAP = (
    "o.trigger_row = d.t AND o.enabled AND o.registered_at > d.a AND o.registered_at <= d.b "
    "AND (d.w IS NULL OR d.w = {own})"
)
# The occurrence sorts as its due time does: the newest row of an operation is found by the unique index.
_NEWEST = """
    (SELECT newest.row FROM runs AS newest WHERE newest.subject_id = o.id AND newest.kind = 'scheduled'
    ORDER BY newest.occurrence DESC LIMIT 1)"""

# The rows to look at are named first: SQLite would look at every run there is to find the newest ones.
_GROW = f"""
    WITH d AS MATERIALIZED ({{source}}),
    g AS MATERIALIZED (SELECT {_NEWEST} AS newest_row, d.l, d.c, d.s, d.r
        FROM d CROSS JOIN scheduled_operations AS o WHERE {_OF_GAP})
    UPDATE runs SET gap_last_at = g.l, gap_count = gap_count + g.c, ended_at = :now FROM g
    WHERE runs.row IN (SELECT newest_row FROM g) AND runs.row = g.newest_row
    AND runs.gap_count IS NOT NULL AND runs.state = g.s AND runs.reason = g.r AND runs.gap_last_at < g.l"""

_INSERT_GAPS = f"""
    INSERT INTO runs ({{columns}}, gap_first_at, gap_last_at, gap_count)
    WITH d AS MATERIALIZED ({{source}})
    SELECT {{id}}, o.project_id, o.user_id, 'scheduled', 'scheduled_operation', o.id, d.o, o.operation_type,
        o.definition, o.id, t.id, o.plan_id, o.host, NULL, d.s, d.r, o.priority, d.f, :now, NULL, o.timeout_s,
        :now, 0, 0, o.retry_max_attempts, o.retry_delay_s, 0, d.f, d.l, d.c
    FROM d CROSS JOIN scheduled_operations AS o CROSS JOIN triggers AS t
    WHERE {_OF_GAP} AND t.row = o.trigger_row AND NOT EXISTS (
        SELECT 1 FROM runs AS grown WHERE grown.row = {_NEWEST} AND grown.gap_last_at >= d.l)
    ON CONFLICT DO NOTHING"""


def _write_gaps(tx: Tx, records: Sequence[Mapping[str, Any]]) -> None:
    """A gap of the same state and reason as the operation's newest row lets that one grow (I1)."""
    source = select_of(tx.connection, "gaps", **_GAP)
    parameters = {"gaps": as_json(records), "now": to_micros(tx.now), **new_id_prefix(tx.now)}
    own = _hex(tx.connection, "o.id")
    tx.connection.execute(sa.text(_GROW.format(source=source, own=own)), parameters)
    statement = _INSERT_GAPS.format(source=source, own=own, id=new_row_id(tx.connection), columns=RUN_COLUMNS)
    outbox.change_runs(tx, statement, parameters, is_told=outbox.is_on(tx.connection))


# --- advancing ---------------------------------------------------------------------------------

_ADVANCE = """
    WITH d AS MATERIALIZED ({source})
    UPDATE triggers SET next_run_at = d.n, fired_through_at = d.f FROM d
    WHERE triggers.row = d.t AND coalesce(triggers.fired_through_at, d.f) <= d.f"""
_RESUME = (
    "UPDATE triggers SET paused_at = NULL, paused_reason = NULL, paused_until_at = NULL WHERE row IN ({})"
)


def _advance(tx: Tx, records: Sequence[Mapping[str, Any]]) -> None:
    """Move triggers on in one statement; ``fired_through_at`` only grows (I1)."""
    source = select_of_each(tx.connection, "advances", f="bigint", n="bigint")
    tx.connection.execute(sa.text(_ADVANCE.format(source=source)), {"advances": as_json(records)})
    if resumed := [int(row) for one in records if one.get("u") for row in one["t"]]:
        tx.connection.execute(sa.text(_RESUME.format(", ".join(map(str, resumed)))))


# --- what the databases spell differently --------------------------------------------------------


def _look_up_by_index(connection: sa.Connection) -> None:
    """For this transaction: what a claim joins are a few rows of large tables, whatever PostgreSQL believes.

    It cannot know how many records a parameter holds, and may read all triggers and operations there are for
    each of the statements, or compile one that it takes for a long one.
    """
    if is_postgresql(connection):
        connection.exec_driver_sql(_BY_INDEX)


_BY_INDEX = "SELECT " + ", ".join(
    f"set_config('{name}', 'off', true)"
    for name in ("enable_hashjoin", "enable_mergejoin", "enable_seqscan", "jit")
)


def select_of(connection: sa.Connection, parameter: str, **columns: str) -> str:
    """A select of the records in a JSON parameter."""
    if is_postgresql(connection):
        named = ", ".join(f"{name} {kind}" for name, kind in columns.items())
        return f"SELECT * FROM json_to_recordset(CAST(:{parameter} AS json)) AS x({named})"
    named = ", ".join(f"json_extract(value, '$.{name}') AS {name}" for name in columns)
    return f"SELECT {named} FROM json_each(:{parameter})"


def select_of_each(connection: sa.Connection, parameter: str, **columns: str) -> str:
    """The same, with a row for each of the row keys in the list ``t`` of a record."""
    if is_postgresql(connection):
        named = ", ".join(f"{name} {kind}" for name, kind in columns.items())
        return (
            f"SELECT each.t, {', '.join(f'x.{name}' for name in columns)} FROM json_to_recordset("
            f"CAST(:{parameter} AS json)) AS x(t bigint[], {named}) CROSS JOIN unnest(x.t) AS each(t)"
        )
    # Taken apart once: a record may be of thousands of rows, and each would look into it again.
    named = ", ".join(f"json_extract(value, '$.{name}') AS {name}" for name in ("t", *columns))
    return (
        f"WITH x AS MATERIALIZED (SELECT {named} FROM json_each(:{parameter})) "
        f"SELECT each.value AS t, {', '.join(f'x.{name}' for name in columns)} "
        "FROM x CROSS JOIN json_each(x.t) AS each"
    )


def new_id_prefix(now: datetime) -> dict[str, str]:
    """The first half of the ids of one statement: version 7 UUIDs, whose order is that of their insertion,
    keep the index on them narrow where it grows."""
    return {"prefix": f"{to_micros(now) // 1000 & 0xFFFFFFFFFFFF:012x}7{secrets.token_hex(2)[1:]}8"}


def new_row_id(connection: sa.Connection) -> str:
    if is_postgresql(connection):
        return "CAST(:prefix || substr(replace(CAST(gen_random_uuid() AS text), '-', ''), 18) AS uuid)"
    return ":prefix || substr(lower(hex(randomblob(8))), 2)"


def _hex(connection: sa.Connection, column: str) -> str:
    return f"replace(CAST({column} AS text), '-', '')" if is_postgresql(connection) else column


def _of_definition(connection: sa.Connection, name: str) -> str:
    if is_postgresql(connection):
        return f"o.definition ->> '{name}'"
    return f"json_extract(o.definition, '$.{name}')"


def as_json(records: Sequence[Mapping[str, Any]]) -> str:
    return orjson.dumps(records).decode()
