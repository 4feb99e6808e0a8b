# SPDX-License-Identifier: Apache-2.0
"""With doorbells a process claims when one rings; without a broker it looks by itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from seawall.core.errors import UnavailableError
from seawall.operation_engine.executors.thread_pool import ThreadPool
from seawall.operation_engine.ringer import Ringer
from seawall.sdk.executor import DoorbellExecutor
from tests.engine.ground import Ground
from tests.engine.test_dispatcher import abandoned, fire


class Bells(ThreadPool):
    """A broker in the memory of the test."""

    executor_name: ClassVar[str] = "bells"

    def __init__(self) -> None:
        super().__init__(workers=4)
        self.is_listening = True
        self.look_every_s = 1000.0
        self.is_away = False
        self.rung: list[tuple[str | None, int]] = []
        self.hear: Callable[[], None] = lambda: None

    def listen(self, ring: Callable[[], None]) -> None:
        self.hear = ring
        ring()

    def ring(self, host: str | None, *, most: int) -> int:
        if self.is_away:
            raise UnavailableError("nobody answers")
        self.rung.append((host, most))
        return most


def test_it_claims_when_a_doorbell_rings_and_not_before(ground: Ground) -> None:
    bells = Bells()
    assert isinstance(bells, DoorbellExecutor)
    ground.dispatcher(executor=bells)
    fire(ground)
    ground.until(lambda: ground.clock.now() > ground.at(100), step_s=0.5)
    assert ground.states() == ["queued"]
    bells.hear()
    ground.until(lambda: ground.states() == ["success"])


def test_it_looks_by_itself_while_it_cannot_be_rung_for(ground: Ground) -> None:
    bells = Bells()
    bells.is_listening = False
    ground.dispatcher(executor=bells)
    fire(ground)
    ground.until(lambda: ground.states() == ["success"], step_s=0.2)


def test_it_looks_now_and_then_although_nobody_rings(ground: Ground) -> None:
    bells = Bells()
    bells.look_every_s = 30.0
    ground.dispatcher(executor=bells)
    fire(ground)
    ground.until(lambda: ground.states() == ["success"], step_s=0.5)


def test_one_end_lets_it_claim_the_next_without_a_doorbell(ground: Ground) -> None:
    bells = Bells()
    trigger = ground.trigger()
    for _ in range(20):
        ground.operation(trigger)
    ground.dispatcher(executor=bells)
    ground.go_to(60)
    ground.claim_all()
    bells.hear()
    ground.until(lambda: set(ground.states()) == {"success"}, step_s=0.01)


def test_what_was_taken_over_waits_for_no_doorbell(ground: Ground) -> None:
    abandoned(ground)
    ground.dispatcher(host="there", executor=Bells())
    ground.until(lambda: ground.states() == ["success"], step_s=0.2)
    assert ground.runs()[0].take_overs == 1


def test_the_engine_rings_for_what_waits_by_host(ground: Ground) -> None:
    bells = Bells()
    ringer = Ringer(ground.database, bells, clock=ground.clock, poll_s=1)
    assert ringer.ring(ground.clock.now()) == ground.at(1)
    assert bells.rung == []
    fire(ground)
    ringer.ring(ground.clock.now())
    assert bells.rung == [(None, 1)]
    ringer.ring(ground.clock.now())
    assert bells.rung == [(None, 1)] * 2


def test_the_engine_rings_for_nothing_that_may_not_start(ground: Ground) -> None:
    bells = Bells()
    fire(ground, 60)
    ground.go_to(60 + 1801)
    Ringer(ground.database, bells, clock=ground.clock, poll_s=1).ring(ground.clock.now())
    assert bells.rung == []


def test_a_broker_that_is_away_stops_no_engine(ground: Ground) -> None:
    bells = Bells()
    bells.is_away = True
    ringer = Ringer(ground.database, bells, clock=ground.clock, poll_s=1)
    fire(ground)
    assert ringer.ring(ground.clock.now()) == ground.at(61)
    bells.is_away = False
    ringer.ring(ground.clock.now())
    assert bells.rung == [(None, 1)]
