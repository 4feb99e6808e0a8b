# SPDX-License-Identifier: Apache-2.0
"""A user may let an operation run now, make up for due times that have passed, and cancel either."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import datetime

import pytest

from seawall.core.errors import InvalidInputError, NotFoundError
from seawall.core.records import Backfill, ScheduledOperation
from seawall.operation_engine.schedules import asked
from seawall.sdk.operation import OperationContext
from tests.engine.ground import Ground, Json


def backfill(
    ground: Ground, operation: ScheduledOperation, first: float, last: float, **more: bool
) -> list[datetime]:
    made = ground.schedules.backfill_operation(
        ground.caller,
        operation.id,
        start=ground.at(first),
        end=ground.at(last),
        is_dry=more.get("is_dry", False),
    )
    return list(made.times)


def test_a_manual_run_is_carried_out_at_once_beside_the_schedule(each: Ground) -> None:
    operation = each.operation(each.trigger())
    run = each.schedules.run_operation(each.caller, operation.id)
    assert (run.kind, run.state, run.expected_at) == ("manual", "queued", each.at(0))
    each.dispatcher()
    each.until(lambda: each.states() == ["success"])
    each.go_to(60)
    each.claim()
    assert [run.kind for run in each.runs()] == ["manual", "scheduled"]


def test_the_same_key_is_the_same_manual_run(each: Ground) -> None:
    first, other = each.operation(each.trigger()), each.operation(each.trigger())
    made = each.schedules.run_operation(each.caller, first.id, key="k")
    assert each.schedules.run_operation(each.caller, first.id, key="k") == made
    assert each.schedules.run_operation(each.caller, other.id, key="k").id != made.id
    assert each.schedules.run_operation(each.caller, first.id).id != made.id


def test_a_disabled_operation_may_be_run_by_hand(each: Ground) -> None:
    operation = each.operation(each.trigger(), enabled=False)
    assert each.schedules.run_operation(each.caller, operation.id).state == "queued"


def test_a_manual_run_is_no_overlap_and_is_not_replaced(each: Ground) -> None:
    operation = each.operation(each.trigger(), overlap="queue_one")
    each.schedules.run_operation(each.caller, operation.id)
    for minute in (1, 2):
        each.go_to(60 * minute)
        each.claim()
    assert [(run.kind, run.state) for run in each.runs()] == [
        ("manual", "queued"), ("scheduled", "skipped_overlap"), ("scheduled", "queued"),
    ]  # fmt: skip
    assert len({run.lock_key for run in each.runs()}) == 1


def test_a_foreign_operation_is_not_there(each: Ground) -> None:
    """I11."""
    operation = each.operation(each.trigger())
    stranger = replace(each.caller, project_id="0c6c6c2e-0b5b-4c39-9f7f-0d3d9b6f0a99")
    with pytest.raises(NotFoundError):
        each.schedules.run_operation(stranger, operation.id)
    with pytest.raises(NotFoundError):
        each.schedules.backfill_operation(
            stranger, operation.id, start=each.at(0), end=each.at(0), is_dry=False
        )


def test_a_backfill_makes_up_for_each_due_time_of_its_range_in_order(each: Ground) -> None:
    order: list[datetime] = []
    working: list[int] = []

    def work(definition: Json, context: OperationContext) -> None:
        working.append(1)
        assert len(working) == 1
        order.append(context.expected_at)
        working.pop()

    each.call("work", work)
    operation = each.operation(each.trigger(), call="work", overlap="allow")
    each.go_to(330)
    made = backfill(each, operation, 60, 240)
    assert made == [each.at(60), each.at(120), each.at(180), each.at(240)]
    runs = each.runs(kind="backfill")
    assert [run.expected_at for run in runs] == made
    assert len({run.occurrence.partition("/")[0] for run in runs}) == 1
    each.dispatcher()
    each.until(lambda: each.states() == ["success"] * 4)
    assert order == made


def test_a_dry_backfill_only_lists(each: Ground) -> None:
    operation = each.operation(each.trigger())
    each.go_to(330)
    assert backfill(each, operation, 61, 180, is_dry=True) == [each.at(120), each.at(180)]
    assert each.runs() == []


def test_a_backfill_adds_rows_and_waits_behind_what_is_scheduled(each: Ground) -> None:
    """I1: ended rows never change. A backfill of long ago is no overlap for what is due now."""
    operation = each.operation(each.trigger())
    each.go_to(60)
    each.claim()
    backfill(each, operation, 30, 60)
    backfill(each, operation, 30, 60)
    assert [run.kind for run in each.runs()] == ["scheduled", "backfill", "backfill"]
    each.go_to(61)
    each.dispatcher()
    each.until(lambda: each.states() == ["success"] * 3)
    started = {run.kind: run.started_at for run in each.runs()}
    assert started["scheduled"] <= started["backfill"]
    backfill(each, operation, 30, 60)
    each.go_to(120)
    each.claim()
    assert each.runs(expected_at=each.at(120))[0].state != "skipped_overlap"


@pytest.mark.parametrize(("first", "last", "field"), [(120, 60, "start"), (60, 400, "end"), (0, 330, "end")])
def test_a_range_that_is_empty_future_or_too_long_is_refused(
    each: Ground, monkeypatch: pytest.MonkeyPatch, first: float, last: float, field: str
) -> None:
    monkeypatch.setattr(asked, "MOST_BACKFILLED", 4)
    operation = each.operation(each.trigger())
    each.go_to(330)
    with pytest.raises(InvalidInputError) as refused:
        backfill(each, operation, first, last)
    assert refused.value.fields[0].field == field
    assert each.runs() == []


def test_a_backfill_follows_the_spread_of_its_trigger(each: Ground) -> None:
    operation = each.operation(each.trigger(pattern="600", spread=300, window=7200))
    each.go_to(6000)
    each.claim_all()
    scheduled = {run.expected_at for run in each.runs(kind="scheduled")}
    assert set(backfill(each, operation, 600, 6000)) == scheduled


def _quiet(action: str, first_minute: int, minutes: int, name: str = "quiet") -> Json:
    begin = f"DTSTART:20260301T00{first_minute:02}00Z"
    return {"name": name, "action": action, "calendar": f"{begin}\nDURATION:PT{minutes}M"}


def _asked(ground: Ground, operation: ScheduledOperation, first: float, last: float) -> Backfill:
    return ground.schedules.backfill_operation(
        ground.caller, operation.id, start=ground.at(first), end=ground.at(last), is_dry=False
    )


def test_a_backfill_leaves_out_what_the_exclusions_leave_out_and_says_so(each: Ground) -> None:
    trigger = each.trigger(exclusions=[_quiet("skip", 2, 2)])
    operation = each.operation(trigger)
    each.go_to(330)
    made = _asked(each, operation, 60, 300)
    assert made.times == (each.at(60), each.at(240), each.at(300))
    assert [(one.at, one.reason) for one in made.excluded] == [
        (each.at(120), "excluded by quiet"),
        (each.at(180), "excluded by quiet"),
    ]
    assert [run.expected_at for run in each.runs(kind="backfill")] == list(made.times)
    listed = backfill(each, operation, 60, 300, is_dry=True)
    assert listed == list(made.times)


def test_a_backfill_delays_as_the_schedule_does_and_the_newest_of_those_that_wait_runs(each: Ground) -> None:
    operation = each.operation(each.trigger(exclusions=[_quiet("delay", 2, 3)]))
    each.go_to(630)
    # What is due when the delay ends runs in the place of all that waited for it.
    made = _asked(each, operation, 60, 360)
    assert made.times == (each.at(60), each.at(300), each.at(360))
    assert {one.at for one in made.excluded} == {each.at(120), each.at(180), each.at(240)}
    assert all("a later one runs in its place" in one.reason for one in made.excluded)
    # It does so when it lies outside the range, too.
    assert _asked(each, operation, 120, 240).times == ()


def test_a_backfill_of_a_delayed_time_is_expected_at_the_end_of_its_delay(each: Ground) -> None:
    operation = each.operation(each.trigger(pattern="300", exclusions=[_quiet("delay", 4, 3)]))
    each.go_to(660)
    made = _asked(each, operation, 240, 420)
    assert made.times == (each.at(420),)
    (run,) = each.runs(kind="backfill")
    assert run.occurrence.endswith("2026-03-01T00:05:00.000000Z")
    assert run.expected_at == each.at(420)


def test_a_backfill_leaves_what_is_still_held_back_to_the_schedule(each: Ground) -> None:
    operation = each.operation(each.trigger(pattern="300", exclusions=[_quiet("delay", 4, 5)]))
    each.go_to(480)
    made = _asked(each, operation, 240, 420)
    assert made.times == ()
    assert [one.at for one in made.excluded] == [each.at(300)]
    assert "still to come" in made.excluded[0].reason
    assert each.runs() == []


def test_a_cancel_reaches_running_work_within_a_second(each: Ground) -> None:
    """Of fake time, which goes on only while the dispatcher waits."""
    begun, ended = threading.Event(), threading.Event()

    def work(definition: Json, context: OperationContext) -> None:
        begun.set()
        try:
            # On an event of its own: nothing but the cancel ends it.
            while True:
                context.check()
        finally:
            ended.set()

    each.call("work", work)
    run = each.schedules.run_operation(each.caller, each.operation(each.trigger(), call="work").id)
    each.dispatcher()
    assert begun.wait(60)
    each.clock.wait_for_waiters()
    cancelled_at = each.clock.now()
    each.schedules.cancel_run(each.caller, run.id)
    while not ended.is_set():
        each.clock.wait_for_waiters()
        each.clock.advance(0.25)
        each.clock.wait_for_waiters()
        ended.wait(5)
        assert (each.clock.now() - cancelled_at).total_seconds() <= 1
    each.until(lambda: each.states() == ["cancelled"], step_s=0.25)
