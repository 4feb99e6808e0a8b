# SPDX-License-Identifier: Apache-2.0
"""The configuration chooses the executor, and each gets the settings that its constructor names (M9)."""

from __future__ import annotations

from pathlib import Path

import pytest

from seawall.core.errors import ConfigurationError
from seawall.runtime.config import Settings
from seawall.sdk.executor import DoorbellExecutor, WaitingExecutor
from seawall.wiring.processes import make_executor


def settings(folder: Path, **more: object) -> Settings:
    return Settings(data_dir=folder, **more)  # type: ignore[arg-type]  # checked by the model itself


@pytest.mark.parametrize("name", ["inline", "thread_pool"])
def test_an_executor_is_made_by_its_name(tmp_path: Path, name: str) -> None:
    executor = make_executor(settings(tmp_path, executor=name, workers=3))
    assert executor.executor_name == name
    assert executor.capacity() == (1 if name == "inline" else 3)


def test_coroutine_gets_its_two_sizes(tmp_path: Path) -> None:
    executor = make_executor(settings(tmp_path, executor="coroutine", workers=3, coroutines=70))
    assert isinstance(executor, WaitingExecutor)
    assert (executor.capacity(), executor.waiting_capacity()) == (3, 70)


def test_celery_gets_its_broker(tmp_path: Path) -> None:
    executor = make_executor(settings(tmp_path, executor="celery", amqp_url="amqp://127.0.0.1:1"))
    assert isinstance(executor, DoorbellExecutor)
    assert not executor.is_listening


def test_celery_without_a_broker_s_address_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="amqp_url"):
        make_executor(settings(tmp_path, executor="celery"))


def test_an_unknown_executor_is_refused_with_those_that_there_are(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="celery, coroutine, inline, thread_pool"):
        make_executor(settings(tmp_path, executor="turbo"))
