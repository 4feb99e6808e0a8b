# SPDX-License-Identifier: Apache-2.0
"""Migrations: bring a database to the tables of this code, one revision file a change.

Called by ``wiring`` at every start. Guarantees that a database is upgraded whole or not at all, by one
process at a time, and that one written by newer code is refused untouched. A revision file is never edited
once it was released; it names its tables by itself and imports nothing of Seawall.
"""

from __future__ import annotations

import re
from pathlib import Path

import sqlalchemy as sa

from seawall.core.errors import StateError
from seawall.db.session import Database

_VERSIONS = Path(__file__).with_name("versions")


def revisions() -> list[str]:
    """The revisions that this code knows, oldest first: the numbers that their files begin with."""
    return sorted(found[1] for path in _VERSIONS.glob("*.py") if (found := re.match(r"(\d{4})_", path.name)))


def current(connection: sa.Connection) -> str | None:
    """The revision of a database; None when it is empty."""
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    found = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar_one_or_none()
    return None if found is None else str(found)


def upgrade(database: Database) -> bool:
    """Bring the database to the newest revision; whether there was anything to do.

    All of it is one write transaction: if the process dies here, the former tables are as they were.
    ``StateError`` when the database was written by newer code.
    """
    if database.read(_is_up_to_date):
        return False
    with database.exclusive("migrations.upgrade") as connection:
        # Another process may have upgraded while we waited.
        if has_work := not _is_up_to_date(connection):
            _run(connection)
    return has_work


def _is_up_to_date(connection: sa.Connection) -> bool:
    known = revisions()
    found = current(connection)
    if found is not None and found not in known:
        raise StateError(
            f"the database is at revision {found}, this Seawall knows revisions up to {known[-1]} only",
            hint="it was written by a newer Seawall: install that one, or use another data folder",
        )
    return found == known[-1]


def _run(connection: sa.Connection) -> None:
    # Imported here: a start that finds its database up to date, nearly every one, does not need Alembic.
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
