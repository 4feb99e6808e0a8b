# SPDX-License-Identifier: Apache-2.0
"""A process that plans and restores as nobody and prints what it met, as JSON: ``... <folder>``."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from seawall.core.errors import InvalidInputError
from seawall.core.records import Json
from tests.catalogue.ground import Ground
from tests.catalogue.test_checkpoints import ask, finish
from tests.catalogue.test_plans import create
from tests.catalogue.test_restores import restore


def main(folder: Path) -> None:
    """Make an installation that belongs to nobody, become nobody, then ask for what is closed."""
    ground = Ground(folder)
    good, closed, database = ground.directory(), ground.directory("closed"), ground.sqlite()
    # Once before, for everything is imported then: the sources of Python itself may be closed to nobody.
    checkpoint = finish(ground, ask(ground, create(ground, good)))
    for path in (folder, *folder.rglob("*")):
        os.chown(path, 65534, 65534)
    os.setgroups([])
    os.setresgid(65534, 65534, 65534)
    os.setresuid(65534, 65534, 65534)
    inside = {"type": "directory", "id": closed["id"] + "/inner", "name": "inner"}
    Path(inside["id"]).mkdir()
    Path(closed["id"]).chmod(0)
    Path(database["id"]).chmod(0)
    said = [plan_faults(ground, one) for one in (closed, inside, database)]
    Path(good["id"]).chmod(0o500)
    try:
        restore(ground, checkpoint, good["id"] + "/new")
    except InvalidInputError as error:
        said.append(str(error))
    ground.database.close()
    for path in (closed["id"], good["id"]):
        Path(path).chmod(0o700)
    sys.stdout.write(json.dumps(said))


def plan_faults(ground: Ground, resource: Json) -> str:
    try:
        create(ground, resource)
    except InvalidInputError as error:
        return str(error)
    return "it was accepted"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
