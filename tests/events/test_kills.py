# SPDX-License-Identifier: Apache-2.0
"""A process is killed at each place between a message, its rows and its acknowledgement: nothing is lost, and
nothing fires twice (I1, I2)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from seawall.api.monitor import Monitor
from seawall.db import outbox
from seawall.operation_engine.events.publisher import Publisher
from seawall.runtime.broker import Broker
from seawall.runtime.clock import SystemClock
from seawall.wiring.broker import EventBroker
from tests.engine.ground import Ground
from tests.events.conftest import until
from tests.support.rabbitmq import Outside

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]


def _killed(ground: Ground, broker: Broker, what: str, point: str) -> None:
    """Run the child until the failpoint has killed it."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.events.killed_child", str(ground.where), broker.names.exchange, what],
        cwd=ROOT,
        env={**os.environ, "SEAWALL_FAILPOINTS": f"{point}=kill", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr


@pytest.mark.parametrize(
    "point",
    [
        "events.messages.before_commit",
        "events.messages.after_commit",
        "broker.messages.before_ack",
        "broker.messages.after_ack",
    ],
)
def test_an_event_fires_once_wherever_its_process_is_killed(
    ground: Ground, broker: Broker, outside: Outside, point: str
) -> None:
    trigger = ground.schedules.create_trigger(
        ground.caller, name="m", type="event", properties={"source": "amqp", "routing_key": "#"}
    )
    ground.operation(trigger, overlap="allow")
    ground.clock.advance(1)
    outside.send("host.a", id="7")
    _killed(ground, broker, "take", point)
    outside.send("host.a", id="8")
    monitor = Monitor(
        EventBroker(broker, None, database=ground.database, wakeup=ground.wakeup), clock=SystemClock()
    )
    monitor.start()
    try:
        until(lambda: len(ground.runs()) == 2 and outside.depth(outside.names.inbox) == 0)
    finally:
        monitor.stop()
    assert sorted(run.occurrence for run in ground.runs()) == ["amqp /storage 7", "amqp /storage 8"]
    assert outside.depth(outside.names.inbox) == 0


@pytest.mark.parametrize(
    "point",
    [
        "broker.messages.before_reject",
        "broker.messages.after_reject",
    ],
)
def test_what_is_no_event_is_kept_wherever_its_process_is_killed(
    ground: Ground, broker: Broker, outside: Outside, point: str
) -> None:
    outside.send("host.a", b"nonsense")
    _killed(ground, broker, "take", point)
    monitor = Monitor(
        EventBroker(broker, None, database=ground.database, wakeup=ground.wakeup), clock=SystemClock()
    )
    monitor.start()
    try:
        until(lambda: outside.depth(outside.names.dead) == 1)
    finally:
        monitor.stop()
    assert outside.take(outside.names.dead) == [("host.a", b"nonsense")]


@pytest.mark.parametrize(
    ("point", "times"),
    [
        ("outbox.lease.before_commit", 1),
        ("outbox.lease.after_commit", 1),
        ("broker.batch.before_publish", 1),
        ("broker.batch.after_publish", 2),
        ("outbox.confirmed.before_commit", 2),
        ("outbox.confirmed.after_commit", 1),
    ],
)
def test_what_happens_is_told_wherever_the_publisher_is_killed(
    ground: Ground, broker: Broker, outside: Outside, point: str, times: int
) -> None:
    outside.listen()
    ground.database.write("test.on", lambda tx: outbox.switch(tx, is_on=True))
    ground.database.write(
        "test.say",
        lambda tx: outbox.note(tx, outbox.SERVICE_UP, subject="service/a/b", project_id=None, data={}),
    )
    (told,) = ground.database.read(lambda connection: outbox.waiting(connection, limit=2))
    _killed(ground, broker, "publish", point)
    # The child works by the real time; its lease ends long after it.
    real = SystemClock().now()
    ground.clock.advance((real - ground.clock.now()).total_seconds() + 3600)
    publisher = Publisher(ground.database, broker, clock=ground.clock, poll_s=1)
    publisher.run(ground.clock.now())
    publisher.close()
    assert [orjson.loads(body)["id"] for _, body in outside.take()] == [told.id] * times
    assert ground.database.read(outbox.count) == 0
