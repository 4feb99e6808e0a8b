# SPDX-License-Identifier: Apache-2.0
"""A process that recovers and prints what came back: ``... <data folder> <bank> <file with the kit>``."""

from __future__ import annotations

import sys
from pathlib import Path

from seawall.core.errors import ConflictError
from seawall.db.migrations import upgrade
from seawall.db.session import Database
from seawall.protection.recover import recover
from seawall.runtime.clock import SystemClock
from seawall.runtime.folder import DataFolder
from seawall.runtime.registry import load_plugins
from seawall.runtime.secrets import InstallKey
from tests.catalogue.ground import BANKS


def main(path: Path, bank: Path, kit: Path) -> None:
    """The steps of the command, without its set-up lock."""
    data = DataFolder(path)
    data.create()
    install_key = InstallKey.load_or_create(data.install_key)
    database = Database(data.database, SystemClock())
    upgrade(database)
    banks = load_plugins(BANKS, installed=lambda group: ())
    try:
        found = recover(data, database, install_key, banks, bank=bank, key_text=kit.read_text(), host="there")
        sys.stdout.write(f"{found.checkpoints} {len(found.faults)}")
    except ConflictError:
        sys.stdout.write("already")
    database.close()


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
