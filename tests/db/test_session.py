# SPDX-License-Identifier: Apache-2.0
"""The group-commit writer: what is answered is durable, and what raises undoes only itself."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from seawall.core.errors import DatabaseUnavailableError, InvalidInputError, StateError
from seawall.db.session import Database, Tx
from seawall.db.tables import metadata, projects
from seawall.sdk.testing.clock import FakeClock
from tests.support.databases import opened


def add(name: str) -> sa.Insert:
    return projects.insert().values(id=str(uuid.uuid4()), name=name, created_at=FakeClock().now())


def names(database: Database) -> list[str]:
    return list(database.read(lambda c: c.execute(sa.select(projects.c.name).order_by("name")).scalars()))


@pytest.fixture(params=["sqlite", "memory", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    with opened(request.param, tmp_path, FakeClock()) as database:
        yield database


def test_write_is_seen_by_a_read_after_its_answer(database: Database) -> None:
    """What a caller was told is done can be read by everybody."""
    database.write("test.add", lambda tx: tx.connection.execute(add("one")))

    assert names(database) == ["one"]


def test_work_that_raises_undoes_only_itself(database: Database) -> None:
    """One refused request never takes another's change with it, even in the same commit."""
    entered, go_on = threading.Event(), threading.Event()

    def hold(tx: Tx) -> None:
        entered.set()
        go_on.wait(10)

    def refuse(tx: Tx) -> None:
        tx.connection.execute(add("refused"))
        raise InvalidInputError.of("name", "refused", "is refused")

    first = database.submit("test.hold", hold)
    entered.wait(10)
    before = database.submit("test.add", lambda tx: tx.connection.execute(add("before")))
    refused = database.submit("test.refuse", refuse)
    after = database.submit("test.add", lambda tx: tx.connection.execute(add("after")))
    go_on.set()

    first.result(10), before.result(10), after.result(10)
    with pytest.raises(InvalidInputError, match="name: 'refused' is refused"):
        refused.result(10)
    assert names(database) == ["after", "before"]


def test_after_commit_runs_only_for_what_was_committed(database: Database) -> None:
    """A wake-up is sent for a change that is there, and for no other."""
    woken: list[str] = []

    def good(tx: Tx) -> None:
        tx.after_commit(lambda: woken.append("good"))

    def bad(tx: Tx) -> None:
        tx.after_commit(lambda: woken.append("bad"))
        raise StateError("no")

    database.write("test.good", good)
    with pytest.raises(StateError):
        database.write("test.bad", bad)
    database.write("test.flush", lambda tx: None)

    assert woken == ["good"]


def test_write_inside_a_write_is_refused(database: Database) -> None:
    """A programming error that would wait for itself for ever is an error at once."""

    def nested(tx: Tx) -> None:
        database.write("test.inner", lambda inner: None)

    with pytest.raises(StateError, match="inside a write"):
        database.write("test.outer", nested)


def test_close_finishes_what_is_queued_and_refuses_more(tmp_path: Path) -> None:
    """A service that stops loses nothing that it has accepted."""
    database = Database(tmp_path / "seawall.db", FakeClock())
    metadata.create_all(database.engine)

    def insert(row: sa.Insert) -> Callable[[Tx], object]:
        return lambda tx: tx.connection.execute(row)

    futures = [database.submit("test.add", insert(add(f"{number:03}"))) for number in range(100)]
    database.close()

    assert all(future.done() and future.exception() is None for future in futures)
    with pytest.raises(StateError):
        database.write("test.add", lambda tx: None)
    with sqlite3.connect(tmp_path / "seawall.db") as connection:
        assert connection.execute("SELECT count(*) FROM projects").fetchone() == (100,)
    connection.close()


def test_read_is_one_consistent_view(tmp_path: Path) -> None:
    """A list and its count, read together, are of the same moment."""
    database = Database(tmp_path / "seawall.db", FakeClock())
    metadata.create_all(database.engine)
    count = sa.select(sa.func.count()).select_from(projects)
    with database.connection() as connection:
        assert connection.execute(count).scalar() == 0
        database.write("test.add", lambda tx: tx.connection.execute(add("meanwhile")))
        assert connection.execute(count).scalar() == 0
    assert names(database) == ["meanwhile"]
    database.close()


def test_locked_database_is_a_clear_error_and_heals(tmp_path: Path) -> None:
    """When the database cannot take a write, the caller is told so; once it can, writes go on."""
    path = tmp_path / "seawall.db"
    database = Database(path, FakeClock(), busy_timeout_ms=10)
    metadata.create_all(database.engine)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(DatabaseUnavailableError, match="does not take writes: database is locked"):
        database.write("test.add", lambda tx: tx.connection.execute(add("one")))
    other.execute("ROLLBACK")
    other.close()
    database.write("test.add", lambda tx: tx.connection.execute(add("two")))

    assert names(database) == ["two"]
    database.close()


def test_wrong_statement_spares_the_others(database: Database) -> None:
    """A statement that is wrong is an error of its own caller alone."""
    with pytest.raises(sa.exc.DBAPIError, match="nowhere"):
        database.write("test.wrong", lambda tx: tx.connection.exec_driver_sql("SELECT 1 FROM nowhere"))
    database.write("test.add", lambda tx: tx.connection.execute(add("one")))

    assert names(database) == ["one"]


_CHILD = """
import sys, uuid
from pathlib import Path
from seawall.db.session import Database
from seawall.db.tables import metadata, projects
from seawall.sdk.testing.clock import FakeClock
database = Database(Path(sys.argv[1]), FakeClock())
metadata.create_all(database.engine)
row = projects.insert().values(id=str(uuid.uuid4()), name="x", created_at=FakeClock().now())
database.write("test.add", lambda tx: tx.connection.execute(row))
"""


@pytest.mark.parametrize(("point", "rows"), [("test.add.before_commit", 0), ("test.add.after_commit", 1)])
def test_kill_around_the_commit_leaves_all_or_nothing(tmp_path: Path, point: str, rows: int) -> None:
    """A power cut before the commit leaves nothing of a change, one after it leaves the whole."""
    child = subprocess.run(
        [sys.executable, "-c", _CHILD, str(tmp_path / "seawall.db")],
        env={**os.environ, "SEAWALL_FAILPOINTS": f"{point}=kill"},
        check=False,
    )

    assert child.returncode == -signal.SIGKILL
    connection = sqlite3.connect(tmp_path / "seawall.db")
    assert (rows,) == connection.execute("SELECT count(*) FROM projects").fetchone()
    connection.close()
