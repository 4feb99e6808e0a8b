# SPDX-License-Identifier: Apache-2.0
"""The engine's service: schedules are made ready at the start, and fire by themselves from then on (M3)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from seawall.db import runs as run_rows
from seawall.db.tables import triggers
from seawall.operation_engine.service import OperationEngineService
from tests.engine.ground import Ground


def engine(ground: Ground) -> OperationEngineService:
    return OperationEngineService(
        ground.database,
        clock=ground.clock,
        wakeup=ground.wakeup,
        host="here",
        poll_s=1,
        cleanup_interval_s=60,
        keep_runs_days=90,
        error_checkpoint_days=7,
    )


@pytest.fixture
def service(ground: Ground) -> Iterator[OperationEngineService]:
    made = engine(ground)
    yield made
    made.cleanup_host()


def start(ground: Ground, service: OperationEngineService) -> None:
    service.init_host(service_id=ground.service("here", service.binary))


def change(ground: Ground, trigger_id: str, **values: object) -> None:
    ground.database.write(
        "test.change",
        lambda tx: tx.connection.execute(
            triggers.update().where(triggers.c.id == trigger_id).values(**values)
        ),
    )


def test_what_is_due_fires_and_is_carried_out_by_itself(
    ground: Ground, service: OperationEngineService
) -> None:
    ground.operation(ground.trigger())
    start(ground, service)
    ground.dispatcher()
    ground.until(lambda: ground.states() == ["success"] * 3, step_s=0.5)
    assert [run.expected_at for run in ground.runs()] == [ground.at(60), ground.at(120), ground.at(180)]


def test_a_trigger_made_while_it_runs_needs_nothing_more(
    ground: Ground, service: OperationEngineService
) -> None:
    """M7."""
    start(ground, service)
    ground.dispatcher()
    ground.operation(ground.trigger(pattern="2"))
    ground.until(lambda: "success" in ground.states(), step_s=0.25)


def test_a_trigger_without_a_next_time_gets_one_and_loses_no_due_time(
    ground: Ground, service: OperationEngineService
) -> None:
    trigger = ground.trigger()
    ground.operation(trigger, overlap="allow")
    change(ground, trigger.id, next_run_at=None)
    ground.go_to(130)
    start(ground, service)
    assert ground.schedules.get_trigger(ground.caller, trigger.id).next_run_at == ground.at(180)
    assert [run.expected_at for run in ground.runs()] == [ground.at(60), ground.at(120)]


def test_a_trigger_that_has_ended_stays_so(ground: Ground, service: OperationEngineService) -> None:
    trigger = ground.trigger(end_time="2026-03-01 00:01:30")
    ground.operation(trigger)
    ground.go_to(200)
    start(ground, service)
    ground.until(lambda: ground.schedules.get_trigger(ground.caller, trigger.id).next_run_at is None)
    assert [run.expected_at for run in ground.runs()] == [ground.at(60)]


def test_a_trigger_that_no_longer_holds_is_quarantined_at_the_start(
    ground: Ground, service: OperationEngineService
) -> None:
    broken, sound = ground.trigger(), ground.trigger()
    change(ground, broken.id, properties={**broken.properties, "pattern": "often"})
    start(ground, service)
    found = ground.schedules.get_trigger(ground.caller, broken.id)
    assert found.next_run_at is None
    assert "often" in (found.quarantine_reason or "")
    assert ground.schedules.get_trigger(ground.caller, sound.id).quarantine_reason is None


def test_dead_leases_are_taken_over_at_the_start(ground: Ground, service: OperationEngineService) -> None:
    ground.operation(ground.trigger())
    ground.go_to(60)
    ground.claim()
    ground.database.write(
        "test.die",
        lambda tx: run_rows.claim(tx, service_row=7, host="there", limit=1, lease_until=tx.now),
    )
    ground.go_to(61)
    start(ground, service)
    run = ground.runs()[0]
    assert (run.state, run.take_overs) == ("queued", 1)


def test_two_engines_fire_each_due_time_once(ground: Ground, service: OperationEngineService) -> None:
    operations = [ground.operation(ground.trigger(), overlap="allow") for _ in range(5)]
    second = OperationEngineService(
        ground.reopened(), clock=ground.clock, wakeup=ground.wakeup, host="there", poll_s=1,
        cleanup_interval_s=60, keep_runs_days=90, error_checkpoint_days=7,
    )  # fmt: skip
    start(ground, service)
    second.init_host(service_id=ground.service("there", second.binary))
    try:
        ground.until(lambda: len(ground.runs()) >= 25, step_s=1)
    finally:
        second.cleanup_host()
    for operation in operations:
        times = [run.expected_at for run in ground.runs(scheduled_operation_id=operation.id)]
        assert len(times) == len(set(times)) >= 4


def test_its_loops_say_how_they_are(ground: Ground, service: OperationEngineService) -> None:
    start(ground, service)
    assert {one.name: (one.is_running, one.failures) for one in service.health()} == {
        "claim-loop": (True, 0),
        "clean-up-loop": (True, 0),
    }


def test_a_claim_that_fails_is_restarted_and_says_so(ground: Ground, service: OperationEngineService) -> None:
    ground.operation(ground.trigger())
    start(ground, service)
    ground.database.write(
        "test.hide", lambda tx: tx.connection.execute(sa.text("ALTER TABLE triggers RENAME TO hidden"))
    )
    ground.until(lambda: service.health()[0].failures > 0, step_s=0.5)
    assert "triggers" in (service.health()[0].last_error or "")
    ground.database.write(
        "test.show", lambda tx: tx.connection.execute(sa.text("ALTER TABLE hidden RENAME TO triggers"))
    )
    ground.until(lambda: "queued" in ground.states(), step_s=1)
    ground.until(lambda: service.health()[0].failures == 0, step_s=1)
