# SPDX-License-Identifier: Apache-2.0
"""A process that backs up a folder as nobody and prints what it met, as JSON: ``... <folder>``."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from tests.repository.banks import DictBank
from tests.repository.conftest import OpenLock, fresh


def main(root: Path) -> None:
    """Drop all privileges, then save."""
    writer = fresh(DictBank()).writer(OpenLock())
    os.setgroups([])
    os.setresgid(65534, 65534, 65534)
    os.setresuid(65534, 65534, 65534)
    with writer:
        result = writer.save_path(root)
    sys.stdout.write(json.dumps([result.items, [[fault.path, fault.reason] for fault in result.faults]]))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
