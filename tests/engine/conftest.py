# SPDX-License-Identifier: Apache-2.0
"""An engine on a fake clock: a real database, real loops, real executors."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine.ground import Ground
from tests.support.databases import place


@pytest.fixture
def ground(tmp_path: Path) -> Iterator[Ground]:
    """On a file, as in production."""
    yield from _opened(tmp_path, "sqlite")


@pytest.fixture(params=["sqlite", "memory"])
def both(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ground]:
    """On a file and in memory."""
    yield from _opened(tmp_path, request.param)


@pytest.fixture(params=["memory", "postgresql"])
def each(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ground]:
    """On both kinds of database."""
    yield from _opened(tmp_path, request.param)


@pytest.fixture(params=["sqlite", "postgresql"])
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ground]:
    """On both kinds of database that several processes may open."""
    yield from _opened(tmp_path, request.param)


def _opened(folder: Path, kind: str) -> Iterator[Ground]:
    with place(kind, folder) as where:
        opened = Ground(folder, where=where)
        try:
            yield opened
        finally:
            opened.close()
