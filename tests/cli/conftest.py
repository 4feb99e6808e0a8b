# SPDX-License-Identifier: Apache-2.0
"""One service for the commands of a module, and a way to type them."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from demo.service import SEAWALL, Seawall
from tests.e2e.conftest import data_folder

WIDTH = 80


@dataclass(frozen=True)
class Typed:
    """What a command has answered."""

    code: int
    out: str
    err: str


class Terminal:
    """Types commands at a terminal of 80 columns."""

    def __init__(self, data: Path) -> None:
        self.data = data

    def type(self, *words: str, given: str | None = None) -> Typed:
        """A command, whatever comes of it."""
        done = subprocess.run(
            [str(SEAWALL), *words],
            env={**os.environ, "SEAWALL_DATA_DIR": str(self.data), "COLUMNS": str(WIDTH)},
            input=given,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return Typed(done.returncode, done.stdout, done.stderr)

    def run(self, *words: str) -> str:
        """A command that must do it; what it says."""
        done = self.type(*words)
        assert done.code == 0, done.err
        return done.out

    def json(self, *words: str) -> Any:
        """The same, as JSON."""
        return json.loads(self.run(*words, "-o", "json"))


@pytest.fixture(scope="module")
def terminal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terminal]:
    """A terminal beside a running service."""
    folder = tmp_path_factory.mktemp("cli")
    served = Seawall(data_folder(folder / "data"))
    served.start()
    yield Terminal(served.data)
    served.kill()


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory and a database beside it."""
    folder = tmp_path_factory.mktemp("source") / "papers"
    folder.mkdir()
    (folder / "a").write_text("alpha")
    (folder / "b").write_bytes(bytes(1000))
    with sqlite3.connect(folder.parent / "app.db") as connection:
        connection.execute("CREATE TABLE t (x)")
    connection.close()
    return folder
