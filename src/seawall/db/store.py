# SPDX-License-Identifier: Apache-2.0
"""What ``session.Database`` asks of the database below it; answered by ``sqlite`` and ``postgresql``."""

from __future__ import annotations

import enum
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any, Protocol

import orjson
import sqlalchemy as sa

from seawall.core.errors import SeawallError


class Mode(enum.Enum):
    """What a transaction is begun for."""

    READ = enum.auto()
    """One consistent view."""
    SERIAL = enum.auto()
    """A write that is as if no other ran beside it."""
    ROWS = enum.auto()
    """A write that locks the rows it decides upon; others run beside it where the database can."""
    EXCLUSIVE = enum.auto()
    """A change of the tables themselves: one process at a time."""


class Fault(enum.Enum):
    """What an error means for the transaction that it was met in."""

    OWN = enum.auto()
    """It is the business of whoever raised it; the others of the group go on."""
    CONFLICT = enum.auto()
    """Another transaction came in between: nothing was done, and it is tried again."""
    DUPLICATE = enum.auto()
    """A unique key is taken. Perhaps by a transaction that ran beside this one, which a second try sees."""
    LOST = enum.auto()
    """The whole transaction is lost: the database is away, full or locked."""


class Store(Protocol):
    """One kind of database."""

    engine: sa.Engine
    row_writers: int
    """How many threads write in ``Mode.ROWS`` beside the one that writes serially; 0 when that does both."""

    def open(self) -> AbstractContextManager[sa.Connection]:
        """A connection outside of any transaction."""
        ...

    def begin(self, connection: sa.Connection, mode: Mode) -> None: ...

    def rollback(self, connection: sa.Connection) -> None:
        """Undo what was begun. Never raises: a transaction that is gone already is as undone as can be."""
        ...

    def now(self, connection: sa.Connection) -> datetime:
        """The instant by the clock that decides."""
        ...

    def wake(self, connection: sa.Connection, sender: str) -> None:
        """Tell the other processes, once this transaction is committed, that there may be work."""
        ...

    def judge(self, error: BaseException) -> Fault: ...

    def translate(self, error: BaseException, what: str) -> SeawallError | None:
        """The error to show for one of the database's; None when it is not the database that failed."""
        ...


def dumps(value: Any) -> str:
    """A document as it is stored."""
    return orjson.dumps(value).decode()
