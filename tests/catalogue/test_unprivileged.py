# SPDX-License-Identifier: Apache-2.0
"""What this service may not read or write is refused when it is asked for, not when the backup is due."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]


@pytest.mark.skipif(os.geteuid() != 0, reason="drops privileges in a child, which only root can")
def test_closed_places_are_refused_with_the_reason(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    for folder in (tmp_path, *tmp_path.parents):  # nobody must reach the folder at all
        if folder.stat().st_uid == os.geteuid() and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o011)
    done = subprocess.run(
        [sys.executable, "-m", "tests.catalogue.unprivileged_child", str(own)],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    closed, inside, database, target = json.loads(done.stdout)
    for said, path in ((closed, "closed"), (inside, "closed/inner"), (database, "app.db")):
        assert f"{own}/srv/{path}" in said
        assert "cannot be read by this service: Permission denied" in said
    assert "restore_target" in target
    assert "no right to write" in target
