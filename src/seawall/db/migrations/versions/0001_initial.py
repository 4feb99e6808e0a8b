# SPDX-License-Identifier: Apache-2.0
"""The first tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    _audit()
    _checkpoints()
    _idempotency_keys()
    _install()
    _leases()
    _plans()
    _projects()
    _repositories()
    _restores()
    _runs()
    _services()
    _tokens()
    _triggers()
    _run_logs()
    _run_steps()
    _scheduled_operations()
    _events()


def _audit() -> None:
    op.create_table(
        "audit",
        sa.Column("row", _KEY, autoincrement=True, nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("project_id", sa.Uuid(as_uuid=False), nullable=True),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("object_type", sa.Text(), nullable=False),
        sa.Column("object_id", sa.Text(), nullable=False),
        sa.Column("details", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("row", name=op.f("pk_audit")),
    )


def _checkpoints() -> None:
    op.create_table(
        "checkpoints",
        sa.Column("row", _KEY, autoincrement=True, nullable=False),
        sa.Column("id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("project_id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("provider_id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("plan_id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("plan_name", sa.Text(), nullable=False),
        sa.Column("scheduled_operation_id", sa.Uuid(as_uuid=False), nullable=True),
        sa.Column("run_id", sa.Uuid(as_uuid=False), nullable=True),
        sa.Column("repository_id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("snapshot_id", sa.Text(), nullable=True),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("resources", sa.JSON(), nullable=False),
        sa.Column("items", _KEY, nullable=False),
        sa.Column("read_bytes", _KEY, nullable=False),
        sa.Column("added_bytes", _KEY, nullable=False),
        sa.Column("extra_info", sa.JSON(), nullable=False),
        sa.Column("pinned", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.Column("verified_at", sa.BigInteger(), nullable=True),
        sa.Column("deleted_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("row", name=op.f("pk_checkpoints")),
        sa.UniqueConstraint("id", name=op.f("uq_checkpoints_id")),
        sa.UniqueConstraint("run_id", name=op.f("uq_checkpoints_run_id")),
    )
    op.create_index(op.f("ix_checkpoints_project_id"), "checkpoints", ["project_id"], unique=False)
    op.create_index(
        "ix_checkpoints_repository_id", "checkpoints", ["repository_id", "deleted_at"], unique=False
    )
    for status in ("protecting", "error", "deleting"):
        op.create_index(
            f"ix_checkpoints_{status}",
            "checkpoints",
            ["created_at"],
            unique=False,
            sqlite_where=sa.text(f"status = '{status}'"),
            postgresql_where=sa.text(f"status = '{status}'"),
        )
    op.create_index(
        "ix_checkpoints_scope",
        "checkpoints",
        ["plan_id", "scheduled_operation_id", "created_at"],
        unique=False,
    )


def _idempotency_keys() -> None:
    op.create_table(
        "idempotency_keys",
        sa.Column("row", _KEY, autoincrement=True, nullable=False),
        sa.Column("project_id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("answer", sa.JSON(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("row", name=op.f("pk_idempotency_keys")),
        sa.UniqueConstraint("project_id", "key", name=op.f("uq_idempotency_keys_project_id_key")),
    )
    op.create_index(op.f("ix_idempotency_keys_created_at"), "idempotency_keys", ["created_at"], unique=False)


def _install() -> None:
    op.create_table(
        "install",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_install")),
    )


def _leases() -> None:
    op.create_table(
        "leases",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("service_row", _KEY, nullable=True),
        sa.Column("until_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", "holder", name=op.f("pk_leases")),
    )
    op.create_index(op.f("ix_leases_until_at"), "leases", ["until_at"], unique=False)


def _plans() -> None:
    op.create_table(
        "plans",
        sa.Column("row", _KEY, autoincrement=True, nullable=False),
        sa.Column("id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("project_id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("provider_id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("resources", sa.JSON(), nullable=False),
        sa.Column("parameters", sa.JSON(), nullable=False),
        sa.Column("host", sa.Text(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("deleted_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("row", name=op.f("pk_plans")),
        sa.UniqueConstraint("id", name=op.f("uq_plans_id")),
    )
    op.create_index(op.f("ix_plans_project_id"), "plans", ["project_id"], unique=False)


def _projects() -> None:
    op.create_table(
        "projects",
        sa.Column("row", _KEY, autoincrement=True, nullable=False),
        sa.Column("id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("row", name=op.f("pk_projects")),
        sa.UniqueConstraint("id", name=op.f("uq_projects_id")),
        sa.UniqueConstraint("name", name=op.f("uq_projects_name")),
    )


def _repositories() -> None:
    op.create_table(
        "repositories",
        sa.Column("row", _KEY, autoincrement=True, nullable=False),
        sa.Column("id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("provider_id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("project_id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("group", sa.Text(), nullable=False),
        sa.Column("format_id", sa.Text(), nullable=True),
        sa.Column("sealed_password", sa.Text(), nullable=False),
        sa.Column("sealed_recovery_key", sa.Text(), nullable=False),
        sa.Column("kit_acknowledged_at", sa.BigInteger(), nullable=True),
        sa.Column("maintained_at", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("row", name=op.f("pk_repositories")),
        sa.UniqueConstraint("id", name=op.f("uq_repositories_id")),
        sa.UniqueConstraint(
            "provider_id", "project_id", "group", name=op.f("uq_repositories_provider_id_project_id_group")
        ),
    )


def _restores() -> None:
    op.create_table(
        "restores",
        sa.Column("row", _KEY, autoincrement=True, nullable=False),
        sa.Column("id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("project_id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("provider_id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("checkpoint_id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("restore_target", sa.Text(), nullable=True),
        sa.Column("parameters", sa.JSON(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("resources_status", sa.JSON(), nullable=False),
        sa.Column("resources_reason", sa.JSON(), nullable=False),
        sa.Column("result", sa.JSON(), nullable=True),
        sa.Column("run_id", sa.Uuid(as_uuid=False), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("row", name=op.f("pk_restores")),
        sa.UniqueConstraint("id", name=op.f("uq_restores_id")),
    )
    op.create_index(
        "ix_restores_in_progress",
        "restores",
        ["created_at"],
        unique=False,
        sqlite_where=sa.text("status = 'in_progress'"),
        postgresql_where=sa.text("status = 'in_progress'"),
    )
    op.create_index(op.f("ix_restores_checkpoint_id"), "restores", ["checkpoint_id"], unique=False)
    op.create_index(op.f("ix_restores_project_id"), "restores", ["project_id"], unique=False)


def _runs() -> None:  # long: one table
    op.create_table(
        "runs",
        sa.Column("row", _KEY, autoincrement=True, nullable=False),
        sa.Column("id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("project_id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("subject_type", sa.Text(), nullable=False),
        sa.Column("subject_id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("occurrence", sa.Text(), nullable=False),
        sa.Column("operation_type", sa.Text(), nullable=False),
        sa.Column("definition", sa.JSON(), nullable=False),
        sa.Column("scheduled_operation_id", sa.Uuid(as_uuid=False), nullable=True),
        sa.Column("trigger_id", sa.Uuid(as_uuid=False), nullable=True),
        sa.Column("plan_id", sa.Uuid(as_uuid=False), nullable=True),
        sa.Column("host", sa.Text(), nullable=True),
        sa.Column("lock_key", sa.Text(), nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("expected_at", sa.BigInteger(), nullable=False),
        sa.Column("triggered_at", sa.BigInteger(), nullable=False),
        sa.Column("deadline_at", sa.BigInteger(), nullable=True),
        sa.Column("timeout_s", sa.Integer(), nullable=False),
        sa.Column("not_before_at", sa.BigInteger(), nullable=True),
        sa.Column("started_at", sa.BigInteger(), nullable=True),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("take_overs", sa.Integer(), nullable=False),
        sa.Column("max_attempts", sa.Integer(), nullable=False),
        sa.Column("retry_delay_s", sa.Integer(), nullable=False),
        sa.Column("fence", _KEY, nullable=False),
        sa.Column("service_row", _KEY, nullable=True),
        sa.Column("lease_until_at", sa.BigInteger(), nullable=True),
        sa.Column("cancel_requested_at", sa.BigInteger(), nullable=True),
        sa.Column("progress", sa.JSON(), nullable=True),
        sa.Column("result", sa.JSON(), nullable=True),
        sa.Column("error", sa.JSON(), nullable=True),
        sa.Column("gap_first_at", sa.BigInteger(), nullable=True),
        sa.Column("gap_last_at", sa.BigInteger(), nullable=True),
        sa.Column("gap_count", _KEY, nullable=True),
        sa.Column("depth", sa.Integer(), nullable=True),
        sa.PrimaryKeyConstraint("row", name=op.f("pk_runs")),
        sa.UniqueConstraint("id", name=op.f("uq_runs_id")),
        sa.UniqueConstraint(
            "subject_id", "kind", "occurrence", name=op.f("uq_runs_subject_id_kind_occurrence")
        ),
    )
    op.create_index(
        "ix_runs_ended_at",
        "runs",
        ["ended_at"],
        unique=False,
        sqlite_where=sa.text("ended_at IS NOT NULL"),
        postgresql_where=sa.text("ended_at IS NOT NULL"),
    )
    op.create_index(
        "ix_runs_leased",
        "runs",
        ["lease_until_at"],
        unique=False,
        sqlite_where=sa.text("state IN ('in_progress', 'cancelling')"),
        postgresql_where=sa.text("state IN ('in_progress', 'cancelling')"),
    )
    op.create_index(
        "ix_runs_live_operation",
        "runs",
        ["scheduled_operation_id", "plan_id"],
        unique=False,
        sqlite_where=sa.text("state IN ('queued', 'in_progress', 'cancelling')"),
        postgresql_where=sa.text("state IN ('queued', 'in_progress', 'cancelling')"),
    )
    op.create_index(
        "ix_runs_queued",
        "runs",
        ["priority", "expected_at"],
        unique=False,
        sqlite_where=sa.text("state = 'queued'"),
        postgresql_where=sa.text("state = 'queued'"),
    )
    op.create_index(
        "ix_runs_deadline_at",
        "runs",
        ["deadline_at"],
        unique=False,
        sqlite_where=sa.text("state = 'queued' AND started_at IS NULL"),
        postgresql_where=sa.text("state = 'queued' AND started_at IS NULL"),
    )
    op.create_index(
        "ix_runs_bound",
        "runs",
        ["host"],
        unique=False,
        sqlite_where=sa.text("state IN ('queued', 'in_progress', 'cancelling') AND host IS NOT NULL"),
        postgresql_where=sa.text("state IN ('queued', 'in_progress', 'cancelling') AND host IS NOT NULL"),
    )
    op.create_index(
        "uq_runs_lock_key",
        "runs",
        ["lock_key"],
        unique=True,
        sqlite_where=sa.text("state IN ('in_progress', 'cancelling')"),
        postgresql_where=sa.text("state IN ('in_progress', 'cancelling')"),
    )


def _services() -> None:
    op.create_table(
        "services",
        sa.Column("row", _KEY, autoincrement=True, nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("binary", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=True),
        sa.Column("is_enabled", sa.Boolean(), nullable=False),
        sa.Column("disabled_reason", sa.Text(), nullable=True),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("heartbeat_at", sa.BigInteger(), nullable=False),
        sa.Column("stopped_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("row", name=op.f("pk_services")),
        sa.UniqueConstraint("host", "binary", name=op.f("uq_services_host_binary")),
    )


def _tokens() -> None:
    op.create_table(
        "tokens",
        sa.Column("row", _KEY, autoincrement=True, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("project_id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("row", name=op.f("pk_tokens")),
        sa.UniqueConstraint("digest", name=op.f("uq_tokens_digest")),
    )


def _triggers() -> None:
    op.create_table(
        "triggers",
        sa.Column("row", _KEY, autoincrement=True, nullable=False),
        sa.Column("id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("project_id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("properties", sa.JSON(), nullable=False),
        sa.Column("next_run_at", sa.BigInteger(), nullable=True),
        sa.Column("fired_through_at", sa.BigInteger(), nullable=True),
        sa.Column("quarantine_reason", sa.Text(), nullable=True),
        sa.Column("paused_at", sa.BigInteger(), nullable=True),
        sa.Column("paused_reason", sa.Text(), nullable=True),
        sa.Column("paused_until_at", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("row", name=op.f("pk_triggers")),
        sa.UniqueConstraint("id", name=op.f("uq_triggers_id")),
    )
    op.create_index(
        "ix_triggers_next_run_at",
        "triggers",
        ["next_run_at"],
        unique=False,
        sqlite_where=sa.text("next_run_at IS NOT NULL"),
        postgresql_where=sa.text("next_run_at IS NOT NULL"),
    )
    op.create_index(op.f("ix_triggers_project_id"), "triggers", ["project_id"], unique=False)


def _run_logs() -> None:
    op.create_table(
        "run_logs",
        sa.Column("row", _KEY, autoincrement=True, nullable=False),
        sa.Column("run_row", _KEY, nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("level", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["run_row"], ["runs.row"], name=op.f("fk_run_logs_run_row_runs")),
        sa.PrimaryKeyConstraint("row", name=op.f("pk_run_logs")),
    )
    op.create_index(op.f("ix_run_logs_run_row"), "run_logs", ["run_row"], unique=False)


def _run_steps() -> None:
    op.create_table(
        "run_steps",
        sa.Column("run_row", _KEY, nullable=False),
        sa.Column("step", sa.Text(), nullable=False),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["run_row"], ["runs.row"], name=op.f("fk_run_steps_run_row_runs")),
        sa.PrimaryKeyConstraint("run_row", "step", name=op.f("pk_run_steps")),
    )


def _scheduled_operations() -> None:
    op.create_table(
        "scheduled_operations",
        sa.Column("row", _KEY, autoincrement=True, nullable=False),
        sa.Column("id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("project_id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("operation_type", sa.Text(), nullable=False),
        sa.Column("trigger_row", _KEY, nullable=False),
        sa.Column("definition", sa.JSON(), nullable=False),
        sa.Column("plan_id", sa.Uuid(as_uuid=False), nullable=True),
        sa.Column("host", sa.Text(), nullable=True),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("registered_at", sa.BigInteger(), nullable=False),
        sa.Column("overlap", sa.Text(), nullable=False),
        sa.Column("timeout_s", sa.Integer(), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("retry_max_attempts", sa.Integer(), nullable=False),
        sa.Column("retry_delay_s", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["trigger_row"], ["triggers.row"], name=op.f("fk_scheduled_operations_trigger_row_triggers")
        ),
        sa.PrimaryKeyConstraint("row", name=op.f("pk_scheduled_operations")),
        sa.UniqueConstraint("id", name=op.f("uq_scheduled_operations_id")),
    )
    op.create_index(
        op.f("ix_scheduled_operations_plan_id"), "scheduled_operations", ["plan_id"], unique=False
    )
    op.create_index(
        op.f("ix_scheduled_operations_project_id"), "scheduled_operations", ["project_id"], unique=False
    )
    op.create_index(
        op.f("ix_scheduled_operations_trigger_row"), "scheduled_operations", ["trigger_row"], unique=False
    )


def _events() -> None:
    op.create_table(
        "event_triggers",
        sa.Column("trigger_row", _KEY, autoincrement=False, nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("operation_id", sa.Uuid(as_uuid=False), nullable=True),
        sa.Column("sealed_secret", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["trigger_row"], ["triggers.row"], name=op.f("fk_event_triggers_trigger_row_triggers")
        ),
        sa.PrimaryKeyConstraint("trigger_row", name=op.f("pk_event_triggers")),
    )
    op.create_index(op.f("ix_event_triggers_source"), "event_triggers", ["source"], unique=False)
    op.create_index(op.f("ix_event_triggers_operation_id"), "event_triggers", ["operation_id"], unique=False)
    op.create_table(
        "event_receipts",
        sa.Column("trigger_row", _KEY, nullable=False),
        sa.Column("event_id", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["trigger_row"], ["triggers.row"], name=op.f("fk_event_receipts_trigger_row_triggers")
        ),
        sa.PrimaryKeyConstraint("trigger_row", "event_id", name=op.f("pk_event_receipts")),
    )
    op.create_index(op.f("ix_event_receipts_at"), "event_receipts", ["at"], unique=False)
    op.create_table(
        "outbox",
        sa.Column("row", _KEY, autoincrement=True, nullable=False),
        sa.Column("id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("event", sa.JSON(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("row", name=op.f("pk_outbox")),
    )
