# SPDX-License-Identifier: Apache-2.0
"""The contract suite of executors.

class TestMyExecutor(ExecutorSuite):
    def make_executor(self, workers: int) -> Executor:
        return MyExecutor(workers=workers)

One that runs tasks where they are submitted sets ``is_inline``; one that runs one task at a time whatever it
is asked for sets ``most_workers``. A ``WaitingExecutor`` is tested twice, the second time with ``is_async``.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import ClassVar

import pytest

from seawall.core.errors import StateError
from seawall.sdk.executor import Executor, RunTask, WaitingExecutor

_PATIENCE_S = 10.0


class Work:
    """A task that says when it has begun and goes on until it is let go or cancelled."""

    def __init__(self, run_id: str, *, is_held: bool = False, is_async: bool = False) -> None:
        self.run_id = run_id
        self.is_async = is_async
        self.begun = threading.Event()
        self.ended = threading.Event()
        self.cancelled = threading.Event()
        self.let_go = threading.Event()
        self.calls = 0
        if not is_held:
            self.let_go.set()

    def call(self) -> None:
        self.calls += 1
        self.begun.set()
        self.let_go.wait(_PATIENCE_S)
        self.ended.set()

    async def call_async(self) -> None:
        self.calls += 1
        self.begun.set()
        await asyncio.get_running_loop().run_in_executor(None, self.let_go.wait, _PATIENCE_S)
        self.ended.set()

    def cancel(self) -> None:
        self.cancelled.set()
        self.let_go.set()

    @property
    def task(self) -> RunTask:
        return RunTask(self.run_id, self.call, self.cancel, self.call_async if self.is_async else None)


def _wait_until(condition: Callable[[], bool]) -> bool:
    pause = threading.Event()
    for _ in range(int(_PATIENCE_S / 0.005)):
        if condition():
            return True
        pause.wait(0.005)
    return condition()


class ExecutorSuite:
    """What every executor must do."""

    is_inline: ClassVar[bool] = False
    is_async: ClassVar[bool] = False
    most_workers: ClassVar[int] = 1000

    def make_executor(self, workers: int) -> Executor:
        """A new executor that can run ``workers`` tasks at once."""
        raise NotImplementedError

    def make_work(self, run_id: str, *, is_held: bool = False) -> Work:
        return Work(run_id, is_held=is_held, is_async=self.is_async)

    def room(self, executor: Executor) -> int:
        """How many more of ``make_work`` could start at once."""
        if not self.is_async:
            return executor.capacity()
        assert isinstance(executor, WaitingExecutor)
        return executor.waiting_capacity()

    @pytest.fixture
    def executor(self) -> Iterator[Executor]:
        made = self.make_executor(min(2, self.most_workers))
        yield made
        made.shutdown(grace_s=_PATIENCE_S)

    def test_it_has_a_name_and_is_an_executor(self, executor: Executor) -> None:
        assert isinstance(executor, Executor)
        assert executor.executor_name

    def test_every_task_is_called_once(self, executor: Executor) -> None:
        all_work = [self.make_work(str(n)) for n in range(50)]
        executor.submit([one.task for one in all_work])
        assert all(one.ended.wait(_PATIENCE_S) for one in all_work)
        assert {one.calls for one in all_work} == {1}

    def test_more_than_its_capacity_is_queued_and_none_is_dropped(self, executor: Executor) -> None:
        if self.is_inline:
            pytest.skip("it runs tasks where they are submitted")
        all_work = [self.make_work(str(n), is_held=True) for n in range(10)]
        executor.submit([one.task for one in all_work])
        assert self.room(executor) == 0
        for one in all_work:
            one.let_go.set()
        assert all(one.ended.wait(_PATIENCE_S) for one in all_work)

    def test_its_capacity_is_what_could_start_at_once(self) -> None:
        if self.is_inline:
            pytest.skip("it runs tasks where they are submitted")
        workers = min(3, self.most_workers)
        executor = self.make_executor(workers)
        assert self.room(executor) == workers
        work = self.make_work("one", is_held=True)
        executor.submit([work.task])
        assert work.begun.wait(_PATIENCE_S)
        assert self.room(executor) == workers - 1
        work.let_go.set()
        assert _wait_until(lambda: self.room(executor) == workers)
        executor.shutdown(grace_s=_PATIENCE_S)

    def test_as_many_tasks_as_its_capacity_run_side_by_side(self) -> None:
        if self.is_inline:
            pytest.skip("it runs tasks where they are submitted")
        workers = min(3, self.most_workers)
        executor = self.make_executor(workers)
        all_work = [self.make_work(str(n), is_held=True) for n in range(workers)]
        executor.submit([one.task for one in all_work])
        assert all(one.begun.wait(_PATIENCE_S) for one in all_work)
        for one in all_work:
            one.let_go.set()
        executor.shutdown(grace_s=_PATIENCE_S)

    def test_it_says_whenever_a_task_has_ended(self, executor: Executor) -> None:
        ended = threading.Semaphore(0)
        executor.on_free(ended.release)
        executor.submit([self.make_work(str(n)).task for n in range(3)])
        assert all(ended.acquire(timeout=_PATIENCE_S) for _ in range(3))

    def test_capacity_is_free_when_it_says_so(self) -> None:
        executor = self.make_executor(1)
        free: list[int] = []
        told = threading.Event()

        def look() -> None:
            free.append(self.room(executor))
            told.set()

        executor.on_free(look)
        executor.submit([self.make_work("one").task])
        assert told.wait(_PATIENCE_S)
        assert free == [1]
        executor.shutdown(grace_s=_PATIENCE_S)

    def test_a_running_task_is_told_to_stop(self, executor: Executor) -> None:
        if self.is_inline:
            pytest.skip("it runs tasks where they are submitted")
        work = self.make_work("one", is_held=True)
        executor.submit([work.task])
        assert work.begun.wait(_PATIENCE_S)
        assert executor.cancel("one")
        assert work.ended.wait(_PATIENCE_S)

    def test_a_waiting_task_is_called_after_its_cancel(self) -> None:
        if self.is_inline:
            pytest.skip("it runs tasks where they are submitted")
        executor = self.make_executor(1)
        first, second = self.make_work("first", is_held=True), self.make_work("second", is_held=True)
        executor.submit([first.task, second.task])
        assert first.begun.wait(_PATIENCE_S)
        assert executor.cancel("second")
        assert second.cancelled.is_set()
        first.let_go.set()
        assert second.ended.wait(_PATIENCE_S)
        executor.shutdown(grace_s=_PATIENCE_S)

    def test_it_does_not_hold_what_it_was_never_given_or_has_ended(self, executor: Executor) -> None:
        work = self.make_work("one")
        executor.submit([work.task])
        assert work.ended.wait(_PATIENCE_S)
        assert _wait_until(lambda: not executor.cancel("one"))
        assert not executor.cancel("never")

    def test_after_shutdown_it_accepts_nothing(self) -> None:
        executor = self.make_executor(1)
        assert executor.shutdown(grace_s=0) == []
        work = self.make_work("one")
        with pytest.raises(StateError):
            executor.submit([work.task])
        assert self.room(executor) == 0
        assert work.calls == 0

    def test_shutdown_names_what_still_runs_and_calls_nothing_more(self) -> None:
        if self.is_inline:
            pytest.skip("it runs tasks where they are submitted")
        executor = self.make_executor(1)
        running, waiting = self.make_work("running", is_held=True), self.make_work("waiting")
        executor.submit([running.task, waiting.task])
        assert running.begun.wait(_PATIENCE_S)
        assert executor.shutdown(grace_s=0) == ["running"]
        running.let_go.set()
        assert executor.shutdown(grace_s=_PATIENCE_S) == []
        assert waiting.calls == 0

    def test_shutdown_waits_for_what_ends_within_the_grace(self) -> None:
        if self.is_inline:
            pytest.skip("it runs tasks where they are submitted")
        executor = self.make_executor(1)
        work = self.make_work("one", is_held=True)
        executor.submit([work.task])
        assert work.begun.wait(_PATIENCE_S)
        left: list[list[str]] = []
        stopping = threading.Thread(target=lambda: left.append(executor.shutdown(grace_s=_PATIENCE_S)))
        stopping.start()
        work.let_go.set()
        stopping.join(_PATIENCE_S)
        assert left == [[]]
        assert work.ended.is_set()
