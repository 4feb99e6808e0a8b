# SPDX-License-Identifier: Apache-2.0
"""Leases by name: readers of a checkpoint (many at once), and targets of the clean-up (one at a time).

A lease ends by itself; whoever died holds nothing for long.
"""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa

from seawall.db.dialect import insert
from seawall.db.session import Tx
from seawall.db.tables import leases


def acquire(
    tx: Tx,
    name: str,
    holder: str,
    until: datetime,
    *,
    service_row: int | None = None,
    is_shared: bool = False,
) -> bool:
    """Hold ``name`` until then; False when somebody else holds it and it is not shared. May be repeated."""
    if not is_shared and any(one != holder for one in holders(tx.connection, name, tx.now)):
        return False
    statement = insert(tx.connection, leases).values(
        name=name, holder=holder, until_at=until, service_row=service_row
    )
    tx.connection.execute(
        statement.on_conflict_do_update(
            index_elements=["name", "holder"],
            set_={"until_at": statement.excluded.until_at, "service_row": service_row},
        )
    )
    return True


def release(tx: Tx, name: str, holder: str) -> None:
    """Give it up; one that is not held is no error."""
    tx.connection.execute(leases.delete().where(leases.c.name == name, leases.c.holder == holder))


def holders(connection: sa.Connection, name: str, now: datetime) -> list[str]:
    """Who holds it now."""
    query = sa.select(leases.c.holder).where(leases.c.name == name, leases.c.until_at > now)
    return list(connection.execute(query).scalars())


def held(connection: sa.Connection, name: str, now: datetime) -> bool:
    """Whether anybody holds it now."""
    return bool(holders(connection, name, now))


def remove_ended(tx: Tx) -> int:
    """Remove leases that have ended; how many."""
    return tx.connection.execute(leases.delete().where(leases.c.until_at <= tx.now)).rowcount
