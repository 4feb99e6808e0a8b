# SPDX-License-Identifier: Apache-2.0
"""``seawall serve`` as a process of its own, on a fresh data folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from demo.service import Seawall

# Small intervals, so that what happens in minutes happens in seconds; nothing else differs.
SETTINGS = """\
min_interval_s: 1
cleanup_interval_s: 1
lease_s: 2
heartbeat_s: 0.5
poll_s: 0.2
"""

Serve = Callable[..., Seawall]


def data_folder(path: Path, settings: str = SETTINGS) -> Path:
    """A data folder with settings, before its first start."""
    path.mkdir(mode=0o700)
    (path / "seawall.yaml").write_text(settings)
    return path


@pytest.fixture
def seawall(tmp_path: Path) -> Iterator[Seawall]:
    """A running one; it is killed at the end."""
    served = Seawall(data_folder(tmp_path / "data"))
    served.start()
    yield served
    served.kill()
