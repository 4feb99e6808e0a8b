# SPDX-License-Identifier: Apache-2.0
"""A stored trigger that no longer holds keeps nothing back: not the other triggers, nor the ends of runs."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from seawall.core.records import Trigger
from seawall.db.tables import triggers
from seawall.operation_engine.events.inbox import Inbox
from seawall.runtime.broker import Delivery
from seawall.runtime.wakeup import Wakeup
from tests.engine.ground import Ground

BROKEN = [
    {"window": -1, "states": None},
    {"window": "soon"},
    {"routing_key": 7, "states": 7},
    {"filter": [], "states": "success"},
    {"source": None},
]


def _break(ground: Ground, trigger: Trigger, change: dict[str, Any]) -> None:
    properties = {**trigger.properties, **change}
    statement = triggers.update().where(triggers.c.id == trigger.id).values(properties=properties)
    ground.database.write("test.break", lambda tx: tx.connection.execute(statement))


def _event_trigger(ground: Ground, **properties: Any) -> Trigger:
    return ground.schedules.create_trigger(ground.caller, name="e", type="event", properties=properties)


def _reason(ground: Ground, trigger: Trigger) -> str:
    return ground.schedules.get_trigger(ground.caller, trigger.id).quarantine_reason or ""


@pytest.mark.parametrize("change", BROKEN)
def test_a_message_fires_the_others_and_quarantines_the_broken_one(
    each: Ground, change: dict[str, Any]
) -> None:
    made = [_event_trigger(each, source="amqp", routing_key="#") for _ in range(3)]
    operations = [each.operation(one) for one in made]
    each.clock.advance(1)
    _break(each, made[1], change)
    body = orjson.dumps({"specversion": "1.0", "id": "1", "source": "s", "type": "t", "data": {}})
    inbox = Inbox(each.database, wakeup=Wakeup())
    received = inbox.receive([Delivery(1, "key", body)])
    assert (len(received.accepted), received.rejected, received.fired) == (1, [], 2)
    assert {run.scheduled_operation_id for run in each.runs()} == {operations[0].id, operations[2].id}
    assert "properties" in _reason(each, made[1])
    assert [_reason(each, one) for one in (made[0], made[2])] == ["", ""]


@pytest.mark.parametrize("change", BROKEN)
def test_the_end_of_a_run_is_recorded_and_quarantines_the_broken_one(
    each: Ground, change: dict[str, Any]
) -> None:
    watched = each.operation(each.trigger())
    made = [_event_trigger(each, source="operation", operation_id=watched.id) for _ in range(2)]
    operations = [each.operation(one) for one in made]
    each.clock.advance(1)
    _break(each, made[0], change)
    each.schedules.run_operation(each.caller, watched.id)
    each.dispatcher()
    each.until(lambda: each.states() == ["success"] * len(each.runs()) and len(each.runs()) >= 2)
    ran = {run.scheduled_operation_id for run in each.runs(kind="event")}
    assert operations[1].id in ran
    is_readable = not change.keys() & {"window", "states"}
    assert (operations[0].id in ran) == is_readable
    assert bool(_reason(each, made[0])) != is_readable
