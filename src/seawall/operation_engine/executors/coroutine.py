# SPDX-License-Identifier: Apache-2.0
"""``coroutine``: operations written as ``async def run`` wait by the thousands on one thread; every other one
gets a thread of a small pool."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import ClassVar

from seawall.core.errors import StateError
from seawall.operation_engine.executors.thread_pool import ThreadPool
from seawall.sdk.executor import RunTask


class Coroutines:
    """One event loop on a daemon thread, begun with the first task that needs it."""

    executor_name: ClassVar[str] = "coroutine"

    def __init__(self, *, workers: int = 8, coroutines: int = 5000) -> None:
        if coroutines < 1:
            raise ValueError(f"coroutines must be at least 1, not {coroutines}")
        self._most = coroutines
        self._pool = ThreadPool(workers=workers)
        self._pool.on_free(self._pool_has_ended_one)
        self._lock = threading.Lock()
        self._has_ended = threading.Condition(self._lock)
        self._waiting: deque[RunTask] = deque()
        self._running: dict[str, RunTask] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._callbacks: list[Callable[[], None]] = []
        self._is_shut = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def submit(self, runs: Sequence[RunTask]) -> None:
        plain = [task for task in runs if task.coroutine is None]
        with self._lock:
            if self._is_shut:
                raise StateError("the executor is shut down")
            self._waiting.extend(task for task in runs if task.coroutine is not None)
            self._begin_waiting()
        if plain:
            self._pool.submit(plain)

    def cancel(self, run_id: str) -> bool:
        with self._lock:
            found = [task for task in self._waiting if task.run_id == run_id]
            if (running := self._running.get(run_id)) is not None:
                found.append(running)
        for task in found:
            # One that still waits is begun all the same, and ends at its first look at its context.
            task.cancel()
        return bool(found) or self._pool.cancel(run_id)

    def capacity(self) -> int:
        return self._pool.capacity()

    def waiting_capacity(self) -> int:
        with self._lock:
            if self._is_shut:
                return 0
            return max(self._most - len(self._running) - len(self._waiting), 0)

    def on_free(self, callback: Callable[[], None]) -> None:
        with self._lock:
            self._callbacks.append(callback)

    def shutdown(self, *, grace_s: float) -> list[str]:
        with self._lock:
            self._is_shut = True
            self._waiting.clear()
            self._end_loop_if_done()
            self._has_ended.wait_for(
                lambda: not self._running and not self._pool.shutdown(grace_s=0), max(grace_s, 0)
            )
            left = [*self._running, *self._pool.shutdown(grace_s=0)]
            thread = None if self._running else self._thread
        if thread is not None:
            thread.join()
        return left

    # --- tasks, under the lock -----------------------------------------------------------------

    def _begin_waiting(self) -> None:
        begun: list[RunTask] = []
        while self._waiting and len(self._running) < self._most:
            task = self._waiting.popleft()
            self._running[task.run_id] = task
            begun.append(task)
        if begun:
            self._begun_loop().call_soon_threadsafe(self._begin, begun)

    def _begun_loop(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(
                target=self._run_loop, args=(self._loop,), name="coroutines", daemon=True
            )
            self._thread.start()
        return self._loop

    def _end_loop_if_done(self) -> None:
        if self._is_shut and not self._running and self._loop is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._loop = None

    # --- on the thread of the loop -------------------------------------------------------------

    def _run_loop(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            loop.run_forever()
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.run_until_complete(loop.shutdown_default_executor())
        finally:
            loop.close()

    def _begin(self, tasks: Sequence[RunTask]) -> None:
        for task in tasks:
            begun = asyncio.get_running_loop().create_task(self._call(task))
            self._tasks.add(begun)
            begun.add_done_callback(self._tasks.discard)

    async def _call(self, task: RunTask) -> None:
        assert task.coroutine is not None  # it was sorted by that
        try:
            await task.coroutine()
        finally:
            with self._lock:
                self._running.pop(task.run_id, None)
                if not self._is_shut:
                    self._begin_waiting()
                callbacks = tuple(self._callbacks)
                self._has_ended.notify_all()
            for callback in callbacks:
                callback()
            with self._lock:
                self._end_loop_if_done()

    def _pool_has_ended_one(self) -> None:
        with self._lock:
            callbacks = tuple(self._callbacks)
            self._has_ended.notify_all()
        for callback in callbacks:
            callback()
