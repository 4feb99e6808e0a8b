# SPDX-License-Identifier: Apache-2.0
"""The database is full, gone, stopped or in use: what the caller is told, and that it goes on afterwards."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa
from psycopg import errors as pg

from seawall.core.errors import ConfigurationError, DamagedError, DatabaseUnavailableError, StateError
from seawall.db.postgresql import server_now
from seawall.db.session import Database, Tx
from seawall.db.tables import install, metadata, projects
from seawall.runtime.clock import SystemClock
from seawall.runtime.database_url import DatabaseUrl
from seawall.sdk.failpoints import FailpointError, arm
from seawall.sdk.testing.clock import FakeClock
from tests.support.databases import KINDS, opened, postgresql_database

WAIT_S = 20


def add(tx: Tx, name: str) -> None:
    tx.connection.execute(projects.insert().values(id=str(uuid.uuid4()), name=name, created_at=tx.now))


def names(database: Database) -> list[str]:
    return list(database.read(lambda c: c.execute(sa.select(projects.c.name).order_by("name")).scalars()))


@pytest.fixture(params=KINDS)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    with opened(request.param, tmp_path, FakeClock()) as made:
        yield made


@pytest.fixture
def url() -> Iterator[DatabaseUrl]:
    with postgresql_database() as found:
        yield found


@pytest.fixture
def server(url: DatabaseUrl) -> Iterator[Database]:
    made = Database(url, SystemClock())
    metadata.create_all(made.engine)
    yield made
    made.close()


@pytest.fixture(autouse=True)
def _disarm() -> Iterator[None]:
    yield
    arm("")


def terminate(connection: sa.Connection, url: DatabaseUrl) -> None:
    """Cut a connection as a server that stops would."""
    pid = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
    with psycopg.connect(url.address, autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s, 20000)", (pid,))


# --- both ----------------------------------------------------------------------------------------


def test_writes_that_wait_together_are_answered_together(database: Database) -> None:
    """Those that queue up behind a slow one share one commit."""
    entered, go_on = threading.Event(), threading.Event()
    transactions: set[int] = set()

    def hold(tx: Tx) -> None:
        entered.set()
        go_on.wait(WAIT_S)

    def count(tx: Tx) -> None:
        transactions.add(id(tx.connection))
        add(tx, str(uuid.uuid4()))

    first = database.submit("test.hold", hold)
    entered.wait(WAIT_S)
    futures = [database.submit("test.add", count) for _ in range(50)]
    go_on.set()
    first.result(WAIT_S)
    for future in futures:
        future.result(WAIT_S)

    assert len(transactions) == 1
    assert len(names(database)) == 50


def test_a_failpoint_that_raises_before_the_commit_leaves_nothing(database: Database) -> None:
    arm("test.add.before_commit=raise")
    with pytest.raises(FailpointError):
        database.write("test.add", lambda tx: add(tx, "one"))
    database.write("test.add", lambda tx: add(tx, "two"))

    assert names(database) == ["two"]


def test_a_failpoint_that_raises_after_the_commit_leaves_the_whole(database: Database) -> None:
    arm("test.add.after_commit=raise")
    with pytest.raises(FailpointError):
        database.write("test.add", lambda tx: add(tx, "one"))
    database.write("test.add", lambda tx: add(tx, "two"))

    assert names(database) == ["one", "two"]


def test_a_callback_that_fails_takes_nothing_with_it(database: Database) -> None:
    """The change is durable already, and the next one is written, too."""

    def fail() -> None:
        raise RuntimeError("somebody else's bug")

    def add_and_fail(tx: Tx) -> None:
        add(tx, "one")
        tx.after_commit(fail)

    database.write("test.add", add_and_fail)
    database.write("test.add", lambda tx: add(tx, "two"))

    assert names(database) == ["one", "two"]


def test_a_write_that_its_caller_gave_up_is_not_begun(database: Database) -> None:
    entered, go_on = threading.Event(), threading.Event()

    def hold(tx: Tx) -> None:
        entered.set()
        go_on.wait(WAIT_S)

    first = database.submit("test.hold", hold)
    entered.wait(WAIT_S)
    given_up = database.submit("test.add", lambda tx: add(tx, "given up"))
    assert given_up.cancel()
    go_on.set()
    first.result(WAIT_S)
    database.write("test.add", lambda tx: add(tx, "two"))

    assert names(database) == ["two"]


def test_a_closed_database_refuses_reads_and_writes(database: Database) -> None:
    database.close()
    database.close()

    with pytest.raises(StateError, match="closed"):
        names(database)
    with pytest.raises(StateError, match="closed"):
        database.write("test.add", lambda tx: add(tx, "one"))


def test_a_taken_key_is_the_callers_own_error(database: Database) -> None:
    database.write("test.add", lambda tx: add(tx, "one"))
    with pytest.raises(sa.exc.IntegrityError):
        database.write("test.add", lambda tx: add(tx, "one"))
    database.write("test.add", lambda tx: add(tx, "two"))

    assert names(database) == ["one", "two"]


# --- SQLite --------------------------------------------------------------------------------------


def test_a_full_disk_is_a_clear_error_and_heals(tmp_path: Path) -> None:
    """What does not fit is refused whole; what was there stays, and with space writes go on."""
    with opened("sqlite", tmp_path, FakeClock()) as database:
        database.write("test.add", lambda tx: add(tx, "one"))

        def limit(pages: int) -> None:
            # The writer's connection is the one that the pool hands out next.
            with database.engine.connect() as connection:
                connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")

        def fill(tx: Tx) -> None:
            add(tx, "half of it")
            tx.connection.execute(install.insert().values(name="big", value="x" * 4_000_000))

        limit(1)  # as small as it may be: what it has now
        with pytest.raises(DatabaseUnavailableError, match="does not take writes: .*full"):
            database.write("test.fill", fill)
        assert names(database) == ["one"]
        limit(1_000_000)
        database.write("test.fill", fill)

        assert names(database) == ["half of it", "one"]


def test_a_damaged_file_says_so(tmp_path: Path) -> None:
    (tmp_path / "seawall.db").write_bytes(b"this is no database" * 400)
    database = Database(tmp_path / "seawall.db", FakeClock())
    with pytest.raises(DamagedError, match="damaged"):
        names(database)
    database.close()


# --- PostgreSQL ----------------------------------------------------------------------------------


def test_a_connection_lost_in_a_write_leaves_nothing_and_heals(server: Database, url: DatabaseUrl) -> None:
    def cut(tx: Tx) -> None:
        add(tx, "half of it")
        terminate(tx.connection, url)
        add(tx, "never")

    with pytest.raises(DatabaseUnavailableError, match="does not take writes"):
        server.write("test.cut", cut)
    server.write("test.add", lambda tx: add(tx, "two"))

    assert names(server) == ["two"]


def test_a_connection_lost_at_the_commit_says_that_the_outcome_is_unknown(
    server: Database, url: DatabaseUrl
) -> None:
    def cut(tx: Tx) -> None:
        add(tx, "perhaps")
        terminate(tx.connection, url)

    with pytest.raises(DatabaseUnavailableError, match="may or may not have been made"):
        server.write("test.cut", cut)
    assert names(server) == []


def test_a_connection_lost_in_a_read_is_a_clear_error_and_heals(server: Database, url: DatabaseUrl) -> None:
    def cut(connection: sa.Connection) -> None:
        terminate(connection, url)
        connection.execute(sa.select(projects))

    with pytest.raises(DatabaseUnavailableError, match="does not answer"):
        server.read(cut)
    assert names(server) == []


def test_all_connections_may_be_cut_while_nobody_uses_them(server: Database, url: DatabaseUrl) -> None:
    """A server that was restarted costs nobody an error."""
    with server.connection() as one, server.connection() as two:
        assert one is not two
    server.write("test.add", lambda tx: add(tx, "one"))
    with psycopg.connect(url.address, autocommit=True) as other:
        other.execute(
            "SELECT pg_terminate_backend(pid, 20000) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )

    assert names(server) == ["one"]
    server.write("test.add", lambda tx: add(tx, "two"))
    server.write("test.add", lambda tx: add(tx, "three"), locks_rows=True)
    assert names(server) == ["one", "three", "two"]


def test_a_server_that_is_not_there_is_a_clear_error_without_the_password() -> None:
    url = DatabaseUrl.parse("postgresql://somebody:hunter2@127.0.0.1:1/name")
    database = Database(url, SystemClock())
    with pytest.raises(DatabaseUnavailableError) as refused:
        database.write("test.add", lambda tx: None)
    with pytest.raises(DatabaseUnavailableError):
        names(database)
    database.close()

    shown = f"{refused.value} {refused.value!r} {refused.value.__cause__} {url} {url!r} {database.engine!r}"
    assert "hunter2" not in shown
    assert "refused" in str(refused.value)


def test_an_unknown_option_of_the_address_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="database_url: .*sslmod"):
        Database(DatabaseUrl.parse("postgresql://one@127.0.0.1/name?sslmod=require"), SystemClock())


def test_two_that_look_and_then_act_are_as_if_one_after_the_other(url: DatabaseUrl) -> None:
    """Serialisable: the second sees what the first did, for it is tried again."""
    one, two = Database(url, SystemClock()), Database(url, SystemClock())
    metadata.create_all(one.engine)
    both_have_looked = threading.Barrier(2)
    calls: list[str] = []

    def first_come(me: str) -> Callable[[Tx], bool]:
        def look_and_act(tx: Tx) -> bool:
            calls.append(me)
            is_free = tx.connection.execute(sa.select(projects.c.row)).first() is None
            if calls.count(me) == 1:
                both_have_looked.wait(WAIT_S)
            if is_free:
                add(tx, me)
            return is_free

        return look_and_act

    answers = [
        one.submit("test.look", first_come("one")),
        two.submit("test.look", first_come("two")),
    ]
    assert sorted(bool(answer.result(WAIT_S)) for answer in answers) == [False, True]
    assert len(names(one)) == 1
    assert len(calls) >= 3  # the one that lost looked again, once or more
    one.close()
    two.close()


def test_what_always_conflicts_is_given_up(server: Database) -> None:
    calls: list[int] = []

    def never(tx: Tx) -> None:
        calls.append(1)
        raise pg.SerializationFailure("others came in between")

    with pytest.raises(DatabaseUnavailableError, match=r"did not get test\.never done beside other writes"):
        server.write("test.never", never)
    assert len(calls) == 12


def test_writes_that_lock_their_rows_run_side_by_side(server: Database) -> None:
    """One that waits for something slow holds up no other."""
    entered, go_on = threading.Event(), threading.Event()

    def hold(tx: Tx) -> None:
        add(tx, "slow")
        entered.set()
        go_on.wait(WAIT_S)

    slow = server.submit("test.hold", hold, locks_rows=True)
    entered.wait(WAIT_S)
    server.submit("test.add", lambda tx: add(tx, "quick"), locks_rows=True).result(WAIT_S)
    server.submit("test.add", lambda tx: add(tx, "serial")).result(WAIT_S)
    assert names(server) == ["quick", "serial"]
    go_on.set()
    slow.result(WAIT_S)


def test_a_commit_is_durable_though_the_server_would_not_wait(url: DatabaseUrl) -> None:
    with psycopg.connect(url.address, autocommit=True) as other:
        name = other.info.dbname
        other.execute(f"ALTER DATABASE {name} SET synchronous_commit = off")
    database = Database(url, SystemClock())
    found = database.read(lambda c: c.exec_driver_sql("SHOW synchronous_commit").scalar_one())
    database.close()

    assert found == "on"


def test_the_instant_of_a_write_is_the_servers_and_may_jump(url: DatabaseUrl) -> None:
    """Hosts whose clocks differ agree; a jump of the server's clock is felt at once."""
    jump = timedelta()
    wrong = FakeClock(datetime(1999, 1, 1, tzinfo=UTC))
    database = Database(url, wrong, now=lambda connection: server_now(connection) + jump)
    before = database.write("test.now", lambda tx: tx.now)
    assert before.tzinfo is UTC
    assert before.year > 2025
    jump = timedelta(hours=-3)
    after = database.write("test.now", lambda tx: tx.now)
    assert timedelta(hours=-3, minutes=-1) < after - before < timedelta(hours=-2, minutes=-58)
    assert abs(database.read(database.now) - after) < timedelta(minutes=1)
    database.close()


def test_a_database_in_another_encoding_is_refused(url: DatabaseUrl) -> None:
    name = f"seawall_test_{uuid.uuid4().hex}"
    with psycopg.connect(url.address, autocommit=True) as other:
        other.execute(f"CREATE DATABASE {name} ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0")
        try:
            wrong = DatabaseUrl.parse(url.address.replace(other.info.dbname, name))
            database = Database(wrong, SystemClock())
            with pytest.raises(ConfigurationError, match="encoding UTF8"):
                names(database)
            database.close()
        finally:
            other.execute(f"DROP DATABASE {name} WITH (FORCE)")
