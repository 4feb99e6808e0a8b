# SPDX-License-Identifier: Apache-2.0
"""The small aggregates: leases, services, tokens, idempotency keys, the audit log; on both databases."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest
import sqlalchemy as sa

from seawall.core.caller import Caller
from seawall.core.errors import ConflictError, InvalidInputError, NotFoundError
from seawall.db import audit, idempotency, leases, services, tokens
from seawall.db.session import Database, Tx
from seawall.db.tables import metadata
from seawall.db.tables import tokens as token_rows
from seawall.runtime.database_url import DatabaseUrl
from seawall.sdk.testing.clock import FakeClock
from tests.support.databases import KINDS, opened, place

PROJECT = str(uuid4())
MINUTE = timedelta(minutes=1)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture(params=KINDS)
def database(request: pytest.FixtureRequest, tmp_path: Path, clock: FakeClock) -> Iterator[Database]:
    with opened(request.param, tmp_path, clock) as made:
        yield made


@pytest.fixture(params=KINDS)
def where(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path | DatabaseUrl | None]:
    with place(request.param, tmp_path) as found:
        yield found


# --- leases --------------------------------------------------------------------------------------


def hold(database: Database, holder: str, *, is_shared: bool = False) -> bool:
    def acquire(tx: Tx) -> bool:
        return leases.acquire(tx, "target", holder, tx.now + MINUTE, is_shared=is_shared)

    return database.write("test.lease", acquire)


def test_a_lease_has_one_holder_until_it_is_released(database: Database) -> None:
    assert hold(database, "one")
    assert not hold(database, "two")
    assert hold(database, "one")
    database.write("test.release", lambda tx: leases.release(tx, "target", "one"))
    assert hold(database, "two")


def test_a_lease_ends_by_itself(database: Database, clock: FakeClock) -> None:
    hold(database, "one")
    clock.advance(61)
    assert database.read(lambda c: leases.holders(c, "target", clock.now())) == []
    assert hold(database, "two")
    assert database.write("test.remove", leases.remove_ended) == 1
    assert database.read(lambda c: leases.holders(c, "target", clock.now())) == ["two"]


def test_readers_share_a_lease(database: Database, clock: FakeClock) -> None:
    assert hold(database, "one", is_shared=True)
    assert hold(database, "two", is_shared=True)
    assert database.read(lambda c: sorted(leases.holders(c, "target", clock.now()))) == ["one", "two"]
    assert not hold(database, "three")


def test_of_many_processes_one_gets_the_lease(where: Path | DatabaseUrl | None, clock: FakeClock) -> None:
    databases = [Database(where, clock, now=lambda _connection: clock.now()) for _ in range(4)]
    metadata.create_all(databases[0].engine)
    start = threading.Barrier(len(databases))
    answers: list[bool] = []

    def run(number: int) -> None:
        start.wait(20)
        answers.append(hold(databases[number], str(number)))

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(databases))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for database in databases:
        database.close()

    assert sorted(answers) == [False, False, False, True]


# --- services ------------------------------------------------------------------------------------


def start(database: Database, host: str = "here") -> int:
    return database.write(
        "test.start",
        lambda tx: services.find_or_create(tx, host=host, binary="seawall-api", version="1", pid=7),
    )


def test_a_service_keeps_its_row_for_good(database: Database, clock: FakeClock) -> None:
    first = start(database)
    database.write("test.stop", lambda tx: services.stopped(tx, first))
    assert database.read(lambda c: services.get(c, first)).stopped_at == clock.now()
    clock.advance(5)

    assert start(database) == first
    assert start(database, "elsewhere") != first
    again = database.read(lambda c: services.get(c, first))
    assert (again.started_at, again.stopped_at) == (clock.now(), None)
    assert [one.host for one in database.read(services.listed)] == ["elsewhere", "here"]


def test_a_beat_is_noted_and_a_switch_says_why(database: Database, clock: FakeClock) -> None:
    row = start(database)
    clock.advance(5)
    database.write("test.beat", lambda tx: services.beat(tx, row))
    database.write("test.off", lambda tx: services.disable(tx, row, "maintenance"))
    found = database.read(lambda c: services.get(c, row))
    assert (found.heartbeat_at, found.is_enabled, found.disabled_reason) == (
        clock.now(),
        False,
        "maintenance",
    )
    database.write("test.on", lambda tx: services.enable(tx, row))
    found = database.read(lambda c: services.get(c, row))
    assert (found.is_enabled, found.disabled_reason) == (True, None)


def test_a_service_that_is_not_there_is_not_found(database: Database) -> None:
    with pytest.raises(NotFoundError):
        database.write("test.beat", lambda tx: services.beat(tx, 99))
    with pytest.raises(NotFoundError):
        database.read(lambda c: services.get(c, 99))


# --- tokens --------------------------------------------------------------------------------------


def let_in(database: Database, token: str, *, role: str = "operator", minutes: int | None = None) -> None:
    def create(tx: Tx) -> None:
        until = None if minutes is None else tx.now + minutes * MINUTE
        tokens.create(
            tx, token=token, name="ci", project_id=PROJECT, user_id="bob", role=role, expires_at=until
        )

    database.write("test.token", create)


def test_a_token_lets_in_until_it_expires_and_stands_nowhere(database: Database, clock: FakeClock) -> None:
    token = tokens.new_token()
    let_in(database, token, minutes=1)
    found = tokens.Tokens(database).authenticate(token)
    assert found is not None
    assert (found.project_id, found.user_id, found.is_admin) == (PROJECT, "bob", False)
    stored = str(database.read(lambda c: c.execute(sa.select(token_rows)).all()))
    assert token not in stored
    assert token.removeprefix(tokens.PREFIX) not in stored
    clock.advance(60)
    assert tokens.Tokens(database).authenticate(token) is None


def test_an_unknown_or_revoked_token_lets_nobody_in(database: Database) -> None:
    token = tokens.new_token()
    let_in(database, token, role="admin")
    found = tokens.Tokens(database).authenticate(token)
    assert found is not None
    assert found.is_admin
    assert database.write("test.revoke", lambda tx: tokens.revoke(tx, project_id=PROJECT, name="ci")) == 1
    assert tokens.Tokens(database).authenticate(token) is None
    assert tokens.Tokens(database).authenticate("swl_\udcff") is None


def test_a_token_is_refused_with_the_rule_it_breaks(database: Database) -> None:
    let_in(database, "swl_one")
    with pytest.raises(InvalidInputError, match="already in use") as refused:
        let_in(database, "swl_one")
    assert "swl_one" not in str(refused.value)
    with pytest.raises(InvalidInputError, match="role: 'god'"):
        let_in(database, "swl_two", role="god")
    with pytest.raises(InvalidInputError, match="must lie in the future"):
        let_in(database, "swl_two", minutes=0)


# --- idempotency ---------------------------------------------------------------------------------


def test_a_request_sent_twice_is_answered_once(database: Database) -> None:
    keys = idempotency.IdempotencyKeys(database)
    asked = {"project_id": PROJECT, "key": "one", "fingerprint": "f"}
    assert keys.reserve(**asked, request_id="r1") is None
    keys.answer(project_id=PROJECT, key="one", status=202, body={"id": 1})

    assert keys.reserve(**asked, request_id="r2") == (202, {"id": 1})
    keys.answer(project_id=PROJECT, key="one", status=500, body={})
    assert keys.reserve(**asked, request_id="r3") == (202, {"id": 1})
    with pytest.raises(ConflictError, match="another request"):
        keys.reserve(project_id=PROJECT, key="one", fingerprint="other", request_id="r4")
    assert keys.reserve(project_id=str(uuid4()), key="one", fingerprint="f", request_id="r5") is None


def test_a_request_that_was_cut_off_says_what_it_has_made(database: Database) -> None:
    keys = idempotency.IdempotencyKeys(database)
    asked = {"project_id": PROJECT, "key": "one", "fingerprint": "f"}
    keys.reserve(**asked, request_id="r1")
    with pytest.raises(ConflictError, match="has made nothing so far"):
        keys.reserve(**asked, request_id="r2")
    caller = Caller(project_id=PROJECT, user_id="bob", is_admin=False, request_id="r1")
    database.write("test.audit", lambda tx: audit.record(tx, caller, "create", "plan", "p1"))
    with pytest.raises(ConflictError, match="it has made plan p1"):
        keys.reserve(**asked, request_id="r3")


def test_a_refused_request_frees_its_key_and_an_old_one_is_forgotten(
    database: Database, clock: FakeClock
) -> None:
    keys = idempotency.IdempotencyKeys(database)
    asked = {"project_id": PROJECT, "key": "one", "fingerprint": "f"}
    keys.reserve(**asked, request_id="r1")
    keys.release(project_id=PROJECT, key="one")
    assert keys.reserve(**asked, request_id="r2") is None
    keys.answer(project_id=PROJECT, key="one", status=200, body={})
    keys.release(project_id=PROJECT, key="one")
    assert keys.reserve(**asked, request_id="r3") == (200, {})
    clock.advance(idempotency.KEEP.total_seconds() + 1)
    assert keys.reserve(**asked, request_id="r4") is None


# --- audit ---------------------------------------------------------------------------------------


def test_the_audit_log_is_of_the_change_itself(database: Database) -> None:
    caller = Caller(project_id=PROJECT, user_id="bob", is_admin=False, request_id="r1")

    def refused(tx: Tx) -> None:
        audit.record(tx, caller, "create", "plan", "never")
        raise InvalidInputError.of("name", "x", "is refused")

    with pytest.raises(InvalidInputError):
        database.write("test.refused", refused)
    database.write("test.one", lambda tx: audit.record(tx, caller, "create", "plan", "p1", {"a": 1}))
    database.write("test.two", lambda tx: audit.record(tx, None, "expire", "checkpoint", "c1"))

    newest, first = database.read(audit.newest)
    assert (first.user_id, first.project_id, first.object_id, first.details) == (
        "bob",
        PROJECT,
        "p1",
        {"a": 1},
    )
    assert (newest.user_id, newest.project_id, newest.request_id) == (audit.SYSTEM_USER, None, "")
    assert database.read(lambda c: audit.newest(c, before=newest.number)) == [first]
    assert database.read(lambda c: audit.newest(c, project_id=PROJECT)) == [first]
    assert database.read(lambda c: audit.newest(c, object_id="c1", limit=1)) == [newest]
