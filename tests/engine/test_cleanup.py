# SPDX-License-Identifier: Apache-2.0
"""The clean-up deletes what has expired without a backup having to run (M6, I1, I6)."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
import sqlalchemy as sa

from seawall.core.records import ScheduledOperation
from seawall.db import checkpoints, leases, services
from seawall.db import runs as run_rows
from seawall.db.tables import audit, idempotency_keys, repositories, run_logs, run_steps, runs
from seawall.db.tables import checkpoints as checkpoint_table
from seawall.db.tables import services as service_table
from seawall.operation_engine.cleanup import CleanUp
from seawall.operation_engine.cleanup import targets as cleanup_targets
from tests.engine.ground import PROJECT, Ground

DAY = 86_400
PLAN = "0c6c6c2e-0b5b-4c39-9f7f-0d3d9b6f0a01"
PROVIDER = "0c6c6c2e-0b5b-4c39-9f7f-0d3d9b6f0a02"
REPOSITORY = "0c6c6c2e-0b5b-4c39-9f7f-0d3d9b6f0a03"


def cleanup(ground: Ground, holder: str = "one") -> CleanUp:
    return CleanUp(
        ground.database,
        clock=ground.clock,
        wakeup=ground.wakeup,
        interval_s=60,
        keep_runs_days=90,
        error_checkpoint_days=7,
        holder=holder,
    )


def clean(ground: Ground) -> CleanUp:
    made = cleanup(ground)
    made.run(ground.clock.now())
    assert made.faults == {}
    return made


def keeping(ground: Ground, **rules: Any) -> ScheduledOperation:
    ground.plan(PLAN, PROVIDER)
    return ground.operation(
        ground.trigger(pattern="31536000"),
        operation_type="retention_protect",
        operation_definition={"plan_id": PLAN, "provider_id": PROVIDER, **rules},
    )


def checkpoint(
    ground: Ground, operation_id: str | None, *, days_ago: float, status: str = "available"
) -> str:
    checkpoint_id = str(uuid4())
    at = ground.clock.now() - timedelta(days=days_ago)
    ground.database.write(
        "test.checkpoint",
        lambda tx: tx.connection.execute(
            checkpoint_table.insert().values(
                id=checkpoint_id, project_id=PROJECT, provider_id=PROVIDER, plan_id=PLAN, plan_name="p",
                scheduled_operation_id=operation_id, repository_id=REPOSITORY, status=status, resources=[],
                items=1, read_bytes=1, added_bytes=1, extra_info={}, pinned=False, created_at=at, ended_at=at,
                deleted_at=at if status == "deleted" else None,
            )
        ),
    )  # fmt: skip
    return checkpoint_id


def test_what_has_expired_by_count_is_a_retention_run_of_its_scope(ground: Ground) -> None:
    operation = keeping(ground, max_backups=2)
    for days in (3, 2, 1):
        checkpoint(ground, operation.id, days_ago=days)
    clean(ground)
    (run,) = ground.runs()
    assert (run.kind, run.operation_type, run.state) == ("system", "retention", "queued")
    assert run.definition == {
        "plan_id": PLAN, "provider_id": PROVIDER, "scheduled_operation_id": operation.id, "max_backups": 2,
    }  # fmt: skip
    ground.dispatcher()
    ground.until(lambda: ground.states() == ["success"])
    assert ground.protection.calls == [
        (
            "expire",
            {"plan_id": PLAN, "scheduled_operation_id": operation.id, "rules": {"max_backups": 2}},
        )
    ]


def test_what_has_expired_by_age_is_found_as_time_passes(ground: Ground) -> None:
    operation = keeping(ground, retention_duration=7)
    checkpoint(ground, operation.id, days_ago=6)
    checkpoint(ground, operation.id, days_ago=1)
    clean(ground)
    assert ground.runs() == []
    ground.clock.advance(2 * DAY)
    clean(ground)
    assert [run.operation_type for run in ground.runs()] == ["retention"]


def test_a_retention_never_runs_beside_a_protect_of_the_same_scope(ground: Ground) -> None:
    operation = keeping(ground, max_backups=1)
    for days in (2, 1):
        checkpoint(ground, operation.id, days_ago=days)
    ground.clock.advance(366 * DAY)
    ground.claim_all()
    clean(ground)
    assert len({run.lock_key for run in ground.runs(state="queued")}) == 1
    claimed = ground.database.write(
        "test.claim",
        lambda tx: run_rows.claim(tx, service_row=1, host="here", limit=9, lease_until=tx.now),
    )
    assert len(claimed) == 1


def test_the_same_expired_ones_are_tried_again_after_an_hour_and_others_at_once(ground: Ground) -> None:
    operation = keeping(ground, max_backups=1)
    for days in (2, 1):
        checkpoint(ground, operation.id, days_ago=days)
    made = cleanup(ground)
    for _ in range(3):
        made.run(ground.clock.now())
        end_runs(ground, "failed", "the bank is away")
        ground.clock.advance(60)
    assert len(ground.runs()) == 1
    assert list(made.faults.values()) == ["the bank is away"]
    checkpoint(ground, operation.id, days_ago=3)
    made.run(ground.clock.now())
    assert len(ground.runs()) == 2
    end_runs(ground, "failed")
    ground.clock.advance(3600)
    made.run(ground.clock.now())
    assert len(ground.runs()) == 3


def test_without_rules_nothing_expires(ground: Ground) -> None:
    operation = keeping(ground)
    for days in range(1, 9):
        checkpoint(ground, operation.id, days_ago=days * 100)
    clean(ground)
    assert ground.runs() == []


def test_failed_checkpoints_go_after_a_week(ground: Ground) -> None:
    ground.plan(PLAN, PROVIDER)
    old = checkpoint(ground, None, days_ago=8, status="error")
    checkpoint(ground, None, days_ago=6, status="error")
    clean(ground)
    clean(ground)
    assert [(run.operation_type, run.definition) for run in ground.runs()] == [
        ("delete", {"checkpoint_id": old})
    ]


def test_a_delete_that_nobody_goes_on_with_is_finished(ground: Ground) -> None:
    ground.plan(PLAN, PROVIDER)
    begun = checkpoint(ground, None, days_ago=1, status="deleting")
    clean(ground)
    assert [run.definition for run in ground.runs()] == [{"checkpoint_id": begun}]


def end_runs(ground: Ground, state: str, reason: str | None = None) -> None:
    query = runs.update().where(runs.c.ended_at.is_(None))
    ground.database.write(
        "test.end",
        lambda tx: tx.connection.execute(query.values(state=state, reason=reason, ended_at=tx.now)),
    )


def recorded(ground: Ground) -> list[tuple[str, str, dict[str, Any]]]:
    query = sa.select(audit.c.action, audit.c.object_id, audit.c.details).where(
        audit.c.object_type == "clean_up"
    )
    return [(row[0], row[1], row[2]) for row in ground.database.read(lambda c: c.execute(query).all())]


def test_a_delete_that_fails_is_no_cleaning_and_is_tried_again_ever_more_seldom(
    ground: Ground, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    ground.plan(PLAN, PROVIDER)
    old = checkpoint(ground, None, days_ago=8, status="error")
    made, tried_at = cleanup(ground), []
    for minute in range(0, 8 * 60, 5):
        before = len(ground.runs())
        made.run(ground.clock.now())
        if len(ground.runs()) > before:
            tried_at.append(minute)
        end_runs(ground, "failed", "the bank is away")
        ground.clock.advance(300)
    assert tried_at == [0, 60, 180, 420]
    said = [line for line in caplog.text.splitlines() if "failed_checkpoints" in line]
    assert not [line for line in said if "cleaned up" in line]
    assert made.faults == {f"failed_checkpoints: delete of checkpoint {old}": "the bank is away"}
    assert [(action, old in name, details["reason"]) for action, name, details in recorded(ground)] == [
        ("fail", True, "the bank is away")
    ]
    assert caplog.text.count("the bank is away") == 1


def test_a_failed_delete_is_tried_once_a_day_at_the_least_and_its_recovery_is_said(ground: Ground) -> None:
    ground.plan(PLAN, PROVIDER)
    old = checkpoint(ground, None, days_ago=8, status="error")
    made = cleanup(ground)
    for _ in range(9):
        made.run(ground.clock.now())
        end_runs(ground, "failed", "the bank is away")
        ground.clock.advance(DAY)
    assert len(ground.runs()) == 9
    made.run(ground.clock.now())
    end_runs(ground, "success")
    gone = checkpoint_table.update().where(checkpoint_table.c.id == old).values(status="deleted")
    ground.database.write("test.gone", lambda tx: tx.connection.execute(gone))
    made.run(ground.clock.now())
    assert made.faults == {}
    assert [action for action, _, _ in recorded(ground)] == ["fail", "recover"]


def test_what_a_failing_target_cleans_besides_is_cleaned(ground: Ground) -> None:
    ground.plan(PLAN, PROVIDER)
    checkpoint(ground, None, days_ago=8, status="error")
    made = cleanup(ground)
    made.run(ground.clock.now())
    end_runs(ground, "failed", "the bank is away")
    other = checkpoint(ground, None, days_ago=9, status="error")
    made.run(ground.clock.now())
    (run,) = ground.runs(state="queued")
    assert run.definition == {"checkpoint_id": other}


def test_a_maintain_that_fails_is_tried_again_ever_more_seldom(ground: Ground) -> None:
    repository(ground)
    ground.clock.advance(DAY)
    made = cleanup(ground)
    for _ in range(8):
        made.run(ground.clock.now())
        end_runs(ground, "failed", "the bank is away")
        ground.clock.advance(3600)
    # At 0, 1, 3 and 7 hours.
    assert len(ground.runs()) == 4
    assert list(made.faults.values()) == ["the bank is away"]


def repository(ground: Ground) -> None:
    ground.database.write(
        "test.repository",
        lambda tx: tx.connection.execute(
            repositories.insert().values(
                id=REPOSITORY, provider_id=PROVIDER, project_id=PROJECT, group="default", format_id="f",
                sealed_password="", sealed_recovery_key="", created_at=tx.now, maintained_at=tx.now,
            )
        ),
    )  # fmt: skip


def test_a_repository_is_maintained_once_a_day(ground: Ground) -> None:
    repository(ground)
    ground.clock.advance(DAY - 60)
    clean(ground)
    assert ground.runs() == []
    ground.clock.advance(120)
    clean(ground)
    clean(ground)
    assert [(run.operation_type, run.subject_id) for run in ground.runs()] == [("maintain", REPOSITORY)]


def test_a_repository_is_maintained_sooner_after_deletes(ground: Ground) -> None:
    repository(ground)
    ground.clock.advance(2 * 3600)
    clean(ground)
    assert ground.runs() == []
    checkpoint(ground, None, days_ago=0.01, status="deleted")
    clean(ground)
    assert [run.operation_type for run in ground.runs()] == ["maintain"]


def test_old_runs_go_with_their_steps_and_logs_but_never_the_row_a_gap_could_grow_from(
    ground: Ground,
) -> None:
    trigger = ground.trigger(pattern=str(DAY), window=0, misfire="skip")
    operation = ground.operation(trigger)
    ground.go_to(DAY + 60)
    ground.claim()
    ground.schedules.pause_trigger(ground.caller, trigger.id, reason="r", until_at=None)
    ground.go_to(2 * DAY + 60)
    ground.claim()
    first, second = ground.runs()
    assert (first.state, second.state) == ("missed", "skipped_paused")

    def write(tx: Any) -> None:
        run_rows.add_log(tx, [(first.row, tx.now, "info", "text")])
        tx.connection.execute(run_steps.insert().values(run_row=first.row, step="s", data={}, at=tx.now))

    ground.database.write("test.log", write)
    ground.clock.advance(100 * DAY)
    clean(ground)
    assert [run.row for run in ground.runs()] == [second.row]
    count = sa.select(sa.func.count()).select_from(run_logs)
    assert ground.database.read(lambda connection: connection.execute(count).scalar_one()) == 0
    ground.claim_all()
    (gap,) = ground.runs()
    assert (gap.row, gap.gap_count) == (second.row, 101)
    assert gap.scheduled_operation_id == operation.id


def test_what_is_gone_never_fires_again(ground: Ground) -> None:
    """I1: fired_through stays when the rows go."""
    ground.operation(ground.trigger(pattern=str(DAY)), overlap="allow")
    for day in (1, 2):
        ground.go_to(day * DAY)
        ground.claim()
    ground.database.write(
        "test.end", lambda tx: tx.connection.execute(runs.update().values(state="success", ended_at=tx.now))
    )
    ground.clock.jump(100 * DAY)
    clean(ground)
    ground.clock.jump(-100 * DAY)
    ground.claim_all()
    assert len(ground.runs()) == 1


def test_ended_leases_dead_services_and_old_idempotency_keys_go(ground: Ground) -> None:
    dead, alive = ground.service("dead"), ground.service("alive")

    def write(tx: Any) -> None:
        leases.acquire(tx, "ended", "x", tx.now + timedelta(seconds=5))
        leases.acquire(tx, "held", "x", tx.now + timedelta(days=60))
        tx.connection.execute(
            idempotency_keys.insert().values(project_id=PROJECT, key="k", fingerprint="f", created_at=tx.now)
        )

    ground.database.write("test.leases", write)
    ground.clock.advance(31 * DAY)
    ground.database.write("test.beat", lambda tx: services.beat(tx, alive))
    clean(ground)
    found = ground.database.read(lambda connection: [one.id for one in services.listed(connection)])
    assert (dead in found, alive in found) == (False, True)
    held = ground.database.read(lambda c: leases.held(c, "held", ground.clock.now()))
    ended = ground.database.read(lambda c: leases.held(c, "ended", ground.clock.now()))
    assert (held, ended) == (True, False)
    count = sa.select(sa.func.count()).select_from(idempotency_keys)
    assert ground.database.read(lambda connection: connection.execute(count).scalar_one()) == 0


def test_a_checkpoint_whose_run_has_ended_without_it_is_ended(ground: Ground) -> None:
    operation = ground.operation(ground.trigger())
    ground.go_to(60)
    ground.claim()
    run = ground.runs()[0]
    begun = checkpoint(ground, operation.id, days_ago=0, status="protecting")

    def write(tx: Any) -> None:
        checkpoints.set_run(tx, begun, run.id)
        tx.connection.execute(runs.update().values(state="failed", ended_at=tx.now))

    ground.database.write("test.end", write)
    clean(ground)
    found = ground.database.read(lambda c: checkpoints.get(c, begun, project_id=None))
    assert (found.status, found.reason) == ("error", "its run ended without finishing it")


def test_one_target_that_fails_stops_no_other_and_leaves_a_record(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    ground.service("dead")
    ground.clock.advance(31 * DAY)
    made = cleanup(ground)
    ground.database.write(
        "test.hide", lambda tx: tx.connection.execute(sa.text("ALTER TABLE repositories RENAME TO hidden"))
    )
    made.run(ground.clock.now())
    made.run(ground.clock.now())
    assert set(made.faults) == {"repositories"}
    count = sa.select(sa.func.count()).select_from(service_table)
    assert ground.database.read(lambda connection: connection.execute(count).scalar_one()) == 0
    ground.database.write(
        "test.show", lambda tx: tx.connection.execute(sa.text("ALTER TABLE hidden RENAME TO repositories"))
    )
    made.run(ground.clock.now())
    assert made.faults == {}
    query = sa.select(audit.c.action, audit.c.object_id).where(audit.c.object_type == "clean_up")
    found = ground.database.read(lambda connection: connection.execute(query).all())
    assert Counter(tuple(row) for row in found) == Counter(
        {("fail", "repositories"): 1, ("recover", "repositories"): 1}
    )


def test_each_target_is_cleaned_by_one_engine_at_a_time(ground: Ground) -> None:
    first, second = cleanup(ground, "one"), cleanup(ground, "two")
    first.run(ground.clock.now())
    ground.plan(PLAN, PROVIDER)
    checkpoint(ground, None, days_ago=8, status="error")
    second.run(ground.clock.now())
    assert ground.runs() == []
    ground.clock.advance(121)
    second.run(ground.clock.now())
    assert len(ground.runs()) == 1
    assert len(cleanup_targets.targets(keep_runs=timedelta(1), error_checkpoints=timedelta(1))) == 12
