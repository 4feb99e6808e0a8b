# SPDX-License-Identifier: Apache-2.0
"""All tables. Integer row keys inside (``*_row``), UUIDs outside.

Instants are stored as whole microseconds since 1970 UTC (``Instant``): they sort, compare and index alike
on SQLite and PostgreSQL, and no time zone of a server or a driver can touch them.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def to_micros(instant: datetime) -> int:
    """An aware instant as whole microseconds since 1970."""
    return (instant - _EPOCH) // timedelta(microseconds=1)


def from_micros(value: int) -> datetime:
    """The inverse of ``to_micros``."""
    return _EPOCH + timedelta(microseconds=value)


class Instant(sa.types.TypeDecorator[datetime]):
    """An aware UTC datetime stored as microseconds."""

    impl = sa.BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> int | None:
        return None if value is None else to_micros(value)

    def process_result_value(self, value: Any | None, dialect: sa.Dialect) -> datetime | None:
        return None if value is None else from_micros(value)


RowKey = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
Uid = sa.Uuid(as_uuid=False)
# No document is NULL, never the JSON word null: so both are the same to ``coalesce`` and to other SQL.
Document = sa.JSON(none_as_null=True)


def _key() -> sa.Column[int]:
    return sa.Column("row", RowKey, primary_key=True, autoincrement=True)


def _ref(name: str, target: str, *, nullable: bool = False, index: bool = False) -> sa.Column[int]:
    return sa.Column(name, RowKey, sa.ForeignKey(f"{target}.row"), nullable=nullable, index=index)


install = sa.Table(
    "install",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("value", Document, nullable=False),
)

services = sa.Table(
    "services",
    metadata,
    _key(),
    sa.Column("host", sa.Text, nullable=False),
    sa.Column("binary", sa.Text, nullable=False),
    sa.Column("version", sa.Text, nullable=False),
    sa.Column("pid", sa.Integer),
    sa.Column("is_enabled", sa.Boolean, nullable=False, default=True),
    sa.Column("disabled_reason", sa.Text),
    sa.Column("started_at", Instant, nullable=False),
    sa.Column("heartbeat_at", Instant, nullable=False),
    sa.Column("stopped_at", Instant),
    sa.UniqueConstraint("host", "binary"),
)

projects = sa.Table(
    "projects",
    metadata,
    _key(),
    sa.Column("id", Uid, nullable=False, unique=True),
    sa.Column("name", sa.Text, nullable=False, unique=True),
    sa.Column("created_at", Instant, nullable=False),
)

tokens = sa.Table(
    "tokens",
    metadata,
    _key(),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("digest", sa.Text, nullable=False, unique=True),
    sa.Column("project_id", Uid, nullable=False),
    sa.Column("user_id", sa.Text, nullable=False),
    sa.Column("role", sa.Text, nullable=False),
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("expires_at", Instant),
)

repositories = sa.Table(
    "repositories",
    metadata,
    _key(),
    sa.Column("id", Uid, nullable=False, unique=True),
    sa.Column("provider_id", Uid, nullable=False),
    sa.Column("project_id", Uid, nullable=False),
    sa.Column("group", sa.Text, nullable=False),
    sa.Column("format_id", sa.Text),
    sa.Column("sealed_password", sa.Text, nullable=False),
    sa.Column("sealed_recovery_key", sa.Text, nullable=False),
    sa.Column("kit_acknowledged_at", Instant),
    sa.Column("maintained_at", Instant),
    sa.Column("created_at", Instant, nullable=False),
    sa.UniqueConstraint("provider_id", "project_id", "group"),
)

plans = sa.Table(
    "plans",
    metadata,
    _key(),
    sa.Column("id", Uid, nullable=False, unique=True),
    sa.Column("project_id", Uid, nullable=False, index=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("description", sa.Text, nullable=False),
    sa.Column("provider_id", Uid, nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("resources", Document, nullable=False),
    sa.Column("parameters", Document, nullable=False),
    sa.Column("host", sa.Text),
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("updated_at", Instant, nullable=False),
    sa.Column("deleted_at", Instant),
)

triggers = sa.Table(
    "triggers",
    metadata,
    _key(),
    sa.Column("id", Uid, nullable=False, unique=True),
    sa.Column("project_id", Uid, nullable=False, index=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("type", sa.Text, nullable=False),
    sa.Column("properties", Document, nullable=False),
    sa.Column("next_run_at", Instant),
    sa.Column("fired_through_at", Instant),
    sa.Column("quarantine_reason", sa.Text),
    sa.Column("paused_at", Instant),
    sa.Column("paused_reason", sa.Text),
    sa.Column("paused_until_at", Instant),
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("updated_at", Instant, nullable=False),
    # The claim loop reads this and nothing else: its cost follows what is due, not what exists.
    sa.Index(
        "ix_triggers_next_run_at",
        "next_run_at",
        sqlite_where=sa.text("next_run_at IS NOT NULL"),
        postgresql_where=sa.text("next_run_at IS NOT NULL"),
    ),
)

scheduled_operations = sa.Table(
    "scheduled_operations",
    metadata,
    _key(),
    sa.Column("id", Uid, nullable=False, unique=True),
    sa.Column("project_id", Uid, nullable=False, index=True),
    sa.Column("user_id", sa.Text, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("description", sa.Text, nullable=False),
    sa.Column("operation_type", sa.Text, nullable=False),
    _ref("trigger_row", "triggers", index=True),
    sa.Column("definition", Document, nullable=False),
    sa.Column("plan_id", Uid, index=True),
    sa.Column("host", sa.Text),
    sa.Column("enabled", sa.Boolean, nullable=False),
    # Only due times at or after this instant belong to the operation (I1). Set anew when it is enabled.
    sa.Column("registered_at", Instant, nullable=False),
    sa.Column("overlap", sa.Text, nullable=False),
    sa.Column("timeout_s", sa.Integer, nullable=False),
    sa.Column("priority", sa.Integer, nullable=False),
    sa.Column("retry_max_attempts", sa.Integer, nullable=False),
    sa.Column("retry_delay_s", sa.Integer, nullable=False),
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("updated_at", Instant, nullable=False),
)

# What an event trigger listens to; its properties stand with the trigger.
event_triggers = sa.Table(
    "event_triggers",
    metadata,
    sa.Column("trigger_row", RowKey, sa.ForeignKey("triggers.row"), primary_key=True, autoincrement=False),
    sa.Column("source", sa.Text, nullable=False, index=True),
    # Of the source ``operation``: the scheduled operation whose ends fire it.
    sa.Column("operation_id", Uid, index=True),
    # Of the source ``webhook``: what its requests are signed with, under the install key (I10).
    sa.Column("sealed_secret", sa.Text),
)

# Which events have fired a trigger: each does so once, whatever became of its runs.
event_receipts = sa.Table(
    "event_receipts",
    metadata,
    _ref("trigger_row", "triggers"),
    sa.Column("event_id", sa.Text, nullable=False),
    sa.Column("at", Instant, nullable=False, index=True),
    sa.PrimaryKeyConstraint("trigger_row", "event_id"),
)

# What has happened and is still to be told to the broker; written in the transaction in which it happened.
outbox = sa.Table(
    "outbox",
    metadata,
    _key(),
    sa.Column("id", Uid, nullable=False),
    sa.Column("type", sa.Text, nullable=False),
    sa.Column("event", Document, nullable=False),
    sa.Column("at", Instant, nullable=False),
)

runs = sa.Table(
    "runs",
    metadata,
    _key(),
    sa.Column("id", Uid, nullable=False, unique=True),
    sa.Column("project_id", Uid, nullable=False),
    sa.Column("user_id", sa.Text, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("subject_type", sa.Text, nullable=False),
    sa.Column("subject_id", Uid, nullable=False),
    sa.Column("occurrence", sa.Text, nullable=False),
    sa.Column("operation_type", sa.Text, nullable=False),
    sa.Column("definition", Document, nullable=False),
    # No foreign keys: a run outlives the operation and the trigger that made it.
    sa.Column("scheduled_operation_id", Uid),
    sa.Column("trigger_id", Uid),
    sa.Column("plan_id", Uid),
    sa.Column("host", sa.Text),
    # At most one run with the same lock key is in progress (one scope: protect against retention).
    sa.Column("lock_key", sa.Text),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("reason", sa.Text),
    sa.Column("priority", sa.Integer, nullable=False),
    sa.Column("expected_at", Instant, nullable=False),
    sa.Column("triggered_at", Instant, nullable=False),
    sa.Column("deadline_at", Instant),
    sa.Column("timeout_s", sa.Integer, nullable=False),
    sa.Column("not_before_at", Instant),
    sa.Column("started_at", Instant),
    sa.Column("ended_at", Instant),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("take_overs", sa.Integer, nullable=False),
    sa.Column("max_attempts", sa.Integer, nullable=False),
    sa.Column("retry_delay_s", sa.Integer, nullable=False),
    sa.Column("fence", RowKey, nullable=False),
    sa.Column("service_row", RowKey),
    sa.Column("lease_until_at", Instant),
    sa.Column("cancel_requested_at", Instant),
    sa.Column("progress", Document),
    sa.Column("result", Document),
    sa.Column("error", Document),
    sa.Column("gap_first_at", Instant),
    sa.Column("gap_last_at", Instant),
    sa.Column("gap_count", RowKey),
    # How many runs, each fired by the end of the one before, led to this one; NULL is none.
    sa.Column("depth", sa.Integer),
    sa.UniqueConstraint("subject_id", "kind", "occurrence"),
    sa.Index(
        "ix_runs_queued",
        "priority",
        "expected_at",
        sqlite_where=sa.text("state = 'queued'"),
        postgresql_where=sa.text("state = 'queued'"),
    ),
    # What ``reap`` looks for, however many wait: those not started in time, and those bound to a host.
    sa.Index(
        "ix_runs_deadline_at",
        "deadline_at",
        sqlite_where=sa.text("state = 'queued' AND started_at IS NULL"),
        postgresql_where=sa.text("state = 'queued' AND started_at IS NULL"),
    ),
    sa.Index(
        "ix_runs_bound",
        "host",
        sqlite_where=sa.text("state IN ('queued', 'in_progress', 'cancelling') AND host IS NOT NULL"),
        postgresql_where=sa.text("state IN ('queued', 'in_progress', 'cancelling') AND host IS NOT NULL"),
    ),
    sa.Index(
        "ix_runs_leased",
        "lease_until_at",
        sqlite_where=sa.text("state IN ('in_progress', 'cancelling')"),
        postgresql_where=sa.text("state IN ('in_progress', 'cancelling')"),
    ),
    sa.Index(
        "ix_runs_live_operation",
        "scheduled_operation_id",
        # Last, so that the few live runs of a plan are found without an index of their own.
        "plan_id",
        sqlite_where=sa.text("state IN ('queued', 'in_progress', 'cancelling')"),
        postgresql_where=sa.text("state IN ('queued', 'in_progress', 'cancelling')"),
    ),
    sa.Index(
        "uq_runs_lock_key",
        "lock_key",
        unique=True,
        sqlite_where=sa.text("state IN ('in_progress', 'cancelling')"),
        postgresql_where=sa.text("state IN ('in_progress', 'cancelling')"),
    ),
    # Paid for when a run ends, not when a burst is inserted. The history of an operation is found by the
    # unique key above: it begins with its subject.
    sa.Index(
        "ix_runs_ended_at",
        "ended_at",
        sqlite_where=sa.text("ended_at IS NOT NULL"),
        postgresql_where=sa.text("ended_at IS NOT NULL"),
    ),
)

run_steps = sa.Table(
    "run_steps",
    metadata,
    _ref("run_row", "runs"),
    sa.Column("step", sa.Text, nullable=False),
    sa.Column("data", Document, nullable=False),
    sa.Column("at", Instant, nullable=False),
    sa.PrimaryKeyConstraint("run_row", "step"),
)

run_logs = sa.Table(
    "run_logs",
    metadata,
    _key(),
    _ref("run_row", "runs", index=True),
    sa.Column("at", Instant, nullable=False),
    sa.Column("level", sa.Text, nullable=False),
    sa.Column("text", sa.Text, nullable=False),
)

checkpoints = sa.Table(
    "checkpoints",
    metadata,
    _key(),
    sa.Column("id", Uid, nullable=False, unique=True),
    sa.Column("project_id", Uid, nullable=False, index=True),
    sa.Column("provider_id", Uid, nullable=False),
    sa.Column("plan_id", Uid, nullable=False),
    sa.Column("plan_name", sa.Text, nullable=False),
    sa.Column("scheduled_operation_id", Uid),
    sa.Column("run_id", Uid, unique=True),
    sa.Column("repository_id", Uid, nullable=False),
    sa.Column("snapshot_id", sa.Text),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("reason", sa.Text),
    sa.Column("resources", Document, nullable=False),
    sa.Column("items", RowKey, nullable=False),
    sa.Column("read_bytes", RowKey, nullable=False),
    sa.Column("added_bytes", RowKey, nullable=False),
    sa.Column("extra_info", Document, nullable=False),
    sa.Column("pinned", sa.Boolean, nullable=False),
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("ended_at", Instant),
    sa.Column("verified_at", Instant),
    sa.Column("deleted_at", Instant),
    sa.Index("ix_checkpoints_scope", "plan_id", "scheduled_operation_id", "created_at"),
    sa.Index("ix_checkpoints_repository_id", "repository_id", "deleted_at"),
    # What the clean-up looks for: few rows, however many are available or deleted.
    *(
        sa.Index(
            f"ix_checkpoints_{status}",
            "created_at",
            sqlite_where=sa.text(f"status = '{status}'"),
            postgresql_where=sa.text(f"status = '{status}'"),
        )
        for status in ("protecting", "error", "deleting")
    ),
)

restores = sa.Table(
    "restores",
    metadata,
    _key(),
    sa.Column("id", Uid, nullable=False, unique=True),
    sa.Column("project_id", Uid, nullable=False, index=True),
    sa.Column("provider_id", Uid, nullable=False),
    sa.Column("checkpoint_id", Uid, nullable=False, index=True),
    sa.Column("restore_target", sa.Text),
    sa.Column("parameters", Document, nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("reason", sa.Text),
    sa.Column("resources_status", Document, nullable=False),
    sa.Column("resources_reason", Document, nullable=False),
    sa.Column("result", Document),
    sa.Column("run_id", Uid),
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("updated_at", Instant, nullable=False),
    sa.Index(
        "ix_restores_in_progress",
        "created_at",
        sqlite_where=sa.text("status = 'in_progress'"),
        postgresql_where=sa.text("status = 'in_progress'"),
    ),
)

# What a reader (restore, verify) or a clean-up target holds: a name, until when, by whom.
leases = sa.Table(
    "leases",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("holder", sa.Text, primary_key=True),
    sa.Column("service_row", RowKey),
    sa.Column("until_at", Instant, nullable=False, index=True),
)

audit = sa.Table(
    "audit",
    metadata,
    _key(),
    sa.Column("at", Instant, nullable=False),
    sa.Column("project_id", Uid),
    sa.Column("user_id", sa.Text, nullable=False),
    sa.Column("request_id", sa.Text, nullable=False),
    sa.Column("action", sa.Text, nullable=False),
    sa.Column("object_type", sa.Text, nullable=False),
    sa.Column("object_id", sa.Text, nullable=False),
    sa.Column("details", Document, nullable=False),
)

idempotency_keys = sa.Table(
    "idempotency_keys",
    metadata,
    _key(),
    sa.Column("project_id", Uid, nullable=False),
    sa.Column("key", sa.Text, nullable=False),
    sa.Column("fingerprint", sa.Text, nullable=False),
    sa.Column("status", sa.Integer),
    sa.Column("answer", Document),
    sa.Column("created_at", Instant, nullable=False, index=True),
    sa.UniqueConstraint("project_id", "key"),
)
