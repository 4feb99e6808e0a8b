# SPDX-License-Identifier: Apache-2.0
"""The engine's service: schedules are made ready at the start, and fire by themselves from then on (M3)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from seawall.core.records import Trigger
from seawall.db import events
from seawall.db import runs as run_rows
from seawall.db.tables import scheduled_operations, triggers
from seawall.operation_engine import service as service_module
from seawall.operation_engine.service import OperationEngineService
from tests.engine.ground import PROJECT, Ground

FOREIGN = "0c6c6c2e-0b5b-4c39-9f7f-0d3d9b6f0a99"


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


@pytest.mark.parametrize("damaged", [0, [], "often", {"format": ["crontab"], "pattern": {}}])
def test_a_trigger_whose_properties_are_damaged_is_quarantined_at_the_start(
    shared: Ground, service: OperationEngineService, damaged: object
) -> None:
    """M3: one row, whatever stands in it, never keeps the engine from starting."""
    broken, sound = shared.trigger(), shared.trigger()
    shared.operation(sound)
    change(shared, broken.id, properties=damaged)
    start(shared, service)
    query = sa.select(triggers.c.quarantine_reason).where(triggers.c.id == broken.id)
    assert shared.database.read(lambda connection: connection.execute(query).scalar_one())
    shared.go_to(60)
    shared.until(lambda: shared.states() == ["queued"])


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


def _event(ground: Ground, **properties: object) -> Trigger:
    return ground.schedules.create_trigger(ground.caller, name="e", type="event", properties=properties)


@pytest.mark.parametrize(
    ("properties", "broken", "word"),
    [
        ({"source": "amqp", "routing_key": "a.#"}, {"routing_key": "a..b"}, "routing_key"),
        ({"source": "amqp", "routing_key": "a.#"}, {"filter": {"": 1}}, "filter"),
        ({"source": "amqp", "routing_key": "a.#"}, {"window": -1}, "window"),
        ({"source": "amqp", "routing_key": "a.#"}, {"newer": 1}, "newer"),
        ({"source": "amqp", "routing_key": "a.#"}, {"source": "smoke signal"}, "source"),
        ({"source": "amqp", "routing_key": "a.#"}, {"source": "webhook", "filter": None}, "filter"),
        ({"source": "operation"}, {"states": ["bored"]}, "states"),
        ({"source": "operation"}, {"operation_id": PROJECT}, "operation_id"),
    ],
)
def test_an_event_trigger_that_no_longer_holds_is_quarantined_at_the_start(
    shared: Ground,
    service: OperationEngineService,
    properties: dict[str, object],
    broken: dict[str, object],
    word: str,
) -> None:
    watched = shared.operation(shared.trigger())
    if properties["source"] == "operation":
        properties = {**properties, "operation_id": watched.id}
    made, sound = _event(shared, **properties), _event(shared, **properties)
    change(shared, made.id, properties={**made.properties, **broken})
    start(shared, service)
    found = shared.schedules.get_trigger(shared.caller, made.id)
    assert word in (found.quarantine_reason or "")
    assert shared.schedules.get_trigger(shared.caller, sound.id).quarantine_reason is None
    assert [one.id for one in shared.database.read(events.everything)] == [sound.id]
    mended = shared.schedules.update_trigger(shared.caller, made.id, properties=made.properties)
    assert mended.quarantine_reason is None
    assert len(shared.database.read(events.everything)) == 2


def test_an_event_trigger_whose_operation_is_gone_or_foreign_is_quarantined_at_the_start(
    shared: Ground, service: OperationEngineService
) -> None:
    watched = shared.operation(shared.trigger())
    trigger = _event(shared, source="operation", operation_id=watched.id)
    shared.database.write(
        "test.lose",
        lambda tx: tx.connection.execute(scheduled_operations.update().values(project_id=FOREIGN)),
    )
    start(shared, service)
    found = shared.schedules.get_trigger(shared.caller, trigger.id)
    assert watched.id in (found.quarantine_reason or "")


def test_every_trigger_is_looked_at_however_many_there_are(
    shared: Ground, service: OperationEngineService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_module, "_CHUNK", 2)
    monkeypatch.setattr(service_module, "_CHECKED_AT_START", 3)
    made = [shared.trigger() for _ in range(5)]
    made += [_event(shared, source="amqp", routing_key="a") for _ in range(5)]
    for one in made:
        change(shared, one.id, properties={**one.properties, "pattern": "often"})
    start(shared, service)
    shared.until(
        lambda: all(shared.schedules.get_trigger(shared.caller, one.id).quarantine_reason for one in made),
        step_s=0.1,
    )


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
