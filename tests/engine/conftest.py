# SPDX-License-Identifier: Apache-2.0
"""An engine on a fake clock: real SQLite, real loops, real executors."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine.ground import Ground


@pytest.fixture
def ground(tmp_path: Path) -> Iterator[Ground]:
    """On a file, as in production."""
    opened = Ground(tmp_path, where=tmp_path / "seawall.db")
    yield opened
    opened.close()


@pytest.fixture(params=["file", "memory"])
def both(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ground]:
    """On a file and in memory."""
    opened = Ground(tmp_path, where=tmp_path / "seawall.db" if request.param == "file" else None)
    yield opened
    opened.close()
