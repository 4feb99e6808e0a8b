# SPDX-License-Identifier: Apache-2.0
"""Rows of checkpoints and restores move as their machines allow, once, never under a reader."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import pytest

from seawall.core.errors import InvalidInputError, NotFoundError, StateError
from seawall.core.listing import ListQuery
from seawall.core.records import Checkpoint
from seawall.db import checkpoints, leases, restores
from seawall.db.session import Database
from seawall.db.tables import metadata
from seawall.sdk.testing.clock import FakeClock

PROJECT, PROVIDER, PLAN, REPOSITORY = (str(uuid4()) for _ in range(4))


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def database(clock: FakeClock) -> Iterator[Database]:
    opened = Database(None, clock)
    metadata.create_all(opened.engine)
    yield opened
    opened.close()


def make(database: Database, **values: str | None) -> Checkpoint:
    given = {
        "project_id": PROJECT,
        "provider_id": PROVIDER,
        "plan_id": PLAN,
        "plan_name": "p",
        "repository_id": REPOSITORY,
        "run_id": str(uuid4()),
        **values,
    }
    new = checkpoints.NewCheckpoint(resources=[{"type": "directory", "id": "/a"}], **given)  # type: ignore[arg-type]  # text or None, as the fields want
    return database.write("test.insert", lambda tx: checkpoints.insert(tx, new))


def finish(database: Database, checkpoint_id: str, status: str = "available") -> bool:
    return database.write(
        "test.finish",
        lambda tx: checkpoints.finish(
            tx,
            checkpoint_id,
            status=status,
            snapshot_id="5" * 64,
            resources=[],
            items=1,
            read_bytes=2,
            added_bytes=3,
            reason=None,
            extra_info={},
        ),
    )


def fail(database: Database, checkpoint_id: str) -> bool:
    return database.write("test.fail", lambda tx: checkpoints.fail(tx, checkpoint_id, "no"))


def end(database: Database, restore_id: str, status: str) -> bool:
    return database.write(
        "test.finish",
        lambda tx: restores.finish(
            tx, restore_id, status=status, reason=None, resources_status={"a": "restored"}
        ),
    )


def status_of(database: Database, checkpoint_id: str) -> str:
    return database.read(lambda c: checkpoints.get(c, checkpoint_id, project_id=None)).status


def test_a_run_has_one_checkpoint_however_often_it_asks(database: Database) -> None:
    first = make(database, run_id=str(uuid4()))
    assert make(database, run_id=first.run_id) == first
    assert database.read(lambda c: checkpoints.by_run(c, str(first.run_id))) == first


def test_a_checkpoint_ends_once(database: Database) -> None:
    made = make(database)
    assert finish(database, made.id)
    assert not finish(database, made.id, "available_with_warnings")
    assert not database.write("test.fail", lambda tx: checkpoints.fail(tx, made.id, "late"))
    assert status_of(database, made.id) == "available"


def test_a_move_that_the_machine_does_not_know_is_refused(database: Database) -> None:
    made = make(database)
    with pytest.raises(StateError):
        database.write(
            "test.move", lambda tx: checkpoints.move(tx, made.id, before="deleted", after="available")
        )


def test_a_delete_waits_for_readers_and_a_reader_never_enters_a_delete(
    database: Database, clock: FakeClock
) -> None:
    made = make(database)
    finish(database, made.id)
    until = clock.now() + timedelta(seconds=10)
    assert database.write("test.read", lambda tx: checkpoints.acquire_reader(tx, made.id, "r", until))
    assert not database.write("test.delete", lambda tx: checkpoints.begin_delete(tx, made.id))
    database.write("test.release", lambda tx: leases.release(tx, checkpoints.reader_lease(made.id), "r"))
    assert database.write("test.delete", lambda tx: checkpoints.begin_delete(tx, made.id))
    assert database.write("test.delete", lambda tx: checkpoints.begin_delete(tx, made.id))
    assert not database.write("test.read", lambda tx: checkpoints.acquire_reader(tx, made.id, "r", until))
    assert database.write("test.end", lambda tx: checkpoints.end_delete(tx, made.id))
    assert status_of(database, made.id) == "deleted"


def test_a_dead_reader_holds_nothing_for_long(database: Database, clock: FakeClock) -> None:
    made = make(database)
    finish(database, made.id)
    until = clock.now() + timedelta(seconds=10)
    database.write("test.read", lambda tx: checkpoints.acquire_reader(tx, made.id, "r", until))
    clock.advance(11)
    assert database.write("test.delete", lambda tx: checkpoints.begin_delete(tx, made.id))


def test_a_pinned_checkpoint_is_not_deleted(database: Database) -> None:
    made = make(database)
    finish(database, made.id)
    assert database.write("test.pin", lambda tx: checkpoints.set_pinned(tx, made.id, is_pinned=True))
    assert not database.write("test.delete", lambda tx: checkpoints.begin_delete(tx, made.id))
    assert status_of(database, made.id) == "available"


def test_a_scope_is_a_plan_and_who_made_it(database: Database, clock: FakeClock) -> None:
    hourly = str(uuid4())
    made = []
    for operation in (None, hourly, hourly):
        clock.advance(1)
        made.append(make(database, scheduled_operation_id=operation))
    scope = database.read(lambda c: checkpoints.in_scope(c, plan_id=PLAN, scheduled_operation_id=hourly))
    by_hand = database.read(lambda c: checkpoints.in_scope(c, plan_id=PLAN, scheduled_operation_id=None))
    assert [one.id for one in scope] == [made[2].id, made[1].id]
    assert [one.id for one in by_hand] == [made[0].id]


def test_the_parent_is_the_newest_that_can_be_restored(database: Database, clock: FakeClock) -> None:
    good = make(database)
    finish(database, good.id, "available_with_warnings")
    clock.advance(1)
    bad = make(database)
    database.write("test.fail", lambda tx: checkpoints.fail(tx, bad.id, "no"))
    found = database.read(lambda c: checkpoints.newest_good(c, plan_id=PLAN, repository_id=REPOSITORY))
    assert found is not None
    assert found.id == good.id


def test_a_list_hides_deleted_ones_unless_they_are_asked_for(database: Database) -> None:
    made = make(database)
    database.write("test.fail", lambda tx: checkpoints.fail(tx, made.id, "no"))
    database.write("test.delete", lambda tx: checkpoints.begin_delete(tx, made.id))
    database.write("test.end", lambda tx: checkpoints.end_delete(tx, made.id))
    shown = database.read(lambda c: checkpoints.page(c, ListQuery(), project_id=PROJECT))
    asked = database.read(
        lambda c: checkpoints.page(c, ListQuery(filters={"status": "deleted"}), project_id=PROJECT)
    )
    assert shown.items == ()
    assert [one.id for one in asked.items] == [made.id]


def test_a_list_is_bounded_by_days_and_refuses_what_is_no_day(database: Database) -> None:
    made = make(database)
    day = {"start_date": "2026-01-01", "end_date": "2026-01-01"}
    found = database.read(lambda c: checkpoints.page(c, ListQuery(filters=day), project_id=PROJECT))
    later = database.read(
        lambda c: checkpoints.page(c, ListQuery(filters={"start_date": "2026-01-02"}), project_id=PROJECT)
    )
    assert [one.id for one in found.items] == [made.id]
    assert later.items == ()
    with pytest.raises(InvalidInputError, match="start_date"):
        database.read(
            lambda c: checkpoints.page(c, ListQuery(filters={"start_date": "soon"}), project_id=PROJECT)
        )


def test_a_foreign_project_sees_nothing(database: Database) -> None:
    made = make(database)
    with pytest.raises(NotFoundError):
        database.read(lambda c: checkpoints.get(c, made.id, project_id=str(uuid4())))


def test_what_was_recovered_is_as_it_was_and_goes_in_once(database: Database, clock: FakeClock) -> None:
    old = replace(
        make(database), id=str(uuid4()), run_id=str(uuid4()), status="available", snapshot_id="6" * 64
    )
    assert database.write("test.recover", lambda tx: checkpoints.insert_recovered(tx, old))
    assert not database.write("test.recover", lambda tx: checkpoints.insert_recovered(tx, old))
    assert database.read(lambda c: checkpoints.get(c, old.id, project_id=PROJECT)) == old


def test_failed_ones_go_by_age_and_pinned_ones_stay(database: Database, clock: FakeClock) -> None:
    old, pinned = make(database), make(database)
    for one in (old, pinned):
        fail(database, one.id)
    database.write("test.pin", lambda tx: checkpoints.set_pinned(tx, pinned.id, is_pinned=True))
    clock.advance(100)
    found = database.read(lambda c: checkpoints.failed_before(c, clock.now() - timedelta(seconds=50)))
    assert [one.id for one in found] == [old.id]


def test_a_restore_ends_once(database: Database) -> None:
    made = make(database)
    new = restores.NewRestore(project_id=PROJECT, provider_id=PROVIDER, checkpoint_id=made.id)
    restore = database.write("test.restore", lambda tx: restores.insert(tx, new))
    assert restore.status == "in_progress"
    done = [end(database, restore.id, word) for word in ("success", "fail")]
    assert done == [True, False]
    found = database.read(lambda c: restores.get(c, restore.id, project_id=PROJECT))
    assert (found.status, dict(found.resources_status)) == ("success", {"a": "restored"})
    shown = database.read(lambda c: restores.page(c, ListQuery(), project_id=PROJECT))
    assert [one.id for one in shown.items] == [restore.id]
