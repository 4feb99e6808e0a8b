# SPDX-License-Identifier: Apache-2.0
"""Every due time of a registered operation has exactly one row, whenever the engine looks (I1, I2)."""

from __future__ import annotations

import threading
from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from seawall.core.records import ScheduledOperation, Trigger
from seawall.db import runs as run_rows
from seawall.db.tables import runs, scheduled_operations, triggers
from seawall.operation_engine import claim
from tests.engine.ground import START, Ground

_TICK = timedelta(microseconds=1)


def accounted(ground: Ground, operation: ScheduledOperation, every_s: int) -> list[datetime]:
    """Due times by rows: single ones, and those of gaps, whose counts must be right."""
    found: list[datetime] = []
    for run in ground.runs(scheduled_operation_id=operation.id, kind="scheduled"):
        if run.gap_count is None:
            found.append(run.expected_at)
            continue
        times = brute_force(every_s, run.gap_first_at - _TICK, run.gap_last_at)
        assert len(times) == run.gap_count, run
        assert times[0] == run.gap_first_at
        assert times[-1] == run.gap_last_at
        found += times
    return found


def brute_force(every_s: int, after: datetime, through: datetime) -> list[datetime]:
    """START, START + every_s, ... that lie in (after, through]."""
    first = (after - START) // timedelta(seconds=every_s) + 1
    last = (through - START) // timedelta(seconds=every_s)
    return [START + timedelta(seconds=every_s * n) for n in range(first, last + 1)]


def stored(ground: Ground, trigger: Trigger) -> sa.Row[Any]:
    query = sa.select(triggers).where(triggers.c.id == trigger.id)
    return ground.database.read(lambda connection: connection.execute(query).one())


def end_all(ground: Ground, state: str = "success") -> None:
    """Let every live run end."""
    ground.database.write(
        "test.end",
        lambda tx: tx.connection.execute(
            runs.update()
            .where(runs.c.state.in_(("queued", "in_progress", "cancelling")))
            .values(state=state, ended_at=tx.now)
        ),
    )


def start_all(ground: Ground) -> None:
    """Let every run that may start be in progress, for a day."""
    ground.database.write(
        "test.start",
        lambda tx: run_rows.claim(
            tx, service_row=1, host="here", limit=1000, lease_until=tx.now + timedelta(days=1)
        ),
    )


# --- firing ------------------------------------------------------------------------------------


def test_all_operations_of_a_trigger_get_a_row_and_it_advances(each: Ground) -> None:
    trigger = each.trigger()
    ids = {each.operation(trigger, priority=n).id for n in range(3)}
    each.go_to(60)
    assert each.claim() == claim.Claimed(triggers=1, runs=3, quarantined=0, is_more=False)
    found = each.runs()
    assert {run.scheduled_operation_id for run in found} == ids
    assert {(run.state, run.kind, run.expected_at, run.trigger_id) for run in found} == {
        ("queued", "scheduled", each.at(60), trigger.id)
    }
    assert sorted(run.priority for run in found) == [0, 1, 2]
    assert found[0].deadline_at == each.at(60 + 1800)
    row = stored(each, trigger)
    assert (row.fired_through_at, row.next_run_at) == (each.at(60), each.at(120))


def test_nothing_is_due_twice(each: Ground) -> None:
    each.operation(each.trigger())
    each.go_to(60)
    each.claim()
    assert each.claim() == claim.Claimed(0, 0, 0, False)
    assert len(each.runs()) == 1


def test_the_same_due_time_again_makes_no_second_row(each: Ground) -> None:
    """I1: even when a trigger's row was put back, as from an old copy of the database."""
    trigger = each.trigger()
    each.operation(trigger, overlap="allow")
    each.go_to(60)
    each.claim()
    each.database.write(
        "test.back",
        lambda tx: tx.connection.execute(
            triggers.update().values(fired_through_at=START, next_run_at=each.at(60))
        ),
    )
    each.claim()
    assert len(each.runs()) == 1


def test_ids_of_runs_are_uuids_in_the_order_of_their_making(each: Ground) -> None:
    trigger = each.trigger(misfire="run_all")
    each.operation(trigger, overlap="allow")
    for minute in range(1, 6):
        each.go_to(60 * minute)
        each.claim()
    ids = [run.id for run in each.runs()]
    assert all(len(one) == 36 and one[14] == "7" and one[19] == "8" for one in ids)
    assert sorted(ids) == ids


def test_an_operation_that_is_registered_later_gets_no_earlier_row(each: Ground) -> None:
    trigger = each.trigger()
    first = each.operation(trigger)
    each.go_to(90)
    second = each.operation(trigger)
    each.go_to(120)
    each.claim()
    found = Counter((run.scheduled_operation_id, run.expected_at) for run in each.runs())
    assert found == Counter(
        {(first.id, each.at(60)): 1, (first.id, each.at(120)): 1, (second.id, each.at(120)): 1}
    )


def test_an_operation_registered_at_the_very_due_time_begins_with_the_next(each: Ground) -> None:
    trigger = each.trigger()
    each.go_to(60)
    operation = each.operation(trigger)
    each.go_to(120)
    each.claim()
    assert [run.expected_at for run in each.runs(scheduled_operation_id=operation.id)] == [each.at(120)]


def test_spread_moves_the_expected_time_and_keeps_the_nominal_one(each: Ground) -> None:
    trigger = each.trigger(spread=30)
    each.operation(trigger)
    each.go_to(90)
    each.claim()
    run = each.runs()[0]
    assert run.occurrence == "2026-03-01T00:01:00.000000Z"
    assert each.at(60) <= run.expected_at <= each.at(90)


def test_a_clock_that_goes_back_fires_nothing_again(each: Ground) -> None:
    trigger = each.trigger()
    operation = each.operation(trigger, overlap="allow")
    each.go_to(180)
    each.claim_all()
    each.clock.jump(-150)
    each.claim_all()
    before = stored(each, trigger).fired_through_at
    each.clock.jump(400)
    each.claim_all()
    assert stored(each, trigger).fired_through_at >= before
    assert accounted(each, operation, 60) == brute_force(60, START, each.clock.now())


# --- misfire -----------------------------------------------------------------------------------


def test_run_latest_runs_the_newest_and_one_gap_says_that_the_others_were_missed(each: Ground) -> None:
    each.operation(each.trigger(window=0))
    each.go_to(330)
    each.claim()
    gap, run = each.runs()
    assert (gap.state, gap.gap_count, gap.gap_first_at, gap.gap_last_at) == (
        "missed", 4, each.at(60), each.at(240),
    )  # fmt: skip
    assert (run.state, run.expected_at, run.deadline_at) == ("queued", each.at(300), each.at(330))


def test_skip_misses_all_and_the_gap_grows_as_it_goes_on(each: Ground) -> None:
    each.operation(each.trigger(window=0, misfire="skip"))
    for seconds in (150, 270, 390):
        each.go_to(seconds)
        each.claim()
    (gap,) = each.runs()
    assert (gap.state, gap.gap_count, gap.gap_last_at) == ("missed", 6, each.at(360))


def test_run_all_runs_the_newest_few_one_after_the_other(each: Ground) -> None:
    each.operation(each.trigger(window=0, misfire="run_all", max_catchup=3), overlap="skip")
    each.go_to(330)
    each.claim()
    gap, *caught = each.runs()
    assert gap.gap_count == 2
    assert [run.state for run in caught] == ["queued"] * 3
    assert len({run.lock_key for run in caught}) == 1


def test_what_catches_up_is_not_replaced_by_a_newer_one(each: Ground) -> None:
    each.operation(each.trigger(window=0, misfire="run_all", max_catchup=3), overlap="queue_one")
    each.go_to(210)
    each.claim()
    each.go_to(240)
    each.claim()
    assert each.states() == ["queued"] * 4


# --- overlap -----------------------------------------------------------------------------------


def test_skip_skips_while_an_earlier_run_lives(each: Ground) -> None:
    each.operation(each.trigger())
    for minute in (1, 2):
        each.go_to(60 * minute)
        each.claim()
    end_all(each)
    each.go_to(180)
    each.claim()
    assert each.states() == ["success", "skipped_overlap", "queued"]
    assert "had not ended" in each.runs()[1].reason


def test_several_due_times_at_once_overlap_too(each: Ground) -> None:
    each.operation(each.trigger())
    each.go_to(180)
    each.claim()
    assert each.states() == ["queued", "skipped_overlap", "skipped_overlap"]


def test_queue_one_keeps_the_newest_one_waiting(each: Ground) -> None:
    each.operation(each.trigger(), overlap="queue_one")
    each.go_to(60)
    each.claim()
    start_all(each)
    for minute in (2, 3):
        each.go_to(60 * minute)
        each.claim()
    assert each.states() == ["in_progress", "skipped_overlap", "queued"]
    assert len({run.lock_key for run in each.runs() if run.state != "skipped_overlap"}) == 1


def test_cancel_running_asks_the_running_one_to_make_way(each: Ground) -> None:
    each.operation(each.trigger(), overlap="cancel_running")
    each.go_to(60)
    each.claim()
    start_all(each)
    each.go_to(120)
    each.claim()
    each.go_to(180)
    each.claim()
    first, second, third = each.runs()
    assert (first.state, first.cancel_requested_at) == ("cancelling", each.at(120))
    assert (second.state, third.state) == ("cancelled", "queued")


def test_allow_lets_them_run_side_by_side(each: Ground) -> None:
    each.operation(each.trigger(), overlap="allow")
    for minute in (1, 2, 3):
        each.go_to(60 * minute)
        each.claim()
    assert each.states() == ["queued"] * 3
    assert {run.lock_key for run in each.runs()} == {None}


def test_a_manual_run_of_the_same_operation_is_no_overlap(each: Ground) -> None:
    operation = each.operation(each.trigger())
    each.go_to(60)
    each.claim()
    each.database.write("test.kind", lambda tx: tx.connection.execute(runs.update().values(kind="manual")))
    each.go_to(120)
    each.claim()
    assert [run.state for run in each.runs(kind="scheduled")] == ["queued"]
    assert operation.id == each.runs()[0].scheduled_operation_id


# --- pause, update, delete -----------------------------------------------------------------------


def test_a_pause_is_one_gap_that_says_why(each: Ground) -> None:
    trigger = each.trigger()
    each.operation(trigger)
    each.schedules.pause_trigger(each.caller, trigger.id, reason="moving house", until_at=None)
    for minute in range(1, 5):
        each.go_to(60 * minute)
        each.claim()
    each.schedules.resume_trigger(each.caller, trigger.id)
    each.go_to(300)
    each.claim()
    gap, run = each.runs()
    assert (gap.state, gap.gap_count) == ("skipped_paused", 4)
    assert "moving house" in gap.reason
    assert (run.state, run.expected_at) == ("queued", each.at(300))


def test_a_pause_ends_by_itself_at_its_time(each: Ground) -> None:
    trigger = each.trigger()
    operation = each.operation(trigger, overlap="allow")
    each.schedules.pause_trigger(each.caller, trigger.id, reason="", until_at=each.at(180))
    each.go_to(250)
    each.claim()
    gap, *found = each.runs()
    assert (gap.state, gap.gap_count, gap.gap_last_at) == ("skipped_paused", 2, each.at(120))
    assert [run.expected_at for run in found] == [each.at(180), each.at(240)]
    assert stored(each, trigger).paused_at is None
    assert accounted(each, operation, 60) == brute_force(60, START, each.clock.now())


def test_updating_a_trigger_first_settles_what_is_due(each: Ground) -> None:
    """I2: what was due by the old rules is accounted for by the old rules."""
    trigger = each.trigger()
    each.operation(trigger, overlap="allow")
    each.go_to(130)
    each.schedules.update_trigger(
        each.caller,
        trigger.id,
        properties={"format": "interval", "pattern": "100", "start_time": "2026-03-01"},
    )
    each.go_to(200)
    each.claim()
    assert [run.expected_at for run in each.runs()] == [each.at(60), each.at(120), each.at(200)]


def test_disabling_an_operation_first_settles_what_is_due_of_it(each: Ground) -> None:
    trigger = each.trigger(window=0)
    operation = each.operation(trigger)
    each.go_to(70)
    each.schedules.update_operation(each.caller, operation.id, {"enabled": False})
    each.go_to(200)
    each.claim()
    each.schedules.update_operation(each.caller, operation.id, {"enabled": True})
    each.go_to(240)
    each.claim()
    assert [(run.expected_at, run.state) for run in each.runs()] == [
        (each.at(60), "cancelled"),
        (each.at(240), "queued"),
    ]


def test_a_deleted_operation_keeps_the_rows_of_what_was_due(each: Ground) -> None:
    trigger = each.trigger()
    operation = each.operation(trigger)
    each.go_to(60)
    each.schedules.delete_operation(each.caller, operation.id)
    each.go_to(120)
    each.claim()
    assert [(run.expected_at, run.state) for run in each.runs()] == [(each.at(60), "cancelled")]


# --- exclusions ----------------------------------------------------------------------------------

# From 00:02 to 00:10, counted from START.
_QUIET = {"name": "quiet", "calendar": "DTSTART:20260301T000200Z\nDURATION:PT8M", "action": "delay"}


def test_what_is_excluded_is_one_gap_that_says_by_what(each: Ground) -> None:
    trigger = each.trigger(window=60, exclusions=[{**_QUIET, "action": "skip"}])
    each.operation(trigger, overlap="allow")
    for second in range(30, 721, 30):
        each.go_to(second)
        each.claim()
    assert [(run.expected_at, run.state, run.gap_count) for run in each.runs()] == [
        (each.at(60), "queued", None),
        (each.at(120), "skipped_excluded", 8),
        (each.at(600), "queued", None),
        (each.at(660), "queued", None),
        (each.at(720), "queued", None),
    ]
    assert "quiet" in str(each.runs()[1].reason)


def test_what_is_delayed_runs_once_at_the_end_of_the_exclusion(each: Ground) -> None:
    """The newest of them; that due at the end itself is newer still."""
    trigger = each.trigger(window=60, exclusions=[_QUIET], pattern="90")
    each.operation(trigger, overlap="allow")
    for second in range(30, 721, 30):
        each.go_to(second)
        each.claim()
    assert [(run.expected_at, run.state, run.gap_count) for run in each.runs()] == [
        (each.at(90), "queued", None),
        (each.at(180), "skipped_excluded", 4),
        (each.at(600), "queued", None),
        (each.at(630), "queued", None),
        (each.at(720), "queued", None),
    ]


@pytest.mark.parametrize("change", ["schedule", "disable", "delete", "pause"])
def test_what_is_held_back_is_accounted_for_when_it_can_no_longer_run(each: Ground, change: str) -> None:
    """I1: the due times of 180 and 270 wait for 600; another operation of the trigger keeps them."""
    trigger = each.trigger(window=60, exclusions=[_QUIET], pattern="90")
    operation = each.operation(trigger, overlap="allow")
    other = each.operation(trigger, overlap="allow")
    each.go_to(300)
    each.claim()
    assert stored(each, trigger).next_run_at == each.at(600)
    match change:
        case "schedule":
            properties = {"format": "interval", "pattern": "3600", "start_time": "2026-03-01"}
            each.schedules.update_trigger(each.caller, trigger.id, properties=properties)
        case "disable":
            each.schedules.update_operation(each.caller, operation.id, {"enabled": False})
            each.schedules.update_operation(each.caller, operation.id, {"enabled": True})
        case "delete":
            each.schedules.delete_operation(each.caller, operation.id)
        case _:
            each.schedules.pause_trigger(each.caller, trigger.id, reason="r", until_at=None)
            each.schedules.resume_trigger(each.caller, trigger.id)
    each.go_to(610)
    each.claim()
    rows = [
        (run.expected_at, run.gap_count)
        for run in each.runs(scheduled_operation_id=operation.id)
        if run.expected_at > each.at(90)
    ]
    later = {
        "disable": [(each.at(360), 2), (each.at(600), None)],
        "pause": [(each.at(360), 2), (each.at(600), None)],
    }
    assert rows == [(each.at(180), 2), *later.get(change, [])]
    if change in ("disable", "delete"):
        kept = [(run.expected_at, run.gap_count) for run in each.runs(scheduled_operation_id=other.id)]
        assert kept == [(each.at(90), None), (each.at(180), 4), (each.at(600), None)]


# --- what is broken ------------------------------------------------------------------------------


def test_a_trigger_that_no_longer_holds_is_quarantined_and_stops_no_other(each: Ground) -> None:
    broken, sound = each.trigger(), each.trigger()
    each.operation(broken)
    each.operation(sound)
    each.database.write(
        "test.break",
        lambda tx: tx.connection.execute(
            triggers.update()
            .where(triggers.c.id == broken.id)
            .values(properties={**broken.properties, "timezone": "Mars/Olympus"})
        ),
    )
    each.go_to(60)
    assert each.claim() == claim.Claimed(triggers=2, runs=1, quarantined=1, is_more=False)
    assert [run.trigger_id for run in each.runs()] == [sound.id]
    assert "timezone" in (each.schedules.get_trigger(each.caller, broken.id).quarantine_reason or "")
    each.schedules.update_trigger(each.caller, broken.id, properties=broken.properties)
    each.go_to(120)
    each.claim()
    assert len(each.runs(trigger_id=broken.id)) == 1


def test_a_long_silence_is_settled_in_several_transactions(
    each: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claim, "MOST_TIMES", 100)
    operations = [each.operation(each.trigger(window=0)) for _ in range(4)]
    each.go_to(6000)
    assert each.claim().is_more
    each.claim_all()
    for operation in operations:
        assert accounted(each, operation, 60) == brute_force(60, START, each.clock.now())


def test_an_operation_registered_within_a_gap_counts_only_its_own_times(each: Ground) -> None:
    """As a clock that went back can make it."""
    trigger = each.trigger(window=0, misfire="skip")
    early, late = each.operation(trigger), each.operation(trigger)
    table = (
        scheduled_operations.update()
        .where(scheduled_operations.c.id == late.id)
        .values(registered_at=each.at(150))
    )
    each.database.write("test.late", lambda tx: tx.connection.execute(table))
    each.go_to(330)
    each.claim()
    (gap,) = each.runs(scheduled_operation_id=late.id)
    assert (gap.gap_first_at, gap.gap_count) == (each.at(180), 3)
    (gap,) = each.runs(scheduled_operation_id=early.id)
    assert (gap.gap_first_at, gap.gap_count) == (each.at(60), 5)


def test_two_engines_on_one_database_fire_each_due_time_once(shared: Ground) -> None:
    for _ in range(40):
        shared.operation(shared.trigger(), overlap="allow")
    shared.go_to(600)
    databases = [shared.database, shared.reopened()]

    def work(number: int) -> None:
        database = databases[number]
        while database.write("test.claim", lambda tx: claim.claim(tx, limit=5), locks_rows=True).triggers:
            pass

    threads = [threading.Thread(target=work, args=(n,)) for n in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = Counter((run.scheduled_operation_id, run.expected_at) for run in shared.runs())
    assert len(found) == 400
    assert set(found.values()) == {1}


# --- the property --------------------------------------------------------------------------------

STEPS = st.one_of(
    st.tuples(st.just("advance"), st.floats(0.1, 900)),
    st.tuples(st.just("jump"), st.floats(-600, 900)),
    st.tuples(st.just("claim"), st.integers(1, 3)),
    st.tuples(st.just("end"), st.just(0)),
    st.tuples(st.just("start"), st.just(0)),
    st.tuples(st.just("pause"), st.integers(0, 2)),
    st.tuples(st.just("resume"), st.integers(0, 2)),
    st.tuples(st.just("disable"), st.integers(0, 2)),
    st.tuples(st.just("enable"), st.integers(0, 2)),
)


class _Model:
    """What must be accounted for: by brute force, from what was asked for and not from the rows."""

    def __init__(self, every_s: int) -> None:
        self.every_s = every_s
        self.since: datetime | None = None
        self.expected: list[datetime] = []
        self.through = START

    def switch(self, now: datetime, *, is_on: bool) -> None:
        """What is due up to now belongs to the stretch that ends now."""
        self.pass_to(now)
        self.since = now if is_on else None

    def pass_to(self, now: datetime) -> None:
        if now > self.through:
            if self.since is not None:
                self.expected += brute_force(self.every_s, max(self.through, self.since), now)
            self.through = now


@given(
    st.lists(STEPS, min_size=5, max_size=40),
    st.lists(
        st.fixed_dictionaries(
            {
                "misfire": st.sampled_from(["skip", "run_latest", "run_all"]),
                "window": st.sampled_from([0, 45, 900]),
                "max_catchup": st.integers(1, 4),
                "every_s": st.sampled_from([7, 60, 301]),
                "overlap": st.sampled_from(["skip", "queue_one", "cancel_running", "allow"]),
            }
        ),
        min_size=3,
        max_size=3,
    ),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_on_any_walk_every_due_time_is_accounted_for_exactly_once(
    tmp_path: Path, steps: list[tuple[str, Any]], made: list[dict[str, Any]]
) -> None:
    ground = Ground(tmp_path, where=None)
    try:
        _walk(ground, steps, made)
    finally:
        ground.close()


def _walk(ground: Ground, steps: list[tuple[str, Any]], made: list[dict[str, Any]]) -> None:
    models, operations, all_triggers = [], [], []
    for one in made:
        properties = {name: one[name] for name in ("misfire", "window", "max_catchup")}
        trigger = ground.trigger(pattern=str(one["every_s"]), **properties)
        all_triggers.append(trigger)
        operations.append(ground.operation(trigger, overlap=one["overlap"]))
        models.append(_Model(one["every_s"]))
        models[-1].switch(START, is_on=True)
    for name, value in steps:
        _step(ground, name, value, models, operations, all_triggers)
    # Past every instant that has ever been, for the clock may have gone back.
    latest = max(max(one.through for one in models), *(_fired(ground, one) for one in all_triggers))
    ground.clock.jump(max(0.0, (latest - ground.clock.now()).total_seconds()))
    ground.clock.advance(1)
    ground.claim_all()
    for model, operation in zip(models, operations, strict=True):
        model.pass_to(ground.clock.now())
        found = accounted(ground, operation, model.every_s)
        assert sorted(found) == sorted(set(found)), "a due time has two rows"
        assert sorted(found) == model.expected


def _fired(ground: Ground, trigger: Trigger) -> datetime:
    found: datetime = stored(ground, trigger).fired_through_at
    return found


def _step(
    ground: Ground,
    name: str,
    value: Any,
    models: list[_Model],
    operations: list[ScheduledOperation],
    all_triggers: list[Trigger],
) -> None:
    now = ground.clock.now()
    match name:
        case "advance":
            ground.clock.advance(value)
        case "jump":
            ground.clock.jump(value)
        case "claim":
            ground.claim(limit=value)
        case "start":
            start_all(ground)
        case "end":
            end_all(ground)
        case "pause":
            ground.schedules.pause_trigger(ground.caller, all_triggers[value].id, reason="r", until_at=None)
        case "resume":
            ground.schedules.resume_trigger(ground.caller, all_triggers[value].id)
        case _:
            is_on = name == "enable"
            is_changed = is_on != (models[value].since is not None)
            ground.schedules.update_operation(ground.caller, operations[value].id, {"enabled": is_on})
            if is_changed:
                # What has fired before the clock went back has its row, and does not come again.
                fired = _fired(ground, all_triggers[value])
                models[value].switch(max(now, fired), is_on=is_on)
