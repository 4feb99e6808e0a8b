# SPDX-License-Identifier: Apache-2.0
"""``thread_pool``: runs tasks on ``workers`` threads of this process; the default."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import ClassVar

from seawall.core.errors import StateError
from seawall.sdk.executor import RunTask


class ThreadPool:
    """Threads are started when there is work for them and are daemons: work that outlives the grace period
    never keeps the process from ending."""

    executor_name: ClassVar[str] = "thread_pool"

    def __init__(self, *, workers: int = 8) -> None:
        if workers < 1:
            raise ValueError(f"workers must be at least 1, not {workers}")
        self._workers = workers
        lock = threading.Lock()
        self._lock = lock
        self._has_work = threading.Condition(lock)
        self._has_ended = threading.Condition(lock)
        self._waiting: deque[RunTask] = deque()
        self._running: list[RunTask] = []
        self._threads: list[threading.Thread] = []
        self._idle = 0
        self._callbacks: list[Callable[[], None]] = []
        self._is_shut = False

    def submit(self, runs: Sequence[RunTask]) -> None:
        with self._lock:
            if self._is_shut:
                raise StateError("the executor is shut down")
            self._waiting.extend(runs)
            missing = min(len(self._waiting) - self._idle, self._workers - len(self._threads))
            for _ in range(missing):
                thread = threading.Thread(
                    target=self._work, name=f"run-{len(self._threads) + 1}", daemon=True
                )
                self._threads.append(thread)
                self._idle += 1
                thread.start()
            self._has_work.notify(len(runs))

    def cancel(self, run_id: str) -> bool:
        with self._lock:
            found = [one for one in (*self._running, *self._waiting) if one.run_id == run_id]
        for task in found:
            # One that still waits is called all the same, and ends at its first look at its context.
            task.cancel()
        return bool(found)

    def capacity(self) -> int:
        with self._lock:
            if self._is_shut:
                return 0
            return max(self._workers - len(self._running) - len(self._waiting), 0)

    def on_free(self, callback: Callable[[], None]) -> None:
        with self._lock:
            self._callbacks.append(callback)

    def shutdown(self, *, grace_s: float) -> list[str]:
        with self._lock:
            self._is_shut = True
            self._waiting.clear()
            self._has_work.notify_all()
            self._has_ended.wait_for(lambda: not self._running, max(grace_s, 0))
            return [task.run_id for task in self._running]

    def _work(self) -> None:
        while True:
            with self._lock:
                self._has_work.wait_for(lambda: self._waiting or self._is_shut)
                if not self._waiting:
                    self._idle -= 1
                    return
                task = self._waiting.popleft()
                self._running.append(task)
                self._idle -= 1
            try:
                task.call()
            finally:
                with self._lock:
                    self._running.remove(task)
                    self._idle += 1
                    callbacks = tuple(self._callbacks)
                    self._has_ended.notify_all()
                for callback in callbacks:
                    callback()
