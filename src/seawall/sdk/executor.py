# SPDX-License-Identifier: Apache-2.0
"""Executor: runs claimed work somewhere (M9).

The dispatcher claims run rows up to ``capacity()``, more while runs end at once, and submits them; the
task's ``call`` does everything, so an executor only has to call it once, or not at all: a task that is
never called is taken over when its lease ends (I3, I4). The contract suite is
``seawall.sdk.testing.executor_suite``.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable


@dataclass(frozen=True, slots=True)
class RunTask:
    """One claimed run."""

    run_id: str
    call: Callable[[], None]
    """Executes the operation and hands its outcome to the dispatcher, which records it. Never raises; a
    second call returns at once."""
    cancel: Callable[[], None]
    """Asks the running call to stop soon; thread-safe, may be called twice, at any time."""
    coroutine: Callable[[], Coroutine[Any, Any, None]] | None = None
    """For an executor with an event loop, instead of ``call``: set when the operation is ``async def run``.
    Executors without one use ``call``, which brings a loop of its own."""


@runtime_checkable
class Executor(Protocol):
    """Runs tasks; chosen by name in the configuration (`executor:`).

    Its class is called with those of the settings ``workers``, ``coroutines``, ``host``, ``amqp_url``,
    ``celery_queue_prefix`` and ``doorbell_expires_s`` that its constructor names.
    """

    executor_name: ClassVar[str]

    def submit(self, runs: Sequence[RunTask]) -> None:
        """Accept tasks; returns without waiting for them (``inline`` excepted).

        More tasks than ``capacity()`` are queued, none is dropped. After ``shutdown`` it raises
        ``StateError`` and has accepted none of them.
        """
        ...

    def cancel(self, run_id: str) -> bool:
        """Stop a task: one not yet called is called after its own ``cancel`` so that it ends as cancelled;
        a running one has its ``cancel`` called. False when this executor does not hold the run."""
        ...

    def capacity(self) -> int:
        """How many more tasks could start at once now (>= 0)."""
        ...

    def on_free(self, callback: Callable[[], None]) -> None:
        """``callback`` is called, from any thread, whenever a task ends."""
        ...

    def shutdown(self, *, grace_s: float) -> list[str]:
        """Take no more, cancel nothing, wait up to ``grace_s``; the ids of runs that still go on.

        May be called twice. Tasks not yet called are not called any more (their lease is handed back by
        the dispatcher).
        """
        ...


@runtime_checkable
class DoorbellExecutor(Executor, Protocol):
    """One whose process is told by a message broker when there may be something to claim.

    A doorbell carries nothing; one that comes twice, late or never changes nothing but when somebody looks.
    """

    @property
    def is_listening(self) -> bool:
        """Whether doorbells can reach this process now. While not, the dispatcher looks by itself."""
        ...

    @property
    def look_every_s(self) -> float:
        """The safety net: how often the dispatcher looks by itself although it is listening."""
        ...

    def listen(self, ring: Callable[[], None]) -> None:
        """From now on ``ring`` is called, from any thread, for each doorbell and each time it gets connected
        again; until ``shutdown``. Called once."""
        ...

    def ring(self, host: str | None, *, most: int) -> int:
        """Publish up to ``most`` doorbells for those who listen and have room: all, or the one of this host.

        How many were published; ``UnavailableError`` when the broker does not take them.
        """
        ...


@runtime_checkable
class WaitingExecutor(Executor, Protocol):
    """One that lets far more ``async def run`` operations wait at once than it has threads for others."""

    def waiting_capacity(self) -> int:
        """How many more tasks with a ``coroutine`` could start at once; ``capacity`` counts the others."""
        ...
