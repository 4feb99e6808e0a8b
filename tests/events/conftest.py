# SPDX-License-Identifier: Apache-2.0
"""A real broker with names of the test's own, and an engine beside it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from seawall.runtime.broker import Broker
from tests.engine.ground import Ground
from tests.support.rabbitmq import Outside
from tests.support.rabbitmq import broker as broker_of_a_test


@pytest.fixture
def ground(tmp_path: Path) -> Iterator[Ground]:
    opened = Ground(tmp_path, where=tmp_path / "seawall.db")
    yield opened
    opened.close()


@pytest.fixture
def broker() -> Iterator[Broker]:
    with broker_of_a_test() as made:
        yield made


@pytest.fixture
def outside(broker: Broker) -> Iterator[Outside]:
    """What Seawall declares is there already."""
    broker.open().close()
    made = Outside(broker.names)
    yield made
    made.close()


def until(condition: Callable[[], Any]) -> None:
    """Let real threads work until it is true."""
    never = threading.Event()
    for _ in range(6000):
        if condition():
            return
        never.wait(0.01)
    raise AssertionError("this has not become true")
