# SPDX-License-Identifier: Apache-2.0
"""Whatever ends is told once, in the transaction in which it ended: runs that never ran, too."""

from __future__ import annotations

from typing import Any

import pytest

from seawall.core.records import ScheduledOperation, Trigger
from seawall.db import events, outbox, runs, services
from seawall.db.events import Firing
from seawall.db.outbox import Told
from seawall.db.runs import Outcome
from seawall.db.tables import runs as run_table
from seawall.db.tables import triggers
from seawall.operation_engine import claim
from seawall.operation_engine.cleanup import CleanUp
from tests.engine.ground import Ground

_ENDED = "io.seawall.run.ended"


@pytest.fixture
def told(each: Ground) -> Ground:
    """Both kinds of database, with somebody who is told."""
    each.database.write("test.on", lambda tx: outbox.switch(tx, is_on=True))
    return each


def waiting(ground: Ground) -> list[Told]:
    return ground.database.read(lambda connection: outbox.waiting(connection, limit=100_000))


def ended(ground: Ground) -> list[dict[str, Any]]:
    """What was told of ended runs."""
    return [one.event["data"] for one in waiting(ground) if one.type == _ENDED]


def states(ground: Ground) -> list[tuple[str, str]]:
    return [(one["expected_at"], one["state"]) for one in ended(ground)]


def assert_each_end_is_told_once(ground: Ground) -> None:
    there = sorted(str(run.id) for run in ground.runs() if run.ended_at is not None)
    assert sorted(one["id"] for one in ended(ground)) == there


def iso(ground: Ground, seconds: float) -> str:
    return ground.at(seconds).isoformat()


def claim_at(ground: Ground, seconds: float) -> None:
    ground.go_to(seconds)
    ground.claim_all()


def work(ground: Ground, limit: int = 1) -> None:
    def call(tx: Any) -> None:
        runs.claim(tx, service_row=1, host="here", limit=limit, lease_until=ground.at(10**6))

    ground.database.write("test.work", call)


def fire(ground: Ground, trigger: Trigger, event_id: str, *, depth: int | None = None) -> None:
    def call(tx: Any) -> None:
        row = tx.connection.execute(triggers.select().where(triggers.c.id == trigger.id)).one().row
        events.fire(tx, [Firing(row, event_id, "amqp", 1800, depth)])

    ground.database.write("test.fire", call)


def listening(ground: Ground) -> tuple[Trigger, ScheduledOperation]:
    made = ground.schedules.create_trigger(
        ground.caller, name="e", type="event", properties={"source": "amqp", "routing_key": "#"}
    )
    operation = ground.operation(made)
    ground.clock.advance(1)
    return made, operation


def test_a_due_time_that_is_skipped_for_an_overlap_is_told_once(told: Ground) -> None:
    told.operation(told.trigger())
    claim_at(told, 60)
    assert waiting(told) == []
    claim_at(told, 120)
    assert states(told) == [(iso(told, 120), "skipped_overlap")]
    claim_at(told, 180)
    assert_each_end_is_told_once(told)


def test_a_run_that_is_born_ended_is_told_as_every_other_one(told: Ground) -> None:
    """The same shape, whoever writes it: Python's text of instants and ids."""
    operation = told.operation(told.trigger(start_time="2026-03-01 00:00:00"))
    told.clock.advance(0.000_25)
    claim_at(told, 120)
    (one,) = waiting(told)
    (run,) = [run for run in told.runs() if run.ended_at is not None]
    source = f"/seawall/projects/{operation.project_id}"
    assert one.at == told.clock.now()
    assert one.event == {
        "specversion": "1.0",
        "id": one.id,
        "source": source,
        "type": _ENDED,
        "subject": f"run/{run.id}",
        "time": told.clock.now().isoformat().replace("+00:00", "Z"),
        "datacontenttype": "application/json",
        "data": {
            "id": run.id,
            "project_id": operation.project_id,
            "kind": "scheduled",
            "operation_type": "probe",
            "scheduled_operation_id": operation.id,
            "trigger_id": operation.trigger_id,
            "plan_id": None,
            "state": "skipped_overlap",
            "reason": run.reason,
            "expected_at": run.expected_at.isoformat(),
            "started_at": None,
            "ended_at": run.ended_at.isoformat(),
            "attempt": 0,
            "host": None,
            "gap_first_at": None,
            "gap_last_at": None,
            "gap_count": None,
        },
    }


def test_instants_with_microseconds_are_told_whole(told: Ground) -> None:
    told.operation(told.trigger())
    claim_at(told, 60)
    claim_at(told, 120.000_25)
    (one,) = ended(told)
    assert one["ended_at"] == iso(told, 120.000_25) == "2026-03-01T00:02:00.000250+00:00"


@pytest.mark.parametrize("kind", ["missed", "skipped_paused", "skipped_excluded"])
def test_a_gap_is_told_when_it_begins_and_not_each_time_it_grows(told: Ground, kind: str) -> None:
    day = {"name": "sundays", "calendar": "RRULE:FREQ=WEEKLY;BYDAY=SU"}
    properties: dict[str, dict[str, Any]] = {
        "missed": {"window": 0, "misfire": "skip"},
        "skipped_paused": {},
        "skipped_excluded": {"exclusions": [day]},
    }
    trigger = told.trigger(**properties[kind])
    told.operation(trigger)
    if kind == "skipped_paused":
        told.schedules.pause_trigger(told.caller, trigger.id, reason="r", until_at=None)
    claim_at(told, 150)
    claim_at(told, 270)
    (run,) = told.runs()
    assert (run.state, run.gap_count) == (kind, 4)
    (one,) = ended(told)
    assert (one["id"], one["state"]) == (run.id, kind)
    assert (one["gap_first_at"], one["gap_last_at"], one["gap_count"]) == (iso(told, 60), iso(told, 120), 2)


def test_a_waiting_run_that_a_newer_one_replaces_is_told(told: Ground) -> None:
    told.operation(told.trigger(), overlap="queue_one")
    told.operation(told.trigger(), overlap="cancel_running")
    claim_at(told, 60)
    claim_at(told, 120)
    assert sorted(states(told)) == [(iso(told, 60), "cancelled"), (iso(told, 60), "skipped_overlap")]
    claim_at(told, 180)
    assert_each_end_is_told_once(told)


def test_a_working_run_that_is_to_stop_is_told_when_it_has(told: Ground) -> None:
    told.operation(told.trigger(), overlap="cancel_running")
    claim_at(told, 60)
    work(told)
    claim_at(told, 120)
    assert ended(told) == []
    (run,) = told.runs(state="cancelling")
    told.database.write("test.end", lambda tx: runs.record(tx, [Outcome(run.row, run.fence, "cancelled")]))
    assert_each_end_is_told_once(told)


def test_events_that_run_nothing_are_told(told: Ground) -> None:
    trigger, _ = listening(told)
    fire(told, trigger, "too deep", depth=events.MAX_DEPTH + 1)
    fire(told, trigger, "too deep again", depth=events.MAX_DEPTH + 1)
    told.schedules.pause_trigger(told.caller, trigger.id, reason="r", until_at=None)
    fire(told, trigger, "paused")
    assert sorted(one["state"] for one in ended(told)) == ["missed", "skipped_paused"]
    assert_each_end_is_told_once(told)


def test_an_event_that_overlaps_is_told(told: Ground) -> None:
    trigger, _ = listening(told)
    fire(told, trigger, "first")
    fire(told, trigger, "second")
    assert [one["state"] for one in ended(told)] == ["skipped_overlap"]


def test_many_at_once_are_each_told_once(told: Ground) -> None:
    """A burst of all policies, after a silence and in ordinary hours, at one and at several instants."""
    for overlap in ("skip", "queue_one", "cancel_running", "allow"):
        for _ in range(5):
            told.operation(told.trigger(window=100), overlap=overlap)
            told.operation(told.trigger(window=100, misfire="run_all", max_catchup=3), overlap=overlap)
    for seconds in (60, 120, 1000, 1020, 1060, 1061):
        claim_at(told, seconds)
        work(told, limit=3)
    assert_each_end_is_told_once(told)
    assert len({one.id for one in waiting(told)}) == len(waiting(told))
    assert {one["state"] for one in ended(told)} == {"missed", "skipped_overlap", "cancelled"}


def test_nothing_is_told_of_what_is_rolled_back(told: Ground) -> None:
    told.operation(told.trigger())
    claim_at(told, 60)
    told.go_to(120)

    def call(tx: Any) -> None:
        claim.claim(tx)
        raise ValueError("it is undone")

    with pytest.raises(ValueError, match="undone"):
        told.database.write("test.undone", call)
    assert waiting(told) == []


def test_without_a_broker_nothing_is_written(each: Ground) -> None:
    each.operation(each.trigger(window=0, misfire="skip"), overlap="queue_one")
    trigger, _ = listening(each)
    fire(each, trigger, "first")
    fire(each, trigger, "second")
    for seconds in (60, 120, 1000):
        claim_at(each, seconds)
    assert each.database.read(lambda c: c.execute(run_table.select()).all()) != []
    assert each.database.read(outbox.count) == 0


# --- services ------------------------------------------------------------------------------------


def service_events(ground: Ground) -> list[tuple[str, str]]:
    return [
        (one.type.rpartition(".")[2], one.event["subject"])
        for one in waiting(ground)
        if one.type.startswith("io.seawall.service")
    ]


def clean(ground: Ground) -> None:
    made = CleanUp(
        ground.database, clock=ground.clock, wakeup=ground.wakeup, interval_s=60, keep_runs_days=90,
        error_checkpoint_days=7,
    )  # fmt: skip
    made.run(ground.clock.now())
    assert made.faults == {}


def test_a_service_that_was_killed_is_told_to_be_down_once(told: Ground) -> None:
    told.service("here")
    alive = told.service("there")
    told.go_to(29)
    clean(told)
    assert len(service_events(told)) == 2
    for seconds in (31, 91):
        told.go_to(seconds)
        told.database.write("test.beat", lambda tx: services.beat(tx, alive))
        clean(told)
    assert service_events(told)[2:] == [("down", "service/here/seawall-protection")]
    assert "heartbeat" in waiting(told)[-1].event["data"]["reason"]


def test_a_service_that_slept_and_goes_on_is_told_to_be_up_again(told: Ground) -> None:
    slept = told.service("here")
    told.go_to(40)
    clean(told)
    for _ in range(2):
        told.database.write("test.beat", lambda tx: services.beat(tx, slept))
    clean(told)
    assert [kind for kind, _ in service_events(told)] == ["up", "down", "up"]


def test_a_service_that_was_killed_and_is_back_before_anybody_saw_it_is_told_to_have_been_down(
    told: Ground,
) -> None:
    told.service("here")
    told.service("here")
    assert [kind for kind, _ in service_events(told)] == ["up", "down", "up"]


def test_a_service_that_stopped_in_order_is_told_to_be_down_once(told: Ground) -> None:
    stopped = told.service("here")
    told.database.write("test.stop", lambda tx: services.stopped(tx, stopped))
    told.go_to(40)
    clean(told)
    told.service("here")
    assert [kind for kind, _ in service_events(told)] == ["up", "down", "up"]
