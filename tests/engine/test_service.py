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


def engine(shared: Ground) -> OperationEngineService:
    return OperationEngineService(
        shared.database,
        clock=shared.clock,
        wakeup=shared.wakeup,
        host="here",
        poll_s=1,
        cleanup_interval_s=60,
        keep_runs_days=90,
        error_checkpoint_days=7,
    )


@pytest.fixture
def service(shared: Ground) -> Iterator[OperationEngineService]:
    made = engine(shared)
    yield made
    made.cleanup_host()


def start(shared: Ground, service: OperationEngineService) -> None:
    service.init_host(service_id=shared.service("here", service.binary))


def change(shared: Ground, trigger_id: str, **values: object) -> None:
    shared.database.write(
        "test.change",
        lambda tx: tx.connection.execute(
            triggers.update().where(triggers.c.id == trigger_id).values(**values)
        ),
    )


def test_what_is_due_fires_and_is_carried_out_by_itself(
    shared: Ground, service: OperationEngineService
) -> None:
    shared.operation(shared.trigger())
    start(shared, service)
    shared.dispatcher()
    shared.until(lambda: shared.states() == ["success"] * 3, step_s=0.5)
    assert [run.expected_at for run in shared.runs()] == [shared.at(60), shared.at(120), shared.at(180)]


def test_a_trigger_made_while_it_runs_needs_nothing_more(
    shared: Ground, service: OperationEngineService
) -> None:
    """M7."""
    start(shared, service)
    shared.dispatcher()
    shared.operation(shared.trigger(pattern="2"))
    shared.until(lambda: "success" in shared.states(), step_s=0.25)


def test_a_trigger_without_a_next_time_gets_one_and_loses_no_due_time(
    shared: Ground, service: OperationEngineService
) -> None:
    trigger = shared.trigger()
    shared.operation(trigger, overlap="allow")
    change(shared, trigger.id, next_run_at=None)
    shared.go_to(130)
    start(shared, service)
    assert shared.schedules.get_trigger(shared.caller, trigger.id).next_run_at == shared.at(180)
    assert [run.expected_at for run in shared.runs()] == [shared.at(60), shared.at(120)]


def test_a_trigger_that_has_ended_stays_so(shared: Ground, service: OperationEngineService) -> None:
    trigger = shared.trigger(end_time="2026-03-01 00:01:30")
    shared.operation(trigger)
    shared.go_to(200)
    start(shared, service)
    shared.until(lambda: shared.schedules.get_trigger(shared.caller, trigger.id).next_run_at is None)
    assert [run.expected_at for run in shared.runs()] == [shared.at(60)]


def test_a_trigger_that_no_longer_holds_is_quarantined_at_the_start(
    shared: Ground, service: OperationEngineService
) -> None:
    broken, sound = shared.trigger(), shared.trigger()
    change(shared, broken.id, properties={**broken.properties, "pattern": "often"})
    start(shared, service)
    found = shared.schedules.get_trigger(shared.caller, broken.id)
    assert found.next_run_at is None
    assert "often" in (found.quarantine_reason or "")
    assert shared.schedules.get_trigger(shared.caller, sound.id).quarantine_reason is None


def test_dead_leases_are_taken_over_at_the_start(shared: Ground, service: OperationEngineService) -> None:
    shared.operation(shared.trigger())
    shared.go_to(60)
    shared.claim()
    shared.database.write(
        "test.die",
        lambda tx: run_rows.claim(tx, service_row=7, host="there", limit=1, lease_until=tx.now),
    )
    shared.go_to(61)
    start(shared, service)
    run = shared.runs()[0]
    assert (run.state, run.take_overs) == ("queued", 1)


def test_two_engines_fire_each_due_time_once(shared: Ground, service: OperationEngineService) -> None:
    operations = [shared.operation(shared.trigger(), overlap="allow") for _ in range(5)]
    second = OperationEngineService(
        shared.reopened(), clock=shared.clock, wakeup=shared.wakeup, host="there", poll_s=1,
        cleanup_interval_s=60, keep_runs_days=90, error_checkpoint_days=7,
    )  # fmt: skip
    start(shared, service)
    second.init_host(service_id=shared.service("there", second.binary))
    try:
        shared.until(lambda: len(shared.runs()) >= 25, step_s=1)
    finally:
        second.cleanup_host()
    for operation in operations:
        times = [run.expected_at for run in shared.runs(scheduled_operation_id=operation.id)]
        assert len(times) == len(set(times)) >= 4


def test_its_loops_say_how_they_are(shared: Ground, service: OperationEngineService) -> None:
    start(shared, service)
    assert {one.name: (one.is_running, one.failures) for one in service.health()} == {
        "claim-loop": (True, 0),
        "clean-up-loop": (True, 0),
    }


def test_a_claim_that_fails_is_restarted_and_says_so(shared: Ground, service: OperationEngineService) -> None:
    shared.operation(shared.trigger())
    start(shared, service)
    shared.database.write(
        "test.hide", lambda tx: tx.connection.execute(sa.text("ALTER TABLE triggers RENAME TO hidden"))
    )
    shared.until(lambda: service.health()[0].failures > 0, step_s=0.5)
    assert "triggers" in (service.health()[0].last_error or "")
    shared.database.write(
        "test.show", lambda tx: tx.connection.execute(sa.text("ALTER TABLE hidden RENAME TO triggers"))
    )
    shared.until(lambda: "queued" in shared.states(), step_s=1)
    shared.until(lambda: service.health()[0].failures == 0, step_s=1)
