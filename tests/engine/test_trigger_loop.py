# SPDX-License-Identifier: Apache-2.0
"""A loop calls its function at the times that the function names, until there is none (M5)."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime, timedelta

from seawall.operation_engine.trigger_loop import TriggerLoop
from seawall.runtime.wakeup import Wakeup
from seawall.sdk.testing.clock import FakeClock

EVERY = timedelta(seconds=60)


class Calls:
    """Notes the expected times of calls; answers what ``answer`` says."""

    def __init__(self, clock: FakeClock, answer: Callable[[datetime], datetime | None]) -> None:
        self.clock = clock
        self.answer = answer
        self.expected: list[datetime] = []
        self.ends: list[Exception | None] = []
        self.called = threading.Semaphore(0)
        self.ended = threading.Semaphore(0)

    def call(self, expected_at: datetime) -> datetime | None:
        self.expected.append(expected_at)
        self.called.release()
        return self.answer(expected_at)

    def on_done(self, error: Exception | None) -> None:
        self.ends.append(error)
        self.ended.release()

    def wait(self) -> None:
        assert self.called.acquire(timeout=10)

    def loop(self, first: datetime, wakeup: Wakeup | None = None) -> TriggerLoop:
        return TriggerLoop(
            "test", self.call, first_run_at=first, clock=self.clock, wakeup=wakeup, on_done=self.on_done
        )


def pass_time(clock: FakeClock, seconds: int) -> None:
    """Let it pass as it does: no faster than the loop can follow."""
    for _ in range(seconds):
        clock.wait_for_waiters()
        clock.advance(1)


def test_it_waits_for_its_first_time_and_is_called_with_it() -> None:
    clock = FakeClock()
    start = clock.now()
    calls = Calls(clock, lambda at: at + EVERY)
    loop = calls.loop(start + EVERY)
    loop.start()
    clock.wait_for_waiters()
    assert calls.expected == []
    pass_time(clock, 60)
    calls.wait()
    pass_time(clock, 60)
    calls.wait()
    assert calls.expected == [start + EVERY, start + 2 * EVERY]
    assert loop.stop(timeout_s=10)
    assert calls.ends == [None]


def test_a_time_that_is_past_is_not_waited_for() -> None:
    clock = FakeClock()
    first = clock.now() - EVERY
    calls = Calls(clock, lambda at: None)
    calls.loop(first).start()
    calls.wait()
    assert calls.expected == [first]


def test_it_ends_when_there_is_no_next_time() -> None:
    clock = FakeClock()
    calls = Calls(clock, lambda at: None)
    loop = calls.loop(clock.now())
    loop.start()
    assert calls.ended.acquire(timeout=10)
    assert loop.stop(timeout_s=10)
    assert (len(calls.expected), calls.ends, loop.health.is_running) == (1, [None], False)


def test_it_can_be_stopped_while_it_waits() -> None:
    clock = FakeClock()
    calls = Calls(clock, lambda at: at + EVERY)
    loop = calls.loop(clock.now() + EVERY)
    loop.start()
    clock.wait_for_waiters()
    assert loop.stop(timeout_s=10)
    assert (calls.expected, calls.ends) == ([], [None])


def test_a_wake_up_calls_it_at_once() -> None:
    clock = FakeClock()
    wakeup = Wakeup()
    calls = Calls(clock, lambda at: clock.now() + EVERY)
    loop = calls.loop(clock.now() + EVERY, wakeup)
    loop.start()
    clock.wait_for_waiters()
    wakeup.notify()
    calls.wait()
    assert calls.expected == [clock.now()]
    loop.stop(timeout_s=10)


def test_an_unexpected_end_is_noticed_and_restarted_after_a_back_off() -> None:
    clock = FakeClock()
    start = clock.now()
    fails = [RuntimeError("one"), RuntimeError("two")]

    def answer(at: datetime) -> datetime | None:
        if fails:
            raise fails.pop(0)
        return at + EVERY

    calls = Calls(clock, answer)
    loop = calls.loop(start)
    loop.start()
    calls.wait()
    assert calls.ended.acquire(timeout=10)
    health = loop.health
    assert (health.failures, health.last_error, health.last_failed_at) == (1, "RuntimeError: one", start)
    pass_time(clock, 1)
    calls.wait()
    pass_time(clock, 2)
    calls.wait()
    clock.wait_for_waiters()
    assert [str(error) for error in calls.ends] == ["one", "two"]
    assert calls.expected == [start, start + timedelta(seconds=1), start + timedelta(seconds=3)]
    assert (loop.health.failures, loop.health.is_running) == (0, True)
    loop.stop(timeout_s=10)


def test_a_wake_up_does_not_cut_a_back_off_short() -> None:
    clock = FakeClock()
    wakeup = Wakeup()

    def answer(at: datetime) -> datetime | None:
        raise RuntimeError("always")

    calls = Calls(clock, answer)
    loop = calls.loop(clock.now(), wakeup)
    loop.start()
    calls.wait()
    clock.wait_for_waiters()
    wakeup.notify()
    pass_time(clock, 1)
    calls.wait()
    assert len(calls.expected) == 2
    loop.stop(timeout_s=10)


def test_a_listener_that_fails_does_not_end_the_loop() -> None:
    clock = FakeClock()
    calls = Calls(clock, lambda at: None)

    def listener(error: Exception | None) -> None:
        raise RuntimeError("deaf")

    loop = TriggerLoop("test", calls.call, first_run_at=clock.now(), clock=clock, on_done=listener)
    loop.start()
    calls.wait()
    assert loop.stop(timeout_s=10)


def test_a_clock_that_is_set_forward_is_noticed_within_a_second() -> None:
    clock = FakeClock()
    calls = Calls(clock, lambda at: None)
    calls.loop(clock.now() + timedelta(days=1)).start()
    clock.wait_for_waiters()
    clock.jump(2 * 86_400)
    pass_time(clock, 1)
    calls.wait()
    assert len(calls.expected) == 1
