# SPDX-License-Identifier: Apache-2.0
"""Operations written as ``async def run`` mean the same on every executor, and wait by the hundred on one."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from seawall.core.errors import BankError
from seawall.operation_engine.executors.coroutine import Coroutines
from seawall.operation_engine.executors.inline import Inline
from seawall.operation_engine.executors.thread_pool import ThreadPool
from seawall.sdk.executor import Executor
from seawall.sdk.operation import OperationContext
from tests.engine.ground import PROJECT, Ground, Json

_DROP_IN = """
from tests.engine.test_coroutines import ACTS
class AsyncProbe:
    operation_type = "async_probe"
    definition_schema = {"type": "object"}
    async def run(self, definition, context):
        return await ACTS[definition["call"]](definition, context)
"""
ACTS: dict[str, Callable[[Json, OperationContext], Awaitable[Any]]] = {}


@pytest.fixture
def ground(ground: Ground) -> Iterator[Ground]:
    (ground.drop_ins / "async_probe.py").write_text(_DROP_IN)
    ground.operations.refresh()
    yield ground
    ACTS.clear()


@pytest.fixture(params=["coroutine", "thread_pool"])
def executor(request: pytest.FixtureRequest) -> Executor:
    return Coroutines(workers=2, coroutines=1000) if request.param == "coroutine" else ThreadPool(workers=2)


def act(name: str) -> Callable[[Callable[[Json, OperationContext], Awaitable[Any]]], None]:
    def note(call: Callable[[Json, OperationContext], Awaitable[Any]]) -> None:
        ACTS[name] = call

    return note


def fire(ground: Ground, call: str, count: int = 1, **more: Any) -> None:
    trigger = ground.trigger()
    for _ in range(count):
        ground.operation(trigger, operation_type="async_probe", operation_definition={"call": call}, **more)
    ground.go_to(60)
    ground.claim_all()


def test_its_result_is_recorded(ground: Ground, executor: Executor) -> None:
    @act("answer")
    async def _(definition: Json, context: OperationContext) -> Json:
        await context.sleep(0)
        return {"project": context.project_id}

    fire(ground, "answer")
    ground.dispatcher(executor=executor)
    ground.until(lambda: ground.states() == ["success"])
    assert ground.runs()[0].result == {"project": PROJECT}


def test_it_runs_inline_too(ground: Ground) -> None:
    @act("answer")
    async def _(definition: Json, context: OperationContext) -> Json:
        return {"answer": 42}

    fire(ground, "answer")
    ground.dispatcher(executor=Inline())
    ground.until(lambda: ground.states() == ["success"])


def test_it_sleeps_by_the_clock(ground: Ground, executor: Executor) -> None:
    begun = threading.Event()

    @act("sleep")
    async def _(definition: Json, context: OperationContext) -> None:
        begun.set()
        await context.sleep(30)

    fire(ground, "sleep")
    ground.dispatcher(executor=executor)
    assert begun.wait(10)
    ground.until(lambda: ground.states() == ["success"], step_s=0.5)
    assert (ground.runs()[0].ended_at - ground.at(60)).total_seconds() >= 30


def test_a_cancel_reaches_it_where_it_sleeps_in_our_words(ground: Ground, executor: Executor) -> None:
    begun, said = threading.Event(), []

    @act("sleep")
    async def _(definition: Json, context: OperationContext) -> None:
        begun.set()
        try:
            await context.sleep(3000)
        except Exception as error:
            said.append(type(error).__module__)
            raise

    fire(ground, "sleep")
    ground.dispatcher(executor=executor)
    assert begun.wait(10)
    ground.schedules.cancel_run(ground.caller, ground.runs()[0].id)
    ground.until(lambda: ground.states() == ["cancelled"], step_s=0.05)
    assert said == ["seawall.core.errors"]
    assert ground.runs()[0].reason == "cancelled"


def test_a_cancel_reaches_it_where_it_waits_for_something_else(ground: Ground, executor: Executor) -> None:
    begun = threading.Event()

    @act("wait")
    async def _(definition: Json, context: OperationContext) -> None:
        begun.set()
        await asyncio.Event().wait()

    fire(ground, "wait")
    ground.dispatcher(executor=executor)
    assert begun.wait(10)
    ground.schedules.cancel_run(ground.caller, ground.runs()[0].id)
    ground.until(lambda: ground.states() == ["cancelled"], step_s=0.05)


def test_a_timeout_ends_it(ground: Ground, executor: Executor) -> None:
    begun = threading.Event()

    @act("wait")
    async def _(definition: Json, context: OperationContext) -> None:
        begun.set()
        await asyncio.Event().wait()

    fire(ground, "wait", timeout_s=30)
    ground.dispatcher(executor=executor)
    assert begun.wait(10)
    ground.until(lambda: ground.states() == ["failed"], step_s=0.2)
    assert ground.runs()[0].error["code"] == "timed_out"


def test_a_failure_is_tried_again_with_what_it_journaled(ground: Ground, executor: Executor) -> None:
    seen: list[Any] = []

    @act("fail")
    async def _(definition: Json, context: OperationContext) -> None:
        seen.append(context.journal.get("first"))
        if len(seen) == 1:
            await context.record("first", {"done": 1})
            raise BankError("away")

    fire(ground, "fail", retry={"max_attempts": 2, "delay_s": 1})
    ground.dispatcher(executor=executor)
    ground.until(lambda: ground.states() == ["success"], step_s=0.1)
    assert seen == [None, {"done": 1}]


def test_what_it_cancels_itself_is_a_failure_and_not_a_cancel(ground: Ground, executor: Executor) -> None:
    @act("odd")
    async def _(definition: Json, context: OperationContext) -> None:
        raise asyncio.CancelledError

    fire(ground, "odd")
    ground.dispatcher(executor=executor)
    ground.until(lambda: ground.states() == ["failed"], step_s=0.05)
    assert ground.runs()[0].error["code"] == "unexpected"


def test_hundreds_wait_at_once_beside_plain_ones(ground: Ground) -> None:
    at_once, let_go = [], threading.Event()

    @act("wait")
    async def _(definition: Json, context: OperationContext) -> None:
        at_once.append(context.run_id)
        while not let_go.is_set():
            await context.sleep(0.5)

    fire(ground, "wait", count=300)
    plain = ground.trigger()
    for _number in range(5):
        ground.operation(plain)
    ground.go_to(120)
    ground.claim_all()
    ground.dispatcher(executor=Coroutines(workers=1, coroutines=1000))
    ground.until(lambda: len(at_once) == 300 and ground.states().count("success") == 5, step_s=0.01)
    let_go.set()
    ground.until(lambda: not ground.dispatched() and "queued" not in ground.states(), step_s=0.1)
    assert len(set(at_once)) == len(at_once)


def test_no_more_are_claimed_than_may_wait_at_once(ground: Ground) -> None:
    let_go = threading.Event()

    @act("wait")
    async def _(definition: Json, context: OperationContext) -> None:
        while not let_go.is_set():
            await context.sleep(0.5)

    fire(ground, "wait", count=10)
    ground.dispatcher(executor=Coroutines(workers=1, coroutines=4))
    ground.until(lambda: ground.states().count("in_progress") == 4, step_s=0.01)
    ground.until(lambda: ground.clock.now() > ground.at(70), step_s=0.1)
    assert ground.states().count("in_progress") == 4
    let_go.set()
    ground.until(lambda: set(ground.states()) == {"success"}, step_s=0.1)


def test_what_is_still_waiting_at_the_end_is_handed_back(ground: Ground) -> None:
    begun = threading.Event()

    @act("wait")
    async def _(definition: Json, context: OperationContext) -> None:
        begun.set()
        await context.sleep(3000)

    fire(ground, "wait")
    first = ground.dispatcher(executor=Coroutines(workers=1, coroutines=4))
    assert begun.wait(10)
    first.stop(0)
    assert (ground.runs()[0].state, ground.runs()[0].take_overs) == ("queued", 0)
