# SPDX-License-Identifier: Apache-2.0
"""Messages fire each event once, whichever process they come to; what happens is told at least once (M2)."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import orjson
import pytest

from seawall.api.monitor import Monitor
from seawall.core.records import ScheduledOperation, Trigger
from seawall.db import outbox
from seawall.db.tables import audit as audit_table
from seawall.operation_engine.events.publisher import Publisher
from seawall.runtime.broker import Broker
from seawall.runtime.broker_management import Management
from seawall.runtime.clock import SystemClock
from seawall.sdk.failpoints import FailpointError, arm
from seawall.wiring.broker import EventBroker
from tests.engine.ground import Ground
from tests.events.conftest import until
from tests.support.rabbitmq import Outside, free_names, proxy, server_url

Start = Callable[..., Monitor]


@pytest.fixture
def start(ground: Ground, broker: Broker, outside: Outside) -> Iterator[Start]:
    """Start the monitor of one more API process."""
    started: list[Monitor] = []

    def call(at: Broker | None = None, management: Management | None = None) -> Monitor:
        events = EventBroker(at or broker, management, database=ground.database, wakeup=ground.wakeup)
        made = Monitor(events, clock=SystemClock())
        made.start()
        started.append(made)
        return made

    yield call
    for one in started:
        one.stop()
    arm("")


def _trigger(ground: Ground, routing_key: str = "host.*.#", **more: Any) -> Trigger:
    properties = {"source": "amqp", "routing_key": routing_key, **more}
    return ground.schedules.create_trigger(ground.caller, name="message", type="event", properties=properties)


def _operation(ground: Ground, trigger: Trigger, **more: Any) -> ScheduledOperation:
    made = ground.operation(trigger, **{"overlap": "allow", **more})
    ground.clock.advance(1)
    return made


# --- messages ------------------------------------------------------------------------------------


def test_a_message_that_is_meant_makes_a_run(ground: Ground, outside: Outside, start: Start) -> None:
    operation = _operation(ground, _trigger(ground, filter={"volume.size": 3}))
    monitor = start()
    outside.send("host.a.created", data={"volume": {"size": 4}}, id="other")
    outside.send("elsewhere", data={"volume": {"size": 3}}, id="elsewhere")
    outside.send("host.a.created", data={"volume": {"size": 3}}, id="7")
    until(lambda: monitor.status.received == 3)
    (run,) = ground.runs()
    assert (run.kind, run.occurrence) == ("event", "amqp /storage 7")
    assert run.scheduled_operation_id == operation.id
    assert outside.depth(outside.names.inbox) == 0


def test_each_event_fires_once_although_it_comes_again_and_several_processes_consume(
    ground: Ground, outside: Outside, start: Start
) -> None:
    _operation(ground, _trigger(ground))
    monitors = [start(), start(), start()]
    for number in range(100):
        for _ in range(2):
            outside.send("host.a", id=str(number))
    until(lambda: sum(one.status.received for one in monitors) == 200)
    assert len({run.occurrence for run in ground.runs()}) == len(ground.runs()) == 100
    assert sum(one.status.fired for one in monitors) == 100


def test_what_is_no_event_goes_to_the_dead_letters_with_a_record(
    ground: Ground, outside: Outside, start: Start
) -> None:
    _operation(ground, _trigger(ground))
    monitor = start()
    for body in (b"\xff\xfe", b"[]", b'{"specversion": "1.0", "id": "", "source": "/a", "type": "b"}'):
        outside.send("host.a", body)
    outside.send("host.a", id="good")
    until(lambda: monitor.status.received == 4 and monitor.status.rejected == 3)
    until(lambda: outside.depth(outside.names.dead) == 3)
    assert len(ground.runs()) == 1
    reasons = [details["reason"] for details in _rejections(ground)]
    assert len(reasons) == 3
    assert any("id" in reason for reason in reasons)


_EVENT = b'{"specversion": "1.0", "id": "7", "source": "/a", "type": "b"}'
# What Python needs hours to decode as punycode.
_SLOW = b"a-" + b"9" * 4_000_000


@pytest.mark.parametrize(
    ("routing_key", "body", "properties"),
    [
        pytest.param("host.a", b"[" * 200_000, {}, id="nested without end"),
        pytest.param("host.a", _EVENT + b" " * 256 * 1024, {}, id="too large"),
        pytest.param("host.a", b"x" * 16_000_000, {}, id="huge"),
        pytest.param("host.a", _SLOW, {"content_encoding": "punycode"}, id="slow to decode"),
        pytest.param("host.a", _EVENT.decode().encode("utf-16"), {"content_encoding": "utf-16"}, id="utf-16"),
        pytest.param("host.a", b"{", {"content_type": "application/cloudevents+json"}, id="broken"),
        pytest.param("host.a", b"", {}, id="empty"),
        pytest.param(b"host.\xff", _EVENT, {}, id="a routing key in no encoding"),
        pytest.param(b"host.\xed\xa0\x80", b"{", {}, id="half a character in the routing key"),
        pytest.param(b"host.\x00", b"{", {}, id="NUL in the routing key"),
        pytest.param("host.a", _EVENT, {"message_id": b"\xff"}, id="a message id in no encoding"),
    ],
)
def test_a_message_that_cannot_be_read_keeps_no_other_back(
    ground: Ground,
    outside: Outside,
    start: Start,
    routing_key: str | bytes,
    body: bytes,
    properties: dict[str, Any],
) -> None:
    _operation(ground, _trigger(ground))
    monitor = start()
    outside.send(routing_key, body, properties=properties)
    outside.send("host.a", id="good")
    until(lambda: monitor.status.rejected == 1 and monitor.status.fired == 1)
    until(lambda: outside.depth(outside.names.dead) == 1 and outside.depth(outside.names.inbox) == 0)
    assert [run.occurrence for run in ground.runs()] == ["amqp /storage good"]
    assert len(_rejections(ground)) == 1


def _rejections(ground: Ground) -> list[dict[str, Any]]:
    rows = ground.database.read(lambda connection: connection.execute(audit_table.select()).all())
    return [row.details for row in rows if row.object_type == "event"]


@pytest.mark.parametrize("kind", ["text/plain", "application/octet-stream", "no type at all", ""])
def test_the_content_type_is_not_looked_at(ground: Ground, outside: Outside, start: Start, kind: str) -> None:
    _operation(ground, _trigger(ground))
    monitor = start()
    outside.send("host.a", id="7", properties={"content_type": kind, "content_encoding": "utf-8"})
    until(lambda: monitor.status.fired == 1)
    assert [run.occurrence for run in ground.runs()] == ["amqp /storage 7"]


def test_what_seawall_says_itself_fires_no_message_trigger(
    ground: Ground, outside: Outside, start: Start
) -> None:
    _operation(ground, _trigger(ground, "#"))
    monitor = start()
    outside.send("host.a", source="/seawall/projects/x")
    outside.send("host.a", type="io.seawall.run.ended")
    until(lambda: monitor.status.received == 2)
    assert ground.runs() == []
    assert monitor.status.rejected == 0


@pytest.mark.parametrize("point", ["events.messages.before_commit", "broker.messages.before_ack"])
def test_a_message_whose_process_fails_before_the_acknowledgement_comes_again(
    ground: Ground, outside: Outside, start: Start, point: str
) -> None:
    _operation(ground, _trigger(ground))
    arm(f"{point}=raise")
    monitor = start()
    outside.send("host.a", id="7")
    until(lambda: monitor.status.received == 1)
    assert len(ground.runs()) == 1
    assert outside.depth(outside.names.inbox) == 0


# --- the monitor -----------------------------------------------------------------------------------


def test_the_monitor_tells_depths_and_consumers(outside: Outside, start: Start) -> None:
    monitor = start()
    until(lambda: monitor.status.queues)
    status = monitor.status
    assert status.state == "connected"
    inbox, dead = status.queues
    assert (inbox.name, inbox.messages, inbox.consumers) == (outside.names.inbox, 0, 1)
    assert (dead.name, dead.messages, dead.consumers) == (outside.names.dead, 0, 0)
    assert status.as_json()["alarms"] == "unknown"
    assert "guest:guest" not in str(status.as_json())


def test_a_broker_that_is_lost_is_told_about_and_taken_up_again(
    ground: Ground, broker: Broker, outside: Outside, start: Start
) -> None:
    _operation(ground, _trigger(ground))
    with proxy() as between:
        monitor = start(Broker(between.url(), exchange=broker.names.exchange))
        until(lambda: monitor.status.state == "connected")
        between.cut()
        until(lambda: monitor.status.state == "unavailable")
        assert monitor.status.reason is not None
        outside.send("host.a", id="while-away")
        between.mend()
        until(lambda: monitor.status.fired == 1)
        assert monitor.status.state == "connected"
        monitor.stop()
    assert len(ground.runs()) == 1


def test_without_a_broker_the_monitor_says_so(ground: Ground) -> None:
    monitor = Monitor(None, clock=ground.clock)
    monitor.start()
    assert monitor.status.as_json() == {"state": "not configured"}
    monitor.stop()


def test_a_broker_that_was_never_there_does_not_keep_the_api_from_starting(ground: Ground) -> None:
    nowhere = Broker(replace(server_url(), host="127.0.0.1", port=1), exchange="x")
    monitor = Monitor(
        EventBroker(nowhere, None, database=ground.database, wakeup=ground.wakeup), clock=SystemClock()
    )
    monitor.start()
    until(lambda: monitor.status.state == "unavailable")
    monitor.stop()


# --- telling -------------------------------------------------------------------------------------


def _say(ground: Ground, count: int = 1) -> None:
    ground.database.write("test.on", lambda tx: outbox.switch(tx, is_on=True))
    for _ in range(count):
        ground.database.write(
            "test.say",
            lambda tx: outbox.note(
                tx, outbox.RUN_ENDED, subject="run/1", project_id=None, data={"state": "success"}
            ),
        )


def _publisher(ground: Ground, broker: Broker, holder: str = "a") -> Publisher:
    return Publisher(ground.database, broker, clock=ground.clock, poll_s=1, holder=holder)


def test_what_happens_is_told_and_removed_once_it_is_confirmed(
    ground: Ground, broker: Broker, outside: Outside
) -> None:
    outside.listen()
    _say(ground, 3)
    publisher = _publisher(ground, broker)
    publisher.run(ground.clock.now())
    publisher.close()
    heard = outside.take()
    assert [key for key, _ in heard] == ["io.seawall.run.ended.success"] * 3
    event = orjson.loads(heard[0][1])
    assert event["type"] == "io.seawall.run.ended"
    assert ground.database.read(outbox.count) == 0


@pytest.mark.parametrize(
    ("point", "times"),
    [
        ("broker.batch.before_publish", 1),
        ("broker.batch.after_publish", 2),
        ("outbox.confirmed.before_commit", 2),
        ("outbox.confirmed.after_commit", 1),
    ],
)
def test_a_publisher_that_dies_has_told_at_least_once_with_the_same_id(
    ground: Ground, broker: Broker, outside: Outside, point: str, times: int
) -> None:
    outside.listen()
    _say(ground)
    (told,) = ground.database.read(lambda connection: outbox.waiting(connection, limit=1))
    arm(f"{point}=raise")
    first = _publisher(ground, broker)
    with pytest.raises(FailpointError):
        first.run(ground.clock.now())
    first.close()
    ground.clock.advance(61)
    second = _publisher(ground, broker, "b")
    second.run(ground.clock.now())
    second.close()
    assert [orjson.loads(body)["id"] for _, body in outside.take()] == [told.id] * times
    assert ground.database.read(outbox.count) == 0


def test_two_engines_do_not_tell_the_same(ground: Ground, broker: Broker, outside: Outside) -> None:
    outside.listen()
    _say(ground)
    ground.database.write("test.hold", _publisher(ground, broker, "other")._hold)
    publisher = _publisher(ground, broker)
    publisher.run(ground.clock.now())
    assert outside.take() == []
    assert ground.database.read(outbox.count) == 1
    ground.clock.advance(61)
    publisher.run(ground.clock.now())
    publisher.close()
    assert len(outside.take()) == 1


def test_while_the_broker_is_away_what_happens_waits_in_the_outbox(
    ground: Ground, broker: Broker, outside: Outside
) -> None:
    outside.listen()
    with proxy() as between:
        publisher = _publisher(ground, Broker(between.url(), exchange=broker.names.exchange))
        _say(ground)
        publisher.run(ground.clock.now())
        between.cut()
        _say(ground)
        again_at = publisher.run(ground.clock.now())
        assert again_at > ground.clock.now()
        assert ground.database.read(outbox.count) == 1
        between.mend()
        ground.clock.advance(61)
        publisher.run(ground.clock.now())
        publisher.close()
    assert len(outside.take()) == 2
    assert ground.database.read(outbox.count) == 0


def test_a_link_whose_broker_is_gone_leaves_no_socket_open() -> None:
    gc.collect()
    with warnings.catch_warnings(record=True) as left_open:
        warnings.simplefilter("always")
        with proxy() as between:
            link = Broker(between.url(), exchange=free_names()).open()
            between.cut()
            link.close()
            del link
        gc.collect()
    assert [str(one.message) for one in left_open if one.category is ResourceWarning] == []
