# SPDX-License-Identifier: Apache-2.0
"""A broker that runs short of memory, is killed and started again, or whose management plugin says nothing:
each is seen, told and outlasted, and nothing is lost (M2, I10)."""

from __future__ import annotations

import http.server
import json
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import orjson
import pytest
from structlog.testing import capture_logs

from demo.service import SEAWALL, Seawall
from seawall.api.metrics import exposition
from seawall.api.monitor import Monitor
from seawall.db import figures, outbox
from seawall.operation_engine.events.publisher import Publisher
from seawall.runtime.amqp_url import AmqpUrl
from seawall.runtime.broker import Broker, Message
from seawall.runtime.broker_management import Insight, Management
from seawall.runtime.clock import SystemClock
from seawall.wiring.broker import EventBroker
from tests.e2e.conftest import SETTINGS, data_folder
from tests.engine.ground import Ground
from tests.events.conftest import until
from tests.support.private_rabbitmq import PrivateRabbitmq
from tests.support.rabbitmq import Outside, free_names

pytestmark = pytest.mark.slow
Start = Callable[..., Monitor]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateRabbitmq]:
    made = PrivateRabbitmq(tmp_path_factory.mktemp("rabbitmq") / "node", has_management=True)
    made.start()
    yield made
    made.kill()


@pytest.fixture
def broker(node: PrivateRabbitmq) -> Broker:
    return Broker(AmqpUrl.parse(node.url), exchange=free_names())


@pytest.fixture
def outside(node: PrivateRabbitmq, broker: Broker) -> Iterator[Outside]:
    broker.open().close()
    made = Outside(broker.names, AmqpUrl.parse(node.url))
    yield made
    made.close()


@pytest.fixture
def start(ground: Ground) -> Iterator[Start]:
    started: list[Monitor] = []

    def call(broker: Broker, management: Management | None = None) -> Monitor:
        events = EventBroker(broker, management, database=ground.database, wakeup=ground.wakeup)
        made = Monitor(events, clock=SystemClock())
        made.start()
        started.append(made)
        return made

    yield call
    for one in started:
        one.stop()


def management(node: PrivateRabbitmq, user: str = "guest:guest") -> Management:
    return Management(f"http://{user}@127.0.0.1:{node.management_port}", virtual_host="/")


@contextmanager
def alarm(node: PrivateRabbitmq) -> Iterator[None]:
    """The node believes that it has no memory left. Its management plugin hears of the begin, and of the
    end, some seconds later."""
    node.control("set_vm_memory_high_watermark", "absolute", "1MB")
    try:
        yield
    finally:
        node.control("set_vm_memory_high_watermark", "0.6")


def _trigger(ground: Ground) -> None:
    properties = {"source": "amqp", "routing_key": "#"}
    trigger = ground.schedules.create_trigger(ground.caller, name="m", type="event", properties=properties)
    ground.operation(trigger, overlap="allow")
    ground.clock.advance(1)


def _say(ground: Ground, *subjects: str) -> None:
    ground.database.write("test.on", lambda tx: outbox.switch(tx, is_on=True))
    for subject in subjects:
        ground.database.write(
            "test.say",
            lambda tx, subject=subject: outbox.note(  # type: ignore[misc]  # bound now
                tx, outbox.SERVICE_UP, subject=subject, project_id=None, data={}
            ),
        )


# --- the monitor -----------------------------------------------------------------------------------


def test_the_management_plugin_tells_who_consumes_and_that_nothing_is_short(
    node: PrivateRabbitmq, broker: Broker, outside: Outside, start: Start
) -> None:
    outside.send("a", b"nonsense")
    monitor = start(broker, management(node))
    until(lambda: any(one.consumed_by for one in monitor.status.queues) and monitor.status.rejected)
    until(lambda: monitor.status.queues[1].messages == 1 and monitor.status.alarms == ())
    shown = monitor.status.as_json()
    inbox, dead = shown["queues"][broker.names.inbox], shown["queues"][broker.names.dead]
    assert (inbox["messages"], inbox["consumers"]) == (0, 1)
    assert [who.rpartition(":")[0] for who in inbox["consumed_by"]] == ["guest@127.0.0.1"]
    assert dead == {"messages": 1, "consumers": 0, "consumed_by": []}
    assert (shown["alarms"], shown["unknown_reason"], shown["blocked"]) == ([], None, False)


def test_a_memory_alarm_is_told_while_events_still_fire(
    ground: Ground, node: PrivateRabbitmq, broker: Broker, outside: Outside, start: Start
) -> None:
    _trigger(ground)
    outside.send("a", id="before")
    monitor = start(broker, management(node))
    until(lambda: monitor.status.fired == 1 and monitor.status.queues)
    with capture_logs() as logged:
        with alarm(node):
            until(lambda: monitor.status.is_blocked and monitor.status.alarms)
            assert monitor.status.state == "connected"
            (told,) = monitor.status.as_json()["alarms"]
            assert told.startswith("memory of seawall-test-")
            page = _metrics(ground, monitor)
            assert "seawall_broker_blocked 1.0" in page
            assert "seawall_broker_alarms 1.0" in page
        until(lambda: not monitor.status.is_blocked and monitor.status.alarms == ())
    warned = [one["event"] for one in logged if one["log_level"] == "warning"]
    assert warned.count("the broker takes no messages: memory or disk are short") == 1
    assert warned.count("the broker raises alarms") == 1
    outside.send("a", id="after")
    until(lambda: monitor.status.fired == 2)
    assert "seawall_broker_alarms 0.0" in _metrics(ground, monitor)


def _metrics(ground: Ground, monitor: Monitor) -> str:
    now = ground.clock.now()
    found = ground.database.read(lambda connection: figures.figures(connection, now))
    return exposition(found, [], monitor.status, now).decode()


def test_without_management_a_broker_that_takes_no_messages_is_seen_all_the_same(
    node: PrivateRabbitmq, broker: Broker, start: Start
) -> None:
    monitor = start(broker)
    with alarm(node):
        until(lambda: monitor.status.is_blocked)
        assert monitor.status.as_json()["alarms"] == "unknown"
        assert monitor.status.as_json()["unknown_reason"] == "management_url is not set"
    until(lambda: not monitor.status.is_blocked)


def test_a_monitor_stops_at_once_although_the_broker_reads_nothing(
    node: PrivateRabbitmq, broker: Broker, start: Start
) -> None:
    monitor = start(broker)
    with alarm(node):
        until(lambda: monitor.status.is_blocked)
        monitor.stop()


def test_a_broker_that_was_killed_is_taken_up_again_with_its_queue(
    ground: Ground, node: PrivateRabbitmq, broker: Broker, start: Start
) -> None:
    _trigger(ground)
    monitor = start(broker, management(node))
    until(lambda: monitor.status.state == "connected" and monitor.status.queues)
    with capture_logs() as logged:
        node.kill()
        until(lambda: monitor.status.failures >= 2)
        shown = monitor.status.as_json()
        assert shown["state"] == "unavailable"
        assert shown["reason"]
        assert shown["alarms"] == "unknown"
        node.start()
        until(lambda: monitor.status.state == "connected")
    events = [one["event"] for one in logged]
    assert events.count("the broker is lost; it is tried again until it is back") == 1
    outside = Outside(broker.names, AmqpUrl.parse(node.url))
    outside.send("a", id="after")
    until(lambda: monitor.status.fired == 1)
    monitor.stop()
    outside.close()
    assert len(ground.runs()) == 1


# --- what the management plugin does not tell ------------------------------------------------------


def _unknown(monitor: Monitor) -> str:
    until(lambda: monitor.status.unknown_reason)
    shown = monitor.status.as_json()
    assert (shown["state"], shown["alarms"]) == ("connected", "unknown")
    assert {one["consumed_by"] for one in shown["queues"].values()} == {"unknown"}
    # What AMQP tells is known all the same.
    assert {one["messages"] for one in shown["queues"].values()} == {0}
    return str(shown["unknown_reason"])


def test_a_wrong_password_is_told_without_it(node: PrivateRabbitmq, broker: Broker, start: Start) -> None:
    with capture_logs() as logged:
        reason = _unknown(start(broker, management(node, "guest:s3cret-word")))
    assert "refuses this user or its password (HTTP 401)" in reason
    assert "s3cret-word" not in reason + repr(logged)
    warned = [one for one in logged if "unknown" in one["event"]]
    assert [one["log_level"] for one in warned] == ["warning"]


def test_a_management_plugin_that_is_not_there_is_told(broker: Broker, start: Start) -> None:
    reason = _unknown(start(broker, Management("http://u:s3cret-word@127.0.0.1:1/", virtual_host="/")))
    assert reason.startswith("the management plugin at http://127.0.0.1:1 does not answer: ")


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"<html>", "answers what is not known here"),
        (b"{}", "answers what is not known here"),
        (b"[3]", "answers what is not known here"),
        (b'[{"name": "a"}]', "answers what is not known here"),
        (b"\xff\xfe\x00", "answers what is not known here"),
        (None, "answers with HTTP 503"),
    ],
)
def test_whatever_answers_in_its_place_is_unknown_with_the_reason(answer: bytes | None, why: str) -> None:
    with _answering(answer) as port:
        found = Management(f"http://127.0.0.1:{port}", virtual_host="/").insight(["seawall.in"])
    assert found == Insight(reason=f"the management plugin at http://127.0.0.1:{port} {why}")


@contextmanager
def _answering(answer: bytes | None) -> Iterator[int]:
    """A server that says the same to everything; None is a refusal."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(503 if answer is None else 200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(answer or b"")

        def log_message(self, format: str, *args: object) -> None:
            """The test knows what it has asked."""

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield int(server.server_address[1])
        finally:
            server.shutdown()
            thread.join()


def test_a_queue_that_is_not_there_is_the_only_thing_unknown(node: PrivateRabbitmq) -> None:
    found = management(node).insight(["nobody has declared this"])
    assert (dict(found.consumers), found.reason) == ({}, "")
    assert found.alarms is not None


# --- telling ---------------------------------------------------------------------------------------


def test_what_happens_under_an_alarm_waits_and_is_told_when_it_is_over(
    ground: Ground, node: PrivateRabbitmq, broker: Broker, outside: Outside
) -> None:
    outside.listen()
    publisher = Publisher(ground.database, broker, clock=ground.clock, poll_s=1)
    _say(ground, "before")
    publisher.run(ground.clock.now())
    with alarm(node), capture_logs() as logged:
        _until_blocked(broker)
        _say(ground, *(f"during {number}" for number in range(600)))
        for _ in range(3):
            again_at = publisher.run(ground.clock.now())
            assert ground.clock.now() < again_at
            ground.clock.advance(61)
        assert ground.database.read(outbox.count) == 600
    assert [one["event"] for one in logged if one["log_level"] == "warning"] == [
        "the broker cannot be told what happens; it waits in the outbox"
    ]
    assert "memory or disk are short" in str(logged)

    until(lambda: _told(ground, publisher))
    publisher.close()
    heard = [orjson.loads(body)["subject"] for _, body in outside.take()]
    # At least once, and the first time in order.
    assert list(dict.fromkeys(heard)) == ["before", *(f"during {number}" for number in range(600))]


def _told(ground: Ground, publisher: Publisher) -> bool:
    """Whether nothing waits any more, after one more try."""
    publisher.run(ground.clock.now())
    ground.clock.advance(61)
    return ground.database.read(outbox.count) == 0


def test_a_publisher_closes_at_once_although_the_broker_reads_nothing(
    ground: Ground, node: PrivateRabbitmq, broker: Broker
) -> None:
    publisher = Publisher(ground.database, broker, clock=ground.clock, poll_s=1)
    _say(ground, "before")
    publisher.run(ground.clock.now())
    with alarm(node):
        _until_blocked(broker)
        _say(ground, "during")
        publisher.run(ground.clock.now())
        publisher.close()
        assert ground.database.read(outbox.count) == 1


def test_a_publisher_whose_connection_was_closed_opens_another(
    ground: Ground, node: PrivateRabbitmq, broker: Broker
) -> None:
    before = Outside(broker.names, AmqpUrl.parse(node.url))
    publisher = Publisher(ground.database, broker, clock=ground.clock, poll_s=1)
    _say(ground, "a")
    publisher.run(ground.clock.now())
    before.listen()
    node.control("close_all_connections", "test")
    _say(ground, "b")
    until(lambda: _told(ground, publisher))
    publisher.close()
    after = Outside(broker.names, AmqpUrl.parse(node.url))
    assert {orjson.loads(body)["subject"] for _, body in after.take()} == {"b"}
    after.close()


def _until_blocked(broker: Broker) -> None:
    """An alarm takes the node a moment."""
    link = broker.open()
    until(lambda: not link.is_taking())
    link.close()


def test_a_link_confirms_nothing_that_the_broker_has_not_taken(node: PrivateRabbitmq, broker: Broker) -> None:
    link = broker.open()
    with alarm(node):
        until(lambda: not link.is_taking())
        with pytest.raises(Exception, match="takes no messages now"):
            link.publish([Message("1", "a", b"x")])

    def is_taking() -> bool:
        link.look()
        return not link.is_blocked

    until(is_taking)
    link.publish([Message("1", "a", b"x")])
    link.close()


# --- the service -----------------------------------------------------------------------------------


def _doctor(data: Path) -> list[dict[str, str]]:
    """What it finds, whatever it is."""
    done = subprocess.run(
        [SEAWALL, "doctor", "-o", "json"],
        env={**os.environ, "SEAWALL_DATA_DIR": str(data)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    found: list[dict[str, str]] = json.loads(done.stdout)
    assert "guest:guest" not in done.stdout + done.stderr
    return found


def test_health_metrics_doctor_and_log_tell_of_an_alarm(tmp_path: Path, node: PrivateRabbitmq) -> None:
    exchange = free_names()
    served = Seawall(
        data_folder(
            tmp_path / "data",
            f"{SETTINGS}amqp_url: {node.url}\namqp_exchange: {exchange}\n"
            f"management_url: http://guest:guest@127.0.0.1:{node.management_port}\n",
        )
    )
    served.start()
    try:
        url = httpx.URL((served.data / "api-url").read_text().strip()).join("/")
        token = (served.data / "admin-token").read_text().strip()

        def broker_now() -> dict[str, object]:
            answer = httpx.get(url.join("health/ready"), timeout=30)
            assert answer.status_code == 200
            found: dict[str, object] = answer.json()["broker"]
            return found

        with alarm(node):
            until(lambda: broker_now()["blocked"] and broker_now()["alarms"] not in ([], "unknown"))
            metrics = httpx.get(
                url.join("metrics"), headers={"Authorization": f"Bearer {token}"}, timeout=30
            ).text
            assert "seawall_broker_blocked 1.0" in metrics
            assert "seawall_broker_alarms 1.0" in metrics
            found = _doctor(served.data)
            broken = [one["finding"] for one in found if one["state"] == "error" and one["what"] == "broker"]
            assert any("takes no messages" in one for one in broken), found
            assert any("raises an alarm: memory of seawall-test-" in one for one in broken), found
        until(lambda: not broker_now()["blocked"] and broker_now()["alarms"] == [])
        found = _doctor(served.data)
        assert {one["state"] for one in found if one["what"].startswith("broker")} == {"ok"}
        (inbox,) = [one["finding"] for one in found if one["what"] == f"queue {exchange}.in"]
        assert inbox.startswith("0 messages, 1 consumers (guest@127.0.0.1:")
        served.stop()
    finally:
        served.kill()
    log = (tmp_path / "data.log").read_text()
    assert "the broker takes no messages: memory or disk are short" in log
    assert "the broker raises alarms" in log
    assert "guest:guest" not in log
