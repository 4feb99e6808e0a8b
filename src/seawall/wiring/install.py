# SPDX-License-Identifier: Apache-2.0
"""The first start, and every later one: an installation is made of its data folder.

One process at a time sets up (a lock file). Every step can be repeated: a start that was killed half way is
finished by the next one, and nothing that exists is ever made anew. The recovery kit is written before the
first byte can be protected (I9, I10).
"""

from __future__ import annotations

from dataclasses import dataclass

from seawall.core.errors import NotFoundError
from seawall.core.records import Provider
from seawall.db import audit, projects, tokens
from seawall.db.migrations import upgrade
from seawall.db.session import Database, Tx
from seawall.protection import allowlist, providers, recovery_kit, repositories
from seawall.runtime.config import Settings
from seawall.runtime.folder import write_private
from seawall.runtime.lifecycle import exclusive
from seawall.runtime.secrets import InstallKey
from seawall.sdk.clock import Clock

ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Installation:
    """What a data folder holds, opened."""

    settings: Settings
    database: Database
    clock: Clock
    install_key: InstallKey
    project_id: str
    """The admin project."""
    is_new: bool


def open_installation(settings: Settings, clock: Clock) -> Installation:
    """Open the data folder, and make what it lacks. ``database`` is the caller's to close."""
    folder = settings.folder
    folder.create()
    with exclusive(folder.lock("setup")):
        install_key = InstallKey.load_or_create(folder.install_key)
        database = Database(settings.database, clock)
        try:
            upgrade(database)
            project_id, is_new = database.write("install.project", _ensure_project)
            _ensure_token(settings, database, project_id)
            default = providers.ensure_default(folder)
            if is_new and default is not None:
                # Only now: a bank's folder that is gone later is perhaps not mounted, and never made anew.
                folder.bank.mkdir(mode=0o700, exist_ok=True)
            allowlist.ensure_default(folder.projects, ADMIN)
            _ensure_kit(settings, database, install_key, default, project_id)
        except BaseException:
            database.close()
            raise
    return Installation(settings, database, clock, install_key, project_id, is_new)


def _ensure_project(tx: Tx) -> tuple[str, bool]:
    try:
        return projects.find(tx.connection, ADMIN), False
    except NotFoundError:
        project_id = projects.create(tx, ADMIN)
        audit.record(tx, None, "create", "project", project_id, {"name": ADMIN})
        return project_id, True


def _ensure_token(settings: Settings, database: Database, project_id: str) -> None:
    """An admin token in a file of the owner. If the process dies between file and row, the next start finds
    a file whose token lets nobody in, and lets it in."""
    path = settings.folder.admin_token
    try:
        token = path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        token = tokens.new_token()
        write_private(path, token + "\n")

    def let_in(tx: Tx) -> None:
        if tokens.find(tx.connection, token, tx.now) is None:
            tokens.create(tx, token=token, name="admin", project_id=project_id, user_id=ADMIN, role="admin")
            audit.record(tx, None, "create", "token", "admin")

    if database.read(lambda connection: tokens.find(connection, token, database.clock.now())) is None:
        database.write("install.token", let_in)


def _ensure_kit(
    settings: Settings,
    database: Database,
    install_key: InstallKey,
    default: Provider | None,
    project_id: str,
) -> None:
    """The default provider's repository gets its password and recovery key now; the kit names them."""
    if default is not None:
        repositories.ensure(database, install_key, provider_id=default.id, project_id=project_id)
    recovery_kit.ensure(
        settings.folder.recovery_kit, database, install_key, [] if default is None else [default]
    )
