# SPDX-License-Identifier: Apache-2.0
"""A process that protects a plan by a run of its own: ``... <folder> <plan id> <run id>``.

The failpoints of its environment are those of its movers too; ``killgroup`` ends them all, as a power cut.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from seawall.sdk.failpoints import failpoint
from seawall.sdk.operation import Json
from seawall.sdk.testing.operation_suite import MemoryContext, MemoryJournal
from tests.protection.conftest import Side, open_side


class FileJournal(MemoryJournal):
    """Steps in files, so that another process can go on."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder
        folder.mkdir(exist_ok=True)

    def get(self, step: str) -> Json | None:
        path = self._folder / step
        return dict(json.loads(path.read_text())) if path.exists() else None

    def record(self, step: str, data: Mapping[str, Any]) -> None:
        (self._folder / step).write_text(json.dumps(dict(data)))
        failpoint("test.journal.after_record")


def run_context(side: Side, run_id: str) -> MemoryContext:
    """The context of a run that several processes work on, one after the other."""
    context = side.context()
    context.run_id = run_id
    context.journal = FileJournal(side.folder / "journal")
    return context


def main(folder: Path, plan_id: str, run_id: str) -> None:
    with open_side(folder) as side:
        side.engine.protect(run_context(side, run_id), plan_id=plan_id, provider_id=side.provider_id)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
