# SPDX-License-Identifier: Apache-2.0
"""Several hosts share the runs of one database: each run ends exactly once, whatever dies (I3, I4)."""

from __future__ import annotations

from pathlib import Path

import pytest

from demo.service import wait_until
from tests.scale.conftest import CONSUMER_TIMEOUT_S
from tests.scale.ground import PATIENCE_S, Farm
from tests.support.databases import postgresql_database
from tests.support.private_rabbitmq import PrivateRabbitmq, connection_to

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


def start_both(farm: Farm) -> None:
    farm.start("one", "operationengine")
    farm.start("one")
    farm.start("two")


def test_each_run_ends_once_and_both_hosts_take_part(farm: Farm) -> None:
    start_both(farm)
    ids = farm.insert(200, seconds=0.02)
    rows = farm.until_ended(ids)
    assert all(farm.told(run_id, "ended") == farm.told(run_id, "begun") for run_id in ids)
    assert all(len(farm.told(run_id, "ended")) == 1 for run_id in ids)
    assert {one.result["host"] for one in rows} == {"one", "two"}
    assert {(one.attempt, one.take_overs) for one in rows} == {(1, 0)}


def test_a_bound_run_goes_to_its_host_and_to_no_other(farm: Farm) -> None:
    start_both(farm)
    for_one, for_two = farm.insert(10, host="one"), farm.insert(10, host="two")
    assert {one.result["host"] for one in farm.until_ended(for_one)} == {"one"}
    assert {one.result["host"] for one in farm.until_ended(for_two)} == {"two"}
    farm.kill("two")
    waiting = farm.insert(1, host="two")
    farm.until_ended(farm.insert(1))
    assert [one.state for one in farm.rows(waiting)] == ["queued"]
    farm.start("two")
    farm.until_ended(waiting)


def test_the_run_of_a_killed_worker_is_taken_over(farm: Farm) -> None:
    start_both(farm)
    (run_id,) = farm.insert(1, gate=str(farm.gate))
    dead = farm.until_begun(run_id)
    farm.kill(dead)
    wait_until("the other host to take over", lambda: len(farm.told(run_id, "begun")) > 1 or None)
    farm.gate.touch()
    (row,) = farm.until_ended([run_id])
    assert row.take_overs == 1
    assert farm.told(run_id, "ended") == [row.result["host"]] != [dead]


def test_doorbells_that_ring_too_often_change_nothing(farm: Farm) -> None:
    start_both(farm)
    ids = farm.insert(40, seconds=0.05)
    for _ in range(200):
        farm.outside.ring(None, most=5)
    farm.until_ended(ids)
    assert all(len(farm.told(run_id, "begun")) == 1 for run_id in ids)


def test_a_full_worker_stops_listening_and_listens_again(farm: Farm) -> None:
    farm.start("one", "operationengine")
    farm.start("one")
    held = farm.insert(2, gate=str(farm.gate))
    for run_id in held:
        farm.until_begun(run_id)
    wait_until("it to stop listening", lambda: farm.listeners() == 0 or None)
    assert farm.outside.ring(None, most=1) == 0
    farm.gate.touch()
    farm.until_ended(held)
    wait_until("it to listen again", lambda: farm.listeners() == 1 or None)
    farm.until_ended(farm.insert(1))


def test_work_goes_on_without_the_broker_and_by_doorbells_once_it_is_back(
    farm: Farm, rabbitmq: PrivateRabbitmq
) -> None:
    start_both(farm)
    farm.until_ended(farm.insert(4))
    rabbitmq.kill()
    farm.until_ended(farm.insert(4))
    rabbitmq.start()
    wait_until("both to listen again", lambda: farm.listeners() == 2 or None, timeout_s=PATIENCE_S)
    farm.until_ended(farm.insert(4))
    assert farm.is_alive("one") and farm.is_alive("two") and farm.is_alive("one", "operationengine")


@pytest.mark.parametrize(
    ("name", "host", "kind"),
    [
        ("doorbells.ring.before_publish", "one", "operationengine"),
        ("doorbells.ring.after_publish", "one", "operationengine"),
        ("doorbells.hear.before_claim", "two", "protection"),
    ],
)
def test_a_process_that_dies_at_a_doorbell_loses_nothing(farm: Farm, name: str, host: str, kind: str) -> None:
    farm.start("one", "operationengine", failpoint=name if kind == "operationengine" else None)
    farm.start("two", failpoint=name if kind == "protection" else None)
    wait_until("a worker that listens", lambda: farm.listeners() or None, timeout_s=PATIENCE_S)
    ids = farm.insert(3)
    farm.wait_for_death(host, kind)
    farm.start(host, kind)
    farm.until_ended(ids)
    assert all(len(farm.told(run_id, "ended")) == 1 for run_id in ids)


def test_a_long_run_outlasts_the_consumer_timeout(tmp_path: Path, rabbitmq: PrivateRabbitmq) -> None:
    """One worker with room for one; nothing that it holds is ever unacknowledged for long."""
    with postgresql_database() as url:
        farm = Farm(tmp_path, url, rabbitmq.url, workers=1, doorbell_expires_s=2)
        try:
            farm.start("one", "operationengine")
            farm.start("one")
            (long,) = farm.insert(1, seconds=CONSUMER_TIMEOUT_S * 2 + 5)
            farm.until_begun(long)
            short = farm.insert(2)
            is_enforced(rabbitmq)
            farm.until_ended([long, *short])
            assert farm.is_alive("one")
            assert [one.attempt for one in farm.rows([long, *short])] == [1, 1, 1]
            farm.until_ended(farm.insert(1))
        finally:
            farm.close()


def is_enforced(rabbitmq: PrivateRabbitmq) -> None:
    """The control: a consumer that holds a message for as long loses its channel."""
    with connection_to(rabbitmq.url) as connection, connection.channel() as channel:
        channel.queue_declare(queue="held", auto_delete=True)
        channel.basic_consume(queue="held", no_ack=False, callback=lambda message: None)
        channel.basic_publish(
            channel.prepare_message(b"x", content_encoding="binary"), exchange="", routing_key="held"
        )
        with pytest.raises(connection.channel_errors, match="timeout"):
            while True:
                connection.drain_events(timeout=PATIENCE_S)
