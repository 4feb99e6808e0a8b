# SPDX-License-Identifier: Apache-2.0
"""One RabbitMQ for all, and a database of its own for each installation."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.scale.ground import Farm
from tests.support.databases import postgresql_database
from tests.support.private_rabbitmq import PrivateRabbitmq

CONSUMER_TIMEOUT_S = 20


@pytest.fixture(scope="module")
def rabbitmq(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateRabbitmq]:
    made = PrivateRabbitmq(
        tmp_path_factory.mktemp("scale") / "rabbitmq", consumer_timeout_s=CONSUMER_TIMEOUT_S
    )
    try:
        made.start()
        yield made
    finally:
        made.kill()


@pytest.fixture
def farm(tmp_path: Path, rabbitmq: PrivateRabbitmq) -> Iterator[Farm]:
    with postgresql_database() as url:
        made = Farm(tmp_path, url, rabbitmq.url)
        try:
            yield made
        finally:
            made.close()
