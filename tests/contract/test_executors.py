# SPDX-License-Identifier: Apache-2.0
"""The built-in executors under the contract suite."""

from __future__ import annotations

from typing import ClassVar

import pytest

from seawall.core.errors import ConfigurationError, UnavailableError
from seawall.operation_engine.executors.celery import CeleryDoorbells
from seawall.operation_engine.executors.coroutine import Coroutines
from seawall.operation_engine.executors.inline import Inline
from seawall.operation_engine.executors.thread_pool import ThreadPool
from seawall.runtime.registry import PluginKind, load_plugins
from seawall.sdk.executor import Executor
from seawall.sdk.testing.executor_suite import ExecutorSuite


class TestThreadPool(ExecutorSuite):
    def make_executor(self, workers: int) -> Executor:
        return ThreadPool(workers=workers)


class TestCoroutineWithThreads(ExecutorSuite):
    def make_executor(self, workers: int) -> Executor:
        return Coroutines(workers=workers, coroutines=100)


class TestCoroutine(ExecutorSuite):
    is_async: ClassVar[bool] = True

    def make_executor(self, workers: int) -> Executor:
        return Coroutines(workers=1, coroutines=workers)


class TestCeleryWithoutABroker(ExecutorSuite):
    """Its work goes on in threads of the process, whatever the broker does; ``tests/scale`` has one."""

    def make_executor(self, workers: int) -> Executor:
        return CeleryDoorbells(workers=workers, host="here", amqp_url="amqp://nobody@127.0.0.1:1")


class TestInline(ExecutorSuite):
    is_inline: ClassVar[bool] = True
    most_workers: ClassVar[int] = 1

    def make_executor(self, workers: int) -> Executor:
        return Inline()


def test_executors_are_found_by_their_folder() -> None:
    found = load_plugins(
        PluginKind(
            "seawall.executors",
            "executor_name",
            Executor,  # type: ignore[type-abstract]  # a protocol stands for its kind
            "seawall.operation_engine.executors",
        ),
        installed=lambda _: (),
    )
    assert found.faults == ()
    assert {"celery", "coroutine", "inline", "thread_pool"} <= set(found.names())


def test_a_thread_pool_needs_a_thread() -> None:
    with pytest.raises(ValueError, match="workers must be at least 1"):
        ThreadPool(workers=0)


def test_celery_needs_a_broker_s_address() -> None:
    with pytest.raises(ConfigurationError, match="amqp_url"):
        CeleryDoorbells(host="here", amqp_url=None)


def test_a_doorbell_that_cannot_be_rung_says_so() -> None:
    executor = CeleryDoorbells(host="here", amqp_url="amqp://me:hunter2@127.0.0.1:1")
    with pytest.raises(UnavailableError, match="does not take doorbells") as caught:
        executor.ring(None, most=1)
    assert "hunter2" not in str(caught.value)
    assert not executor.is_listening
    executor.shutdown(grace_s=0)
