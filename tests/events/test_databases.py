# SPDX-License-Identifier: Apache-2.0
"""Firing is the same on SQLite and on PostgreSQL, and once although many processes hear of one event (I1)."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from seawall.core.caller import Caller
from seawall.core.records import Trigger
from seawall.db import events, figures, outbox, plans, runs
from seawall.db.events import Firing
from seawall.db.runs import Outcome
from seawall.db.session import Database
from seawall.db.tables import runs as run_table
from seawall.db.tables import triggers
from seawall.operation_engine.events.inbox import Inbox
from seawall.operation_engine.schedules import Schedules
from seawall.runtime.broker import Delivery
from seawall.runtime.registry import PluginKind, load_plugins
from seawall.runtime.wakeup import Wakeup
from seawall.sdk.operation import Operation
from seawall.sdk.testing.clock import FakeClock
from tests.engine.ground import PROJECT, START
from tests.support.databases import KINDS, opened

_PROBE = """
class Probe:
    operation_type = "probe"
    definition_schema = {"type": "object"}
    def run(self, definition, context):
        return None
"""


class Place:
    """Schedules over one of the databases."""

    def __init__(self, folder: Path, database: Database, clock: FakeClock) -> None:
        self.clock = clock
        self.database = database
        drop_ins = folder / "operations"
        drop_ins.mkdir(mode=0o700)
        (drop_ins / "probe.py").write_text(_PROBE)
        self.caller = Caller(project_id=PROJECT, user_id="tester", is_admin=True, request_id="r")
        self.schedules = Schedules(
            database,
            operations=load_plugins(
                PluginKind(
                    "seawall.operations",
                    "operation_type",
                    Operation,  # type: ignore[type-abstract]  # a protocol stands for its kind
                    "seawall.operation_engine.operations",
                ),
                folders=[drop_ins],
                installed=lambda _: (),
            ),
            plan_lookup=lambda connection, plan_id: plans.get(connection, plan_id, project_id=None),
            wakeup=Wakeup(),
            min_interval_s=1,
        )

    def trigger(self, **properties: Any) -> Trigger:
        given = {"source": "amqp", "routing_key": "#", **properties}
        return self.schedules.create_trigger(self.caller, name="t", type="event", properties=given)

    def operation(self, trigger: Trigger, **more: Any) -> str:
        made = self.schedules.create_operation(
            self.caller,
            name="o",
            operation_type="probe",
            trigger_id=trigger.id,
            operation_definition={},
            **more,
        )
        self.clock.advance(1)
        return made.id

    def fire(self, trigger: Trigger, *ids: str) -> events.Fired:
        query = sa.select(triggers.c.row).where(triggers.c.id == trigger.id)
        row = self.database.read(lambda connection: connection.execute(query).scalar_one())
        firings = [Firing(row, one, events.AMQP, 1800) for one in ids]
        return self.database.write("test.fire", lambda tx: events.fire(tx, firings))

    def runs(self) -> list[sa.Row[Any]]:
        query = sa.select(run_table).order_by(run_table.c.row)
        return list(self.database.read(lambda connection: connection.execute(query).all()))

    def work(self) -> None:
        def call(tx: Any) -> None:
            claimed = runs.claim(
                tx, service_row=1, host="h", limit=100, lease_until=tx.now.replace(year=2100)
            )
            runs.record(tx, [Outcome(one.row, one.fence, "success") for one in claimed])

        self.database.write("test.work", call)


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    clock = FakeClock(START)
    with opened(request.param, tmp_path, clock) as database:
        yield Place(tmp_path, database, clock)


@pytest.mark.parametrize(
    ("overlap", "states"),
    [
        ("allow", {"queued": 3}),
        ("skip", {"queued": 1, "skipped_overlap": 2}),
        ("queue_one", {"queued": 1, "skipped_overlap": 2}),
        ("cancel_running", {"queued": 1, "skipped_overlap": 2}),
    ],
)
def test_events_that_come_at_once_keep_the_overlap_policy(
    place: Place, overlap: str, states: dict[str, int]
) -> None:
    trigger = place.trigger()
    place.operation(trigger, overlap=overlap)
    assert place.fire(trigger, "a", "b", "c", "a") == events.Fired(3, 3)
    assert Counter(run.state for run in place.runs()) == states
    assert place.fire(trigger, "a", "b", "c") == events.Fired(0, 0)
    assert Counter(run.state for run in place.runs()) == states


def test_a_pause_is_one_gap_that_grows_and_ends_by_itself(place: Place) -> None:
    trigger = place.trigger()
    place.operation(trigger)
    until = place.clock.now().replace(hour=1)
    place.schedules.pause_trigger(place.caller, trigger.id, reason="x", until_at=until)
    for one in "abc":
        place.clock.advance(1)
        place.fire(trigger, one)
    place.clock.advance(3600)
    place.fire(trigger, "d")
    gap, run = place.runs()
    assert (gap.state, gap.gap_count, run.state) == ("skipped_paused", 3, "queued")
    assert place.schedules.get_trigger(place.caller, trigger.id).paused_at is None


def test_an_event_belongs_to_the_operations_that_were_there_when_it_came(place: Place) -> None:
    trigger = place.trigger()
    place.operation(trigger)
    place.fire(trigger, "a")
    place.operation(trigger)
    place.fire(trigger, "a")
    assert len(place.runs()) == 1


def test_a_chain_fires_and_is_told_about(place: Place) -> None:
    place.database.write("test.on", lambda tx: outbox.switch(tx, is_on=True))
    first = place.trigger()
    operation_id = place.operation(first)
    after = place.schedules.create_trigger(
        place.caller,
        name="after",
        type="event",
        properties={"source": "operation", "operation_id": operation_id},
    )
    place.operation(after)
    place.fire(first, "a")
    place.work()
    place.work()
    assert [(run.state, run.depth) for run in place.runs()] == [("success", None), ("success", 1)]
    told = place.database.read(lambda connection: outbox.waiting(connection, limit=10))
    assert Counter(one.type for one in told) == {outbox.RUN_STARTED: 2, outbox.RUN_ENDED: 2}
    place.database.write("test.told", lambda tx: outbox.remove(tx, [one.row for one in told]))
    assert place.database.read(outbox.count) == 0


def test_quarantines_and_receipts_are_kept_and_cleaned(place: Place) -> None:
    place.database.write("test.on", lambda tx: outbox.switch(tx, is_on=True))
    trigger = place.trigger()
    operation_id = place.operation(trigger)
    place.schedules.create_trigger(
        place.caller,
        name="after",
        type="event",
        properties={"source": "operation", "operation_id": operation_id},
    )
    place.fire(trigger, "a", "b")
    place.schedules.delete_operation(place.caller, operation_id)
    told = place.database.read(lambda connection: outbox.waiting(connection, limit=10))
    assert [one.type for one in told if one.type != outbox.RUN_ENDED] == [outbox.TRIGGER_QUARANTINED]
    later = place.clock.now().replace(year=2100)
    deleted = place.database.write(
        "test.clean", lambda tx: events.delete_receipts(tx, before=later, limit=100)
    )
    assert deleted == 2
    assert place.database.write("test.trim", lambda tx: outbox.trim(tx, before=later)) == len(told)


def test_the_figures_can_be_read(place: Place) -> None:
    trigger = place.trigger()
    place.operation(trigger)
    place.fire(trigger, "a")
    found = place.database.read(lambda connection: figures.figures(connection, place.clock.now()))
    assert found.live_runs == {"queued": 1}
    assert found.oldest_waiting_at == place.clock.now()


def test_the_same_messages_in_many_threads_fire_once(place: Place) -> None:
    trigger = place.trigger()
    place.operation(trigger, overlap="allow")
    body = b'{"specversion": "1.0", "id": "%d", "source": "/s", "type": "t"}'
    messages = [Delivery(number, "a", body % number) for number in range(20)]
    inboxes = [Inbox(place.database, wakeup=Wakeup()) for _ in range(4)]
    fired: list[int] = []

    def take(inbox: Inbox) -> None:
        fired.append(inbox.receive(messages).fired)

    threads = [threading.Thread(target=take, args=(one,)) for one in inboxes]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert sum(fired) == 20
    assert len(place.runs()) == len({run.occurrence for run in place.runs()}) == 20
