# SPDX-License-Identifier: Apache-2.0
"""``inline``: runs each task where it is submitted; for tests and for one-shot commands."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import ClassVar

from seawall.core.errors import StateError
from seawall.sdk.executor import RunTask


class Inline:
    """``submit`` returns when the tasks have ended."""

    executor_name: ClassVar[str] = "inline"

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: dict[str, RunTask] = {}
        self._callbacks: list[Callable[[], None]] = []
        self._is_shut = False

    def submit(self, runs: Sequence[RunTask]) -> None:
        with self._lock:
            if self._is_shut:
                raise StateError("the executor is shut down")
            self._held |= {task.run_id: task for task in runs}
        for task in runs:
            with self._lock:
                if self._is_shut:
                    self._held.pop(task.run_id, None)
                    continue
            try:
                task.call()
            finally:
                with self._lock:
                    self._held.pop(task.run_id, None)
                    callbacks = tuple(self._callbacks)
            for callback in callbacks:
                callback()

    def cancel(self, run_id: str) -> bool:
        with self._lock:
            task = self._held.get(run_id)
        if task is None:
            return False
        task.cancel()
        return True

    def capacity(self) -> int:
        with self._lock:
            return 0 if self._is_shut or self._held else 1

    def on_free(self, callback: Callable[[], None]) -> None:
        with self._lock:
            self._callbacks.append(callback)

    def shutdown(self, *, grace_s: float) -> list[str]:
        """What still runs is run by the thread that submitted it: it is not waited for."""
        with self._lock:
            self._is_shut = True
            return list(self._held)
