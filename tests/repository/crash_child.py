# SPDX-License-Identifier: Apache-2.0
"""A process to be killed: does one thing with a repository: ``... <act> <repository> <path>``."""

from __future__ import annotations

import sys
from datetime import datetime
from pathlib import Path

from seawall.repository import Repository, locks
from tests.repository.banks import FolderBank
from tests.repository.conftest import NOW, PASSWORD, commit


def main(act: str, repository: Path, path: Path) -> None:
    """``init``, ``save``, ``save-locked``, ``restore``, ``forget``, ``keys``, ``repair``; ``prune...``.

    The path of a prune is a time.
    """
    bank = FolderBank(repository)
    if act == "init":
        Repository.init(bank, passwords=[PASSWORD], now=NOW)
        return
    opened = Repository.open(bank, password=PASSWORD, now=NOW)
    if act.startswith("prune"):
        now = datetime.fromisoformat(str(path))
        lock = opened.lock(now=now, exclusive=act == "prune-exclusive", task=locks.PRUNE)
        opened.prune(lock, clock=lambda: now, max_unused=0.0)
        lock.release()
        return
    if act == "save":
        commit(opened, path)
    elif act == "save-locked":
        lock = opened.lock(now=NOW)
        commit(opened, path)
        lock.release()
    elif act == "restore":
        opened.restore(opened.snapshots()[-1].tree, path)
    elif act == "forget":
        opened.forget(opened.snapshots()[-1].id)
    elif act == "repair":
        opened.repair(opened.lock(now=NOW, exclusive=True), clock=lambda: NOW, read_data=True)
    elif act == "keys":
        opened.remove_key(opened.add_key("another"))
    else:
        raise ValueError(act)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
