# SPDX-License-Identifier: Apache-2.0
"""Wake-ups between processes: a commit elsewhere wakes the loops here."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from seawall.core.errors import StateError
from seawall.db.notify import Listener
from seawall.db.session import Database, Tx
from seawall.runtime.clock import SystemClock
from seawall.runtime.database_url import DatabaseUrl
from seawall.runtime.wakeup import Wakeup
from seawall.sdk.testing.clock import FakeClock
from tests.support.databases import postgresql_database

WAIT_S = 20


@pytest.fixture
def url() -> Iterator[DatabaseUrl]:
    with postgresql_database() as found:
        yield found


@pytest.fixture
def here(url: DatabaseUrl) -> Iterator[Database]:
    database = Database(url, SystemClock())
    yield database
    database.close()


@pytest.fixture
def elsewhere(url: DatabaseUrl) -> Iterator[Database]:
    """Another process, as far as the database can tell."""
    database = Database(url, SystemClock())
    yield database
    database.close()


@pytest.fixture
def wakeup() -> Wakeup:
    return Wakeup()


@pytest.fixture
def listener(here: Database, wakeup: Wakeup) -> Iterator[Listener]:
    listener = Listener(here, wakeup, SystemClock())
    listener.start()
    assert listener.wait_until_listening(WAIT_S)
    assert wakeup.event.wait(WAIT_S)  # once for what may have been missed before
    wakeup.event.clear()
    yield listener
    listener.stop()


def waking(tx: Tx) -> None:
    tx.after_commit(lambda: None)


def test_a_commit_elsewhere_wakes_us(listener: Listener, wakeup: Wakeup, elsewhere: Database) -> None:
    elsewhere.write("test.wake", waking)

    assert wakeup.event.wait(WAIT_S)


def test_a_refused_write_and_our_own_wake_nobody(
    listener: Listener, wakeup: Wakeup, here: Database, elsewhere: Database
) -> None:
    seen: list[str] = []
    heard = threading.Event()

    def refused(tx: Tx) -> None:
        waking(tx)
        raise StateError("refused")

    class Marking(threading.Event):
        def set(self) -> None:
            seen.append("woken")
            heard.set()

    wakeup.subscribe(Marking())
    with pytest.raises(StateError):
        elsewhere.write("test.refuse", refused)
    elsewhere.write("test.silent", lambda tx: None)
    here.write("test.own", waking)
    elsewhere.write("test.wake", waking)

    # Notifications come in the order of their commits: this one is the first that wakes.
    assert heard.wait(WAIT_S)
    assert seen == ["woken"]


def test_a_lost_listener_listens_again_and_wakes_for_what_it_missed(
    listener: Listener, wakeup: Wakeup, url: DatabaseUrl, elsewhere: Database
) -> None:
    with psycopg.connect(url.address, autocommit=True) as server:
        ended = server.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE query LIKE 'LISTEN%' AND datname = current_database()"
        ).fetchall()
    assert ended == [(True,)]

    assert wakeup.event.wait(WAIT_S)
    wakeup.event.clear()
    elsewhere.write("test.wake", waking)
    assert wakeup.event.wait(WAIT_S)


def test_stop_ends_a_listener_that_cannot_connect(wakeup: Wakeup) -> None:
    clock = FakeClock()
    database = Database(DatabaseUrl.parse("postgresql://nobody@127.0.0.1:1/nothing"), clock)
    listener = Listener(database, wakeup, clock)
    listener.start()
    clock.wait_for_waiters(1)
    listener.stop()
    listener.stop()
    database.close()

    assert not listener.wait_until_listening(0)
    with pytest.raises(StateError):
        listener.start()


def test_on_sqlite_there_is_nothing_to_listen_to(tmp_path: Path, wakeup: Wakeup) -> None:
    database = Database(tmp_path / "seawall.db", FakeClock())
    before = threading.active_count()
    listener = Listener(database, wakeup, FakeClock())
    listener.start()

    assert threading.active_count() == before
    listener.stop()
    database.close()
