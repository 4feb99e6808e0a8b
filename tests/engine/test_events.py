# SPDX-License-Identifier: Apache-2.0
"""Ends of operations fire others: in the same transaction, once, in no circle, not without end (I1, I2)."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa

from seawall.core.errors import InvalidInputError, RunError
from seawall.core.records import ScheduledOperation, Trigger
from seawall.db import events, outbox, runs
from seawall.db.runs import Outcome
from seawall.db.tables import runs as run_table
from seawall.operation_engine.executors.inline import Inline
from tests.engine.ground import Ground


def _after(ground: Ground, operation: ScheduledOperation, **more: Any) -> Trigger:
    properties = {"source": "operation", "operation_id": operation.id, **more}
    return ground.schedules.create_trigger(ground.caller, name="after", type="event", properties=properties)


def _work(ground: Ground, state: str = "success") -> None:
    """Claim what waits and record this outcome."""

    def call(tx: Any) -> None:
        claimed = runs.claim(tx, service_row=1, host="here", limit=100, lease_until=ground.at(10**6))
        runs.record(tx, [Outcome(one.row, one.fence, state) for one in claimed])

    ground.database.write("test.work", call)


def _of(ground: Ground, operation: ScheduledOperation) -> list[sa.Row[Any]]:
    return ground.runs(scheduled_operation_id=operation.id)


def test_the_success_of_one_operation_fires_another(both: Ground) -> None:
    first = both.operation(both.trigger())
    second = both.operation(_after(both, first))
    both.go_to(60)
    both.claim_all()
    _work(both)
    (run,) = _of(both, second)
    (cause,) = _of(both, first)
    assert (run.kind, run.state, run.depth) == ("event", "queued", 1)
    assert run.occurrence == f"operation {cause.id}"


@pytest.mark.parametrize(("state", "fires"), [("failed", True), ("success", False), ("cancelled", False)])
def test_only_the_states_that_are_waited_for_fire(ground: Ground, state: str, fires: bool) -> None:
    first = ground.operation(ground.trigger())
    second = ground.operation(_after(ground, first, states=["failed"]))
    ground.go_to(60)
    ground.claim_all()
    _work(ground, state)
    assert len(_of(ground, second)) == int(fires)


def test_a_run_that_is_never_started_fires_those_who_wait_for_that(ground: Ground) -> None:
    first = ground.operation(ground.trigger(window=30))
    second = ground.operation(_after(ground, first, states=["dropped_out_of_window"]))
    ground.go_to(60)
    ground.claim_all()
    ground.go_to(91)
    ground.database.write("test.reap", lambda tx: runs.reap(tx, host="here"))
    assert len(_of(ground, second)) == 1


def test_a_waiting_run_that_a_user_cancels_fires_too(ground: Ground) -> None:
    first = ground.operation(ground.trigger())
    second = ground.operation(_after(ground, first, states=["cancelled"]))
    ground.go_to(60)
    ground.claim_all()
    ground.schedules.cancel_run(ground.caller, _of(ground, first)[0].id)
    assert len(_of(ground, second)) == 1


def test_a_run_that_is_tried_again_has_not_ended(ground: Ground) -> None:
    def fail(definition: Any, context: Any) -> None:
        raise OSError("not now")

    ground.call("fail", fail)
    first = ground.operation(ground.trigger(), call="fail", retry={"max_attempts": 2, "delay_s": 5})
    second = ground.operation(_after(ground, first, states=["failed"]))
    ground.go_to(60)
    ground.claim_all()
    ground.dispatcher(executor=Inline())
    ground.until(lambda: _of(ground, first)[0].attempt == 1 and _of(ground, first)[0].state == "queued")
    assert _of(ground, second) == []
    ground.until(lambda: _of(ground, first)[0].state == "failed", step_s=1)
    assert len(_of(ground, second)) == 1


def test_a_chain_runs_by_itself_in_order(ground: Ground) -> None:
    order: list[str] = []

    def note(name: str) -> None:
        def call(definition: Any, context: Any) -> None:
            order.append(name)

        ground.call(name, call)

    for name in "abc":
        note(name)
    a = ground.operation(ground.trigger(), call="a")
    b = ground.operation(_after(ground, a), call="b")
    c = ground.operation(_after(ground, b), call="c")
    ground.go_to(60)
    ground.claim_all()
    ground.dispatcher(executor=Inline())
    ground.until(lambda: [run.state for run in _of(ground, c)] == ["success"])
    assert order == ["a", "b", "c"]
    assert [_of(ground, one)[0].depth for one in (a, b, c)] == [None, 1, 2]


def test_a_rolled_back_outcome_fires_nothing(ground: Ground) -> None:
    first = ground.operation(ground.trigger())
    second = ground.operation(_after(ground, first))
    ground.go_to(60)
    ground.claim_all()

    def call(tx: Any) -> None:
        claimed = runs.claim(tx, service_row=1, host="here", limit=1, lease_until=ground.at(10**6))
        runs.record(tx, [Outcome(one.row, one.fence, "success") for one in claimed])
        raise RunError("it is undone")

    with pytest.raises(RunError):
        ground.database.write("test.undone", call)
    assert _of(ground, second) == []


def test_a_circle_is_refused(ground: Ground) -> None:
    a = ground.operation(ground.trigger())
    after_a = _after(ground, a)
    b = ground.operation(after_a)
    after_b = _after(ground, b)
    c = ground.operation(after_b)
    with pytest.raises(InvalidInputError, match="circle"):
        ground.schedules.update_trigger(
            ground.caller, after_a.id, properties={"source": "operation", "operation_id": c.id}
        )
    with pytest.raises(InvalidInputError, match="circle"):
        ground.schedules.update_trigger(
            ground.caller, after_a.id, properties={"source": "operation", "operation_id": b.id}
        )


def test_a_chain_that_is_too_long_is_refused_where_it_would_be_made(ground: Ground) -> None:
    last = ground.operation(ground.trigger())
    for _ in range(events.MAX_DEPTH - 1):
        last = ground.operation(_after(ground, last))
    ground.operation(_after(ground, last))
    newest = ground.operation(_after(ground, last))
    with pytest.raises(InvalidInputError, match="chain"):
        _after(ground, newest)


def test_a_chain_that_became_too_long_is_cut_visibly(ground: Ground) -> None:
    first = ground.operation(ground.trigger())
    second = ground.operation(_after(ground, first))
    ground.go_to(60)
    ground.claim_all()
    ground.database.write(
        "test.deep", lambda tx: tx.connection.execute(run_table.update().values(depth=events.MAX_DEPTH))
    )
    _work(ground)
    (cut,) = _of(ground, second)
    assert cut.state == "missed"
    assert "had fired one another" in cut.reason


def test_deleting_what_is_waited_for_quarantines_the_trigger_visibly(ground: Ground) -> None:
    first = ground.operation(ground.trigger())
    trigger = _after(ground, first)
    ground.schedules.delete_operation(ground.caller, first.id)
    reason = ground.schedules.get_trigger(ground.caller, trigger.id).quarantine_reason
    assert reason is not None
    assert first.id in reason


def test_a_trigger_that_waits_can_be_deleted_with_what_it_has_received(ground: Ground) -> None:
    first = ground.operation(ground.trigger())
    trigger = _after(ground, first)
    second = ground.operation(trigger)
    ground.go_to(60)
    ground.claim_all()
    _work(ground)
    ground.schedules.delete_operation(ground.caller, second.id)
    ground.schedules.delete_trigger(ground.caller, trigger.id)
    assert ground.database.read(events.everything) == []


def test_the_clean_ups_own_runs_of_an_operation_fire_nothing(ground: Ground) -> None:
    first = ground.operation(ground.trigger())
    second = ground.operation(_after(ground, first))
    new = runs.NewRun(
        project_id=first.project_id, user_id="u", kind="system", subject_type="scheduled_operation",
        subject_id=first.id, occurrence="expired", operation_type="probe", definition={"call": "nothing"},
        expected_at=ground.at(0), scheduled_operation_id=first.id,
    )  # fmt: skip
    ground.database.write("test.system", lambda tx: runs.insert_all(tx, [new]))
    _work(ground)
    assert _of(ground, second) == []


def test_nothing_goes_to_the_outbox_until_somebody_is_told(ground: Ground) -> None:
    ground.operation(ground.trigger())
    ground.go_to(60)
    ground.claim_all()
    _work(ground)
    assert ground.database.read(outbox.count) == 0


def test_starts_and_ends_of_runs_go_to_the_outbox_as_cloud_events(ground: Ground) -> None:
    ground.database.write("test.on", lambda tx: outbox.switch(tx, is_on=True))
    operation = ground.operation(ground.trigger())
    ground.go_to(60)
    ground.claim_all()
    _work(ground)
    told = ground.database.read(lambda connection: outbox.waiting(connection, limit=10))
    assert [one.type for one in told] == ["io.seawall.run.started", "io.seawall.run.ended"]
    (run,) = _of(ground, operation)
    event = told[1].event
    assert event["specversion"] == "1.0"
    assert event["id"] == told[1].id
    assert event["subject"] == f"run/{run.id}"
    assert event["data"]["state"] == "success"
    assert event["source"] == f"/seawall/projects/{operation.project_id}"
