# SPDX-License-Identifier: Apache-2.0
"""Runs are carried out under a lease and end once, whatever happens to their process (I3, I4, M8-M10)."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from seawall.core.errors import BankError, BankFullError, LeaseLostError, SourceError
from seawall.core.records import ScheduledOperation
from seawall.db import runs as run_rows
from seawall.db import scheduled_operations, services
from seawall.db.session import Tx
from seawall.db.tables import runs
from seawall.operation_engine.executors.inline import Inline
from seawall.operation_engine.executors.thread_pool import ThreadPool
from seawall.sdk.executor import RunTask
from seawall.sdk.operation import OperationContext
from tests.engine.ground import LEASE_S, PROJECT, Ground, Json


@pytest.fixture
def ground(shared: Ground) -> Ground:
    """On both kinds of database: many processes write beside one another on PostgreSQL."""
    return shared


def test_what_is_due_is_carried_out_and_its_outcome_recorded(both: Ground) -> None:
    both.call("answer", lambda definition, context: {"answer": 42})
    both.operation(both.trigger(), call="answer")
    both.dispatcher()
    both.go_to(60)
    both.claim_all()
    both.wakeup.notify()
    both.until(lambda: both.states() == ["success"])
    run = both.runs()[0]
    assert run.result == {"answer": 42}
    assert run.expected_at == both.at(60)
    assert (run.attempt, run.fence, run.lease_until_at) == (1, 1, None)


def held(ground: Ground, name: str = "hold") -> Held:
    """An operation that goes on until it is let go, or must stop."""
    found = Held()
    ground.call(name, found.run)
    return found


class Held:
    def __init__(self) -> None:
        self.begun = threading.Event()
        self.let_go = threading.Event()
        self.contexts: list[OperationContext] = []

    def run(self, definition: Json, context: OperationContext) -> None:
        self.contexts.append(context)
        self.begun.set()
        while not self.let_go.is_set():
            context.wait(0.05)


def fire(ground: Ground, seconds: float = 60, **more: Any) -> ScheduledOperation:
    operation = ground.operation(ground.trigger(), **more)
    ground.go_to(seconds)
    ground.claim_all()
    ground.wakeup.notify()
    return operation


def test_an_operation_knows_what_it_needs_to_know(ground: Ground) -> None:
    """M10."""
    known: list[Any] = []

    def tell(definition: Json, context: OperationContext) -> None:
        known.append(
            (
                context.scheduled_operation_id, context.trigger_id, context.project_id, context.user_id,
                context.kind, context.operation_type, context.expected_at, context.triggered_at,
                context.window_s, context.run_type, context.attempt, context.fence, context.now(),
            )
        )  # fmt: skip

    ground.call("tell", tell)
    operation = fire(ground, 70, call="tell")
    ground.dispatcher()
    ground.until(lambda: known)
    assert known == [
        (
            operation.id, operation.trigger_id, PROJECT, "tester", "scheduled", "probe", ground.at(60),
            ground.at(70), 1800.0, "execute", 1, 1, ground.at(70),
        )
    ]  # fmt: skip


def test_an_error_of_ours_keeps_its_code_and_hint(ground: Ground) -> None:
    def fail(definition: Json, context: OperationContext) -> None:
        raise BankFullError("no space is left")

    ground.call("fail", fail)
    fire(ground, call="fail")
    ground.dispatcher()
    ground.until(lambda: ground.states() == ["failed"])
    run = ground.runs()[0]
    assert run.error == {"code": "bank_full", "message": "no space is left", "hint": BankFullError.hint}
    assert run.reason == "no space is left"


def test_a_surprise_is_recorded_without_its_secrets(ground: Ground) -> None:
    def fail(definition: Json, context: OperationContext) -> None:
        raise KeyError("cannot reach postgres://me:hunter2@db/x with password=hunter2, token: 'hunter2'")

    ground.call("fail", fail)
    fire(ground, call="fail")
    ground.dispatcher()
    ground.until(lambda: ground.states() == ["failed"])
    error = ground.runs()[0].error
    assert (error["code"], error["type"]) == ("unexpected", "KeyError")
    assert "hunter2" not in str(error)
    assert "db/x" in error["message"]


def test_a_result_that_cannot_be_stored_fails_the_run(ground: Ground) -> None:
    ground.call("odd", lambda definition, context: {"answer": object()})
    fire(ground, call="odd")
    ground.dispatcher()
    ground.until(lambda: ground.states() == ["failed"])
    assert "cannot be stored" in ground.runs()[0].reason


def test_an_operation_that_is_gone_fails_its_run_and_no_other(ground: Ground) -> None:
    trigger = ground.trigger()
    ground.operation(trigger)
    ground.operation(trigger)
    ground.go_to(60)
    ground.claim_all()
    first = ground.runs()[0]
    ground.database.write(
        "test.gone",
        lambda tx: tx.connection.execute(
            runs.update().where(runs.c.row == first.row).values(operation_type="gone")
        ),
    )
    ground.dispatcher()
    ground.until(lambda: sorted(ground.states()) == ["failed", "success"])
    assert ground.runs(state="failed")[0].error["code"] == "plugin"


def test_a_file_dropped_in_while_it_runs_is_used_by_its_type(ground: Ground) -> None:
    """M11."""
    ground.dispatcher()
    (ground.drop_ins / "card.py").write_text(
        "class Card:\n"
        '    operation_type = "card"\n'
        '    definition_schema = {"type": "object"}\n'
        "    def run(self, definition, context):\n"
        '        return {"card": definition["to"]}\n'
    )
    fire(ground, operation_type="card", operation_definition={"to": "you"})
    ground.until(lambda: ground.states() == ["success"])
    assert ground.runs()[0].result == {"card": "you"}


def test_progress_and_log_are_written_within_a_second(ground: Ground) -> None:
    work = held(ground)

    def report(definition: Json, context: OperationContext) -> None:
        context.progress(done_bytes=5, done_items=1, total_bytes=10, text="half")
        context.log("info", "half way")
        work.run(definition, context)

    ground.call("report", report)
    operation = fire(ground, call="report")
    ground.dispatcher()
    assert work.begun.wait(10)
    ground.until(lambda: ground.runs()[0].progress is not None, step_s=0.1)
    run = ground.runs()[0]
    assert run.progress == {"done_bytes": 5, "done_items": 1, "total_bytes": 10, "text": "half"}
    assert [one.text for one in ground.schedules.run_log(ground.caller, run.id)] == ["half way"]
    assert run.state == "in_progress"
    assert operation.id == run.scheduled_operation_id
    work.let_go.set()
    ground.until(lambda: ground.states() == ["success"], step_s=0.05)
    assert ground.runs()[0].progress["text"] == "half"


# --- retry, timeout, cancel --------------------------------------------------------------------


def test_a_failure_that_may_pass_is_tried_again_by_policy(ground: Ground) -> None:
    attempts: list[tuple[int, str]] = []

    def fail_twice(definition: Json, context: OperationContext) -> None:
        attempts.append((context.attempt, context.run_type))
        if len(attempts) < 3:
            raise BankError("away")

    ground.call("fail", fail_twice)
    fire(ground, call="fail", retry={"max_attempts": 3, "delay_s": 30})
    ground.dispatcher()
    ground.until(lambda: ground.runs()[0].not_before_at is not None)
    run = ground.runs()[0]
    assert (run.state, run.not_before_at, run.reason) == ("queued", ground.at(90), "away")
    ground.until(lambda: ground.states() == ["success"], step_s=0.5)
    assert attempts == [(1, "execute"), (2, "resume"), (3, "resume")]
    assert ground.runs()[0].error is None


def test_after_the_last_attempt_it_has_failed(ground: Ground) -> None:
    def fail(definition: Json, context: OperationContext) -> None:
        raise BankError("away")

    ground.call("fail", fail)
    fire(ground, call="fail", retry={"max_attempts": 2, "delay_s": 1})
    ground.dispatcher()
    ground.until(lambda: ground.states() == ["failed"], step_s=0.2)
    assert ground.runs()[0].attempt == 2


def test_what_trying_again_cannot_help_is_not_tried_again(ground: Ground) -> None:
    def fail(definition: Json, context: OperationContext) -> None:
        raise SourceError("gone")

    ground.call("fail", fail)
    fire(ground, call="fail", retry={"max_attempts": 5, "delay_s": 1})
    ground.dispatcher()
    ground.until(lambda: ground.states() == ["failed"], step_s=0.2)
    assert ground.runs()[0].attempt == 1


def test_retries_are_bounded_by_the_timeout(ground: Ground) -> None:
    def fail(definition: Json, context: OperationContext) -> None:
        raise BankError("away")

    ground.call("fail", fail)
    fire(ground, call="fail", retry={"max_attempts": 5, "delay_s": 100}, timeout_s=60)
    ground.dispatcher()
    ground.until(lambda: ground.states() == ["failed"], step_s=0.2)


def test_a_timeout_ends_the_work_as_failed(ground: Ground) -> None:
    work = held(ground)
    fire(ground, call="hold", timeout_s=30)
    ground.dispatcher()
    assert work.begun.wait(10)
    ground.until(lambda: ground.states() == ["failed"], step_s=0.2)
    run = ground.runs()[0]
    assert run.error["code"] == "timed_out"


def test_a_cancel_reaches_running_work(ground: Ground) -> None:
    work = held(ground)
    fire(ground, call="hold")
    ground.dispatcher()
    assert work.begun.wait(10)
    asked = ground.schedules.cancel_run(ground.caller, ground.runs()[0].id)
    assert asked.state == "cancelling"
    ground.until(lambda: ground.states() == ["cancelled"], step_s=0.05)


def test_work_that_does_not_stop_stays_cancelling_until_it_has_ended(ground: Ground) -> None:
    """The overlap lock is held until then."""
    begun, let_go = threading.Event(), threading.Event()

    def deaf(definition: Json, context: OperationContext) -> None:
        begun.set()
        let_go.wait(20)

    ground.call("deaf", deaf)
    fire(ground, call="deaf", overlap="cancel_running")
    ground.dispatcher()
    assert begun.wait(10)
    ground.go_to(120)
    ground.claim_all()
    ground.until(lambda: ground.clock.now() > ground.at(125), step_s=0.5)
    assert ground.states() == ["cancelling", "queued"]
    let_go.set()
    ground.until(lambda: ground.states() == ["success", "success"], step_s=0.05)


# --- leases and take-over ----------------------------------------------------------------------


def test_a_lease_is_renewed_while_it_works(ground: Ground) -> None:
    work = held(ground)
    fire(ground, call="hold")
    ground.dispatcher()
    assert work.begun.wait(10)
    ground.until(lambda: ground.clock.now() > ground.at(200), step_s=0.5)
    run = ground.runs()[0]
    assert (run.state, run.fence) == ("in_progress", 1)
    assert run.lease_until_at > ground.clock.now()
    work.contexts[0].confirm_lease()
    work.let_go.set()


def abandoned(ground: Ground, **more: Any) -> sa.Row[Any]:
    """A run whose process has died after it journaled a step."""
    fire(ground, **more)
    service = ground.service("here")

    def die(tx: Tx) -> None:
        (claimed,) = run_rows.claim(
            tx, service_row=service, host="here", limit=1, lease_until=tx.now + timedelta(seconds=LEASE_S)
        )
        run_rows.record_step(tx, row=claimed.row, fence=claimed.fence, step="first", data={"done": 1})

    ground.database.write("test.die", die)
    return ground.runs()[0]


def test_a_dead_process_s_run_is_taken_over_and_resumes_after_its_journaled_step(ground: Ground) -> None:
    """I4."""
    seen: list[Any] = []

    def resume(definition: Json, context: OperationContext) -> None:
        seen.append((context.run_type, context.journal.get("first"), context.journal.get("second")))
        context.journal.record("second", {"done": 2})
        seen.append(context.journal.get("second"))

    ground.call("resume", resume)
    abandoned(ground, call="resume")
    ground.dispatcher(host="there")
    ground.until(lambda: ground.states() == ["success"], step_s=0.2)
    run = ground.runs()[0]
    assert seen == [("resume", {"done": 1}, None), {"done": 2}]
    assert run.take_overs == 1


def test_a_take_over_takes_no_longer_than_the_lease_and_one_loop(ground: Ground) -> None:
    """I4. Fake time goes on only while every thread waits, so that no real second counts."""
    abandoned(ground)
    claimed_at = ground.clock.now()
    ground.dispatcher(host="there")
    while ground.runs()[0].take_overs == 0:
        ground.clock.wait_for_waiters()
        ground.clock.advance(0.25)
        ground.clock.wait_for_waiters()
        assert ground.clock.now() <= claimed_at + timedelta(seconds=LEASE_S + ground.loop_s)
    assert ground.clock.now() > claimed_at + timedelta(seconds=LEASE_S)
    ground.until(lambda: ground.states() == ["success"])


def test_a_process_that_starts_again_takes_its_own_runs_back_at_once(ground: Ground) -> None:
    """M4."""
    abandoned(ground)
    ground.dispatcher(host="here")
    ground.until(lambda: ground.states() == ["success"])
    assert ground.clock.now() == ground.at(60)


def test_the_fourth_death_gives_the_run_up(ground: Ground) -> None:
    abandoned(ground)
    service = ground.service("here")
    for _ in range(4):
        ground.database.write("test.back", lambda tx: run_rows.take_back(tx, service_row=service))
        ground.database.write(
            "test.claim",
            lambda tx: run_rows.claim(tx, service_row=service, host="here", limit=1, lease_until=tx.now),
        )
    run = ground.runs()[0]
    assert (run.state, run.error["code"], run.take_overs) == ("failed", "crashed_repeatedly", 3)


def test_a_zombie_records_nothing(ground: Ground) -> None:
    """I3: the run was taken over while its process stood still."""
    work = held(ground)
    fire(ground, call="hold")
    ground.dispatcher()
    assert work.begun.wait(10)
    row = ground.runs()[0].row
    ground.database.write(
        "test.take_over",
        lambda tx: tx.connection.execute(
            runs.update().where(runs.c.row == row).values(fence=7, service_row=99)
        ),
    )
    with pytest.raises(LeaseLostError):
        work.contexts[0].journal.record("late", {})
    with pytest.raises(LeaseLostError):
        work.contexts[0].confirm_lease()
    work.let_go.set()
    ground.until(lambda: ground.dispatched() == 0, step_s=0.05)
    run = ground.runs()[0]
    assert (run.state, run.fence, run.result) == ("in_progress", 7, None)


def test_a_process_that_slept_longer_than_its_lease_stops_its_work(ground: Ground) -> None:
    work = held(ground)
    fire(ground, call="hold")
    ground.dispatcher()
    assert work.begun.wait(10)
    context = work.contexts[0]
    ground.clock.advance(LEASE_S * 10)
    with pytest.raises(LeaseLostError):
        context.check()
    work.let_go.set()
    ground.until(lambda: ground.states() == ["success"], step_s=0.5)


def test_a_bound_run_waits_for_its_host_until_its_timeout(ground: Ground) -> None:
    operation = ground.operation(ground.trigger(), timeout_s=100)
    ground.database.write(
        "test.bind", lambda tx: scheduled_operations.update(tx, operation.id, host="elsewhere")
    )
    ground.go_to(60)
    ground.claim_all()
    ground.dispatcher()
    ground.until(lambda: ground.clock.now() > ground.at(150), step_s=0.5)
    assert ground.states() == ["queued"]
    ground.until(lambda: ground.states() == ["failed"], step_s=0.5)
    assert ground.runs()[0].error["code"] == "host_unavailable"


def test_a_bound_run_may_wait_for_its_host_for_a_day(ground: Ground) -> None:
    """Its timeout in microseconds is more than a plain number of the database holds."""
    operation = ground.operation(ground.trigger())
    ground.database.write(
        "test.bind", lambda tx: scheduled_operations.update(tx, operation.id, host="elsewhere")
    )
    ground.go_to(60)
    ground.claim_all()
    assert ground.database.write("test.reap", lambda tx: run_rows.reap(tx, host="here")) == 0
    ground.go_to(60 + 86_401)
    assert ground.database.write("test.reap", lambda tx: run_rows.reap(tx, host="here")) == 1


def test_what_was_queued_in_time_but_not_started_within_its_window_is_dropped(ground: Ground) -> None:
    operation = ground.operation(ground.trigger(window=30))
    ground.go_to(60)
    ground.claim_all()
    ground.schedules.update_trigger(
        ground.caller, operation.trigger_id, properties={"format": "interval", "pattern": "86400"}
    )
    ground.go_to(91)
    ground.dispatcher()
    ground.until(lambda: ground.states() == ["dropped_out_of_window"])


# --- stopping ------------------------------------------------------------------------------------


def test_what_does_not_end_within_the_grace_is_handed_back_and_goes_on_elsewhere(ground: Ground) -> None:
    work = held(ground)
    fire(ground, call="hold")
    first = ground.dispatcher()
    assert work.begun.wait(10)
    work.contexts[0].log("info", "said before")
    first.stop(0)
    run = ground.runs()[0]
    assert (run.state, run.take_overs, run.attempt, run.lease_until_at) == ("queued", 0, 0, None)
    with pytest.raises(LeaseLostError):
        work.contexts[0].check()
    work.let_go.set()
    ground.dispatcher(host="there")
    ground.until(lambda: ground.states() == ["success"])
    assert work.contexts[1].run_type == "resume"
    assert [one.text for one in ground.schedules.run_log(ground.caller, run.id)] == ["said before"]


def test_a_stop_in_order_says_nothing_of_a_take_over(
    ground: Ground, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    begun = threading.Event()

    def hold(definition: Json, context: OperationContext) -> None:
        begun.set()
        context.wait(3600)

    ground.call("hold", hold)
    fire(ground, call="hold")
    made = ground.dispatcher()
    assert begun.wait(10)
    made.stop(0)
    ground.until(lambda: "a run is handed back" in caplog.text)
    assert "taken over" not in caplog.text


def test_a_lease_that_ended_unnoticed_is_not_called_a_take_over(
    ground: Ground, caplog: pytest.LogCaptureFixture
) -> None:
    work = held(ground)
    fire(ground, call="hold")
    ground.dispatcher()
    assert work.begun.wait(10)
    ground.clock.advance(LEASE_S * 10)
    ground.until(lambda: "its lease ended" in caplog.text, step_s=0.1)
    work.let_go.set()
    ground.until(lambda: ground.states() == ["success"], step_s=0.5)
    assert "taken over" not in caplog.text


def test_a_real_take_over_says_so(ground: Ground, caplog: pytest.LogCaptureFixture) -> None:
    work = held(ground)
    fire(ground, call="hold")
    ground.dispatcher()
    assert work.begun.wait(10)
    other = runs.update().values(fence=7)
    ground.database.write("test.take_over", lambda tx: tx.connection.execute(other))
    ground.until(lambda: "was taken over" in caplog.text, step_s=0.5)
    work.let_go.set()


def test_what_ends_within_the_grace_is_recorded(ground: Ground) -> None:
    begun, let_go = threading.Event(), threading.Event()

    def work(definition: Json, context: OperationContext) -> None:
        begun.set()
        let_go.wait(20)

    ground.call("work", work)
    fire(ground, call="work")
    first = ground.dispatcher()
    assert begun.wait(10)
    let_go.set()
    first.stop(10)
    assert ground.states() == ["success"]


# --- the executor --------------------------------------------------------------------------------


class Refusing(ThreadPool):
    """Refuses one run, and delivers every other twice."""

    def __init__(self, refused: str) -> None:
        super().__init__(workers=8)
        self._refused = refused

    def submit(self, tasks: Sequence[RunTask]) -> None:
        if any(task.run_id == self._refused for task in tasks):
            raise OSError("no room")
        super().submit([*tasks, *tasks])


def test_a_run_that_cannot_be_submitted_is_recorded_and_stops_no_other(ground: Ground) -> None:
    """M8; and a task that is delivered twice runs once (I3)."""
    count: list[str] = []
    ground.call("count", lambda definition, context: count.append(context.run_id))
    trigger = ground.trigger()
    for _ in range(3):
        ground.operation(trigger, call="count")
    ground.go_to(60)
    ground.claim_all()
    refused = ground.runs()[1]
    ground.dispatcher(executor=Refusing(refused.id))
    ground.until(lambda: sorted(ground.states()) == ["failed", "success", "success"])
    assert ground.runs(state="failed")[0].error["code"] == "not_submitted"
    assert len(count) == 2


def test_two_processes_share_the_work_and_run_each_once(ground: Ground) -> None:
    count: list[str] = []
    ground.call("count", lambda definition, context: count.append(context.run_id))
    trigger = ground.trigger()
    for _ in range(60):
        ground.operation(trigger, call="count")
    ground.dispatcher(host="one")
    ground.dispatcher(host="two", database=ground.reopened())
    # A turn that time overtakes would count its leases from before it.
    ground.clock.wait_for_waiters(2)
    ground.go_to(60)
    ground.clock.wait_for_waiters(2)
    ground.claim_all()
    ground.wakeup.notify()
    ground.until(lambda: set(ground.states()) == {"success"})
    assert len(count) == len(set(count)) == 60


def test_runs_of_one_lock_never_work_side_by_side(ground: Ground) -> None:
    working: list[str] = []
    most: list[int] = []

    def work(definition: Json, context: OperationContext) -> None:
        working.append(context.run_id)
        most.append(len(working))
        context.check()
        working.remove(context.run_id)

    ground.call("work", work)
    ground.operation(ground.trigger(window=0, misfire="run_all", max_catchup=8), call="work")
    ground.go_to(490)
    ground.claim_all()
    ground.dispatcher()
    ground.until(lambda: set(ground.states()) == {"success"})
    assert most == [1] * 8


def test_the_inline_executor_runs_in_the_turn(ground: Ground) -> None:
    fire(ground)
    ground.dispatcher(executor=Inline())
    ground.until(lambda: ground.states() == ["success"])


def test_a_disabled_service_takes_no_new_work(ground: Ground) -> None:
    fire(ground)
    service = ground.service("here")
    ground.database.write("test.disable", lambda tx: services.disable(tx, service, "moving"))
    ground.dispatcher()
    ground.until(lambda: ground.clock.now() > ground.at(70), step_s=0.5)
    assert ground.states() == ["queued"]
    ground.database.write("test.enable", lambda tx: services.enable(tx, service))
    ground.until(lambda: ground.states() == ["success"], step_s=0.2)


def test_what_was_claimed_ahead_of_a_long_run_goes_back_to_whoever_has_room(ground: Ground) -> None:
    """Runs that end at once are claimed in ever larger batches; a long one among them holds up none."""
    work = held(ground)
    trigger = ground.trigger()
    for number in range(40):
        ground.operation(trigger, call="hold" if number >= 20 else "nothing", priority=number)
    ground.go_to(60)
    ground.claim_all()
    ground.dispatcher(executor=ThreadPool(workers=2))
    ground.until(lambda: ground.states().count("in_progress") == 2 == len(work.contexts), step_s=0.1)
    ground.dispatcher(host="there", executor=ThreadPool(workers=20))
    ground.until(lambda: len(work.contexts) == 20, step_s=0.1)
    work.let_go.set()
    ground.until(lambda: set(ground.states()) == {"success"}, step_s=0.05)
    assert len({context.run_id for context in work.contexts}) == 20


def test_processes_that_claim_at_the_same_time_never_share_a_lock(ground: Ground) -> None:
    """Handled by design: nobody runs into the unique index, and nobody waits for anybody."""
    trigger = ground.trigger(window=0, misfire="run_all", max_catchup=20)
    for _ in range(4):
        ground.operation(trigger)
    ground.go_to(610)
    ground.claim_all()
    assert ground.states().count("queued") == 40
    services = [ground.service(f"host-{number}") for number in range(4)]
    databases = [ground.database, *(ground.reopened() for _ in range(3))]
    begin = threading.Barrier(4)
    taken: list[list[run_rows.ClaimedRun]] = [[] for _ in range(4)]

    def claim(number: int) -> None:
        begin.wait(10)
        for _ in range(10):
            taken[number] += databases[number].write(
                "test.claim",
                lambda tx: run_rows.claim(
                    tx, service_row=services[number], host="x", limit=3, lease_until=tx.now
                ),
                locks_rows=True,
            )

    threads = [threading.Thread(target=claim, args=(number,)) for number in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join(60)
    rows = [one.row for some in taken for one in some]
    assert len(rows) == len(set(rows)) == 4
    assert len({one.scheduled_operation_id for some in taken for one in some}) == 4
