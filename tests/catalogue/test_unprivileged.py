# SPDX-License-Identifier: Apache-2.0
"""What this service may not read or write is refused when it is asked for, not when the backup is due."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]


@pytest.mark.skipif(os.geteuid() != 0, reason="drops privileges in a child, which only root can")
def test_closed_places_are_refused_with_the_reason() -> None:
    # Not below pytest's own folder: every other pytest that starts closes that one to others again.
    with tempfile.TemporaryDirectory(prefix="seawall-") as folder:
        own = Path(folder)
        done = subprocess.run(
            [sys.executable, "-m", "tests.catalogue.unprivileged_child", folder],
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
